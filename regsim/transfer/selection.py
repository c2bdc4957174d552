"""Which part of an image is transferred: what a choice of platforms keeps, and what it leaves out.

Owns the choice. Reads indexes, and of a single image the config, before a transfer begins; what was read is
kept, so that no manifest is read twice, and paid for by the account of the content that it is. Must not know
how anything is moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core import Digest, Platform, manifest, media_types, parse_config
from regsim.core.account import Account
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.graph import MAX_DEPTH, MAX_REFERENCES
from regsim.core.platform import choose
from regsim.errors import ContentError, NotFoundError, UsageError
from regsim.store.verify import read_all

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from regsim.core import Descriptor, Document
    from regsim.transfer.ends import Source

_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is to be transferred of what a reference names.

    Attributes:
        platforms: an image for each of these; none of them: everything.
        sparse: of an index with one of its images, the index too. Several images come with it anyway.
        single: the destination can hold one image only, and no index.
    """

    platforms: tuple[Platform, ...] = ()
    sparse: bool = False
    single: bool = False

    @classmethod
    def of(cls, *platforms: str, sparse: bool = False) -> Choice:
        """Choose by text: `os/architecture[/variant]`, with commas between several; `all` is everything.

        Raises:
            InvalidReferenceError: it is no platform.
        """
        texts = [text.strip() for each in platforms for text in each.split(",")]
        wanted = () if "all" in texts else tuple(dict.fromkeys(Platform.wanted(text) for text in texts))
        return cls(platforms=wanted, sparse=sparse)


EVERYTHING = Choice()


@dataclass(slots=True)
class Selection:
    """What a choice came to.

    Attributes:
        root: what is transferred: the reference's own, or the only image that was chosen.
        kept: the digests of what stays in indexes; None keeps all.
        unselected: descriptors of indexes that were left out.
        read: manifests that were read for it and are part of the transfer, with what that cost.
        account: has what it cost to read all else beside it.
    """

    root: Descriptor
    account: Account = field(default_factory=Account)
    kept: frozenset[Digest] | None = None
    unselected: int = 0
    read: dict[Digest, tuple[bytes, Account]] = field(default_factory=dict)

    def settle(self, kept: Container[Digest] = ()) -> None:
        """Keep of what was read only this for the transfer; the rest was read beside it."""
        for digest in [digest for digest in self.read if digest not in kept]:
            self.account.beside.append((digest, self.read.pop(digest)[1]))

    def keeps(self, document: Document) -> Document:
        """Return a document without what was left out of it; its bytes stay what they are."""
        if self.kept is None or not media_types.is_index(document.descriptor.media_type):
            return document
        return document.only(self.kept)


async def select(source: Source, selection: Selection, choice: Choice, name: str) -> None:
    """Choose what is transferred of the root.

    Args:
        source: where it is read.
        selection: names what the reference does, and is told what comes of it, also if that is a failure.
        choice: what is wanted of it.
        name: the reference, as errors call it.

    Raises:
        NotFoundError: there is no image for a platform; the hint lists those that there are.
        UsageError: the destination holds one image, and that is not one.
        ContentError: an index cannot be read, or is nested deeper than any image's.
    """
    if not choice.platforms:
        if choice.single and media_types.is_index(selection.root.media_type):
            raise _several(name)
        return
    if not media_types.is_index(selection.root.media_type):
        await _check_only(source, selection, choice.platforms, name)
        return
    tree = _Tree(source, selection)
    await tree.open(selection.root, None, ())
    chosen = [tree.images[place] for place in _places(tree, choice.platforms, name)]
    if len({image.digest for image, _ in chosen}) == 1 and not choice.sparse:
        selection.root = chosen[0][0]
        kept = {selection.root.digest}
    elif choice.single:
        raise _several(name)
    else:
        kept = {digest for image, path in chosen for digest in (image.digest, *path)}
        selection.kept = frozenset(kept)
    selection.unselected = sum(digest not in kept for digest in tree.named)


def _places(tree: _Tree, wanted: Sequence[Platform], name: str) -> list[int]:
    places = {each: choose(tree.platforms, each) for each in wanted}
    missing = [each for each, place in places.items() if place is None]
    if missing:
        raise _missing(missing[0], [str(each) for each in tree.platforms if each and each.os], name)
    return [place for place in places.values() if place is not None]


def _several(name: str) -> UsageError:
    return UsageError(
        f"{name}: an archive of docker's holds one image, and this is an index",
        hint="choose one image by --platform, or write an oci-archive:, which holds them all",
    )


def _missing(wanted: Platform, there: list[str], name: str) -> NotFoundError:
    known = list(dict.fromkeys(each for each in there if not each.startswith("unknown/")))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    hint = f"it has {', '.join(known[:_SHOWN])}{more}" if known else "it names no platforms"
    return NotFoundError(f"{name} has no image for {wanted}", hint=hint)


async def _check_only(source: Source, selection: Selection, wanted: Sequence[Platform], name: str) -> None:
    """Hold a single image's own config against what is wanted; an artifact is for every platform."""
    document = await _read(source, selection, selection.root)
    config = document.config
    if config is None or config.media_type not in media_types.CONFIGS or config.size > MAX_CONFIG_SIZE:
        return
    # It is read again with the other blobs: this once it serves no transfer.
    account = selection.account.aside(config.digest)
    raw = config.data or await read_all(source.content(config, account), limit=MAX_CONFIG_SIZE)
    platform = parse_config(raw).platform
    if platform.os and not any(platform.satisfies(each) for each in wanted):
        raise _missing(wanted[0], [str(platform)], name)


class _Tree:
    """The images that an index names, through any indexes in it, in their order."""

    def __init__(self, source: Source, selection: Selection) -> None:
        self._source, self._selection = source, selection
        self.images: list[tuple[Descriptor, tuple[Digest, ...]]] = []  # and the indexes that lead to each
        self.platforms: list[Platform | None] = []
        self.named: list[Digest] = []

    async def open(self, index: Descriptor, platform: Platform | None, path: tuple[Digest, ...]) -> None:
        """Take in what an index names; an image that says no platform has that of its index."""
        if len(path) > MAX_DEPTH:
            raise ContentError(f"an index is nested more than {MAX_DEPTH} deep")
        if index.digest in path:
            raise ContentError(f"index {index.digest.short} names itself")
        document = await _read(self._source, self._selection, index)
        below = (*path, index.digest)
        self.named += [each.descriptor.digest for each in document.successors]
        if len(self.named) > MAX_REFERENCES:
            raise ContentError(f"an index of more than {MAX_REFERENCES:,} references")
        for descriptor in (each.descriptor for each in document.successors):
            if media_types.is_index(descriptor.media_type):
                await self.open(descriptor, descriptor.platform or platform, below)
            else:
                self.images.append((descriptor, below))
                self.platforms.append(descriptor.platform or platform)


async def _read(source: Source, selection: Selection, descriptor: Descriptor) -> Document:
    held = selection.read.get(descriptor.digest)
    if held is None:
        account = Account()
        held = selection.read[descriptor.digest] = (b"", account)  # so that a failure is paid for too
        raw = await source.manifest(descriptor, account)
        account.held += len(raw) if source.remote else 0
        held = selection.read[descriptor.digest] = (raw, account)
    return manifest.parse(descriptor, held[0])
