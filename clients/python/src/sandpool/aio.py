"""The client for asyncio: as the one for threads, with each call awaited.

    async with AsyncClient() as client:
        result = await client.run("print(1)")
        async with await client.execute("print(2)") as execution:
            async for event in execution:
                ...

A task that is cancelled cancels its execution on the server.
"""

from ._async.client import AsyncClient
from ._async.execution import AsyncExecution
from ._async.files import AsyncFiles
from ._async.sandbox import AsyncContext, AsyncSandbox

__all__ = ["AsyncClient", "AsyncContext", "AsyncExecution", "AsyncFiles", "AsyncSandbox"]
