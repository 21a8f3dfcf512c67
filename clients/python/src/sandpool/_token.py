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
        if token is not None and file is not None:
            raise BadToken("token: it is given beside token_file, and one of them is enough")
        if token is None and file is None:
            file = os.environ.get("SANDPOOL_TOKEN_FILE")
            if file is None and "SANDPOOL_TOKEN" in os.environ:
                token = os.environ["SANDPOOL_TOKEN"].strip()
        self._file = Path(file) if file is not None else None
        self._fixed = _metadata("token", token) if token is not None else ()
        self.metadata()

    def metadata(self) -> _Metadata:
        """What to send with a call. Raises BadToken."""
        if self._file is None:
            return self._fixed
        origin = f"token_file: {str(self._file)!r}"
        try:
            token = self._file.read_bytes()
        except OSError as error:
            raise BadToken(f"{origin} cannot be read: {error.strerror or error}") from None
        return _metadata(origin, token.decode("latin-1").strip())


def _metadata(origin: str, token: str) -> _Metadata:
    if not (token and token.isascii() and token.isprintable()):
        raise BadToken(f"{origin}: it is empty or holds what no header can")
    return (("authorization", f"Bearer {token}"),)
