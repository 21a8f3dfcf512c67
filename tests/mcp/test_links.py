"""Servers that go away, fall silent, and come again."""

from links import Link
from sessions import PATIENCE, Wire


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
