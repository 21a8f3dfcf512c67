"""Real servers with real sandboxes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

ROOT = Path(__file__).parents[3]
POOL = """
[pools.default]
min_idle = 4
max_sandboxes = 64
limits.default.timeout = "20s"
limits.default.queue_timeout = "60s"
named.max_per_caller = 64
languages.python.interpreter = "/usr/bin/python3"
languages.bash = {}
"""
SMALL_POOL = POOL.replace("min_idle = 4", "min_idle = 1")


class Server:
    """`sandpool serve`, warm; on a port of its own unless it is told one."""

    def __init__(self, config: str, listen: str = "127.0.0.1:0") -> None:
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name) / "sandpool.toml"
        path.write_text(f'listen = "{listen}"\n{config}')
        program = os.environ.get("TEST_SERVER", str(ROOT / "target/debug/sandpool"))
        self.process = subprocess.Popen(
            [program, "serve", "--config", path], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = ""
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.address = line.split()[-1]
            if line.startswith("ready"):
                return
        raise AssertionError(f"the server has ended with {self.process.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.terminate()
        self.process.communicate()
        self._directory.cleanup()
