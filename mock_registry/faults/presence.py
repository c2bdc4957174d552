"""Faults of what is there: content that is not seen yet, or no longer; tags that cannot be moved.

Owns the moments at which content appears and vanishes. Must not judge manifests by itself: what it has to
know of one, it reads as the registry does.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from mock_registry.exchange import Exchange, Response
from mock_registry.journal import Route
from mock_registry.manifest import Manifest, ManifestError, parse_manifest
from mock_registry.spec import Algorithm, Digest, algorithm_of, is_digest, is_tag

from .answers import SESSION_ROUTES, Form, refuse
from .effect import Effect
from .incident import Incident
from .quantities import FLAG, SECONDS, STATUS, TEXT

_CREATED = 201
_OK = 200


async def read_ahead(incident: Incident) -> Manifest | None:
    """Return the manifest that a request brings, without taking it; ``None`` if it is none."""
    exchange = incident.exchange
    content = await incident.course.inlet.peek(incident.service.settings.manifest_limit)
    reference = exchange.address.last or ""
    algorithm = algorithm_of(reference) if is_digest(reference) else Algorithm.SHA256
    try:
        return parse_manifest(content, exchange.header(b"content-type") or "", algorithm)
    except ManifestError:
        return None


def _lacking(digests: Iterable[Digest]) -> Response:
    return refuse(400, error="MANIFEST_BLOB_UNKNOWN", detail={"digests": list(digests)})


@dataclass(slots=True)
class _Arrivals:
    """When each blob came to each repository."""

    moments: dict[tuple[str | None, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lag(Effect):
    """See what was pushed or mounted only after a time: a manifest that comes at once is refused.

    Attributes:
        seconds: How long.
        heads: Existence checks and pulls do not see it either; else they do, and the manifest alone fails.
    """

    routes: ClassVar = SESSION_ROUTES | {Route.BLOB, Route.MANIFEST}

    seconds: Annotated[float, SECONDS] = 1.0
    heads: Annotated[bool, FLAG] = False

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse a manifest whose blobs are too young."""
        exchange = incident.exchange
        if (
            exchange.address.route is Route.BLOB
            and self.heads
            and self._young(incident, exchange.address.last)
        ):
            incident.note()
            return refuse(404, error="BLOB_UNKNOWN")
        if exchange.method != "PUT" or exchange.address.route is not Route.MANIFEST:
            return None
        manifest = await read_ahead(incident)
        needed = [] if manifest is None else [each.digest for each in manifest.successors]
        young = [digest for digest in needed if self._young(incident, digest)]
        if not young:
            return None
        incident.note()
        return _lacking(young)

    def _young(self, incident: Incident, digest: str | None) -> bool:
        moments = incident.remember(_Arrivals).moments
        moment = moments.get((incident.exchange.repository, digest or ""))
        return moment is not None and incident.now() - moment < self.seconds

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Take note of what has come."""
        exchange = incident.exchange
        if exchange.address.route in SESSION_ROUTES and response.status == _CREATED and exchange.digest:
            moments = incident.remember(_Arrivals).moments
            for key in [key for key, moment in moments.items() if incident.now() - moment >= self.seconds]:
                del moments[key]  # seen by now
            moments.setdefault((exchange.repository, exchange.digest), incident.now())
        return response


@dataclass(frozen=True, slots=True)
class Collect(Effect):
    """Remove blobs as an untimely garbage collection does.

    The blob that a HEAD or GET has just told to be there; or, before a manifest PUT, those it refers to.
    """

    methods: ClassVar = frozenset({"GET", "HEAD", "PUT"})
    routes: ClassVar = frozenset({Route.BLOB, Route.MANIFEST})

    async def arrive(self, incident: Incident) -> Response | None:
        """Remove what a manifest is about to refer to."""
        if incident.exchange.method == "PUT":
            manifest = await read_ahead(incident)
            for digest in [] if manifest is None else [each.digest for each in manifest.successors]:
                await self._remove(incident, digest)
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Remove what is told to be there. The answer that is under way reads on."""
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


@dataclass(frozen=True, slots=True)
class Immutable(Effect):
    """Refuse to push a tag that is there.

    Attributes:
        mode: ``strict`` refuses always; ``same-digest-ok`` lets pass what would change nothing.
        status: How it is refused: 409, or as others do 400, 403, 412.
        form: What kind of body.
        error: Code in a JSON body.
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
        tags = [tag for tag in _tags(exchange) if repository is not None and tag in repository.tags]
        if not tags or repository is None:
            return None
        if self.mode == "same-digest-ok":
            manifest = await read_ahead(incident)
            if manifest and all(repository.tags[tag] == manifest.digest for tag in tags):
                return None
        incident.note()
        message = f"the tag {tags[0]} is immutable"
        return refuse(self.status, form=self.form, error=self.error, message=message)


def _tags(exchange: Exchange) -> list[str]:
    reference = exchange.address.last or ""
    return [reference] if is_tag(reference) else exchange.query.get("tag", [])
