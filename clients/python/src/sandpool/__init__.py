"""Runs code that nobody has read, at once, in the warm gVisor sandboxes of a Sandpool server.

    with Client("127.0.0.1:50051") as client:
        print(client.run("print(6 * 7)").stdout)

`Client` is for threads, `sandpool.aio.AsyncClient` for asyncio. Messages of the API itself, and
stubs for all of its calls, are in `sandpool.v1`.
"""

from ._sync.client import Client
from ._sync.execution import Execution
from ._sync.files import Files
from ._sync.sandbox import Context, Sandbox
from .errors import (
    Aborted,
    AlreadyExists,
    BadToken,
    CallCancelled,
    ConnectionLost,
    DeadlineExceeded,
    ExecutionFailed,
    FailedPrecondition,
    ForkedProcess,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SandpoolError,
    ServerError,
    ServiceError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unreachable,
    Violation,
)
from .outcomes import (
    Cancelled,
    DiskLimit,
    Exited,
    LostCause,
    NotStarted,
    Outcome,
    OutOfMemory,
    OutputLimit,
    SandboxLost,
    Signaled,
    TimedOut,
    UnknownOutcome,
)
from .paths import PathInfo, PathKind
from .requests import KnownFile, Options
from .results import (
    CodeError,
    Display,
    Event,
    Gap,
    OutputFile,
    Result,
    Started,
    Stderr,
    Stdout,
    Timings,
    TrustedDisplay,
    Usage,
)
from .settings import TLS

__all__ = [
    "TLS",
    "Aborted",
    "AlreadyExists",
    "BadToken",
    "CallCancelled",
    "Cancelled",
    "Client",
    "CodeError",
    "ConnectionLost",
    "Context",
    "DeadlineExceeded",
    "DiskLimit",
    "Display",
    "Event",
    "Execution",
    "ExecutionFailed",
    "Exited",
    "FailedPrecondition",
    "Files",
    "ForkedProcess",
    "Gap",
    "InvalidArgument",
    "KnownFile",
    "LostCause",
    "NotFound",
    "NotStarted",
    "Options",
    "OutOfMemory",
    "Outcome",
    "OutputFile",
    "OutputLimit",
    "PathInfo",
    "PathKind",
    "PermissionDenied",
    "ResourceExhausted",
    "Result",
    "Sandbox",
    "SandboxLost",
    "SandpoolError",
    "ServerError",
    "ServiceError",
    "Signaled",
    "Started",
    "Stderr",
    "Stdout",
    "TimedOut",
    "Timings",
    "TrustedDisplay",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownOutcome",
    "Unreachable",
    "Usage",
    "Violation",
]
