"""Connections that break."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Relay:
    """A way to a server that can be cut, and whose answers can be held."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._to = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._lets_answers = threading.Event()
        self._lets_answers.set()
        self._until_question = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                incoming, _ = self._listener.accept()
            except OSError:
                return
            outgoing = socket.create_connection(self._to)
            self._sockets += [incoming, outgoing]
            for pair in ((incoming, outgoing), (outgoing, incoming)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            is_question = other.getpeername() == self._to
            while data := one.recv(65536):
                if not is_question:
                    self._lets_answers.wait()
                elif self._until_question:
                    self._lets_answers.set()
                other.sendall(data)
        self._end(other)

    def hold_answers(self) -> None:
        """Until `cut`, or the first question after `let_answers_follow`."""
        self._until_question = False
        self._lets_answers.clear()

    def let_answers_follow(self) -> None:
        """What is held comes once a client says something more."""
        self._until_question = True

    @staticmethod
    def _end(connection: socket.socket) -> None:
        with suppress(OSError):  # It has ended before.
            connection.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Ends all connections; new ones are let in."""
        sockets, self._sockets = self._sockets, []
        for connection in sockets:
            self._end(connection)
        self._lets_answers.set()

    def close(self) -> None:
        """Ends all connections; new ones are refused."""
        self._end(self._listener)  # Whoever waits in accept() would have one more.
        self._listener.close()
        self.cut()
