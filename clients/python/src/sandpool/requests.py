"""What is asked for: the options of an execution, and the messages that say them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from typing_extensions import TypedDict

from sandpool.v1 import execution_pb2 as pb

from ._durations import duration

CHUNK: Final = 64 * 1024
"""Bytes of input in a message; the server takes up to 1 MiB."""


CREATION_PAUSES: Final = (0.1, 0.2, 0.4)
"""Seconds before each repetition of a creation whose connection broke: gRPC lets go of a broken
connection some time after it has told the calls of it, and gives it new ones until then."""


def new_request_id() -> str:
    """An id by which a creation can be repeated."""
    return uuid.uuid4().hex


def at_once(request: Any) -> Any:
    """The same creation, without time to wait for a sandbox: 0 would be the server's default."""
    again = type(request)()
    again.CopyFrom(request)
    if hasattr(again, "queue_timeout"):
        again.queue_timeout.FromMilliseconds(1)
    return again


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file that the caller has, by what tells its content from any other."""

    path: str
    """Relative to the working directory, as in `OutputFile`."""
    size: int
    sha256: bytes

    @classmethod
    def of(cls, path: str, content: bytes) -> KnownFile:
        """A file with this content."""
        return cls(path, len(content), hashlib.sha256(content).digest())


class Options(TypedDict, total=False):
    """What every way to run something takes.

    Unset limits are the pool's defaults, and over its maximum they are refused (`InvalidArgument`).
    Times are in seconds, sizes in bytes.
    """

    pool: str
    """Name of the pool; unset: the server's default one. Not in a sandbox that lives on."""
    env: Mapping[str, str]
    """Added to the pool's environment, over it."""
    working_directory: str
    """Relative to /workspace, or absolute within it; made if it is missing."""
    files: Mapping[str, bytes | str]
    """Written before the start, by path relative to the working directory; texts as UTF-8."""
    output_paths: Sequence[str]
    """Globs relative to the working directory; what they match comes back as `Result.files`."""
    known_files: Iterable[KnownFile]
    """Files that need not come back while they are so. At most 10,000."""
    timeout: float
    """Wall clock, from the start on. As for all limits, 0 is the pool's default."""
    queue_timeout: float
    """How long to wait for a sandbox, or for the earlier cells of a context.

    Where there is nothing to wait for, in a sandbox that lives on, it is refused.
    """
    memory_bytes: int
    disk_bytes: int
    """Files in /workspace, /tmp and HOME together. Not in a sandbox that lives on."""
    output_bytes: int
    """stdout, stderr and displays together."""
    output_file_bytes: int
    """Content of all output files together; what does not fit is left out."""
    processes: int
    """Processes and threads at once."""
    labels: Mapping[str, str]
    """Written to the server's log; not secret."""
    execution_id: str
    """Chosen by the caller: the same id twice runs once."""
    keep_after_disconnect: float
    """How long it goes on when nobody reads it."""
    terminal: tuple[int, int]
    """Rows and columns: it runs on a terminal of that size."""


def spec(
    program: pb.Code | pb.Command,
    *,
    sandbox_id: str = "",
    context_id: str = "",
    stdin_open: bool = False,
    pool: str = "",
    env: Mapping[str, str] | None = None,
    working_directory: str = "",
    files: Mapping[str, bytes | str] | None = None,
    output_paths: Sequence[str] = (),
    known_files: Iterable[KnownFile] = (),
    timeout: float | None = None,
    queue_timeout: float | None = None,
    memory_bytes: int = 0,
    disk_bytes: int = 0,
    output_bytes: int = 0,
    output_file_bytes: int = 0,
    processes: int = 0,
    labels: Mapping[str, str] | None = None,
    execution_id: str = "",
    keep_after_disconnect: float | None = None,
    terminal: tuple[int, int] | None = None,
) -> pb.ExecutionSpec:
    """The message of a program and its `Options`."""
    if isinstance(output_paths, str):
        raise TypeError("output_paths: a list of globs is wanted, not one string")
    return pb.ExecutionSpec(
        pool=pool,
        sandbox_id=sandbox_id,
        context_id=context_id,
        code=program if isinstance(program, pb.Code) else None,
        command=program if isinstance(program, pb.Command) else None,
        env=env,
        working_directory=working_directory,
        files=input_files(files),
        output_paths=output_paths,
        known_files=(
            pb.KnownFile(path=file.path, size=file.size, sha256=file.sha256) for file in known_files
        ),
        limits=pb.Limits(
            timeout=duration("timeout", timeout),
            queue_timeout=duration("queue_timeout", queue_timeout),
            memory_bytes=memory_bytes,
            disk_bytes=disk_bytes,
            output_bytes=output_bytes,
            output_file_bytes=output_file_bytes,
            processes=processes,
        ),
        terminal=pb.Terminal(rows=terminal[0], columns=terminal[1]) if terminal else None,
        stdin_open=stdin_open,
        execution_id=execution_id,
        labels=labels,
        keep_after_disconnect=duration("keep_after_disconnect", keep_after_disconnect),
    )


def code(source: str, language: str, args: Sequence[str]) -> pb.Code:
    """Source code as a program."""
    if not isinstance(source, str):
        raise TypeError(f"code: a str is wanted, not {type(source).__name__}")
    if isinstance(args, str):
        raise TypeError("args: a list of arguments is wanted, not one string")
    return pb.Code(language=language, source=source, args=args)


def command(args: Sequence[str]) -> pb.Command:
    """A command line as a program."""
    if isinstance(args, (str, bytes)):
        raise TypeError("args: a list is wanted, such as ['ls', '-l'], not one string")
    return pb.Command(args=args)


def input_files(files: Mapping[str, bytes | str] | None) -> Iterator[pb.InputFile]:
    """Files as messages."""
    for path, content in (files or {}).items():
        yield pb.InputFile(path=path, content=as_bytes(content))


def as_bytes(text: bytes | bytearray | memoryview | str) -> bytes:
    """Texts as UTF-8. Raises TypeError for what is neither text nor bytes."""
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, (bytes, bytearray, memoryview)):
        return bytes(text)
    raise TypeError(f"a str or bytes is wanted, not {type(text).__name__}")


def chunks(content: bytes) -> Iterable[bytes]:
    """Parts that a message can carry."""
    return (content[at : at + CHUNK] for at in range(0, len(content), CHUNK))


def takes_input(start: pb.ExecutionSpec) -> bool:
    """Whether its input is open until it is closed: that of a terminal always is."""
    return start.stdin_open or start.HasField("terminal")


def run_messages(start: pb.ExecutionSpec, stdin: bytes) -> Iterator[pb.ExecuteRequest]:
    """All that a call sends whose input is there from the beginning."""
    yield pb.ExecuteRequest(start=start)
    if takes_input(start):
        for chunk in chunks(stdin):
            yield pb.ExecuteRequest(stdin=chunk)
        yield pb.ExecuteRequest(close_stdin=pb.CloseStdin())


class Source:
    """Messages of the caller's own iterator, whose error is the caller's to see: gRPC keeps it."""

    def __init__(self, messages: Iterator[Any]) -> None:
        self._messages = messages
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
