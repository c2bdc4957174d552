"""Faults of lists: pages that are linked as nobody should, and registries that know no referrers.

Owns how a list is told. What stands in it is the handler's affair.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal
from urllib.parse import quote

from mock_registry.exchange import Response
from mock_registry.journal import Route
from mock_registry.spec import MediaType, parse_count

from .answers import drop, header_of, put, refuse
from .effect import Effect
from .incident import Incident
from .quantities import COUNT, FLAG

_LINK = re.compile(r"<(?P<target>[^>]*)>")
_FALLBACK = re.compile(r"(?P<algorithm>sha256|sha512)-(?P<encoded>[0-9a-f]{64,128})")
_OK = 200
_ABSENT = 404

LinkStyle = Literal["keep", "bare", "unquoted", "absolute", "opaque", "none"]


@dataclass(slots=True)
class _Pages:
    """What each opaque token stands for."""

    tokens: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Paging(Effect):
    """Link the next page otherwise.

    Attributes:
        style: ``bare``: without ``<`` and ``>``. ``unquoted``: ``rel=next``. ``absolute``: with scheme and
            host. ``opaque``: a ``next_page`` that only this registry understands, in place of ``last``.
            ``none``: no link, though there is more. ``keep`` the link.
        size: Entries of a page, asked for or not.
        null: Of nothing, tell ``null`` in place of an empty list.
    """

    methods: ClassVar = frozenset({"GET", "HEAD"})
    routes: ClassVar = frozenset({Route.CATALOG, Route.TAGS})

    style: LinkStyle = "keep"
    size: Annotated[int | None, COUNT] = None
    null: Annotated[bool, FLAG] = False

    async def arrive(self, incident: Incident) -> Response | None:
        """Understand a token, and keep pages small."""
        exchange = incident.exchange
        token = exchange.parameter("next_page")
        query = incident.remember(_Pages).tokens.get(token or "")
        if query is not None:
            exchange.ask(query)
        asked = exchange.parameter("n")
        if self.size is not None and (asked is None or (parse_count(asked) or 0) > self.size):
            last = exchange.parameter("last")
            exchange.ask(f"n={self.size}{'' if last is None else '&last=' + quote(last, safe='')}".encode())
        return None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change the link."""
        self._tell_nothing(incident, response)
        link = header_of(response, b"link")
        found = None if link is None else _LINK.search(link)
        if found is None:
            return response
        text = self._rewrite(incident, found["target"])
        drop(response, b"link")
        if text is not None:
            put(response, b"link", text.encode("latin-1"))
        if text != link or self.size is not None:
            incident.note()
        return response

    def _rewrite(self, incident: Incident, target: str) -> str | None:
        exchange = incident.exchange
        match self.style:
            case "bare":
                return f'{target}; rel="next"'
            case "unquoted":
                return f"<{target}>; rel=next"
            case "absolute":
                host = exchange.header(b"host") or "registry"
                return f'<{exchange.scheme}://{host}{target}>; rel="next"'
            case "opaque":
                return f'<{self._hide(incident, target)}>; rel="next"'
            case "none":
                return None
        return f'<{target}>; rel="next"'

    def _hide(self, incident: Incident, target: str) -> str:
        path, _, query = target.partition("?")
        tokens = incident.remember(_Pages).tokens
        token = f"gAAAA{incident.random.randbytes(12).hex()}"
        tokens[token] = query.encode("latin-1")
        return f"{path}?next_page={token}"

    def _tell_nothing(self, incident: Incident, response: Response) -> None:
        if not self.null or response.status != _OK or not isinstance(response.body, bytes):
            return
        document = json.loads(response.body)
        told = {key: None if value == [] else value for key, value in document.items()}
        if told != document:
            incident.note()
            response.body = json.dumps(told).encode()


ReferrersMode = Literal["absent", "unacceptable", "empty", "page", "fallback-is-subject"]


@dataclass(frozen=True, slots=True)
class NoReferrers(Effect):
    """Know nothing of referrers, in one of the ways that registries do not.

    Attributes:
        mode: ``absent``: 404, and no OCI-Subject. ``unacceptable``: 406, likewise. ``empty``: 200 and an
            empty index, though there are some. ``page``: 200 and no index at all. ``fallback-is-subject``:
            404, and the fallback tag of a subject names the subject.
    """

    routes: ClassVar = frozenset({Route.MANIFEST, Route.REFERRERS})

    mode: ReferrersMode = "absent"

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Know nothing."""
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
        if self.mode == "unacceptable":
            return refuse(406, form="empty")
        if self.mode == "empty":
            index = {"schemaVersion": 2, "mediaType": MediaType.OCI_INDEX, "manifests": []}
            return Response(
                _OK, [(b"content-type", MediaType.OCI_INDEX.encode())], json.dumps(index).encode()
            )
        if self.mode == "page":
            return refuse(_OK, form="html")
        return Response(_ABSENT, [(b"content-type", b"text/plain; charset=utf-8")], b"404 page not found\n")

    def _subject(self, incident: Incident) -> Response | None:
        """Return the subject that a fallback tag is made of."""
        exchange = incident.exchange
        found = _FALLBACK.fullmatch(exchange.address.last or "")
        repository = incident.service.state.repository(exchange.repository)
        if found is None or repository is None or exchange.method not in ("GET", "HEAD"):
            return None
        manifest = repository.resolve(f"{found['algorithm']}:{found['encoded']}")
        if manifest is None:
            return None
        incident.note()
        headers = [
            (b"content-type", manifest.media_type.encode()),
            (b"docker-content-digest", manifest.digest.encode()),
        ]
        return Response(_OK, headers, manifest.content)
