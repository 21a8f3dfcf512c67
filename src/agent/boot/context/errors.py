# What exceptions come to: words, exit codes, complaints.

import os
import signal
import sys
import traceback

UNTOLD = "<it cannot be told>"
_HERE = os.path.dirname(__file__)


def name_of(error):
    """Its type's own name, whatever a metaclass says."""
    return type.__dict__["__name__"].__get__(type(error))


def described(error):
    """An exception's name, value and traceback, without what is not the cell's."""
    frames = error.__traceback__
    while frames and not frames.tb_frame.f_code.co_filename.startswith("<cell "):
        frames = frames.tb_next
    try:
        value = str.encode(str(error), "utf-8", "replace").decode()
    except Exception:
        value = UNTOLD
    try:
        # None of the cell's where its text is wrong, or a library's method failed.
        frames = frames or error.__traceback__
        told = part = traceback.TracebackException(type(error), error, frames)
        while part:
            part.stack[:] = [frame for frame in part.stack if os.path.dirname(frame.filename) != _HERE]
            part = part.__cause__ or part.__context__
        text = "".join(told.format())
    except Exception:
        text = f"{name_of(error)}: {value}\n"
    return name_of(error), _shortened(value, 4096), _shortened(text, 32768)


def _shortened(text, limit):
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}\n[...]\n{text[-half:]}"


def exit_code(error):
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF if abs(error.code) < 1 << 63 else 255
        return 1
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def complain(text):
    try:
        sys.stderr.write(text)
    except Exception:
        pass  # There is nobody else to tell.


def attempt(call, *args, **kwargs):
    """What it returns; nothing, and a traceback on stderr, if it fails."""
    try:
        return call(*args, **kwargs)
    except NotImplementedError:
        return None
    except Exception as error:
        complain(described(error)[2])
        return None
