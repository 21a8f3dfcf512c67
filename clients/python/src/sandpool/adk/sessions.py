"""State that outlives a run: for each session of ADK's, a Python in a sandbox that lives on."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from weakref import WeakValueDictionary

from .._sync.client import Client
from .._sync.sandbox import Context, Sandbox
from ..errors import FailedPrecondition, InvalidArgument, NotFound, SandpoolError, ServiceError
from ..outcomes import LostCause, SandboxLost
from ..requests import KnownFile
from ..results import Result

_MAX_SESSIONS: Final = 10_000
"""Sessions that are remembered: beyond it, the one that was used longest ago is forgotten."""
_MAX_KNOWN: Final = 9_000
"""Files of a session that are known, the newest; with 1000 that are sent, what a server takes."""
_DELETIONS: Final = 8
"""Sandboxes that are deleted at once."""
_MAKING: Final = 30.0
"""Seconds that an executor which is closed waits for sandboxes that are being made."""
_HERE: Final[WeakValueDictionary[str, Sessions]] = WeakValueDictionary()
"""Those of this process, by name."""


class SessionBusy(Exception):
    """Another run of the same session did not end in time."""


class Session:
    """One session's Python. Whoever uses it has its turn."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._client: Client | None = None
        self._closed: Client | None = None
        self._sandbox: Sandbox | None = None
        self._context: Context | None = None
        self._life = _Life(0.0)
        self._notice = ""
        self.runs = 0
        """How many have ended."""
        self.sent: dict[str, KnownFile] = {}
        """The input files that were written to its sandbox, by path."""
        self.known: dict[str, KnownFile] = {}
        """The files that are no news: those that were sent, or told before."""

    @property
    def is_used(self) -> bool:
        """Whether it is somebody's turn."""
        return self._turn.locked()

    def take_in(self, files: Iterable[KnownFile]) -> None:
        """Input files were written."""
        files = list(files)
        self.sent.update((file.path, file) for file in files)
        self.told(files)

    def told(self, files: Iterable[KnownFile]) -> None:
        """Files have come back."""
        for file in files:
            self.known.pop(file.path, None)  # The newest one comes last.
            self.known[file.path] = file
        while len(self.known) > _MAX_KNOWN:
            del self.known[next(iter(self.known))]

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
        self,
        client: Client,
        make_sandbox: Callable[[Client], Sandbox],
        cell: Callable[[Context], Result],
        longest: float,
    ) -> tuple[Result, str]:
        """Runs a cell of at most `longest` seconds, in a new Python if the one before is gone.

        Returns its result, and what was lost since the run before, or "". A cell that was lost
        after its start is not run again: it may be what killed the sandbox, and its result tells.
        Raises ServiceError where the server refuses.
        """
        for is_last in (False, True):
            try:
                sandbox, python = self._ready(client, make_sandbox, longest)
                with _used(sandbox, longest):
                    result = cell(python)
            except (NotFound, FailedPrecondition) as error:
                # Refused, so nothing ran. Without a sandbox it was the making of one.
                if is_last or self._sandbox is None:
                    raise
                self._lose(error)
                continue
            if isinstance(result.outcome, SandboxLost):
                self._forget("")
                _delete(sandbox)  # To the server it may live, and count as one of the caller's.
                if result.outcome.cause is LostCause.BEFORE_START and not is_last:
                    self._notice = _sandbox_notice(result.outcome.reason)
                    continue
            elif result.context_ended:
                self._context = None
            break
        self.runs += 1
        notice, self._notice = self._notice, ""
        return result, notice

    def delete(self, client: Client, until: float) -> None:
        """Ends its sandbox with all that runs in it. With this client, nothing runs any more.

        Waits for its turn until then, by time.monotonic.
        """
        self._closed = client
        sandbox = self._sandbox
        if sandbox is not None:
            _delete(sandbox)
        # Whoever makes one just now has made it when their turn is over.
        patience = max(0.0, until - time.monotonic())
        with contextlib.suppress(SessionBusy), self.turn(patience):
            made = self._sandbox
            if made is not None:
                self._forget(_sandbox_notice("the executor was closed"))
                if made is not sandbox:
                    _delete(made)

    def give_up(self) -> None:
        """Ends its sandbox, for others to have one."""
        if self._client is not None:
            self.delete(self._client, time.monotonic())

    def _ready(
        self, client: Client, make_sandbox: Callable[[Client], Sandbox], longest: float
    ) -> tuple[Sandbox, Context]:
        if self._closed is client:
            raise SandpoolError("the executor was closed")
        if self._client is not client:
            if self._sandbox is not None:  # Of one that was closed while this one could not be had.
                self._forget(_sandbox_notice("the executor was closed"))
            self._client = client
        if self._sandbox is None:
            self._sandbox = make_sandbox(client)
            lifetime = self._sandbox.expire_time - self._sandbox.create_time
            self._life = _Life(lifetime.total_seconds())
            if self._closed is client:  # Meanwhile. Whoever has closed it waits to delete this one.
                raise SandpoolError("the executor was closed")
        self._life.prolong(self._sandbox, longest)
        if self._context is None:
            self._context = self._sandbox.context()
        return self._sandbox, self._context

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


class _Life:
    """How long a sandbox lives: a session that goes on has it for as long as the server allows."""

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._refused = math.inf
        """The least that was: what there is to be had only shrinks."""
        self._end = time.monotonic() + lifetime

    def prolong(self, sandbox: Sandbox, longest: float) -> None:
        """Asks for more where less than half is left, or less than a run may take."""
        left = self._end - time.monotonic()
        if left > max(self._lifetime / 2, longest):
            return
        wanted = max(self._lifetime, longest)
        while wanted > max(left, 1.0):
            if wanted < self._refused:
                try:
                    sandbox.extend(wanted)
                except InvalidArgument:  # Past the pool's named.max_lifetime.
                    self._refused = wanted
                except ServiceError:
                    return  # What is wrong is told by what comes next.
                else:
                    self._end = time.monotonic() + wanted
                    return
            wanted /= 2


@contextlib.contextmanager
def _used(sandbox: Sandbox, longest: float) -> Iterator[None]:
    """A sandbox in which silent code runs is not idle, though to the server it is."""
    if sandbox.idle_timeout > longest:
        yield
        return
    is_over = threading.Event()

    def use() -> None:
        while not is_over.wait(sandbox.idle_timeout / 3):
            with contextlib.suppress(SandpoolError):
                sandbox.extend(1.0)  # Which it has anyway. Asking counts as use.

    threading.Thread(target=use, name="sandpool-in-use", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _delete(sandbox: Sandbox) -> None:
    with contextlib.suppress(SandpoolError):  # It ends by its idle timeout, too.
        sandbox.delete()


def _sandbox_notice(reason: str) -> str:
    return (
        f"The session's sandbox was gone ({reason}). All variables and files of earlier code are "
        "lost. This code ran in a new sandbox."
    )


class Sessions:
    """The sessions of one executor at one server."""

    def __init__(self) -> None:
        self.name = uuid.uuid4().hex
        """What tells them from all others, here and in other processes."""
        _HERE[self.name] = self
        self._lock = threading.Lock()
        self._by_key: OrderedDict[Hashable, Session] = OrderedDict()

    def of(self, key: Hashable) -> Session:
        """The session of a key, a new one if there is none."""
        with self._lock:
            session = self._by_key.setdefault(key, Session())
            self._by_key.move_to_end(key)
            if len(self._by_key) <= _MAX_SESSIONS:
                return session
            # At the latest this one's.
            unused = next(key for key, other in self._by_key.items() if not other.is_used)
            forgotten = self._by_key.pop(unused)
        if forgotten is not session:
            forgotten.give_up()
        return session

    def delete(self, client: Client) -> None:
        """Ends all of their sandboxes, as `Session.delete`."""
        with self._lock:
            sessions = list(self._by_key.values())
        until = time.monotonic() + _MAKING
        with ThreadPoolExecutor(_DELETIONS) as threads:
            list(threads.map(lambda session: session.delete(client, until), sessions))


def is_here(name: str) -> bool:
    """Whether sessions of that name are this process's, and are still there."""
    return name in _HERE
