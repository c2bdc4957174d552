"""What refers to a manifest: signatures, bills of materials, attestations (distribution-spec, end-12).

Owns the list of a subject's referrers, which the registry keeps, or else clients do under the fallback tag
(`sha256-…`). Must not know what a referrer is good for.

Nothing in the protocol keeps two clients from writing the fallback tag over each other. Here, writers of one
process take turns, each reads before and after it writes, and writes again what is no longer there.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from regsim.core import Descriptor, Digest, media_types
from regsim.core.manifest import MAX_MANIFEST_SIZE, encode, index_document, parse
from regsim.errors import ContentError, NotFoundError, RegistryError
from regsim.registry import manifests
from regsim.registry.answer import refusal
from regsim.registry.listing import pages

if TYPE_CHECKING:
    from collections.abc import Iterable

    from regsim.core.account import Account
    from regsim.core.manifest import Referrer
    from regsim.registry.answer import Answer
    from regsim.registry.requests import Requests

MAX_REFERRERS = 10_000
_TRIES = 8
# How registries say that they know no such question (distribution answers 404, others what they like).
_UNKNOWN = frozenset({400, 404, 405, 406, 501})


def fallback_tag(subject: Digest) -> str:
    """Return the tag under which clients list what refers to `subject`."""
    return f"{subject.algorithm[:32]}-{subject.encoded[:64]}"


async def listed(
    repository: Requests, subject: Digest, account: Account, artifact_type: str | None = None
) -> tuple[Descriptor, ...]:
    """Return what refers to a manifest (end-12): descriptors with their artifact types and annotations.

    If a registry does not support the request, the fallback tag is read instead.

    Args:
        repository: that is asked.
        subject: the manifest's digest; it need not be there.
        account: is charged.
        artifact_type: only those of this type.

    Raises:
        RegistryError: the registry refused, or the list has no end.
    """
    found = await _asked(repository, subject, account, artifact_type)
    if found is None:
        tagged = await _tagged(repository, subject, account)
        found = _named(*tagged) if tagged else []
    # A registry that does not say that it has filtered has not.
    wanted = (each for each in found if artifact_type in (None, each.artifact_type))
    return tuple({each.digest: each for each in wanted}.values())


async def keep(repository: Requests, referrer: Referrer, account: Account) -> None:
    """List a manifest that was put under its subject's fallback tag, unless the registry lists it.

    Args:
        repository: with the repository.
        referrer: what was put, and to what it refers.
        account: gets what it costs as accounts apart from it.

    Raises:
        RegistryError: others write the tag all the time, or the list is full.
    """
    tag = fallback_tag(referrer.subject)
    async with repository.transport.turn(f"{repository.name}:{tag}"):
        for _ in range(_TRIES):
            tagged = await _tagged(repository, referrer.subject, account.aside(None))
            if tagged is not None and referrer.descriptor.digest in {each.digest for each in _named(*tagged)}:
                return
            # What else it says stays.
            document: dict[str, Any] = json.loads(tagged[1] if tagged else index_document([]))
            document["manifests"].append(referrer.descriptor.to_json())
            raw = encode(document)
            if len(raw) > MAX_MANIFEST_SIZE:
                raise RegistryError(f"{repository.name}:{tag} lists as many referrers as a manifest can")
            index = Descriptor.of(raw, media_types.OCI_INDEX)
            await manifests.put(repository, raw, index.media_type, tag, account.aside(index.digest))
    raise RegistryError(
        f"{repository.name}:{tag} was written over by others {_TRIES} times",
        hint="several clients push referrers of one image; push this one again",
    )


async def list_missing(repository: Requests, found: Iterable[Referrer], account: Account) -> None:
    """See to it that manifests that are there are listed under their subjects, as `put_manifest` does.

    An earlier client may have been stopped between the two, or not have known that it had to.

    Args:
        repository: with the manifests.
        found: each with its subject, and as lists describe it.
        account: is charged.

    Raises:
        RegistryError: as from `listed`, or others write the fallback tag all the time.
    """
    known: dict[Digest, set[Digest]] = {}
    for each in found:
        if each.subject not in known:
            known[each.subject] = {one.digest for one in await listed(repository, each.subject, account)}
        if each.descriptor.digest not in known[each.subject]:
            await keep(repository, each, account)


async def _asked(
    repository: Requests, subject: Digest, account: Account, artifact_type: str | None
) -> list[Descriptor] | None:
    """Ask the registry; None if it does not know the question."""

    async def ask(target: str) -> Answer:
        return await repository.ask("GET", target, account, limit=MAX_MANIFEST_SIZE)

    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type is not None else ""
    target, found, first = f"/v2/{repository.name}/referrers/{subject}{query}", list[Descriptor](), True
    async for answer in pages(ask, target, f"the referrers of {subject.short}"):
        if answer.status != HTTPStatus.OK:
            if first and answer.status in _UNKNOWN:
                return None
            raise refusal(answer)
        # A web server that answers 200 to all has not understood the question either.
        if first and media_types.essence(answer.headers.get("Content-Type", "")) != media_types.OCI_INDEX:
            return None
        found += _page(answer, repository.name)
        if len(found) > MAX_REFERRERS:
            raise RegistryError(f"{subject.short} has more than {MAX_REFERRERS:,} referrers")
        first = False
    return found


def _page(answer: Answer, name: str) -> list[Descriptor]:
    if not answer.whole:
        raise RegistryError(f"a list of referrers of {name} is larger than {MAX_MANIFEST_SIZE} bytes")
    try:
        return _named(Descriptor.of(answer.body, media_types.OCI_INDEX), answer.body)
    except ContentError as error:
        raise RegistryError(f"cannot list the referrers of {name}: {error.message}") from error


async def _tagged(repository: Requests, subject: Digest, account: Account) -> tuple[Descriptor, bytes] | None:
    """Return the index under the fallback tag; None if there is nothing, or something else."""
    try:
        descriptor, raw = await manifests.fetch(repository, fallback_tag(subject), account)
    except NotFoundError:
        return None
    # Some registries read the tag as the digest that it is made of, and answer with the subject.
    return (descriptor, raw) if descriptor.media_type == media_types.OCI_INDEX else None


def _named(descriptor: Descriptor, raw: bytes) -> list[Descriptor]:
    return [each.descriptor for each in parse(descriptor, raw).successors]
