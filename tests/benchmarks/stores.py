"""Measure what looks at a store of images: `python -m tests.benchmarks.stores`, from the top of the checkout.

1,000 images of 8 layers: ten bases of 5 layers, 2,000 files and 40 MB each, and on each of them a hundred
images that add 3 layers of their own. `regsim df` looks at all of them, `history` at one and at who shares
its layers, `tree` reads one. Whole processes, start and end included. Give it a directory in memory
(`--folder`, a tmpfs), or the disk is what is measured.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from regsim.core import Descriptor, History, ImageConfig, Platform, config_document, media_types
from regsim.core.manifest import encode, manifest_document
from regsim.image.compression import compressor
from regsim.image.layer_write import write_layer
from regsim.store.entry import of_bytes
from tests.benchmarks import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regsim.synth.recipe import LayerInfo

BASES, IMAGES = 10, 1_000
BASE_LAYERS, OWN_LAYERS = 5, 3
FILES = 400  # in each layer of a base
SIZE = 20_000  # bytes of each, half of which compress
OWN_FILES = 5  # in each layer of an image's own
TARGET = 1.0  # seconds, of each command


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks.stores", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a tmpfs")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stores-", dir=options.folder) as name:
        store = Path(name) / "store"
        write_store(store)
        jobs = {
            "df": ("df", str(store)),
            "history": ("history", f"oci:{store}:image-500"),
            "tree": ("tree", f"oci:{store}:image-500"),
        }
        costs: dict[str, list[measure.Cost]] = {job: [] for job in jobs}
        for _ in range(options.rounds):
            for job, words in jobs.items():
                command = (sys.executable, "-m", "regsim", *words)
                costs[job].append(measure.run(command, dict(os.environ), Path(name) / "log"))
    print(measure.machine())
    print("\n| command | best s | median s | CPU s | peak MB | target |\n|---|---|---|---|---|---|")
    for job, found in costs.items():
        seconds = [cost.seconds for cost in found]
        cells = (
            f"regsim {job}",
            f"{min(seconds):.2f}",
            f"{statistics.median(seconds):.2f}",
            f"{min(cost.cpu for cost in found):.2f}",
            f"{max(cost.peak for cost in found):.0f}",
            f"{TARGET:.0f} s: {'met' if statistics.median(seconds) <= TARGET else 'missed'}",
        )
        print(f"| {' | '.join(cells)} |")
    return 0


def write_store(root: Path) -> None:
    """Write a layout with all the images, as `pull` leaves it."""
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    noise = random.Random(1)
    bases = [
        [_layer(blobs, noise, f"base-{base}/{number}", FILES) for number in range(BASE_LAYERS)]
        for base in range(BASES)
    ]
    manifests = []
    for number in range(IMAGES):
        own = [_layer(blobs, noise, f"own/{each}", OWN_FILES) for each in range(OWN_LAYERS)]
        manifest = _image(blobs, [*bases[number % BASES], *own])
        name = {"org.opencontainers.image.ref.name": f"image-{number}"}
        manifests.append({**manifest.to_json(), "annotations": name})
    (root / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))
    (root / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": manifests}))


def _layer(blobs: Path, noise: random.Random, folder: str, files: int) -> LayerInfo:
    chunks: list[bytes] = []
    entries = (
        of_bytes(f"{folder}/{number % 20:02}/{number}".encode(), noise.randbytes(SIZE // 2).ljust(SIZE))
        for number in range(files)
    )
    info = write_layer(entries, compressor("gzip", 6), chunks.append)
    (blobs / info.descriptor.digest.encoded).write_bytes(b"".join(chunks))
    return info


def _image(blobs: Path, layers: Sequence[LayerInfo]) -> Descriptor:
    config = config_document(
        ImageConfig(
            platform=Platform("linux", "amd64"),
            history=tuple(
                History(created_by=f"COPY part{number} / # buildkit", created="2024-12-03T19:01:46Z")
                for number in range(len(layers))
            ),
            diff_ids=tuple(layer.diff_id for layer in layers),
        )
    )
    described = _write(blobs, config, media_types.OCI_CONFIG)
    manifest = manifest_document(described, [layer.descriptor for layer in layers])
    return _write(blobs, manifest, media_types.OCI_MANIFEST)


def _write(blobs: Path, raw: bytes, media_type: str) -> Descriptor:
    descriptor = Descriptor.of(raw, media_type)
    (blobs / descriptor.digest.encoded).write_bytes(raw)
    return descriptor


if __name__ == "__main__":
    sys.exit(main())
