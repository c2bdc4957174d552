"""Foreign layers: content that may not be distributed, and stays where its descriptor's URLs say.

Owns which of these URLs are asked, and as whom: as nobody. They are the words of whoever made the manifest,
and may be meant to lead a password astray (CVE-2020-15157), or this machine to one that only it can reach.
Must not know when a foreign layer is wanted, or where its bytes go; whoever stores them verifies them.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core.account import Account, Elsewhere
from regsim.core.reference import is_loopback
from regsim.errors import NetworkError, RegistryError
from regsim.net import address
from regsim.net.trust import Trust
from regsim.registry.download import RemoteBlob
from regsim.registry.login.realm import is_internal
from regsim.registry.retry import Patience
from regsim.registry.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from contextlib import AbstractAsyncContextManager

    from regsim.core import Descriptor, Digest
    from regsim.net.proxy import Proxy
    from regsim.net.timeouts import Timeouts
    from regsim.registry.bodies import Response
    from regsim.registry.transport import Network

MAX_URLS = 8
"""Of a layer's URLs, no more are tried."""


class ForeignHosts:
    """The hosts to which foreign layers' URLs lead, with one connection pool for each until `aclose`.

    Args:
        plain_http: True lets URLs be asked in plain HTTP; else only those of this machine are.
        trust: names further authorities; certificates are always checked, and none of our own is shown.
        timeouts: of every wait; None: the usual ones.
        patience: with all of them; None: three retries.
        transport: stands in for the network; None: sockets.
        proxy: to go through; None goes straight.
    """

    def __init__(
        self,
        *,
        plain_http: bool | None = None,
        trust: Trust | None = None,
        timeouts: Timeouts | None = None,
        patience: Patience | None = None,
        transport: Network | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._plain = plain_http is True
        self._trust = Trust(ca_file=trust.ca_file) if trust is not None else Trust()
        self._timeouts, self._patience, self._network = timeouts, patience, transport
        self._proxy = proxy
        self._places: dict[address.Origin, tuple[Transport, Patience]] = {}

    def content(self, descriptor: Descriptor, account: Account, *, near: str) -> ForeignBlob:
        """Return a foreign layer as content.

        Args:
            descriptor: of the layer, with its URLs.
            account: has what it costs, as `elsewhere`.
            near: `host[:port]` of the registry that names it: one inside a network may lead into it.
        """
        return ForeignBlob(self, descriptor, account, is_internal(address.origin(f"https://{near}").host))

    async def aclose(self) -> None:
        """Close every connection."""
        while self._places:
            await self._places.popitem()[1][0].aclose()

    def place(self, url: str, *, internal: bool) -> _Place:
        """Return where a URL leads.

        Raises:
            RegistryError: it must not be asked.
        """
        self.check(url, internal=internal)
        to = address.origin(url)
        known = self._places.get(to)
        if known is None:
            base = f"{to.scheme}://{address.host_of(url)}"
            transport = Transport(
                base, trust=self._trust, timeouts=self._timeouts, transport=self._network, proxy=self._proxy
            )
            known = self._places[to] = (transport, self._patience or Patience())
        return _Place(self, url, internal, *known)

    def check(self, url: str, *, internal: bool) -> None:
        """Check a URL before it is asked, whether a descriptor names it or a redirect leads there.

        Raises:
            RegistryError: it must not be asked.
        """
        to, shown = address.origin(url), address.without_query(url)
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise RegistryError(f"a foreign layer is at {shown}, with a user's name in the URL")
        if to.scheme == "http" and not (self._plain or is_loopback(address.host_of(url))):
            raise RegistryError(f"a foreign layer is at {shown}: plain HTTP", hint="--plain-http allows it")
        if is_internal(to.host) and not internal:
            raise RegistryError(
                f"a foreign layer is at {shown}: an address inside a network, from a host that is not in it",
                hint="nothing was asked there; is this the image that you mean?",
            )


@dataclass(frozen=True, slots=True)
class ForeignBlob:
    """A foreign layer, as content: from the first of its URLs that gives it.

    Attributes:
        hosts: who asks.
        descriptor: of the layer.
        account: has what it costs, as `elsewhere`.
        internal: the registry that names it is inside a network.
    """

    hosts: ForeignHosts
    descriptor: Descriptor
    account: Account
    internal: bool

    def open(self) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes, as `RemoteBlob.open` does.

        Raises:
            NetworkError, RegistryError: none of its URLs gives it; the last one's failure.
            ContentError: what is there has another size.
        """
        return self.open_at(0)

    async def open_at(self, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the raw bytes from `offset` on; where one URL breaks off for good, the next one goes on."""
        failure: NetworkError | RegistryError | None = None
        for url in self.descriptor.urls[:MAX_URLS]:
            if self.account.elsewhere is None:
                self.account.elsewhere = Elsewhere(account=Account())
            elsewhere = self.account.elsewhere
            elsewhere.url = address.without_query(url)
            try:
                place = self.hosts.place(url, internal=self.internal)
                async with aclosing(
                    RemoteBlob(place, self.descriptor, elsewhere.account).open_at(offset)
                ) as stream:
                    async for chunk in stream:
                        offset += len(chunk)
                        yield chunk
            except (NetworkError, RegistryError) as error:
                failure = error
            else:
                return
        if failure is not None:
            raise failure


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a foreign layer is, as `RemoteBlob` asks for it."""

    hosts: ForeignHosts
    url: str = field(repr=False)
    internal: bool
    _transport: Transport
    patience: Patience

    @property
    def name(self) -> str:
        """The URL, as far as it may be shown."""
        return address.without_query(self.url)

    @property
    def transport(self) -> _Place:
        """Whom to ask."""
        return self

    @property
    def timeouts(self) -> Timeouts:
        """How long each wait may be."""
        return self._transport.timeouts

    def blob(self, digest: Digest) -> str:  # noqa: ARG002  (it is here by its URL)
        """Return what to ask for."""
        return self.url

    def exchange(
        self, method: str, target: str, account: Account, *, headers: Mapping[str, str], content: bool
    ) -> AbstractAsyncContextManager[Response]:
        """Ask as nobody."""
        return self._transport.exchange_as_nobody(
            method,
            target,
            account,
            headers=headers,
            content=content,
            check=lambda url: self.hosts.check(url, internal=self.internal),
        )
