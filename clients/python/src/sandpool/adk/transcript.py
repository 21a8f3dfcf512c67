"""What a cell shows, in the order in which it shows it: text as text, pictures as files."""

from __future__ import annotations

import codecs

from .._sync.execution import Execution
from ..results import Display, Result, Stdout
from .files import picture

_TEXTS = ("text/plain", "text/markdown", "application/json", "text/html")
"""Forms of a display that are text, the one to take first."""


class Transcript:
    """Stdout with displays in their places. A model sees no pictures there, but their names."""

    def __init__(self) -> None:
        self.pictures: list[tuple[str, bytes]] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []

    def read(self, execution: Execution, number: int) -> Result:
        """Reads an execution to its end, the one of this number in its session."""
        with execution:
            for event in execution:
                if isinstance(event, Stdout):
                    self._parts.append(self._decoder.decode(event.data))
                elif isinstance(event, Display):
                    self._show(event)
            result = execution.result()
        # Numbered by their run: a session has many, and each figure is its own artifact.
        self.pictures = [(f"figure-{number}-{name}", content) for name, content in self.pictures]
        self._parts.append(self._decoder.decode(b"", final=True))
        return result

    @property
    def text(self) -> str:
        """All that was written and shown."""
        return "".join(self._parts)

    def _show(self, display: Display) -> None:
        if found := picture(display):
            extension, content = found
            self.pictures.append((f"{len(self.pictures) + 1}.{extension}", content))
        text = next((display.data[form] for form in _TEXTS if form in display.data), b"")
        shown = text.decode("utf-8", "replace")
        if display.omitted:
            shown += f" (left out: {', '.join(display.omitted)}, too large)"
        if shown:
            begun = "".join(self._parts[-1:])
            self._parts.append(("\n" if begun and not begun.endswith("\n") else "") + shown + "\n")
