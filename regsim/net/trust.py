"""Which certificates are trusted, and which are shown to registries.

Owns the making of TLS contexts. Must not know connections, or which registry is asked.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.errors import LocalFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Names in a folder of certificates, as docker, podman and skopeo have them (containers-certs.d).
_AUTHORITY, _OWN, _KEY = ".crt", ".cert", ".key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How certificates are judged.

    Attributes:
        verify: check certificates at all.
        ca_file: PEM file with authorities that are trusted in addition to the system's.
        cert_dir: folder with more of them (`*.crt`), and with certificates of our own (`*.cert`, each with
            its `*.key`) for registries that ask for one.
    """

    verify: bool = True
    ca_file: Path | None = None
    cert_dir: Path | None = None

    def check(self) -> None:
        """Check that the files can be used, before anything is asked.

        Raises:
            LocalFileError: one of them cannot.
        """
        if self.ca_file is not None or self.cert_dir is not None:
            self.extend(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def extend(self, context: ssl.SSLContext) -> None:
        """Let a context trust, and show, what was named here.

        Raises:
            LocalFileError: a file cannot be used.
        """
        authorities = [] if self.ca_file is None else [self.ca_file]
        for file in (*authorities, *_files(self.cert_dir, _AUTHORITY)):
            with _loading(file, "certificates"):
                context.load_verify_locations(file)
        for file in _files(self.cert_dir, _OWN):
            key = file.with_suffix(_KEY)
            if not key.is_file():
                raise LocalFileError(f"there is no {key} to {file}")
            with _loading(file, "a certificate whose key is beside it"):
                # An empty passphrase, or OpenSSL would ask for one at the terminal.
                context.load_cert_chain(file, key, "")


def tls_context(trust: Trust) -> ssl.SSLContext:
    """Return a TLS context that trusts what `trust` names in addition to the system's.

    Raises:
        LocalFileError: a file that `trust` names cannot be used.
    """
    import httpx  # noqa: PLC0415  (naming certificates loads no HTTP client)

    context = httpx.create_ssl_context(verify=trust.verify, trust_env=True)
    if trust.verify:
        # Certificates that an administrator added to the system are trusted, as by docker.
        context.load_default_certs()
    trust.extend(context)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _files(folder: Path | None, suffix: str) -> list[Path]:
    if folder is None:
        return []
    try:
        return sorted(each for each in folder.iterdir() if each.suffix == suffix)
    except OSError as error:
        raise LocalFileError(f"cannot read {folder}: {error.strerror}") from error


@contextmanager
def _loading(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise LocalFileError(f"{file} does not hold {what}", hint="PEM is what is read") from error
    except OSError as error:
        raise LocalFileError(f"cannot read {file}: {error.strerror}") from error
