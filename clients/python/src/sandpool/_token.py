"""The token that calls show."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import BadToken

_Metadata = tuple[tuple[str, str], ...]


class Token:
    """A token, a file that holds one, or none.

    A file is read for each call: a token that its owner renews, as Kubernetes does with those that
    it mounts, is the new one from the next call on.
    """

    def __init__(self, token: str | None, file: str | os.PathLike[str] | None) -> None:
        """Raises BadToken where a call would."""
        origin, file_origin = "token", "token_file"
        if token is not None and file is not None:
            raise BadToken("token: it is given beside token_file, and one of them is enough")
        if token is None and file is None:
            file = os.environ.get("SANDPOOL_TOKEN_FILE") or None
            file_origin = "SANDPOOL_TOKEN_FILE"
            if file is None and "SANDPOOL_TOKEN" in os.environ:
                token, origin = os.environ["SANDPOOL_TOKEN"].strip(), "SANDPOOL_TOKEN"
        self._fixed = _metadata(origin, token) if token is not None else ()
        self._file: Path | None = None
        if file is not None:
            self._file, self._origin = Path(file), f"{file_origin}: {str(file)!r}"
            read = self.metadata()
            if not self._file.is_file():  # A pipe says it once.
                self._file, self._fixed = None, read

    def metadata(self) -> _Metadata:
        """What to send with a call. Raises BadToken."""
        if self._file is None:
            return self._fixed
        try:
            token = self._file.read_bytes()
        except OSError as error:
            reason = error.strerror or error
            raise BadToken(f"{self._origin} cannot be read: {reason}") from None
        return _metadata(self._origin, token.decode("latin-1").strip())


def _metadata(origin: str, token: str) -> _Metadata:
    if not (token and token.isascii() and token.isprintable()):
        raise BadToken(f"{origin}: it is empty or holds what no header can")
    return (("authorization", f"Bearer {token}"),)
