"""References: how users name an image in a registry (distribution-spec, "Pulling manifests").

The grammar of names, tags and digests is the specification's; the defaults (`docker.io`, `library/`,
`latest`) are docker's, since that is what people type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from regsim.core.descriptor import Digest
from regsim.errors import InvalidReferenceError

MAX_NAME = 255
DEFAULT_TAG = "latest"
DEFAULT_HOST = "docker.io"

# Other names of the hub. Docker reads the first as `docker.io`; the second is where the hub's registry
# answers. To all of them belongs the same content, and one set of credentials.
_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
# Docker takes such a name for the ID of an image on this machine.
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
_MAX_PORT = 65_535
_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)
# The whole address: 127.example.com may be any host.
_LOOPBACK = re.compile(r"127(?:\.[0-9]{1,3}){3}")


def check_repository(name: str) -> str:
    """Return `name` if it is a repository name.

    Raises:
        InvalidReferenceError: it is not one.
    """
    if _NAME.fullmatch(name) is None or len(name) > MAX_NAME:
        hint = "repository names are lower case" if name != name.lower() else "such as library/golang"
        raise InvalidReferenceError(f"not a repository name: {name[:300]!r}", hint=hint)
    return name


def check_tag(tag: str) -> str:
    """Return `tag` if it is a tag.

    Raises:
        InvalidReferenceError: it is not one.
    """
    if _TAG.fullmatch(tag) is None:
        raise InvalidReferenceError(
            f"not a tag: {tag[:160]!r}", hint="letters, digits, '_', '.' and '-', at most 128 of them"
        )
    return tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A repository of a registry, and a tag, a digest or both.

    Where both are given the digest decides what is pulled. `host` carries the port.
    """

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, *, default_host: str = DEFAULT_HOST) -> Reference:
        """Read `[host[:port]/]repository[:tag][@digest]`; without tag and digest the tag is `latest`.

        As docker reads it: without a host it is `default_host`, and of `docker.io`, whose other names are
        read as that one, a name of one part means `library/` of it.

        Raises:
            InvalidReferenceError: the text has another shape.
        """
        rest, _, digest_text = text.partition("@")
        digest = Digest(digest_text) if digest_text or "@" in text else None
        head, slash, tail = rest.rpartition("/")
        last, colon, tag = tail.partition(":")
        host, repository = _split_host(f"{head}{slash}{last}", default_host)
        if host == DEFAULT_HOST and "/" not in repository:
            if _IDENTIFIER.fullmatch(repository):
                raise InvalidReferenceError(
                    f"not a repository name: {repository!r}",
                    hint="docker reads 64 hexadecimal digits as an image's ID; a digest is @sha256:…",
                )
            repository = f"library/{repository}"
        if colon:
            check_tag(tag)
        return cls(
            host=host,
            repository=check_repository(repository),
            tag=tag if colon else (None if digest else DEFAULT_TAG),
            digest=digest,
        )

    @property
    def familiar(self) -> str:
        """The name as docker prints it: without `docker.io` and `library/`, and without a digest."""
        name = f"{self.host}/{self.repository}"
        if self.host == DEFAULT_HOST:
            short = self.repository.removeprefix("library/")
            # Kept where the rest alone would be read as something else.
            repository = self.repository if "/" in short or _IDENTIFIER.fullmatch(short) else short
            name = name if _names_host(repository) else repository
        return f"{name}:{self.tag}" if self.tag else name

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"


def _split_host(text: str, default_host: str) -> tuple[str, str]:
    first, _, rest = text.partition("/")
    if _names_host(text):
        match = _HOST.fullmatch(first)
        if match is None or int(match["port"] or 0) > _MAX_PORT:
            raise InvalidReferenceError(f"not a registry host: {first[:300]!r}")
        return (DEFAULT_HOST if first.lower() in _HUB else first), rest
    return default_host, text


def _names_host(text: str) -> bool:
    # docker's rule: the first part is a host if it could not be the first part of a name on the hub.
    first, slash, _ = text.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost" or first != first.lower())


def is_loopback(host: str) -> bool:
    """Tell whether `host[:port]` is this machine, where plain HTTP needs no asking."""
    name = urlsplit(f"//{host}").hostname or ""
    return name in ("localhost", "::1") or _LOOPBACK.fullmatch(name) is not None
