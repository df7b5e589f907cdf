"""What all panels share: a static picture beside the live one, errors that are seen, and work off the main thread."""

import base64
import functools
import html
import io
import logging
import threading
import time

import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

log = logging.getLogger(__name__)

REDRAW_SECONDS = 0.25  # at most four pictures a second: more would flood the browser, and no eye asks for them


def png(picture):
    """Figure or H,W,3 (or H,W) uint8 array -> bytes of a PNG."""
    file = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(file, format="png", dpi=picture.dpi)  # as it is now: "figure" would mean its first one
    else:
        Image.fromarray(np.asarray(picture)).save(file, format="png")
    return file.getvalue()


def show(panel, picture):
    """Display a panel, and with it a picture for where no panel can run: GitHub, nbconvert, a printed page.

    Args:
        panel: ipywidgets Widget.
        picture: bytes of a PNG, Figure or uint8 array: what the panel shows at first.
    """
    data = picture if isinstance(picture, bytes) else png(picture)
    bundle = dict(panel._repr_mimebundle_())
    bundle["image/png"] = base64.b64encode(data).decode()
    display(bundle, raw=True)


def complaint(error):
    """An error as a line of HTML that nobody overlooks, its text escaped."""
    return f"<b style='color:#B00020'>{type(error).__name__}:</b> {html.escape(str(error))}"


def reporting(status, function):
    """The callback, whose errors appear in the panel. Jupyter would write them to a log that no student opens.

    Args:
        status: HTML widget; emptied where all went well.
        function: any callable.
    """

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            result = function(*args, **kwargs)
        except Exception as error:  # whatever it is, the person at the slider must see it
            log.exception("in a panel")
            status.value = complaint(error)
            return None
        status.value = ""
        return result

    return call


class Latest:
    """Calls a slow function in the background, for the newest arguments only.

        request(a), request(b), request(c) --> function(a), function(c): b was overtaken while a was computed

    So a slider that is dragged never builds up a queue, and the kernel stays free for other cells.

    Args:
        function: called with the keyword arguments of the newest request, at most every `pause` seconds.
    """

    def __init__(self, function, pause=REDRAW_SECONDS):
        self.function, self.pause = function, pause
        self.wanted, self.lock, self.thread = None, threading.Lock(), None

    def request(self, **arguments):
        """Ask for a call; returns at once."""
        with self.lock:
            self.wanted = arguments
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, daemon=True)
                self.thread.start()

    def _work(self):
        while True:
            with self.lock:
                arguments, self.wanted = self.wanted, None
                if arguments is None:
                    self.thread = None
                    return
            began = time.monotonic()
            try:
                self.function(**arguments)
            except Exception:  # wrap the function in `reporting` to have it shown; the thread must live on
                log.exception("in a panel")
            time.sleep(max(0.0, self.pause - (time.monotonic() - began)))

    def wait(self, seconds=60.0):
        """Block until nothing is wanted any more; TimeoutError where that takes longer. For tests."""
        end = time.monotonic() + seconds
        while (thread := self.thread) is not None:
            thread.join(max(0.0, end - time.monotonic()))
            if time.monotonic() >= end:
                raise TimeoutError(f"still at work after {seconds:g} s")
