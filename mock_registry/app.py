"""The registry as an ASGI 3 application.

Owns one exchange from its arrival to its record in the journal. Must not know what a handler does, nor which
server runs it.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

from .asgi import Receive, Scope, Send
from .auth import Auth, TokenAuth
from .exchange import CutShort, Exchange, Refusal, Response, Severed
from .handlers import find_handler
from .journal import Journal, Record, Route, redact_target
from .maintenance import Collected, collect, keep_house, layout_index, restore
from .service import (
    COLLECTION_GRACE,
    MANIFEST_LIMIT,
    SESSION_LIFETIME,
    Namespaces,
    Service,
    Settings,
    warning_headers,
)
from .spec import ErrorCode, Fault
from .state import State
from .storage.directory import DirectoryStorage
from .storage.memory import MemoryStorage
from .storage.protocol import Storage, StorageFull

if TYPE_CHECKING:
    from .faults.profiles import Habits, Profile
    from .faults.rules import Admitted, Given, Rules
    from .faults.scene import Surroundings
    from .server import Limits, Server, SparePort
    from .tls import Certificate
    from .transport import RegistryTransport

_log = logging.getLogger(__name__)

PUBLISH_AFTER = 1.0
"""Seconds from a change of tags or manifests to the ``index.json`` that shows it, and to the next one."""

_TURNS = 10  # of the event loop, from bytes in a socket to a request under way, with room to spare


class MockRegistry:
    """A registry of one's own: an ASGI app with its state, its storage and its journal.

    Use it with ``serve()`` on a port, with ``transport()`` in process, or hand it to any ASGI server.
    As a context manager, or as long as something serves it, it keeps its spool directory; the last one to
    leave removes it.

    Args:
        journal: Where finished requests are recorded; a new one by default.
        auth: Who may do what, and how they prove it; by default everybody may do everything.
        storage: Where bytes live; by default memory, with blobs above 256 KiB spooled to a directory.
        directory: Keep everything in this directory, for the next process; short for ``DirectoryStorage``.
        anonymous_mount: Mount from any repository when a mount names none (end-11).
        mount: Mount at all; else a mount opens a session.
        delete: Answer deletes; else 405 (end-9, end-10).
        single_post: Take a blob with its POST (end-4b); else a session is opened instead.
        sparse: Take manifests whose successors are missing (end-7).
        manifest_limit: Bytes of the largest manifest; by default the profile's limit, or 4 MiB.
        min_chunk_length: Bytes that every chunk but the last must have (end-5).
        read_only: Answer everything that would change something with 405.
        drain_limit: Bytes of a refused request's body that are still read, so that the answer arrives.
        session_patience: Seconds that a request waits for another one that holds its upload session.
        session_lifetime: Seconds without a request after which an upload session ends (end-14), or ``None``.
        collect_after: Seconds since a blob's last use after which it is freed if no manifest mentions it.
        housekeeping_interval: Seconds between looks for such sessions and blobs.
        warnings: Sentences that every answer carries in Warning headers, 4,096 bytes of them at most.
        namespaces: Hosts that it stands in for, as a proxy does, each with the prefix of its repositories.
        profile: Behave as a named registry does, see `mock_registry.faults.profiles`.
        faults: Rules by which it misbehaves, see `mock_registry.faults`.
        seed: From which all chance in faults follows.
        clock: Seconds, monotonic; times in the journal, ages of sessions and blobs, pace of faults.
        sleep: Waits for seconds of that clock, where faults do.

    Raises:
        DirectoryError: The directory is in use by another registry, or is not one's.
        OSError: The directory cannot be made or opened.
        ValueError: Profile, faults, warnings or namespaces make no sense.
    """

    def __init__(
        self,
        *,
        journal: Journal | None = None,
        auth: Auth | None = None,
        storage: Storage | None = None,
        directory: str | os.PathLike[str] | None = None,
        anonymous_mount: bool = False,
        mount: bool = True,
        delete: bool = True,
        single_post: bool = True,
        sparse: bool = False,
        manifest_limit: int | None = None,
        min_chunk_length: int | None = None,
        read_only: bool = False,
        drain_limit: int = 64 << 20,
        session_patience: float = 5.0,
        session_lifetime: float | None = SESSION_LIFETIME,
        collect_after: float | None = None,
        housekeeping_interval: float = 60.0,
        warnings: Iterable[str] = (),
        namespaces: Mapping[str, str] | None = None,
        profile: "Profile | str | None" = None,
        faults: "Iterable[Given]" = (),
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.journal = Journal() if journal is None else journal
        if storage is None:
            storage = MemoryStorage() if directory is None else DirectoryStorage(directory)
        self.storage = storage
        if isinstance(profile, str):
            from .faults.profiles import profile_named  # noqa: PLC0415 (loaded only when one is requested)

            profile = profile_named(profile)
        self.profile = profile
        if manifest_limit is None:
            manifest_limit = (self.profile and self.profile.manifest_limit) or MANIFEST_LIMIT
        self.settings = Settings(
            anonymous_mount=anonymous_mount,
            mount=mount,
            delete=delete,
            single_post=single_post,
            sparse=sparse,
            manifest_limit=manifest_limit,
            min_chunk_length=min_chunk_length,
            read_only=read_only,
            drain_limit=drain_limit,
            session_patience=session_patience,
        )
        self.state = State(self.storage, clock=clock, session_lifetime=session_lifetime)
        self._publishing: asyncio.TimerHandle | None = None
        self._restore()
        self._keep_house = partial(
            keep_house, self.state, interval=housekeeping_interval, grace=collect_after
        )
        self._housekeeper: asyncio.Task[None] | None = None
        self.auth = auth
        self._service = Service(self.state, self.settings, self.journal, auth)
        self._warnings = warning_headers(warnings)
        self._namespaces = Namespaces(namespaces) if namespaces else None
        self._rules: Rules | None = None
        self._seed = seed
        self._sleep = sleep
        self._spare_ports: list[SparePort] = []
        self._clock = clock
        self._arrivals = 0
        self._under_way = 0
        self._quiet = asyncio.Event()
        self.holders = 0  # servers and contexts that use it now
        self._habits: Habits | None = None
        if self.profile is not None:
            from .faults import profiles  # noqa: PLC0415 (loaded only with a profile)

            self._habits = profiles.Habits(self.profile, self._surroundings())
        for fault in (*(self.profile.faults if self.profile else ()), *faults):
            self.faults.add(fault)

    @property
    def faults(self) -> "Rules":
        """The rules by which it misbehaves, to be listed, added and removed at any time."""
        if self._rules is None:
            from .faults.rules import Rules  # noqa: PLC0415 (loaded only for faults)

            self._rules = Rules(self._surroundings(), seed=self._seed)
        return self._rules

    def _surroundings(self) -> "Surroundings":
        from .faults.scene import Surroundings  # noqa: PLC0415 (loaded only for faults and profiles)

        return Surroundings(self._service, self._clock, self._sleep, self._spare_ports)

    @property
    def repositories(self) -> tuple[str, ...]:
        """Names of the repositories that hold or held content, sorted."""
        return tuple(sorted(self.state.repositories))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope: ``http``, and the ``lifespan`` that servers open it with."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError(f"a registry does not speak {scope['type']}")
        self._arrivals += 1
        exchange = Exchange(scope, receive, send, number=self._arrivals, started=self._clock())
        self._under_way += 1
        try:
            if self._warnings:
                exchange.notices += self._warnings
            if self._namespaces is not None:
                self._namespaces.scope(exchange)
            await self._serve(exchange)
        finally:
            if exchange.address.route is Route.MANIFEST and exchange.method in ("PUT", "DELETE"):
                self._publish_soon()
            exchange.access.spend(exchange.bytes_in + exchange.bytes_out)
            self.journal.append(exchange.record(self._clock()))
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    async def _live(self, receive: Receive, send: Send) -> None:
        """Stay open for as long as a server lives."""
        await receive()
        async with self:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def settled(self) -> None:
        """Wait until no request is under way, so that the journal holds all that arrived.

        A client that broke off knows so before the registry does. Bound the wait where requests may hang.
        """
        turns = 0
        while turns < _TURNS:
            # What a peer in this loop has sent is in the socket, and becomes a request within few turns.
            await asyncio.sleep(0)
            turns += 1
            if self._under_way:
                self._quiet.clear()
                await self._quiet.wait()
                turns = 0

    def _reject(self, method: str, target: str, status: int, count: int) -> None:
        """Record what a server answered without the app, because it was not a request of HTTP/1.1."""
        self._arrivals += 1
        now = self._clock()
        self.journal.append(
            Record(
                number=self._arrivals,
                method=method,
                target=redact_target(target),
                route=Route.OTHER,
                status=status,
                bytes_out=count,
                started=now,
                ended=now,
            )
        )

    async def _serve(self, exchange: Exchange) -> None:
        if self._rules is not None and self._rules.active:
            course = self._rules.meet(exchange)
            if course is not None:
                await course.serve(lambda admitted: self._respond(exchange, admitted))
                return
        try:
            response = await self._respond(exchange)
            await exchange.drain(self.settings.drain_limit)
        except Severed as severed:  # by a profile
            await exchange.sever(reset=severed.reset)
            return
        except CutShort as cut:
            if cut.answer is None:
                return
            fault = Fault(ErrorCode.SIZE_INVALID, "the request's body ended early")
            response = Refusal(cut.answer, fault).response()
        try:
            await exchange.answer(response)
        except OSError:
            _log.debug("request %d: the peer is gone", exchange.number)

    async def _respond(self, exchange: Exchange, admitted: "Admitted | None" = None) -> Response:
        try:
            if self._habits is None:
                handler = find_handler(exchange, read_only=self.settings.read_only)
            if self.auth is not None and exchange.address.route is not Route.TOKEN:
                exchange.access = await self.auth.identify(exchange)
                self.auth.check(exchange)
            if admitted is not None and (made_up := await admitted()) is not None:
                return made_up
            if self._habits is None:
                response = await handler(self._service, exchange)
            else:
                response = await self._habits.answer(exchange, self._dispatch)
        except Refusal as refusal:
            response = refusal.response()
        except StorageFull as error:
            response = Refusal(507, Fault(ErrorCode.UNKNOWN, error.strerror or "storage full")).response()
        except (CutShort, Severed):
            raise
        except Exception:  # noqa: BLE001 (a registry answers 500 and lives on)
            _log.exception("request %d: %s %s", exchange.number, exchange.method, exchange.path)
            response = Refusal(500, Fault(ErrorCode.UNKNOWN, "a fault of the registry itself")).response()
        if exchange.notices:
            response.headers += exchange.notices
        return response

    async def _dispatch(self, service: Service, exchange: Exchange) -> Response:
        return await find_handler(exchange, read_only=self.settings.read_only)(service, exchange)

    @asynccontextmanager
    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        limits: "Limits | None" = None,
        tls: "Certificate | str | None" = None,
    ) -> AsyncIterator["Server"]:
        """Serve on a port, in this event loop.

        Args:
            host: Address to bind; loopback by default.
            port: 0 takes any free one; ``server.url`` tells which.
            limits: Sizes and times of the server.
            tls: A certificate with its key, or ``"self-signed"`` for one made on the spot, whose authority's
                file is ``server.ca``; by default plain HTTP.

        Raises:
            OSError: The address cannot be bound, or the certificate's files cannot be read.
        """
        from .server import Server, SparePort  # noqa: PLC0415 (in process, no socket code is loaded)
        from .tls import identity  # noqa: PLC0415 (as above)

        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self)
            proof = stack.enter_context(identity(tls, host))
            make = partial(Server, self, host=host, limits=limits, tls=proof, rejected=self._reject)
            server = await stack.enter_async_context(make(port=port))
            if isinstance(self.auth, TokenAuth) and self.auth.second_origin:
                tokens = await stack.enter_async_context(make())
                stack.enter_context(self.auth.at(tokens.url, tokens.port))
            spare = SparePort(stack, make)
            self._spare_ports.append(spare)
            stack.callback(self._spare_ports.remove, spare)
            stack.callback(self._release_held)
            yield server

    def _release_held(self) -> None:
        if self._rules is not None:  # requests that rules hold would hold the server
            self._rules.release()

    def transport(self) -> "RegistryTransport":
        """Return a transport for ``httpx.AsyncClient`` that calls this registry in process."""
        from .transport import RegistryTransport  # noqa: PLC0415 (httpx is loaded only for those who use it)

        return RegistryTransport(self)

    def _restore(self) -> None:
        """Read what an earlier process, or an earlier holder, left in the storage."""
        restore(self.state)
        self._publish()

    def _publish_soon(self) -> None:
        """Let other programs see a change, but write the index once in a while only: it may be large."""
        if self.storage.publishes and self._publishing is None:
            self._publishing = asyncio.get_running_loop().call_later(PUBLISH_AFTER, self._publish)

    def _publish(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
        if self.storage.publishes:
            self.storage.publish(layout_index(self.state))

    async def collect(self, *, grace: float = COLLECTION_GRACE) -> Collected:
        """Free the blobs that no manifest of their repository mentions. Safe while clients push.

        Args:
            grace: Seconds that a blob stays after it was last pushed, mounted or found by a HEAD or GET.
        """
        return await collect(self.state, grace)

    async def aclose(self) -> None:
        """Remove the spool directory and what it held, or close the directory that is kept.

        The journal and the small blobs in memory stay.
        """
        self._publish()
        await self.storage.aclose()

    async def __aenter__(self) -> Self:
        if not self.holders:
            if self.storage.reopen():
                self._restore()
            self._housekeeper = asyncio.create_task(self._keep_house())
        self.holders += 1
        return self

    async def __aexit__(self, *error: object) -> None:
        self.holders -= 1
        if not self.holders and self._housekeeper is not None:
            self._housekeeper.cancel()
            await asyncio.wait([self._housekeeper])
            await self.aclose()
