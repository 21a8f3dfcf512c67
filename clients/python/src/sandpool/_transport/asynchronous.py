"""Calls of the client for asyncio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import grpc
import grpc.aio

from sandpool.v1.server_pb2 import GetServerInfoRequest

from ..errors import SandpoolError, ServiceError, Unimplemented, error_of
from ..settings import Settings
from .guard import Guard
from .services import Services

_ASKED: Final = 2.0
"""Seconds for the question of its version to a server that does not know a call."""

_ENDED: Final = (asyncio.InvalidStateError, grpc.RpcError)
"""By what writing to a call fails that has ended; reading from it tells why."""


class AsyncTransport:
    """A connection to a server; of one event loop, the one of its first call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = Guard()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None
        self._services: Services | None = None

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

    @property
    def call_timeout(self) -> float:
        """Seconds that a call which does not wait for anything may take."""
        return self._settings.call_timeout

    async def call(self, method: Any, request: Any, timeout: float | None = None) -> Any:
        """The answer of a call that has one; `request` is a message or an iterator of them."""
        try:
            return await method(request, timeout=timeout, metadata=self._settings.metadata)
        except grpc.RpcError as error:
            raise await self.failed(error) from None

    def stream(self, method: Any, request: Any) -> AsyncStream:
        """A call with many answers; `request` is a message or an iterator of them."""
        return AsyncStream(self, method(request, metadata=self._settings.metadata))

    def talk(self, method: Any) -> AsyncStream:
        """A call with many messages both ways."""
        return AsyncStream(self, method(metadata=self._settings.metadata))

    async def failed(self, error: grpc.RpcError) -> ServiceError:
        """What to raise for grpc's own error."""
        failed = error_of(error, self._settings.address)
        if isinstance(failed, Unimplemented):
            with suppress(grpc.RpcError):
                info = await self.services.server.GetServerInfo(
                    GetServerInfoRequest(), timeout=_ASKED, metadata=self._settings.metadata
                )
                failed.add_versions(info.version)
        return failed

    @staticmethod
    async def sleep(seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Ends the connection, and the calls on it."""
        self._guard.closed = True
        if self._channel is not None:
            await self._channel.close()


class AsyncStream:
    """A call whose answers come one after the other."""

    def __init__(self, transport: AsyncTransport, call: Any) -> None:
        self._transport = transport
        self._call = call

    async def read(self) -> Any:
        """The next message; None after the last one. Cancelled, it cancels the call."""
        try:
            message = await self._call.read()
        except grpc.RpcError as error:
            raise await self._transport.failed(error) from None
        return None if message is grpc.aio.EOF else message

    async def write(self, message: Any) -> None:
        """Sends a message, or drops it if the call has ended. Waits while the server takes none."""
        with suppress(*_ENDED):
            await self._call.write(message)

    async def done_writing(self) -> None:
        """Says that no message follows."""
        with suppress(*_ENDED):
            await self._call.done_writing()

    def cancel(self) -> None:
        """Ends the call at once."""
        self._call.cancel()
