"""Exercises that check themselves.

A notebook leaves a function open and gives it to the `check_...` of the same name, which compares it with an oracle:

    def ratio(before, after):
        ...  # your code

    check_ratio(ratio)  # [TO DO], [NOT YET] with what is wrong, or [OK] with what was learnt

A check never raises and always ends, so that a notebook runs to its end even if exercises are open or wrong.
"""

import dis
import functools
import linecache
import traceback
from dataclasses import dataclass

import numpy as np

from ganlib.course.exercises.deadline import Overdue, limited

SECONDS = 30.0  # limit of a check; with a right answer, it takes at most two on an idle machine
# The only instructions, in any Python, of a function whose body is `...`, `pass` or a docstring
NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP", "LOAD_SMALL_INT"}


class NotYet(Exception):
    """An answer is wrong; the message describes the mistake without giving the solution."""


@dataclass(frozen=True)
class Verdict:
    """What a check says: "to do", "not yet" or "ok", and why."""

    state: str
    message: str

    def __bool__(self):
        return self.state == "ok"

    def __repr__(self):
        return f"[{self.state.upper()}] {self.message}"


def exercise(learnt, seconds=SECONDS):
    """Turn a function that calls the student's answer, and raises NotYet if it is wrong, into a check.

    Args:
        learnt: a sentence shown when the answer is right.
        seconds: limit of all calls of the answer together. They run in a thread, which is then stopped.
    """

    def decorate(check):
        @functools.wraps(check)
        def examine(answer, *args):
            name = getattr(answer, "__name__", None) or check.__name__.removeprefix("check_")
            if untouched(answer):
                return Verdict("to do", f"{name} is still open")
            try:
                check(limited(answer, seconds), *args)
            except NotYet as fault:
                return Verdict("not yet", f"{name}: {fault}")
            except NotImplementedError:
                return Verdict("to do", f"{name} is still open")
            except Overdue:
                return Verdict(
                    "not yet", f"{name} has not ended after {seconds:g} s. Is there a loop that never ends?"
                )
            except Exception as error:  # of the student's code, or of the check with its result
                return Verdict("not yet", f"{name} {where(error, answer)}")
            return Verdict("ok", f"{name}: {learnt}")

        return examine

    return decorate


def untouched(answer):
    """Is this exercise still open: None, `...`, or a function that does nothing?"""
    if answer is None or answer is Ellipsis:
        return True
    code = getattr(answer, "__code__", None)
    if code is None or {step.opname for step in dis.get_instructions(code)} - NOTHING:
        return False
    # such a body can return only these two constants; `return 0` is an answer, although a wrong one
    last = [step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return last[-1:] in ([None], [Ellipsis])


def where(error, answer):
    """An exception in words, with the line of the student's code that it came from."""
    text = f"raised {type(error).__name__}: {error}" if str(error) else f"raised {type(error).__name__}"
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    steps = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in steps if frame.f_code.co_filename == file]
    if not lines:
        return f"returned something that the check cannot use ({type(error).__name__}: {error})"
    source = linecache.getline(file, lines[-1]).strip()
    return f"{text}, in line {lines[-1]}" + (f": {source}" if source else "")


def given(value):
    """What the student's function returned; NotYet if that is None."""
    if value is None:
        raise NotYet("it returns nothing (None). Does it end with `return`?")
    return value


def compare(value, oracle, what, tolerance=1e-6):
    """NotYet unless a number, array or tensor equals the oracle's within a tolerance, relative and absolute."""
    value, oracle = np.asarray(given(value)), np.asarray(oracle)
    if value.shape != oracle.shape:
        raise NotYet(f"{what} has shape {value.shape}, not {oracle.shape}")
    if not np.allclose(value, oracle, rtol=tolerance, atol=tolerance):
        worst = np.unravel_index(np.argmax(np.abs(value - oracle)), oracle.shape) if oracle.ndim else ()
        place = f" at {tuple(map(int, worst))}" if worst else ""
        raise NotYet(f"{what} is {value[worst]:.6g}{place}, and should be {oracle[worst]:.6g}")
