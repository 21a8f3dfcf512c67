"""The client for asyncio."""

from __future__ import annotations

import asyncio
import sys

import pytest

from sandpool import CallCancelled, Cancelled, InvalidArgument, SandpoolError, Started, Stdout
from sandpool.aio import AsyncClient


async def test_programs_run_at_once(async_client: AsyncClient) -> None:
    results = await asyncio.gather(*(async_client.run(f"print({n})") for n in range(10)))
    assert [result.stdout for result in results] == [f"{n}\n" for n in range(10)]


async def test_input_and_output_stream_both_ways(async_client: AsyncClient) -> None:
    source = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"
    async with await async_client.execute(source, stdin_open=True) as execution:
        await execution.write("word\n")
        said = b""
        async for event in execution:
            if isinstance(event, Stdout):
                said += event.data
                if said == b"WORD\n":
                    await execution.close_stdin()
        assert (await execution.result()).ok


async def test_sandboxes_have_files_and_contexts(async_client: AsyncClient) -> None:
    async with await async_client.sandbox(files={"a": "1"}) as sandbox:
        assert await sandbox.files.read("a") == b"1"
        assert [part async for part in sandbox.files.stream("a")] == [b"1"]
        await sandbox.files.write("b", b"2")
        async with await sandbox.context() as context:
            await context.run("x = open('b').read()")
            assert (await context.run("x")).displays[0].text == "'2'"


async def test_a_cancelled_task_cancels_its_program(async_client: AsyncClient) -> None:
    async with await async_client.sandbox() as sandbox:
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            source = "import time; time.sleep(1000)"
            async with await sandbox.execute(source) as execution:
                async for event in execution:
                    if isinstance(event, Started):
                        started.set_result(event.execution_id)

        task = asyncio.create_task(run())
        execution_id = await started
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ended = await (await async_client.attach(execution_id)).result()
        assert isinstance(ended.outcome, Cancelled)


async def test_a_cancelled_run_cancels_its_program(async_client: AsyncClient) -> None:
    async with await async_client.sandbox() as sandbox:
        execution_id = f"cancelled-{id(sandbox)}"
        source = "open('there', 'w').close(); import time; time.sleep(1000)"
        task = asyncio.create_task(sandbox.run(source, execution_id=execution_id))
        waits = "import os, time\nwhile not os.path.exists('there'): time.sleep(0.01)"
        await sandbox.run(waits)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ended = await (await async_client.attach(execution_id)).result()
        assert isinstance(ended.outcome, Cancelled)


async def test_a_refused_request_names_the_field(async_client: AsyncClient) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await async_client.run("1", timeout=1e9)
    assert refused.value.violations[0].field == "start.limits.timeout"


def test_a_client_belongs_to_one_loop(server: str) -> None:
    client = AsyncClient(server)

    async def run() -> str:
        return (await client.run("print(1)")).stdout

    assert asyncio.run(run()) == "1\n"
    with pytest.raises(SandpoolError, match="event loop"):
        asyncio.run(run())


async def test_programs_that_end_before_their_input_was_read_have_their_result(
    async_client: AsyncClient,
) -> None:
    async with await async_client.sandbox() as sandbox:
        for _ in range(100):
            result = await sandbox.run_command(["echo", "x"], stdin="abc")
            assert result.stdout == "x\n"


async def test_a_call_that_another_task_cancels_is_no_cancelled_task(
    async_client: AsyncClient,
) -> None:
    async with await async_client.execute_command(["sleep", "1000"]) as execution:
        assert isinstance(await anext(execution), Started)
        reading = asyncio.create_task(execution.result())
        await asyncio.sleep(0)
        execution.cancel()
        expected = CallCancelled if sys.version_info >= (3, 11) else asyncio.CancelledError
        with pytest.raises(expected):
            await reading


async def test_code_whose_client_is_closed_may_have_run(server: str) -> None:
    client = AsyncClient(server)
    execution = await client.execute("while True: pass")
    await client.close()
    with pytest.raises(CallCancelled, match="closed"):
        await execution.result()


async def test_a_start_that_is_cancelled_leaves_no_task(server: str) -> None:
    async with AsyncClient(server) as client:
        await client.run("print(1)")
        before = asyncio.all_tasks()
        for _ in range(50):
            starting = asyncio.create_task(client.execute("print(1)"))
            await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
        # Those of the calls end as their cancelling does.
        if left := asyncio.all_tasks() - before:
            _, left = await asyncio.wait(left, timeout=60)
        assert not left
