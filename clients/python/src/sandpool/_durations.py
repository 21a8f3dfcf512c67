"""Seconds as they are in Python, and as they are in messages."""

from __future__ import annotations

import math
from datetime import datetime, timezone

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_MAX_SECONDS = 315_576_000_000  # Of a google.protobuf.Duration: about 10,000 years.


def duration(name: str, value: float | None) -> Duration | None:
    """The message of a number of seconds; None stays None.

    Raises ValueError, naming the option, for what is not such a number.
    """
    if value is None:
        return None
    if not math.isfinite(value) or abs(value) > _MAX_SECONDS:
        raise ValueError(f"{name}: {value!r} is not a number of seconds that can be meant")
    message = Duration()
    message.FromNanoseconds(round(value * 1e9))
    return message


def seconds(message: Duration) -> float:
    """A duration in seconds."""
    return message.seconds + message.nanos / 1e9


def moment(message: Timestamp) -> datetime:
    """A moment, in UTC."""
    return message.ToDatetime(tzinfo=timezone.utc)
