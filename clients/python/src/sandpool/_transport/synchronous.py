"""Calls of the client for threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import grpc

from sandpool.v1.server_pb2 import GetServerInfoRequest

from ..errors import (
    ConnectionLost,
    SandpoolError,
    ServiceError,
    Unimplemented,
    Unreachable,
    error_of,
)
from ..requests import CREATION_PAUSES, new_request_id
from ..settings import Settings
from .guard import Guard
from .services import Services

_ROOM: Final = 4
"""Messages that wait to be sent, of at most requests.CHUNK bytes each."""
_ASKED: Final = 2.0
"""Seconds for the question of its version to a server that does not know a call."""


class Transport:
    """A connection to a server; for any number of threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = Guard()
        if settings.credentials is None:
            self._channel = grpc.insecure_channel(settings.address, settings.options)
        else:
            self._channel = grpc.secure_channel(
                settings.address, settings.credentials, settings.options
            )
        self._services = Services(self._channel)

    @property
    def services(self) -> Services:
        """The methods to call; raises where a call would hang."""
        self._guard.check()
        return self._services

    def call(self, method: Any, request: Any, timeout: float | None = None) -> Any:
        """The answer of a call that has one; `request` is a message or an iterator of them."""
        try:
            return method(request, timeout=timeout, metadata=self._metadata())
        except grpc.RpcError as error:
            raise self.failed(error) from None
        except ValueError:
            self.check()  # Closed by another thread just now.
            raise

    def quick(self, method: Any, request: Any) -> Any:
        """As `call`, of what does not run, wait for or transfer anything: with a deadline."""
        return self.call(method, request, self._settings.call_timeout)

    def create(self, method: Any, request: Any, delete: Callable[[Any], object]) -> Any:
        """As `call`, of a request with an id: again if the connection breaks.

        The server finds by the id what it has made. `delete` is for callers that can be cancelled,
        which threads cannot.
        """
        request.request_id = new_request_id()
        try:
            return self.call(method, request)
        except ConnectionLost as error:
            lost = error
        for pause in CREATION_PAUSES:
            self.sleep(pause)
            self.check_made()
            with suppress(ConnectionLost, Unreachable):
                return self.call(method, request)
        raise lost  # And not that nothing was sent, whatever the last attempt says.

    def stream(self, method: Any, request: Any) -> Stream:
        """A call with many answers; `request` is a message or an iterator of them."""
        return Stream(self, self._begin(method, request))

    def talk(self, method: Any) -> Stream:
        """A call with many messages both ways."""
        outbox = _Outbox()
        call = self._begin(method, outbox)
        if not call.add_callback(outbox.close):
            outbox.close()
        return Stream(self, call, outbox)

    def _begin(self, method: Any, request: Any) -> Any:
        try:
            return method(request, metadata=self._metadata())
        except ValueError:
            self.check()  # Closed by another thread just now.
            raise

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

    def failed(self, error: grpc.RpcError) -> ServiceError:
        """What to raise for grpc's own error."""
        failed = error_of(error, self._settings.address)
        if isinstance(failed, Unimplemented):
            with suppress(grpc.RpcError, SandpoolError):
                info = self.services.server.GetServerInfo(
                    GetServerInfoRequest(), timeout=_ASKED, metadata=self._metadata()
                )
                failed.add_versions(info.version)
        return failed

    @staticmethod
    def sleep(seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)

    def close(self) -> None:
        """Ends the connection, and the calls on it. In a forked process it does nothing."""
        if not self._guard.is_inherited:
            self._guard.closed = True
            self._channel.close()


class Stream:
    """A call whose answers come one after the other."""

    def __init__(self, transport: Transport, call: Any, outbox: _Outbox | None = None) -> None:
        self._transport = transport
        self._call = call
        self._outbox = outbox

    def read(self) -> Any:
        """The next message; None after the last one."""
        self._transport.check_made()
        try:
            return next(self._call, None)
        except grpc.RpcError as error:
            raise self._transport.failed(error) from None

    def write(self, message: Any) -> None:
        """Sends a message, or drops it if the call has ended. Waits while the server takes none."""
        self._transport.check()
        if self._outbox is not None:
            self._outbox.put(message)

    def done_writing(self) -> None:
        """Says that no message follows."""
        if self._outbox is not None:
            self._outbox.finish()

    def cancel(self) -> None:
        """Ends the call at once."""
        self._call.cancel()


class _Outbox:
    """Messages on their way from one thread to gRPC's own, which iterates over them."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._changed = threading.Condition()
        self._finished = False
        self._closed = False

    def put(self, message: Any) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._messages) < _ROOM)
            if not self._closed:
                self._messages.append(message)
                self._changed.notify_all()

    def finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._finished or self._messages)
            if self._closed or not self._messages:
                raise StopIteration
            message = self._messages.popleft()
            self._changed.notify_all()
            return message
