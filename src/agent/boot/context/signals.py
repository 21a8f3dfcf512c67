# A handler of a cell's may raise, and would leave half a message or the next cell without its beginning. So for what
# cells set by signal.signal Python calls one function, and that calls the cell's own where it does no harm. (To block
# signals is not enough: a thread takes them then, and the handler runs in the main thread all the same.)

import functools
import os
import signal
import sys
import threading
import time

BUSY = "busy"  # no handler is called: signals wait
IDLE = "idle"  # between two cells: what a handler raises goes nowhere
IN_CELL = "in_cell"  # what a handler raises is the cell's
# Where the main thread is.
mode = BUSY
waiting = []  # The numbers of signals that have come where it was busy.

# When the cell was interrupted, by time.monotonic(). A second interrupt that soon would come where the first is
# dealt with.
_interrupted_at = 0.0
_PAUSE = 0.05
_interrupts = 0  # How many of the cell's a handler was called for.
_handlers = {}  # What cells have set, by the signal's number.
_is_calling = False
_set_handler, _get_handler = signal.signal, signal.getsignal


def has_cell_come():
    """Whether an interrupt between two cells may be the next one's: `messages` knows better."""
    return False


def is_main_thread():
    return threading.current_thread() is threading.main_thread()


def begin_cell():
    global _interrupted_at, _interrupts
    _interrupted_at, _interrupts = 0.0, 0


def end_cell(sent):
    """What is left of the interrupts that were sent to it is not the next one's, whose own may have come already."""
    if sent > _interrupts and signal.SIGINT in waiting:
        waiting.remove(signal.SIGINT)


def call_waiting():
    """Calls the handlers of what has come where it was busy."""
    global _is_calling
    if _is_calling:
        return  # One of them displays something: the others have their turn after it.
    _is_calling = True
    try:
        _call(10)
    finally:
        _is_calling = False


def _call(most):
    """So many, since there may be no end of them; and each, though one before it raises."""
    if waiting and most:
        try:
            _on_signal(waiting.pop(0), sys._getframe())
        finally:
            _call(most - 1)


def _on_signal(number, frame):
    global _interrupts
    if mode is BUSY or (mode is IDLE and number == signal.SIGINT and has_cell_come()):
        if number not in waiting:
            waiting.append(number)
        return
    if number == signal.SIGINT:
        _interrupts += 1
    if mode is IDLE:
        try:
            _handlers[number](number, frame)
        except BaseException:
            pass
    else:
        _handlers[number](number, frame)


def _interrupt(*_):
    """SIGINT's handler, unless a cell has set another one."""
    global _interrupted_at
    now = time.monotonic()
    if now - _interrupted_at > _PAUSE:
        _interrupted_at = now
        raise KeyboardInterrupt


def _cells_own(number, handler):
    return _handlers.get(int(number)) if handler is _on_signal else handler


@functools.wraps(_set_handler)
def _set_cells_own(signalnum, handler):
    if not callable(handler) or not is_main_thread():  # where it is refused
        return _cells_own(signalnum, _set_handler(signalnum, handler))
    number = int(signalnum)
    before = _get_cells_own(number)
    own = _handlers.get(number)
    # Who has what is here from before may give it back.
    _handlers[number] = own if handler is _on_signal else handler
    try:
        _set_handler(number, _on_signal)
    except BaseException:
        _handlers[number] = own
        raise
    return before


@functools.wraps(_get_handler)
def _get_cells_own(signalnum):
    return _cells_own(signalnum, _get_handler(signalnum))


def _in_child():
    """A child has the signals of a cell, whichever thread has made it."""
    global mode
    mode = IN_CELL


signal.signal, signal.getsignal = _set_cells_own, _get_cells_own
signal.signal(signal.SIGINT, _interrupt)
os.register_at_fork(after_in_child=_in_child)
