"""A real server with real sandboxes, and sessions of `sandpool mcp` with it."""

import json
import os
import subprocess
import tempfile
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters

PROGRAM = os.environ["PROGRAM"]
AGENT = os.environ["AGENT"]
# No single step of a test takes this long, on however busy a machine: it hangs.
PATIENCE = 90
CONFIG = """
listen = "127.0.0.1:{port}"
{more}
log.level = "warn"
backend.local.state_dir = "{directory}/state"
backend.local.agent = "{agent}"

[pools.default]
min_idle = 2
max_sandboxes = 16
limits.default.timeout = "60s"
limits.default.queue_timeout = "60s"
languages.python.interpreter = "/usr/bin/python3"
languages.bash = {{}}
"""


class Server:
    """`sandpool serve`, warm; it deletes its sandboxes when it is told to stop."""

    def __init__(self, port=0, more=""):
        self._directory = tempfile.TemporaryDirectory()
        config = Path(self._directory.name) / "sandpool.toml"
        settings = {"port": port, "more": more, "directory": self._directory.name, "agent": AGENT}
        config.write_text(CONFIG.format(**settings))
        command = [PROGRAM, "serve", "--config", config]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.address = line.split()[-1]
            if line.startswith("ready"):
                return
        raise AssertionError(f"the server ended with {self.process.wait()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)
        self._directory.cleanup()

    def shows(self, *words):
        """What the command line shows of this server, as lines without their head."""
        shown = self.runs(*words)
        assert shown.returncode == 0, shown.stderr
        return shown.stdout.splitlines()[1:]

    def runs(self, *words):
        command = [PROGRAM, words[0], "--address", self.address, *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    async def execution_that_ended(self, sandbox_id):
        """The exit code and the words of the newest execution of a sandbox, once it has ended."""
        with anyio.fail_after(PATIENCE):
            while True:
                newest = self.shows("executions", "--sandbox", sandbox_id)[0]
                if " runs " not in newest:
                    attached = self.runs("attach", newest.split()[0])
                    return attached.returncode, attached.stderr
                await anyio.sleep(0.05)


@asynccontextmanager
async def session(address, *options, mode="auto"):
    """An initialized session of the official client's."""
    arguments = ["mcp", "--address", address, *options]
    parameters = StdioServerParameters(command=PROGRAM, args=arguments)
    with anyio.fail_after(PATIENCE):
        async with Client(parameters, mode=mode) as client:
            yield client


def texts(result):
    return [block.text for block in result.content if block.type == "text"]


def images(result):
    return [block for block in result.content if block.type == "image"]


async def create_sandbox(client, **arguments):
    created = await client.call_tool("create_sandbox", arguments)
    assert not created.is_error, texts(created)
    return created.structured_content["sandbox_id"]


class Wire:
    """`sandpool mcp` with its standard input and output in hand."""

    def __init__(self, address, *options, initialize=True):
        self.process = subprocess.Popen(
            [PROGRAM, "mcp", "--address", address, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Whoever waits for an answer that does not come is told so.
        hang = threading.Timer(PATIENCE, self.process.kill)
        hang.daemon = True
        hang.start()
        if not initialize:
            return
        client = {"name": "test", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        self.send("initialize", params, id=0)
        self.until(lambda message: message.get("id") == 0)
        self.send("notifications/initialized", {})

    def send(self, method, params, **more):
        message = {"jsonrpc": "2.0", "method": method, "params": params, **more}
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def raw(self, line):
        self.process.stdin.flush()
        self.process.stdin.buffer.write(line + b"\n")
        self.process.stdin.flush()

    def call(self, id, tool, **arguments):
        meta = {"progressToken": id}
        self.send("tools/call", {"name": tool, "arguments": arguments, "_meta": meta}, id=id)

    def until(self, condition):
        """The first message for which it holds. Whatever is no message fails."""
        for line in self.process.stdout:
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            if condition(message):
                return message
        raise AssertionError(f"the session ended: {self.process.stderr.read()}")

    def until_output(self, text):
        self.until(lambda message: text in message.get("params", {}).get("message", ""))

    def result(self, id):
        return self.until(lambda message: message.get("id") == id)["result"]

    def ends(self):
        """What else it writes until it has ended by itself."""
        rest, log = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, log
        return [json.loads(line) for line in rest.splitlines()]
