# What cells show: values in all their forms, figures.

import builtins
import io
import os
import sys
import weakref

from . import messages, signals, streams
from .errors import attempt, complain
from .messages import field

_MOST = 3 << 20  # Bytes of a display's forms together.
_METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "text/latex": "_repr_latex_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
    "application/pdf": "_repr_pdf_",
}
_BINARY = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
# In this cell, and not once more at its end.
_shown_figures = weakref.WeakSet()


def display(*values, raw=False, metadata=None, display_id=None, **_):
    """Shows values in all their forms. As IPython.display.display; its other options mean nothing here."""
    for value in values:
        if raw:
            _publish(value, metadata)
        else:
            show(value, metadata)
    return Handle() if display_id is not None else None


class Handle:
    """What display(..., display_id=...) returns. Nothing that was shown changes: an update is shown below."""

    def display(self, value, **options):
        display(value, **options)

    update = display


def publish_display_data(data, metadata=None, **_):
    _publish(data, metadata)


def show(value, metadata=None, is_result=False):
    shows_itself = getattr(type(value), "_ipython_display_", None)
    if callable(shows_itself) and not isinstance(value, type):
        attempt(shows_itself, value)
    else:
        data, own = _bundle(value)
        _publish(data, {**own, **(metadata or {})}, is_result)


def begin_cell():
    _shown_figures.clear()


def show_figures(*_, **__):
    """Displays all open figures but those that were displayed in this cell, and closes them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not hasattr(pyplot, "get_fignums"):
        return
    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        if figure not in _shown_figures and (figure.axes or figure.lines):
            display(figure)
    pyplot.close("all")


def _bundle(value):
    """The forms of a value by MIME type, and their metadata."""
    kind = type(value)
    data, metadata = {}, {}
    if not isinstance(value, type):
        method = getattr(kind, "_repr_mimebundle_", None)
        if callable(method):
            data, metadata = attempt(_bundle_of, method, value) or ({}, {})
        for mime_type, name in _METHODS.items():
            method = getattr(kind, name, None)
            if mime_type in data or not callable(method):
                continue
            made = attempt(method, value)
            if isinstance(made, tuple):
                made, metadata[mime_type] = made
            data[mime_type] = made
    figure = sys.modules.get("matplotlib.figure")
    if figure and isinstance(value, figure.Figure):
        _shown_figures.add(value)
        data["image/png"] = attempt(_png, value)
    if "text/plain" not in data:
        data["text/plain"] = attempt(repr, value)
    return data, metadata


def _bundle_of(method, value):
    made = method(value, include=None, exclude=None)
    data, metadata = made if isinstance(made, tuple) else (made, None)
    return dict(data or {}), dict(metadata or {})


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _publish(data, metadata=None, is_result=False):
    forms = {}
    for mime_type, form in data.items():
        mime_type = str(mime_type)
        if form is None:
            continue
        if len(forms) == 64 or not 0 < len(mime_type.encode("utf-8", "replace")) < 256:
            complain("a value has too many forms to be displayed, or one without a MIME type\n")
            return
        form = attempt(_encoded, mime_type, form)
        if form is not None:
            forms[mime_type] = form
    if not forms:
        return
    if os.getpid() != messages.OWN_PID:
        # A child has only its streams.
        text = forms.get("text/plain", b"")
        text = f"[{text} bytes]" if isinstance(text, int) else text.decode("utf-8", "replace")
        sys.stdout.write(text + "\n")
        return
    streams.flush()
    message, left = bytearray(), _MOST
    sized = sorted((f if isinstance(f, int) else len(f), m, f) for m, f in forms.items())
    for size, mime_type, form in sized:
        if size <= left:
            left -= size
            message += field(1, field(1, mime_type) + field(2, form))
        else:
            message += field(4, field(1, mime_type) + field(2, size))
    if metadata:
        import json

        metadata = attempt(json.dumps, metadata)
        if metadata is not None and len(metadata) < 65536:
            message += field(2, metadata)
    if is_result:
        message += field(3, 1)
    # What follows is written when the agent knows what came before. It is the main thread that reads from the
    # socket, and only a cell's is not about to.
    is_answered = signals.mode is signals.IN_CELL and signals.is_main_thread()
    if is_answered:
        message += field(7, 1)
    messages.send(field(2, bytes(message)), is_answered)


def _encoded(mime_type, form):
    """A form as bytes; or how long it would be at least, if that is too long."""
    if mime_type.endswith("json") and not isinstance(form, (str, bytes)):
        import json

        form = json.dumps(form)
    if not isinstance(form, (bytes, bytearray, memoryview)):
        form = str(form)
        if len(form) > 2 * _MOST:
            return len(form)
        if mime_type in _BINARY:
            import base64

            form = base64.b64decode(form)
        else:
            form = form.encode("utf-8", "replace")
    return bytes(form) if len(form) <= _MOST else len(form)


# Found nowhere else: no other interpreter could unpickle them, and a pool of processes would wait for ever.
for _own in (display, publish_display_data, Handle):
    _own.__module__ = "__main__"
builtins.display = display
