"""The flags of every command that connects to registries: how to connect, and with which credentials.

Reads no credentials but those on the command line: others are looked up when a registry asks for them.
"""

from __future__ import annotations

import getpass
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from regsim.cli.output import Printing
from regsim.errors import UsageError
from regsim.net.address import Proxy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regsim.registry import Connection
    from regsim.registry.login import Credentials, Keychain


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, repr=False)
class Connecting:
    """How to connect to registries.

    Attributes:
        creds: USER[:PASSWORD] at the registry; a missing password is read from the terminal.
        authfile: file with credentials, in place of those of podman, skopeo and docker.
        plain_http: use plain HTTP, or never; by default only to this machine, unless certificates are named.
        tls_verify: check the registry's certificate.
        ca_file: PEM file with additional certificates to trust.
        cert_dir: folder with certificates to trust too (*.crt), and client certificates (*.cert, *.key).
        proxy: HTTP proxy to use: http://[USER:PASSWORD@]HOST[:PORT]; proxies of the environment are ignored.
    """

    creds: str | None = None
    authfile: Path | None = None
    plain_http: bool | None = None
    tls_verify: Annotated[bool, Parameter(negative=("--no-tls-verify", "--insecure"))] = True
    ca_file: Path | None = None
    cert_dir: Path | None = None
    proxy: str | None = None

    def connection(self, *hosts: str, creds: Mapping[str, str] | None = None) -> Connection:
        """Return how to connect as these flags say.

        Args:
            hosts: of the registries that the command speaks to.
            creds: credentials from further flags, by host.

        Raises:
            UsageError, LocalFileError: the flags contradict each other, or a file that they name is unusable.
        """
        from regsim.net.trust import Trust  # noqa: PLC0415  (a model run has the flags and no registry)
        from regsim.registry import Connection  # noqa: PLC0415  (as above)

        # Registries on this machine rarely speak TLS, except if certificates for them are named.
        named = self.ca_file is not None or self.cert_dir is not None
        trust = Trust(verify=self.tls_verify, ca_file=self.ca_file, cert_dir=self.cert_dir)
        trust.check()
        return Connection(
            plain_http=False if self.plain_http is None and named else self.plain_http,
            trust=trust,
            keychain=self._keychain(hosts, creds or {}),
            proxy=None if self.proxy is None else Proxy.parse(self.proxy),
        )

    def _keychain(self, hosts: tuple[str, ...], creds: Mapping[str, str]) -> Keychain:
        from regsim.registry.login import AuthFiles, FixedKeychain  # noqa: PLC0415  (as in `connection`)

        files = AuthFiles(os.environ, self.authfile)
        files.check()
        given = dict(creds)
        if self.creds is not None:
            left = sorted({*hosts} - {*given})
            if len(left) != 1:
                raise UsageError(
                    f"--creds are for one registry, not for {' and '.join(left) or 'none'}",
                    hint="log in with docker, podman or skopeo instead, or use --authfile",
                )
            given[left[0]] = self.creds
        return FixedKeychain({host: read_credentials(text) for host, text in given.items()}, otherwise=files)


CONNECTING = Connecting()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True, repr=False)
class Asking(Connecting, Printing):
    """How to connect to registries, and how an answer is printed."""


ASKING = Asking()


def read_credentials(text: str) -> Credentials:
    """Read `USER[:PASSWORD]`; a missing password is read from the terminal.

    Raises:
        UsageError: the text has another form, or there is no terminal.
    """
    from regsim.registry.login import Credentials  # noqa: PLC0415  (as in `Connecting.connection`)

    user, colon, _ = text.partition(":")
    if user and not colon:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(
                "credentials without a password, and there is no terminal to ask for it",
                hint="write USER:PASSWORD",
            )
        text = f"{user}:{getpass.getpass(f'Password of {user}: ')}"
    return Credentials.parse(text, source="the command line")
