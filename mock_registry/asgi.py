"""The ASGI 3 vocabulary shared by the app, the server and the in-process transport.

Owns names, not behaviour. Must not know what a registry is.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Names in lower case, in the order of the wire; a name may stand more than once."""

ZERO_COPY = "http.response.zerocopysend"
"""The ASGI extension by which a server sends a stretch of a file without copying it through Python."""

ANSWER = "mock_registry.answer"
"""Key of an ``http.disconnect`` message: the status to answer with, when the peer can still read one.

Our own server sets it for a peer that closed only its sending half (400) or stopped sending (408).
"""

SCARCE = "mock_registry.scarce"
"""Key of an ``http.request`` message: memory is scarce, so that the app should use what it has before it asks
for more, rather than gather. Our own server sets it.
"""


SEVER = "mock_registry.sever"
"""An extension, and the event by which an app ends the connection in the middle of what it does.

``reset`` tells with what: a reset, when the peer has all that was handed over before; or a FIN. `PeerGone`
then tells what of it did not arrive.
"""


GONE = "mock_registry.gone"
"""An extension, and the event whose ``send()`` returns when the peer has gone, without taking of its body."""


class PeerGone(OSError):  # noqa: N818 (it tells what the peer did, which need not be an error)
    """Raised by ``send()`` when the peer no longer reads.

    ASGI 2.4 asks for an ``OSError`` here. ``unsent`` counts those body bytes of the refused message that
    certainly never left this side; where the socket cannot tell, it stays 0.
    """

    def __init__(self, unsent: int = 0) -> None:
        super().__init__("the peer closed the connection")
        self.unsent = unsent
