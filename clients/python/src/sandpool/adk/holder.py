"""Who has the state of a session, noted in ADK's own session.

An agent that was started again, or another one of its replicas, has the session and not its state.
"""

from __future__ import annotations

from typing import Any, Final

from google.adk.agents.invocation_context import InvocationContext
from google.adk.code_executors.code_executor_context import CodeExecutorContext

from .sessions import is_here

_KEY: Final = "sandpool_state_holder"
_NAMES: Final = 16
"""Executors of one session that are noted: beyond it, the first one is forgotten."""


class Holder:
    """Which executors have run the session's code: agents of one session may have one each."""

    def __init__(self, context: InvocationContext) -> None:
        state = getattr(getattr(context, "session", None), "state", None)
        # The flow hands the same dictionary on to the session service. It is ADK's own: in a
        # version that keeps it elsewhere, no more than the notice is missing.
        kept = CodeExecutorContext(state) if state else None
        self._noted: dict[str, Any] = getattr(kept, "_context", {})

    def change_to(self, name: str, *, is_new: bool) -> str:
        """Notes who has run code now, as `Sessions.name`, with a session that `is_new` to it.

        Returns a notice if what earlier code has left is lost, or "".
        """
        names: list[str] = list(self._noted.get(_KEY, ()))
        is_noted = name in names
        others = [other for other in names if other != name]
        # Others of this process have their own state, and keep it. What those of another process
        # have run since is told once to each.
        since = names[names.index(name) + 1 :] if is_noted else names
        self._noted[_KEY] = [*others, name][-_NAMES:]
        if not all(map(is_here, since)):
            return _ELSEWHERE
        return _GIVEN_UP if is_noted and is_new else ""


_ELSEWHERE: Final = (
    "Earlier code of this session ran in another process of the agent: its variables and files are "
    "not here."
)
_GIVEN_UP: Final = (
    "The session was not used for so long that others have taken its place: variables and files of "
    "earlier code are lost."
)
