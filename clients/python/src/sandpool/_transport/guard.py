"""Who may use a connection."""

from __future__ import annotations

import os

import grpc

from ..errors import CallCancelled, ForkedProcess, SandpoolError


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
        """Before a call: raises ForkedProcess in a child, SandpoolError once closed."""
        self._check_process()
        if self.closed:
            raise SandpoolError("the client is closed")

    def check_made(self) -> None:
        """In a call that was made, so may have had an effect: raises CallCancelled if closed."""
        self._check_process()
        if self.closed:
            raise CallCancelled(
                "the client is closed, and its calls with it", code=grpc.StatusCode.CANCELLED
            )

    def _check_process(self) -> None:
        if self.is_inherited:
            raise ForkedProcess(
                "this client was made before the process was forked, and gRPC's connections do "
                "not survive that: make a client in a child that was started by spawn or "
                "forkserver instead of fork"
            )
