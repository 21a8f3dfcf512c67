"""run_code and run_command: programs, their output, and their end."""

import base64
import re

import anyio
import pytest
from sessions import create_sandbox, images, session, texts

pytestmark = pytest.mark.anyio

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n and so on").decode()


async def test_code_runs_and_its_output_comes_back(server):
    async with session(server.address) as client:
        result = await client.call_tool("run_code", {"code": "print(6 * 7)"})
    assert not result.is_error
    assert texts(result) == ["exit code 0", "42\n"]
    typed = result.structured_content
    assert (typed["outcome"], typed["exit_code"], typed["stdout"]) == ("exited", 0, "42\n")


async def test_a_program_gets_arguments_input_and_files(server):
    source = 'echo "$1"; cat; cat a/text; od -An -tx1 bytes; echo trouble >&2'
    files = [
        {"path": "a/text", "text": "from a file\n"},
        {"path": "bytes", "base64": base64.b64encode(b"\0\xff").decode()},
    ]
    call = {"language": "bash", "code": source, "args": ["x"], "stdin": "typed\n", "files": files}
    async with session(server.address) as client:
        result = await client.call_tool("run_code", call)
    assert result.structured_content["stdout"] == "x\ntyped\nfrom a file\n 00 ff\n"
    assert texts(result)[-1] == "stderr:\ntrouble\n"


@pytest.mark.parametrize(
    ("call", "outcome", "words"),
    [
        ({"code": "print('so far'); import sys; sys.exit(3)"}, "exited", "exit code 3"),
        ({"code": "1 / 0"}, "exited", "exit code 1"),
        ({"code": "import os; os.kill(os.getpid(), 9)"}, "signaled", "ended by signal 9 SIGKILL"),
        (
            {"code": "print('so far')\nwhile True: pass", "timeout_seconds": 3},
            "timed_out",
            "timed out after 3s: give it a longer timeout_seconds, or less to do",
        ),
    ],
)
async def test_a_program_that_fails_is_an_error_that_says_how_it_ended(server, call, outcome, words):
    async with session(server.address) as client:
        result = await client.call_tool("run_code", call)
    assert result.is_error
    assert texts(result)[0] == words
    typed = result.structured_content
    assert (typed["outcome"], typed["message"]) == (outcome, words)
    if "so far" in call["code"]:
        assert typed["stdout"] == "so far\n"
    if "/ 0" in call["code"]:
        assert "ZeroDivisionError" in typed["stderr"]


async def test_a_command_is_a_line_for_the_shell_or_a_program(server):
    async with session(server.address) as client:
        line = "set -o pipefail; echo one two | wc -w && pwd"
        call = {"command": line, "working_directory": "here"}
        shell = await client.call_tool("run_command", call)
        program = await client.call_tool("run_command", {"args": ["printf", "%s|", "$HOME", "b c"]})
        none = await client.call_tool("run_command", {"args": ["no-such-program"]})
    assert shell.structured_content["stdout"] == "2\n/workspace/here\n"
    assert program.structured_content["stdout"] == "$HOME|b c|"
    assert none.is_error
    assert none.structured_content["outcome"] == "not_started"
    assert "no-such-program" in texts(none)[0]


async def test_output_files_are_shown_as_text_and_images_or_named(server):
    files = [{"path": "plot.png", "base64": PNG}]
    source = "echo x,y > table.csv; head -c 5 /dev/zero > raw.bin"
    call = {"language": "bash", "code": source, "files": files, "output_paths": ["*"]}
    async with session(server.address) as client:
        result = await client.call_tool("run_code", call)
    shown = {it["path"]: it["shown"] for it in result.structured_content["files"]}
    assert shown == {"plot.png": True, "table.csv": True, "raw.bin": False}
    assert "table.csv:\nx,y\n" in texts(result)
    assert "raw.bin (5 bytes, not shown: keep it in a sandbox" in texts(result)[0]
    [image] = images(result)
    assert (image.mime_type, image.data) == ("image/png", PNG)


async def test_a_million_lines_are_answered_with_their_beginning_and_their_end(server):
    async with session(server.address) as client:
        result = await client.call_tool("run_command", {"command": "seq 1000000"})
    summary, output = texts(result)
    assert output.startswith("1\n2\n3\n")
    assert output.endswith("999999\n1000000\n")
    assert len(output) < 17_000
    assert "bytes are left out here" in output
    assert "of 6888896 bytes of stdout are left out: write them into a file" in summary
    assert result.structured_content["stdout_bytes"] == 6_888_896


async def test_progress_has_the_output_while_the_program_runs(server):
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        told = []

        async def progress(seconds, total, message):
            told.append((seconds, message))
            # What lets the program go on proves that it runs.
            if "waiting" in message:
                here = {"sandbox_id": sandbox, "path": "go", "text": ""}
                written = await client.call_tool("write_file", here)
                assert not written.is_error

        line = "echo waiting; until [ -e go ]; do sleep 0.05; done; seq 20000; echo done"
        call = {"command": line, "sandbox_id": sandbox}
        result = await client.call_tool("run_command", call, progress_callback=progress)
    assert not result.is_error
    assert told[0][1] == "waiting\n"
    times = [seconds for seconds, _ in told]
    assert times == sorted(set(times))
    assert max(len(message) for _, message in told) < 2_200


async def test_progress_tells_of_a_cell_that_waits_for_another(server):
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        before = "import os, time\nprint('ready', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.05)"
        told = []

        async def run(code, progress=None):
            call = {"sandbox_id": sandbox, "code": code}
            result = await client.call_tool("run_code", call, progress_callback=progress)
            assert not result.is_error, texts(result)

        async def progress(seconds, total, message):
            told.append(message)
            if len(told) == 1:
                here = {"sandbox_id": sandbox, "path": "go", "text": ""}
                await client.call_tool("write_file", here)

        ready = anyio.Event()

        async def is_ready(seconds, total, message):
            if "ready" in message:
                ready.set()

        async with anyio.create_task_group() as both:
            both.start_soon(run, before, is_ready)
            await ready.wait()
            both.start_soon(run, "print('mine')", progress)
    assert re.fullmatch(r"waits for its turn, 1\d s", told[0])


async def test_calls_of_one_session_run_at_the_same_time(server):
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        ended = []

        async def meet(own, others):
            line = f"touch {own}; until [ -e {others} ]; do sleep 0.05; done"
            call = {"command": line, "sandbox_id": sandbox}
            ended.append(await client.call_tool("run_command", call))

        async with anyio.create_task_group() as both:
            both.start_soon(meet, "a", "b")
            both.start_soon(meet, "b", "a")
    assert [result.is_error for result in ended] == [False, False]


@pytest.mark.parametrize("tool", ["run_code", "run_command"])
async def test_a_cancelled_call_is_cancelled_on_the_server(server, tool):
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        scope = anyio.CancelScope()

        async def progress(seconds, total, message):
            if "ready" in message:
                scope.cancel()

        call = {"sandbox_id": sandbox}
        if tool == "run_code":
            call["code"] = "kept = 1\nprint('ready', flush=True)\nwhile True: pass"
        else:
            call["command"] = "echo ready; sleep 1000"
        with scope:
            await client.call_tool(tool, call, progress_callback=progress)
        assert scope.cancelled_caught
        code, words = await server.execution_that_ended(sandbox)
        assert (code, "sandpool: cancelled: " in words) == (125, True), words
        # The session and the sandbox go on, with the variables that there were.
        if tool == "run_code":
            after = await client.call_tool("run_code", {"sandbox_id": sandbox, "code": "kept"})
            assert texts(after)[1] == "1\n"


async def test_a_python_that_heeds_no_cancellation_is_ended_and_that_is_told(server):
    async with session(server.address) as client:
        sandbox = await create_sandbox(client)
        scope = anyio.CancelScope()

        async def progress(seconds, total, message):
            if "ready" in message:
                scope.cancel()

        source = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('ready', flush=True)\nwhile True: pass"
        with scope:
            call = {"sandbox_id": sandbox, "code": source}
            await client.call_tool("run_code", call, progress_callback=progress)
        await server.execution_that_ended(sandbox)
        after = await client.call_tool("run_code", {"sandbox_id": sandbox, "code": "1"})
        assert after.is_error and "its variables are gone" in texts(after)[0]
        again = await client.call_tool("run_code", {"sandbox_id": sandbox, "code": "1"})
        assert texts(again)[1] == "1\n"
