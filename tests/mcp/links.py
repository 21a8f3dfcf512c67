"""A way to a server that can be cut, and made again."""

import socket
import threading


class Link:
    """Hands on what comes, both ways, while it is not cut."""

    def __init__(self, address):
        _, _, port = address.rpartition(":")
        self._server = ("127.0.0.1", int(port))
        self._listen(0)
        self.address = f"127.0.0.1:{self._port}"

    def _listen(self, port):
        self._ends = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            self._ends += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._hand_on, args=pair, daemon=True).start()

    def _hand_on(self, source, target):
        try:
            while piece := source.recv(1 << 16):
                target.sendall(piece)
        except OSError:
            pass

    def cut(self):
        for end in [self._listener, *self._ends]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def mend(self):
        self._listen(self._port)
