"""Calls that end: a function in a thread of its own, stopped when its time is over.

    main thread:   start ---- wait at most `seconds` ----> result, or Overdue
    its thread:          ---- function(...) ---- Overdue raised in it, wherever it is

Signals would do this on Unix, in the main thread only; a thread does it on every system and in a notebook's kernel.
"""

import ctypes
import itertools
import threading
import time
from collections.abc import Iterator

ITEMS = 1_000_000  # that are taken from an answer that gives them one by one, and might never end
GRACE = 1.0  # seconds that a stopped function has to end; one that sleeps or waits in C code is left behind


class Overdue(BaseException):
    """The time is over. No Exception, so that the `except Exception` of a student's loop does not swallow it."""


def within_seconds(seconds, function, *args):
    """Call a function, and return what it returns or raise what it raises.

    Args:
        seconds: that it may take.

    Raises:
        Overdue: it has not ended by then. Its thread is stopped at its next line of Python.
        KeyboardInterrupt: the caller was interrupted; the function's thread is stopped first.
    """
    result, fault = [], []

    def work():
        try:
            result.append(function(*args))
        except BaseException as error:
            fault.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    except KeyboardInterrupt:
        _stop(thread)
        raise
    if thread.is_alive():
        _stop(thread)
        raise Overdue
    if fault:
        raise fault[0]
    return result[0]


def _stop(thread):
    """Raise Overdue in a thread, again and again in case that a bare `except:` catches it."""
    end = time.monotonic() + GRACE
    while thread.is_alive() and time.monotonic() < end:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Overdue))
        thread.join(0.02)


def limited(answer, seconds):
    """A student's function, all of whose calls together may take so many seconds; Overdue after that.

    What it yields one by one is collected within that time, and becomes a list.
    """
    end = time.monotonic() + seconds

    def call(*args):
        result = answer(*args)
        return list(itertools.islice(result, ITEMS)) if isinstance(result, Iterator) else result

    return lambda *args: within_seconds(max(0.0, end - time.monotonic()), call, *args)
