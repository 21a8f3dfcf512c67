"""Which process has the state of a session, noted in ADK's own session.

An agent that was started again, or another one of its replicas, has the session and not its state.
"""

from __future__ import annotations

from typing import Any, Final

from google.adk.agents.invocation_context import InvocationContext
from google.adk.code_executors.code_executor_context import CodeExecutorContext

_KEY: Final = "sandpool_state_holder"


class Holder:
    """Who ran the session's code before."""

    def __init__(self, context: InvocationContext) -> None:
        state = getattr(getattr(context, "session", None), "state", None)
        # The flow hands the same dictionary on to the session service. It is ADK's own: in a
        # version that keeps it elsewhere, no more than the notice is missing.
        kept = CodeExecutorContext(state) if state else None
        self._noted: dict[str, Any] = getattr(kept, "_context", {})

    def change_to(self, name: str) -> str:
        """Notes who has run code now; returns a notice if it was somebody else before, or ""."""
        before, self._noted[_KEY] = self._noted.get(_KEY), name
        if before in (None, name):
            return ""
        return (
            "Earlier code of this session ran in another process of the agent: its variables and "
            "files are not here."
        )
