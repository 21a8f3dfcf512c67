"""A real server with real sandboxes: the one of SANDPOOL_ADDRESS, or one that is started here."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandpool import Client

ROOT = Path(__file__).parents[3]
CONFIG = """
listen = "127.0.0.1:0"
[pools.default]
min_idle = 4
max_sandboxes = 16
limits.default.timeout = "20s"
named.max_per_caller = 64
languages.python.interpreter = "/usr/bin/python3"
languages.bash = {}
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server."""
    if address := os.environ.get("SANDPOOL_ADDRESS"):
        yield address
        return
    config = tmp_path_factory.mktemp("server") / "sandpool.toml"
    config.write_text(CONFIG)
    program = os.environ.get("SANDPOOL_PROGRAM", str(ROOT / "target/debug/sandpool"))
    with subprocess.Popen(
        [program, "serve", "--config", config], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = ""
        for line in process.stdout:
            if line.startswith("listening on "):
                address = line.split()[-1]
            if line.startswith("ready"):
                break
        try:
            assert address, "the server has ended"
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server) as client:
        yield client
