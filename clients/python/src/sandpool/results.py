"""What comes back of an execution: events while it runs, and a `Result` at its end.

All of it is what a sandbox sent: hostile until somebody has looked at it.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from sandpool.v1 import execution_pb2 as pb

from ._durations import seconds
from .errors import ConnectionLost, ExecutionFailed
from .outcomes import Exited, Outcome, outcome_of

_SAFE_FORMS: Final = ("text/plain", "image/png", "image/jpeg", "image/gif", "image/webp")
_GAPS: Final = {
    pb.Gap.STDOUT: "stdout",
    pb.Gap.STDERR: "stderr",
    pb.Gap.DISPLAYS: "displays",
    pb.Gap.OUTPUT_FILES: "output_files",
}
_TEXTS: Final = ("text/", "image/svg+xml", "application/javascript")


@dataclass(frozen=True, slots=True)
class Started:
    """The program exists."""

    execution_id: str
    sandbox_id: str
    pool: str


@dataclass(frozen=True, slots=True)
class Stdout:
    """Bytes that it wrote; a character may be cut at their end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stderr:
    """Bytes that it wrote; a character may be cut at their end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Gap:
    """What the server no longer has.

    Bytes of "stdout" or "stderr", or how many "displays" or "output_files".
    """

    stream: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that matched `output_paths`, its path relative to the working directory.

    The path is the sandbox's word: check it before you write there.
    """

    path: str
    content: bytes = field(repr=False)
    mode: int


@dataclass(frozen=True, slots=True)
class Display:
    """A value that a cell showed, as a notebook shows it: its forms by MIME type.

    In Jupyter, text and pictures of it are shown. HTML, SVG and JavaScript are a stranger's code in
    your page: `trusted()` shows them, too.
    """

    data: Mapping[str, bytes] = field(repr=False)
    metadata: Mapping[str, Any]
    is_result: bool
    """Whether it is the value of the cell's last expression."""
    omitted: Mapping[str, int]
    """Forms that were too large: their sizes in bytes, as far as they are known."""

    @property
    def text(self) -> str:
        """Its plain text, or ""."""
        return self.data.get("text/plain", b"").decode("utf-8", "replace")

    def trusted(self) -> TrustedDisplay:
        """The same, for Jupyter to show in all its forms: what is in it runs in your page."""
        return TrustedDisplay(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {
            kind: _for_jupyter(kind, form)
            for kind, form in self.data.items()
            if kind in _SAFE_FORMS
        }


@dataclass(frozen=True, slots=True)
class TrustedDisplay:
    """A display that Jupyter shows in all its forms."""

    display: Display

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        forms = {kind: _for_jupyter(kind, form) for kind, form in self.display.data.items()}
        return forms, dict(self.display.metadata)


def _for_jupyter(kind: str, form: bytes) -> Any:
    if kind.startswith(_TEXTS):
        return form.decode("utf-8", "replace")
    if kind.endswith("json"):
        return _json(form.decode("utf-8", "replace"))
    return base64.b64encode(form).decode("ascii")


def _json(text: str) -> Any:
    """None for what is no JSON: the sandbox wrote it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


Event: TypeAlias = Started | Stdout | Stderr | Display | OutputFile | Gap


@dataclass(frozen=True, slots=True)
class CodeError:
    """An exception that a cell did not catch, in the sandbox's words."""

    name: str
    value: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What it used, and what of it was delivered. Times in seconds."""

    cpu_time: float
    peak_memory_bytes: int
    stdout_bytes: int
    stderr_bytes: int
    output_files_omitted: int
    display_bytes: int
    displays_omitted: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds since the server had the request; None where a stage was not reached."""

    queued: float | None
    leased: float | None
    started: float | None
    first_output: float | None
    finished: float | None
    warm: bool
    """Whether a waiting interpreter took it."""


@dataclass(frozen=True, slots=True)
class Result:
    """All of an execution that has ended."""

    execution_id: str
    """Empty if it never started and had none of the caller's, as sandbox_id and pool."""
    sandbox_id: str
    pool: str
    outcome: Outcome
    stdout_bytes: bytes = field(repr=False)
    stderr_bytes: bytes = field(repr=False)
    displays: list[Display]
    files: list[OutputFile]
    gaps: list[Gap]
    """What is missing of its output: only if it outlived a connection."""
    error: CodeError | None
    """Of a cell that ended by an exception."""
    usage: Usage
    timings: Timings
    context_ended: bool
    """Whether its context has ended with it."""
    execution_count: int
    """How many cells its context had run with it; 0 for what is no cell."""

    @property
    def stdout(self) -> str:
        """What it wrote, what is not UTF-8 replaced by U+FFFD."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What it wrote, what is not UTF-8 replaced by U+FFFD."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None if it did not end by itself."""
        return self.outcome.code if isinstance(self.outcome, Exited) else None

    @property
    def ok(self) -> bool:
        """Whether it ended with exit code 0."""
        return self.exit_code == 0

    def check(self) -> Result:
        """Returns itself if `ok`; raises `ExecutionFailed` otherwise."""
        if not self.ok:
            raise ExecutionFailed(self)
        return self

    def _ipython_display_(self) -> None:
        from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

        sys.stdout.write(self.stdout)
        sys.stderr.write(self.stderr)
        for shown in self.displays:
            display(shown)  # type: ignore[no-untyped-call,unused-ignore]
        if self.error is not None:
            sys.stderr.write(self.error.traceback)
        elif not self.ok:
            sys.stderr.write(f"{self.outcome}\n")


class Collector:
    """Makes events of messages, and the result of all of them."""

    def __init__(self, execution_id: str = "") -> None:
        self._started = Started(execution_id, "", "")
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._displays: list[Display] = []
        self._files: list[OutputFile] = []
        self._file = bytearray()
        self._gaps: list[Gap] = []
        self._missing = {"stdout": 0, "stderr": 0, "displays": 0, "output_files": 0}
        self.has_started = False

    def take(self, message: pb.ExecuteResponse) -> Event | Result | None:
        """None for a part of a file, and for what a newer server tells."""
        match message.WhichOneof("event"):
            case "stdout":
                self.stdout += message.stdout
                return Stdout(message.stdout)
            case "stderr":
                self.stderr += message.stderr
                return Stderr(message.stderr)
            case "started":
                if self.has_started:
                    return None  # Told anew to those who attach.
                told = message.started
                self.has_started = True
                self._started = Started(told.execution_id, told.sandbox_id, told.pool)
                return self._started
            case "display":
                display = _display(message.display)
                self._displays.append(display)
                return display
            case "output_file":
                return self._take_file(message.output_file)
            case "gap":
                return self._take_gap(message.gap)
            case "finished":
                return self._result(message.finished)
            case _:
                return None

    @property
    def execution_id(self) -> str:
        """Empty if nobody has told it yet."""
        return self._started.execution_id

    def attach_request(self) -> pb.AttachRequest:
        """What goes on after all that was taken; a file that came in part comes once more."""
        self._file.clear()
        return pb.AttachRequest(
            execution_id=self._started.execution_id,
            stdout_offset=len(self.stdout) + self._missing["stdout"],
            stderr_offset=len(self.stderr) + self._missing["stderr"],
            display_offset=len(self._displays) + self._missing["displays"],
            output_file_offset=len(self._files) + self._missing["output_files"],
        )

    def _take_gap(self, told: pb.Gap) -> Gap | None:
        if told.stream not in _GAPS:
            return None
        gap = Gap(_GAPS[told.stream], told.offset, told.bytes)
        self._missing[gap.stream] += gap.length
        self._gaps.append(gap)
        return gap

    def _take_file(self, piece: pb.OutputFile) -> OutputFile | None:
        if piece.offset != len(self._file):
            raise ConnectionLost(
                f"a piece of the output file {piece.path!r} is missing: {piece.offset} was told "
                f"after {len(self._file)}"
            )
        self._file += piece.content
        if not piece.last:
            return None
        file = OutputFile(piece.path, bytes(self._file), piece.mode)
        self._file.clear()
        self._files.append(file)
        return file

    def _result(self, finished: pb.Finished) -> Result:
        error = None
        if finished.HasField("error"):
            told = finished.error
            error = CodeError(told.name, told.value, told.traceback)
        usage = finished.usage
        return Result(
            execution_id=self._started.execution_id,
            sandbox_id=self._started.sandbox_id,
            pool=self._started.pool,
            outcome=outcome_of(finished),
            stdout_bytes=bytes(self.stdout),
            stderr_bytes=bytes(self.stderr),
            displays=self._displays,
            files=self._files,
            gaps=self._gaps,
            error=error,
            usage=Usage(
                cpu_time=seconds(usage.cpu_time),
                peak_memory_bytes=usage.peak_memory_bytes,
                stdout_bytes=usage.stdout_bytes,
                stderr_bytes=usage.stderr_bytes,
                output_files_omitted=usage.output_files_omitted,
                display_bytes=usage.display_bytes,
                displays_omitted=usage.displays_omitted,
            ),
            timings=_timings(finished.timings),
            context_ended=finished.context_ended,
            execution_count=finished.execution_count,
        )


def _timings(timings: pb.Timings) -> Timings:
    stages = ("queued", "leased", "started", "first_output", "finished")
    reached = {
        stage: seconds(getattr(timings, stage)) if timings.HasField(stage) else None
        for stage in stages
    }
    return Timings(**reached, warm=timings.warm)


def _display(message: pb.Display) -> Display:
    metadata = _json(message.metadata or "{}")
    return Display(
        data=dict(message.data),
        metadata=metadata if isinstance(metadata, dict) else {},
        is_result=message.is_result,
        omitted={form.mime_type: form.bytes for form in message.omitted},
    )
