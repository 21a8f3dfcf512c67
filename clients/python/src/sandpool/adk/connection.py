"""What an executor holds while it is used: a connection, and sandboxes on the other side of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from typing_extensions import Self

from .._sync.client import Client
from .sessions import Sessions


class Connection:
    """Made by the first use, for any number of threads.

    A copy of an executor, and one that went to another process, has nothing of it: neither gRPC's
    connections nor locks can be copied, and what belongs to one agent's sessions is not another's.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._sessions = Sessions()
        self._owner = os.getpid()

    def use(self, connect: Callable[[], Client]) -> tuple[Client, Sessions]:
        """The client, made by `connect` if there is none, and the sessions."""
        if self._owner != os.getpid():
            # A child by fork: what it inherited is its parent's, and gRPC's connections are dead.
            self._begin()
        with self._lock:
            if self._client is None:
                self._client = connect()
            return self._client, self._sessions

    def close(self) -> None:
        """Ends the sandboxes, then the connection. Another use makes a new one."""
        if self._owner != os.getpid():
            return
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            self._sessions.delete()
            client.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
