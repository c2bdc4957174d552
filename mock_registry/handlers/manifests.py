"""Pulling, pushing and deleting manifests and tags (end-3, end-7, end-9)."""

from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.manifest import Manifest, ManifestError, parse_manifest
from mock_registry.service import Service
from mock_registry.spec import Algorithm, ErrorCode, Fault, algorithm_of, is_digest, is_tag
from mock_registry.state import Repository

from .blobs import matches


def _reference(exchange: Exchange) -> str:
    """Return the tag or the digest that ends the path.

    Raises:
        Refusal: 400; it is neither.
    """
    reference = exchange.reference = exchange.address.last or ""
    if ":" in reference and not is_digest(reference):
        raise Refusal(
            400, Fault(ErrorCode.DIGEST_INVALID, "the reference is no sha256 or sha512 digest", reference)
        )
    return reference


def _find(service: Service, exchange: Exchange) -> tuple[Repository, Manifest]:
    reference = _reference(exchange)
    if is_digest(reference):
        exchange.digest = reference
    repository = service.state.repository(exchange.repository)
    if repository is None:
        raise Refusal(404, Fault(ErrorCode.NAME_UNKNOWN, "there is no such repository", exchange.repository))
    manifest = repository.resolve(reference)
    if manifest is None:
        raise Refusal(
            404, Fault(ErrorCode.MANIFEST_UNKNOWN, "there is no such manifest", {"reference": reference})
        )
    exchange.digest = manifest.digest
    return repository, manifest


async def get_manifest(service: Service, exchange: Exchange) -> Response:
    """Serve a manifest byte for byte, with the media type that it was pushed with (end-3)."""
    _, manifest = _find(service, exchange)
    if not accepts(exchange.header(b"accept"), manifest.media_type):
        # Manifests are never converted: one that the client does not accept is not found.
        fault = Fault(
            ErrorCode.MANIFEST_UNKNOWN, f"the manifest is {manifest.media_type}, which is not accepted"
        )
        raise Refusal(404, fault)
    etag = f'"{manifest.digest}"'
    headers = [
        (b"content-type", manifest.media_type.encode()),
        (b"docker-content-digest", manifest.digest.encode()),
        (b"etag", etag.encode()),
    ]
    if matches(exchange.header(b"if-none-match"), etag):
        return Response(304, headers[1:])
    return Response(200, headers, manifest.content)


async def put_manifest(service: Service, exchange: Exchange) -> Response:
    """Store a manifest byte for byte under a tag or its digest (end-7a, end-7b)."""
    reference = _reference(exchange)
    algorithm, tags = _targets(reference, exchange)
    content = await read_content(service, exchange)
    try:
        manifest = parse_manifest(content, exchange.header(b"content-type") or "", algorithm)
    except ManifestError as error:
        raise Refusal(400, Fault(ErrorCode.MANIFEST_INVALID, str(error))) from error
    exchange.digest = manifest.digest
    if is_digest(reference) and manifest.digest != reference:
        detail = {"expected": reference, "actual": manifest.digest}
        raise Refusal(400, Fault(ErrorCode.DIGEST_INVALID, "the manifest has another digest", detail))
    _check_successors(service, exchange, manifest)
    await service.state.put_manifest(exchange.repository or "", manifest, tags)
    location = f"/v2/{exchange.repository}/manifests/{manifest.digest}"
    headers = [(b"location", location.encode()), (b"docker-content-digest", manifest.digest.encode())]
    if manifest.subject:
        headers.append((b"oci-subject", manifest.subject.encode()))
    if is_digest(reference):
        headers += [(b"oci-tag", tag.encode()) for tag in tags]
    return Response(201, headers)


def _targets(reference: str, exchange: Exchange) -> tuple[Algorithm, list[str]]:
    """Return the algorithm to check with and the tags to set."""
    if is_digest(reference):
        tags = exchange.query.get("tag", [])
        algorithm = algorithm_of(reference)
    else:
        tags, algorithm = [reference], Algorithm.SHA256
    for tag in tags:
        if not is_tag(tag):
            raise Refusal(400, Fault(ErrorCode.MANIFEST_INVALID, "the reference is not a valid tag", tag))
    return algorithm, list(dict.fromkeys(tags))


async def read_content(service: Service, exchange: Exchange) -> bytes:
    """Return the whole body of a manifest.

    Raises:
        Refusal: 413; it is larger than the manifest limit.
    """
    limit = service.settings.manifest_limit
    parts: list[bytes] = []
    if (exchange.content_length or 0) <= limit:
        while exchange.bytes_in <= limit and (batch := await exchange.read()):
            parts += batch
    if exchange.bytes_in > limit or (exchange.content_length or 0) > limit:
        raise Refusal(
            413, Fault(ErrorCode.SIZE_INVALID, f"a manifest may have {limit} bytes", {"limit": limit})
        )
    return b"".join(parts)


def _check_successors(service: Service, exchange: Exchange, manifest: Manifest) -> None:
    """Refuse a manifest whose successors are missing, with one error for each."""
    if service.settings.sparse:
        return
    repository = service.state.repository(exchange.repository) or Repository("")
    missing = repository.missing(manifest.successors)
    if missing:
        message = "the repository lacks what the manifest refers to"
        faults = [Fault(ErrorCode.MANIFEST_BLOB_UNKNOWN, message, each.document()) for each in missing]
        raise Refusal(400, *faults)


async def delete_manifest(service: Service, exchange: Exchange) -> Response:
    """Delete one tag, or a manifest with all its tags (end-9)."""
    repository, manifest = _find(service, exchange)
    if not service.settings.delete:
        raise Refusal(405, Fault(ErrorCode.UNSUPPORTED, "deletes are switched off"))
    if exchange.reference == manifest.digest:
        await service.state.delete_manifest(repository.name, manifest.digest)
    else:
        await service.state.delete_tag(repository.name, exchange.reference or "")
    return Response(202)


def accepts(accept: str | None, media_type: str) -> bool:
    """Tell whether an Accept header, all its lines joined, takes the media type. Absent, it takes all."""
    if accept is None or not accept.strip():
        return True
    kind = media_type.partition("/")[0]
    return any(_media_range(part) in (media_type, f"{kind}/*", "*/*") for part in accept.split(","))


def _media_range(part: str) -> str:
    """Return the media range of one element, or nothing if its weight is 0."""
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
    return "" if weights and not weights[0].strip("0.") else media_range
