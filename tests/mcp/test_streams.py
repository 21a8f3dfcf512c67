"""Clients that do not read, or read no more."""

import base64
import fcntl
import signal
import struct
import termios
import time

from sessions import PATIENCE, Wire


def until_stuck(pipe):
    """Once a pipe has no more room: a page of it may be left."""
    deadline = time.monotonic() + PATIENCE
    room = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) - 4096
    while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0] < room:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_client_that_does_not_read_its_answers_does_not_keep_the_session(server):
    wire = Wire(server.address)
    wire.call(1, "create_sandbox")
    sandbox = wire.result(1)["structuredContent"]["sandbox_id"]
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(2 << 20)).decode()
    files = [{"path": "a.png", "base64": image}]
    wire.call(2, "run_command", sandbox_id=sandbox, command="true", files=files, output_paths=["*"])
    until_stuck(wire.process.stdout)
    wire.process.stdin.close()
    assert wire.process.wait(timeout=PATIENCE) == 0
    assert not any(line.startswith(sandbox) for line in server.shows("sandbox", "list"))


def test_a_log_that_nobody_reads_holds_up_nothing(server):
    wire = Wire(server.address)
    for id in range(1, 1001):
        wire.call(id, "run_command", command="sleep 1000")
        wire.send("notifications/cancelled", {"requestId": id})
        # Each of these is told.
        wire.process.stdin.write("no JSON " + "." * 200 + "\n")
    wire.send("ping", {}, id=1001)
    assert wire.result(1001) == {}
    wire.process.send_signal(signal.SIGTERM)
    assert wire.process.wait(timeout=PATIENCE) == 0
    wire.process.kill()


def test_a_log_that_is_closed_ends_nothing(server):
    wire = Wire(server.address)
    wire.process.stderr.close()
    wire.call(1, "run_code", code="#" * (17 << 20))
    wire.process.stdin.write("no JSON\n")
    wire.send("ping", {}, id=2)
    assert wire.result(2) == {}
    wire.process.stdin.close()
    assert wire.process.wait(timeout=PATIENCE) == 0
