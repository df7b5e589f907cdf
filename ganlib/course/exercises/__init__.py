"""Exercises that check themselves.

A notebook leaves a function open and hands it to the `check_...` of the same name, which sets it against an oracle:

    def ratio(before, after):
        ...  # your code

    check_ratio(ratio)  # [TO DO], [NOT YET] with what is wrong, or [OK] with what was learnt

A check never raises, so that a notebook runs to its end with every exercise still open.
"""

import functools
from dataclasses import dataclass

import numpy as np


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


def exercise(learnt):
    """Make a check of a function that calls the student's answer and raises NotYet where it is wrong.

    Args:
        learnt: a sentence for whoever solved it.
    """

    def decorate(check):
        @functools.wraps(check)
        def examine(answer, *args):
            name = getattr(answer, "__name__", None) or check.__name__.removeprefix("check_")
            try:
                check(answer, *args)
            except NotYet as fault:
                return Verdict("not yet", f"{name}: {fault}")
            except Exception as error:  # the student's own: shown in a line, the traceback is a call away
                if answer is None or answer is Ellipsis or isinstance(error, (GaveNothing, NotImplementedError)):
                    return Verdict("to do", f"{name} is still open")
                return Verdict("not yet", f"{name} raised {type(error).__name__}: {error}")
            return Verdict("ok", f"{name}: {learnt}")

        return examine

    return decorate


class GaveNothing(Exception):
    """The answer returned None: its body is still `...`."""


def given(value):
    """What the student's function returned; GaveNothing where it is None, which a body of `...` returns."""
    if value is None or value is Ellipsis:
        raise GaveNothing
    return value


def compare(value, oracle, what, tolerance=1e-6):
    """NotYet unless a number, array or tensor equals the oracle's within a tolerance, relative and absolute."""
    value, oracle = np.asarray(given(value)), np.asarray(oracle)
    if value.shape != oracle.shape:
        raise NotYet(f"{what} has shape {value.shape}, not {oracle.shape}")
    if not np.allclose(value, oracle, rtol=tolerance, atol=tolerance):
        worst = np.unravel_index(np.argmax(np.abs(value - oracle)), oracle.shape) if oracle.ndim else ()
        where = f" at {tuple(map(int, worst))}" if worst else ""
        raise NotYet(f"{what} is {value[worst]:.6g}{where}, and should be {oracle[worst]:.6g}")
