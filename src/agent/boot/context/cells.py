# One cell after the other.

import ast
import builtins
import linecache
import os
import sys
import types

import __future__

from . import displays, imports, messages, signals, streams
from .errors import UNTOLD, complain, described, exit_code, name_of
from .messages import field

# A module of its own: a cell that defines `len` must not change what is in here. The script's is kept.
_scripts_own = sys.modules["__main__"]
sys.modules["__main__"] = types.ModuleType("__main__")
_namespace = sys.modules["__main__"].__dict__

_futures = 0
for _name in __future__.all_feature_names:
    _futures |= getattr(__future__, _name).compiler_flag
_flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def run(number, source):
    """Runs a cell, and returns the message that it has ended. What it has written is in its pipes then."""
    name = f"<cell {number}>"
    # inspect and traceback find the source here.
    linecache.cache[name] = len(source), None, source.splitlines(True), name
    displays.begin_cell()
    error = message = None
    # What an exception says of itself is the cell's, and so is what it has put in the place of its streams: it may
    # be interrupted, or raise.
    for attempt in range(10):
        try:
            if attempt == 0:
                _run_first(source, name)
            signals.mode = signals.IN_CELL
            signals.call_waiting()
            if os.getpid() != messages.OWN_PID:
                _end_child(error)
            if message is None:
                told = attempt < 5
                message = _ended(error) if told else failed_untold(error)
            streams.flush()
            break
        except BaseException as raised:
            signals.mode = signals.BUSY
            if error is None and message is None:
                error = raised
    signals.mode = signals.BUSY
    error = None  # Whose traceback has this frame, and what the cell's had.
    return message or _ended(None)


def _run_first(source, name):
    """The cell itself."""
    signals.begin_cell()
    try:
        signals.mode = signals.IN_CELL
        signals.call_waiting()
        try:
            _run(source, name)
        finally:
            displays.show_figures()
    finally:
        signals.mode = signals.BUSY


def _run(source, name):
    global _flags
    imports.use_loop()
    tree = compile(source, name, "exec", _flags | ast.PyCF_ONLY_AST, True)
    body, codes = tree.body, []
    last = None
    if body and isinstance(body[-1], ast.Expr) and not _is_silent(source, body[-1]):
        last = ast.Expression(body.pop().value)
    # Both before the first runs: a cell with a wrong last line does nothing.
    if body:
        codes.append(compile(tree, name, "exec", _flags, True))
        _flags |= codes[0].co_flags & _futures
    if last:
        codes.append(compile(last, name, "eval", _flags, True))
    _namespace["__builtins__"] = builtins
    if any(map(_is_coroutine, codes)):
        value = imports.finish(_run_awaiting(codes))
    else:
        value = None
        for code in codes:
            value = eval(code, _namespace)
    if last and value is not None:
        builtins._ = value
        displays.show(value, is_result=True)


def _is_coroutine(code):
    return code.co_flags & 0x80  # CO_COROUTINE


async def _run_awaiting(codes):
    value = None
    for code in codes:
        value = eval(code, _namespace)
        if _is_coroutine(code):
            value = await value
    return value


def _is_silent(source, last):
    """Whether a semicolon follows the last expression."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rest = lines[last.end_lineno - 1].encode()[last.end_col_offset :].decode()
    return ";" in rest.split("#")[0]


def _end_child(error):
    """Ends a child that came to the end of a cell, as it would have ended as a program."""
    if isinstance(error, SystemExit):
        if exit_code(error) == 1 and not isinstance(error.code, int):
            complain(f"{error.code}\n")
    elif error is not None:
        complain(described(error)[2])
    streams.flush()
    os._exit(exit_code(error) if error is not None else 0)


def _ended(error):
    """The message that a cell has ended."""
    if error is None or (isinstance(error, SystemExit) and exit_code(error) == 0):
        return field(3, b"")
    return _failed(error, *described(error))


def failed_untold(error):
    """The same of an exception that cannot say what it is."""
    return _failed(error, name_of(error), UNTOLD, UNTOLD)


def _failed(error, name, value, text):
    described_error = field(1, name[:256]) + field(2, value) + field(3, text)
    return field(3, field(1, exit_code(error)) + field(2, described_error))
