"""Effects on what is answered: another status, other headers, an encoding, refusals of what is too much.

Owns error bodies as registries and the proxies before them write them. All time is the registry's clock.
"""

import json
import math
import time
from email.utils import formatdate
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from mock_registry.asgi import Headers as HeaderList
from mock_registry.exchange import Response
from mock_registry.journal import Route
from mock_registry.manifest import Manifest

from .conditions import APART
from .effect import Effect, Incident, effect
from .quantities import COUNT, FLAG, HEADERS, INTEGER, NAMES, NUMBER, OCTETS, STATUS, TEXT
from .scene import Refused, Source, until

SESSION_ROUTES = frozenset({Route.UPLOAD, Route.UPLOADS})
"""The routes of upload sessions."""


PLAIN = b"text/plain; charset=utf-8"
"""The Content-Type of Go's HTTP server for plain text."""

Form = Literal["json", "html", "empty"]

_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 405: "UNSUPPORTED", 413: "SIZE_INVALID", 429: "TOOMANYREQUESTS"}
_PHRASES = {413: "Request Entity Too Large", 429: "Too Many Requests", 502: "Bad Gateway"}


def refuse(
    status: int,
    *,
    form: str = "json",
    error: str | None = None,
    message: str = "a fault of this registry",
    detail: Any = None,
    headers: HeaderList | None = None,
) -> Response:
    """Return a refusal.

    Args:
        status: The status.
        form: ``json`` is a registry's error body, ``html`` a proxy's page, ``page`` the text of Go's
            HTTP server for an unknown path, ``empty`` no body.
        error: The code in a registry's error body; by default one that fits the status.
        message: The message in it.
        detail: The detail in it, if any.
        headers: Headers besides Content-Type.
    """
    if form == "json":
        document = {"code": error or _CODES.get(status, "UNKNOWN"), "message": message}
        if detail is not None:
            document["detail"] = detail
        body, kind = json.dumps({"errors": [document]}).encode(), b"application/json"
    elif form == "page":
        body, kind = b"404 page not found\n", PLAIN
    elif form == "html":
        title = f"{status} {_PHRASES.get(status, 'Error')}"
        page = (
            f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n"
        )
        body, kind = page.encode(), b"text/html"
    else:
        return Response(status, list(headers or []))
    return Response(status, [(b"content-type", kind), *(headers or [])], body)


def serve(manifest: Manifest) -> Response:
    """Return the answer to a pull of a manifest."""
    kind, digest = manifest.media_type.encode(), manifest.digest.encode()
    return Response(200, [(b"content-type", kind), (b"docker-content-digest", digest)], manifest.content)


def encode_headers(headers: dict[str, str]) -> HeaderList:
    """Return headers in ASGI's form."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def drop(response: Response, *names: bytes) -> None:
    """Remove headers from a response."""
    response.headers = [(name, value) for name, value in response.headers if name not in names]


def put(response: Response, name: bytes, value: bytes | None) -> None:
    """Set a header of a response, in place of all with its name; ``None`` removes them."""
    drop(response, name)
    if value is not None:
        response.headers.append((name, value))


def as_json(document: dict[str, Any], kind: str = "application/json") -> Response:
    """Return an answer of this Content-Type."""
    return Response(200, [(b"content-type", kind.encode())], json.dumps(document).encode())


def header_of(response: Response, name: bytes) -> str | None:
    """Return a header of a response, or ``None``."""
    return next((value.decode("latin-1") for key, value in response.headers if key == name), None)


@effect
class Status(Effect):
    """Answer with a status.

    Before the handler by default; with ``when=after``, the request is carried out and then denied.

    Attributes:
        status: The status.
        form: The kind of body.
        error: The code in a JSON error body.
        body: The body, in place of ``form``.
        headers: Further headers.
        keep: Keep the handler's headers and body; change only the status.
        after: Bytes of the request's body after which to answer.
        drain: Read the rest of the request's body before the answer.
    """

    status: Annotated[int, STATUS]
    form: Form = "json"
    error: Annotated[str | None, TEXT] = None
    body: Annotated[str | None, TEXT] = None
    headers: Annotated[dict[str, str] | None, HEADERS] = None
    keep: Annotated[bool, FLAG] = False
    after: Annotated[int | None, OCTETS] = None
    drain: Annotated[bool, FLAG] = True

    def _response(self) -> Response:
        headers = encode_headers(self.headers or {})
        if self.body is not None:
            return Response(self.status, headers, self.body.encode())
        return refuse(self.status, form=self.form, error=self.error, headers=headers)

    def _is_late(self, incident: Incident) -> bool:
        return incident.late or self.keep

    async def arrive(self, incident: Incident) -> Response | None:
        """Answer instead of the handler."""
        if self.after is not None or self._is_late(incident):
            return None
        incident.note()
        incident.scene.drains = self.drain
        return self._response()

    def take(self, incident: Incident, source: Source) -> Source:
        """Answer in the middle of the request's body."""

        async def refuse() -> None:
            incident.note()
            raise Refused(self._response(), drain=self.drain)

        return source if self.after is None else until(source, self.after, refuse)

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change the handler's answer."""
        if self.after is not None or not self._is_late(incident):
            return response
        incident.note()
        if not self.keep:
            return self._response()
        response.status = self.status
        response.headers += encode_headers(self.headers or {})
        return response


@effect
class Headers(Effect):
    """Change the response's headers.

    Attributes:
        set: Names and values, in place of all headers with the name.
        add: Names and values, in addition.
        remove: Names.
    """

    set: Annotated[dict[str, str] | None, HEADERS] = None
    add: Annotated[dict[str, str] | None, HEADERS] = None
    remove: Annotated[tuple[str, ...], NAMES] = ()

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change the headers."""
        before = list(response.headers)
        drop(response, *(name.lower().encode() for name in self.remove))
        for name, value in encode_headers(self.set or {}):
            put(response, name, value)
        response.headers += encode_headers(self.add or {})
        if response.headers != before:
            incident.note()
        return response


@effect
class Location(Effect):
    """Drop or rewrite the response's Location.

    Attributes:
        form: ``drop`` it; make it ``absolute`` or ``relative``; or ``stale``: the location that the
            request was sent to, which an upload session has moved on from. ``keep`` its form.
        scheme: The scheme of an absolute one, such as a proxy gets wrong.
        host: The host of an absolute one.
        port: The port of an absolute one; 0 leaves it out.
    """

    form: Literal["keep", "drop", "absolute", "relative", "stale"] = "keep"
    scheme: Annotated[str | None, TEXT] = None
    host: Annotated[str | None, TEXT] = None
    port: Annotated[int | None, INTEGER] = None

    async def reply(self, incident: Incident, response: Response) -> Response:
        """Change the location, if there is one."""
        location = header_of(response, b"location")
        if location is None:
            return response
        told = self._rewrite(incident, location)
        put(response, b"location", told)
        if told != location.encode("latin-1"):
            incident.note()
        return response

    def _rewrite(self, incident: Incident, location: str) -> bytes | None:
        if self.form in ("drop", "stale"):
            return None if self.form == "drop" else incident.exchange.target
        parts = urlsplit(location)
        rest = parts._replace(scheme="", netloc="").geturl()
        if self.form == "relative":
            return rest.encode("latin-1")
        if self.form == "keep" and (self.scheme, self.host, self.port) == (None, None, None):
            return location.encode("latin-1")
        scheme = self.scheme or parts.scheme or incident.exchange.scheme
        own = urlsplit(f"//{parts.netloc or incident.exchange.header(b'host') or 'registry'}")
        port = own.port if self.port is None else self.port
        host = self.host or own.hostname or ""
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}{f':{port}' if port else ''}{rest}".encode("latin-1")


@effect
class RateLimit(Effect):
    """Refuse requests that come too often: a token bucket.

    Attributes:
        rate: Requests per second.
        burst: Requests that may come at once.
        per: What has a bucket of its own.
        retry_after: How Retry-After tells the wait: in ``seconds``, as a ``date``, or not at all: ``none``.
        status: The status of a refusal.
        form: The kind of body.
    """

    rate: Annotated[float, NUMBER]
    burst: Annotated[int, COUNT] = 1
    per: Literal["all", "client", "repository", "route", "user"] = "all"
    retry_after: Literal["seconds", "date", "none"] = "seconds"
    status: Annotated[int, STATUS] = 429
    form: Form = "json"

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse, or count the request."""
        exchange, now = incident.exchange, incident.now()
        if self.per == "route":
            key: str | None = f"{exchange.method} {exchange.address.route}"
        else:
            key = None if self.per == "all" else APART[self.per](exchange)
        tokens, moment = incident.memory.get(key, (self.burst, now))
        tokens = min(self.burst, tokens + (now - moment) * self.rate)
        wait = max(0.0, 1 - tokens) / self.rate  # seconds until the next request may come
        incident.memory[key] = (tokens if wait else tokens - 1), now
        if not wait:
            return None
        incident.note()
        seconds = math.ceil(wait)
        date = formatdate(math.ceil(time.time()) + seconds, usegmt=True)
        told = date if self.retry_after == "date" else str(seconds)
        headers = [] if self.retry_after == "none" else [(b"retry-after", told.encode())]
        return refuse(self.status, form=self.form, message="too many requests", headers=headers)


@effect
class BodyLimit(Effect):
    """Refuse requests with too large a body, as a proxy does: at once if Content-Length says so.

    Attributes:
        octets: Bytes of the largest body.
        status: The status of a refusal.
        form: The kind of body.
        error: The code in a JSON body.
        drain: Read the rest before the answer, so that every client sees the answer.
    """

    methods: ClassVar = frozenset({"PATCH", "POST", "PUT"})

    octets: Annotated[int, OCTETS]
    status: Annotated[int, STATUS] = 413
    form: Form = "html"
    error: Annotated[str | None, TEXT] = None
    drain: Annotated[bool, FLAG] = False

    def _response(self) -> Response:
        return refuse(self.status, form=self.form, error=self.error, message=f"at most {self.octets} bytes")

    async def arrive(self, incident: Incident) -> Response | None:
        """Refuse a body that is announced as too large."""
        if (incident.exchange.content_length or 0) <= self.octets:
            return None
        incident.note()
        incident.scene.drains = self.drain
        return self._response()

    def take(self, incident: Incident, source: Source) -> Source:
        """Refuse a body that turns out to be too large."""

        async def refuse() -> bool:
            if await incident.scene.inlet.has_more():
                incident.note()
                raise Refused(self._response(), drain=self.drain)
            return True

        return until(source, self.octets, refuse)


@effect
class ExpireTokens(Effect):
    """Expire all tokens before the request is handled. Without token authentication, it does nothing."""

    async def arrive(self, incident: Incident) -> Response | None:
        """Expire them."""
        tokens = getattr(incident.service.auth, "tokens", None)  # other kinds of authentication have none
        if tokens is not None and incident.exchange.address.route is not Route.TOKEN:
            incident.note()
            tokens.expire()
        return None
