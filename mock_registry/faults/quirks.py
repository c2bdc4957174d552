"""Effects for profiles alone: what a request must be, the form of answers, manifests, lists.

Owns answers of named registries. Must not know which registry has which.
"""

import hashlib
import json
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlencode

from mock_registry.exchange import Exchange, Response, Severed
from mock_registry.handlers.manifests import read_content
from mock_registry.manifest import Manifest
from mock_registry.spec import MediaType, algorithm_of, digest_of, is_digest, is_tag, parse_count

from .answers import as_json, drop, header_of, put, refuse, serve
from .conditions import error_codes
from .effect import Effect, Incident, quirk
from .quantities import COUNT, FLAG, NAMES, STATUS, TEXT

_OK, _CREATED, _REFUSED = 200, 201, 400


def without(exchange: Exchange, *names: str) -> None:
    """Remove headers from a request."""
    exchange.headers = [each for each in exchange.headers if each[0].decode("latin-1") not in names]


# What a request must be


@quirk
class Require(Effect):
    """Refuse a request that lacks something, or whose path ends in something else.

    Attributes:
        kinds: What the path, or the parameter if there is one, must be: ``tag``, ``digest``, ``sha256``.
        header: A header that must be there.
        query: A parameter that must be there.
        status: The status of a refusal.
        form: The kind of body.
        error: The code in a JSON body.
        message: The message in it.
    """

    kinds: Annotated[tuple[str, ...], NAMES] = ()
    header: Annotated[str | None, TEXT] = None
    query: Annotated[str | None, TEXT] = None
    status: Annotated[int, STATUS] = 400
    form: Literal["json", "page"] = "json"
    error: Annotated[str | None, TEXT] = None
    message: Annotated[str, TEXT] = "a fault of this registry"

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse it."""
        if self._is_met(incident.exchange):
            return None
        return refuse(self.status, form=self.form, error=self.error, message=self.message)

    def _is_met(self, exchange: Exchange) -> bool:
        if not self.kinds:
            return (self.header is None or exchange.header(self.header.encode()) is not None) and (
                self.query is None or exchange.parameter(self.query) is not None
            )
        text = exchange.parameter(self.query) or None if self.query else exchange.address.last or ""
        return text is None or (
            ("tag" in self.kinds and is_tag(text))
            or ("digest" in self.kinds and is_digest(text))
            or ("sha256" in self.kinds and is_digest(text) and algorithm_of(text) == "sha256")
        )


@quirk
class Ignore(Effect):
    """Ignore parts of a request.

    Attributes:
        headers: The headers that are ignored.
        query: Ignore the whole query.
    """

    headers: Annotated[tuple[str, ...], NAMES] = ()
    query: Annotated[bool, FLAG] = False

    async def arrive(self, incident: Incident) -> Response | None:
        """Remove them."""
        without(incident.exchange, *self.headers)
        if self.query:
            incident.exchange.ask(b"")
        return None


# The form of answers


@quirk
class ErrorType(Effect):
    """Give JSON errors another Content-Type.

    Attributes:
        value: The Content-Type.
    """

    value: Annotated[str, TEXT]

    async def reply(self, incident: Incident, response: Response) -> Response:  # noqa: ARG002 (a moment of every effect)
        """Change it."""
        if response.status >= _REFUSED and header_of(response, b"content-type") == "application/json":
            put(response, b"content-type", self.value.encode())
        return response


@quirk
class RedirectToSlash(Effect):
    """Redirect to the path with a slash at its end."""

    async def arrive(self, incident: Incident) -> Response | None:
        """Redirect."""
        path = incident.exchange.path
        return None if path.endswith(b"/") else Response(301, [(b"location", path + b"/")])


# Manifests


@quirk
class OciAccepted(Effect):
    """Serve an OCI manifest only if Accept names its media type."""

    methods: ClassVar = frozenset({"GET", "HEAD"})

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Refuse other requests."""
        media_type = header_of(response, b"content-type") or ""
        oci = media_type in (MediaType.OCI_INDEX, MediaType.OCI_MANIFEST)
        accept = incident.exchange.header(b"accept") or ""
        accepted = {part.partition(";")[0].strip() for part in accept.split(",")}
        if response.status != _OK or not oci or media_type in accepted:
            return response
        return refuse(404, error="MANIFEST_UNKNOWN")


@quirk
class AnyManifest(Effect):
    """Store any bytes as a manifest, under any name, without a look at what they refer to.

    Only what an index refers to must be there. A delete by digest leaves the tags, which are still served.
    """

    async def arrive(self, incident: Incident) -> Response | None:
        """Answer instead of the handler."""
        exchange, state = incident.exchange, incident.service.state
        name, reference = exchange.address.name or "", exchange.address.last or ""
        exchange.reference = reference
        if exchange.method == "PUT":
            return await self._put(incident, await read_content(incident.service, exchange))
        repository = state.repository(name)
        if repository is None or not repository.manifests:
            return refuse(404, error="NAME_UNKNOWN")
        manifest = None if (name, reference) in incident.memory else repository.resolve(reference)
        if manifest is None:
            return refuse(404, error="MANIFEST_UNKNOWN")
        exchange.digest = manifest.digest
        if exchange.method == "DELETE":
            if is_digest(reference):
                incident.memory[name, reference] = "deleted"
            else:
                await state.delete_tag(name, reference)
            return Response(202)
        if exchange.method not in ("GET", "HEAD"):
            return refuse(400, error="METHOD_UNKNOWN")
        return serve(manifest)

    async def _put(self, incident: Incident, content: bytes) -> Response:
        exchange, state = incident.exchange, incident.service.state
        name, reference = exchange.address.name or "", exchange.address.last or ""
        manifest = Manifest(digest_of(content), exchange.header(b"content-type") or "", content)
        if manifest.media_type in (MediaType.OCI_INDEX, MediaType.DOCKER_LIST):
            try:
                entries = json.loads(content).get("manifests") or []
                wanted = [entry["digest"] for entry in entries if entry["mediaType"] in set(MediaType)]
            except (ValueError, KeyError, TypeError):
                return refuse(400, error="MANIFEST_INVALID")
            repository = state.repository(name)
            if any(repository is None or digest not in repository.manifests for digest in wanted):
                return refuse(404, error="MANIFEST_UNKNOWN")
        exchange.digest = manifest.digest
        incident.memory.pop((name, manifest.digest), None)
        await state.put_manifest(name, manifest, [] if is_digest(reference) else [reference])
        return Response(_CREATED, [(b"docker-content-digest", manifest.digest.encode())])


# Lists


def _tags(response: Response) -> list[str]:
    tags = json.loads(response.body).get("tags") if isinstance(response.body, bytes) else None
    return list(tags) if isinstance(tags, list) else []


def _put_tags(response: Response, tags: list[str] | None) -> Response:
    document = json.loads(response.body) if isinstance(response.body, bytes) else {}
    response.body = json.dumps(document | {"tags": tags}).encode()
    return response


@quirk
class TagsUnordered(Effect):
    """List all tags, whatever is asked for, in no order."""

    async def arrive(self, incident: Incident) -> Response | None:
        """Ignore the query."""
        incident.exchange.ask(b"")
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:  # noqa: ARG002 (a moment of every effect)
        """Mix them."""
        if response.status != _OK:
            return response
        return _put_tags(
            response, sorted(_tags(response), key=lambda tag: hashlib.sha256(tag.encode()).digest())
        )


@quirk
class NoBlobRepositories(Effect):
    """List no tags of a repository without manifests, as if it did not exist."""

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse it."""
        repository = incident.service.state.repository(incident.exchange.repository)
        if repository is not None and not repository.manifests:
            return refuse(404, error="NAME_UNKNOWN")
        return None


@quirk
class EveryRepository(Effect):
    """List no tags of a repository that does not exist, as if it did."""

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Answer with an empty list."""
        if error_codes(response) != ["NAME_UNKNOWN"]:
            return response
        return as_json({"name": incident.exchange.repository, "tags": []})


@quirk
class NumbersBreak(Effect):
    """Drop the connection for a number of tags below 1, and ignore one that is not a number."""

    async def arrive(self, incident: Incident) -> Response | None:
        """Look at the number."""
        exchange = incident.exchange
        try:
            count = int(exchange.parameter("n") or "" if exchange.parameter("n") is not None else "1")
        except ValueError:
            others = {key: values for key, values in exchange.query.items() if key != "n"}
            exchange.ask(urlencode(others, doseq=True).encode())
            return None
        repository = incident.service.state.repository(exchange.repository)
        if count < 1 and repository is not None and repository.tags:
            raise Severed(reset=False)
        return None


@quirk
class TagsFromSomewhere(Effect):
    """Start after ``last`` if there are tags behind it, else at the first; cut after ``n``; link nothing."""

    async def arrive(self, incident: Incident) -> Response | None:
        """Hide the query from the handler."""
        incident.kept = incident.exchange.query_string
        incident.exchange.ask(b"")
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """List them."""
        if response.status != _OK:
            return response
        incident.exchange.ask(incident.kept)
        asked, last = incident.exchange.parameter("n"), incident.exchange.parameter("last")
        drop(response, b"content-type")
        tags = _tags(response)
        tags = [tag for tag in tags if last and tag > last] or tags
        if asked is None:
            return _put_tags(response, tags or None)
        try:
            count = int(asked)
        except ValueError:
            return refuse(400, error="BAD_REQUEST")
        if count < 0:
            raise Severed(reset=False)  # it panics
        return _put_tags(response, tags[:count])


@quirk
class PageSize(Effect):
    """Limit the entries of a page.

    Attributes:
        default: How many there are unless asked for.
        most: How many may be asked for.
    """

    default: Annotated[int | None, COUNT] = None
    most: Annotated[int | None, COUNT] = None

    async def arrive(self, incident: Incident) -> Response | None:
        """Ask for the default, or refuse."""
        exchange, asked = incident.exchange, incident.exchange.parameter("n")
        if asked is None and self.default is not None:
            exchange.ask(b"&".join(filter(None, (exchange.query_string, b"n=%d" % self.default))))
        if asked is not None and self.most is not None and (parse_count(asked) or 0) > self.most:
            message = f"Member must have value less than or equal to {self.most}"
            return refuse(400, error="UNSUPPORTED", message=message)
        return None
