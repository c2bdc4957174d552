"""One request and its answer, with the account of both bodies.

Owns reading and counting the request's body, sending and counting the response's. Must not know what any
route means.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qsl, quote

from .access import OPEN, Access
from .asgi import ANSWER, GONE, SCARCE, SEVER, ZERO_COPY, Headers, PeerGone, Receive, Scope, Send
from .journal import Draft, Record, redact_query
from .routing import Address, parse_path
from .spec import ErrorCode, Fault, error_body
from .storage.protocol import Blob, BlobRemoved, Reader

BATCH = 1 << 20
"""Bytes handed over at a time, to storage or peer: with less, the hops cost more than the work."""

_LARGE_BODY = 64 << 20
_LARGE_BATCH = 4 << 20
"""Of a large body, whose hops add up: a 512 MiB PUT is a fifth faster than with 1 MiB."""

_MANY = 1024
"""Chunks after which a batch is handed over however small they are."""

_ZERO_COPY_MINIMUM = 1 << 16


class Refusal(Exception):  # noqa: N818 (a decided answer, not a failure of ours)
    """A request that is answered with a JSON error body.

    Args:
        status: 4xx, or 5xx for trouble of our own.
        faults: What the ``errors`` array holds; the first one is the message.
        headers: Added to the answer.
    """

    def __init__(self, status: int, *faults: Fault, headers: Headers | None = None) -> None:
        super().__init__(faults[0].message)
        self.status = status
        self.faults = faults
        self.headers = headers or []

    def response(self) -> "Response":
        """Return the answer."""
        headers = [(b"content-type", b"application/json"), *self.headers]
        return Response(self.status, headers, error_body(*self.faults))


class CutShort(Exception):  # noqa: N818 (what the peer did)
    """The request's body ended before it was whole.

    ``answer`` is the status that the peer can still read, ``None`` when it is gone.
    """

    def __init__(self, answer: int | None) -> None:
        super().__init__("the request's body was cut short")
        self.answer = answer


class Severed(Exception):  # noqa: N818 (a decided end of the connection)
    """The connection is to end here: with a FIN, or with a reset."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("reset" if reset else "cut")
        self.reset = reset


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of a blob, as the body of a response."""

    blob: Blob
    offset: int
    count: int


@dataclass(slots=True)
class Response:
    """An answer: status, headers without Content-Length, body.

    ``measured`` is false for one whose headers have a Content-Length of their own, or deliberately none.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | Stretch = b""
    measured: bool = True

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.count


class Exchange:
    """One request and its answer.

    Handlers read the address, headers, query and body, and write down what only they know (``digest``,
    ``session``, ``mounted_from``) for the journal.

    Attributes:
        address: What the path addresses.
        access: Whom the request comes from and what it may do.
        receive: Where the request's body comes from; faults put themselves in between.
        repository: The name in the path, if it is a valid one; below a prefix, where a pull names a host.
        namespace: The host that a pull names and this registry stands in for.
        notices: Headers that every answer has which the registry decides on.
        bytes_in: Bytes of the request's body received so far.
        bytes_out: Bytes of the response's body handed over so far.
        status: ``None`` until an answer was handed over.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, number: int, started: float) -> None:
        self._scope = scope
        self.receive = receive
        self._send = send
        self.number = number
        self.started = started
        self.method: str = scope["method"]
        self.path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        self.headers: Headers = scope["headers"]
        self.address: Address = parse_path(self.path)
        self.access: Access = OPEN
        self.repository = self.address.name if self.address.valid else None
        self.namespace: str | None = None
        self.notices: Headers = []
        self.reference: str | None = None
        self.digest: str | None = None
        self.session: str | None = None
        self.mounted_from: str | None = None
        self.status: int | None = None
        self.fault: str | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.response_complete = False
        self.query_string: bytes = scope["query_string"]
        self.content_length = self._content_length()
        self.request_complete = self.content_length == 0
        self._begun = False
        self._cut: CutShort | None = None

    def _content_length(self) -> int | None:
        """Return the length of the request's body; 0 where HTTP/1 without framing has no body."""
        length = None
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                return None
        return 0 if length is None and self._scope["http_version"] < "2" else length

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return str(self._scope.get("scheme", "http"))

    @property
    def listener(self) -> tuple[str, int | None]:
        """Host and port that the request arrived at; no port where there is no socket."""
        host, port = (self._scope.get("server") or ("localhost", None))[:2]
        return host, port

    def header(self, name: bytes) -> str | None:
        """Return a header's value; of several lines, joined by commas as RFC 9110 reads them."""
        values = [value for key, value in self.headers if key == name]
        return b", ".join(values).decode("latin-1") if values else None

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The query's parameters, each with its values in order."""
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(self.query_string.decode("latin-1"), keep_blank_values=True):
            query.setdefault(name, []).append(value)
        return query

    def parameter(self, name: str) -> str | None:
        """Return the first value of a query parameter."""
        if not self.query_string:
            return None
        return next(iter(self.query.get(name, ())), None)

    @property
    def client(self) -> tuple[str, int] | None:
        """Host and port of the peer, where the server knows them."""
        client: tuple[str, int] | None = self._scope.get("client")
        return client

    @property
    def tells_gone(self) -> bool:
        """The server tells when the peer has gone, without handing over the body."""
        return self._offers(GONE)

    async def until_gone(self) -> None:
        """Return when the peer has gone, where the server tells."""
        with suppress(PeerGone):
            await self._send({"type": GONE})

    @property
    def target(self) -> bytes:
        """Raw path and query, as sent."""
        query: bytes = self._scope["query_string"]
        return self.path + b"?" + query if query else self.path

    def ask(self, query_string: bytes) -> None:
        """Put another query in place of the one that was sent; parameters are read from it from now on."""
        self.query_string = query_string
        self.__dict__.pop("query", None)

    async def read(self) -> list[bytes]:
        """Return the next batch of the request's body; an empty one is the end.

        It has about 1 MiB or 4 MiB, or less where the server says that memory is scarce.

        Raises:
            CutShort: The body is not whole. All that arrived has been returned before.
        """
        if self._cut is not None:
            raise self._cut
        batch: list[bytes] = []
        held = 0
        enough = _LARGE_BATCH if (self.content_length or 0) >= _LARGE_BODY else BATCH
        while not self.request_complete and held < enough and len(batch) < _MANY:
            self._begun = True
            message = await self.receive()
            if message["type"] == "http.disconnect":
                self._cut = CutShort(message.get(ANSWER))
                break
            if chunk := message.get("body", b""):
                batch.append(chunk)
                held += len(chunk)
                self.bytes_in += len(chunk)
            self.request_complete = not message.get("more_body", False)
            if SCARCE in message and batch:
                break
        if self._cut is not None and not batch:
            raise self._cut
        return batch

    async def drain(self, limit: int) -> None:
        """Read and count what is left of the request's body, up to a limit in bytes.

        Otherwise a client that is refused while it sends would lose the answer with the connection, and the
        two accounts would differ by the bytes under way. A client that waits for 100 Continue has sent
        nothing.
        """
        if not self._begun and self.header(b"expect"):
            return
        while not self.request_complete and limit > 0:
            limit -= sum(map(len, await self.read()))

    def resume(self) -> None:
        """Let the request's body go on, which seemed to have ended."""
        self._cut = None
        self.request_complete = False

    async def answer(self, response: Response) -> None:
        """Hand the answer to the peer, and close what it holds open.

        Raises:
            OSError: The peer is gone.
        """
        body = b"" if self.method == "HEAD" or not response.length else response.body
        if isinstance(body, bytes):
            await self.begin(response)
            await self.deliver(body, more=False)
        else:
            await self._answer_stretch(response, body)
        self.response_complete = True

    async def _answer_stretch(self, response: Response, stretch: Stretch) -> None:
        try:
            reader = stretch.blob.open()
        except BlobRemoved:
            fault = Fault(ErrorCode.BLOB_UNKNOWN, "the blob was deleted meanwhile")
            await self.answer(Refusal(404, fault).response())
            return
        except OSError as error:
            fault = Fault(ErrorCode.UNKNOWN, f"the blob cannot be read: {error.strerror}")
            await self.answer(Refusal(500, fault).response())
            return
        with reader:
            await self.begin(response)
            if reader.file is None or stretch.count < _ZERO_COPY_MINIMUM or not self._offers(ZERO_COPY):
                await self._send_batches(reader, stretch.offset, stretch.count)
                return
            self.bytes_out += stretch.count
            message = {
                "type": ZERO_COPY,
                "file": reader.file,
                "offset": stretch.offset,
                "count": stretch.count,
            }
            await self._hand_over(message)

    async def begin(self, response: Response) -> None:
        """Hand over the head of an answer, whose body follows.

        Raises:
            OSError: The peer is gone.
        """
        headers = response.headers
        if response.measured and response.status not in (204, 304):
            headers.append((b"content-length", b"%d" % response.length))
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        self.status = response.status

    async def deliver(self, piece: bytes, *, more: bool) -> None:
        """Hand over a piece of the body.

        Raises:
            OSError: The peer is gone.
        """
        self.bytes_out += len(piece)
        await self._hand_over({"type": "http.response.body", "body": piece, "more_body": more})

    async def sever(self, *, reset: bool) -> None:
        """End the connection here.

        A server without that extension ends it when the app leaves a response unfinished. If there were no
        response at all it would make its own, so one is given here: 502.
        """
        try:
            if self._offers(SEVER):
                await self._hand_over({"type": SEVER, "reset": reset})
            elif self.status is None:
                await self.answer(Response(502))
        except PeerGone:
            self.response_complete = False
            self.bytes_out = max(self.bytes_out, 0)  # what is lacking may be of the head

    async def _hand_over(self, message: dict[str, object]) -> None:
        """Send part of the body that is counted already: a socket may take bytes and then break."""
        try:
            await self._send(message)
        except PeerGone as gone:
            self.bytes_out -= gone.unsent
            raise

    async def _send_batches(self, reader: Reader, offset: int, count: int) -> None:
        # Before ASGI 2.4, only receive() tells that the peer is gone: without a watch, a blob would be
        # read to its end for a peer that left.
        watch = None if self.send_tells else asyncio.ensure_future(self._watch())
        try:
            while count and not (watch and watch.done()):
                chunk = reader.read(offset, min(count, BATCH))
                if not chunk:
                    raise OSError("the blob's file is shorter than the blob")
                offset, count = offset + len(chunk), count - len(chunk)
                await self.deliver(chunk, more=count > 0)
        finally:
            if watch:
                watch.cancel()
        if count:
            raise PeerGone

    async def _watch(self) -> None:
        while (message := await self.receive())["type"] != "http.disconnect":
            self.bytes_in += len(message.get("body", b""))

    @property
    def send_tells(self) -> bool:
        """``send`` raises when the peer is gone; else only ``receive`` tells."""
        version = str(self._scope.get("asgi", {}).get("spec_version", "2.0"))
        return tuple(map(int, version.split("."))) >= (2, 4)

    def _offers(self, extension: str) -> bool:
        return extension in (self._scope.get("extensions") or ())

    def record(self, ended: float) -> Record:
        """Return the account of this exchange."""
        query = self._scope["query_string"]
        target = self.path + b"?" + redact_query(query) if query else self.path
        draft = Draft()
        draft.number = self.number
        draft.method = self.method
        draft.target = target.decode("latin-1")
        draft.route = self.address.route
        draft.repository = self.repository
        draft.reference = self.reference
        draft.digest = self.digest
        draft.session = self.session
        draft.mounted_from = self.mounted_from
        draft.status = self.status
        draft.bytes_in = self.bytes_in
        draft.bytes_out = self.bytes_out
        draft.complete = self.request_complete and self.response_complete
        draft.fault = self.fault
        draft.started = self.started
        draft.ended = ended
        draft.user = self.access.user
        return draft.finish()
