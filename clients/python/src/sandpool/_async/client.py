"""The client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from typing_extensions import Self

from sandpool.v1 import execution_pb2, pool_pb2, sandbox_pb2, server_pb2

from .._durations import duration
from .._transport.asynchronous import AsyncTransport
from ..requests import input_files
from ..settings import TLS, Settings
from .execution import AsyncExecution
from .runner import AsyncRunner
from .sandbox import AsyncSandbox


class AsyncClient(AsyncRunner):
    """A client of one server; connections are made when they are needed, and again when they broke.

    `run` and the like of a client run each program in a fresh sandbox of its own.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls: bool | TLS = False,
        connect_timeout: float = 5.0,
        call_timeout: float = 60.0,
    ) -> None:
        """`address` is host:port, or a URL whose https:// means TLS.

        None: the variable SANDPOOL_ADDRESS, or 127.0.0.1:50051. `token` is what each call shows, or
        `token_file` holds it, read for each call; neither: SANDPOOL_TOKEN_FILE or SANDPOOL_TOKEN.
        `tls`: one's own, or True for `TLS.of_environment()`, as with https://.
        `connect_timeout`, in seconds: then a call raises Unreachable. `call_timeout`: for calls
        that do not run, wait for or transfer anything; those end by the limits of the server.
        """
        settings = Settings.of(
            address,
            token=token,
            token_file=token_file,
            tls=tls,
            connect_timeout=connect_timeout,
            call_timeout=call_timeout,
        )
        super().__init__(AsyncTransport(settings))

    async def close(self) -> None:
        """Ends the connection, and what runs by it. Sandboxes live on."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # Executions

    async def attach(self, execution_id: str) -> AsyncExecution:
        """An execution that runs or has ended a while ago, from its beginning.

        It must be the caller's own. Whoever read it before is told `Aborted`.
        """
        return await AsyncExecution(self._transport, None, execution_id=execution_id).open()

    async def list_executions(
        self, *, sandbox_id: str = "", labels: Mapping[str, str] | None = None, limit: int = 1000
    ) -> list[execution_pb2.ExecutionSummary]:
        """The caller's own, the newest first: messages of execution.proto, at most `limit`."""
        request = execution_pb2.ListExecutionsRequest(sandbox_id=sandbox_id, labels=labels)
        list_executions = self._transport.services.executions.ListExecutions
        return await self._pages(list_executions, request, "executions", limit)

    # Sandboxes that live on

    async def sandbox(
        self,
        *,
        pool: str = "",
        lifetime: float | None = None,
        idle_timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes | str] | None = None,
        labels: Mapping[str, str] | None = None,
        queue_timeout: float | None = None,
    ) -> AsyncSandbox:
        """Takes a sandbox that lives on, for `lifetime` seconds or `idle_timeout` without use."""
        request = sandbox_pb2.CreateSandboxRequest(
            pool=pool,
            lifetime=duration("lifetime", lifetime),
            idle_timeout=duration("idle_timeout", idle_timeout),
            env=env,
            files=input_files(files),
            labels=labels,
            queue_timeout=duration("queue_timeout", queue_timeout),
        )
        sandboxes = self._transport.services.sandboxes

        async def delete(made: sandbox_pb2.Sandbox) -> None:
            await AsyncSandbox(self._transport, made).delete()

        made = await self._transport.create(sandboxes.CreateSandbox, request, delete)
        return AsyncSandbox(self._transport, made)

    async def get_sandbox(self, sandbox_id: str) -> AsyncSandbox:
        """A sandbox that the caller has made before."""
        request = sandbox_pb2.GetSandboxRequest(sandbox_id=sandbox_id)
        get = self._transport.services.sandboxes.GetSandbox
        return AsyncSandbox(self._transport, await self._transport.quick(get, request))

    async def list_sandboxes(
        self, *, labels: Mapping[str, str] | None = None, limit: int = 1000
    ) -> list[AsyncSandbox]:
        """The caller's own, by id, at most `limit`."""
        request = sandbox_pb2.ListSandboxesRequest(labels=labels)
        list_sandboxes = self._transport.services.sandboxes.ListSandboxes
        told = await self._pages(list_sandboxes, request, "sandboxes", limit)
        return [AsyncSandbox(self._transport, sandbox) for sandbox in told]

    # The server

    async def list_pools(self) -> list[pool_pb2.Pool]:
        """All pools: messages of pool.proto."""
        list_pools = self._transport.services.pools.ListPools
        return list((await self._transport.quick(list_pools, pool_pb2.ListPoolsRequest())).pools)

    async def get_pool(self, name: str) -> pool_pb2.Pool:
        """A pool: a message of pool.proto."""
        get = self._transport.services.pools.GetPool
        pool: pool_pb2.Pool = await self._transport.quick(get, pool_pb2.GetPoolRequest(name=name))
        return pool

    async def resize_pool(
        self, name: str, *, min_idle: int | None = None, max_sandboxes: int | None = None
    ) -> pool_pb2.Pool:
        """Resizes a pool until the server restarts. Only for admins."""
        request = pool_pb2.ResizePoolRequest(
            name=name, min_idle=min_idle, max_sandboxes=max_sandboxes
        )
        resize = self._transport.services.pools.ResizePool
        pool: pool_pb2.Pool = await self._transport.quick(resize, request)
        return pool

    async def server_info(self) -> server_pb2.ServerInfo:
        """Which server this is: a message of server.proto."""
        get = self._transport.services.server.GetServerInfo
        info: server_pb2.ServerInfo = await self._transport.quick(
            get, server_pb2.GetServerInfoRequest()
        )
        return info

    async def _pages(self, method: Any, request: Any, field: str, limit: int) -> list[Any]:
        told: list[Any] = []
        while len(told) < limit:
            request.page_size = min(limit - len(told), 1000)
            answer = await self._transport.quick(method, request)
            told += getattr(answer, field)
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
        return told
