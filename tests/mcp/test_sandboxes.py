"""Sandboxes that live on: state, files, and their end."""

import base64
import signal

import pytest
from sessions import Wire, create_sandbox, images, session, texts

pytestmark = pytest.mark.anyio


async def run(client, sandbox, code):
    return await client.call_tool("run_code", {"sandbox_id": sandbox, "code": code})


async def test_variables_and_files_are_kept_and_only_there(server):
    async with session(server.address) as client:
        one, other = await create_sandbox(client), await create_sandbox(client)
        await run(client, one, "x = 40\nopen('file', 'w').write('kept')")
        assert texts(await run(client, one, "x += 2\nx")) == ["exit code 0", "42\n"]
        listed = await client.call_tool("run_command", {"sandbox_id": one, "command": "cat file"})
        assert listed.structured_content["stdout"] == "kept"
        missing = await run(client, other, "x")
        assert missing.is_error
        assert texts(missing)[0] == "NameError (exit code 1)"
        assert missing.structured_content["error"]["value"] == "name 'x' is not defined"
        # An exception costs no variable.
        assert (await run(client, one, "1 / 0")).is_error
        assert texts(await run(client, one, "x"))[1] == "42\n"


async def test_a_python_that_has_ended_is_told_and_replaced(server):
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        await run(client, sandbox, "x = 1")
        ended = await run(client, sandbox, "import os; os._exit(3)")
        assert ended.structured_content["state_lost"]
        assert "its variables are gone" in texts(ended)[0]
        assert texts(await run(client, sandbox, "'x' in globals()"))[1] == "False\n"


async def test_a_python_that_somebody_has_deleted_is_told_and_replaced(server):
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        await run(client, sandbox, "x = 1")
        [line] = server.shows("context", "list", sandbox)
        assert server.runs("context", "delete", sandbox, line.split()[0]).returncode == 0
        gone = await run(client, sandbox, "x")
        assert gone.is_error and "its variables are gone: it was deleted" in texts(gone)[0]
        assert texts(await run(client, sandbox, "'x' in globals()"))[1] == "False\n"


async def test_a_figure_of_a_cell_is_an_image(server):
    source = """
import matplotlib.pyplot as plt
plt.plot([1, 3, 2])
plt.show()
"""
    async with session(server.address) as client:
        result = await run(client, await create_sandbox(client), source)
    assert not result.is_error, texts(result)
    [image] = images(result)
    assert image.mime_type == "image/png"
    assert base64.b64decode(image.data).startswith(b"\x89PNG\r\n\x1a\n")
    assert result.structured_content["images"] == 1


async def test_files_are_written_listed_and_read(server):
    content = bytes(range(256))
    async with session(server.address) as client:
        sandbox = await create_sandbox(client, files=[{"path": "first", "text": "1"}])

        async def call(tool, **arguments):
            result = await client.call_tool(tool, {"sandbox_id": sandbox, **arguments})
            assert not result.is_error, texts(result)
            return result.structured_content

        script = {"path": "bin/hello", "text": "#!/bin/sh\necho h\u00e4llo\n", "executable": True}
        written = await call("write_file", **script)
        assert written == {"path": "/workspace/bin/hello", "bytes": 22}
        assert (await call("run_command", args=["./bin/hello"]))["stdout"] == "h\u00e4llo\n"
        assert (await call("read_file", path="bin/hello"))["text"] == script["text"]

        await call("write_file", path="/tmp/bytes", base64=base64.b64encode(content).decode())
        read = await call("read_file", path="/tmp/bytes")
        assert (read["text"], base64.b64decode(read["base64"])) == (None, content)
        part = await call("read_file", path="/tmp/bytes", offset=254, length=1)
        assert (base64.b64decode(part["base64"]), part["next_offset"]) == (b"\xfe", 255)

        await call("run_command", command="ln -s first link")
        listed = {it["name"]: it["kind"] for it in (await call("list_files"))["entries"]}
        assert listed == {"bin": "directory", "first": "file", "link": "link"}


async def test_a_long_text_is_read_in_parts_without_cut_characters(server):
    text = "x" + "\u00e4\u20ac\U0001f600" * 5_000
    async with session(server.address) as client:
        sandbox = await create_sandbox(client, files=[{"path": "long", "text": text}])
        parts, offset = [], 0
        while offset is not None:
            call = {"sandbox_id": sandbox, "path": "long", "offset": offset}
            part = (await client.call_tool("read_file", call)).structured_content
            assert len(part["text"].encode()) <= 16_384
            parts.append(part["text"])
            offset = part["next_offset"]
    assert len(parts) > 1
    assert "".join(parts) == text


async def test_what_is_no_utf_8_is_read_as_it_is(server):
    latin = {"path": "latin", "base64": base64.b64encode(b"caf\xe9").decode()}
    async with session(server.address) as client:
        sandbox = await create_sandbox(client, files=[latin, {"path": "umlaut", "text": "\u00e4\u00e4"}])

        async def read(path, **arguments):
            call = {"sandbox_id": sandbox, "path": path, **arguments}
            return await client.call_tool("read_file", call)

        whole = (await read("latin")).structured_content
        assert (whole["text"], base64.b64decode(whole["base64"])) == (None, b"caf\xe9")
        # No whole character fits.
        half = (await read("umlaut", length=1)).structured_content
        assert (base64.b64decode(half["base64"]), half["next_offset"]) == (b"\xc3", 1)
        past = await read("umlaut", offset=5)
        assert past.is_error and texts(past) == ["offset: 5 is past the end: the file has only 4 bytes"]
        at_end = (await read("umlaut", offset=4)).structured_content
        assert (at_end["text"], at_end["next_offset"]) == ("", None)
        call = {"sandbox_id": sandbox, "command": "true", "output_paths": ["latin"]}
        ran = await client.call_tool("run_command", call)
        assert ran.structured_content["files"] == [{"path": "latin", "bytes": 4, "text": None, "shown": False}]


async def test_an_image_is_read_as_one(server):
    source = "import matplotlib.pyplot as plt; plt.figure(); plt.savefig('a.png', dpi=300); plt.close()"
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        await run(client, sandbox, source)
        read = await client.call_tool("read_file", {"sandbox_id": sandbox, "path": "a.png"})
    [image] = images(read)
    assert len(base64.b64decode(image.data)) == read.structured_content["bytes"]
    assert read.structured_content["mime_type"] == "image/png"


async def test_an_image_that_is_too_large_is_told_how_to_make_smaller(server):
    line = r"{ printf '\x89PNG\r\n\x1a\n'; head -c 3145728 /dev/zero; } > a.png; head -c 5 /dev/zero > raw.bin"
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        call = {"sandbox_id": sandbox, "command": line, "output_paths": ["*"]}
        ran = await client.call_tool("run_command", call)
        assert "a.png (3145736 bytes, an image of more than 3 MiB, which is not shown: save it smaller" in texts(ran)[0]
        assert "raw.bin (5 bytes, not shown: use read_file)" in texts(ran)[0]
        assert [it["shown"] for it in ran.structured_content["files"]] == [False, False]
        read = await client.call_tool("read_file", {"sandbox_id": sandbox, "path": "a.png"})
        assert "save it smaller" in texts(read)[0]


async def test_names_are_bounded_by_their_length_too(server):
    line = "long=$(printf 'x%.0s' $(seq 4000)); for number in $(seq 300); do ln -s $long $number; done"
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        await client.call_tool("run_command", {"sandbox_id": sandbox, "command": line})
        listed = await client.call_tool("list_files", {"sandbox_id": sandbox})
    *lines, last = texts(listed)[0].splitlines()
    assert len(texts(listed)[0]) < 34_000
    assert lines[0] == "1 -> " + "x" * 300 + "..."
    assert last == f"and more than these {len(lines)}: use run_command with ls or find"
    assert len(listed.structured_content["entries"]) == len(lines)


async def test_what_is_not_there_is_told(server):
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        for tool, arguments, words in [
            ("read_file", {"sandbox_id": sandbox, "path": "no"}, "there is no such path"),
            ("run_code", {"sandbox_id": "no", "code": "1"}, 'there is no sandbox "no"'),
            ("list_files", {"sandbox_id": "no"}, 'there is no sandbox "no"'),
            ("delete_sandbox", {"sandbox_id": "no"}, 'there is no sandbox "no"'),
        ]:
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert words in texts(result)[0]
            assert "create_sandbox" in texts(result)[0]


async def test_a_deleted_sandbox_is_gone(server):
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        await run(client, sandbox, "x = 1")
        deleted = await client.call_tool("delete_sandbox", {"sandbox_id": sandbox})
        assert not deleted.is_error
        assert not any(line.startswith(sandbox) for line in server.shows("sandbox", "list"))
        assert (await run(client, sandbox, "x")).is_error


async def test_the_sandboxes_of_a_session_end_with_it_and_no_others(server):
    others = server.runs("sandbox", "create").stdout.strip()
    async with session(server.address) as client:
        own = [await create_sandbox(client) for _ in range(2)]
        await run(client, own[0], "x = 1")
        await run(client, others, "x = 1")
        assert len(server.shows("context", "list", others)) == 1
    left = {line.split()[0] for line in server.shows("sandbox", "list")}
    assert others in left
    assert not left & set(own)
    assert server.shows("context", "list", others) == []
    assert server.runs("sandbox", "delete", others).returncode == 0


@pytest.mark.parametrize("how", ["end of input", "signal"])
async def test_the_end_of_the_session_ends_what_runs(server, how):
    wire = Wire(server.address)
    wire.call(1, "create_sandbox")
    sandbox = wire.result(1)["structuredContent"]["sandbox_id"]
    wire.call(2, "run_command", sandbox_id=sandbox, command="echo ready; sleep 1000")
    wire.until_output("ready")
    if how == "signal":
        wire.process.send_signal(signal.SIGTERM)
    wire.ends()
    assert not any(line.startswith(sandbox) for line in server.shows("sandbox", "list"))
    code, words = await server.execution_that_ended(sandbox)
    assert (code, "sandpool: cancelled: " in words) == (125, True), words
