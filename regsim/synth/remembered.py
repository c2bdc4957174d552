"""What was learned of synthetic layers in earlier runs, in the user's cache.

Owns a directory of small files, one a layer. Must not know how layers are made. It is a convenience only: a
cache that cannot be read or written is as good as none, and nothing here ever raises.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from regsim.core import Descriptor, Digest
from regsim.errors import RegsimError
from regsim.store.files import read_bounded, sweep, write_whole
from regsim.synth.synthetic import LayerInfo

# Some 300 bytes each, so a few megabytes on most disks.
MAX_LAYERS = 4096
_MAX_FILE_SIZE = 4096
_FOLDER = "layers"


def default_folder() -> Path | None:
    """Return `$XDG_CACHE_HOME/regsim/layers`, in `~/.cache` by default; None without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # XDG Base Directory Specification: a path that is not absolute is invalid and ignored.
    if base.startswith("/"):
        return Path(base) / "regsim" / _FOLDER
    try:
        return Path.home() / ".cache" / "regsim" / _FOLDER
    except RuntimeError:
        return None


class RememberedLayers:
    """A `LayerMemory` in a directory, safe under any number of processes.

    Args:
        folder: where; it is made when there is something to keep.
        most: how many layers are kept; the longest unused half goes when there are more.
    """

    def __init__(self, folder: Path, *, most: int = MAX_LAYERS) -> None:
        self._folder = folder
        self._most = most

    def recall(self, identity: str) -> LayerInfo | None:
        """Return what was remembered of a recipe; anything damaged counts as forgotten."""
        path = self._folder / identity
        try:
            document = json.loads(read_bounded(path, _MAX_FILE_SIZE))
            info = _info(document) if document.pop("check") == _check(identity, document) else None
        except (OSError, RegsimError, ValueError, KeyError, TypeError, AttributeError):
            return None
        with suppress(OSError):
            os.utime(path)  # so that what is used stays
        return info

    def remember(self, identity: str, info: LayerInfo) -> None:
        """Keep what was learned of a recipe, if the disk allows."""
        document: dict[str, Any] = {
            "media_type": info.descriptor.media_type,
            "digest": info.descriptor.digest,
            "size": info.descriptor.size,
            "diff_id": info.diff_id,
            "uncompressed_size": info.uncompressed_size,
        }
        document["check"] = _check(identity, document)
        with suppress(OSError, RegsimError):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._folder / identity, json.dumps(document).encode(), durable=False)
            self._forget_some()

    def _forget_some(self) -> None:
        names = os.listdir(self._folder)  # noqa: PTH208  (names alone: no object for each of thousands)
        if len(names) <= self._most:
            return
        sweep(self._folder)
        files = [
            path for path in self._folder.iterdir() if len(path.name) == hashlib.sha256().digest_size * 2
        ]
        files.sort(key=_last_used)
        for path in files[: len(files) - self._most // 2]:
            path.unlink(missing_ok=True)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _info(document: dict[str, Any]) -> LayerInfo:
    return LayerInfo(
        descriptor=Descriptor(
            media_type=document["media_type"],
            digest=Digest(document["digest"]),
            size=document["size"],
        ),
        diff_id=Digest(document["diff_id"]),
        uncompressed_size=document["uncompressed_size"],
    )


def _check(identity: str, document: dict[str, Any]) -> str:
    # A wrong digest would be found only after pushing it all, so a torn or edited file must not pass.
    return hashlib.sha256(f"{identity} {json.dumps(document, sort_keys=True)}".encode()).hexdigest()
