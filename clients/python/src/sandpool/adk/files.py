"""Files between ADK and a sandbox: what goes in, and which of those that come out are told."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Iterable, Mapping
from mimetypes import MimeTypes
from typing import Final

from google.adk.code_executors.code_execution_utils import File

from ..results import Display

EVERYTHING: Final = ("**",)

_TYPES: Final = MimeTypes()
"""Python's own table: that of the machine would make types depend on where the agent runs."""
for _extension, _type in {
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}.items():
    _TYPES.add_type(_type, _extension)
_MAX_NAME: Final = 500
"""Bytes: object stores refuse longer names, and a sandbox has paths of up to 4095."""
_PICTURES: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/svg+xml": "svg",
    "image/gif": "gif",
    "image/webp": "webp",
}
"""Forms of a display that become files, the one to take first."""


def input_content(file: File) -> bytes:
    """The bytes of an input file: ADK hands texts over in base64, others may not."""
    if isinstance(file.content, bytes):
        return file.content
    try:
        return base64.b64decode(file.content, validate=True)
    except ValueError:
        return file.content.encode()


def relative(path: str) -> str:
    """A path as the server tells it: relative to the working directory."""
    return posixpath.relpath(posixpath.join("/workspace", path), "/workspace")


def is_compiled(path: str) -> bool:
    """Whether it is nothing that a program leaves for somebody, but Python itself."""
    return "__pycache__" in path.split("/")


def picture(display: Display) -> tuple[str, bytes] | None:
    """The extension and the content of a display that is a picture."""
    for mime_type, extension in _PICTURES.items():
        if content := display.data.get(mime_type):
            return extension, content
    return None


def as_artifacts(files: Iterable[tuple[str, bytes]]) -> list[File]:
    """Files as ADK saves them: by names that an artifact may have, each once."""
    artifacts: dict[str, File] = {}
    for path, content in files:
        name = _unused(_artifact_name(path), artifacts)
        artifacts[name] = File(name=name, content=content, mime_type=_mime_type(name, content))
    return list(artifacts.values())


def _artifact_name(path: str) -> str:
    """A name that no artifact service takes for something else, or refuses.

    ADK gives names to them unchecked, where `user:x` is a file of all of a user's sessions and some
    names raise, which would end the agent's run. The sandbox chooses its files' names, so it must
    have neither.
    """
    parts = []
    for part in path.split("/"):
        part = "".join(c if c.isprintable() and c not in "\\:`" else "_" for c in part).strip()
        reserved = part.rstrip(" .").casefold() in ("versions", "metadata.json")
        parts.append(f"_{part}" if reserved or part in ("", ".", "..") else part)
    name = "/".join(parts)
    return name if len(name.encode()) <= _MAX_NAME else parts[-1]


def _unused(name: str, taken: Mapping[str, File]) -> str:
    stem, extension = posixpath.splitext(name)
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}{extension}"
    return name


def _mime_type(name: str, content: bytes) -> str:
    known, encoding = _TYPES.guess_type(name)
    if known and not encoding:
        return known
    if encoding or b"\0" in content:
        return "application/octet-stream"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"
