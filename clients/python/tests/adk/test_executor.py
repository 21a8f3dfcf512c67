"""One run after the other, each in a fresh sandbox."""

from __future__ import annotations

import base64
import copy
import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from google.adk.code_executors.code_execution_utils import CodeExecutionUtils, File
from google.genai import types
from servers import SMALL_POOL, Server

from sandpool import TLS, Client
from sandpool.adk import SandpoolCodeExecutor, files

from .conftest import MakeExecutor, execute, sandbox_of


def test_what_the_code_prints_comes_back(make_executor: MakeExecutor) -> None:
    result = execute(make_executor(), "print(6 * 7)")
    assert (result.stdout, result.stderr, result.exit_code) == ("42\n", "", 0)
    assert result.output_files == []


def test_a_warning_of_a_success_follows_stdout_and_is_no_failure(
    make_executor: MakeExecutor,
) -> None:
    code = "import sys\nprint('done', end='')\nprint('careful', file=sys.stderr)"
    result = execute(make_executor(), code)
    assert result.stdout == "done\n--- stderr ---\ncareful\n"
    assert result.stderr == ""
    part = CodeExecutionUtils.build_code_execution_result_part(result)
    assert part.code_execution_result is not None
    assert part.code_execution_result.outcome == types.Outcome.OUTCOME_OK
    dropped = execute(make_executor(stderr_on_success="drop"), code)
    assert (dropped.stdout, dropped.stderr) == ("done", "")


def test_a_failure_has_all_that_was_written_in_stderr(make_executor: MakeExecutor) -> None:
    result = execute(make_executor(), "print('so far')\n1 / 0")
    assert "ZeroDivisionError: division by zero\n--- stdout ---\nso far\n" in result.stderr
    assert "line 2" in result.stderr
    assert (result.stdout, result.exit_code) == ("so far\n", 1)


@pytest.mark.parametrize(
    ("code", "said", "exit_code"),
    [
        ("raise SystemExit(3)", "exited with code 3", 3),
        ("import os; os._exit(1)", "exited with code 1", 1),
        ("import os; os.kill(os.getpid(), 15)", "signal 15 (SIGTERM)", 143),
        ("x = bytearray(400 << 20); import time; time.sleep(1000)", "out of memory", 137),
        ("import os; os.kill(1, 9)\nwhile True: pass", "the sandbox was lost", 125),
    ],
)
def test_each_bad_end_is_told_in_words(
    make_executor: MakeExecutor, code: str, said: str, exit_code: int
) -> None:
    result = execute(make_executor(), code)
    assert said in result.stderr
    assert result.exit_code == exit_code


def test_what_came_before_a_timeout_is_kept(make_executor: MakeExecutor) -> None:
    code = "open('part.txt', 'w').write('half')\nprint('begun', flush=True)\nwhile True: pass"
    result = execute(make_executor(timeout_seconds=3), code)
    assert "timed out after 3 s, and was ended: this is what it wrote" in result.stderr
    assert result.stderr.endswith("--- stdout ---\nbegun\n")
    assert (result.stdout, result.exit_code) == ("begun\n", 124)
    assert [(file.name, file.content) for file in result.output_files] == [("part.txt", b"half")]
    assert "Saved artifacts: `part.txt`" in result.stderr


def test_a_timeout_beyond_the_pools_is_told(make_executor: MakeExecutor) -> None:
    result = execute(make_executor(timeout_seconds=10**6), "1")
    assert "The code was not run" in result.stderr
    assert "limits.timeout" in result.stderr


def test_memory_is_limited_by_mem_limit(make_executor: MakeExecutor) -> None:
    code = "x = bytearray(300 << 20)\nprint(len(x))"
    assert execute(make_executor(mem_limit="512Mi"), code).stdout == f"{300 << 20}\n"
    held = f"{code}\nimport time; time.sleep(1000)"
    assert f"more than {128 << 20} bytes" in execute(make_executor(mem_limit="128Mi"), held).stderr
    refused = execute(make_executor(mem_limit="64Gi"), code)
    assert "limits.memory_bytes" in refused.stderr


def test_each_run_has_a_sandbox_of_its_own(make_executor: MakeExecutor) -> None:
    executor = make_executor()
    execute(executor, "x = 1\nopen('x', 'w').close()", session="s")
    result = execute(executor, "import os\nprint(os.listdir(), 'x' in globals())", session="s")
    assert result.stdout == "[] False\n"


# Files


@pytest.mark.parametrize("content", [base64.b64encode(b"a,\xff\n").decode(), b"a,\xff\n"])
def test_input_files_arrive(make_executor: MakeExecutor, content: str | bytes) -> None:
    result = execute(
        make_executor(),
        "print(open('in/a.csv', 'rb').read())",
        File(name="in/a.csv", content=content, mime_type="text/csv"),
    )
    assert result.stdout == "b'a,\\xff\\n'\n"
    assert result.output_files == [], "what came in is no output"


def test_text_that_is_no_base64_is_taken_as_it_is(make_executor: MakeExecutor) -> None:
    result = execute(make_executor(), "print(open('a').read())", File("a", "x,y\n1,ä"))
    assert result.stdout == "x,y\n1,ä\n"


def test_an_input_file_with_a_bad_path_is_told(make_executor: MakeExecutor) -> None:
    result = execute(make_executor(), "1", File("../../etc/x", b""))
    assert "files[0].path" in result.stderr


def test_new_and_changed_files_come_back_with_their_types(make_executor: MakeExecutor) -> None:
    code = """
import os
os.makedirs('out/.cache'); os.mkdir('__pycache__')
for path, content in {
    'plot.png': b'\\x89PNG', 'out/table.csv': b'a\\n', 'notes': 'ä'.encode(), 'raw': b'\\xff',
    'empty': b'', 'in.csv': b'changed', 'all.tar.gz': b'\\x1f', 'out/.cache/c': b'', '.h': b'',
    '__pycache__/m.pyc': b'', '/tmp/elsewhere': b'',
}.items():
    open(path, 'wb').write(content)
"""
    result = execute(make_executor(), code, File("in.csv", b"old"), File("same.csv", b"same"))
    assert result.output_files == [
        File("all.tar.gz", b"\x1f", "application/octet-stream"),
        File("empty", b"", "text/plain"),
        File("in.csv", b"changed", "text/csv"),
        File("notes", "ä".encode(), "text/plain"),
        File("out/table.csv", b"a\n", "text/csv"),
        File("plot.png", b"\x89PNG", "image/png"),
        File("raw", b"\xff", "application/octet-stream"),
    ]


def test_the_files_that_are_asked_for_come_back(make_executor: MakeExecutor) -> None:
    code = "for n in ('a.png', 'b.txt', '.c.png'): open(n, 'w').close()"
    result = execute(make_executor(output_paths=["*.png"]), code)
    assert [file.name for file in result.output_files] == ["a.png"]
    hidden = execute(make_executor(output_paths=[".*"]), code)
    assert [file.name for file in hidden.output_files] == [".c.png"]
    assert execute(make_executor(output_paths=[]), code).output_files == []


def test_files_that_do_not_fit_are_counted(make_executor: MakeExecutor) -> None:
    code = "for n in 'abc': open(n, 'wb').write(bytes(600))"
    result = execute(make_executor(output_file_bytes=1000), code)
    assert [file.name for file in result.output_files] == ["a"]
    assert "2 more files were left behind" in result.stdout


@pytest.mark.parametrize("stateful", [False, True])
def test_files_that_are_no_news_take_no_room(make_executor: MakeExecutor, stateful: bool) -> None:
    executor = make_executor(output_file_bytes=1000, stateful=stateful)
    given = File("in", bytes(900)), File("large", bytes(2000))
    code = "for n in ('.hidden', 'new'): open(n, 'wb').write(bytes(800))"
    result = execute(executor, code, *given, session="s")
    assert [file.name for file in result.output_files] == ["new"]
    assert result.stdout == ""
    code = "for n in ('in', 'z'): open(n, 'wb').write(bytes(400))"
    result = execute(executor, code, *given, session="s")
    assert [file.name for file in result.output_files] == ["in", "z"]
    assert result.stdout == ""


def test_a_file_that_is_left_behind_is_told_whatever_became_of_the_input(
    make_executor: MakeExecutor,
) -> None:
    executor = make_executor(output_file_bytes=1000, output_paths=["*.png"])
    code = "import os\nos.remove('in.png')\nopen('a.png', 'wb').write(bytes(2000))"
    result = execute(executor, code, File("in.csv", b"x"), File("in.png", b"x"))
    assert "1 more files were left behind" in result.stdout


def test_the_sandbox_cannot_choose_names_that_mean_something_to_artifact_services() -> None:
    hostile = {
        "user:x.txt": "user_x.txt",
        "a\\..\\b": "a_.._b",
        "metadata.json": "_metadata.json",
        "x/Versions/1": "x/_Versions/1",
        "versions. /1": "_versions./1",
        "a`\n.png": "a__.png",
        " ": "_",
        "C:x": "C_x",
        "/".join(["d" * 200] * 3 + ["deep.txt"]): "deep.txt",
        "user_x.txt": "user_x-2.txt",
    }
    named = files.as_artifacts((path, b"") for path in hostile)
    assert [file.name for file in named] == list(hostile.values())


# The service


def test_a_server_that_is_not_there_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with SandpoolCodeExecutor(address="127.0.0.1:1") as executor:
        result = execute(executor, "print('secret')")
    assert "The code was not run: cannot reach a Sandpool server at 127.0.0.1:1" in result.stderr
    assert result.exit_code is None
    assert "cannot reach" in caplog.text
    assert "secret" not in caplog.text


def test_a_pool_that_is_not_there_is_told(make_executor: MakeExecutor) -> None:
    executor = make_executor(image="i:1", pools={"i:1": "nosuch"})
    assert "nosuch" in execute(executor, "1").stderr


def test_waiting_for_a_sandbox_has_its_own_limit(make_executor: MakeExecutor) -> None:
    refused = execute(make_executor(queue_timeout_seconds=10**6), "1")
    assert "limits.queue_timeout" in refused.stderr


def test_an_error_of_another_kind_does_not_go_through_the_agent() -> None:
    with SandpoolCodeExecutor(address="ftp://x") as executor:
        assert "The code was not run: ValueError: address" in execute(executor, "1").stderr


def test_address_and_token_come_from_the_environment(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDPOOL_ADDRESS", server)
    monkeypatch.setenv("SANDPOOL_TOKEN", "a bad\ntoken")
    with SandpoolCodeExecutor() as executor:
        assert "SANDPOOL_TOKEN: " in execute(executor, "1").stderr
        monkeypatch.setenv("SANDPOOL_TOKEN", "good-enough")
        assert execute(executor, "print(1)").stdout == "1\n"


def test_its_token_is_not_shown() -> None:
    executor = SandpoolCodeExecutor(token="hidden", tls=TLS(certificate=b"shown", key=b"hidden"))
    assert "hidden" not in repr(executor) + str(executor.model_dump())


def test_the_servers_log_has_the_invocation(make_executor: MakeExecutor, client: Client) -> None:
    execute(make_executor(), "1")
    wanted = {"adk.agent.google.com/invocation-id": "e-1"}
    assert client.list_executions(labels=wanted)


# The model


def test_copies_go_on_by_themselves(make_executor: MakeExecutor) -> None:
    executor = make_executor(stateful=True)
    execute(executor, "x = 1", session="s")
    deep = copy.deepcopy(executor)
    thawed = pickle.loads(pickle.dumps(executor))
    for other in (deep, thawed):
        with other:
            assert "NameError" in execute(other, "print(x)", session="s").stderr
    # ADK's agent.clone() copies flat: the same executor for both agents.
    assert execute(executor.model_copy(), "print(x)", session="s").stdout == "1\n"


def _in_a_child(executor: SandpoolCodeExecutor, say: Connection) -> None:
    result = execute(executor, "print(1)", session="s")
    executor.close()
    say.send(result.stderr)


def test_a_forked_process_is_told_and_leaves_its_parents_connection(
    make_executor: MakeExecutor,
) -> None:
    executor = make_executor(stateful=True)
    execute(executor, "x = 1", session="s")
    heard, say = multiprocessing.Pipe()
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=_in_a_child, args=(executor, say))
    child.start()
    assert heard.poll(60)
    assert "before the process was forked" in heard.recv()
    child.join(60)
    assert child.exitcode == 0
    assert execute(executor, "print(x)", session="s").stdout == "1\n"


def _first_use_in_a_child(executor: SandpoolCodeExecutor, say: Connection) -> None:
    result = execute(executor, "print(1)", session="child")
    executor.close()
    say.send((result.stdout, result.stderr))


def test_an_executor_that_is_made_before_a_fork_works_in_the_children(
    make_executor: MakeExecutor, client: Client
) -> None:
    executor = make_executor(stateful=True)
    fork = multiprocessing.get_context("fork")
    for _ in range(2):
        heard, say = multiprocessing.Pipe()
        child = fork.Process(target=_first_use_in_a_child, args=(executor, say))
        child.start()
        assert heard.poll(60)
        assert heard.recv() == ("1\n", "")
        child.join(60)
        assert child.exitcode == 0
    assert client.list_sandboxes(labels={"adk.agent.google.com/session-id": "child"}) == []


def test_a_forked_process_does_not_wait_for_a_turn_of_its_parents(
    make_executor: MakeExecutor,
) -> None:
    executor = make_executor(stateful=True)
    execute(executor, "x = 1", session="s")
    [table] = executor._connection._sessions.values()
    [session] = table._by_key.values()
    heard, say = multiprocessing.Pipe()
    # Not by a run in another thread: gRPC may abort a child that was forked amid a call.
    with session.turn(0):
        child = multiprocessing.get_context("fork").Process(
            target=_in_a_child, args=(executor, say)
        )
        child.start()
        assert heard.poll(60)
    assert "before the process was forked" in heard.recv()
    child.join(60)
    assert child.exitcode == 0


def test_code_whose_session_is_closed_is_told_what_is_lost(
    make_executor: MakeExecutor, client: Client
) -> None:
    executor = make_executor(stateful=True)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(execute, executor, "while True: pass", session="s")
        while not client.list_executions(sandbox_id=sandbox_of(client, "s").sandbox_id):
            pass
        executor.close()
        assert "all variables are lost, and files may be." in running.result().stderr


def test_code_that_runs_when_it_is_closed_is_not_called_unrun(
    make_executor: MakeExecutor, client: Client
) -> None:
    executor = make_executor()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(execute, executor, "while True: pass", invocation="closed")
        labels = {"adk.agent.google.com/invocation-id": "closed"}
        while not client.list_executions(labels=labels):
            pass
        executor.close()
        assert "Nobody knows whether the code ran" in running.result().stderr


def test_a_copy_with_another_server_or_token_uses_that(
    make_executor: MakeExecutor, tmp_path: Path
) -> None:
    executor = make_executor(stateful=True)
    execute(executor, "x = 1", session="s")
    with Server(SMALL_POOL) as server:
        elsewhere = executor.model_copy(update={"address": server.address})
        assert "NameError" in execute(elsewhere, "x", session="s").stderr
        assert execute(executor.model_copy(), "x", session="s").stdout == "1\n"
    wrong = executor.model_copy(update={"token_file": str(tmp_path / "none")})
    assert "cannot be read" in execute(wrong, "1", session="s").stderr


@pytest.mark.parametrize("stateful", [False, True])
def test_ids_that_no_label_can_be_are_no_hindrance(
    make_executor: MakeExecutor, stateful: bool
) -> None:
    executor = make_executor(stateful=stateful)
    given = {"session": "a\nb" * 200, "invocation": "\0"}
    assert execute(executor, "print(1)", **given).stdout == "1\n"


def test_without_adk_the_import_says_what_to_install() -> None:
    source = "import sys; sys.modules['google.adk'] = None; import sandpool.adk"
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert "ImportError: sandpool.adk needs google-adk" in ended.stderr
    assert "install sandpool[adk]" in ended.stderr


def test_it_can_be_used_after_it_was_closed(make_executor: MakeExecutor) -> None:
    executor = make_executor()
    execute(executor, "1")
    executor.close()
    executor.close()
    assert execute(executor, "print(1)").stdout == "1\n"
