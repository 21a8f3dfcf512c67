"""Sandboxes and contexts whose making goes wrong on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest
from relay import Relay
from servers import SMALL_POOL, Server

from sandpool import Client, ConnectionLost, Sandbox, Started
from sandpool.aio import AsyncClient


async def until(is_so: Callable[[], Awaitable[object]]) -> None:
    while not await is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_a_cancelled_creation_leaves_no_sandbox(server: str) -> None:
    async with AsyncClient(server) as client:
        for turns in range(20):
            making = asyncio.create_task(client.sandbox(labels={"of": "cancelled"}))
            for _ in range(turns):
                await asyncio.sleep(0)
            if making.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await making
            else:  # It was quicker.
                await (await making).delete()
    async with AsyncClient(server) as client:
        assert await client.list_sandboxes(labels={"of": "cancelled"}) == []


async def test_a_creation_whose_answer_comes_too_late_leaves_no_sandbox(
    server: str, relay: Relay
) -> None:
    labels = {"of": "late"}
    async with AsyncClient(server) as direct:
        async with AsyncClient(relay.address) as client:
            await client.server_info()
            relay.hold_answers()
            making = asyncio.create_task(client.sandbox(labels=labels))
            await until(lambda: direct.list_sandboxes(labels=labels))
            relay.let_answers_follow()
            making.cancel()
            with pytest.raises(asyncio.CancelledError):
                await making
        assert await direct.list_sandboxes(labels=labels) == []


async def test_a_context_whose_answer_comes_too_late_is_ended(server: str, relay: Relay) -> None:
    async with AsyncClient(server) as direct, await direct.sandbox() as sandbox:
        async with AsyncClient(relay.address) as client:
            same = await client.get_sandbox(sandbox.sandbox_id)
            relay.hold_answers()
            making = asyncio.create_task(same.context())
            await until(sandbox.list_contexts)
            relay.let_answers_follow()
            making.cancel()
            with pytest.raises(asyncio.CancelledError):
                await making

        async def have_finished() -> bool:
            return all(it.HasField("finished") for it in await sandbox.list_contexts())

        await until(have_finished)


@contextmanager
def made_without_an_answer(
    server: str, relay: Relay, labels: dict[str, str]
) -> Iterator[tuple[Future[Sandbox], Sandbox]]:
    """A creation on its way, and the sandbox that it has made."""
    with (
        Client(server) as direct,
        Client(relay.address) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        client.server_info()
        relay.hold_answers()
        making = threads.submit(client.sandbox, labels=labels)
        while not (made := direct.list_sandboxes(labels=labels)):
            pass
        yield making, made[0]
        made[0].delete()
        assert direct.list_sandboxes(labels=labels) == []


def test_a_creation_whose_answer_is_lost_is_found(server: str, relay: Relay) -> None:
    with made_without_an_answer(server, relay, {"of": "lost"}) as (making, made):
        relay.cut()
        assert making.result().sandbox_id == made.sandbox_id


async def test_creations_are_found_however_long_grpc_keeps_a_broken_connection(server: str) -> None:
    async with AsyncClient(server) as direct:
        for number in range(10):
            labels = {"of": f"kept-{number}"}
            relay = Relay(server)
            async with AsyncClient(relay.address) as client:
                await client.server_info()
                relay.hold_answers()
                making = asyncio.create_task(client.sandbox(labels=labels))
                await until(partial(direct.list_sandboxes, labels=labels))
                relay.cut()
                await (await making).delete()
            relay.close()
            assert await direct.list_sandboxes(labels=labels) == []


def test_a_creation_is_lost_with_its_server(server: str, relay: Relay) -> None:
    with made_without_an_answer(server, relay, {"of": "nobody"}) as (making, _):
        relay.close()
        # And not that it was safe to repeat.
        with pytest.raises(ConnectionLost):
            making.result()


async def test_a_creation_that_waits_is_given_up_with_its_caller() -> None:
    async def until_queued(client: AsyncClient, count: int) -> None:
        async def is_queued() -> bool:
            return (await client.get_pool("default")).counts.queued == count

        await until(is_queued)

    two = SMALL_POOL.replace("max_sandboxes = 64", "max_sandboxes = 2").replace("64", "2")
    with Server(two) as server:
        async with (
            AsyncClient(server.address) as client,
            await client.sandbox() as sandbox,
            await client.execute_command(["sleep", "1000"]) as other,
        ):
            assert isinstance(await anext(other), Started)
            async with AsyncClient(server.address) as waiting:
                making = asyncio.create_task(waiting.sandbox(queue_timeout=60))
                await until_queued(client, 1)
                making.cancel()
            # The other client is closed, while both sandboxes are still taken.
            await until_queued(client, 0)
            assert (await sandbox.run("print(1)")).ok
