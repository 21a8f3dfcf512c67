"""The ways to run something: the same for a client, a sandbox and a context."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import Unpack

from sandpool.v1 import execution_pb2 as pb

from .. import requests
from .._transport.asynchronous import AsyncTransport
from ..requests import Options
from ..results import Result
from .execution import AsyncExecution


class AsyncRunner:
    """Runs programs. Its methods take `Options` besides what they name."""

    def __init__(
        self, transport: AsyncTransport, *, sandbox_id: str = "", context_id: str = ""
    ) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id
        self._context_id = context_id

    async def run(
        self,
        code: str,
        *,
        language: str = "python",
        args: Sequence[str] = (),
        stdin: bytes | str = b"",
        **options: Unpack[Options],
    ) -> Result:
        """Runs source code, and returns when it has ended: how is in the result.

        Raises `ServiceError` if the call is refused or breaks. Nothing is run twice: only where the
        sandbox was lost before the start, it is started in another one.
        """
        program = requests.code(code, language, args)
        return await self._run(program, requests.as_bytes(stdin), options)

    async def run_command(
        self, args: Sequence[str], *, stdin: bytes | str = b"", **options: Unpack[Options]
    ) -> Result:
        """Runs a program of the sandbox, such as ["ls", "-l"]; as `run` otherwise."""
        return await self._run(requests.command(args), requests.as_bytes(stdin), options)

    async def execute(
        self,
        code: str,
        *,
        language: str = "python",
        args: Sequence[str] = (),
        stdin_open: bool = False,
        **options: Unpack[Options],
    ) -> AsyncExecution:
        """Starts source code, whose events come as they happen.

        With stdin_open its input comes by `write` and ends by `close_stdin`; otherwise there is
        none. What is refused is told when its events are read.
        """
        program = requests.code(code, language, args)
        return await self._execute(program, stdin_open, options)

    async def execute_command(
        self, args: Sequence[str], *, stdin_open: bool = False, **options: Unpack[Options]
    ) -> AsyncExecution:
        """Starts a program of the sandbox; as `execute` otherwise."""
        return await self._execute(requests.command(args), stdin_open, options)

    async def _run(self, program: pb.Code | pb.Command, stdin: bytes, options: Options) -> Result:
        spec = self._spec(program, bool(stdin), options)
        async with await AsyncExecution(self._transport, spec, stdin=stdin).open() as execution:
            return await execution.result()

    async def _execute(
        self, program: pb.Code | pb.Command, stdin_open: bool, options: Options
    ) -> AsyncExecution:
        spec = self._spec(program, stdin_open, options)
        return await AsyncExecution(self._transport, spec).open()

    def _spec(
        self, program: pb.Code | pb.Command, stdin_open: bool, options: Options
    ) -> pb.ExecutionSpec:
        # Whoever leaves a program ends it, in a sandbox that lives on as in a fresh one.
        kept: Options = {"keep_after_disconnect": 0.0, **options}
        return requests.spec(
            program,
            sandbox_id=self._sandbox_id,
            context_id=self._context_id,
            stdin_open=stdin_open,
            **kept,
        )
