"""What tests of the executor share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import pytest
from google.adk.agents.invocation_context import InvocationContext
from google.adk.code_executors.code_execution_utils import (
    CodeExecutionInput,
    CodeExecutionResult,
    File,
)

from sandpool import Client, Sandbox
from sandpool.adk import SandpoolCodeExecutor

MakeExecutor: TypeAlias = Callable[..., SandpoolCodeExecutor]


def sandbox_of(client: Client, session: str) -> Sandbox:
    """The sandbox of a session, once it has one."""
    while True:
        for sandbox in client.list_sandboxes(labels={"adk.agent.google.com/session-id": session}):
            return sandbox


@pytest.fixture
def make_executor(server: str) -> Iterator[MakeExecutor]:
    """Makes executors, and closes them in the end."""
    with ExitStack() as made:
        yield lambda **options: made.enter_context(
            SandpoolCodeExecutor(**{"address": server, **options})
        )


def execute(
    executor: SandpoolCodeExecutor,
    code: str,
    *files: File,
    session: str | None = None,
    user: str = "user",
    app: str = "app",
    invocation: str = "e-1",
) -> CodeExecutionResult:
    """Calls an executor as ADK does, with as much of a context as it reads."""
    context: Any = SimpleNamespace(app_name=app, user_id=user, invocation_id=invocation)
    given = CodeExecutionInput(code=code, input_files=list(files), execution_id=session)
    return executor.execute_code(cast(InvocationContext, context), given)
