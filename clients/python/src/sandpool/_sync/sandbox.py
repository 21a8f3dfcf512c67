# Made from _async by generate.sh: change it there.
"""Sandboxes that live on, and contexts: interpreters in them that keep their variables."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from types import TracebackType

from grpc import StatusCode
from typing_extensions import Self

from sandpool.v1 import sandbox_pb2 as pb

from .._durations import duration, moment, seconds
from .._transport.synchronous import Transport
from ..errors import NotFound
from .files import Files
from .runner import Runner


class Lasting(Runner):
    """What lives on until it is deleted: as a context manager, at the end of its block."""

    def delete(self) -> None:
        """Ends it with all that runs in it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(NotFound):  # It has ended by itself, or with its sandbox.
            self.delete()


class Context(Lasting):
    """A Python that keeps its variables: each `run` is a cell, after the earlier ones.

    As a context manager it is deleted in the end; otherwise it ends with its sandbox.
    """

    def __init__(self, transport: Transport, told: pb.Context) -> None:
        super().__init__(transport, sandbox_id=told.sandbox_id, context_id=told.context_id)
        self.context_id: str = told.context_id
        self.sandbox_id: str = told.sandbox_id
        self.language: str = told.language
        self.working_directory: str = told.working_directory

    def delete(self) -> None:
        """Ends the interpreter, and all that its cells have started."""
        request = pb.DeleteContextRequest(sandbox_id=self.sandbox_id, context_id=self.context_id)
        delete = self._transport.services.sandboxes.DeleteContext
        self._transport.quick(delete, request)


class Sandbox(Lasting):
    """A sandbox that lives on: what runs in it finds what earlier programs have left.

    As a context manager it is deleted in the end; otherwise it lives until `delete`, the end of its
    lifetime or its idle timeout.
    """

    def __init__(self, transport: Transport, told: pb.Sandbox) -> None:
        super().__init__(transport, sandbox_id=told.sandbox_id)
        self.sandbox_id: str = told.sandbox_id
        self.pool: str = told.pool
        self.labels: Mapping[str, str] = dict(told.labels)
        self.create_time: datetime = moment(told.create_time)
        self.idle_timeout: float = seconds(told.idle_timeout)
        self.expire_time: datetime = moment(told.expire_time)
        """When its lifetime is over, as far as this object was told."""
        self.files = Files(transport, told.sandbox_id)

    def context(
        self, *, env: Mapping[str, str] | None = None, working_directory: str = ""
    ) -> Context:
        """Starts a Python that keeps its variables; returns once it takes cells."""
        request = pb.CreateContextRequest(
            sandbox_id=self.sandbox_id, env=env, working_directory=working_directory
        )
        create = self._transport.services.sandboxes.CreateContext

        def delete(made: pb.Context) -> None:
            Context(self._transport, made).delete()

        return Context(self._transport, self._transport.create(create, request, delete))

    def get_context(self, context_id: str) -> Context:
        """A context that was made before. Raises NotFound."""
        for told in self.list_contexts():
            if told.context_id == context_id:
                return Context(self._transport, told)
        raise NotFound(
            f"sandbox {self.sandbox_id} has no context {context_id}", code=StatusCode.NOT_FOUND
        )

    def list_contexts(self) -> list[pb.Context]:
        """Its contexts by id, also those that have ended: messages of sandbox.proto."""
        request = pb.ListContextsRequest(sandbox_id=self.sandbox_id)
        list_contexts = self._transport.services.sandboxes.ListContexts
        answer = self._transport.quick(list_contexts, request)
        return list(answer.contexts)

    def extend(self, lifetime: float) -> datetime:
        """It lives for so many seconds from now on, or longer if it would have; until when."""
        request = pb.ExtendSandboxRequest(
            sandbox_id=self.sandbox_id, lifetime=duration("lifetime", lifetime)
        )
        extend = self._transport.services.sandboxes.ExtendSandbox
        told = self._transport.quick(extend, request)
        self.expire_time = moment(told.expire_time)
        return self.expire_time

    def delete(self) -> None:
        """Ends it with all that runs in it."""
        request = pb.DeleteSandboxRequest(sandbox_id=self.sandbox_id)
        delete = self._transport.services.sandboxes.DeleteSandbox
        self._transport.quick(delete, request)
