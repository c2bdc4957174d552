"""The registry of a scenario, as its file or `--registry` writes it.

Owns the keys below `registry`, and judging a profile and faults of the mock registry in its own words while a
file is read. Must not know how a registry is started.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Self
from urllib.parse import urlsplit

from regsim.core.reference import is_loopback
from regsim.core.suggest import did_you_mean
from regsim.errors import UsageError
from regsim.scenario.fields import JsonSchema, Mapped, Several, Written, choice, key, word
from regsim.scenario.yaml_document import Scalar, YamlNode

DEFAULT_CONTAINER = "registry:2"

# Written out, since the schema of scenarios needs no server; a test holds them against the registry's own.
PROFILES = ("distribution-2.8", "distribution-3", "olareg", "ggcr", "ecr", "ghcr", "quay", "gitlab", "acr")

_HOST = re.compile(
    r"localhost|[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+|(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}"
)


class Login(StrEnum):
    """How a mock registry wants its clients to log in."""

    NONE = "none"
    BASIC = "basic"
    TOKEN = "token"  # noqa: S105  (a word of the file)


def _fault(text: str) -> str:
    from mock_registry.faults.parsing import FaultError, parse_line  # noqa: PLC0415  (most scenarios have none)

    try:
        parse_line(text)
    except FaultError as error:
        problems = "; ".join(str(each) for each in error.problems)
        hint = "write [METHOD] [ROUTE] [CONDITION=VALUE] EFFECT [VALUE], such as GET blob nth=2 cut 1MB"
        raise UsageError(f"not a fault: {problems}", hint=hint) from None
    return text


class MockSpec(Mapped):
    """The registry that regsim starts on a loopback port.

    Attributes:
        auth: how the nodes log in; they have what it takes.
        profile: the named registry that it behaves like; None for its own behaviour.
        faults: how it misbehaves, in the words of `mock_registry.faults`; chance follows from the seed.
    """

    noun = "the mock registry"

    auth: Login = key("How the nodes log in; they have what it takes", absent="none", default=Login.NONE)
    profile: Annotated[str, choice("a profile", PROFILES, "no profile of the mock registry")] | None = key(
        "The named registry that it behaves like", absent="none: its own behaviour", default=None
    )
    faults: Annotated[
        tuple[Annotated[str, Written(noun="a fault", parse=_fault)], ...], Several("a list of faults")
    ] = key(
        "How it misbehaves, each as after `regsim serve --fault`; chance follows from the seed",
        absent="none",
        default=(),
    )


_IMAGE = word("an image", r"[A-Za-z0-9][A-Za-z0-9_.:/@\-]{0,400}", "such as registry:2")


class RegistrySpec(Mapped):
    """A registry: the mock, a container's image, or the URL of one that is running already."""

    noun = "a registry"
    form = "mock, a URL, or a mapping"
    one_of = ("mock", "container")

    mock: MockSpec | None = key("The registry that regsim starts on a loopback port", default=None)
    container: Annotated[str, _IMAGE] | None = key(
        "The image of a registry that a container engine starts, such as registry:2", default=None
    )
    url: str | None = None

    def __str__(self) -> str:
        if self.container is not None:
            return f"container:{self.container}"
        return self.url or "mock"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `mock`, a URL, `HOST:PORT`, `container` or `container:IMAGE`.

        A host without scheme is spoken to by HTTP if it is a loopback one, else by HTTPS.

        Raises:
            UsageError: it is none of these.
        """
        if text == "mock":
            return cls(mock=MockSpec())
        head, colon, image = text.partition(":")
        if head == "container" and (image or not colon):
            return cls(container=image or DEFAULT_CONTAINER)
        if "@" in text:
            hint = "remove what precedes the @"
            raise UsageError("a registry's URL holds no user name or password", hint=hint)
        if "://" in text:
            return cls(url=_check_url(text))
        if _HOST.fullmatch(text) is not None:
            return cls(url=_check_url(f"{'http' if is_loopback(text) else 'https'}://{text}"))
        raise UsageError(f'not a registry: "{text[:80]}"', hint=did_you_mean(text, ("mock", "container")))

    @classmethod
    def long(cls, node: YamlNode) -> YamlNode | Self:
        """Return the registry that a word or a URL means."""
        if not isinstance(node, Scalar) or node.is_null:
            return node
        spec: Self = Written(noun="mock or a URL", parse=cls.parse).read(node)
        return spec

    @classmethod
    def _short_schema(cls, _properties: JsonSchema) -> JsonSchema:
        return {"type": "string", "minLength": 1}


def _check_url(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise UsageError(f'not a URL: "{text[:80]}"') from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or not text.isprintable():
        raise UsageError(f'not the URL of a registry: "{text[:80]}"', hint="such as http://127.0.0.1:5000")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise UsageError(f'a registry\'s URL ends after its host and port: "{text[:80]}"')
    return text.rstrip("/")
