"""Files of a sandbox that lives on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from sandpool.v1 import file_pb2 as pb

from .._transport.asynchronous import AsyncTransport
from ..paths import PathInfo
from ..requests import Source, as_bytes, chunks

_PAGE: Final = 1000


class AsyncFiles:
    """Files in /workspace, which relative paths are relative to, /tmp and /home/sandbox.

    Raises NotFound, AlreadyExists, ResourceExhausted where the volume is full, FailedPrecondition
    where a path is something else than it should be, and InvalidArgument for what is no path there.
    """

    def __init__(self, transport: AsyncTransport, sandbox_id: str) -> None:
        self._transport = transport
        self._sandbox_id = sandbox_id

    async def read(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """The content of a file, from `offset` on; `length`: at most so many bytes of it.

        A sandbox can make its files as large as its volumes are: give a length, or use `stream`.
        """
        content = bytearray()
        async for chunk in self.stream(path, offset=offset, length=length):
            content += chunk
        return bytes(content)

    async def stream(
        self, path: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """The content of a file in parts, as they come."""
        request = pb.ReadFileRequest(
            sandbox_id=self._sandbox_id, path=path, offset=offset, length=length
        )
        stream = self._transport.stream(self._services.ReadFile, request)
        try:
            while (message := await stream.read()) is not None:
                if message.content:
                    yield message.content
        finally:
            stream.cancel()

    async def write(
        self,
        path: str,
        content: bytes | bytearray | memoryview | str | Iterable[bytes],
        *,
        mode: int = 0o644,
        replace: bool = True,
    ) -> PathInfo:
        """Writes a file, whole or not at all; directories above it must be there.

        `content` may come in parts of at most 1 MiB; a text is written as UTF-8. Without `replace`,
        a file that there is raises AlreadyExists.
        """
        size = None
        if isinstance(content, (bytes, bytearray, memoryview, str)):
            whole = as_bytes(content)
            size, content = len(whole), chunks(whole)
        start = pb.WriteFileStart(
            sandbox_id=self._sandbox_id,
            path=path,
            mode=mode,
            how=pb.WriteFileStart.REPLACE if replace else pb.WriteFileStart.CREATE,
            size=size,
        )
        messages = chain(
            [pb.WriteFileRequest(start=start)],
            (pb.WriteFileRequest(content=part) for part in content),
        )
        return PathInfo.of(await self._send(self._services.WriteFile, messages))

    async def list(self, path: str = ".", *, limit: int = 10_000) -> Sequence[PathInfo]:
        """What is in a directory, by name: the first `limit` of it."""
        entries: list[PathInfo] = []
        request = pb.ListDirectoryRequest(sandbox_id=self._sandbox_id, path=path)
        while len(entries) < limit:
            request.page_size = min(limit - len(entries), _PAGE)
            answer = await self._transport.quick(self._services.ListDirectory, request)
            entries += map(PathInfo.of, answer.entries)
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
        return entries

    async def stat(self, path: str) -> PathInfo:
        """What a path is; a link is not followed."""
        request = pb.StatPathRequest(sandbox_id=self._sandbox_id, path=path)
        return PathInfo.of(await self._transport.quick(self._services.StatPath, request))

    async def make_directory(self, path: str, *, mode: int = 0o755) -> PathInfo:
        """Makes a directory, with all above it. It may be there already."""
        request = pb.MakeDirectoryRequest(sandbox_id=self._sandbox_id, path=path, mode=mode)
        return PathInfo.of(await self._transport.quick(self._services.MakeDirectory, request))

    async def move(self, path: str, to: str, *, replace: bool = False) -> PathInfo:
        """Gives a path another name, within one of the writable directories."""
        request = pb.MovePathRequest(sandbox_id=self._sandbox_id, to=to, replace=replace)
        setattr(request, "from", path)  # Its name is a keyword here.
        return PathInfo.of(await self._transport.quick(self._services.MovePath, request))

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """Removes a path; a directory that is not empty only if `recursive`."""
        request = pb.RemovePathRequest(sandbox_id=self._sandbox_id, path=path, recursive=recursive)
        await self._transport.quick(self._services.RemovePath, request)

    async def upload_archive(
        self, path: str, archive: bytes | bytearray | memoryview | Iterable[bytes]
    ) -> PathInfo:
        """Unpacks a tar archive into a directory, which is made if it is not there."""
        start = pb.UploadArchiveStart(sandbox_id=self._sandbox_id, path=path)
        if isinstance(archive, (bytes, bytearray, memoryview)):
            archive = chunks(as_bytes(archive))
        messages = chain(
            [pb.UploadArchiveRequest(start=start)],
            (pb.UploadArchiveRequest(content=part) for part in archive),
        )
        return PathInfo.of(await self._send(self._services.UploadArchive, messages))

    async def download_archive(self, path: str = ".") -> AsyncIterator[bytes]:
        """All that is in a directory as a tar archive, in parts.

        It is the sandbox's word: unpack it as what a stranger sent (tarfile's filter="data").
        """
        request = pb.DownloadArchiveRequest(sandbox_id=self._sandbox_id, path=path)
        stream = self._transport.stream(self._services.DownloadArchive, request)
        try:
            while (message := await stream.read()) is not None:
                yield message.content
        finally:
            stream.cancel()

    async def _send(self, method: Any, messages: Iterator[Any]) -> Any:
        source = Source(messages)
        try:
            return await self._transport.call(method, source)
        except BaseException:
            # On Python 3.10 nothing tells a call that gRPC has cancelled for it from a task.
            if source.error is not None:
                raise source.error from None
            raise

    @property
    def _services(self) -> Any:
        return self._transport.services.files
