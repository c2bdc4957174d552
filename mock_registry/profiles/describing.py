"""Quirks of manifests, tags and lists.

Owns answers of these endpoints that differ in substance.
"""

import hashlib
import json
from urllib.parse import quote

from mock_registry.exchange import Exchange, Response, Severed
from mock_registry.faults.answers import drop, header_of, put, refuse
from mock_registry.handlers.manifests import read_content
from mock_registry.journal import Route
from mock_registry.manifest import Manifest
from mock_registry.service import Handler, Service
from mock_registry.spec import Digest, MediaType, digest_of, is_digest, is_tag, parse_count

from .quirk import Wrapper
from .wording import not_found, say, text

_OK, _CREATED, _ABSENT = 200, 201, 404
_OCI = frozenset({MediaType.OCI_INDEX, MediaType.OCI_MANIFEST})
_SIZE = 100


async def needs_a_content_type(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Refuse a manifest that comes without a Content-Type."""
    if exchange.method == "PUT" and exchange.header(b"content-type") is None:
        return refuse(400, error="MANIFEST_INVALID")
    return await handle(service, exchange)


async def manifests_by_sha256(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Refuse a manifest that is put under a digest of another algorithm: it is compared with its sha256."""
    reference = exchange.address.last or ""
    if exchange.method == "PUT" and is_digest(reference) and not reference.startswith("sha256:"):
        return refuse(400, error="DIGEST_INVALID")
    return await handle(service, exchange)


async def believes_the_media_type(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Take a manifest whose ``mediaType`` is not its Content-Type."""
    sent = exchange.header(b"content-type") or ""
    if exchange.method == "PUT" and sent.partition(";")[0].strip() in set(MediaType):
        exchange.headers = [each for each in exchange.headers if each[0] != b"content-type"]
    return await handle(service, exchange)


def bad_tags(status: int, error: str | None) -> Wrapper:
    """Return a quirk that refuses otherwise to push to what is no tag; without a code, with a page."""

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:
        reference = exchange.address.last or ""
        if exchange.method == "PUT" and not (is_tag(reference) or is_digest(reference)):
            return not_found() if error is None else refuse(status, error=error)
        return await handle(service, exchange)

    return wrapper


async def oci_must_be_accepted(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Serve OCI manifests only to those whose Accept names their very media type."""
    response = await handle(service, exchange)
    media_type = header_of(response, b"content-type") or ""
    if exchange.method not in ("GET", "HEAD") or response.status != _OK or media_type not in _OCI:
        return response
    accepted = {part.partition(";")[0].strip() for part in (exchange.header(b"accept") or "").split(",")}
    return response if media_type in accepted else refuse(404, error="MANIFEST_UNKNOWN")


async def one_tag(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Set no tags but the one in the path."""
    exchange.ask(b"")
    return await handle(service, exchange)


async def digests_alone_are_deleted(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Delete no tags."""
    if exchange.method == "DELETE" and not is_digest(exchange.address.last or ""):
        return refuse(400, error="DIGEST_INVALID")
    return await handle(service, exchange)


async def no_referrers(service: Service, exchange: Exchange, handle: Handler) -> Response:  # noqa: ARG001
    """Know no referrers: a page that is not found."""
    return not_found()


def no_referrers_as(status: int, error: str) -> Wrapper:
    """Return a quirk that knows no referrers, and says so as of something else."""

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:  # noqa: ARG001
        return refuse(status, error=error)

    return wrapper


async def silent_about_subjects(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Tell nobody that a subject was noticed."""
    response = await handle(service, exchange)
    drop(response, b"oci-subject")
    return response


async def referrers_of_anything(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """List no referrers of what is no digest."""
    if is_digest(exchange.address.last or ""):
        return await handle(service, exchange)
    index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": []}
    return Response(_OK, [(b"content-type", MediaType.OCI_INDEX.encode())], json.dumps(index).encode())


async def fallback_tag_is_a_digest(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Read a referrers' fallback tag as the digest of the subject that it is made of."""
    response = await handle(service, exchange)
    algorithm, dash, encoded = (exchange.address.last or "").partition("-")
    digest = f"{algorithm}:{encoded}"
    if response.status != _ABSENT or not dash or not is_digest(digest) or exchange.method == "PUT":
        return response
    repository = service.state.repository(exchange.repository)
    manifest = None if repository is None else repository.resolve(digest)
    if manifest is None:
        return response
    headers = [(b"content-type", manifest.media_type.encode()), (b"docker-content-digest", digest.encode())]
    return Response(_OK, headers, manifest.content)


# Lists


def _names(response: Response) -> tuple[dict[str, object], list[str]]:
    document: dict[str, object] = json.loads(response.body) if isinstance(response.body, bytes) else {}
    tags = document.get("tags")
    return document, list(tags) if isinstance(tags, list) else []


def _tell(response: Response, document: dict[str, object], tags: list[str] | None) -> Response:
    response.body = json.dumps(document | {"tags": tags}).encode()
    return response


async def tags_in_no_order(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """List all tags whatever is asked for, in the order of a directory: none."""
    exchange.ask(b"")
    response = await handle(service, exchange)
    if response.status != _OK:
        return response
    document, tags = _names(response)
    return _tell(response, document, sorted(tags, key=lambda tag: hashlib.sha256(tag.encode()).digest()))


async def blobs_make_no_repository(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """List no tags of a repository that has blobs alone, as if it were not there."""
    repository = service.state.repository(exchange.repository)
    if repository is not None and not repository.manifests:
        return refuse(404, error="NAME_UNKNOWN")
    return await handle(service, exchange)


async def every_repository_exists(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """List the tags of a repository that is not there: there are none."""
    response = await handle(service, exchange)
    if say(response) != "404 NAME_UNKNOWN":
        return response
    document: dict[str, object] = {"name": exchange.repository, "tags": []}
    return Response(_OK, [(b"content-type", b"application/json")], json.dumps(document).encode())


async def numbers_break_it(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Panic on a number of tags below 1 where there are any, and take what is no number for none."""
    asked = exchange.parameter("n")
    if asked is None:
        return await handle(service, exchange)
    try:
        count = int(asked)
    except ValueError:
        exchange.ask(_without(exchange, "n"))
        return await handle(service, exchange)
    repository = service.state.repository(exchange.repository)
    if count < 1 and repository is not None and repository.tags:
        raise Severed(reset=False)
    return await handle(service, exchange)


def _without(exchange: Exchange, name: str) -> bytes:
    pairs = [(key, value) for key, values in exchange.query.items() for value in values if key != name]
    return "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in pairs).encode()


async def unquoted_links(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Link the next page with ``rel=next``, without quotes."""
    response = await handle(service, exchange)
    link = header_of(response, b"link")
    if link is not None:
        put(response, b"link", link.replace('rel="next"', "rel=next").encode("latin-1"))
    return response


async def tags_from_somewhere(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Start after ``last`` if anything is there, else at the beginning; cut after ``n``; link nothing."""
    asked, last = exchange.parameter("n"), exchange.parameter("last")
    exchange.ask(b"")
    response = await handle(service, exchange)
    if response.status != _OK:
        return response
    drop(response, b"content-type")
    document, tags = _names(response)
    tags = [tag for tag in tags if last and tag > last] or tags
    if asked is None:
        return _tell(response, document, tags or None)
    try:
        count = int(asked)
    except ValueError:
        return refuse(400, error="BAD_REQUEST")
    if count < 0:
        raise Severed(reset=False)  # it panics
    return _tell(response, document, tags[:count])


def pages_of(size: int = _SIZE) -> Wrapper:
    """Return a quirk that lists no more than so many tags at once, asked for or not."""

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:
        if exchange.parameter("n") is None:
            exchange.ask(b"&".join(filter(None, (exchange.query_string, b"n=%d" % size))))
        return await handle(service, exchange)

    return wrapper


async def at_most_1000(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Refuse to list more than 1000 at once."""
    if (parse_count(exchange.parameter("n") or "") or 0) > 1000:  # noqa: PLR2004 (the limit)
        return refuse(400, error="UNSUPPORTED", message="Member must have value less than or equal to 1000")
    return await handle(service, exchange)


async def no_catalog(service: Service, exchange: Exchange, handle: Handler) -> Response:  # noqa: ARG001
    """Serve no catalog."""
    return Response(404)


async def catalog_without_links(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Link no next page."""
    response = await handle(service, exchange)
    drop(response, b"link")
    return response


# A registry that looks at nothing


def keeps_whatever_comes() -> Wrapper:
    """Return a quirk that stores any octets as a manifest under any name, with no look at what they refer to.

    Only what an index refers to must be there. A delete by digest leaves the tags, which go on serving.
    """
    deleted: set[tuple[str, Digest]] = set()

    async def wrapper(service: Service, exchange: Exchange, handle: Handler) -> Response:  # noqa: ARG001
        name, reference = exchange.address.name or "", exchange.address.last or ""
        exchange.reference = reference
        if exchange.method == "PUT":
            return await _keep(service, exchange, deleted, await read_content(service, exchange))
        repository = service.state.repository(name)
        if repository is None or not repository.manifests:
            return refuse(404, error="NAME_UNKNOWN")
        manifest = None if (name, reference) in deleted else repository.resolve(reference)
        if manifest is None:
            return refuse(404, error="MANIFEST_UNKNOWN")
        exchange.digest = manifest.digest
        if exchange.method == "DELETE":
            if is_digest(reference):
                deleted.add((name, reference))
            else:
                await service.state.delete_tag(name, reference)
            return Response(202)
        if exchange.method not in ("GET", "HEAD"):
            return refuse(400, error="METHOD_UNKNOWN")
        headers = [
            (b"content-type", manifest.media_type.encode()),
            (b"docker-content-digest", manifest.digest.encode()),
        ]
        return Response(_OK, headers, manifest.content)

    return wrapper


async def _keep(
    service: Service, exchange: Exchange, deleted: set[tuple[str, Digest]], content: bytes
) -> Response:
    name, reference = exchange.address.name or "", exchange.address.last or ""
    manifest = Manifest(digest_of(content), exchange.header(b"content-type") or "", content)
    if manifest.media_type in (MediaType.OCI_INDEX, MediaType.DOCKER_LIST):
        try:
            entries = json.loads(content)["manifests"]
            wanted = [entry["digest"] for entry in entries if entry["mediaType"] in set(MediaType)]
        except (ValueError, KeyError, TypeError):
            return refuse(400, error="MANIFEST_INVALID")
        repository = service.state.repository(name)
        if any(repository is None or digest not in repository.manifests for digest in wanted):
            return refuse(404, error="MANIFEST_UNKNOWN")
    exchange.digest = manifest.digest
    deleted.discard((name, manifest.digest))
    await service.state.put_manifest(name, manifest, [] if is_digest(reference) else [reference])
    return Response(_CREATED, [(b"docker-content-digest", manifest.digest.encode())])


async def unknown_methods(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Answer what is not served with METHOD_UNKNOWN: 404 for a path, 400 for a method."""
    response = await handle(service, exchange)
    if say(response) == "404 UNSUPPORTED" or exchange.address.route is Route.REFERRERS:
        return refuse(404, error="METHOD_UNKNOWN")
    return refuse(400, error="METHOD_UNKNOWN") if say(response) == "405 UNSUPPORTED" else response


async def bare_404s(service: Service, exchange: Exchange, handle: Handler) -> Response:
    """Answer what is not served with nothing: neither which methods there are, nor a code."""
    response = await handle(service, exchange)
    said = say(response) in ("404 UNSUPPORTED", "400 NAME_INVALID", "405 UNSUPPORTED")
    return text(404, "") if said else response
