"""oras (PyPI) as a program that pushes and pulls a whole image: `python -m tests.benchmarks.oras_client`.

It is a library only; this is what its users write around it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from oras.provider import Registry  # type: ignore[import-not-found,unused-ignore]


def push(layout: Path, registry: Registry, reference: str) -> None:
    """Push every blob of the only image in a layout, and its manifest."""
    blobs, container = layout / "blobs" / "sha256", registry.get_container(reference)
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = json.loads((blobs / entry["digest"].partition(":")[2]).read_bytes())
    for descriptor in [manifest["config"], *manifest["layers"]]:
        path = blobs / descriptor["digest"].partition(":")[2]
        registry.upload_blob(str(path), container, descriptor).raise_for_status()
    registry.upload_manifest(manifest, container).raise_for_status()


def pull(target: Path, registry: Registry, reference: str) -> None:
    """Pull the image into a directory, one file a blob."""
    target.mkdir()
    container = registry.get_container(reference)
    manifest = registry.get_manifest(container)
    (target / "manifest.json").write_text(json.dumps(manifest))
    for descriptor in [manifest["config"], *manifest["layers"]]:
        path = target / descriptor["digest"].partition(":")[2]
        registry.download_blob(container, descriptor["digest"], str(path))


def main() -> None:
    """Do what the arguments say: push or pull, a directory, http or https, a reference."""
    job, folder, scheme, reference = sys.argv[1:]
    registry = Registry(insecure=scheme == "http", tls_verify=False)
    {"push": push, "pull": pull}[job](Path(folder), registry, reference)


if __name__ == "__main__":
    main()
