"""Programs that run whole."""

from __future__ import annotations

import re

import pytest

from sandpool import (
    Client,
    ExecutionFailed,
    Exited,
    InvalidArgument,
    NotStarted,
    OutOfMemory,
    OutputLimit,
    Signaled,
    TimedOut,
)


def test_a_program_has_its_arguments_input_environment_and_files(client: Client) -> None:
    source = (
        "import os, sys\n"
        "print(sys.argv[1:], sys.stdin.read(), os.environ['WHO'], open('sub/in').read())\n"
        "open('out.bin', 'wb').write(bytes(range(256)) * 1000)\n"
        "print('warned', file=sys.stderr)\n"
    )
    result = client.run(
        source,
        args=["a", "b"],
        stdin="typed ü",
        env={"WHO": "me"},
        files={"sub/in": "filed ß"},
        output_paths=["*.bin"],
        labels={"task": "test"},
    ).check()
    assert result.stdout == "['a', 'b'] typed ü me filed ß\n"
    assert result.stderr == "warned\n"
    assert [(file.path, file.content) for file in result.files] == [
        ("out.bin", bytes(range(256)) * 1000)
    ]
    assert result.ok
    assert result.outcome == Exited(0)
    assert result.execution_id
    assert result.sandbox_id
    assert result.pool == "default"
    assert result.timings.started is not None
    assert result.usage.stdout_bytes == len(result.stdout_bytes)


def test_other_languages_and_commands_run(client: Client) -> None:
    assert client.run("echo $((6 * 7))", language="bash").stdout == "42\n"
    assert client.run_command(["cat"], stdin=b"\xff\x00").stdout_bytes == b"\xff\x00"


@pytest.mark.parametrize(
    ("source", "options", "outcome"),
    [
        ("raise SystemExit(7)", {}, Exited(7)),
        ("import os; os.kill(os.getpid(), 9)", {}, Signaled(9, "SIGKILL")),
        ("while True: pass", {"timeout": 3}, TimedOut(3)),
        (
            "x = b'x' * (200 << 20)\nwhile True: pass",
            {"memory_bytes": 100 << 20},
            OutOfMemory(100 << 20),
        ),
        ("while True: print('x' * 1000)", {"output_bytes": 5000}, OutputLimit(5000)),
    ],
)
def test_every_end_is_told(
    client: Client, source: str, options: dict[str, float], outcome: object
) -> None:
    result = client.run("print('before', flush=True)\n" + source, **options)  # type: ignore[arg-type]
    assert result.outcome == outcome
    assert result.stdout.startswith("before\n")
    assert not result.ok
    with pytest.raises(ExecutionFailed, match=re.escape(str(outcome))):
        result.check()


def test_what_cannot_be_started_is_told(client: Client) -> None:
    result = client.run_command(["/no/such/program"])
    assert isinstance(result.outcome, NotStarted)
    assert result.exit_code is None
    assert "no/such/program" in str(result.outcome)


def test_what_is_no_utf8_is_there_as_bytes(client: Client) -> None:
    result = client.run("import sys; sys.stdout.buffer.write(b'a\\xffb')")
    assert result.stdout_bytes == b"a\xffb"
    assert result.stdout == "a\ufffdb"


def test_a_million_lines_come_whole(client: Client) -> None:
    result = client.run_command(["seq", "1000000"])
    assert result.stdout.splitlines() == [str(i + 1) for i in range(1_000_000)]


def test_code_of_5_mb_runs(client: Client) -> None:
    source = "x = '" + "y" * 5_000_000 + "'\nprint(len(x))"
    assert client.run(source).stdout == "5000000\n"


def test_input_of_megabytes_arrives(client: Client) -> None:
    source = "import sys; print(len(sys.stdin.buffer.read()))"
    assert client.run(source, stdin=b"x" * 3_000_000).stdout == "3000000\n"


def test_a_program_that_does_not_read_its_input_ends(client: Client) -> None:
    assert client.run("print(1)", stdin=b"x" * 10_000_000).stdout == "1\n"


def test_a_refused_request_names_field_value_and_remedy(client: Client) -> None:
    with pytest.raises(InvalidArgument) as refused:
        client.run("1", timeout=1e9)
    assert [violation.field for violation in refused.value.violations] == ["start.limits.timeout"]
    assert "maximum" in refused.value.violations[0].description
    with pytest.raises(InvalidArgument, match="nowhere"):
        client.run("1", pool="nowhere")
    with pytest.raises(InvalidArgument) as refused:
        client.run("1", language="cobol")
    assert refused.value.violations[0].field == "start.code.language"


def test_what_cannot_be_sent_is_refused_here(client: Client) -> None:
    with pytest.raises(TypeError, match="code: a str"):
        client.run(b"print(1)")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="args: a list"):
        client.run_command("ls -l")
    with pytest.raises(TypeError, match="output_paths"):
        client.run("1", output_paths="*.png")
    with pytest.raises(TypeError, match="colour"):
        client.run("1", colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"timeout: nan"):
        client.run("1", timeout=float("nan"))


def test_an_id_runs_once(client: Client) -> None:
    source = "import random; print(random.random())"
    execution_id = f"once-{id(client)}"
    first = client.run(source, execution_id=execution_id)
    again = client.run(source, execution_id=execution_id)
    assert first.execution_id == again.execution_id == execution_id
    assert first.stdout == again.stdout
    assert client.attach(execution_id).result().stdout == first.stdout
    listed = [execution.execution_id for execution in client.list_executions()]
    assert execution_id in listed
