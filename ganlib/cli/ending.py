"""How a command ends: with an exit status, and one line for any error."""

import contextlib
import logging
import os
import signal
import sys
import threading

from tqdm import tqdm

from ganlib.cli.file_jobs import CommandError


class Terminated(KeyboardInterrupt):
    """Another process asks this one to end: as with Ctrl-C, no temporary file is left."""


def exit_status(command):
    """Run a command and return its exit status: 0, 1 after an error, 130 after Ctrl-C, 128 + number after a signal.

    Args:
        command: a function without arguments; what the library logs meanwhile is shown on standard error.
    """
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show must not cause an error
            stream.reconfigure(errors="backslashreplace")
    try:
        with _log_shown(), _ends_as_exceptions():
            command()
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MemoryError as error:
        print(f"ganlib: memory ran out{f': {error}' if str(error) else ''}", file=sys.stderr)
        return 1
    except (CommandError, ValueError, OSError, RuntimeError) as error:
        # OutOfMemoryError and other errors of torch are RuntimeErrors; one line is more useful than a traceback
        print(f"ganlib: {error}", file=sys.stderr)
        return 1
    except Terminated as error:
        print("ganlib: terminated", file=sys.stderr)
        return 128 + error.args[0]
    except KeyboardInterrupt:
        print("ganlib: interrupted", file=sys.stderr)
        return 130
    return 0


def _open_standard_streams():
    """Open /dev/null for a closed one: else the next file would get its number, and libraries would write into it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


class _OnStandardError(logging.Handler):
    def emit(self, record):
        tqdm.write(self.format(record), file=sys.stderr)  # above a progress bar


@contextlib.contextmanager
def _log_shown():
    """Inside, what the library logs is shown on standard error."""
    logger, handler = logging.getLogger("ganlib"), _OnStandardError()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@contextlib.contextmanager
def _ends_as_exceptions():
    """Inside, the signals that end a process raise Terminated."""

    def terminated(number, frame):
        raise Terminated(number)

    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    in_charge = threading.current_thread() is threading.main_thread()
    # a signal that is ignored, as under nohup, stays ignored
    kinds = [kind for kind in kinds if in_charge and signal.getsignal(kind) == signal.SIG_DFL]
    for kind in kinds:
        signal.signal(kind, terminated)
    try:
        yield
    finally:
        for kind in kinds:
            signal.signal(kind, signal.SIG_DFL)
