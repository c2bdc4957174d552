"""What an `index.json` lists, and which of it a reference means (image-spec, image-layout.md).

Owns the questions that are asked of the file's bytes, wherever they were read from: a layout's directory or
an archive of one. Must not know files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regsim.core import Descriptor, Digest
from regsim.core.manifest import encode
from regsim.errors import ContentError, InvalidReferenceError, LocalFileError
from regsim.store.memory import named

if TYPE_CHECKING:
    from collections.abc import Callable

REF_NAME = "org.opencontainers.image.ref.name"

# An entry has some 300 bytes, so this is room for a hundred thousand images.
MAX_INDEX_SIZE = 32 * 1024 * 1024
_TAGS_IN_HINT = 20


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of an `index.json`.

    Attributes:
        where: the file, as errors name it.
        document: all that it says, so that it can be written again with what nobody here knows.
    """

    where: str
    document: dict[str, Any]

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Listing:
        """Read an `index.json`.

        Raises:
            ContentError: it is malformed.
        """
        document = parse_object(raw, where)
        if not isinstance(document.get("manifests"), list):
            raise ContentError(f"{where} has no list of manifests", hint="it is no index of an image layout")
        return cls(where, document)

    @property
    def manifests(self) -> list[Any]:
        """Its entries, none of them checked: one that cannot be read concerns only those who ask for it."""
        entries: list[Any] = self.document["manifests"]
        return entries

    def tagged(self, tag: str) -> list[Descriptor]:
        """Return the manifests that are listed under a tag; more than one is no error here."""
        found = enumerate(self.manifests)
        return [self._entry(position, value) for position, value in found if ref_name(value) == tag]

    def by_digest(self, digest: Digest) -> Descriptor | None:
        """Return the manifest of this digest if it is listed."""
        for position, value in enumerate(self.manifests):
            if digest_of(value) == digest:
                return self._entry(position, value)
        return None

    def everything(self) -> list[Descriptor]:
        """Return each manifest that is listed, once."""
        listed = [self._entry(position, value) for position, value in enumerate(self.manifests)]
        return list({each.digest: each for each in listed}.values())

    def tags(self) -> tuple[str, ...]:
        """Return all tags, sorted."""
        names = (ref_name(value) for value in self.manifests)
        return tuple(sorted({name for name in names if name is not None}))

    def lookup(
        self, reference: str, where: str, unlisted: Callable[[Digest], Descriptor | None]
    ) -> Descriptor | None:
        """Return the manifest that a tag or digest names, or the only one where it is empty; else None.

        Args:
            reference: a tag, a digest, or nothing.
            where: the layout, as errors name it.
            unlisted: finds a manifest by digest that only another one names.

        Raises:
            ContentError: several are listed under that tag.
        """
        found = self._candidates(reference, unlisted)
        if len(found) > 1 and reference:
            raise ContentError(
                f"{where} lists {len(found)} manifests as {reference!r}", hint="name one by its digest"
            )
        return found[0] if len(found) == 1 else None

    def missing(self, reference: str, where: str) -> LocalFileError:
        """Return the error of somebody whose `lookup` found nothing."""
        missing = f"no image {reference!r}" if reference else "not exactly one image"
        return LocalFileError(f"{where} holds {missing}", hint=self._tags_hint())

    def _candidates(
        self, reference: str, unlisted: Callable[[Digest], Descriptor | None]
    ) -> list[Descriptor]:
        if not reference:
            # What is listed without a tag beside what has one refers to it, or was replaced.
            tagged = [each for tag in self.tags() for each in self.tagged(tag)]
            images = list({each.digest: each for each in tagged}.values()) or self.everything()
            return [named(each) for each in images]
        try:
            digest = Digest(reference)
        except InvalidReferenceError:
            return list({each.digest: named(each) for each in self.tagged(reference)}.values())
        found = self.by_digest(digest) or unlisted(digest)
        return [named(found)] if found else []

    def _tags_hint(self) -> str:
        known = self.tags()
        if not known:
            return "it has no tags"
        more = f" and {len(known) - _TAGS_IN_HINT} more" if len(known) > _TAGS_IN_HINT else ""
        return f"its tags are {', '.join(known[:_TAGS_IN_HINT])}{more}"

    def _entry(self, position: int, value: object) -> Descriptor:
        return Descriptor.from_json(value, where=f"{self.where}, manifests[{position}]")


def ref_name(value: object) -> str | None:
    """Return the tag of an entry of `index.json`."""
    annotations = value.get("annotations") if isinstance(value, dict) else None
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def digest_of(value: object) -> Digest | None:
    """Return the digest of an entry of `index.json`, None where it has none that can be read."""
    try:
        return Digest(str(value.get("digest"))) if isinstance(value, dict) else None
    except InvalidReferenceError:
        return None


def parse_object(raw: bytes, where: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ContentError: it is none.
    """
    try:
        value = json.loads(raw)
        if b"\\u" in raw:
            encode(value)  # half a surrogate pair is no text, and could not be written again
    except (ValueError, RecursionError) as error:
        raise ContentError(
            f"{where} is not JSON", hint="the image layout is damaged; write it anew"
        ) from error
    if not isinstance(value, dict):
        raise ContentError(f"{where} is not a JSON object", hint="the image layout is damaged")
    return value


def check_version(raw: bytes, where: str) -> None:
    """Check what an `oci-layout` file says.

    Raises:
        ContentError: it is malformed, or of a version that is not read.
    """
    version = parse_object(raw, where).get("imageLayoutVersion")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise ContentError(
            f"{where} says version {version!r:.40}", hint="image layouts of version 1.0.0 are read"
        )
