"""What the client raises.

A program that fails, times out or is lost is no error: its `Result` tells. These are calls that
were refused or broke; all are `SandpoolError`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2

from ._durations import seconds

if TYPE_CHECKING:
    from .results import Result


class SandpoolError(Exception):
    """All that this client raises of its own.

    `execution_id` is that of the program which ran, or may still run, when it was raised.
    """

    execution_id: str = ""


class ExecutionFailed(SandpoolError):
    """By `Result.check` only: the execution did not exit with code 0."""

    def __init__(self, result: Result) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        result = self.result
        raised = result.error.traceback if result.error else ""
        said = (raised or result.stderr or result.stdout).strip()
        return f"{result.outcome}" + (f"\n{said[-2000:]}" if said else "")


class ForkedProcess(SandpoolError):
    """The client was made in the process that this one was forked from."""


class BadToken(SandpoolError, ValueError):
    """The token, or what its file holds now, cannot be sent; the call was not made."""


class Violation(NamedTuple):
    """What is wrong with one field of a request, and what to do about it."""

    field: str
    description: str


class ServiceError(SandpoolError):
    """A call did not succeed.

    `code` is its gRPC status; `violations` name the fields of the request that are wrong;
    `retry_after`, in seconds, is when the server says that trying again makes sense.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        violations: Iterable[Violation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.violations = list(violations)
        self.retry_after = retry_after


class Unreachable(ServiceError):
    """There was no connection, so nothing was sent: safe to repeat."""


class ConnectionLost(ServiceError):
    """The connection broke while the server was busy with the call.

    Whether a program ran, or still runs, is not known. Its `execution_id`, if it is known, is what
    `Client.attach` takes.
    """


class CallCancelled(ServiceError):
    """The call was ended on this side: by `cancel`, by leaving its `with`, or by `close`."""


class InvalidArgument(ServiceError):
    """The request is wrong: `violations` say where."""


class NotFound(ServiceError):
    """No such pool, sandbox, context, execution or file; of a sandbox that has ended, how."""


class AlreadyExists(ServiceError):
    """A file, or an execution id with another spec."""


class ResourceExhausted(ServiceError):
    """The queue, the caller's share or a volume is full."""


class FailedPrecondition(ServiceError):
    """Not in the state that what is there is in, such as a context that has ended."""


class Unauthenticated(ServiceError):
    """The server wants a token, or does not know this one."""


class PermissionDenied(ServiceError):
    """This caller may not do that."""


class Unavailable(ServiceError):
    """The server refuses for now: it shuts down, its pool is drained, or the sandbox is gone."""


class DeadlineExceeded(ServiceError):
    """No answer in time."""


class Aborted(ServiceError):
    """Somebody else reads the execution now."""


class Unimplemented(ServiceError):
    """The server does not know the method: it is older than this client, or no Sandpool."""

    def add_versions(self, server: str) -> None:
        """Tells the server's version beside the client's."""
        self.message += f"; the server has version {server}, this client {version('sandpool')}"

    def __str__(self) -> str:
        return self.message


class ServerError(ServiceError):
    """Any other status."""


_BY_CODE: Final[dict[grpc.StatusCode, type[ServiceError]]] = {
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
}


def error_of(error: grpc.RpcError, address: str) -> ServiceError:
    """What a failed call raises, from grpc's own error."""
    code: grpc.StatusCode = error.code()
    said: str = error.details() or ""
    trailers: dict[str, str | bytes] = {}
    # Pair by pair: grpc.aio's Metadata is no mapping that dict() takes in every version.
    pairs: Any = error.trailing_metadata() or ()
    for key, value in pairs:
        trailers[key] = value
    if code is grpc.StatusCode.CANCELLED and not trailers:
        return CallCancelled("the call was cancelled on this side", code=code)
    if code is grpc.StatusCode.UNAVAILABLE and not trailers:
        # No server's answer has any of these: gRPC made it here.
        if "connect" in said or "resol" in said or "handshake" in said.lower():
            return Unreachable(
                f"cannot reach a Sandpool server at {address}: {said}. Start one with "
                "`sandpool serve`, or correct the address; a server with TLS wants "
                "tls=True or its certificate",
                code=code,
            )
        return ConnectionLost(f"the connection to {address} broke: {said}", code=code)
    violations: list[Violation] = []
    retry_after: float | None = None
    encoded = trailers.get("grpc-status-details-bin")
    if isinstance(encoded, bytes):
        for detail in status_pb2.Status.FromString(encoded).details:
            request = error_details_pb2.BadRequest()
            retry = error_details_pb2.RetryInfo()
            if detail.Unpack(request):
                violations += [
                    Violation(it.field, it.description) for it in request.field_violations
                ]
            elif detail.Unpack(retry):
                retry_after = seconds(retry.retry_delay)
    kind = _BY_CODE.get(code, ServerError)
    if kind is Unimplemented:
        said = (
            f"the server at {address} does not know this call: it is older than this client, or no "
            f"Sandpool server ({said})"
        )
    return kind(said or code.name, code=code, violations=violations, retry_after=retry_after)
