"""Who may use a connection."""

from __future__ import annotations

import os

from ..errors import ForkedProcess, SandpoolError


class Guard:
    """Refuses what would hang: gRPC's connections do not survive a fork."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self.closed = False

    @property
    def is_inherited(self) -> bool:
        """Whether it came by a fork."""
        return os.getpid() != self._owner

    def check(self) -> None:
        """Raises ForkedProcess in a child, SandpoolError once closed."""
        if self.is_inherited:
            raise ForkedProcess(
                "this client was made before the process was forked, and gRPC's connections do "
                "not survive that: make a client in a child that was started by spawn or "
                "forkserver instead of fork"
            )
        if self.closed:
            raise SandpoolError("the client is closed")
