"""Servers that go away, fall silent, and come again."""

import signal
import socket

from links import Link
from sessions import PATIENCE, Server, Wire


def begin(address):
    wire = Wire(address)
    wire.call(1, "create_sandbox")
    return wire, wire.result(1)["structuredContent"]["sandbox_id"]


def error(wire, id):
    result = wire.result(id)
    assert result["isError"], result
    return result["content"][0]["text"]


def test_a_session_whose_connection_broke_deletes_its_sandboxes_all_the_same(server):
    link = Link(server.address)
    wire, sandbox = begin(link.address)
    link.cut()
    wire.call(2, "run_command", command="true")
    assert "cannot reach a server" in error(wire, 2)
    link.mend()
    rest, log = wire.process.communicate(timeout=PATIENCE)
    assert (rest, log) == ("", "")
    assert not any(line.startswith(sandbox) for line in server.shows("sandbox", "list"))


def test_a_call_that_was_sent_is_not_told_as_if_nothing_had_been_done(server):
    link = Link(server.address)
    wire = Wire(link.address)
    wire.call(1, "run_command", command="echo ready; sleep 1000")
    wire.until_output("ready")
    link.cut()
    told = error(wire, 1)
    assert "cannot reach a server" in told
    assert "may have been done or not" in told
    wire.ends()


def test_what_cannot_be_deleted_is_told(server):
    link = Link(server.address)
    wire, sandbox = begin(link.address)
    link.cut()
    _, log = wire.process.communicate(timeout=PATIENCE)
    assert "sandboxes of this session may be left: cannot reach a server" in log
    assert server.runs("sandbox", "delete", sandbox).returncode == 0


def test_a_session_that_has_made_nothing_has_nothing_to_delete(server):
    link = Link(server.address)
    wire = Wire(link.address)
    wire.call(1, "run_command", command="true")
    assert not wire.result(1)["isError"]
    link.cut()
    rest, log = wire.process.communicate(timeout=PATIENCE)
    assert (rest, log) == ("", "")


def test_calls_that_wait_for_a_server_share_one_attempt():
    # Its queue is full: what else would connect gets no answer.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fill = []
        for _ in range(4):
            fill.append(socket.socket())
            fill[-1].setblocking(False)
            fill[-1].connect_ex(full.getsockname())
        wire = Wire(f"127.0.0.1:{full.getsockname()[1]}")
        for id in range(1, 66):
            wire.call(id, "run_command", command="true")
        # One after the other they would take longer than the patience of a test.
        assert "64 calls of this session are under way" in error(wire, 65)
        waiting = set(range(1, 65))
        while waiting:
            answer = wire.until(lambda message: message.get("id") in waiting)
            assert "cannot reach a server" in answer["result"]["content"][0]["text"]
            waiting.remove(answer["id"])
        wire.process.kill()
        wire.process.communicate(timeout=PATIENCE)
        for end in fill:
            end.close()


def test_a_server_that_falls_silent_is_told():
    with Server() as server:
        wire, _ = begin(server.address)
        wire.call(2, "run_command", command="echo ready; sleep 1000")
        wire.until_output("ready")
        server.process.send_signal(signal.SIGSTOP)
        try:
            assert "the connection to the server broke" in error(wire, 2)
        finally:
            server.process.send_signal(signal.SIGCONT)
        wire.ends()
