"""What an executor holds while it is used: a connection, and sandboxes on the other side of it."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Hashable
from typing import Any, Final
from weakref import WeakValueDictionary

from typing_extensions import Self

from .._sync.client import Client
from .sessions import Sessions

_HERE: Final[WeakValueDictionary[str, Connection]] = WeakValueDictionary()
"""Those of this process, by name."""


def is_here(name: str) -> bool:
    """Whether a connection of that name is this process's, and is still there."""
    return name in _HERE


class Connection:
    """Made by the first use, for any number of threads.

    A copy of an executor has nothing of it, by pickle neither: connections and locks cannot be
    copied, and of a session's state there is one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[Hashable, Client] = {}
        self._sessions: dict[Hashable, Sessions] = {}
        self._owner = os.getpid()
        self.name = uuid.uuid4().hex
        """What tells it from all others, here and in other processes."""
        _HERE[self.name] = self

    def use(self, server: Hashable, connect: Callable[[], Client]) -> tuple[Client, Sessions]:
        """The client of a server, made by `connect` if there is none, and the sessions there.

        `server` is all that says which one, and who calls: copies of an executor share what they
        have, unless they differ in that. Raises ForkedProcess in a process that was forked since.
        """
        with self._lock:
            if server not in self._clients:
                self._clients[server] = connect()
            client = self._clients[server]
            client._transport.check()
            return client, self._sessions.setdefault(server, Sessions())

    def close(self) -> None:
        """Ends the sandboxes, then the connection. Another use makes a new one."""
        if self._owner != os.getpid():
            return  # A forked process has none: what it sees is its parent's.
        with self._lock:
            clients, self._clients = self._clients, {}
        for server, client in clients.items():
            self._sessions[server].delete(client)
            client.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
