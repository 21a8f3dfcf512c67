"""The methods of a server, of either kind of channel."""

from __future__ import annotations

from typing import Any, Final

from sandpool.v1 import (
    execution_pb2,
    execution_pb2_grpc,
    file_pb2_grpc,
    pool_pb2_grpc,
    sandbox_pb2_grpc,
    server_pb2_grpc,
)

EXECUTE: Final = "/sandpool.v1.ExecutionService/Execute"


class Services:
    """The stubs of one channel."""

    def __init__(self, channel: Any) -> None:
        self.executions = execution_pb2_grpc.ExecutionServiceStub(channel)
        self.files = file_pb2_grpc.FileServiceStub(channel)
        self.pools = pool_pb2_grpc.PoolServiceStub(channel)
        self.sandboxes = sandbox_pb2_grpc.SandboxServiceStub(channel)
        self.server = server_pb2_grpc.ServerServiceStub(channel)
        # Execute with one message: the same on the wire, and cheaper than an iterator of one.
        self.execute_once = channel.unary_stream(
            EXECUTE,
            request_serializer=execution_pb2.ExecuteRequest.SerializeToString,
            response_deserializer=execution_pb2.ExecuteResponse.FromString,
        )
