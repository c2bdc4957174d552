"""What a registry holds, told as the index of an OCI image layout.

Owns the document that other programs read. Must not be read back.
"""

import json
from typing import Any

from .spec import MediaType
from .state import State

_NAME = "org.opencontainers.image.ref.name"


def layout_index(state: State) -> bytes:
    """Return an ``index.json`` with an entry for each tag, named ``<repository>:<tag>``."""
    entries: list[dict[str, Any]] = []
    for name, repository in sorted(state.repositories.items()):
        for tag, digest in sorted(repository.tags.items()):
            manifest = repository.manifests.get(digest)
            if manifest is not None:
                descriptor = {
                    "mediaType": manifest.media_type,
                    "digest": digest,
                    "size": len(manifest.content),
                    "annotations": {_NAME: f"{name}:{tag}"},
                }
                entries.append(descriptor)
    return json.dumps({"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": entries}).encode()
