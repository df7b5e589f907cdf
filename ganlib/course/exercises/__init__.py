"""Exercises that check themselves.

A notebook leaves a function open and hands it to the `check_...` of the same name, which sets it against an oracle:

    def ratio(before, after):
        ...  # your code

    check_ratio(ratio)  # [TO DO], [NOT YET] with what is wrong, or [OK] with what was learnt

A check never raises and always ends, so that a notebook runs to its end with every exercise still open, and with
every mistake in one.
"""

import dis
import functools
import linecache
import traceback
from dataclasses import dataclass

import numpy as np

from ganlib.course.exercises.deadline import Overdue, limited

SECONDS = 30.0  # a check may take; solved, none takes more than two on a machine at rest
# All that a function does whose body is `...`, `pass` or a docstring, in the instructions of any Python
NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP", "LOAD_SMALL_INT"}


class NotYet(Exception):
    """An answer is wrong; the message says how it shows, and not what would be right."""


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
    """Make a check of a function that calls the student's answer and raises NotYet where it is wrong.

    Args:
        learnt: a sentence for whoever solved it.
        seconds: that all calls of the answer may take. They run in a thread, which is stopped then.
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
                    "not yet", f"{name} has not ended after {seconds:g} s. Is there a loop whose end never comes?"
                )
            except Exception as error:  # the student's own, or of the check with what the answer gave
                return Verdict("not yet", f"{name} {where(error, answer)}")
            return Verdict("ok", f"{name}: {learnt}")

        return examine

    return decorate


def untouched(answer):
    """Is this an exercise as the student finds it: None, `...`, or a function that does nothing?"""
    if answer is None or answer is Ellipsis:
        return True
    code = getattr(answer, "__code__", None)
    if code is None or {step.opname for step in dis.get_instructions(code)} - NOTHING:
        return False
    # of the constants, all that such a body may give back; `return 0` is an answer, and a wrong one
    last = [step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return last[-1:] in ([None], [Ellipsis])


def where(error, answer):
    """An exception in words, with the line of the student's code that it came from."""
    text = f"raised {type(error).__name__}: {error}" if str(error) else f"raised {type(error).__name__}"
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    steps = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in steps if frame.f_code.co_filename == file]
    if not lines:
        return f"gave something that the check cannot use ({type(error).__name__}: {error})"
    source = linecache.getline(file, lines[-1]).strip()
    return f"{text}, in line {lines[-1]}" + (f": {source}" if source else "")


def given(value):
    """What the student's function returned; NotYet where that is nothing."""
    if value is None:
        raise NotYet("it gives back nothing (None). Does it end with `return`?")
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
