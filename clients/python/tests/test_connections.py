"""Connections that break while a program runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from relay import Relay

from sandpool import (
    CallCancelled,
    Client,
    ConnectionLost,
    OutputFile,
    Signaled,
    Started,
    Stdout,
    Unreachable,
)


def test_what_goes_on_is_resumed_without_a_byte_lost_or_doubled(
    relay: Relay, client: Client
) -> None:
    source = """
import os, time
for i in range(200):
    print(i, flush=True)
    while i % 40 == 20 and not os.path.exists(f"after-{i}"): time.sleep(0.01)
"""
    with (
        client.sandbox() as sandbox,
        Client(relay.address) as other,
        other.get_sandbox(sandbox.sandbox_id).execute(
            source, keep_after_disconnect=60, output_paths=["*"]
        ) as execution,
    ):
        cuts, started, heard = 0, 0, b""
        for event in execution:
            started += isinstance(event, Started)
            if isinstance(event, Stdout):
                heard += event.data
                # More of it is on its way, until it waits.
                if b"\n%d\n" % (40 * cuts + 10) in heard:
                    relay.cut()
                    sandbox.files.write(f"after-{40 * cuts + 20}", b"")
                    cuts += 1
        result = execution.result()
    assert cuts == 5
    assert started == 1
    assert result.stdout == "".join(f"{i}\n" for i in range(200))
    assert result.gaps == []


def test_files_come_whole_after_a_cut(relay: Relay) -> None:
    source = "for i in range(6): open(f'{i}.bin', 'wb').write(bytes([i]) * 700_000)"
    with (
        Client(relay.address) as client,
        client.execute(source, keep_after_disconnect=60, output_paths=["*.bin"]) as execution,
    ):
        for event in execution:
            if isinstance(event, OutputFile):
                relay.cut()
        result = execution.result()
    assert [file.path for file in result.files] == [f"{i}.bin" for i in range(6)]
    assert [file.content for file in result.files] == [bytes([i]) * 700_000 for i in range(6)]
    assert result.gaps == []


def test_a_resumed_program_takes_signals(relay: Relay) -> None:
    with (
        Client(relay.address) as client,
        client.execute_command(["sleep", "1000"], keep_after_disconnect=60) as execution,
    ):
        assert isinstance(next(execution), Started)
        relay.cut()
        with ThreadPoolExecutor(1) as threads:
            reading = threads.submit(execution.result)
            # Until it is attached again, the signal goes the way that was cut.
            while not execution._is_attached:
                pass
            while True:
                with suppress(ConnectionLost, Unreachable):
                    execution.signal(15)
                    break
            assert reading.result().outcome == Signaled(15, "SIGTERM")


def test_a_resumed_program_is_cancelled_by_whoever_says_so_meanwhile(relay: Relay) -> None:
    with (
        Client(relay.address) as client,
        client.execute_command(["sleep", "1000"], keep_after_disconnect=60) as execution,
    ):
        started = next(execution)
        assert isinstance(started, Started)
        with ThreadPoolExecutor(1) as threads:
            relay.cut()
            reading = threads.submit(execution.result)
            # Of the call that has just broken, or of the one that takes its place.
            execution.cancel()
            with pytest.raises(CallCancelled) as cancelled:
                reading.result()
        assert cancelled.value.execution_id == started.execution_id


def test_a_token_that_is_not_there_while_it_is_resumed_is_awaited(
    relay: Relay, client: Client, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("any")  # The server asks for none.
    source = """
import os, time
print(1, flush=True)
while not os.path.exists("go"): time.sleep(0.01)
print(2)
"""
    with (
        client.sandbox() as sandbox,
        Client(relay.address, token_file=token) as other,
        other.get_sandbox(sandbox.sandbox_id).execute(
            source, keep_after_disconnect=60
        ) as execution,
    ):
        assert isinstance(next(execution), Started)
        assert next(execution) == Stdout(b"1\n")
        token.unlink()
        relay.cut()
        with ThreadPoolExecutor(1) as threads:
            reading = threads.submit(execution.result)
            while execution._resumes < 2:
                pass
            token.write_text("any")
            sandbox.files.write("go", b"")
            assert reading.result().stdout == "1\n2\n"


def test_what_may_have_run_is_never_called_unsent(relay: Relay) -> None:
    with (
        Client(relay.address) as client,
        client.execute_command(["sleep", "1000"], keep_after_disconnect=1) as execution,
    ):
        started = next(execution)
        assert isinstance(started, Started)
        relay.close()
        with pytest.raises(ConnectionLost) as lost:
            execution.result()
        assert lost.value.execution_id == started.execution_id


def test_many_cancelled_calls_leave_the_others_alone(client: Client) -> None:
    with client.sandbox() as sandbox:
        source = "open('there', 'w').close(); input()"
        with sandbox.execute(source, stdin_open=True) as execution:
            assert isinstance(next(execution), Started)
            for _ in range(100):
                sandbox.execute_command(["true"]).cancel()
            execution.close_stdin()
            assert execution.result().exit_code == 1


def test_what_does_not_go_on_is_lost_and_not_run_again(relay: Relay, client: Client) -> None:
    with Client(relay.address) as other:
        with other.execute("import time; time.sleep(1000)") as execution:
            started = next(execution)
            assert isinstance(started, Started)
            relay.cut()
            with pytest.raises(ConnectionLost) as lost:
                execution.result()
        assert lost.value.execution_id == started.execution_id
        # The same client makes a new connection. Until gRPC has let go of the broken one, which it
        # does some time after it has told its calls, it may still give calls to that.
        while True:
            with suppress(ConnectionLost):
                assert other.run("print(1)").stdout == "1\n"
                break
