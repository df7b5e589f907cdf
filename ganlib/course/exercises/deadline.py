"""Calls with a time limit: a function runs in its own thread, and is stopped when its time is over.

    main thread:   start ---- wait at most `seconds` ----> result, or Overdue
    its thread:          ---- function(...) ---- Overdue raised in it, wherever it is

Signals would do this on Unix, in the main thread only; a thread does it on every system and in a notebook's kernel.
"""

import ctypes
import itertools
import threading
import time
from collections.abc import Iterator

ITEMS = 1_000_000  # at most taken from an answer that yields them one by one and might never end
GRACE = 1.0  # seconds that a stopped function has to end; one that sleeps or waits in C code is abandoned


class Overdue(BaseException):
    """The time is over. Not an Exception, so that an `except Exception` in a student's loop does not catch it."""


def within_seconds(seconds, function, *args):
    """Call a function, and return what it returns or raise what it raises.

    Args:
        seconds: its time limit.

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
    """Raise Overdue in a thread, repeatedly, in case a bare `except:` catches it."""
    end = time.monotonic() + GRACE
    while thread.is_alive() and time.monotonic() < end:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Overdue))
        thread.join(0.02)


def limited(answer, seconds):
    """A student's function with a time limit for all its calls together; Overdue after that.

    If it returns an iterator, the items are collected within that time, in a list.
    """
    end = time.monotonic() + seconds

    def call(*args):
        result = answer(*args)
        return list(itertools.islice(result, ITEMS)) if isinstance(result, Iterator) else result

    return lambda *args: within_seconds(max(0.0, end - time.monotonic()), call, *args)
