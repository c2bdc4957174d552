"""What a token service says, as real ones word it.

Owns the documents. Must not know who gets a token.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mock_registry.asgi import Headers
from mock_registry.exchange import Response
from mock_registry.spec import ErrorCode, Fault

from .scope import Scope

_HEADERS: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """How a token is handed over; each default is what clients can read best.

    Attributes:
        names: Names that the token stands under: ``token``, ``access_token`` or both.
        expires_in: Say how long it is good; else clients assume 60 seconds.
        claimed_seconds: Say this instead of the truth.
        issued_at: Say when it was made.
        clock_skew: Seconds that this moment is ahead of the truth, or behind if negative.
    """

    names: tuple[str, ...] = ("token", "access_token")
    expires_in: bool = True
    claimed_seconds: int | None = None
    issued_at: bool = True
    clock_skew: float = 0.0

    def response(
        self,
        token: str,
        *,
        seconds: float,
        scopes: Iterable[Scope] | None = None,
        refresh_token: str | None = None,
    ) -> Response:
        """Return the answer that hands over a token.

        Args:
            token: The token.
            seconds: How long it is good.
            scopes: What for, where the protocol has a place to say so.
            refresh_token: Handed over with it.
        """
        document: dict[str, object] = dict.fromkeys(self.names, token)
        if self.expires_in:
            document["expires_in"] = int(seconds) if self.claimed_seconds is None else self.claimed_seconds
        if self.issued_at:
            moment = datetime.now(UTC) + timedelta(seconds=self.clock_skew)
            document["issued_at"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        if scopes is not None:
            document["scope"] = " ".join(map(str, scopes))
        if refresh_token is not None:
            document["refresh_token"] = refresh_token
        return Response(200, list(_HEADERS), json.dumps(document).encode())


def oauth2_error(code: str, message: str, status: int = 400) -> Response:
    """Return the answer to a form that gets no token (RFC 6749, 5.2), readable as a registry's error too."""
    document = {
        "error": code,
        "error_description": message,
        "errors": [Fault(ErrorCode.UNAUTHORIZED, message).document()],
    }
    return Response(status, list(_HEADERS), json.dumps(document).encode())
