"""Effects on what is there: content not yet visible or collected, tags that cannot move, lists, referrers.

Owns when content appears and disappears, and how it is listed.
"""

import json
import math
import re
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote

from mock_registry.exchange import Response
from mock_registry.journal import Route
from mock_registry.manifest import Manifest, ManifestError, parse_manifest
from mock_registry.spec import Algorithm, Digest, MediaType, algorithm_of, is_digest, is_tag, parse_count

from .answers import SESSION_ROUTES, Form, as_json, drop, header_of, put, refuse, serve
from .effect import Effect, Incident, effect
from .quantities import COUNT, FLAG, SECONDS, STATUS, TEXT

_OK, _CREATED, _ABSENT = 200, 201, 404
_LINK = re.compile(r"<(?P<target>[^>]*)>")
_FALLBACK = re.compile(r"(?P<algorithm>sha256|sha512)-(?P<encoded>[0-9a-f]{64,128})")


async def _read_ahead(incident: Incident) -> Manifest | None:
    """Return the manifest in a request's body without consuming it; ``None`` if it is not a manifest."""
    exchange = incident.exchange
    content = await incident.scene.inlet.peek(incident.service.settings.manifest_limit)
    reference = exchange.address.last or ""
    algorithm = algorithm_of(reference) if is_digest(reference) else Algorithm.SHA256
    try:
        return parse_manifest(content, exchange.header(b"content-type") or "", algorithm)
    except ManifestError:
        return None


@effect
class Lag(Effect):
    """Show what was pushed or mounted only after a time: a manifest pushed at once is refused.

    Attributes:
        seconds: How long.
        heads: Hide it from existence checks and pulls too; otherwise only the manifest fails.
    """

    routes: ClassVar = SESSION_ROUTES | {Route.BLOB, Route.MANIFEST}

    seconds: Annotated[float, SECONDS] = 1.0
    heads: Annotated[bool, FLAG] = False

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse a manifest whose blobs are not visible yet."""
        exchange = incident.exchange
        last, route = exchange.address.last or "", exchange.address.route
        if route is Route.BLOB and self.heads and self._is_young(incident, last):
            incident.note()
            return refuse(404, error="BLOB_UNKNOWN")
        if exchange.method != "PUT" or route is not Route.MANIFEST:
            return None
        manifest = await _read_ahead(incident)
        needed = [] if manifest is None else [each.digest for each in manifest.successors]
        young = [digest for digest in needed if self._is_young(incident, digest)]
        if not young:
            return None
        incident.note()
        return refuse(400, error="MANIFEST_BLOB_UNKNOWN", detail={"digests": young})

    def _is_young(self, incident: Incident, digest: Digest) -> bool:
        moment: float = incident.memory.get((incident.exchange.repository, digest), -math.inf)
        return incident.now() - moment < self.seconds

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Record when a blob was stored."""
        exchange = incident.exchange
        if exchange.address.route in SESSION_ROUTES and response.status == _CREATED and exchange.digest:
            now, moments = incident.now(), incident.memory
            for key in [key for key, moment in moments.items() if now - moment >= self.seconds]:
                del moments[key]  # visible by now
            moments.setdefault((exchange.repository, exchange.digest), now)
        return response


@effect
class Collect(Effect):
    """Remove blobs as an untimely garbage collection does.

    The blob that a HEAD or GET has just found; or, before a manifest PUT, those it refers to.
    """

    methods: ClassVar = frozenset({"GET", "HEAD", "PUT"})
    routes: ClassVar = frozenset({Route.BLOB, Route.MANIFEST})

    async def arrive(self, incident: Incident) -> Response | None:
        """Remove what a manifest refers to."""
        if incident.exchange.method == "PUT":
            manifest = await _read_ahead(incident)
            for digest in [] if manifest is None else [each.digest for each in manifest.successors]:
                await self._remove(incident, digest)
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Remove what was found. The answer itself is complete."""
        exchange = incident.exchange
        if exchange.address.route is Route.BLOB and response.status == _OK and exchange.method == "HEAD":
            await self._remove(incident, exchange.address.last or "")
        return response

    async def _remove(self, incident: Incident, digest: Digest) -> None:
        state, name = incident.service.state, incident.exchange.repository or ""
        repository = state.repository(name)
        if repository is not None and digest in repository.blobs:
            incident.note()
            await state.unlink_blob(name, digest)


@effect
class Immutable(Effect):
    """Refuse to push a tag that exists.

    Attributes:
        mode: ``strict`` refuses always; ``same-digest-ok`` allows a push that changes nothing.
        status: The status of a refusal: 409, or 400, 403 or 412 as in some registries.
        form: The kind of body.
        error: The code in a JSON body.
    """

    methods: ClassVar = frozenset({"PUT"})
    routes: ClassVar = frozenset({Route.MANIFEST})

    mode: Literal["strict", "same-digest-ok"] = "strict"
    status: Annotated[int, STATUS] = 409
    form: Form = "json"
    error: Annotated[str, TEXT] = "DENIED"

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse."""
        exchange = incident.exchange
        repository = incident.service.state.repository(exchange.repository)
        reference = exchange.address.last or ""
        named = [reference] if is_tag(reference) else exchange.query.get("tag", [])
        tags = [tag for tag in named if repository is not None and tag in repository.tags]
        if not tags or repository is None:
            return None
        if self.mode == "same-digest-ok":
            manifest = await _read_ahead(incident)
            if manifest and all(repository.tags[tag] == manifest.digest for tag in tags):
                return None
        incident.note()
        message = f"the tag {tags[0]} is immutable"
        return refuse(self.status, form=self.form, error=self.error, message=message)


@effect
class Paging(Effect):
    """Link the next page in another way.

    Attributes:
        style: ``bare``: without ``<`` and ``>``. ``unquoted``: ``rel=next``. ``absolute``: with scheme and
            host. ``opaque``: with a ``next_page`` that only this registry understands, instead of ``last``.
            ``none``: no link, though there are more. ``keep`` the link.
        size: Most entries of a page, even if more are asked for.
        null: Answer ``null`` instead of an empty list.
    """

    methods: ClassVar = frozenset({"GET", "HEAD"})
    routes: ClassVar = frozenset({Route.CATALOG, Route.TAGS})

    style: Literal["keep", "bare", "unquoted", "absolute", "opaque", "none"] = "keep"
    size: Annotated[int | None, COUNT] = None
    null: Annotated[bool, FLAG] = False

    async def arrive(self, incident: Incident) -> Response | None:
        """Resolve a token, and limit the page."""
        exchange = incident.exchange
        query = incident.memory.get(exchange.parameter("next_page"))
        if query is not None:
            exchange.ask(query)
        asked = exchange.parameter("n")
        if self.size is not None and (asked is None or (parse_count(asked) or 0) > self.size):
            last = exchange.parameter("last")
            exchange.ask(f"n={self.size}{'' if last is None else '&last=' + quote(last, safe='')}".encode())
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change the link."""
        self._put_null(incident, response)
        link = header_of(response, b"link")
        found = None if link is None else _LINK.search(link)
        if found is None:
            return response
        text = self._rewrite(incident, found["target"])
        put(response, b"link", None if text is None else text.encode("latin-1"))
        if text != link or self.size is not None:
            incident.note()
        return response

    def _rewrite(self, incident: Incident, target: str) -> str | None:
        exchange = incident.exchange
        if self.style == "none":
            return None
        if self.style == "absolute":
            target = f"{exchange.scheme}://{exchange.header(b'host') or 'registry'}{target}"
        if self.style == "opaque":
            path, _, query = target.partition("?")
            token = f"gAAAA{incident.random.randbytes(12).hex()}"
            incident.memory[token] = query.encode("latin-1")
            target = f"{path}?next_page={token}"
        target = target if self.style == "bare" else f"<{target}>"
        return f"{target}; rel=next" if self.style == "unquoted" else f'{target}; rel="next"'

    def _put_null(self, incident: Incident, response: Response) -> None:
        if not self.null or response.status != _OK or not isinstance(response.body, bytes):
            return
        document = json.loads(response.body)
        told = {key: None if value == [] else value for key, value in document.items()}
        if told != document:
            incident.note()
            response.body = json.dumps(told).encode()


@effect
class NoReferrers(Effect):
    """Do not support referrers, in one of the ways that registries do not.

    Attributes:
        mode: ``absent``: 404, and no OCI-Subject. ``unacceptable``: 406, and no OCI-Subject. ``empty``:
            200 and an empty index, though there are some. ``page``: 200 and an HTML page.
            ``fallback-is-subject``: 404, no OCI-Subject, and the fallback tag of a subject names the subject.
    """

    routes: ClassVar = frozenset({Route.MANIFEST, Route.REFERRERS})

    mode: Literal["absent", "unacceptable", "empty", "page", "fallback-is-subject"] = "absent"

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change the answer."""
        if incident.exchange.address.route is Route.REFERRERS:
            incident.note()
            return self._deny()
        if self.mode in ("absent", "unacceptable", "fallback-is-subject"):
            before = len(response.headers)
            drop(response, b"oci-subject")
            if len(response.headers) < before:
                incident.note()
        if self.mode == "fallback-is-subject" and response.status == _ABSENT:
            return self._subject(incident) or response
        return response

    def _deny(self) -> Response:
        if self.mode == "empty":
            index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": []}
            return as_json(index, MediaType.OCI_INDEX)
        if self.mode == "unacceptable":
            return refuse(406, form="empty")
        return refuse(_OK, form="html") if self.mode == "page" else refuse(_ABSENT, form="page")

    def _subject(self, incident: Incident) -> Response | None:
        """Return the subject that a fallback tag is named after."""
        exchange = incident.exchange
        found = _FALLBACK.fullmatch(exchange.address.last or "")
        repository = incident.service.state.repository(exchange.repository)
        if found is None or repository is None or exchange.method not in ("GET", "HEAD"):
            return None
        manifest = repository.resolve(f"{found['algorithm']}:{found['encoded']}")
        if manifest is None:
            return None
        incident.note()
        return serve(manifest)
