"""Archives as ends of a transfer. Loaded when the first one is met, since most transfers meet none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsim.client.addresses import Archive, ArchiveKind
from regsim.core import Reference
from regsim.store.archive import OciArchive
from regsim.store.archive_writer import ArchiveWriter, DockerArchiveWriter
from regsim.store.docker_archive import DockerArchive
from regsim.transfer.ends import LocalDestination

if TYPE_CHECKING:
    from typing import Self


class ArchiveDestination(LocalDestination):
    """An archive that is written to, which appears when it is committed."""

    def __init__(self, writer: ArchiveWriter) -> None:
        super().__init__(writer)
        self.commit = writer.commit
        self.discard = writer.discard

    @classmethod
    def of(cls, address: Archive, name: Reference | None) -> Self:
        """Return the archive of an address; `name` is what an image is called in it if that does not say."""
        if address.kind is ArchiveKind.OCI:
            return cls(ArchiveWriter(address.file))
        return cls(DockerArchiveWriter(address.file, Reference.parse(address.name) if address.name else name))


def read_archive(address: Archive) -> OciArchive | DockerArchive:
    """Return an archive to read from."""
    return (DockerArchive if address.kind is ArchiveKind.DOCKER else OciArchive)(address.file)
