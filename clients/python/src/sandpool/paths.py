"""What `Files` tells of a path."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from sandpool.v1 import file_pb2 as pb

from ._durations import moment


class PathKind(Enum):
    """What is at a path."""

    UNSPECIFIED = pb.PathInfo.KIND_UNSPECIFIED
    FILE = pb.PathInfo.FILE
    DIRECTORY = pb.PathInfo.DIRECTORY
    LINK = pb.PathInfo.LINK
    SPECIAL = pb.PathInfo.SPECIAL
    """A socket, a device, a pipe."""


_KINDS: Final = {kind.value: kind for kind in PathKind}


@dataclass(frozen=True, slots=True)
class PathInfo:
    """A path in a sandbox. Like all that comes from there, its name is the sandbox's word."""

    path: str
    """Absolute."""
    kind: PathKind
    size: int
    mode: int
    """Permission bits."""
    modify_time: datetime
    target: str
    """Where a link leads to."""

    @classmethod
    def of(cls, message: pb.PathInfo) -> PathInfo:
        """What a message says."""
        return cls(
            path=message.path,
            kind=_KINDS.get(message.kind, PathKind.UNSPECIFIED),
            size=message.size,
            mode=message.mode,
            modify_time=moment(message.modify_time),
            target=message.target,
        )
