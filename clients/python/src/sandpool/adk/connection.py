"""What an executor holds while it is used: a connection, and sandboxes on the other side of it."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from typing import Any

from typing_extensions import Self

from .._sync.client import Client
from .sessions import Sessions


class Connection:
    """Made by the first use, for any number of threads.

    A copy of an executor has nothing of it, by pickle neither: connections and locks cannot be
    copied, and of a session's state there is one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._sessions = Sessions()
        self._owner = os.getpid()
        self.name = uuid.uuid4().hex
        """What tells it from those of other processes."""

    def use(self, connect: Callable[[], Client]) -> tuple[Client, Sessions]:
        """The client, made by `connect` if there is none, and the sessions.

        In a process that was forked since, calls of the client raise ForkedProcess.
        """
        with self._lock:
            if self._client is None:
                self._client = connect()
            return self._client, self._sessions

    def close(self) -> None:
        """Ends the sandboxes, then the connection. Another use makes a new one."""
        if self._owner != os.getpid():
            return  # A forked process has none: what it sees is its parent's.
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            self._sessions.delete()
            client.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
