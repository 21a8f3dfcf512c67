"""How an execution ended: each of these is one outcome of `Finished` in execution.proto.

``str()`` of an outcome says it in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from sandpool.v1 import execution_pb2 as pb

from ._durations import seconds


@dataclass(frozen=True, slots=True)
class Exited:
    """The program ended by itself, with this code."""

    code: int

    def __str__(self) -> str:
        return f"exited with code {self.code}"


@dataclass(frozen=True, slots=True)
class Signaled:
    """A signal ended the program: its Linux number, and its name or ""."""

    signal: int
    name: str

    def __str__(self) -> str:
        return f"ended by signal {self.signal}" + (f" ({self.name})" if self.name else "")


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Its wall clock limit, in seconds, passed."""

    timeout: float

    def __str__(self) -> str:
        return f"timed out after {self.timeout:g} s"


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """All its processes together passed this limit."""

    memory_bytes: int

    def __str__(self) -> str:
        return f"out of memory: it used more than {self.memory_bytes} bytes"


@dataclass(frozen=True, slots=True)
class DiskLimit:
    """Its files together passed this limit."""

    disk_bytes: int

    def __str__(self) -> str:
        return f"out of disk: it wrote more than {self.disk_bytes} bytes of files"


@dataclass(frozen=True, slots=True)
class OutputLimit:
    """It wrote more than this; as much was delivered."""

    output_bytes: int

    def __str__(self) -> str:
        return f"too much output: it wrote more than {self.output_bytes} bytes"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The caller or the server ended it."""

    reason: str

    def __str__(self) -> str:
        return f"cancelled: {self.reason}"


class LostCause(Enum):
    """What is known of a sandbox that was lost."""

    UNSPECIFIED = pb.SandboxLost.CAUSE_UNSPECIFIED
    BEFORE_START = pb.SandboxLost.BEFORE_START
    """No sandbox confirmed that it has started: safe to repeat."""
    INFRASTRUCTURE_EVENT = pb.SandboxLost.INFRASTRUCTURE_EVENT
    """Evidence from outside the sandbox: eviction, node loss, deletion by someone else."""
    UNKNOWN = pb.SandboxLost.UNKNOWN
    """It died after the program had started. Whether to repeat it is the caller's decision."""


@dataclass(frozen=True, slots=True)
class SandboxLost:
    """The sandbox died."""

    cause: LostCause
    reason: str

    def __str__(self) -> str:
        return f"the sandbox was lost ({self.cause.name}): {self.reason}"


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The sandbox was fine, and the program could not be started in it."""

    reason: str

    def __str__(self) -> str:
        return f"not started: {self.reason}"


@dataclass(frozen=True, slots=True)
class UnknownOutcome:
    """The server is newer than this client, and told an end that the client does not know."""

    def __str__(self) -> str:
        return "it ended in a way that this client is too old to know"


Outcome: TypeAlias = (
    Exited
    | Signaled
    | TimedOut
    | OutOfMemory
    | DiskLimit
    | OutputLimit
    | Cancelled
    | SandboxLost
    | NotStarted
    | UnknownOutcome
)


def outcome_of(finished: pb.Finished) -> Outcome:
    """The outcome that a message carries."""
    match finished.WhichOneof("outcome"):
        case "exited":
            return Exited(finished.exited.code)
        case "signaled":
            return Signaled(finished.signaled.signal, finished.signaled.name)
        case "timed_out":
            return TimedOut(seconds(finished.timed_out.timeout))
        case "out_of_memory":
            return OutOfMemory(finished.out_of_memory.memory_bytes)
        case "disk_limit":
            return DiskLimit(finished.disk_limit.disk_bytes)
        case "output_limit":
            return OutputLimit(finished.output_limit.output_bytes)
        case "cancelled":
            return Cancelled(finished.cancelled.reason)
        case "sandbox_lost":
            lost = finished.sandbox_lost
            known = {cause.value for cause in LostCause}
            cause = LostCause(lost.cause) if lost.cause in known else LostCause.UNSPECIFIED
            return SandboxLost(cause, lost.reason)
        case "not_started":
            return NotStarted(finished.not_started.reason)
        case _:
            return UnknownOutcome()
