"""What a RUN leaves behind, as declared: no command is executed.

Owns the declared effect, its entries, and generated contents. Must not know where declarations are written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from regsim.errors import RegsimError, UsageError
from regsim.store.entry import Entry, Kind, check_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_FILE_SIZE = 2**40
_BLOCK = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFile:
    """A file that a command leaves.

    Attributes:
        size: bytes of a generated content; a given one has its own.
        content: what it holds; None to generate it.
        seed: generated contents of one seed, size and ratio are equal; None for the file's path.
        ratio: how many times smaller a compressor makes it; 1 is content that does not compress.
        mode: permission bits.
        uid: number of the owner.
        gid: number of the group.
        link: makes it a symbolic link to this target instead.
    """

    size: int = 0
    content: bytes | None = None
    seed: str | None = None
    ratio: float = 1.0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """All that a command leaves: files by their paths from the root, and paths that it deletes."""

    files: Mapping[bytes, MadeFile] = field(default_factory=dict)
    delete: tuple[bytes, ...] = ()

    def fingerprint(self) -> str:
        """Return a hash of all that it says."""
        files = [(path, repr(self.files[path])) for path in sorted(self.files)]
        return hashlib.sha256(repr((files, sorted(self.delete))).encode()).hexdigest()

    def entries(self, timestamp: int) -> Iterator[Entry]:
        """Yield the files as entries.

        Args:
            timestamp: time of modification, in seconds since 1970.
        """
        for path, file in sorted(self.files.items()):
            yield _entry(path, file, timestamp)


def declared(effects: Mapping[str, Effect], command: str) -> Effect:
    """Return what is declared for a command.

    Raises:
        UsageError: nothing is, or it cannot be in a layer.
    """
    effect = effects.get(command)
    if effect is None:
        raise UsageError(
            f"nothing is declared for RUN {command[:120]}",
            hint="commands are not run: declare what it leaves in Dockerfile.run.yaml (build --run FILE) "
            "or, in a scenario, in the image's run",
        )
    try:
        check_effect(effect)
    except RegsimError as error:
        raise UsageError(f"what is declared for it cannot be: {error.message}", hint=error.hint) from error
    return effect


def check_effect(effect: Effect) -> None:
    """Check that an effect can be in a layer.

    Raises:
        UsageError: a file is too large, lies below another file, or is deleted too.
        ContentError: a path cannot be in a layer.
    """
    for path in (*effect.files, *effect.delete):
        check_path(path)
        if not path:
            raise UsageError("a command leaves or deletes the root directory", hint="name a path below it")
    for path, file in effect.files.items():
        parts = path.split(b"/")
        above = {b"/".join(parts[:depth]) for depth in range(1, len(parts))}
        shown = path.decode("utf-8", "replace")
        if file.size > MAX_FILE_SIZE:
            raise UsageError(f"{shown!r} has {file.size} bytes", hint="1 TiB is the most")
        if not above.isdisjoint(effect.files):
            raise UsageError(f"{shown!r} lies below what the same command leaves as a file")
        if path in effect.delete:
            raise UsageError(f"{shown!r} is left and deleted by the same command", hint="say one of them")


def _entry(path: bytes, file: MadeFile, timestamp: int) -> Entry:
    kind = Kind.SYMLINK if file.link is not None else Kind.FILE
    data = file.content
    if data is not None:
        content = partial(iter, (data,))
    else:
        seed = file.seed if file.seed is not None else path.decode("utf-8", "surrogateescape")
        content = partial(made_up, seed, file.size, file.ratio)
    return Entry(
        path=path,
        kind=kind,
        mode=0o777 if kind is Kind.SYMLINK else file.mode,
        uid=file.uid,
        gid=file.gid,
        mtime_ns=timestamp * 10**9,
        size=0 if kind is Kind.SYMLINK else file.size if data is None else len(data),
        content=None if kind is Kind.SYMLINK else content,
        link=file.link or b"",
    )


def made_up(seed: str, size: int, ratio: float) -> Iterator[bytes]:
    """Yield generated content: the same on every machine, and compressible by `ratio`.

    Of each 256 KiB the first part is noise that occurs nowhere else, the rest is zeros.
    """
    start = hashlib.sha256(seed.encode("utf-8", "surrogateescape")).digest()
    for number in range(-(-size // _BLOCK)):
        length = min(_BLOCK, size - number * _BLOCK)
        noise = int(length / ratio)
        yield hashlib.shake_128(start + number.to_bytes(8, "big")).digest(noise) + bytes(length - noise)
