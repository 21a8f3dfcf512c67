"""Programs whose events come as they happen."""

from __future__ import annotations

import threading

from sandpool import Cancelled, Client, Exited, Options, Signaled, Started, Stderr, Stdout


def test_input_and_output_stream_both_ways(client: Client) -> None:
    source = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"
    heard = b""
    with client.execute(source, stdin_open=True) as execution:
        assert isinstance(next(execution), Started)
        for word in ("one", "two", "three"):
            execution.write(word + "\n")
            expected = word.upper().encode() + b"\n"
            part = b""
            while part != expected:
                event = next(execution)
                assert isinstance(event, Stdout)
                part += event.data
            heard += part
        execution.close_stdin()
        assert list(execution) == []
        result = execution.result()
    assert result.outcome == Exited(0)
    assert result.stdout_bytes == heard == b"ONE\nTWO\nTHREE\n"


def test_streams_are_kept_apart(client: Client) -> None:
    source = "import sys; print('out'); print('err', file=sys.stderr)"
    with client.execute(source) as execution:
        events = list(execution)
    assert b"".join(e.data for e in events if isinstance(e, Stdout)) == b"out\n"
    assert b"".join(e.data for e in events if isinstance(e, Stderr)) == b"err\n"


def test_a_signal_reaches_the_program(client: Client) -> None:
    with client.execute_command(["sleep", "1000"]) as execution:
        assert isinstance(next(execution), Started)
        execution.signal(15)
        assert execution.result().outcome == Signaled(15, "SIGTERM")


def test_a_terminal_s_input_ends_where_the_program_may_go_on(client: Client) -> None:
    options: Options = {"terminal": (24, 80), "keep_after_disconnect": 60}
    assert "b'typed" in client.run("print(input().encode())", stdin="typed\n", **options).stdout
    assert "EOFError" in client.run("input()", **options).stdout


def test_a_terminal_has_its_size(client: Client) -> None:
    source = "stty size; read -r _; stty size"
    with client.execute(source, language="bash", terminal=(30, 100)) as execution:
        shown = b""
        for event in execution:
            if isinstance(event, Stdout):
                shown += event.data
                if shown.endswith(b"30 100\r\n"):
                    execution.resize(40, 120)
                    execution.write("\r")
        assert b"40 120" in shown


def test_leaving_a_program_cancels_it(client: Client) -> None:
    with client.sandbox() as sandbox:
        with sandbox.execute("import time; print(1, flush=True); time.sleep(1000)") as execution:
            started = next(execution)
            assert isinstance(started, Started)
        left = sandbox.run("print(2)")
        assert left.stdout == "2\n"
        ended = client.attach(started.execution_id).result()
        assert isinstance(ended.outcome, Cancelled)


def test_writers_do_not_hang_when_the_program_ends(client: Client) -> None:
    with client.execute("print(1)", stdin_open=True) as execution:
        writer = threading.Thread(target=lambda: execution.write(b"x" * 50_000_000))
        writer.start()
        assert execution.result().stdout == "1\n"
        writer.join()
        execution.write("too late")


def test_many_threads_share_a_client(client: Client) -> None:
    said: dict[int, str] = {}

    def run(number: int) -> None:
        said[number] = client.run(f"print({number})").stdout

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {number: f"{number}\n" for number in range(20)}
