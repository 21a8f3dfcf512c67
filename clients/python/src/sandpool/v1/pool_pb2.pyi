from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListPoolsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPoolsResponse(_message.Message):
    __slots__ = ("pools",)
    POOLS_FIELD_NUMBER: _ClassVar[int]
    pools: _containers.RepeatedCompositeFieldContainer[Pool]
    def __init__(self, pools: _Optional[_Iterable[_Union[Pool, _Mapping]]] = ...) -> None: ...

class GetPoolRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class WatchPoolRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ResizePoolRequest(_message.Message):
    __slots__ = ("name", "min_idle", "max_sandboxes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MIN_IDLE_FIELD_NUMBER: _ClassVar[int]
    MAX_SANDBOXES_FIELD_NUMBER: _ClassVar[int]
    name: str
    min_idle: int
    max_sandboxes: int
    def __init__(self, name: _Optional[str] = ..., min_idle: _Optional[int] = ..., max_sandboxes: _Optional[int] = ...) -> None: ...

class DrainPoolRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Pool(_message.Message):
    __slots__ = ("spec", "counts", "health")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    spec: PoolSpec
    counts: PoolCounts
    health: PoolHealth
    def __init__(self, spec: _Optional[_Union[PoolSpec, _Mapping]] = ..., counts: _Optional[_Union[PoolCounts, _Mapping]] = ..., health: _Optional[_Union[PoolHealth, _Mapping]] = ...) -> None: ...

class PoolSpec(_message.Message):
    __slots__ = ("name", "default", "backend", "languages", "min_idle", "max_sandboxes", "default_limits", "max_limits")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    MIN_IDLE_FIELD_NUMBER: _ClassVar[int]
    MAX_SANDBOXES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_LIMITS_FIELD_NUMBER: _ClassVar[int]
    MAX_LIMITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    default: bool
    backend: str
    languages: _containers.RepeatedCompositeFieldContainer[PoolLanguage]
    min_idle: int
    max_sandboxes: int
    default_limits: PoolLimits
    max_limits: PoolLimits
    def __init__(self, name: _Optional[str] = ..., default: bool = ..., backend: _Optional[str] = ..., languages: _Optional[_Iterable[_Union[PoolLanguage, _Mapping]]] = ..., min_idle: _Optional[int] = ..., max_sandboxes: _Optional[int] = ..., default_limits: _Optional[_Union[PoolLimits, _Mapping]] = ..., max_limits: _Optional[_Union[PoolLimits, _Mapping]] = ...) -> None: ...

class PoolLanguage(_message.Message):
    __slots__ = ("name", "preload")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRELOAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    preload: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., preload: _Optional[_Iterable[str]] = ...) -> None: ...

class PoolLimits(_message.Message):
    __slots__ = ("timeout", "queue_timeout", "memory_bytes", "disk_bytes", "output_bytes", "output_file_bytes", "processes")
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FILE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    timeout: _duration_pb2.Duration
    queue_timeout: _duration_pb2.Duration
    memory_bytes: int
    disk_bytes: int
    output_bytes: int
    output_file_bytes: int
    processes: int
    def __init__(self, timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., memory_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., output_bytes: _Optional[int] = ..., output_file_bytes: _Optional[int] = ..., processes: _Optional[int] = ...) -> None: ...

class PoolCounts(_message.Message):
    __slots__ = ("starting", "idle", "leased", "recycling", "queued")
    STARTING_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    RECYCLING_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    starting: int
    idle: int
    leased: int
    recycling: int
    queued: int
    def __init__(self, starting: _Optional[int] = ..., idle: _Optional[int] = ..., leased: _Optional[int] = ..., recycling: _Optional[int] = ..., queued: _Optional[int] = ...) -> None: ...

class PoolHealth(_message.Message):
    __slots__ = ("state", "reason", "failed_starts")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[PoolHealth.State]
        WARMING: _ClassVar[PoolHealth.State]
        READY: _ClassVar[PoolHealth.State]
        UNHEALTHY: _ClassVar[PoolHealth.State]
        DRAINED: _ClassVar[PoolHealth.State]
    STATE_UNSPECIFIED: PoolHealth.State
    WARMING: PoolHealth.State
    READY: PoolHealth.State
    UNHEALTHY: PoolHealth.State
    DRAINED: PoolHealth.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FAILED_STARTS_FIELD_NUMBER: _ClassVar[int]
    state: PoolHealth.State
    reason: str
    failed_starts: int
    def __init__(self, state: _Optional[_Union[PoolHealth.State, str]] = ..., reason: _Optional[str] = ..., failed_starts: _Optional[int] = ...) -> None: ...
