"""Which repositories of a registry held which blobs: the mount candidates of push and copy.

Owns one small JSON file for each registry host in the user's cache. It only gives hints: a stale candidate
costs one refused mount, so a file that is corrupt, foreign or unwritable counts as empty. Must not know
transfers. Scenarios do not use it, since their outcomes must not depend on the past.

JSON and not a database: the file is read once a transfer (a few milliseconds), needs no driver and no schema
migration, works on network homes where database locks do not, and can be read by its owner. Writers merge
under an advisory lock and rename a whole file into place, so readers never lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from regsim.core.reference import check_repository
from regsim.errors import InvalidReferenceError, LocalFileError
from regsim.store.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from regsim.core import Digest

MAX_DIGESTS = 8192  # per host; about 1.5 MB in most files
MAX_REPOSITORIES = 8  # per digest
_MAX_FILE = 16 * 1024 * 1024
_VERSION = 1
_TRIES, _PAUSE = 40, 0.005  # of the lock, which writers hold for milliseconds unless they are stopped


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for the index in the user's cache: `$XDG_CACHE_HOME/regsim/holders`."""
    cache = Path(environment.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification says to ignore relative paths.
    base = cache if cache.is_absolute() else Path(environment.get("HOME", "~")).expanduser() / ".cache"
    return base / "regsim" / "holders"


class Holders:
    """The index from digests to the repositories that held them. Its files never raise.

    Args:
        path: a folder, made when first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, host: str, repository: str, digests: Iterable[Digest]) -> None:
        """Remember that a repository of `host` holds these blobs. The oldest are forgotten for the newest."""
        new = list(dict.fromkeys(digests))
        if not new:
            return
        with contextlib.suppress(OSError, LocalFileError):
            self._path.mkdir(parents=True, exist_ok=True)
            with self._locked(host):
                known = self.read(host)
                for digest in new:
                    others = [each for each in known.pop(digest, ()) if each != repository]
                    known[digest] = [repository, *others][:MAX_REPOSITORIES]
                kept = list(known.items())[-MAX_DIGESTS:]
                document = {"version": _VERSION, "digests": dict(kept)}
                raw = json.dumps(document, separators=(",", ":")).encode()
                write_whole(self._file(host), raw, durable=False)

    def _file(self, host: str) -> Path:
        return self._path / f"{quote(host.lower(), safe='')[:200]}.json"

    @contextlib.contextmanager
    def _locked(self, host: str) -> Iterator[None]:
        """Keep other writers out, by a file of its own: the index itself is replaced, and its lock with it.

        Raises:
            OSError: another writer does not finish.
        """
        with self._file(host).with_suffix(".lock").open("w") as lock:
            for left in reversed(range(_TRIES)):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not left:
                        raise
                    time.sleep(_PAUSE)
            yield

    def read(self, host: str) -> dict[str, list[str]]:
        """Return the repositories of `host` by digest, oldest digest first.

        Of each digest `MAX_REPOSITORIES` at most, the most recent one first.
        Empty unless the file is wholly as `add` writes it.
        """
        file = self._file(host)
        try:
            if file.stat().st_size > _MAX_FILE:
                return {}
            document = json.loads(file.read_bytes())
            if document["version"] != _VERSION:
                return {}
            return {str(digest): _names(names) for digest, names in document["digests"].items()}
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return {}


def _names(value: list[str]) -> list[str]:
    # Names go into URLs: another program that can write the file must not be able to steer a request.
    names: list[str] = []
    for name in value:
        with contextlib.suppress(InvalidReferenceError):
            names.append(check_repository(name))
    return names[:MAX_REPOSITORIES]
