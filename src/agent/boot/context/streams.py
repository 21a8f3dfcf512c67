# The streams of a cell.

import io
import os
import sys

from .errors import attempt

_outputs = []
_no_input = os.open(os.devnull, os.O_RDONLY)
_stdin = sys.stdin
_lost = []  # Streams with output that nobody took: collected, they would write it to the next cell.


def begin(outputs):
    """Takes the stdout and stderr of all cells."""
    _outputs[:] = outputs
    renew()


def renew():
    """For the next cell: its streams, whatever the one before has closed, put in their place or left unread."""
    take_outputs()
    take_input([])
    _renew_stdin()


def take_outputs():
    """Cells write where the agent reads."""
    for descriptor, output in enumerate(_outputs, 1):
        os.dup2(output, descriptor)


def take_input(descriptors):
    os.dup2(descriptors[0] if descriptors else _no_input, 0)
    for descriptor in descriptors:
        os.close(descriptor)


def _renew_stdin():
    """What a cell has not read of its input is not the next one's."""
    global _stdin
    try:
        is_cells_own = sys.stdin is not _stdin and not sys.stdin.closed
    except Exception:
        is_cells_own = False  # It is no stream, or has given its descriptor away.
    if not is_cells_own:
        _stdin = sys.stdin = _text_stream(0, "r", _stdin)


def flush():
    """What was written is in the pipes then."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        _flush(name, descriptor)
        if getattr(sys, f"__{name}__", None) is not getattr(sys, name, None):
            # A cell has put something else in its place.
            _flush(f"__{name}__", descriptor)
    ctypes = sys.modules.get("ctypes")
    if ctypes:
        # What libraries print by printf(3).
        attempt(lambda: ctypes.CDLL(None).fflush(None))


def _flush(name, descriptor):
    stream = getattr(sys, name, None)
    try:
        if hasattr(stream, "write") and not hasattr(stream, "flush"):
            return  # It keeps nothing.
        stream.flush()
    except BaseException as error:
        _lost.append(stream)
        take_outputs()
        setattr(sys, name, _text_stream(descriptor, "w", stream))
        if isinstance(error, KeyboardInterrupt):
            raise


def _text_stream(descriptor, mode, like):
    raw = io.FileIO(descriptor, mode, closefd=False)
    buffered = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    try:
        encoding, errors = like.encoding or "utf-8", like.errors or "strict"
    except Exception:
        encoding, errors = "utf-8", "strict"  # It is no such stream, or has given its descriptor away.
    return io.TextIOWrapper(buffered, encoding, errors, line_buffering=mode == "w")
