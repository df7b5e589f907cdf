"""What all panels share: a static picture where no kernel runs, errors shown to the user, work in the background."""

import base64
import functools
import html
import io
import logging
import threading
import time

import ipywidgets as ui
import numpy as np
from IPython.display import Image as Shown
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

log = logging.getLogger(__name__)

REDRAW_SECONDS = 0.25  # at most four pictures per second: more would overload the browser without any use

LIVE_CLASS, STATIC_CLASS = "ganlib-panel", "ganlib-static"
STATIC_LINE = "This is a picture of the panel. Run this cell to have the panel itself."
# A saved notebook still has the panel's output. Without the panel's kernel, JupyterLab shows in its place "Error
# displaying widget". The static picture is the output above it. The style sheet shows only one of the two: it checks
# whether there is a live panel.
STATIC_HTML = """<style>
.jp-OutputArea-child:has(.{static}):has(+ .jp-OutputArea-child .{live}) {{ display: none; }}
.jp-OutputArea-child:has(.{static}) + .jp-OutputArea-child:not(:has(.{live})) {{ display: none; }}
</style>
<div class="{static}"><p><em>{line}</em></p><img alt="{alt}" style="max-width: 100%" src="{source}"></div>"""


def png(picture):
    """Figure or H,W,3 (or H,W) uint8 array -> bytes of a PNG; bytes stay as they are."""
    if isinstance(picture, bytes):
        return picture
    file = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(file, format="png", dpi=picture.dpi)  # the present dpi: "figure" would mean the first one
    else:
        Image.fromarray(np.asarray(picture)).save(file, format="png")
    return file.getvalue()


def data_url(data, kind="image/png"):
    """Bytes -> a URL that contains them, so that no server is needed."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def described(picture, alt):
    """A picture with alternative text, for the last line of a cell. (A Figure alone has no such text.)

    Args:
        picture: bytes of a PNG, Figure, PIL.Image or uint8 array.
        alt: what the picture shows.

    Returns:
        IPython.display.Image.
    """
    return Shown(png(picture), alt=alt)


def show(panel, picture, alt):
    """Display a panel, and a picture of it where no panel can run: GitHub, a printed page, a closed kernel.

    Args:
        panel: ipywidgets Widget.
        picture: bytes of a PNG, Figure or uint8 array: what the panel shows at first.
        alt: what the picture shows, as alternative text.
    """
    data = png(picture)
    page = STATIC_HTML.format(
        live=LIVE_CLASS, static=STATIC_CLASS, line=STATIC_LINE, alt=html.escape(alt), source=data_url(data)
    )
    static = {"text/html": page, "image/png": base64.b64encode(data).decode(), "text/plain": alt}
    display(static, raw=True, metadata={"image/png": {"alt": alt}})
    panel.add_class(LIVE_CLASS)
    live = panel._repr_mimebundle_()
    live = live[0] if isinstance(live, tuple) else live  # a panel of anywidget's has metadata beside it
    display(live | {"text/plain": STATIC_LINE}, raw=True)


class Picture(ui.HTML):
    """A picture with alternative text, never wider than its place. (ipywidgets.Image has no such text.)"""

    def draw(self, picture, alt):
        """Show a Figure, a uint8 array or the bytes of a PNG."""
        source, text = data_url(png(picture)), html.escape(alt, quote=True)
        self.value = f'<img alt="{text}" style="max-width: 100%; display: block" src="{source}">'


class Busy(ui.HTML):
    """A sign that something is being computed."""

    def on(self):
        self.value = '<span role="status"><i class="fa fa-spinner fa-spin"></i> computing ...</span>'

    def off(self):
        self.value = ""


def row(*children):
    """Widgets side by side, on several lines if the window is narrow."""
    return ui.HBox(children, layout=ui.Layout(flex_flow="row wrap", align_items="center", max_width="100%"))


def complaint(error):
    """An error as a line of HTML in bold red, its text escaped."""
    return f"<b style='color:#B00020'>{type(error).__name__}:</b> {html.escape(str(error))}"


def reporting(status, function):
    """The callback, with its errors shown in the panel. Jupyter would write them to a log that students do not see.

    Args:
        status: HTML widget; emptied if there was no error.
        function: any callable.
    """

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            result = function(*args, **kwargs)
        except Exception as error:  # the user must see every error
            log.exception("in a panel")
            status.value = complaint(error)
            return None
        status.value = ""
        return result

    return call


class Latest:
    """Calls a slow function in the background, for the newest arguments only.

        request(a), request(b), request(c) --> function(a), function(c): b was replaced while a was computed

    So dragging a slider never builds up a queue, and the kernel stays free for other cells.

    Args:
        function: called with the keyword arguments of the newest request, at most every `pause` seconds.
        busy: Busy, which is on from a request to the end of its call; None for none.
    """

    def __init__(self, function, pause=REDRAW_SECONDS, busy=None):
        self.function, self.pause, self.busy = function, pause, busy or Busy()
        self.wanted, self.lock, self.thread = None, threading.Lock(), None

    def request(self, **arguments):
        """Ask for a call; returns at once."""
        with self.lock:
            self.wanted = arguments
            if self.thread is None:
                self.busy.on()
                self.thread = threading.Thread(target=self._work, daemon=True)
                self.thread.start()

    def _work(self):
        while True:
            with self.lock:
                arguments, self.wanted = self.wanted, None
                if arguments is None:
                    self.thread = None
                    return
                self.busy.on()
            began = time.monotonic()
            try:
                self.function(**arguments)
            except Exception:  # wrap the function in `reporting` to show it; the thread must continue
                log.exception("in a panel")
            with self.lock:
                if self.wanted is None:
                    self.busy.off()
            time.sleep(max(0.0, self.pause - (time.monotonic() - began)))

    def wait(self, seconds=60.0):
        """Block until all requests are done; TimeoutError if that takes longer. For tests."""
        end = time.monotonic() + seconds
        while (thread := self.thread) is not None:
            thread.join(max(0.0, end - time.monotonic()))
            if time.monotonic() >= end:
                raise TimeoutError(f"still at work after {seconds:g} s")
