"""stateful=True: each session of ADK's has a Python of its own, which keeps what code leaves."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import cast

import grpc
import pytest
from google.adk.code_executors.code_execution_utils import File
from servers import POOL, Server

from sandpool import Client, InvalidArgument, Sandbox
from sandpool.adk import SandpoolCodeExecutor, sessions

from .conftest import MakeExecutor, execute, sandbox_of

FIGURE = """
import matplotlib.pyplot as plt
print('before', end='')
plt.plot([1, 2])
plt.show()
print('after')
"""


@pytest.fixture
def executor(make_executor: MakeExecutor) -> SandpoolCodeExecutor:
    return make_executor(stateful=True)


def test_a_session_keeps_variables_and_files(executor: SandpoolCodeExecutor) -> None:
    execute(executor, "x = 20\nopen('f', 'w').write('kept')", session="s")
    result = execute(executor, "print(x + 1, open('f').read())", session="s")
    assert (result.stdout, result.stderr, result.exit_code) == ("21 kept\n", "", 0)


@pytest.mark.parametrize("other", [{"session": "t"}, {"user": "v"}, {"app": "b"}])
def test_sessions_users_and_apps_do_not_share(
    executor: SandpoolCodeExecutor, other: dict[str, str]
) -> None:
    execute(executor, "secret = 1", session="s")
    assert "NameError" in execute(executor, "secret", **{"session": "s", **other}).stderr


def test_code_without_an_execution_id_runs_alone(executor: SandpoolCodeExecutor) -> None:
    execute(executor, "x = 1")
    assert "NameError" in execute(executor, "x").stderr


def test_an_exception_is_told_with_its_traceback_and_the_state_is_kept(
    executor: SandpoolCodeExecutor,
) -> None:
    result = execute(executor, "x = 1\nprint('so far')\n1 / 0", session="s")
    assert "line 3" in result.stderr
    assert "ZeroDivisionError: division by zero\n--- stdout ---\nso far\n" in result.stderr
    assert (result.stdout, result.exit_code) == ("so far\n", 1)
    assert execute(executor, "print(x)", session="s").stdout == "1\n"


def test_a_timeout_leaves_the_state(make_executor: MakeExecutor) -> None:
    executor = make_executor(stateful=True, timeout_seconds=3)
    result = execute(executor, "x = 1\nprint('begun')\nwhile True: pass", session="s")
    assert "timed out after 3 s" in result.stderr
    assert "The session's variables are kept." in result.stderr
    assert "--- stdout ---\nbegun" in result.stderr
    assert execute(executor, "print(x)", session="s").stdout == "1\n"


def test_the_value_of_the_last_expression_is_shown(executor: SandpoolCodeExecutor) -> None:
    assert execute(executor, "print('a', end='')\n6 * 7", session="s").stdout == "a\n42\n"


def test_figures_come_back_as_files_in_their_place(executor: SandpoolCodeExecutor) -> None:
    execute(executor, "1", session="s")
    result = execute(executor, FIGURE, session="s")
    (figure,) = result.output_files
    assert (figure.name, figure.mime_type) == ("figure-2-1.png", "image/png")
    assert isinstance(figure.content, bytes)
    assert figure.content.startswith(b"\x89PNG")
    assert result.stdout == "before\n<Figure size 640x480 with 1 Axes>\nafter\n"


def test_only_files_that_are_new_come_back(executor: SandpoolCodeExecutor) -> None:
    first = execute(executor, "open('a', 'w').write('1')", File("in", b"i"), session="s")
    assert [file.name for file in first.output_files] == ["a"]
    second = execute(executor, "open('b', 'w').write('2')", File("in", b"i"), session="s")
    assert [file.name for file in second.output_files] == ["b"]
    third = execute(executor, "open('a', 'w').write('3')", session="s")
    assert [(file.name, file.content) for file in third.output_files] == [("a", b"3")]


def test_an_input_file_that_comes_again_does_not_undo_what_was_made_of_it(
    executor: SandpoolCodeExecutor,
) -> None:
    changed = execute(executor, "open('in', 'a').write('+')", File("in", b"old"), session="s")
    assert [(file.name, file.content) for file in changed.output_files] == [("in", b"old+")]
    again = execute(executor, "open('in').read()", File("in", b"old"), session="s")
    assert (again.stdout, again.output_files) == ("'old+'\n", [])
    assert execute(executor, "open('in').read()", File("in", b"new"), session="s").stdout == (
        "'new'\n"
    )


def test_a_lost_sandbox_is_replaced_and_told(
    executor: SandpoolCodeExecutor, client: Client
) -> None:
    execute(executor, "x = 1", File("in", b"i"), session="lost-1")
    sandbox_of(client, "lost-1").delete()
    result = execute(executor, "print('in', open('in').read())", File("in", b"i"), session="lost-1")
    assert result.exit_code == 0
    assert result.stdout == "in i\n", "input files are there again"
    notice, *rest = result.stderr.splitlines()
    assert notice.startswith("The session's sandbox was gone (")
    assert "deleted by its caller" in notice
    assert "All variables and files of earlier code are lost." in notice
    assert rest == [
        "The code was run without it, and exited with code 0.",
        "--- stdout ---",
        "in i",
    ]
    assert execute(executor, "print(1)", session="lost-1").stdout == "1\n", "it is told once"


def test_a_failure_after_a_loss_begins_with_the_notice(
    executor: SandpoolCodeExecutor, client: Client
) -> None:
    execute(executor, "x = 1", session="lost-2")
    sandbox_of(client, "lost-2").delete()
    result = execute(executor, "print(x)", session="lost-2")
    assert result.stderr.startswith("The session's sandbox was gone (")
    assert "NameError" in result.stderr


def test_a_sandbox_that_was_idle_for_too_long_is_gone_and_told(
    make_executor: MakeExecutor, client: Client
) -> None:
    executor = make_executor(stateful=True, idle_timeout_seconds=3)
    execute(executor, "x = 1", session="idle")
    end = threading.Event()
    while client.list_sandboxes(labels={"adk.agent.google.com/session-id": "idle"}):
        end.wait(0.1)
    result = execute(executor, "print('x' in globals())", session="idle")
    assert "nothing was done in the sandbox for 3s" in result.stderr.splitlines()[0]
    assert result.stdout == "False\n"


def test_an_idle_timeout_is_the_sandboxes(make_executor: MakeExecutor, client: Client) -> None:
    execute(make_executor(stateful=True, idle_timeout_seconds=77), "1", session="idle-77")
    assert sandbox_of(client, "idle-77").idle_timeout == 77


def test_a_session_whose_code_is_silent_for_long_is_not_idle(make_executor: MakeExecutor) -> None:
    executor = make_executor(stateful=True, idle_timeout_seconds=4, timeout_seconds=20)
    result = execute(executor, "import time\nx = 1\ntime.sleep(6)", session="s")
    assert (result.stderr, result.exit_code) == ("", 0)
    assert execute(executor, "print(x)", session="s").stdout == "1\n"


def test_code_whose_sandbox_is_deleted_is_not_promised_its_files(
    executor: SandpoolCodeExecutor, client: Client
) -> None:
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(execute, executor, "while True: pass", session="gone")
        sandbox = sandbox_of(client, "gone")
        while not client.list_executions(sandbox_id=sandbox.sandbox_id):
            pass
        sandbox.delete()
        told = running.result().stderr
    assert "deleted by its caller" in told
    assert "all variables are lost, and files may be." in told


def test_code_that_ends_its_python_is_told_what_is_lost(executor: SandpoolCodeExecutor) -> None:
    execute(executor, "x = 1\nopen('f', 'w').close()", session="s")
    result = execute(executor, "import os\nos._exit(7)", session="s")
    assert "exited with code 7" in result.stderr
    assert "all variables are lost, files are still there" in result.stderr
    following = execute(executor, "import os\nprint('x' in globals(), os.listdir())", session="s")
    assert (following.stdout, following.stderr) == ("False ['f']\n", "")
    quiet = execute(executor, "import os\nos._exit(0)", session="s")
    assert quiet.stderr == ""
    assert "all variables are lost" in quiet.stdout


def test_code_that_kills_its_sandbox_is_not_run_again(executor: SandpoolCodeExecutor) -> None:
    result = execute(executor, "import os\nos.kill(1, 9)\nwhile True: pass", session="s")
    assert "the sandbox was lost" in result.stderr
    assert "All variables and files of the session are lost." in result.stderr
    assert execute(executor, "print(1)", session="s").stdout == "1\n", "and it goes on"


def test_mem_limit_chooses_a_pool(make_executor: MakeExecutor) -> None:
    with pytest.raises(ValueError, match=r"pools\.NAME\.limits\.max\.memory"):
        make_executor(stateful=True, mem_limit="1Gi")
    executor = make_executor(stateful=True, mem_limit="1Gi", pools={"mem_limit=1Gi": "default"})
    assert execute(executor, "1", session="s").stdout == "1\n"


def test_a_session_that_goes_on_keeps_its_sandbox(
    make_executor: MakeExecutor, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make_executor(stateful=True, lifetime_seconds=600)
    execute(executor, "1", session="long")
    before = sandbox_of(client, "long").expire_time
    execute(executor, "1", session="long")
    assert sandbox_of(client, "long").expire_time == before, "half of it is left"
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 301)
    monkeypatch.setattr("sandpool.adk.sessions.time", later)
    execute(executor, "1", session="long")
    assert sandbox_of(client, "long").expire_time > before


def test_runs_of_one_session_come_one_after_the_other(executor: SandpoolCodeExecutor) -> None:
    execute(executor, "n = 0", session="s")
    code = "m = n\nimport time; time.sleep(0.01)\nn = m + 1"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: execute(executor, code, session="s"), range(16)))
    assert execute(executor, "n", session="s").stdout == "16\n"


def test_close_deletes_the_sandboxes(executor: SandpoolCodeExecutor, client: Client) -> None:
    execute(executor, "1", session="closed")
    sandbox = sandbox_of(client, "closed")
    executor.close()
    assert sandbox.sandbox_id not in [each.sandbox_id for each in client.list_sandboxes()]
    result = execute(executor, "print(1)", session="closed")
    assert "the executor was closed" in result.stderr


def test_close_leaves_nothing_of_a_session_that_begins(client: Client) -> None:
    one = POOL.replace("max_sandboxes = 64", "max_sandboxes = 1").replace("= 64", "= 1")
    with (
        Server(one.replace("min_idle = 4", "min_idle = 1")) as server,
        Client(server.address) as client,
        SandpoolCodeExecutor(address=server.address, stateful=True) as executor,
        ThreadPoolExecutor(2) as threads,
    ):
        execute(executor, "1", session="first")
        executor.close()
        with client.execute_command(["sleep", "1000"]) as other:
            next(other)
            beginning = threads.submit(execute, executor, "print(1)", session="second")
            while client.get_pool("default").counts.queued == 0:
                pass
            [table] = executor._connection._sessions.values()
            session = [*table._by_key.values()][-1]
            closing = threads.submit(executor.close)
            while session._closed is None:
                pass
        closing.result()
        assert "the executor was closed" in beginning.result().stderr
        assert client.list_sandboxes() == []
        assert execute(executor, "print(1)", session="second").stdout == "1\n"


def test_a_life_is_prolonged_up_to_the_server_s_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sandbox that is none: hours cannot pass in a test."""
    now, end, asked = 0.0, 3600.0, 0

    class Aging:
        def extend(self, lifetime: float) -> None:
            nonlocal end, asked
            asked += 1
            if now + lifetime > 2 * 3600:
                raise InvalidArgument("too much")
            end = max(end, now + lifetime)

    monkeypatch.setattr("sandpool.adk.sessions.time", SimpleNamespace(monotonic=lambda: now))
    life = sessions._Life(3600)
    while now < end:
        life.prolong(cast(Sandbox, Aging()), longest=300)
        now += 60
    assert 2 * 3600 - 60 < end <= 2 * 3600
    assert asked < 30


def test_a_server_that_was_started_again_is_a_loss() -> None:
    with Server(POOL) as first:
        address = first.address
        executor = SandpoolCodeExecutor(address=address, stateful=True)
        execute(executor, "x = 1", session="s")
    with executor:
        assert "The code was not run" in execute(executor, "x", session="s").stderr
        with Server(POOL, address):
            # gRPC has refused a call, and refuses others for a while before it tries again.
            [client] = executor._connection._clients.values()
            grpc.channel_ready_future(client._transport._channel).result()
            result = execute(executor, "print('x' in globals())", session="s")
            assert "The session's sandbox was gone" in result.stderr
            assert result.stdout.endswith("False\n")


def test_too_many_sessions_are_told(make_executor: MakeExecutor) -> None:
    few = POOL.replace("per_caller = 64", "per_caller = 1")
    with Server(few) as server:
        executor = make_executor(address=server.address, stateful=True)
        execute(executor, "1", session="first")
        result = execute(executor, "1", session="second")
        assert "The code was not run" in result.stderr
        assert "named.max_per_caller" in result.stderr
        executor.close()


def test_the_table_of_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_MAX_SESSIONS", 2)
    table = sessions.Sessions()
    oldest, second = table.of("a"), table.of("b")
    assert table.of("a") is oldest, "and now b is the oldest"
    table.of("c")
    assert table.of("a") is oldest
    assert table.of("b") is not second


def test_fifty_sessions_at_once_keep_apart(make_executor: MakeExecutor) -> None:
    executor = make_executor(stateful=True, queue_timeout_seconds=300)
    together = threading.Barrier(50)

    def use(number: int) -> str:
        together.wait(60)
        execute(executor, f"mine = {number}", session=f"many-{number}")
        together.wait(300)
        return execute(executor, "print(mine)", session=f"many-{number}").stdout

    with ThreadPoolExecutor(50) as threads:
        said = list(threads.map(use, range(50)))
    assert said == [f"{number}\n" for number in range(50)]
    executor.close()


def test_fifty_runs_at_once_are_all_answered(make_executor: MakeExecutor) -> None:
    executor = make_executor(queue_timeout_seconds=300)
    together = threading.Barrier(50)

    def use(number: int) -> str:
        together.wait(60)
        return execute(executor, f"print({number})").stdout

    with ThreadPoolExecutor(50) as threads:
        said = list(threads.map(use, range(50)))
    assert said == [f"{number}\n" for number in range(50)]
