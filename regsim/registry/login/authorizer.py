"""Answering a registry's challenges: which credentials go with a request, and what follows a 401.

Owns what is remembered of one registry: its challenges, the credentials for it, and its token services. Must
not know repositories, content, or how requests are sent.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from regsim.errors import AuthenticationError, RegsimError
from regsim.net.address import origin
from regsim.registry.answer import refusal
from regsim.registry.login.challenge import (
    Challenge,
    Need,
    Scopes,
    covers,
    merged,
    parse_challenges,
    parse_scopes,
)
from regsim.registry.login.credentials import (
    Anonymous,
    Credentials,
    Keychain,
    normal_host,
    refusal_hint,
)
from regsim.registry.login.token_service import Authorization, Token, TokenService, realm_url
from regsim.registry.retry import Patience

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regsim.core.account import Account
    from regsim.registry.answer import Answer
    from regsim.registry.login.token_service import Ask

_BASIC, _BEARER = "basic", "bearer"
# Other requests may use up a token for one use before this one does; but a registry that refuses every token
# must not be asked forever.
MAX_ROUNDS = 8
# If a registry names another token service each time, the oldest are forgotten.
MAX_SERVICES = 32
_INSUFFICIENT, _INVALID = "insufficient_scope", "invalid_token"


class Authorizer:
    """What is known about logging in at one registry.

    Args:
        host: of the registry, as references name it, or a URL of it.
        base: its URL, `scheme://host[:port]`.
        ask: sends a request with the credentials that it is given, and no others.
        keychain: finds credentials; None: there are none.
        patience: for token services; None: three retries.
    """

    def __init__(
        self,
        host: str,
        base: str,
        ask: Ask,
        *,
        keychain: Keychain | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.origin = origin(base)
        self.challenges: tuple[Challenge, ...] = ()
        self._host, self._base, self._ask = normal_host(host), base, ask
        self._keychain, self._patience = keychain or Anonymous(), patience or Patience()
        self._base_challenges: tuple[Challenge, ...] | None = None
        self._credentials: dict[str | None, Credentials | None] = {}
        self._services: dict[tuple[Credentials | None, str, str], TokenService] = {}

    async def learn(self, header: str, account: Account) -> tuple[Challenge, ...]:
        """Return the challenges of a 401 that can be met; if it has none, those of earlier answers.

        Raises:
            AuthenticationError: it has only challenges that regsim does not know.
        """
        found = parse_challenges(header)
        if not found and not self.challenges:
            # Some registries (gcr) send it from the base alone.
            if self._base_challenges is None:
                # If that fails, the refusal that led here says more.
                with suppress(RegsimError):
                    answer = await self._ask("GET", f"{self._base}/v2/", account)
                    self._base_challenges = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
            found = self._base_challenges or ()
        known = tuple(each for each in found if each.scheme in (_BASIC, _BEARER))
        if found and not known:
            offered = ", ".join(each.scheme for each in found)
            raise AuthenticationError(f"{self._host} offers no login that regsim knows: {offered:.100}")
        self.challenges = known or self.challenges
        return self.challenges

    async def credentials(self, repository: str | None) -> Credentials | None:
        """Return the credentials for a repository; they are looked up once."""
        if repository not in self._credentials:
            self._credentials[repository] = await self._keychain.find(self._host, repository)
        return self._credentials[repository]

    def token_service(self, credentials: Credentials | None, challenge: Challenge) -> TokenService:
        """Return the token service of a challenge, with the tokens that one user holds from it.

        Raises:
            AuthenticationError: nothing may be sent to that service.
        """
        realm, name = challenge.parameters["realm"], challenge.parameters.get("service", "")
        key = credentials, realm, name
        if key not in self._services:
            url = realm_url(self.origin, realm, secret=credentials is not None)
            if len(self._services) >= MAX_SERVICES:
                del self._services[next(iter(self._services))]
            self._services[key] = TokenService(url, name, credentials, ask=self._ask, patience=self._patience)
        return self._services[key]


class Login:
    """The login of one request, through all its tries.

    Args:
        authorizer: of the registry.
        need: what the request needs.
        account: is charged for further requests.

    Attributes:
        authorization: to send; None if no credentials are known to be needed.
    """

    def __init__(self, authorizer: Authorizer, need: Need, account: Account) -> None:
        self.authorization: Authorization | None = None
        self._authorizer, self._need, self._account = authorizer, need, account
        self._challenges = authorizer.challenges
        self._scopes = need.scopes
        self._rounds = 0
        self._token: Token | None = None
        self._service: TokenService | None = None

    async def begin(self) -> None:
        """Choose what to send first.

        Raises:
            AuthenticationError: there is no token.
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
        if challenge.scheme == _BASIC and credentials is not None:
            self.authorization = Authorization.basic(origin, credentials)
            return
        self._service = self._authorizer.token_service(credentials, challenge)
        self._token = await self._service.token(self._scopes, self._account)
        self.authorization = Authorization(origin, f"Bearer {self._token.value}")

    def is_challenge(self, status: int, headers: Mapping[str, str]) -> bool:
        """Return whether an answer requests credentials, or for a better token than was sent."""
        if status == HTTPStatus.UNAUTHORIZED:
            return True
        if status != HTTPStatus.FORBIDDEN or self._token is None:
            return False
        # RFC 6750, 3.1. Another token only helps if it can have more scopes.
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
        bearer, sent = _bearer(answer.headers), self.authorization
        token, service = self._token, self._service
        # Some services look at the first scope alone: it is the one that was missing.
        self._scopes = merged(_scopes(bearer), token.scopes if token else self._scopes)
        if token is not None and service is not None and covers(token.scopes, self._scopes):
            # A token that came after a challenge and is still not enough will not be better next time,
            # unless other requests have used it up.
            if self._rounds > 1 and bearer.get("error") != _INVALID:
                raise await self._refused(answer)
            service.drop(token)
        await self.begin()
        if self._rounds > MAX_ROUNDS or self.authorization in (None, sent):
            raise await self._refused(answer)

    async def _refused(self, answer: Answer) -> AuthenticationError:
        credentials = await self._authorizer.credentials(self._need.repository)
        refused = refusal(answer)
        return AuthenticationError(
            refused.message, hint=refusal_hint(credentials), status=refused.status, codes=refused.codes
        )


def _chosen(challenges: tuple[Challenge, ...], credentials: Credentials | None) -> Challenge | None:
    """Return the first challenge that can be met."""
    for challenge in challenges:
        if challenge.scheme == _BEARER and challenge.parameters.get("realm"):
            return challenge
        if challenge.scheme == _BASIC and credentials is not None and credentials.password:
            return challenge
    return None


def _bearer(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the parameters of the first Bearer challenge, if there is one."""
    challenges = parse_challenges(headers.get("WWW-Authenticate", ""))
    return next((each.parameters for each in challenges if each.scheme == _BEARER), {})


def _scopes(bearer: Mapping[str, str]) -> Scopes:
    return parse_scopes(bearer.get("scope", ""))
