"""State that outlives a run: for each session of ADK's, a Python in a sandbox that lives on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from .._sync.sandbox import Context, Sandbox
from ..errors import FailedPrecondition, NotFound, ServiceError
from ..outcomes import LostCause, SandboxLost
from ..results import Result

_MAX_SESSIONS: Final = 10_000
"""Sessions that are remembered: beyond it, the one that was used longest ago is forgotten."""
_DELETIONS: Final = 8
"""Sandboxes that are deleted at once."""


class SessionBusy(Exception):
    """Another run of the same session did not end in time."""


class Session:
    """One session's Python. Whoever uses it has its turn."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._context: Context | None = None
        self._extend_at = 0.0
        self._notice = ""
        self.sent: Mapping[str, bytes] = {}
        """Digests of the input files that were written to its sandbox, by path."""
        self.known: Mapping[str, bytes] = {}
        """Digests of the files that are no news: those that were sent, or told before."""

    def take_in(self, files: Mapping[str, bytes]) -> None:
        """Input files were written: digests by path."""
        self.sent = {**self.sent, **files}
        self.known = {**self.known, **files}

    def told(self, files: Mapping[str, bytes]) -> None:
        """All files that there are, so far as they came: digests by path."""
        self.known = {**self.sent, **files}

    @contextlib.contextmanager
    def turn(self, timeout: float) -> Iterator[None]:
        """Waits, for so many seconds, until nobody else uses it. Raises SessionBusy."""
        if not self._turn.acquire(timeout=timeout):
            raise SessionBusy
        try:
            yield
        finally:
            self._turn.release()

    def run(
        self, make_sandbox: Callable[[], Sandbox], cell: Callable[[Context], Result]
    ) -> tuple[Result, str]:
        """Runs a cell, in a new Python if the one before is gone.

        Returns its result, and what was lost since the run before, or "". A cell that was lost
        after its start is not run again: it may be what killed the sandbox, and its result tells.
        Raises ServiceError where the server refuses.
        """
        for is_last in (False, True):
            try:
                result = cell(self._ready(make_sandbox))
            except (NotFound, FailedPrecondition) as error:
                # Refused, so nothing ran. Without a sandbox it was the making of one.
                if is_last or self._sandbox is None:
                    raise
                self._lose(error)
                continue
            if isinstance(result.outcome, SandboxLost):
                self._forget("")
                if result.outcome.cause is LostCause.BEFORE_START and not is_last:
                    self._notice = _sandbox_notice(result.outcome.reason)
                    continue
            elif result.context_ended:
                self._context = None
            break
        notice, self._notice = self._notice, ""
        return result, notice

    def delete(self) -> None:
        """Ends its sandbox with all that runs in it."""
        sandbox = self._sandbox
        if sandbox is not None:
            self._forget(_sandbox_notice("the executor was closed"))
            with contextlib.suppress(ServiceError):  # It ends by its idle timeout, too.
                sandbox.delete()

    def _ready(self, make_sandbox: Callable[[], Sandbox]) -> Context:
        if self._sandbox is None:
            self._sandbox = make_sandbox()
            self._extend_at = time.monotonic() + _lifetime(self._sandbox) / 2
        elif time.monotonic() > self._extend_at:
            self._extend(self._sandbox)
        if self._context is None:
            self._context = self._sandbox.context()
        return self._context

    def _extend(self, sandbox: Sandbox) -> None:
        """A session that goes on has its sandbox for as long as the server allows."""
        self._extend_at = time.monotonic() + _lifetime(sandbox) / 2
        with contextlib.suppress(ServiceError):  # Past the pool's named.max_lifetime.
            sandbox.extend(_lifetime(sandbox))

    def _lose(self, error: ServiceError) -> None:
        if isinstance(error, NotFound):
            self._forget(_sandbox_notice(error.message))
        else:
            self._context = None
            self._notice = (
                f"The session's Python was gone ({error.message}). All variables of earlier code "
                "are lost; files are still there. This code ran in a new Python."
            )

    def _forget(self, notice: str) -> None:
        self._sandbox = self._context = None
        self.sent, self.known = {}, {}
        self._notice = notice


def _lifetime(sandbox: Sandbox) -> float:
    return (sandbox.expire_time - sandbox.create_time).total_seconds()


def _sandbox_notice(reason: str) -> str:
    return (
        f"The session's sandbox was gone ({reason}). All variables and files of earlier code are "
        "lost. This code ran in a new sandbox."
    )


class Sessions:
    """The sessions of one executor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: OrderedDict[Hashable, Session] = OrderedDict()

    def of(self, key: Hashable) -> Session:
        """The session of a key, a new one if there is none."""
        with self._lock:
            session = self._by_key.setdefault(key, Session())
            self._by_key.move_to_end(key)
            # Its sandbox, if it still has one, ends by its idle timeout.
            if len(self._by_key) > _MAX_SESSIONS:
                self._by_key.popitem(last=False)
            return session

    def delete(self) -> None:
        """Ends all of their sandboxes."""
        with self._lock:
            sessions = list(self._by_key.values())
        with ThreadPoolExecutor(_DELETIONS) as threads:
            list(threads.map(Session.delete, sessions))
