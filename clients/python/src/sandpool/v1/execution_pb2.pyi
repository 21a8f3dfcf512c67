from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExecutionSpec(_message.Message):
    __slots__ = ("pool", "sandbox_id", "context_id", "code", "command", "env", "working_directory", "files", "output_paths", "limits", "terminal", "stdin_open", "execution_id", "labels", "keep_after_disconnect", "known_files")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    POOL_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PATHS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    STDIN_OPEN_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    KEEP_AFTER_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FILES_FIELD_NUMBER: _ClassVar[int]
    pool: str
    sandbox_id: str
    context_id: str
    code: Code
    command: Command
    env: _containers.ScalarMap[str, str]
    working_directory: str
    files: _containers.RepeatedCompositeFieldContainer[InputFile]
    output_paths: _containers.RepeatedScalarFieldContainer[str]
    limits: Limits
    terminal: Terminal
    stdin_open: bool
    execution_id: str
    labels: _containers.ScalarMap[str, str]
    keep_after_disconnect: _duration_pb2.Duration
    known_files: _containers.RepeatedCompositeFieldContainer[KnownFile]
    def __init__(self, pool: _Optional[str] = ..., sandbox_id: _Optional[str] = ..., context_id: _Optional[str] = ..., code: _Optional[_Union[Code, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ..., env: _Optional[_Mapping[str, str]] = ..., working_directory: _Optional[str] = ..., files: _Optional[_Iterable[_Union[InputFile, _Mapping]]] = ..., output_paths: _Optional[_Iterable[str]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., terminal: _Optional[_Union[Terminal, _Mapping]] = ..., stdin_open: bool = ..., execution_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., keep_after_disconnect: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., known_files: _Optional[_Iterable[_Union[KnownFile, _Mapping]]] = ...) -> None: ...

class Code(_message.Message):
    __slots__ = ("language", "source", "args")
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    language: str
    source: str
    args: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, language: _Optional[str] = ..., source: _Optional[str] = ..., args: _Optional[_Iterable[str]] = ...) -> None: ...

class Terminal(_message.Message):
    __slots__ = ("rows", "columns")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("args",)
    ARGS_FIELD_NUMBER: _ClassVar[int]
    args: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, args: _Optional[_Iterable[str]] = ...) -> None: ...

class InputFile(_message.Message):
    __slots__ = ("path", "content", "mode")
    PATH_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    path: str
    content: bytes
    mode: int
    def __init__(self, path: _Optional[str] = ..., content: _Optional[bytes] = ..., mode: _Optional[int] = ...) -> None: ...

class KnownFile(_message.Message):
    __slots__ = ("path", "size", "sha256")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    path: str
    size: int
    sha256: bytes
    def __init__(self, path: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class Limits(_message.Message):
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

class ExecuteRequest(_message.Message):
    __slots__ = ("start", "stdin", "close_stdin", "signal", "resize")
    START_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_STDIN_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    start: ExecutionSpec
    stdin: bytes
    close_stdin: CloseStdin
    signal: Signal
    resize: Terminal
    def __init__(self, start: _Optional[_Union[ExecutionSpec, _Mapping]] = ..., stdin: _Optional[bytes] = ..., close_stdin: _Optional[_Union[CloseStdin, _Mapping]] = ..., signal: _Optional[_Union[Signal, _Mapping]] = ..., resize: _Optional[_Union[Terminal, _Mapping]] = ...) -> None: ...

class CloseStdin(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Signal(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class ExecuteResponse(_message.Message):
    __slots__ = ("started", "stdout", "stderr", "display", "output_file", "finished", "gap")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FILE_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    started: Started
    stdout: bytes
    stderr: bytes
    display: Display
    output_file: OutputFile
    finished: Finished
    gap: Gap
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., display: _Optional[_Union[Display, _Mapping]] = ..., output_file: _Optional[_Union[OutputFile, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ...) -> None: ...

class Display(_message.Message):
    __slots__ = ("data", "text", "metadata", "is_result", "omitted", "stdout_offset", "stderr_offset")
    class DataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    class TextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DATA_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    IS_RESULT_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    STDOUT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    STDERR_OFFSET_FIELD_NUMBER: _ClassVar[int]
    data: _containers.ScalarMap[str, bytes]
    text: _containers.ScalarMap[str, str]
    metadata: str
    is_result: bool
    omitted: _containers.RepeatedCompositeFieldContainer[OmittedForm]
    stdout_offset: int
    stderr_offset: int
    def __init__(self, data: _Optional[_Mapping[str, bytes]] = ..., text: _Optional[_Mapping[str, str]] = ..., metadata: _Optional[str] = ..., is_result: bool = ..., omitted: _Optional[_Iterable[_Union[OmittedForm, _Mapping]]] = ..., stdout_offset: _Optional[int] = ..., stderr_offset: _Optional[int] = ...) -> None: ...

class OmittedForm(_message.Message):
    __slots__ = ("mime_type", "bytes")
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    mime_type: str
    bytes: int
    def __init__(self, mime_type: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("stream", "offset", "bytes")
    class Stream(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STREAM_UNSPECIFIED: _ClassVar[Gap.Stream]
        STDOUT: _ClassVar[Gap.Stream]
        STDERR: _ClassVar[Gap.Stream]
        DISPLAYS: _ClassVar[Gap.Stream]
        OUTPUT_FILES: _ClassVar[Gap.Stream]
    STREAM_UNSPECIFIED: Gap.Stream
    STDOUT: Gap.Stream
    STDERR: Gap.Stream
    DISPLAYS: Gap.Stream
    OUTPUT_FILES: Gap.Stream
    STREAM_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    stream: Gap.Stream
    offset: int
    bytes: int
    def __init__(self, stream: _Optional[_Union[Gap.Stream, str]] = ..., offset: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class AttachRequest(_message.Message):
    __slots__ = ("execution_id", "stdout_offset", "stderr_offset", "display_offset", "output_file_offset")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STDOUT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    STDERR_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_OFFSET_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FILE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    stdout_offset: int
    stderr_offset: int
    display_offset: int
    output_file_offset: int
    def __init__(self, execution_id: _Optional[str] = ..., stdout_offset: _Optional[int] = ..., stderr_offset: _Optional[int] = ..., display_offset: _Optional[int] = ..., output_file_offset: _Optional[int] = ...) -> None: ...

class WriteInputRequest(_message.Message):
    __slots__ = ("execution_id", "stdin", "close_stdin", "signal", "resize")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_STDIN_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    stdin: bytes
    close_stdin: CloseStdin
    signal: Signal
    resize: Terminal
    def __init__(self, execution_id: _Optional[str] = ..., stdin: _Optional[bytes] = ..., close_stdin: _Optional[_Union[CloseStdin, _Mapping]] = ..., signal: _Optional[_Union[Signal, _Mapping]] = ..., resize: _Optional[_Union[Terminal, _Mapping]] = ...) -> None: ...

class WriteInputResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListExecutionsRequest(_message.Message):
    __slots__ = ("sandbox_id", "labels", "page_size", "page_token")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sandbox_id: str
    labels: _containers.ScalarMap[str, str]
    page_size: int
    page_token: str
    def __init__(self, sandbox_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListExecutionsResponse(_message.Message):
    __slots__ = ("executions", "next_page_token")
    EXECUTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    executions: _containers.RepeatedCompositeFieldContainer[ExecutionSummary]
    next_page_token: str
    def __init__(self, executions: _Optional[_Iterable[_Union[ExecutionSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExecutionSummary(_message.Message):
    __slots__ = ("execution_id", "sandbox_id", "pool", "labels", "create_time", "stdout_bytes", "stderr_bytes", "finished")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    STDOUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    STDERR_BYTES_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    sandbox_id: str
    pool: str
    labels: _containers.ScalarMap[str, str]
    create_time: _timestamp_pb2.Timestamp
    stdout_bytes: int
    stderr_bytes: int
    finished: Finished
    def __init__(self, execution_id: _Optional[str] = ..., sandbox_id: _Optional[str] = ..., pool: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stdout_bytes: _Optional[int] = ..., stderr_bytes: _Optional[int] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("execution_id", "sandbox_id", "pool")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    sandbox_id: str
    pool: str
    def __init__(self, execution_id: _Optional[str] = ..., sandbox_id: _Optional[str] = ..., pool: _Optional[str] = ...) -> None: ...

class OutputFile(_message.Message):
    __slots__ = ("path", "mode", "size", "offset", "content", "last")
    PATH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    path: str
    mode: int
    size: int
    offset: int
    content: bytes
    last: bool
    def __init__(self, path: _Optional[str] = ..., mode: _Optional[int] = ..., size: _Optional[int] = ..., offset: _Optional[int] = ..., content: _Optional[bytes] = ..., last: bool = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("exited", "signaled", "timed_out", "out_of_memory", "output_limit", "cancelled", "sandbox_lost", "not_started", "disk_limit", "error", "usage", "timings", "context_ended", "execution_count")
    EXITED_FIELD_NUMBER: _ClassVar[int]
    SIGNALED_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_MEMORY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_LOST_FIELD_NUMBER: _ClassVar[int]
    NOT_STARTED_FIELD_NUMBER: _ClassVar[int]
    DISK_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_ENDED_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    exited: Exited
    signaled: Signaled
    timed_out: TimedOut
    out_of_memory: OutOfMemory
    output_limit: OutputLimit
    cancelled: Cancelled
    sandbox_lost: SandboxLost
    not_started: NotStarted
    disk_limit: DiskLimit
    error: CodeError
    usage: Usage
    timings: Timings
    context_ended: bool
    execution_count: int
    def __init__(self, exited: _Optional[_Union[Exited, _Mapping]] = ..., signaled: _Optional[_Union[Signaled, _Mapping]] = ..., timed_out: _Optional[_Union[TimedOut, _Mapping]] = ..., out_of_memory: _Optional[_Union[OutOfMemory, _Mapping]] = ..., output_limit: _Optional[_Union[OutputLimit, _Mapping]] = ..., cancelled: _Optional[_Union[Cancelled, _Mapping]] = ..., sandbox_lost: _Optional[_Union[SandboxLost, _Mapping]] = ..., not_started: _Optional[_Union[NotStarted, _Mapping]] = ..., disk_limit: _Optional[_Union[DiskLimit, _Mapping]] = ..., error: _Optional[_Union[CodeError, _Mapping]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., context_ended: bool = ..., execution_count: _Optional[int] = ...) -> None: ...

class CodeError(_message.Message):
    __slots__ = ("name", "value", "traceback")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    traceback: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., traceback: _Optional[str] = ...) -> None: ...

class NotStarted(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Exited(_message.Message):
    __slots__ = ("code",)
    CODE_FIELD_NUMBER: _ClassVar[int]
    code: int
    def __init__(self, code: _Optional[int] = ...) -> None: ...

class Signaled(_message.Message):
    __slots__ = ("signal", "name")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    signal: int
    name: str
    def __init__(self, signal: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class TimedOut(_message.Message):
    __slots__ = ("timeout",)
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    timeout: _duration_pb2.Duration
    def __init__(self, timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class OutOfMemory(_message.Message):
    __slots__ = ("memory_bytes",)
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    memory_bytes: int
    def __init__(self, memory_bytes: _Optional[int] = ...) -> None: ...

class DiskLimit(_message.Message):
    __slots__ = ("disk_bytes",)
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    disk_bytes: int
    def __init__(self, disk_bytes: _Optional[int] = ...) -> None: ...

class OutputLimit(_message.Message):
    __slots__ = ("output_bytes",)
    OUTPUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    output_bytes: int
    def __init__(self, output_bytes: _Optional[int] = ...) -> None: ...

class Cancelled(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class SandboxLost(_message.Message):
    __slots__ = ("cause", "reason")
    class Cause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CAUSE_UNSPECIFIED: _ClassVar[SandboxLost.Cause]
        BEFORE_START: _ClassVar[SandboxLost.Cause]
        INFRASTRUCTURE_EVENT: _ClassVar[SandboxLost.Cause]
        UNKNOWN: _ClassVar[SandboxLost.Cause]
    CAUSE_UNSPECIFIED: SandboxLost.Cause
    BEFORE_START: SandboxLost.Cause
    INFRASTRUCTURE_EVENT: SandboxLost.Cause
    UNKNOWN: SandboxLost.Cause
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    cause: SandboxLost.Cause
    reason: str
    def __init__(self, cause: _Optional[_Union[SandboxLost.Cause, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("cpu_time", "peak_memory_bytes", "stdout_bytes", "stderr_bytes", "output_files_omitted", "display_bytes", "displays_omitted")
    CPU_TIME_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STDOUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    STDERR_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FILES_OMITTED_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISPLAYS_OMITTED_FIELD_NUMBER: _ClassVar[int]
    cpu_time: _duration_pb2.Duration
    peak_memory_bytes: int
    stdout_bytes: int
    stderr_bytes: int
    output_files_omitted: int
    display_bytes: int
    displays_omitted: int
    def __init__(self, cpu_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., peak_memory_bytes: _Optional[int] = ..., stdout_bytes: _Optional[int] = ..., stderr_bytes: _Optional[int] = ..., output_files_omitted: _Optional[int] = ..., display_bytes: _Optional[int] = ..., displays_omitted: _Optional[int] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queued", "leased", "started", "first_output", "finished", "warm")
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    LEASED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FIRST_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    WARM_FIELD_NUMBER: _ClassVar[int]
    queued: _duration_pb2.Duration
    leased: _duration_pb2.Duration
    started: _duration_pb2.Duration
    first_output: _duration_pb2.Duration
    finished: _duration_pb2.Duration
    warm: bool
    def __init__(self, queued: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., leased: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., started: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., first_output: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., finished: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., warm: bool = ...) -> None: ...

class RunRequest(_message.Message):
    __slots__ = ("spec", "stdin", "text")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STDIN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    spec: ExecutionSpec
    stdin: bytes
    text: bool
    def __init__(self, spec: _Optional[_Union[ExecutionSpec, _Mapping]] = ..., stdin: _Optional[bytes] = ..., text: bool = ...) -> None: ...

class RunResponse(_message.Message):
    __slots__ = ("execution_id", "sandbox_id", "pool", "stdout", "stderr", "stdout_text", "stderr_text", "output_files", "cut", "finished", "displays")
    EXECUTION_ID_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    STDOUT_FIELD_NUMBER: _ClassVar[int]
    STDERR_FIELD_NUMBER: _ClassVar[int]
    STDOUT_TEXT_FIELD_NUMBER: _ClassVar[int]
    STDERR_TEXT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FILES_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    DISPLAYS_FIELD_NUMBER: _ClassVar[int]
    execution_id: str
    sandbox_id: str
    pool: str
    stdout: bytes
    stderr: bytes
    stdout_text: str
    stderr_text: str
    output_files: _containers.RepeatedCompositeFieldContainer[OutputFile]
    cut: Cut
    finished: Finished
    displays: _containers.RepeatedCompositeFieldContainer[Display]
    def __init__(self, execution_id: _Optional[str] = ..., sandbox_id: _Optional[str] = ..., pool: _Optional[str] = ..., stdout: _Optional[bytes] = ..., stderr: _Optional[bytes] = ..., stdout_text: _Optional[str] = ..., stderr_text: _Optional[str] = ..., output_files: _Optional[_Iterable[_Union[OutputFile, _Mapping]]] = ..., cut: _Optional[_Union[Cut, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., displays: _Optional[_Iterable[_Union[Display, _Mapping]]] = ...) -> None: ...

class Cut(_message.Message):
    __slots__ = ("stdout_bytes", "stderr_bytes", "output_paths", "displays", "output_files")
    STDOUT_BYTES_FIELD_NUMBER: _ClassVar[int]
    STDERR_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PATHS_FIELD_NUMBER: _ClassVar[int]
    DISPLAYS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FILES_FIELD_NUMBER: _ClassVar[int]
    stdout_bytes: int
    stderr_bytes: int
    output_paths: _containers.RepeatedScalarFieldContainer[str]
    displays: int
    output_files: int
    def __init__(self, stdout_bytes: _Optional[int] = ..., stderr_bytes: _Optional[int] = ..., output_paths: _Optional[_Iterable[str]] = ..., displays: _Optional[int] = ..., output_files: _Optional[int] = ...) -> None: ...
