"""python-dxf as a program that pushes and pulls a whole image: `python -m tests.benchmarks.dxf_client`.

Its own command line moves one blob at a time; this is what its users write around its library.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dxf import DXF  # type: ignore[import-not-found,unused-ignore]


def push(layout: Path, registry: DXF) -> None:
    """Push every blob of the only image in a layout, and its manifest."""
    blobs = layout / "blobs" / "sha256"
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    raw = (blobs / entry["digest"].partition(":")[2]).read_text()
    manifest = json.loads(raw)
    for descriptor in [manifest["config"], *manifest["layers"]]:
        path = blobs / descriptor["digest"].partition(":")[2]
        registry.push_blob(str(path), digest=descriptor["digest"])
    registry.set_manifest("1", raw)


def pull(target: Path, registry: DXF) -> None:
    """Pull the image into a directory, one file a blob."""
    target.mkdir()
    raw = registry.get_manifest("1")
    manifest = json.loads(raw)
    (target / "manifest.json").write_text(raw)
    for descriptor in [manifest["config"], *manifest["layers"]]:
        with (target / descriptor["digest"].partition(":")[2]).open("wb") as file:
            for chunk in registry.pull_blob(descriptor["digest"], chunk_size=1024 * 1024):
                file.write(chunk)


def main() -> None:
    """Do what the arguments say: push or pull, a directory, http or https, host, repository."""
    job, folder, scheme, host, repository = sys.argv[1:]
    registry = DXF(host, repository, insecure=scheme == "http", tlsverify=False)
    {"push": push, "pull": pull}[job](Path(folder), registry)


if __name__ == "__main__":
    main()
