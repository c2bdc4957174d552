"""Manifests by tag and digest (distribution-spec, end-3, end-7).

Owns how a manifest is looked up, read, verified and written. Bytes are sent and kept exactly as they
are. Must not know what a manifest names.
"""

from __future__ import annotations

import re
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.core import Descriptor, Digest, media_types
from regsim.core.account import Account, Loss
from regsim.core.descriptor import CANONICAL
from regsim.core.manifest import MAX_MANIFEST_SIZE, media_type_of
from regsim.core.reference import check_tag
from regsim.errors import (
    ContentError,
    InvalidReferenceError,
    NetworkError,
    RegistryError,
    RegsimError,
)
from regsim.net.address import with_query
from regsim.registry.answer import Answer, Body, refusal
from regsim.registry.blobs import ASK_AGAIN
from regsim.registry.retry import Unready, final

if TYPE_CHECKING:
    from regsim.registry.requests import Requests

# All four, or the registry hands out one platform's manifest instead of the index.
_ACCEPT = {"Accept": ", ".join(media_types.ACCEPT)}
_LACKING = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"})
_WRITTEN = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT, HTTPStatus.ACCEPTED})


async def resolve(
    repository: Requests, reference: str, account: Account, *, forbidden_means_absent: bool = False
) -> Descriptor | None:
    """Return what a tag or digest names, None where it is absent: only a 404 says so.

    One HEAD (end-3). It becomes a GET, whose body is `received` and verified, where the HEAD was
    refused with 403 or 405, or left out what it should say.

    Args:
        repository: that is asked.
        reference: a tag or a digest.
        account: is charged.
        forbidden_means_absent: for a look before a push: a 403 counts as absent, with a warning.

    Raises:
        ContentError: the registry answered with something that is no manifest, or a wrong one.
    """
    answer = await repository.ask("HEAD", repository.manifest_target(reference), account, headers=_ACCEPT)
    if answer.status == HTTPStatus.NOT_FOUND:
        return None
    if answer.status == HTTPStatus.OK:
        found = _described(answer, reference)
        if found is not None:
            return found
    elif answer.status not in ASK_AGAIN:
        raise refusal(answer)
    asking = Account()
    try:
        answer = await _get(repository, reference, asking)
    finally:
        asking.lose(Loss.PROBE)
        account.add(asking)
    if answer.status == HTTPStatus.NOT_FOUND:
        return None
    if answer.status == HTTPStatus.FORBIDDEN and forbidden_means_absent:
        # Artifactory (RTFACT-13797) and others say 403 for what is not there.
        repository.registry.warn(f"{refusal(answer).message}: taken as absent")
        return None
    return _verified(answer, reference, None)[0]


async def fetch(repository: Requests, wanted: Descriptor | str, account: Account) -> tuple[Descriptor, bytes]:
    """Return a manifest and its exact bytes, verified (end-3).

    Args:
        repository: that is asked.
        wanted: a descriptor, a tag or a digest. What a descriptor says must hold in full.
        account: is charged.

    Raises:
        NotFoundError: it is absent.
        ContentError: digest, size or media type are wrong, or it is larger than `MAX_MANIFEST_SIZE`.
    """
    described = wanted if isinstance(wanted, Descriptor) else None
    reference = wanted.digest if isinstance(wanted, Descriptor) else wanted
    if described is not None and described.size > MAX_MANIFEST_SIZE:
        raise _too_large(reference)
    account.attempts += 1
    return _verified(await _get(repository, reference, account), reference, described)


async def put(
    repository: Requests,
    raw: bytes,
    media_type: str,
    reference: str,
    account: Account,
    *,
    digest: Digest | None = None,
    patiently: bool = False,
) -> tuple[Descriptor, bool]:
    """Write a manifest under a tag or its digest, byte for byte (end-7a).

    Before a repeated try the registry is asked whether the first one had its effect.

    Args:
        repository: where it is written.
        raw: the manifest.
        media_type: what it is.
        reference: a tag, or its digest.
        account: is charged.
        digest: by which the tag shall name it. A registry that is given a tag alone takes the sha256, so
            that another one goes with the tag (end-7b); a registry that does not know that is given the
            manifest once more, under the tag, at the cost of an account apart from `account`.
        patiently: some registries see what was pushed only after a time: that blobs are missing may pass.

    Returns:
        What it is now, and whether the registry said that it lists it under its subject.
    """
    tag = None if ":" in reference else reference
    if tag is not None and digest is not None and digest.algorithm != CANONICAL:
        target = with_query(repository.manifest_target(digest), f"tag={check_tag(tag)}")
    else:
        target, digest = repository.manifest_target(reference), None
    named = Digest(reference) if tag is None else digest
    wanted = Descriptor.of(raw, media_type, named.algorithm if named else CANONICAL)
    headers = {"Content-Type": media_type}
    failures = 0
    while True:
        account.attempts += 1
        before = account.standing
        try:
            answer = repository.patience.settled(
                await repository.send(
                    "PUT", target, account, headers=headers, body=Body.of(raw), content=True
                )
            )
            if patiently and not _LACKING.isdisjoint(refusal(answer).codes):
                raise Unready(answer)  # noqa: TRY301  (one of the failures that may pass)
        except (NetworkError, Unready) as failure:
            if not await repository.patience.again(failures, failure, account):
                raise final(failure) from failure.__cause__
        else:
            if answer.status not in _WRITTEN:
                raise _refused(answer, wanted)
            if digest is not None and tag not in re.split(r"[,\s]+", answer.headers.get("OCI-Tag", "")):
                # It takes no tags with a digest, and names what is put under a tag by the usual algorithm.
                beside = account.aside(Digest.of(raw))
                await put(repository, raw, media_type, reference, beside, patiently=patiently)
            account.useful_sent += len(raw)
            return wanted, "OCI-Subject" in answer.headers
        failures += 1
        # The answer may have been lost after the effect, and an immutable tag refuses a second PUT.
        sent = account.standing - before
        if await _stands(repository, reference, wanted, account):
            account.useful_sent += len(raw)
            return wanted, False
        account.waste(sent=sent)


def _refused(answer: Answer, wanted: Descriptor) -> RegistryError:
    error = refusal(answer)
    if wanted.digest.algorithm != CANONICAL and answer.status == HTTPStatus.BAD_REQUEST:
        # distribution takes such blobs, and then not the manifest.
        error.hint = f"it may know no {wanted.digest.algorithm}; registries that do are olareg and zot"
    return error


async def _get(repository: Requests, reference: str, account: Account) -> Answer:
    return await repository.ask(
        "GET",
        repository.manifest_target(reference),
        account,
        headers=_ACCEPT,
        content=True,
        limit=MAX_MANIFEST_SIZE,
    )


async def _stands(repository: Requests, reference: str, wanted: Descriptor, account: Account) -> bool:
    """Tell whether `reference` names `wanted` already; in doubt it does not."""
    try:
        found = await resolve(repository, reference, account)
    except RegsimError:
        return False
    return found is not None and found.digest == wanted.digest


def _too_large(reference: str) -> ContentError:
    return ContentError(f"the manifest {reference} is larger than {MAX_MANIFEST_SIZE} bytes")


def _described(answer: Answer, reference: str) -> Descriptor | None:
    """Return what a HEAD says; None unless it says all (size and digest are often missing)."""
    media_type = media_types.essence(answer.headers.get("Content-Type", ""))
    stated: Digest | None = None
    with suppress(InvalidReferenceError):
        stated = Digest(answer.headers.get("Docker-Content-Digest", ""))
    if not answer.length or not media_type:
        return None
    if ":" not in reference:
        return Descriptor(media_type=media_type, digest=stated, size=answer.length) if stated else None
    asked = Digest(reference)
    if stated is not None and stated.algorithm == asked.algorithm and stated != asked:
        return None
    return Descriptor(media_type=media_type, digest=asked, size=answer.length)


def _verified(answer: Answer, reference: str, described: Descriptor | None) -> tuple[Descriptor, bytes]:
    """Return a manifest that has been checked against everything known about it."""
    if answer.status != HTTPStatus.OK:
        raise refusal(answer)
    raw, name = answer.body, f"the manifest {reference}"
    if not answer.whole:
        raise _too_large(reference)
    if described is not None and len(raw) != described.size:
        raise ContentError(f"{name} has {len(raw)} bytes, {described.size} by its descriptor")
    # The registry's own Docker-Content-Digest is not asked: it is missing or wrong too often.
    asked = Digest(reference) if ":" in reference else None
    digest = Digest.of(raw, asked.algorithm if asked else CANONICAL)
    if asked is not None and digest != asked:
        raise ContentError(f"{name} came with bytes whose digest is {digest}")
    media_type = media_type_of(raw, answer.headers.get("Content-Type"))
    if described is not None and media_type != described.media_type:
        raise ContentError(f"{name} is {media_type}, {described.media_type} by its descriptor")
    return described or Descriptor(media_type=media_type, digest=digest, size=len(raw)), raw
