"""Answering a registry's challenges: which credentials go with a request, and what a 401 changes.

Owns what is remembered of one registry: its challenge, who we are there, and the tokens that we hold. Must
not know repositories, content, or how requests travel.
"""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.errors import AuthenticationError, RegsimError
from regsim.net.address import Origin, origin
from regsim.net.answer import refusal
from regsim.registry.login.challenge import Challenge, parse_challenges
from regsim.registry.login.credentials import Anonymous, Credentials, Keychain, normal_host, whence
from regsim.registry.login.flights import Flights
from regsim.registry.login.realm import realm_url
from regsim.registry.login.scopes import Need, Scopes, covers, merged, parse_scopes
from regsim.registry.login.tokens import Authorization, Token, TokenService
from regsim.registry.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regsim.core.account import Account
    from regsim.net.answer import Answer
    from regsim.registry.login.tokens import Ask

BASIC, BEARER = "basic", "bearer"
# A token may be used up by others before its turn comes; but a registry that likes none must not be asked
# for ever.
MAX_ROUNDS = 8
# A token that ends while its request is on the way is no token.
MARGIN_SECONDS = 5.0
# Of a registry that names another service each time, the oldest are forgotten.
MAX_WALLETS = 32
_INSUFFICIENT, _INVALID = "insufficient_scope", "invalid_token"


class Authorizer:
    """What is known about logging in at one registry.

    Args:
        host: of the registry, as references name it, or a URL of it.
        base: its URL, `scheme://host[:port]`.
        ask: sends a request with the credentials that it is handed, and no others.
        keychain: who has credentials; None: nobody.
        patience: for token services; None: three retries.
        now: seconds, monotonic.
    """

    def __init__(
        self,
        host: str,
        base: str,
        ask: Ask,
        *,
        keychain: Keychain | None = None,
        patience: Patience | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = normal_host(host)
        self.origin: Origin = origin(base)
        self._base = base
        self._ask = ask
        self._keychain = keychain or Anonymous()
        self._patience = patience or Patience()
        self._now = now
        self._challenges: tuple[Challenge, ...] = ()
        self._base_challenges: tuple[Challenge, ...] | None = None
        self._pings: Flights[tuple[Challenge, ...]] = Flights()
        self._credentials: dict[str | None, Credentials | None] = {}
        self._looking: Flights[Credentials | None] = Flights()
        self._wallets: dict[tuple[Credentials | None, str, str], Wallet] = {}

    def login(self, need: Need, account: Account) -> Login:
        """Begin a request: one login goes with it through all its tries."""
        return Login(self, need, account)

    @property
    def challenges(self) -> tuple[Challenge, ...]:
        """What the registry said last, of what is understood here."""
        return self._challenges

    async def learn(self, header: str, account: Account) -> tuple[Challenge, ...]:
        """Return what of a 401's challenges is understood here; where it has none, what was said before.

        Raises:
            AuthenticationError: nothing of it is understood.
        """
        found = parse_challenges(header)
        if not found and not self._challenges:
            # Some (gcr) say it at the base alone.
            found = await self._pings.join(None, lambda: self._ping(account))
        known = tuple(each for each in found if each.scheme in (BASIC, BEARER))
        if found and not known:
            offered = ", ".join(each.scheme for each in found)
            raise AuthenticationError(f"{self.host} knows no way to log in that we do: {offered:.100}")
        self._challenges = known or self._challenges
        return self._challenges

    async def _ping(self, account: Account) -> tuple[Challenge, ...]:
        if self._base_challenges is None:
            try:
                answer = await self._ask("GET", f"{self._base}/v2/", account)
            except RegsimError:
                return ()  # what was refused says more
            self._base_challenges = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
        return self._base_challenges

    async def credentials(self, repository: str | None) -> Credentials | None:
        """Return who to be for a repository; asked for once."""
        if repository not in self._credentials:

            async def look() -> Credentials | None:
                return await self._keychain.find(self.host, repository)

            self._credentials[repository] = await self._looking.join(repository, look)
        return self._credentials[repository]

    def drop(self, token: Token) -> None:
        """Forget a token that was refused."""
        for wallet in self._wallets.values():
            wallet.drop(token)

    def wallet(self, credentials: Credentials | None, challenge: Challenge) -> Wallet:
        """Return the tokens that one user holds from one service.

        Raises:
            AuthenticationError: nobody may be sent to that service.
        """
        realm, service = challenge.parameters["realm"], challenge.parameters.get("service", "")
        wallet = self._wallets.get((credentials, realm, service))
        if wallet is None:
            secret = credentials is not None
            tokens = TokenService(
                url=realm_url(self.origin, realm, secret=secret),
                service=service,
                ask=self._ask,
                patience=self._patience,
                now=self._now,
            )
            if len(self._wallets) >= MAX_WALLETS:
                del self._wallets[next(iter(self._wallets))]
            wallet = self._wallets[credentials, realm, service] = Wallet(tokens, credentials)
        return wallet


class Wallet:
    """The tokens that one user holds from one token service.

    Args:
        service: where they come from.
        credentials: the user's; None for nobody.
    """

    def __init__(self, service: TokenService, credentials: Credentials | None) -> None:
        self._service = service
        self._credentials = credentials
        self._refresh = credentials.identity_token if credentials else ""
        self._tokens: list[Token] = []
        self._fetching: Flights[Token] = Flights()

    async def token(self, wanted: Scopes, account: Account) -> Token:
        """Return a token for scopes: one that is held, or that somebody is fetching, or a new one.

        Raises:
            AuthenticationError: there is none to be had.
        """
        soon = self._service.now() + MARGIN_SECONDS
        self._tokens = [each for each in self._tokens if each.ends > soon]
        for token in self._tokens:
            if covers(token.scopes, wanted):
                return token
        return await self._fetching.join(frozenset(wanted), lambda: self._fetch(wanted, account))

    def drop(self, token: Token) -> None:
        """Forget a token that was refused; others may have done so before."""
        self._tokens = [each for each in self._tokens if each is not token]

    async def _fetch(self, wanted: Scopes, account: Account) -> Token:
        try:
            token = await self._service.fetch(wanted, self._credentials, self._refresh, account)
        except AuthenticationError:
            own = self._credentials.identity_token if self._credentials else ""
            if self._refresh == own:
                raise
            # A refresh token that the service gave once, and no longer takes.
            self._refresh = own
            token = await self._service.fetch(wanted, self._credentials, own, account)
        if token.refresh:
            self._refresh = token.refresh
        self._tokens = [token, *(each for each in self._tokens if not covers(wanted, each.scopes))]
        return token


class Login:
    """How one request shows who asks, through all its tries.

    Args:
        authorizer: of the registry.
        need: what the request needs.
        account: is charged for what else has to be asked.

    Attributes:
        authorization: to send; None where nothing is asked for, as far as is known.
    """

    def __init__(self, authorizer: Authorizer, need: Need, account: Account) -> None:
        self.authorization: Authorization | None = None
        self._authorizer = authorizer
        self._need = need
        self._account = account
        self._challenges = authorizer.challenges
        self._scopes = need.scopes
        self._rounds = 0
        self._token: Token | None = None

    async def begin(self) -> None:
        """Choose what to send at first.

        Raises:
            AuthenticationError: there is no token to be had.
            LocalFileError: credentials cannot be read.
        """
        self.authorization, self._token = None, None
        if not self._challenges:
            return
        credentials = await self._authorizer.credentials(self._need.repository)
        challenge = _chosen(self._challenges, credentials)
        if challenge is None:
            return
        origin = self._authorizer.origin
        if challenge.scheme == BASIC and credentials is not None:
            self.authorization = Authorization.basic(origin, credentials)
            return
        wallet = self._authorizer.wallet(credentials, challenge)
        self._token = await wallet.token(self._scopes, self._account)
        self.authorization = Authorization(origin, f"Bearer {self._token.value}")

    def is_challenge(self, status: int, headers: Mapping[str, str]) -> bool:
        """Tell whether an answer asks who is there, or for a better token than came."""
        if status == HTTPStatus.UNAUTHORIZED:
            return True
        if status != HTTPStatus.FORBIDDEN or self._token is None:
            return False
        # As RFC 6750 has it (3.1); and then it is only worth a try where more can be asked for.
        bearer = _bearer(headers)
        return bearer.get("error") == _INSUFFICIENT and not covers(self._token.scopes, _scopes(bearer))

    async def renew(self, answer: Answer) -> None:
        """Choose something else to send, after a challenge.

        Raises:
            AuthenticationError: there is nothing else.
            LocalFileError: credentials cannot be read.
        """
        self._rounds += 1
        self._challenges = await self._authorizer.learn(
            answer.headers.get("WWW-Authenticate", ""), self._account
        )
        bearer, sent, token = _bearer(answer.headers), self.authorization, self._token
        # Some services look at the first scope alone: let it be the one that was lacking.
        self._scopes = merged(_scopes(bearer), token.scopes if token else self._scopes)
        if token is not None and covers(token.scopes, self._scopes):
            # A token that came after a challenge and is still not enough will not be better next time,
            # unless others have used it up.
            if self._rounds > 1 and bearer.get("error") != _INVALID:
                raise await self._refused(answer)
            self._authorizer.drop(token)
        await self.begin()
        if self._rounds > MAX_ROUNDS or self.authorization in (None, sent):
            raise await self._refused(answer)

    async def _refused(self, answer: Answer) -> AuthenticationError:
        credentials = await self._authorizer.credentials(self._need.repository)
        refused = refusal(answer)
        return AuthenticationError(
            refused.message, hint=whence(credentials), status=refused.status, codes=refused.codes
        )


def _chosen(challenges: tuple[Challenge, ...], credentials: Credentials | None) -> Challenge | None:
    """Return the first challenge that can be met."""
    for challenge in challenges:
        if challenge.scheme == BEARER and challenge.parameters.get("realm"):
            return challenge
        if challenge.scheme == BASIC and credentials is not None and credentials.password:
            return challenge
    return None


def _bearer(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the parameters of the first Bearer challenge; none where there is none."""
    challenges = parse_challenges(headers.get("WWW-Authenticate", ""))
    return next((each.parameters for each in challenges if each.scheme == BEARER), {})


def _scopes(bearer: Mapping[str, str]) -> Scopes:
    return parse_scopes(bearer.get("scope", ""))
