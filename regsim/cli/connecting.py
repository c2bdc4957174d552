"""What every command that speaks to registries has in common: how to connect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regsim.cli.output import status

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.client.client import Client


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Connecting:
    """How to speak to registries.

    Attributes:
        plain_http: speak plain HTTP to a registry that is not on this machine.
        tls_verify: check the registry's certificate.
    """

    plain_http: Annotated[bool, Parameter(negative=())] = False
    tls_verify: bool = True

    def client(self, *, jobs: int | None = None, warn: Callable[[str], None] = status) -> Client:
        """Return a client that connects so.

        Args:
            jobs: blobs that a transfer moves at the same time; None: as many as usual.
            warn: is told what the user should know though the work goes on.
        """
        from regsim.client.client import Client  # noqa: PLC0415  (helping needs no HTTP client)
        from regsim.transfer.copy import DEFAULT_JOBS  # noqa: PLC0415  (likewise)

        return Client(
            jobs=DEFAULT_JOBS if jobs is None else jobs,
            plain_http=self.plain_http,
            tls_verify=self.tls_verify,
            warn=warn,
        )
