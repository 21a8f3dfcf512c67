"""What every client meets: versions, tools, errors, and a server that is away."""

import json
import socket

import mcp.client.session
import pytest
from mcp import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from sessions import PATIENCE, Server, Wire, session, texts

pytestmark = pytest.mark.anyio

TOOLS = {
    "run_code": ["code"],
    "run_command": [],
    "create_sandbox": [],
    "write_file": ["sandbox_id", "path"],
    "read_file": ["sandbox_id", "path"],
    "list_files": ["sandbox_id"],
    "delete_sandbox": ["sandbox_id"],
}


@pytest.mark.parametrize("version", [*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS])
async def test_each_version_that_the_official_client_speaks_is_spoken(server, version, monkeypatch):
    mode = version
    if version in HANDSHAKE_PROTOCOL_VERSIONS:
        mode = "legacy"
        monkeypatch.setattr(mcp.client.session, "LATEST_HANDSHAKE_VERSION", version)
    async with session(server.address, mode=mode) as client:
        assert client.protocol_version == version
        assert len((await client.list_tools()).tools) == len(TOOLS)
        told = []

        async def progress(seconds, total, message):
            told.append(message)

        call = {"code": "print(1)"}
        result = await client.call_tool("run_code", call, progress_callback=progress)
        assert texts(result) == ["exit code 0", "1\n"]
        assert not (await client.call_tool("create_sandbox")).is_error


async def test_the_newest_version_is_chosen(server):
    async with session(server.address) as client:
        assert client.protocol_version == MODERN_PROTOCOL_VERSIONS[-1]


async def test_tools_are_listed_with_schemas(server):
    async with session(server.address) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert "create_sandbox" in client.instructions
    assert {name: tool.input_schema.get("required", []) for name, tool in tools.items()} == TOOLS
    for tool in tools.values():
        assert tool.description
        assert tool.input_schema["additionalProperties"] is False
        assert tool.output_schema["type"] == "object"
    assert tools["read_file"].annotations.read_only_hint
    assert tools["delete_sandbox"].annotations.destructive_hint


async def test_a_wrong_argument_is_named_with_its_value_and_a_remedy(server):
    async with session(server.address) as client:
        for tool, arguments, words in [
            ("run_code", {}, "arguments: missing field `code`"),
            ("run_code", {"code": 5}, "code: invalid type: integer `5`, expected a string"),
            ("run_code", {"code": "", "lang": "x"}, "lang: unknown field `lang`, expected one of"),
            ("run_code", {"code": "x", "language": "cobol"}, 'language: "cobol" is not a language'),
            ("run_code", {"code": "x", "timeout_seconds": 0}, "timeout_seconds: 0 is no time"),
            ("run_code", {"code": "x", "timeout_seconds": 9e9}, "timeout_seconds: "),
            ("run_code", {"code": "x", "output_paths": ["../x"]}, 'output_paths[0]: "../x"'),
            ("run_code", {"code": "x", "args": ["a"], "sandbox_id": "b"}, "args: mean nothing"),
            ("run_command", {}, "command: is missing"),
            ("run_command", {"command": "ls", "args": ["ls"]}, "args: are given beside command"),
            ("run_command", {"command": "#" * 200_000}, "command: "),
            ("create_sandbox", {"lifetime_seconds": 9e9}, "lifetime_seconds: "),
            ("read_file", {"sandbox_id": "x", "path": "a", "length": 0}, "length: 0 is not from 1"),
        ]:
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert texts(result)[0].startswith(words), texts(result)
        with pytest.raises(MCPError, match="there is no tool"):
            await client.session.call_tool("no_such_tool", {})


async def test_a_sandbox_too_many_is_told_with_what_ends_one():
    with Server() as server:
        async with session(server.address) as client:
            # Half of max_sandboxes is for one caller.
            created = [await client.call_tool("create_sandbox", {}) for _ in range(9)]
    assert [it.is_error for it in created] == [False] * 8 + [True]
    assert "a sandbox by delete_sandbox" in texts(created[-1])[0]


async def test_content_alone_is_answered_where_it_is_asked_for(server):
    async with session(server.address, "--no-structured-content") as client:
        tools = (await client.list_tools()).tools
        assert all(tool.output_schema is None for tool in tools)
        result = await client.call_tool("run_code", {"code": "print(1)"})
    assert result.structured_content is None
    assert texts(result) == ["exit code 0", "1\n"]


async def test_a_server_that_is_away_is_named_and_found_once_it_is_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    async with session(address) as client:

        async def is_away():
            result = await client.call_tool("run_code", {"code": "print(1)"})
            assert result.is_error
            assert f"cannot reach a server at http://{address}" in texts(result)[0]
            assert "sandpool serve" in texts(result)[0]

        await is_away()
        with Server(port):
            result = await client.call_tool("run_code", {"code": "print(1)"})
            assert texts(result) == ["exit code 0", "1\n"]
        await is_away()


async def test_a_token_that_its_owner_renews_is_read_again(tmp_path):
    tokens, file = tmp_path / "tokens.toml", tmp_path / "token"
    tokens.write_text('[[token]]\nname = "agent"\nrole = "caller"\ntoken = "0123456789abcdef"\n')
    file.write_text("0123456789abcdef\n")
    tokens.chmod(0o600)
    run = {"code": "print(1)"}
    with Server(more=f'access.tokens = "{tokens}"') as server:
        async with session(server.address, "--token-file", str(file)) as client:
            assert not (await client.call_tool("run_code", run)).is_error
            for content, complaint in (("fedcba9876543210", "a valid bearer token is needed"), (" ", "it is empty")):
                file.write_text(content)
                refused = await client.call_tool("run_code", run)
                assert refused.is_error and complaint in texts(refused)[0]
            file.write_text("0123456789abcdef")
            assert not (await client.call_tool("run_code", run)).is_error


def test_a_pool_that_is_not_there_is_named(server):
    wire = Wire(server.address, "--pool", "no-such-pool")
    wire.call(1, "run_code", code="print(1)")
    assert "no-such-pool" in wire.result(1)["content"][0]["text"]
    wire.ends()


def test_nothing_but_the_protocol_is_on_standard_output(server):
    wire = Wire(server.address)
    wire.process.stdin.write("no JSON\n\n")
    wire.call(1, "run_code", code="print('out'); import sys; print('err', file=sys.stderr)")
    # `until` fails for whatever is no message.
    assert wire.result(1)["isError"] is False
    assert wire.ends() == []


def test_a_message_that_is_too_long_ends_neither_the_session_nor_another_call(server):
    wire = Wire(server.address)
    too_long = json.dumps({"code": "#" * (17 << 20)})
    wire.process.stdin.write('{"jsonrpc": "2.0", "id": 1, "params": %s}\n' % too_long)
    # This one has its id at the end, which is not kept.
    wire.call(2, "run_code", code="#" * (17 << 20))
    wire.call(3, "run_code", code="print(3)")
    refused = wire.until(lambda message: message.get("id") == 1)["error"]
    assert (refused["code"], "longer than 16777216 bytes" in refused["message"]) == (-32700, True)
    assert wire.result(3)["content"][1]["text"] == "3\n"
    rest, log = wire.process.communicate(timeout=PATIENCE)
    assert rest == ""
    assert "has no id to answer to: the message is longer" in log


@pytest.mark.parametrize(
    ("arguments", "stdout"),
    [
        (b'{"code": "print(ascii(\'\\ud83d\'))"}', "'\\ufffd'\n"),
        (b'{"code": "print(ascii(\'\xff\'))"}', "'\\ufffd'\n"),
    ],
)
def test_text_that_a_client_has_cut_is_repaired(server, arguments, stdout):
    wire = Wire(server.address)
    wire.raw(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"run_code","arguments":%s}}' % arguments)
    assert wire.result(1)["structuredContent"]["stdout"] == stdout
    wire.ends()


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (b'{"name":"run_code","arguments":{"code":"1","timeout_seconds":1e999}}', -32700),
        (b'{"name":"run_code","arguments":{"files":' + b"[" * 200 + b"]" * 200 + b"}}", -32700),
        (b'{"name":"run_code",}', -32700),
        (b'{"name":"run_code","arguments":"x"}', -32602),
        (b'{"name":"run_code","arguments":[]}', -32602),
        (b'{"arguments":{}}', -32602),
        (b'{"name":5,"arguments":{}}', -32602),
        (b"[1]", -32600),
        (b'{"name":"run_code","arguments":{"code":"1"},"_meta":[]}', -32600),
    ],
)
def test_a_call_that_cannot_be_read_is_answered(server, params, code):
    wire = Wire(server.address)
    wire.raw(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%s}' % params)
    assert wire.until(lambda message: message.get("id") == 1)["error"]["code"] == code
    wire.ends()


def test_a_batch_is_answered_message_by_message(server):
    wire = Wire(server.address)
    wire.raw(b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]')
    assert [wire.result(1), wire.result(2)] == [{}, {}]
    wire.ends()


def test_a_first_message_that_is_none_of_mcp_is_told(server):
    wire = Wire(server.address, initialize=False)
    wire.send("notifications/x", {})
    _, log = wire.process.communicate(timeout=PATIENCE)
    assert wire.process.returncode == 1
    assert "its first message must be initialize" in log
