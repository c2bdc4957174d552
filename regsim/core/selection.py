"""Which part of an image is transferred: what a choice of platforms keeps, and what it leaves out.

Decides what has to be read for the choice, before a transfer begins: indexes, and of a single image the
config. What was read is kept, so no manifest is read twice, and is charged to the account of that content.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core import Digest, Platform, manifest, media_types, parse_config
from regsim.core import actions as act
from regsim.core.account import Account
from regsim.core.config import MAX_CONFIG_SIZE
from regsim.core.graph import MAX_DEPTH, MAX_REFERENCES
from regsim.core.platform import choose
from regsim.errors import ContentError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from regsim.core import Descriptor, Document

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
        account: is charged for what was read and is not transferred, in `beside`.
    """

    root: Descriptor
    account: Account = field(default_factory=Account)
    kept: frozenset[Digest] | None = None
    unselected: int = 0
    read: dict[Digest, tuple[bytes, Account]] = field(default_factory=dict)

    def settle(self, kept: Container[Digest] = ()) -> None:
        """Keep only this of what was read for the transfer; charge the rest to `account`."""
        for digest in [digest for digest in self.read if digest not in kept]:
            self.account.beside.append((digest, self.read.pop(digest)[1]))

    def document(self, descriptor: Descriptor) -> Document:
        """Return a manifest that was read."""
        return manifest.parse(descriptor, self.read[descriptor.digest][0])

    def keeps(self, document: Document) -> Document:
        """Return a document without what was left out of it; its bytes stay what they are."""
        if self.kept is None or not media_types.is_index(document.descriptor.media_type):
            return document
        return document.only(self.kept)


Choosing = Generator[act.FetchManifest | act.FetchConfig, bytes, None]
"""Yields what is to be read of the source, and is sent its verified bytes."""


def choosing(selection: Selection, choice: Choice, name: str) -> Choosing:
    """Choose what is transferred of the root.

    Args:
        selection: names what the reference does, and receives the choice, also if that fails.
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
        yield from _check_only(selection, choice.platforms, name)
        return
    tree = _Tree(selection)
    yield from tree.open(selection.root, None, ())
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


def _check_only(selection: Selection, wanted: Sequence[Platform], name: str) -> Choosing:
    """Hold a single image's own config against what is wanted; an artifact is for every platform."""
    yield from _read(selection, selection.root)
    config = selection.document(selection.root).config
    if config is None or config.media_type not in media_types.CONFIGS or config.size > MAX_CONFIG_SIZE:
        return
    # It is read again with the other blobs: this once it serves no transfer.
    account = selection.account.aside(config.digest)
    raw = config.data or (yield act.FetchConfig(descriptor=config, account=account))
    platform = parse_config(raw).platform
    if platform.os and not any(platform.satisfies(each) for each in wanted):
        raise _missing(wanted[0], [str(platform)], name)


class _Tree:
    """The images that an index names, through any indexes in it, in their order."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self.images: list[tuple[Descriptor, tuple[Digest, ...]]] = []  # and the indexes that lead to each
        self.platforms: list[Platform | None] = []
        self.named: list[Digest] = []

    def open(self, index: Descriptor, platform: Platform | None, path: tuple[Digest, ...]) -> Choosing:
        """Take in what an index names; an image that says no platform has that of its index."""
        if len(path) > MAX_DEPTH:
            raise ContentError(f"an index is nested more than {MAX_DEPTH} deep")
        if index.digest in path:
            raise ContentError(f"index {index.digest.short} names itself")
        yield from _read(self._selection, index)
        document = self._selection.document(index)
        below = (*path, index.digest)
        self.named += [each.descriptor.digest for each in document.successors]
        if len(self.named) > MAX_REFERENCES:
            raise ContentError(f"an index of more than {MAX_REFERENCES:,} references")
        for descriptor in (each.descriptor for each in document.successors):
            if media_types.is_index(descriptor.media_type):
                yield from self.open(descriptor, descriptor.platform or platform, below)
            else:
                self.images.append((descriptor, below))
                self.platforms.append(descriptor.platform or platform)


def _read(selection: Selection, descriptor: Descriptor) -> Choosing:
    if descriptor.digest not in selection.read:
        account = Account()
        selection.read[descriptor.digest] = (b"", account)  # so that a failure is paid for too
        raw = yield act.FetchManifest(descriptor=descriptor, account=account, from_destination=False)
        selection.read[descriptor.digest] = (raw, account)
