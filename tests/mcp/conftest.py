"""What tests share."""

import pytest
from sessions import Server


@pytest.fixture(scope="session")
def server():
    with Server() as server:
        yield server


@pytest.fixture
def anyio_backend():
    return "asyncio"
