"""A LangChain tool that runs Python in Sandpool, in a sandbox of each thread that keeps its variables."""

import threading
from contextlib import suppress

import sandpool
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool


class Sessions:
    """For each thread a sandbox and a Python in it, until the sandbox was idle for too long, or `close`."""

    def __init__(self, client: sandpool.Client, idle_timeout: float = 600) -> None:
        self._client = client
        self._idle_timeout = idle_timeout
        self._sandboxes: dict[str, sandpool.Sandbox] = {}
        self._pythons: dict[str, sandpool.Context] = {}
        self._lock = threading.Lock()

    def python(self, thread: str) -> sandpool.Context:
        with self._lock:  # Calls of one thread that come at once share one sandbox.
            if thread not in self._sandboxes:
                self._sandboxes[thread] = self._client.sandbox(
                    idle_timeout=self._idle_timeout, labels={"thread": thread}
                )
            if thread not in self._pythons:
                self._pythons[thread] = self._sandboxes[thread].context()
            return self._pythons[thread]

    def forget_python(self, thread: str) -> None:
        with self._lock:
            self._pythons.pop(thread, None)

    def forget_sandbox(self, thread: str) -> None:
        with self._lock:
            self._pythons.pop(thread, None)
            self._sandboxes.pop(thread, None)

    def close(self) -> None:
        with self._lock:
            for sandbox in self._sandboxes.values():
                with suppress(sandpool.NotFound):  # It has ended by itself.
                    sandbox.delete()


def describe(result: sandpool.Result) -> str:
    """What a model is told of a cell: all that a person would see in a notebook."""
    parts = [result.stdout, result.stderr]
    for display in result.displays:
        parts.append(display.data.get("text/plain", b"").decode(errors="replace"))
    if result.error:
        parts.append(result.error.traceback)
    elif not result.ok:
        parts.append(f"[{result.outcome}]")
    if result.context_ended:
        # Who is cancelled with its Python may have lost the sandbox.
        files = "may be" if isinstance(result.outcome, sandpool.Cancelled) else "are not"
        parts.append(f"[Python has ended. Variables are lost, files {files}]")
    return "\n".join(part.strip("\n") for part in parts if part) or "[no output]"


def python_tool(sessions: Sessions, timeout: float = 30) -> BaseTool:
    @tool
    def run_python(code: str, config: RunnableConfig) -> str:
        """Runs Python code. Variables, imports and files of earlier calls are still there; the value of the last
        expression is shown, as in a notebook. There is no network."""
        thread = config["configurable"]["thread_id"]
        try:
            result = sessions.python(thread).run(code, timeout=timeout)
        # The model should know what is lost, and not guess.
        except sandpool.NotFound as error:
            sessions.forget_sandbox(thread)
            return f"[{error}. Variables and files are lost: run the code again in a new sandbox]"
        except sandpool.FailedPrecondition as error:
            sessions.forget_python(thread)
            return f"[{error}. Variables are lost, files are not: run the code again]"
        except sandpool.ResourceExhausted as error:
            return f"[all sandboxes are busy, try again later: {error}]"
        if result.context_ended:
            sessions.forget_python(thread)
        return describe(result)

    return run_python
