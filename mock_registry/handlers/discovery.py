"""Content discovery: support (end-1), tags (end-8), referrers (end-12), and two more endpoints.

The catalog and the token service are no part of the specification, but most registries have both.
"""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from mock_registry.auth import TokenAuth
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.service import Service
from mock_registry.spec import Digest, ErrorCode, Fault, MediaType, parse_count
from mock_registry.state import Repository

from .blobs import digest_in_path


async def get_base(service: Service, exchange: Exchange) -> Response:  # noqa: ARG001 (a handler)
    """Say that this is a registry (end-1)."""
    # The version header is older than the specification; docker looks for it.
    headers = [(b"content-type", b"application/json"), (b"docker-distribution-api-version", b"registry/2.0")]
    return Response(200, headers, b"{}")


async def answer_token(service: Service, exchange: Exchange) -> Response:
    """Hand out a token, if this registry has a token service."""
    if not isinstance(service.auth, TokenAuth):
        raise Refusal(404, Fault(ErrorCode.UNSUPPORTED, "this registry has no token service"))
    return await service.auth.answer_token(exchange)


# Lists (end-8a, end-8b)


async def get_tags(service: Service, exchange: Exchange) -> Response:
    """List the tags of a repository (end-8a, end-8b)."""
    repository = service.state.repository(exchange.repository)
    if repository is None:
        raise Refusal(404, Fault(ErrorCode.NAME_UNKNOWN, "there is no such repository", exchange.repository))
    return _page(exchange, "tags", repository.tags, {"name": exchange.address.name})


async def get_catalog(service: Service, exchange: Exchange) -> Response:
    """List the repositories that hold or held content and that the client may read."""
    return _page(exchange, "repositories", filter(exchange.access.sees, service.state.repositories), {})


def _page(exchange: Exchange, key: str, names: Iterable[str], document: dict[str, object]) -> Response:
    """Return the document with the names, in ASCII order, that ``n`` and ``last`` ask for.

    Raises:
        Refusal: 400; ``n`` is not a number from 0.
    """
    last = exchange.parameter("last")
    found = sorted(name for name in names if last is None or name > last)
    text = exchange.parameter("n")
    count = None if text is None else parse_count(text)
    if text is not None and count is None:
        raise Refusal(400, Fault(ErrorCode.UNSUPPORTED, "n is not a number from 0", text))
    headers = [(b"content-type", b"application/json")]
    if count is not None and count < len(found):
        found = found[:count]
        if found:  # for n=0, a link would lead back to the same page
            query = f"n={count}&last={quote(found[-1], safe='')}"
            headers.append((b"link", _next_page(exchange, query)))
    return Response(200, headers, json.dumps(document | {key: found}).encode())


def _next_page(exchange: Exchange, query: str) -> bytes:
    """Return a Link to the next page, of the same host's content (``ns``)."""
    if exchange.namespace is not None:
        query += f"&ns={quote(exchange.namespace, safe='')}"
    return f'<{exchange.path.decode("latin-1")}?{query}>; rel="next"'.encode("latin-1")


# Referrers (end-12a, end-12b)


async def get_referrers(service: Service, exchange: Exchange) -> Response:
    """List the descriptors of a subject's referrers (end-12a, end-12b).

    An unknown subject or repository has an empty list.
    """
    subject = digest_in_path(exchange)
    repository = service.state.repository(exchange.repository)
    found = _referrers(repository, subject) if repository else []
    headers = [(b"content-type", MediaType.OCI_INDEX.encode())]
    wanted = exchange.parameter("artifactType")
    if wanted is not None:
        found = [descriptor for descriptor in found if descriptor.get("artifactType") == wanted]
        headers.append((b"oci-filters-applied", b"artifactType"))
    shown = _fitting(found, exchange.parameter("last"), service.settings.manifest_limit)
    if shown and shown[-1] is not found[-1]:
        query = f"last={quote(shown[-1]['digest'])}"
        query += "" if wanted is None else f"&artifactType={quote(wanted, safe='')}"
        headers.append((b"link", _next_page(exchange, query)))
    index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": shown}
    return Response(200, headers, json.dumps(index).encode())


def _referrers(repository: Repository, subject: Digest) -> list[dict[str, Any]]:
    """Join the manifests that name the subject and the entries of its fallback tag."""
    found = {descriptor["digest"]: descriptor for descriptor in repository.referrers(subject)}
    algorithm, _, encoded = subject.partition(":")
    fallback = repository.resolve(f"{algorithm[:32]}-{encoded[:64]}")
    if fallback is not None and fallback.media_type == MediaType.OCI_INDEX:
        for descriptor in json.loads(fallback.content).get("manifests") or ():
            found.setdefault(descriptor["digest"], descriptor)
    return list(found.values())


def _fitting(found: list[dict[str, Any]], last: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the descriptors after ``last`` that fit into one index of at most ``limit`` bytes."""
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
