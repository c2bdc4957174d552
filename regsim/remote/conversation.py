"""One repository's side of the conversation: its paths, and requests that are asked until answered.

Owns how targets are spelled and how a request is repeated. Must not know what the answers mean.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.oci import Digest
from regsim.oci.reference import check_tag
from regsim.remote.answer import MAX_ERROR_BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from regsim.remote.account import Account
    from regsim.remote.answer import Answer, Body
    from regsim.remote.retry import Patience
    from regsim.remote.transport import Transport


def log_warning(message: str) -> None:
    """Tell the log, where nobody else wants to be told."""
    logging.getLogger("regsim.remote").warning("%s", message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What every request to a repository needs.

    Attributes:
        transport: to its registry.
        name: the repository's, checked.
        patience: for requests that may be repeated without harm.
        warn: told what the user should know though the work goes on.
    """

    transport: Transport
    name: str
    patience: Patience
    warn: Callable[[str], None] = log_warning

    def blob(self, digest: Digest) -> str:
        """Return the target of a blob (end-2, end-10)."""
        return f"/v2/{self.name}/blobs/{digest}"

    def manifest(self, reference: str) -> str:
        """Return the target of a manifest by tag or digest (end-3, end-7, end-9).

        Raises:
            InvalidReferenceError: it is neither.
        """
        checked = Digest(reference) if ":" in reference else check_tag(reference)
        return f"/v2/{self.name}/manifests/{checked}"

    @property
    def uploads(self) -> str:
        """The target that opens upload sessions (end-4a, end-11)."""
        return f"/v2/{self.name}/blobs/uploads/"

    @property
    def tags(self) -> str:
        """The target that lists tags (end-8)."""
        return f"/v2/{self.name}/tags/list"

    def referrers(self, subject: Digest) -> str:
        """The target that lists what refers to a manifest (end-12)."""
        return f"/v2/{self.name}/referrers/{subject}"

    async def ask(
        self,
        method: str,
        target: str,
        account: Account,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        content: bool = False,
        limit: int = MAX_ERROR_BODY,
    ) -> Answer:
        """Send a request that may be repeated, and repeat it while there is patience.

        Raises:
            NetworkError: no try got a whole answer.
            RegistryError: the last try's answer was still one that asks to come back.
        """

        async def send() -> Answer:
            return await self.transport.request(
                method, target, account, headers=headers, body=body, content=content, limit=limit
            )

        return await self.patience.ask(send)
