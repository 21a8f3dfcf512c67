"""What tests share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from relay import Relay
from servers import POOL, Server

from sandpool import Client
from sandpool.aio import AsyncClient


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server: that of SANDPOOL_ADDRESS, or of one that is started here."""
    if address := os.environ.get("SANDPOOL_ADDRESS"):
        yield address
        return
    with Server(POOL) as server:
        yield server.address


@pytest.fixture
def relay(server: str) -> Iterator[Relay]:
    relay = Relay(server)
    yield relay
    relay.close()


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@pytest_asyncio.fixture
async def async_client(server: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server) as client:
        yield client
