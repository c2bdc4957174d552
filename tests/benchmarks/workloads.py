"""Images to move: how many layers of which size, as OCI layouts on disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
TAG = "latest"

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Workload:
    """An image of equal layers. `size` is that of the file in each of them, in bytes."""

    name: str
    layers: int
    size: int

    @property
    def total(self) -> int:
        """Bytes of all files together."""
        return self.layers * self.size


WORKLOADS = {
    "large": Workload("1 x 512 MiB", 1, 512 * 1024**2),
    "many": Workload("20 x 25 MiB", 20, 25 * 1024**2),
    "small": Workload("200 x 10 KiB", 200, 10 * 1024),
}


def write_layout(folder: Path, workload: Workload) -> Path:
    """Write an image, unless an earlier run has left it there, and return its layout's directory."""
    layout = folder / workload.name.lower().replace(" ", "")
    blobs = layout / "blobs" / "sha256"
    if (layout / "index.json").exists():
        return layout
    blobs.mkdir(parents=True)
    made = [
        _write_layer(blobs, f"{workload.name} {number}", workload.size) for number in range(workload.layers)
    ]
    config = _write_document(
        blobs,
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in made]},
            "history": [{"created_by": f"COPY {number} /"} for number in range(workload.layers)],
        },
        CONFIG,
    )
    layers = [layer for layer, _ in made]
    manifest = _write_document(
        blobs, {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}, MANIFEST
    )
    named = {**manifest, "annotations": {"org.opencontainers.image.ref.name": TAG}}
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    return layout


def blobs_of(layout: Path) -> list[Path]:
    """Return the files of all blobs."""
    return sorted((layout / "blobs" / "sha256").iterdir())


def config_of(layout: Path) -> str:
    """Return the hash of the image's config."""
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    raw = (layout / "blobs" / "sha256" / entry["digest"].partition(":")[2]).read_bytes()
    digest: str = json.loads(raw)["config"]["digest"]
    return digest.partition(":")[2]


class _Hashing(io.RawIOBase):
    """A file that hashes what is written to it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.hasher = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.hasher.update(view)
        self.size += len(view)
        self._file.write(view)
        return len(view)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Random(io.RawIOBase):
    """A file of seeded random bytes, that never was on a disk."""

    def __init__(self, seed: str, size: int) -> None:
        self._random = random.Random(seed)
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        count = min(self._left, size if size >= 0 else self._left)
        self._left -= count
        return self._random.randbytes(count)


def _write_layer(blobs: Path, seed: str, size: int) -> tuple[dict[str, Any], str]:
    """Write a gzipped tar of one file; return its descriptor and the digest of the tar."""
    aside = blobs / "aside"
    packed = _Hashing(aside)
    plain = hashlib.sha256()

    class Tee(io.RawIOBase):
        def write(self, data: Any) -> int:
            plain.update(data)
            return zipped.write(data)

    # Random bytes do not get shorter; stored blocks save the time of finding out.
    with (
        packed,
        gzip.GzipFile(filename="", mode="wb", compresslevel=0, fileobj=packed, mtime=0) as zipped,
        tarfile.open(fileobj=Tee(), mode="w|", bufsize=_BLOCK) as archive,
    ):
        member = tarfile.TarInfo("data")
        member.size = size
        archive.addfile(member, _Random(seed, size))
    encoded = packed.hasher.hexdigest()
    aside.rename(blobs / encoded)
    return _descriptor(LAYER, encoded, packed.size), f"sha256:{plain.hexdigest()}"


def _write_document(blobs: Path, document: dict[str, Any], media_type: str) -> dict[str, Any]:
    raw = json.dumps(document, separators=(",", ":")).encode()
    encoded = hashlib.sha256(raw).hexdigest()
    (blobs / encoded).write_bytes(raw)
    return _descriptor(media_type, encoded, len(raw))


def _descriptor(media_type: str, encoded: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{encoded}", "size": size}
