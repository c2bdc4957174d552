"""Certificates of the server, given or made on the spot.

Owns the server's certificate and key, and what clients need to trust it. The only importer of trustme. Must
not know of connections.
"""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import MissingPackageError

SELF_SIGNED = "self-signed"
"""Asks for a certificate made on the spot."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class CertificateError(ValueError):
    """Files that are not a certificate with its key."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate and its key, as PEM files.

    Attributes:
        certificate: The server's own, then those between it and the authority.
        key: Its private key, without a password.
        ca: The authority that clients must trust; by default the certificate itself, which is right for one
            that is self-signed.
    """

    certificate: str | os.PathLike[str]
    key: str | os.PathLike[str]
    ca: str | os.PathLike[str] | None = None

    @classmethod
    def parse(cls, text: str) -> "Certificate | str":
        """Read what a command line says: ``self-signed``, or ``CERT,KEY``.

        Raises:
            CertificateError: It says neither.
        """
        if text == SELF_SIGNED:
            return text
        certificate, comma, key = text.partition(",")
        if not (certificate and comma and key):
            raise CertificateError(f"neither {SELF_SIGNED} nor CERT,KEY: {text!r}")
        return cls(certificate, key)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server proves who it is with.

    Attributes:
        context: For its side of each connection.
        ca: File that clients can check it by.
    """

    context: ssl.SSLContext
    ca: Path


@contextmanager
def identity(tls: Certificate | str | None, host: str) -> Iterator[Identity | None]:
    """Load a certificate, or make one that is good for ``host`` and this machine's loopback names.

    One that was made lasts as long as the block: its files are in a temporary directory. The authority is
    alone in its folder under the name ``ca.crt``, so that the folder can be given to clients that want one
    (such as skopeo's ``--cert-dir``); its key is nowhere.

    Raises:
        CertificateError: The files are no certificate with its key.
        MissingPackageError: One is to be made, and trustme is not installed.
        OSError: The files cannot be read.
    """
    if tls is None:
        yield None
    elif isinstance(tls, Certificate):
        yield _load(tls)
    elif tls == SELF_SIGNED:
        with tempfile.TemporaryDirectory(prefix="mock-registry-tls-") as directory:
            yield _load(_make(Path(directory), host))
    else:
        raise CertificateError(f"neither a Certificate nor {SELF_SIGNED!r}: {tls!r}")


def _load(certificate: Certificate) -> Identity:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    paths = os.fspath(certificate.certificate), os.fspath(certificate.key)
    for path in paths:
        with Path(path).open("rb"):  # ssl would not say which file is missing
            pass
    try:
        context.load_cert_chain(*paths, password=_refuse_to_ask)
    except ssl.SSLError as error:
        raise CertificateError(
            f"{paths[0]} and {paths[1]} are no certificate with its key: {error.reason or error}"
        ) from error
    return Identity(context, Path(certificate.ca or certificate.certificate))


def _refuse_to_ask() -> str:
    """Stand in for the prompt that OpenSSL would show for a key with a password."""
    raise CertificateError("the key has a password")


def _make(directory: Path, host: str) -> Certificate:
    try:
        import trustme  # noqa: PLC0415 (an extra, which given files do not need)
    except ImportError as error:
        raise MissingPackageError("trustme", "a certificate made on the spot") from error
    authority = trustme.CA(organization_name="mock registry")
    leaf = authority.issue_cert(*dict.fromkeys((*_LOOPBACK, host)), organization_name="mock registry")
    made = Certificate(directory / "server.crt", directory / "server.key", directory / "ca" / "ca.crt")
    (directory / "ca").mkdir()
    authority.cert_pem.write_to_path(directory / "ca" / "ca.crt")
    for number, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(directory / "server.crt", append=number > 0)
    leaf.private_key_pem.write_to_path(directory / "server.key")
    return made
