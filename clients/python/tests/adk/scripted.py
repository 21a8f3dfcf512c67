"""A model without a network: it answers what it was told to, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from google.adk.agents.llm_agent import LlmAgent
from google.adk.artifacts.in_memory_artifact_service import InMemoryArtifactService
from google.adk.events.event import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.genai import types
from pydantic import PrivateAttr

from sandpool.adk import SandpoolCodeExecutor


class ScriptedModel(BaseLlm):
    """Gives its answers one after the other."""

    model: str = "scripted"
    answers: list[str]
    _asked: list[list[types.Content]] = PrivateAttr(default_factory=list)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        self._asked.append([content.model_copy(deep=True) for content in llm_request.contents])
        text = self.answers[len(self._asked) - 1]
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]))

    def asked(self, call: int) -> str:
        """All text of its request number `call`."""
        parts = [part for content in self._asked[call] for part in content.parts or []]
        return "\n".join(part.text or "" for part in parts)

    def told(self, call: int) -> str:
        """The last thing in its request number `call`: of the second one, what the code did."""
        return (self._asked[call][-1].parts or [])[-1].text or ""

    @property
    def calls(self) -> int:
        return len(self._asked)


def python(code: str) -> str:
    """An answer that runs code."""
    return f"I run this:\n```python\n{code}\n```"


class Chat:
    """An agent with a runner, and one session of it."""

    def __init__(
        self,
        executor: SandpoolCodeExecutor,
        *answers: str,
        sessions: InMemorySessionService | None = None,
    ) -> None:
        self.model = ScriptedModel(answers=list(answers))
        self.agent = LlmAgent(name="coder", model=self.model, code_executor=executor)
        self.artifacts = InMemoryArtifactService()
        self.sessions = sessions or InMemorySessionService()
        self.runner = Runner(
            app_name="app",
            agent=self.agent,
            artifact_service=self.artifacts,
            session_service=self.sessions,
        )

    async def say(self, *parts: types.Part | str, session: str = "s") -> list[Event]:
        """One turn of the user: the events that it makes."""
        if not await self.sessions.get_session(app_name="app", user_id="u", session_id=session):
            await self.sessions.create_session(app_name="app", user_id="u", session_id=session)
        message = types.Content(
            role="user",
            parts=[types.Part(text=part) if isinstance(part, str) else part for part in parts],
        )
        run = self.runner.run_async(user_id="u", session_id=session, new_message=message)
        return [event async for event in run]


def text_of(event: Event) -> str:
    """The text of an event."""
    parts = event.content.parts if event.content else None
    return "".join(part.text or "" for part in parts or [])


def outcomes(events: list[Event]) -> list[types.CodeExecutionResult]:
    """What code did, of events in which it ran."""
    return [
        part.code_execution_result
        for event in events
        for part in (event.content.parts if event.content else None) or []
        if part.code_execution_result
    ]
