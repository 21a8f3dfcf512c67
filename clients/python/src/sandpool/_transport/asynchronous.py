"""Calls of the client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import grpc
import grpc.aio

from sandpool.v1.server_pb2 import GetServerInfoRequest

from ..errors import (
    CallCancelled,
    ConnectionLost,
    SandpoolError,
    ServiceError,
    Unimplemented,
    Unreachable,
    error_of,
)
from ..requests import CREATION_PAUSES, at_once, new_request_id
from ..settings import Settings
from .guard import Guard
from .services import Services

_ASKED: Final = 2.0
"""Seconds for the question of its version to a server that does not know a call."""
_UNDO: Final = 1.0
"""Seconds for the answer to a creation that nobody wants any more."""
_FOUND: Final = 5.0
"""Seconds for the answer to what it has made, where that one did not come."""


class AsyncTransport:
    """A connection to a server; of one event loop, the one of its first call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = Guard()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None
        self._services: Services | None = None
        self._undoing: set[asyncio.Future[None]] = set()

    @property
    def services(self) -> Services:
        """The methods to call; raises where a call would hang."""
        self._guard.check()
        loop = asyncio.get_running_loop()
        if self._services is None:
            settings = self._settings
            if settings.credentials is None:
                channel = grpc.aio.insecure_channel(settings.address, settings.options)
            else:
                channel = grpc.aio.secure_channel(
                    settings.address, settings.credentials, settings.options
                )
            self._loop, self._channel, self._services = loop, channel, Services(channel)
        if loop is not self._loop:
            raise SandpoolError("this client belongs to another event loop: make one for each")
        return self._services

    async def call(self, method: Any, request: Any, timeout: float | None = None) -> Any:
        """The answer of a call that has one; `request` is a message or an iterator of them."""
        try:
            return await method(request, timeout=timeout, metadata=self._metadata())
        except asyncio.CancelledError:
            if _task_is_cancelled():
                raise
            raise _cancelled() from None
        except grpc.RpcError as error:
            raise await self.failed(error) from None

    async def quick(self, method: Any, request: Any) -> Any:
        """As `call`, of what does not run, wait for or transfer anything: with a deadline."""
        return await self.call(method, request, self._settings.call_timeout)

    async def create(
        self, method: Any, request: Any, delete: Callable[[Any], Awaitable[object]]
    ) -> Any:
        """As `call`, of a request with an id: again if the connection breaks.

        The server finds by the id what it has made. If the caller is cancelled, what was made
        meanwhile is deleted.
        """
        request.request_id = new_request_id()
        making = asyncio.ensure_future(self._create(method, request))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            undoing = asyncio.ensure_future(self._undo(making, method, request, delete))
            self._undoing.add(undoing)
            undoing.add_done_callback(self._undoing.discard)
            raise

    async def _create(self, method: Any, request: Any) -> Any:
        try:
            return await self.call(method, request)
        except ConnectionLost as error:
            lost = error
        for pause in CREATION_PAUSES:
            await self.sleep(pause)
            self.check_made()
            with suppress(ConnectionLost, Unreachable):
                return await self.call(method, request)
        raise lost  # And not that nothing was sent, whatever the last attempt says.

    async def _undo(
        self,
        making: asyncio.Future[Any],
        method: Any,
        request: Any,
        delete: Callable[[Any], Awaitable[object]],
    ) -> None:
        with suppress(SandpoolError, asyncio.CancelledError):
            try:
                made = await asyncio.wait_for(making, _UNDO)
            except asyncio.TimeoutError:
                # It is cancelled now, and its answer may have been on the way.
                made = await self.call(method, at_once(request), _FOUND)
            await delete(made)

    def stream(self, method: Any, request: Any) -> AsyncStream:
        """A call with many answers; `request` is a message or an iterator of them."""
        return AsyncStream(self, method(request, metadata=self._metadata()))

    def talk(self, method: Any) -> AsyncStream:
        """A call with many messages both ways."""
        return AsyncStream(self, method(metadata=self._metadata()))

    def check(self) -> None:
        """Raises where a call would hang."""
        self._guard.check()

    def check_made(self) -> None:
        """Raises where a call that was made does not go on."""
        self._guard.check_made()

    @property
    def is_inherited(self) -> bool:
        """Whether it came by a fork."""
        return self._guard.is_inherited

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return self._settings.token.metadata()

    async def failed(self, error: grpc.RpcError) -> ServiceError:
        """What to raise for grpc's own error."""
        failed = error_of(error, self._settings.address)
        if isinstance(failed, Unimplemented):
            with suppress(grpc.RpcError, SandpoolError):
                info = await self.services.server.GetServerInfo(
                    GetServerInfoRequest(), timeout=_ASKED, metadata=self._metadata()
                )
                failed.add_versions(info.version)
        return failed

    @staticmethod
    async def sleep(seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Ends the connection, and the calls on it. In a forked process it does nothing."""
        if self._guard.is_inherited:
            return
        # It has a connection for what was made for nobody.
        await asyncio.gather(*self._undoing)
        self._guard.closed = True
        if self._channel is not None:
            await self._channel.close()


def _task_is_cancelled() -> bool:
    """Whether it is the task that was cancelled, and not the call alone.

    Python 3.10 does not tell: there it is always taken for the task.
    """
    task = asyncio.current_task()
    return task is None or not hasattr(task, "cancelling") or task.cancelling() > 0


def _cancelled() -> CallCancelled:
    return CallCancelled("the call was cancelled on this side", code=grpc.StatusCode.CANCELLED)


class AsyncStream:
    """A call whose answers come one after the other."""

    def __init__(self, transport: AsyncTransport, call: Any) -> None:
        self._transport = transport
        self._call = call
        # Its read() forgets what has come if writing has failed meanwhile; iterating does not.
        self._messages: AsyncIterator[Any] = aiter(call)
        self._failure: SandpoolError | None = None

    async def read(self) -> Any:
        """The next message; None after the last one. Cancelled, it cancels the call."""
        self._transport.check_made()
        if self._failure is not None:
            raise self._failure
        try:
            return await anext(self._messages, None)
        except asyncio.CancelledError:
            self._failure = _cancelled()
            if _task_is_cancelled():
                raise
            raise self._failure from None
        except grpc.RpcError as error:
            self._failure = await self._transport.failed(error)
            raise self._failure from None

    async def write(self, message: Any) -> None:
        """Sends a message, or drops it if the call has ended. Waits while the server takes none."""
        self._transport.check()
        await self._unless_ended(self._call.write(message))

    async def done_writing(self) -> None:
        """Says that no message follows."""
        await self._unless_ended(self._call.done_writing())

    def cancel(self) -> None:
        """Ends the call at once."""
        self._call.cancel()

    @staticmethod
    async def _unless_ended(writing: Awaitable[None]) -> None:
        try:
            await writing
        except asyncio.CancelledError:
            if _task_is_cancelled():
                raise
        except (asyncio.InvalidStateError, grpc.RpcError):
            pass  # Reading tells why it has ended.
