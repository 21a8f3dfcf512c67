"""The code executor."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final

from google.adk.agents.invocation_context import InvocationContext
from google.adk.code_executors.base_code_executor import BaseCodeExecutor
from google.adk.code_executors.code_execution_utils import (
    CodeExecutionInput,
    CodeExecutionResult,
    File,
)
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, model_validator
from typing_extensions import Self, override

from .._sync.client import Client
from .._sync.sandbox import Context, Sandbox
from ..errors import CallCancelled, ConnectionLost, SandpoolError
from ..outcomes import NotStarted
from ..requests import KnownFile, Options
from ..results import Result
from ..settings import TLS
from . import files, placement, reply
from .connection import Connection
from .holder import Holder
from .sessions import SessionBusy, Sessions
from .transcript import Transcript

logger = logging.getLogger(__name__)

_MARGIN: Final = 60.0
"""Seconds that a run may take besides the code: for a sandbox, files, the way."""
_MAX_LABEL: Final = 256
_INVOCATION: Final = "adk.agent.google.com/invocation-id"
_SESSION: Final = "adk.agent.google.com/session-id"


class SandpoolCodeExecutor(BaseCodeExecutor):
    """Runs an agent's code in warm gVisor sandboxes of a Sandpool server.

    It takes what `GkeCodeExecutor` takes: what a server decides is an error that names the server's
    setting. Each run has a fresh sandbox or, with `stateful`, the Python of its session, which
    keeps variables and files. One executor serves any number of threads. Nothing that the service
    or the code does raises: it is in the result's stderr, and the log says what the service did.
    """

    model_config = ConfigDict(extra="forbid")

    # What GkeCodeExecutor takes, too

    timeout_seconds: int | None = Field(default=300, gt=0)
    """Wall clock of the code; None: the pool's default. Waiting for a sandbox does not count."""
    image: str | None = None
    """Chooses a pool by `pools`; as do the next three, together with it."""
    cpu_requested: str | None = None
    mem_requested: str | None = None
    cpu_limit: str | None = None
    mem_limit: str | None = None
    """The code's memory, up to the pool's maximum; None: the pool's default.

    With `stateful`, where it would be of many runs, it chooses a pool, too.
    """
    executor_type: str | None = None
    """"job", which None means, too: a sandbox for each run."""
    namespace: str | None = None
    kubeconfig_path: str | None = None
    kubeconfig_context: str | None = None
    sandbox_gateway_name: str | None = None
    sandbox_template: str | None = None

    # Its own

    address: str | None = None
    """host:port or a URL; None: the variable SANDPOOL_ADDRESS, or 127.0.0.1:50051."""
    token: SecretStr | None = Field(default=None, repr=False)
    token_file: str | None = None
    """A file that holds it, read for each call; neither: SANDPOOL_TOKEN_FILE or SANDPOOL_TOKEN."""
    tls: bool | TLS = Field(default=False, repr=False, exclude=True)
    """One's own `sandpool.TLS`, or True for what SANDPOOL_CA and the like name, as with https://."""
    pool: str = ""
    """Where no option chooses one; "": the server's default pool."""
    pools: dict[str, str] = Field(default_factory=dict)
    """Pools by image and resources: {"python:3.11-slim": "default", "big:1 cpu_limit=2": "big"}."""
    queue_timeout_seconds: int | None = Field(default=None, gt=0)
    """How long to wait for a sandbox where none is idle; None: the pool's default."""
    stderr_on_success: reply.StderrOnSuccess = "append"
    """What becomes of stderr where the code succeeds: ADK takes any stderr for a failure.

    "append": it follows stdout, below a line that says so. "drop": nobody sees it.
    """
    output_paths: Sequence[str] | None = None
    """Globs of files to return, relative to the working directory; None: all that are not hidden.

    Files that came in or were returned before are returned again only if they have changed.
    """
    output_file_bytes: int | None = Field(default=None, gt=0)
    """Content of all files together; None: the pool's default."""
    idle_timeout_seconds: int | None = Field(default=None, gt=0)
    """How long a session's state lives without a run; None: the pool's default."""
    lifetime_seconds: int | None = Field(default=None, gt=0)
    """How long it lives at first; it is extended while it is used. None: the pool's default."""

    _connection: Connection = PrivateAttr(default_factory=Connection)

    def __init__(
        self,
        kubeconfig_path: str | None = None,
        kubeconfig_context: str | None = None,
        **data: Any,
    ) -> None:
        """Takes kubeconfigs by position, as `GkeCodeExecutor` does, to say where they belong."""
        data |= {"kubeconfig_path": kubeconfig_path, "kubeconfig_context": kubeconfig_context}
        super().__init__(**data)

    @model_validator(mode="after")
    def _can_be_placed(self) -> Self:
        given = {option: getattr(self, option) for option in type(self).model_fields}
        problems = placement.misplaced(given)
        try:
            self._pool()
            self._memory_bytes()
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @override
    def execute_code(
        self,
        invocation_context: InvocationContext,
        code_execution_input: CodeExecutionInput,
    ) -> CodeExecutionResult:
        """Runs the code. With `stateful`, code that has an execution_id keeps what that one has."""
        try:
            execution_id = code_execution_input.execution_id
            if self.stateful and execution_id:
                run = self._run_in_session(invocation_context, code_execution_input, execution_id)
            else:
                run = self._run_alone(invocation_context, code_execution_input)
        except SandpoolError as error:
            if error.execution_id or isinstance(error, (ConnectionLost, CallCancelled)):
                logger.warning("Sandpool may have run an agent's code or not: %s", error)
                return reply.of_no_run(f"Nobody knows whether the code ran: {error}")
            logger.warning("Sandpool did not run an agent's code: %s", error)
            return reply.of_no_run(f"The code was not run: {error}")
        except SessionBusy:
            return reply.of_no_run("The code was not run: other code of this session still runs.")
        except Exception as error:
            # An exception would end the agent's run; a result lets it go on, as GkeCodeExecutor's.
            logger.exception("an agent's code could not be run")
            return reply.of_no_run(f"The code was not run: {type(error).__name__}: {error}")
        return reply.of_run(run, self.stderr_on_success)

    def close(self) -> None:
        """Ends the sandboxes of all sessions, and the connection. Another run makes new ones."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Runs

    def _run_alone(self, context: InvocationContext, given: CodeExecutionInput) -> reply.Run:
        client, _ = self._use()
        sent = _contents(given.input_files)
        options: Options = {
            **self._options(context),
            "pool": self._pool(),
            "memory_bytes": self._memory_bytes(),
            "files": sent,
            "known_files": map(KnownFile.of, sent.keys(), sent.values()),
        }
        if self.queue_timeout_seconds is not None:
            options["queue_timeout"] = float(self.queue_timeout_seconds)
        result = client.run(given.code, **options)
        return self._told(result, result.stdout)

    def _run_in_session(
        self, context: InvocationContext, given: CodeExecutionInput, execution_id: str
    ) -> reply.Run:
        client, sessions = self._use()
        # Who chooses a session's id may choose the same one in another app, or for another user.
        session = sessions.of((_text(context, "app_name"), _text(context, "user_id"), execution_id))
        contents = _contents(given.input_files)
        sent = {path: KnownFile.of(path, content) for path, content in contents.items()}
        options = self._options(context)
        transcript = Transcript()
        holder = Holder(context)

        def cell(python: Context) -> Result:
            nonlocal transcript
            transcript = Transcript()
            # ADK hands all files over with each run: what the code made of one since is kept.
            new = [file for path, file in sent.items() if session.sent.get(path) != file]
            known = {**session.known, **{file.path: file for file in new}}
            cell_options: Options = {
                **options,
                "files": {file.path: contents[file.path] for file in new},
                "known_files": known.values(),
            }
            execution = python.execute(given.code, **cell_options)
            result = transcript.read(execution, session.runs + 1)
            if not isinstance(result.outcome, NotStarted):
                session.take_in(new)
            return result

        longest = self._longest_turn()
        with session.turn(longest):
            is_new = session.runs == 0
            make_sandbox = partial(self._sandbox, execution_id=execution_id)
            result, notice = session.run(client, make_sandbox, cell, longest)
            run = self._told(result, transcript.text, transcript.pictures)
            session.told(KnownFile.of(file.path, file.content) for file in result.files)
            lost_before = holder.change_to(sessions.name, is_new=is_new)
        run.is_cell = True
        run.notice = "\n".join(filter(None, [lost_before, notice]))
        return run

    def _told(
        self, result: Result, stdout: str, pictures: Sequence[tuple[str, bytes]] = ()
    ) -> reply.Run:
        """A run with its files, which are news: what is known does not come."""
        news = [
            (file.path, file.content)
            for file in result.files
            if self.output_paths is not None or not files.is_compiled(file.path)
        ]
        return reply.Run(
            result,
            stdout,
            files=files.as_artifacts([*news, *pictures]),
            left_out=result.usage.output_files_omitted,
        )

    # What is asked for

    def _options(self, context: InvocationContext) -> Options:
        paths = files.EVERYTHING if self.output_paths is None else self.output_paths
        options: Options = {"output_paths": paths}
        if self.timeout_seconds is not None:
            options["timeout"] = float(self.timeout_seconds)
        if self.output_file_bytes is not None:
            options["output_file_bytes"] = self.output_file_bytes
        if invocation_id := _text(context, "invocation_id"):
            options["labels"] = {_INVOCATION: _label(invocation_id)}
        return options

    def _pool(self) -> str:
        decided = dict.fromkeys(placement.SHAPE)
        if not self.stateful:
            del decided["mem_limit"]
        shape = {option: value for option in decided if (value := getattr(self, option))}
        return placement.pool_of(self.pool, self.pools, shape)

    def _memory_bytes(self) -> int:
        if self.mem_limit is None or self.stateful:
            return 0
        return int(placement.quantity("mem_limit", self.mem_limit))

    def _sandbox(self, client: Client, execution_id: str) -> Sandbox:
        return client.sandbox(
            pool=self._pool(),
            lifetime=self.lifetime_seconds,
            idle_timeout=self.idle_timeout_seconds,
            labels={_SESSION: _label(execution_id)},
            queue_timeout=self.queue_timeout_seconds,
        )

    def _longest_turn(self) -> float:
        """Seconds that one run of a session may take."""
        return (self.timeout_seconds or 300) + (self.queue_timeout_seconds or 0) + _MARGIN

    def _use(self) -> tuple[Client, Sessions]:
        token = self.token.get_secret_value() if self.token is not None else None

        def connect() -> Client:
            return Client(self.address, token=token, token_file=self.token_file, tls=self.tls)

        return self._connection.use((self.address, token, self.token_file, self.tls), connect)


def _contents(given: Sequence[File]) -> dict[str, bytes]:
    return {files.relative(file.name): files.input_content(file) for file in given}


def _label(text: str) -> str:
    """What the server takes as a label's value."""
    return "".join(c if c.isprintable() else "_" for c in text)[:_MAX_LABEL]


def _text(context: InvocationContext, name: str) -> str:
    """Of a context that may be none: an executor can be called by hand, too."""
    value = getattr(context, name, "")
    return value if isinstance(value, str) else ""
