"""The fault that is none: blobs are served by another host, and it wants no credentials.

Owns the URLs that are handed out, and the other host's answers to them.
"""

import time
from dataclasses import dataclass, field
from typing import Annotated, ClassVar
from urllib.parse import quote, urlsplit

from mock_registry.exchange import Response
from mock_registry.handlers.blobs import get_blob
from mock_registry.journal import Route
from mock_registry.routing import Address

from .effect import Effect
from .incident import Incident
from .quantities import FLAG, SECONDS, STATUS, TEXT, QuantityError

PREFIX = b"/object-storage/"
"""Begins the paths of the other host."""

_OK, _PARTIAL = 200, 206
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(slots=True)
class _Signed:
    """What a URL gives access to, and until when."""

    repository: str | None
    digest: str | None
    ends: float


@dataclass(slots=True)
class _Urls:
    """The URLs that are out, by their signature."""

    out: dict[str, _Signed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Redirect(Effect):
    """Send whoever asks for a blob to another host, with a signed URL that refuses Authorization (400).

    On a port, the other host is a port of its own; in process, a name of its own; unless one is given.

    Attributes:
        status: Of the redirect.
        to: Scheme, host and port to send them to, whoever listens there.
        heads: Redirect HEAD too.
        head_status: What the other host answers to HEAD: a URL may be signed for GET alone (403).
        seconds: How long the URL is good; then 403.
    """

    methods: ClassVar = frozenset({"GET", "HEAD"})
    routes: ClassVar = frozenset({Route.BLOB})
    prefix: ClassVar = PREFIX

    status: Annotated[int, STATUS] = 307
    to: Annotated[str | None, TEXT] = None
    heads: Annotated[bool, FLAG] = True
    head_status: Annotated[int, STATUS] = 200
    seconds: Annotated[float, SECONDS] = 1200.0

    def __post_init__(self) -> None:
        Effect.__post_init__(self)
        if self.status not in _REDIRECTS:
            raise QuantityError(f"status: {self.status} is no redirect; it is one of {_REDIRECTS}")

    async def arrive(self, incident: Incident) -> Response | None:
        """Answer as the other host, to what came to it."""
        if not incident.exchange.path.startswith(PREFIX):
            return None
        incident.note()
        return await self._serve(incident)

    async def _serve(self, incident: Incident) -> Response:
        exchange = incident.exchange
        signed = incident.remember(_Urls).out.get(exchange.parameter("X-Amz-Signature") or "")
        if exchange.header(b"authorization") is not None:
            return _xml(400, "InvalidArgument", "Only one auth mechanism allowed")
        if signed is None or incident.now() >= signed.ends:
            return _xml(403, "AccessDenied", "Request has expired")
        if exchange.method == "HEAD" and self.head_status != _OK:
            return Response(self.head_status)
        exchange.address = Address(Route.BLOB, signed.repository, signed.digest)
        exchange.repository, exchange.digest = signed.repository, signed.digest
        response = await get_blob(incident.service, exchange)
        # Object storage knows nothing of registries.
        response.headers = [
            (name, value) for name, value in response.headers if name != b"docker-content-digest"
        ]
        return response

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Redirect to what could be served here."""
        exchange = incident.exchange
        if exchange.path.startswith(PREFIX) or response.status not in (_OK, _PARTIAL):
            return response
        if exchange.method == "HEAD" and not self.heads:
            return response
        incident.note()
        location = await self._sign(incident)
        return Response(self.status, [(b"location", location.encode())])

    async def _sign(self, incident: Incident) -> str:
        exchange = incident.exchange
        signature = incident.random.randbytes(32).hex()
        ends = incident.now() + self.seconds
        urls = incident.remember(_Urls).out
        urls[signature] = _Signed(exchange.repository, exchange.digest, ends)
        for old in [key for key, signed in urls.items() if signed.ends <= incident.now()]:
            del urls[old]
        host = self.to or await _other_host(incident)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        query = f"X-Amz-Date={stamp}&X-Amz-Expires={int(self.seconds)}&X-Amz-Signature={signature}"
        return f"{host}{PREFIX.decode()}{quote(exchange.digest or '', safe='')}?{query}"


async def _other_host(incident: Incident) -> str:
    """Return a host that is not the one asked: another port, or in process another name."""
    exchange, hosts = incident.exchange, incident.course.surroundings.hosts
    if hosts:
        return await hosts[-1].url()
    own = urlsplit(f"//{exchange.header(b'host') or 'registry'}")
    return f"{exchange.scheme}://objects.{own.hostname}" + (f":{own.port}" if own.port else "")


def _xml(status: int, code: str, message: str) -> Response:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    body = f"<?xml version='1.0' encoding='UTF-8'?>{error}".encode()
    return Response(status, [(b"content-type", b"application/xml")], body)
