# Made from _async by generate.sh: change it there.
"""A program that runs: its events, its input, its result."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

from typing_extensions import Self

from sandpool.v1 import execution_pb2 as pb

from .._transport.synchronous import Stream, Transport
from ..errors import (
    BadToken,
    ConnectionLost,
    NotFound,
    SandpoolError,
    ServiceError,
    Unavailable,
    Unreachable,
)
from ..requests import as_bytes, chunks, run_messages, takes_input
from ..results import Collector, Event, Result

_MAX_STARTS: Final = 3
"""Where no sandbox has confirmed that the program has started."""
_MAX_RESUMES: Final = 6
"""One after the other without a message in between: over 6 s."""


class Execution:
    """A program that runs. Iterating over it gives its events, from the start to the end.

    As a context manager it cancels the program when it is left before the end, unless the program
    was told to go on by `keep_after_disconnect`: then nobody reads it any more. One that was told
    so and has no input is resumed when a connection breaks, without a byte lost or doubled.

    It has one reader; others may write meanwhile. Whether the program goes on when this object is
    dropped, without `with` and without its result, is not defined: keep it.
    """

    def __init__(
        self,
        transport: Transport,
        start: pb.ExecutionSpec | None,
        *,
        stdin: bytes | None = None,
        execution_id: str = "",
    ) -> None:
        """Of a program to start, or without `start` one to attach to; `open` follows.

        `stdin` is all of its input; None: it comes by `write`, if `start.stdin_open`.
        """
        self._transport = transport
        self._start = start
        self._stdin = stdin
        self._collector = Collector(start.execution_id if start else execution_id)
        self._result: Result | None = None
        self._starts = 0
        self._resumes = 0
        self._is_attached = False
        self._is_cancelled = False
        self._stream: Stream

    def open(self) -> Self:
        """Makes the call. What is refused is told by the first read."""
        services = self._transport.services.executions
        start = self._start
        if start is None:
            self._attach()
        elif self._stdin is None:
            self._use(self._transport.talk(services.Execute))
            try:
                self._stream.write(pb.ExecuteRequest(start=start))
            except BaseException:
                # The caller gets no execution that it could cancel.
                self._stream.cancel()
                raise
        elif takes_input(start):
            requests = run_messages(start, self._stdin)
            self._use(self._transport.stream(services.Execute, requests))
        else:
            request = pb.ExecuteRequest(start=start)
            self._use(self._transport.stream(self._transport.services.execute_once, request))
        self._starts += 1
        return self

    def _use(self, stream: Stream) -> None:
        self._stream = stream
        # Somebody else may have cancelled the one before, which had broken by itself.
        if self._is_cancelled:
            stream.cancel()

    # Reading

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while self._result is None:
            taken = self._collector.take(self._message())
            if isinstance(taken, Result):
                self._result = taken
            elif taken is not None:
                return taken
        raise StopIteration

    def result(self) -> Result:
        """Reads what is left, and returns all that came since the beginning."""
        while self._result is None:
            taken = self._collector.take(self._message())
            if isinstance(taken, Result):
                self._result = taken
        return self._result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Ends the call and, unless it was told to go on, the program with all it has started."""
        self._is_cancelled = True
        if self._result is None:
            self._stream.cancel()

    # Input

    def write(self, data: bytes | str) -> None:
        """Writes to its stdin; a text as UTF-8.

        Waits while the program does not read, and so, if much is written, until another task or
        thread reads what the program writes. What comes after the program's end is dropped; of one
        that was attached to it raises FailedPrecondition.
        """
        for chunk in chunks(as_bytes(data)):
            self._send(stdin=chunk)

    def close_stdin(self) -> None:
        """Ends its stdin."""
        self._send(close_stdin=pb.CloseStdin())

    def signal(self, number: int) -> None:
        """Sends a Linux signal to its process group: 2 interrupts a cell and leaves its context."""
        self._send(signal=pb.Signal(number=number))

    def resize(self, rows: int, columns: int) -> None:
        """Says that its terminal has another size."""
        self._send(resize=pb.Terminal(rows=rows, columns=columns))

    def _send(self, **event: Any) -> None:
        if self._is_attached:
            request = pb.WriteInputRequest(execution_id=self._collector.execution_id, **event)
            self._transport.call(self._transport.services.executions.WriteInput, request)
        elif self._stdin is None:
            self._stream.write(pb.ExecuteRequest(**event))
        else:
            raise ValueError("this execution was started with all of its input")

    # The call

    def _message(self) -> pb.ExecuteResponse:
        while True:
            try:
                message: pb.ExecuteResponse | None = self._stream.read()
            except (ConnectionLost, Unreachable, Unavailable) as error:
                self._resume(error)
                continue
            except NotFound as error:
                if self._resumes == 0:
                    raise
                raise self._lost(f"the connection broke, and now: {error}") from None
            except SandpoolError as error:
                if self._collector.has_started:
                    error.execution_id = self._collector.execution_id
                raise
            if message is None:
                raise self._lost("the server ended the call without telling how it ended")
            self._resumes = 0
            if not self._ran_nothing(message):
                return message
            self.open()

    def _ran_nothing(self, message: pb.ExecuteResponse) -> bool:
        """Whether it may be started once more, and there is a point in it."""
        start = self._start
        if start is None or self._starts == _MAX_STARTS:
            return False
        if message.finished.sandbox_lost.cause != pb.SandboxLost.BEFORE_START:
            return False
        # An id runs once. A sandbox that lives on is lost for good. And input may be on its way.
        return not (start.execution_id or start.sandbox_id) and (
            self._stdin is not None or not start.stdin_open
        )

    def _resume(self, error: ServiceError) -> None:
        """Attaches to what goes on without a connection, or raises."""
        start = self._start
        goes_on = start is None or (
            start.keep_after_disconnect.ToNanoseconds() > 0
            # Nobody knows how much of its input has arrived.
            and not (start.stdin_open or start.HasField("terminal"))
        )
        if not self._collector.has_started:
            if isinstance(error, ConnectionLost):
                error.execution_id = self._collector.execution_id
            raise error
        reason = str(error)
        while goes_on and self._resumes < _MAX_RESUMES:
            self._transport.sleep(0.1 * 2**self._resumes)
            self._resumes += 1
            try:
                return self._attach()
            except BadToken as bad:  # Its file may be there again a moment later.
                reason = str(bad)
            except SandpoolError as closed:
                closed.execution_id = self._collector.execution_id
                raise
        # Not that nothing was sent, whatever the last attempt says.
        raise self._lost(reason) from None

    def _attach(self) -> None:
        self._is_attached = True
        attach = self._transport.services.executions.Attach
        self._use(self._transport.stream(attach, self._collector.attach_request()))

    def _lost(self, reason: str) -> ConnectionLost:
        lost = ConnectionLost(reason)
        lost.execution_id = self._collector.execution_id
        return lost
