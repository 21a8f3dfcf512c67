# What is said over descriptor 3, a socket:
#
#   out:  one byte, when what was said before (sitecustomize.py) has been read
#   in:   one byte, and with it two descriptors: stdout and stderr of all cells
#   in:   a cell: its number (8 bytes), its length (4 bytes) and its source, and with the first byte, if it has
#         input, one descriptor: its stdin
#   out:  messages FromContext (agent.proto), each after its length (4 bytes)
#   in:   one byte for each display that waits for it, and one for the end of each cell: how many interrupts were sent to
#         it, 255 at most

import _socket
import array
import os
import threading

from . import signals

OWN_PID = os.getpid()

_control = _socket.socket(fileno=3)
os.set_inheritable(3, False)
_sending = threading.Lock()
# What the agent sends. Its first byte is part of a cell's number, and never this.
_received = bytearray(65536)
_NOTHING = 255


def field(number, data):
    """A field of protobuf, as bytes: a text, a message, or a number."""
    if isinstance(data, int):
        return _varint(number << 3) + _varint(data)
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number):
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def send(message, is_answered=False):
    """Returns the answer, if there is one."""
    is_main = signals.is_main_thread()
    with _sending:
        before = signals.mode
        try:
            if is_main:
                signals.mode = signals.BUSY
            _control.sendall(len(message).to_bytes(4, "big") + message)
            answer = _control.recv(1) if is_answered else b"\0"
            if not answer:
                os._exit(0)  # the agent has gone
        finally:
            if is_main:
                signals.mode = before
    if is_main and signals.mode is not signals.BUSY:
        signals.call_waiting()
    return answer[0]


def begin():
    """The stdout and stderr of all cells, once what was said before has been read."""
    _control.sendall(b"c")
    _, outputs = _receive_with_descriptors(1)
    for output in outputs:
        os.set_inheritable(output, False)
    return outputs


def receive():
    """The next cell. While it is waited for, signals do what the last one has said."""
    _received[0] = _NOTHING
    signals.mode = signals.IDLE
    signals.call_waiting()
    data, descriptors = _receive_with_descriptors(len(_received))
    signals.mode = signals.BUSY
    while len(data) < 12 or len(data) < 12 + int.from_bytes(data[8:12], "big"):
        more = _control.recv(1 << 20)
        if not more:
            os._exit(0)
        data += more
    return int.from_bytes(data[:8], "big"), data[12:].decode(), descriptors


def _receive_with_descriptors(length):
    """At least one byte, at most so many, and the descriptors that came with it."""
    _received[0] = _NOTHING
    buffers = [memoryview(_received)[:length]]
    length, ancillary, _, _ = _control.recvmsg_into(buffers, _socket.CMSG_SPACE(2 * 4))
    if not length:
        os._exit(0)  # the agent has gone
    descriptors = array.array("i")
    for _, _, sent in ancillary:
        descriptors.frombytes(sent)
    return bytes(_received[:length]), list(descriptors)


def _has_come():
    """Whether anything has, since a cell was waited for."""
    if _received[0] != _NOTHING:
        return True
    try:
        return bool(_control.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT))
    except OSError:
        return False


signals.has_cell_come = _has_come
# A child has its streams alone.
os.register_at_fork(after_in_child=_control.close)
