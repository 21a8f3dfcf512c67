"""What an executor holds while it is used: connections, and sandboxes on the other side of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
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
        self._clients: dict[Hashable, Client] = {}
        self._sessions: dict[Hashable, Sessions] = {}

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
        """Ends the sandboxes, then the connections. Another use makes new ones.

        In a forked process it leaves alone what is its parent's.
        """
        with self._lock:
            clients, self._clients = self._clients, {}
        for server, client in clients.items():
            if not client._transport.is_inherited:
                self._sessions[server].delete(client)
                client.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()
