"""The journal: an independent account of every request and of the bytes of both its bodies.

Owns the records, the questions that tests ask of them, and what is left out of them because it is secret.
Must not know how requests are served, nor anything of the client whose account is compared with it.
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO, TypedDict, Unpack, cast, overload
from urllib.parse import unquote_to_bytes

from .errors import close_to

_SECRET = frozenset(
    b"access_token client_secret code id_token identity_token identitytoken pass passwd password"
    b" refresh_token secret token".split()
)
"""Parameters whose values are not written down."""

_INSTEAD = b"REDACTED"


class Route(StrEnum):
    """What a request is about, by its path."""

    BASE = "base"
    BLOB = "blob"
    CATALOG = "catalog"
    MANIFEST = "manifest"
    OTHER = "other"
    PAGE = "page"
    """The page for people at ``/``."""
    REFERRERS = "referrers"
    TAGS = "tags"
    TOKEN = "token"  # noqa: S105 (a path, not a token)
    """The token service."""
    UPLOAD = "upload"
    """An upload session that exists: PATCH, PUT, GET or DELETE of its location."""
    UPLOADS = "uploads"
    """The place where upload sessions are opened: POST."""


@dataclass(frozen=True, slots=True)
class Record:
    """One finished request: answered, refused or broken off.

    Attributes:
        number: Order of arrival, from 1. Records stand in order of completion.
        method: As sent.
        target: Raw path and query, as sent, but for the values of parameters that hold credentials.
        route: What the path addresses.
        repository: Its name, where the path holds a valid one.
        reference: Tag or digest in the path of a manifest.
        digest: The blob's or manifest's digest where it is known: from the path, from ``?digest=`` or
            ``?mount=``, or that of the manifest served or stored.
        session: Upload session opened or used.
        mounted_from: Repository that a blob was mounted from, for a mount that succeeded (201).
        status: Status handed to the peer; ``None`` when there was no answer.
        bytes_in: Bytes of the request's body received, framing not counted.
        bytes_out: Bytes of the response's body handed to the peer; 0 for a HEAD. For a response broken off
            by the peer, what the socket had accepted counts as handed over.
        complete: Both bodies are whole.
        fault: Name of the fault that was applied.
        started: Seconds on the journal's clock when the head of the request was in.
        ended: When the request was finished, on the same clock.
        user: Name that the request proved, by password or token; ``None`` without one.
    """

    number: int
    method: str
    target: str
    route: Route
    repository: str | None = None
    reference: str | None = None
    digest: str | None = None
    session: str | None = None
    mounted_from: str | None = None
    status: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    complete: bool = False
    fault: str | None = None
    started: float = 0.0
    ended: float | None = None
    user: str | None = None


class Draft:
    """A record that is being written: every field of `Record` must be set, then `finish` called.

    A frozen class is slow to fill, since each of its fields is written by a call: that took longer than all
    else that the journal does for a request.
    """

    __slots__ = Record.__slots__

    if TYPE_CHECKING:

        def __setattr__(self, name: str, value: object, /) -> None: ...

    def finish(self) -> Record:
        """Turn the draft into the record, which has the same slots."""
        record: Any = self
        record.__class__ = Record
        return cast("Record", record)


class Conditions(TypedDict, total=False):
    """Conditions on records; ``None`` is no condition."""

    repository: str | None
    method: str | None
    route: Route | str | None
    digest: str | None


class Journal(Sequence[Record]):
    """The records of a registry, oldest first, in order of completion.

    Args:
        limit: Keep only this many of the newest records, and as many committed sessions. ``None`` keeps all.
    """

    def __init__(self, *, limit: int | None = None) -> None:
        self._limit = limit
        self._records: deque[Record] = deque(maxlen=limit)
        self._committed: dict[str, str] = {}

    def append(self, record: Record) -> None:
        """Add a record; with a limit, the oldest one makes room."""
        self._records.append(record)
        if record.status == 201 and record.session and record.digest:  # noqa: PLR2004 (end-4b, end-6)
            self._committed[record.session] = record.digest
            if self._limit is not None and len(self._committed) > self._limit:
                del self._committed[next(iter(self._committed))]

    def clear(self) -> None:
        """Forget everything."""
        self._records.clear()
        self._committed.clear()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(tuple(self._records))  # requests may finish while a caller walks

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Record, ...]: ...
    def __getitem__(self, index: int | slice) -> Record | tuple[Record, ...]:
        return tuple(self._records)[index]

    def __repr__(self) -> str:
        return f"Journal({len(self)} records, {self.bytes_in()} bytes in, {self.bytes_out()} bytes out)"

    def records(self, **conditions: Unpack[Conditions]) -> tuple[Record, ...]:
        """Return the records that agree with every condition given, in order.

        Raises:
            TypeError: There is no such condition.
            ValueError: There is no such route.
        """
        if unknown := sorted(conditions.keys() - Conditions.__annotations__):
            raise TypeError(f"records have no condition {unknown[0]!r}")
        route = conditions.get("route")
        if route is not None and route not in list(Route):
            raise ValueError(f"there is no route {route!r}{close_to(route, list(Route))}")
        wanted = [(field, value) for field, value in conditions.items() if value is not None]
        return tuple(
            record for record in self if all(getattr(record, field) == value for field, value in wanted)
        )

    def uploads(self, repository: str | None = None, *, digest: str | None = None) -> tuple[Record, ...]:
        """Return what was asked of upload endpoints (POST, PATCH, PUT; mounts included), in order.

        With ``digest``, the requests of sessions that were committed as it count too, though a PATCH does
        not name the digest that its bytes will have.
        """
        return tuple(
            record
            for record in self.records(repository=repository)
            if record.route in (Route.UPLOADS, Route.UPLOAD)
            and record.method in ("POST", "PATCH", "PUT")
            and digest in (None, record.digest, self.session_digest(record.session))
        )

    def heads(
        self, repository: str | None = None, *, route: Route | str | None = None, digest: str | None = None
    ) -> tuple[Record, ...]:
        """Return the existence checks (HEAD), in order; see `records`."""
        return self.records(repository=repository, method="HEAD", route=route, digest=digest)

    def bytes_in(self, **conditions: Unpack[Conditions]) -> int:
        """Return the bytes of request bodies received, over the records that agree; see `records`."""
        return sum(record.bytes_in for record in self.records(**conditions))

    def bytes_out(self, **conditions: Unpack[Conditions]) -> int:
        """Return the bytes of response bodies handed over, over the records that agree; see `records`."""
        return sum(record.bytes_out for record in self.records(**conditions))

    def session_digest(self, session: str | None) -> str | None:
        """Return the digest that an upload session was committed as; ``None`` if it was not."""
        return None if session is None else self._committed.get(session)

    def dump(self, file: TextIO) -> None:
        """Write the records as JSON Lines, one object a record with the fields of `Record`."""
        file.writelines(json.dumps(asdict(record)) + "\n" for record in self)


def redact_query(query: bytes) -> bytes:
    """Return a raw query with the values of secret parameters replaced; others stay as they were sent."""
    if b"=" not in query:
        return query
    return b"&".join(map(_redact, query.split(b"&")))


def redact_target(target: str) -> str:
    """Return a raw target with such values replaced, and without the user information of a whole URL."""
    path, mark, query = target.partition("?")
    scheme, separator, rest = path.partition("://")
    if separator:
        host, slash, rest = rest.partition("/")
        path = scheme + separator + host.rpartition("@")[2] + slash + rest
    return path + mark + redact_query(query.encode("latin-1", "replace")).decode("latin-1")


def _redact(piece: bytes) -> bytes:
    name, equals, _ = piece.partition(b"=")
    if not equals or unquote_to_bytes(name.replace(b"+", b" ")).strip().lower() not in _SECRET:
        return piece
    return name + equals + _INSTEAD
