"""Listing what refers to a manifest (end-12a, end-12b)."""

import json
from typing import Any
from urllib.parse import quote

from mock_registry.exchange import Exchange, Response
from mock_registry.service import Service
from mock_registry.spec import Digest, MediaType
from mock_registry.state import Repository

from .blobs import digest_in_path
from .pages import namespace


async def get_referrers(service: Service, exchange: Exchange) -> Response:
    """List the descriptors of a subject's referrers; of an unknown subject or repository there are none."""
    subject = digest_in_path(exchange)
    repository = service.state.repository(exchange.repository)
    found = _all(repository, subject) if repository else []
    headers = [(b"content-type", MediaType.OCI_INDEX.encode())]
    wanted = exchange.parameter("artifactType")
    if wanted is not None:
        found = [descriptor for descriptor in found if descriptor.get("artifactType") == wanted]
        headers.append((b"oci-filters-applied", b"artifactType"))
    shown = _page(found, exchange.parameter("last"), service.settings.manifest_limit)
    if shown and shown[-1] is not found[-1]:
        headers.append((b"link", _next(exchange, shown[-1]["digest"], wanted)))
    index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": shown}
    return Response(200, headers, json.dumps(index).encode())


def _all(repository: Repository, subject: Digest) -> list[dict[str, Any]]:
    """Join what was pushed with a subject and what clients kept under the fallback tag before."""
    found = {descriptor["digest"]: descriptor for descriptor in repository.referrers(subject)}
    algorithm, _, encoded = subject.partition(":")
    fallback = repository.resolve(f"{algorithm[:32]}-{encoded[:64]}")
    if fallback is not None and fallback.media_type == MediaType.OCI_INDEX:
        for descriptor in json.loads(fallback.content)["manifests"]:
            found.setdefault(descriptor["digest"], descriptor)
    return list(found.values())


def _page(found: list[dict[str, Any]], last: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the descriptors after ``last`` that fit into one index of a size that clients can read."""
    digests = [descriptor["digest"] for descriptor in found]
    start = digests.index(last) + 1 if last in digests else 0
    shown: list[dict[str, Any]] = []
    size = 0
    for descriptor in found[start:]:
        size += len(json.dumps(descriptor)) + 2
        if shown and size > limit - 256:
            break
        shown.append(descriptor)
    return shown


def _next(exchange: Exchange, last: Digest, wanted: str | None) -> bytes:
    query = f"last={quote(last)}" + (f"&artifactType={quote(wanted, safe='')}" if wanted is not None else "")
    query += namespace(exchange)
    return f'<{exchange.path.decode("latin-1")}?{query}>; rel="next"'.encode("latin-1")
