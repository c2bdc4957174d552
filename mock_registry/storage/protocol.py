"""What a storage offers, whatever keeps the octets.

Owns the protocols and the one error. A storage that is to survive a restart makes `Upload.settle` and
`Upload.commit` durable before they return: nothing is acknowledged to a client that has not passed through
one of them.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from mock_registry.spec import Algorithm, Digest


class StorageFull(OSError):  # noqa: N818 (a state of the storage, answered with 507)
    """No room is left. The upload that met it is discarded and its space is free again."""


class Reader(Protocol):
    """Content held open: it can be read to its end even if it is deleted or replaced meanwhile."""

    @property
    def file(self) -> BinaryIO | None:
        """The open file that holds exactly this content, if a file does."""

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` octets from ``offset``, fewer at the end."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Blob(Protocol):
    """Content that is whole and will not change."""

    @property
    def size(self) -> int:
        """Octets."""

    def open(self) -> Reader:
        """Hold the content open for reading; the caller closes it by leaving the context."""


class Upload(Protocol):
    """Content that still grows. One caller at a time; the session's lock sees to it."""

    @property
    def size(self) -> int:
        """Octets appended so far: the whole truth about where to resume."""

    def follow(self, algorithm: Algorithm) -> None:
        """Hash with this algorithm while receiving. Without effect once octets are there."""

    async def append(self, chunks: Sequence[bytes]) -> None:
        """Hash and store the chunks, in order.

        Raises:
            StorageFull: Nothing of this upload is kept.
        """

    async def digest(self, algorithm: Algorithm) -> Digest:
        """Return the digest of everything appended, reading it again if another algorithm was followed."""

    async def settle(self) -> None:
        """Make what was appended as durable as this storage promises, before it is acknowledged."""

    async def commit(self, digest: Digest) -> Blob:
        """Keep the upload, whose digest the caller has verified, as content. It ends the upload.

        Content that is there already is replaced by the verified octets, which heals it if it was damaged.
        """

    async def discard(self) -> None:
        """Free the space. Harmless when done twice, or after a commit."""


class Storage(Protocol):
    """Content by digest, each kept once however many repositories link it."""

    async def open_upload(self, session: str, algorithm: Algorithm) -> Upload:
        """Begin an upload, to be found again under its session's identifier."""

    def find(self, digest: Digest) -> Blob | None:
        """Return the content with this digest."""

    async def remove(self, digest: Digest) -> None:
        """Forget content that no repository links any more."""

    async def aclose(self) -> None:
        """Release the files and directories that belong to this storage alone."""
