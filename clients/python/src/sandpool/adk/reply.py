"""What ADK is told of a run, so that its model sees all of it, and success as success.

ADK's result builder looks at `stderr` alone: any text in it is a failure, of which the model sees
nothing else, and none of it is a success, of which it sees `stdout` and the names of files. So a
success has an empty stderr and all that it wrote in stdout, and a failure has all of it in stderr.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from google.adk.code_executors.code_execution_utils import CodeExecutionResult, File

from ..outcomes import (
    Cancelled,
    DiskLimit,
    Exited,
    NotStarted,
    Outcome,
    OutOfMemory,
    OutputLimit,
    SandboxLost,
    Signaled,
    TimedOut,
)
from ..results import Result

StderrOnSuccess = Literal["append", "drop"]

STDOUT_MARKER: Final = "--- stdout ---"
STDERR_MARKER: Final = "--- stderr ---"


@dataclass
class Run:
    """A run that has ended, and what else there is to tell of it."""

    result: Result
    stdout: str
    files: Sequence[File] = ()
    is_cell: bool = False
    """Whether it ran in a session's Python."""
    notice: str = ""
    """What was lost before it."""
    left_out: int = 0
    """Files that it left and that did not come."""

    @property
    def keeps_variables(self) -> bool:
        """Whether the next code of the session finds what this one has left."""
        is_lost = isinstance(self.result.outcome, SandboxLost)
        return self.is_cell and not is_lost and not self.result.context_ended


def of_run(run: Run, stderr_on_success: StderrOnSuccess) -> CodeExecutionResult:
    """What ADK is told of a run that took place."""
    result = run.result
    stderr = result.stderr
    # What was lost is told as a failure is, even if the code was content without it.
    if result.ok and not run.notice:
        parts = [run.stdout]
        if stderr.strip() and stderr_on_success == "append":
            parts += [STDERR_MARKER, stderr]
        return CodeExecutionResult(
            stdout=_lines(*parts, *_remarks(run)), output_files=list(run.files), exit_code=0
        )
    raised = result.error.traceback if result.error else ""
    parts = [run.notice, stderr, raised, _end(run, bool(stderr.strip() or raised)), *_remarks(run)]
    if run.files:
        parts.append("Saved artifacts: " + ",".join(f"`{file.name}`" for file in run.files))
    if run.stdout:
        parts += [STDOUT_MARKER, run.stdout]
    return CodeExecutionResult(
        stdout=run.stdout,
        stderr=_lines(*parts),
        output_files=list(run.files),
        exit_code=_exit_code(result.outcome),
    )


def of_no_run(why: str) -> CodeExecutionResult:
    """What ADK is told where the service did not run it, or nobody knows whether it did."""
    return CodeExecutionResult(stderr=why)


def _end(run: Run, is_explained: bool) -> str:
    """How it ended, in words, unless what it wrote says it."""
    outcome = run.result.outcome
    match outcome:
        case Exited(0):
            return "The code was run without it, and exited with code 0."
        case Exited(1) if is_explained:
            return ""
        case Exited() | Signaled():
            return f"The code {outcome}."
        case TimedOut():
            kept = " The session's variables are kept." if run.keeps_variables else ""
            return f"The code {outcome}, and was ended: this is what it wrote until then.{kept}"
        case SandboxLost():
            session = " All variables and files of the session are lost." if run.is_cell else ""
            return f"Nobody knows how the code ended: {outcome}.{session}"
        case NotStarted():
            return f"The code was {outcome}."
        case _:
            return f"The code was ended: {outcome}."


def _exit_code(outcome: Outcome) -> int:
    """As `sandpool run` has it: ADK's skills take no code for a success with warnings."""
    match outcome:
        case Exited(code):
            return code
        case Signaled(number):
            return 128 + number
        case TimedOut():
            return 124
        case OutOfMemory():
            return 137
        case OutputLimit() | DiskLimit():
            return 153
        case NotStarted():
            return 126
        case _:
            return 125


def _remarks(run: Run) -> list[str]:
    remarks = []
    if run.is_cell and not run.keeps_variables and not isinstance(run.result.outcome, SandboxLost):
        # Who cancels may have ended the sandbox with all that was in it.
        kept = not isinstance(run.result.outcome, Cancelled)
        files = "files are still there" if kept else "and files may be"
        remarks.append(
            f"The session's Python ended with this code: all variables are lost, {files}. "
            "The next code runs in a new Python."
        )
    if run.left_out:
        remarks.append(
            f"{run.left_out} more files were left behind: together they are larger than "
            "output_file_bytes allows, or cannot be read."
        )
    if run.result.usage.displays_omitted:
        remarks.append(f"{run.result.usage.displays_omitted} more displays were left out.")
    return remarks


def _lines(*parts: str) -> str:
    """Parts below each other: each but the last one ends its line."""
    *all_but_last, last = [part for part in parts if part] or [""]
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in all_but_last) + last
