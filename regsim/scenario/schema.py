"""What a scenario is once it has been read: values, with every default filled in.

Owns the domain of a scenario file. Must not know YAML, positions or how a scenario runs. The words of the
enumerations are those written in files; `format.py` says how each value is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, TypeAlias
from urllib.parse import urlsplit

from regsim.core import Reference
from regsim.core.reference import check_repository
from regsim.core.result import Mode
from regsim.core.suggest import did_you_mean
from regsim.errors import UsageError
from regsim.scenario.schema_container import Seen
from regsim.store.memory import SkipRule

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from regsim.core import Digest, Platform
    from regsim.image.builder.effects import Effect
    from regsim.scenario.checks import Comparison, Condition
    from regsim.scenario.schema_container import Doing

DEFAULT_NODE = "node"
DEFAULT_CONTAINER = "registry:2"

# Stands for the scenario's registry while a reference without host is parsed; no host is written so.
_HERE = ""


class Client(StrEnum):
    """Whose habits a node has."""

    REGSIM = "regsim"
    DOCKER = "docker"
    CONTAINERD = "containerd"
    PODMAN = "podman"

    @property
    def skip(self) -> SkipRule:
        """The skip rule of this client, with its defaults."""
        return SkipRule.CHAIN if self is Client.DOCKER else SkipRule.BLOB

    @property
    def parallel(self) -> int:
        """How many layers this client moves at once when nobody configures it."""
        return {Client.REGSIM: 4, Client.DOCKER: 3, Client.CONTAINERD: 3, Client.PODMAN: 6}[self]


class LayerFormat(StrEnum):
    """How a layer is packed; the words end OCI's media types."""

    GZIP = "tar+gzip"
    TAR = "tar"


# --- registries -----------------------------------------------------------------------------------------


class Login(StrEnum):
    """How a mock registry wants its clients to log in."""

    NONE = "none"
    BASIC = "basic"
    TOKEN = "token"  # noqa: S105  (a word of the file)


@dataclass(frozen=True, slots=True, kw_only=True)
class MockRegistry:
    """The registry that regsim starts on a loopback port.

    Attributes:
        auth: how the nodes log in; they have what it takes.
        profile: the named registry whose ways it has; None for its own.
        faults: how it misbehaves, in the words of `mock_registry.faults`; chance follows from the seed.
    """

    auth: Login = Login.NONE
    profile: str | None = None
    faults: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "mock"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRegistry:
    """A registry that is running already: `http://` or `https://`, a host and perhaps a port."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRegistry:
    """A registry that a container engine starts from an image."""

    image: str = DEFAULT_CONTAINER

    def __str__(self) -> str:
        return f"container:{self.image}"


RegistrySpec: TypeAlias = MockRegistry | RemoteRegistry | ContainerRegistry


def parse_registry(text: str) -> RegistrySpec:
    """Read `mock`, a URL, `container` or `container:IMAGE`, in a file or after `--registry`.

    Raises:
        UsageError: it is none of these.
    """
    if text == "mock":
        return MockRegistry()
    word, colon, image = text.partition(":")
    if word == "container" and (image or not colon):
        return ContainerRegistry(image=image or DEFAULT_CONTAINER)
    if "://" in text:
        return RemoteRegistry(url=_check_url(text))
    hint = did_you_mean(text, ("mock", "container")) if text.isalpha() else f'did you mean "http://{text}"?'
    raise UsageError(f'not a registry: "{text[:80]}"', hint=hint)


def _check_url(text: str) -> str:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise UsageError(f'not a URL: "{text[:80]}"') from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or not text.isprintable():
        raise UsageError(f'not the URL of a registry: "{text[:80]}"', hint="such as http://127.0.0.1:5000")
    if url.username is not None or url.password is not None:
        raise UsageError("a registry's URL holds no user name or password", hint="remove what precedes the @")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise UsageError(f'a registry\'s URL ends after its host and port: "{text[:80]}"')
    return text.rstrip("/")


# --- images ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One synthetic layer.

    Attributes:
        size: bytes of the layer as it travels.
        ratio: uncompressed bytes for each byte that travels; with None the content does not compress.
        files: how many files, or the size in bytes of each path; None for as few as make sense.
        created_by: the instruction in the image's history.
        media_type: how it is packed.
    """

    size: int
    ratio: float | None = None
    files: int | Mapping[str, int] | None = None
    created_by: str | None = None
    media_type: LayerFormat = LayerFormat.GZIP


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticImage:
    """Generated layers, on top of those of another image (`base`, written `from`) if it names one."""

    name: str
    layers: tuple[LayerSpec, ...]
    base: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedImage:
    """A real image's recorded digests, sizes and history."""

    name: str
    record: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutImage:
    """Real content in an OCI layout. `tag` may be left out where the layout holds one image."""

    name: str
    directory: Path
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileImage:
    """An image that is built before the steps begin.

    Attributes:
        dockerfile: the file.
        context: directory that COPY takes files from.
        run: what each RUN leaves behind, by its command.
        build_args: values of ARGs.
        target: name or number of the stage to end with; None for the last one.
    """

    name: str
    dockerfile: Path
    context: Path
    run: Mapping[str, Effect] = field(default_factory=dict)
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiPlatformImage:
    """An index with one image for each platform, in file order."""

    name: str
    platforms: tuple[tuple[Platform, SyntheticImage | RecordedImage], ...]


ImageSpec: TypeAlias = SyntheticImage | RecordedImage | LayoutImage | DockerfileImage | MultiPlatformImage


# --- nodes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One machine, or `count` equal ones.

    Attributes:
        count: how many; None for a single node that goes by its plain name.
        skip: which layers it need not pull.
        parallel: how many layers it moves at once.
        store: the OCI layout that keeps what it pulls; None remembers digests and drops the bytes.
    """

    name: str
    count: int | None = None
    client: Client = Client.REGSIM
    skip: SkipRule = SkipRule.BLOB
    parallel: int = Client.REGSIM.parallel
    store: Path | None = None

    @property
    def size(self) -> int:
        """How many machines this stands for."""
        return 1 if self.count is None else self.count

    def members(self) -> tuple[str, ...]:
        """Return the name of each machine: `ci` alone, or `edge-1` to `edge-20`."""
        if self.count is None:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(1, self.count + 1))


# --- steps ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository and a tag or digest in the scenario's registry, which is known only when it runs."""

    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read `repository[:tag][@digest]`; without tag and digest the tag is `latest`.

        Raises:
            UsageError: it has another shape, or names a registry.
        """
        reference = Reference.parse(text, default_host=_HERE)
        if reference.host != _HERE:
            if reference.host == text.partition("/")[0] and not set(reference.host) & set(".:"):
                check_repository(f"{reference.host}/{reference.repository}")
            raise UsageError(
                f'a step names no registry: "{text[:160]}"',
                hint=f'the registry is the scenario\'s; did you mean "{text.partition("/")[2][:160]}"?',
            )
        return cls(repository=reference.repository, tag=reference.tag, digest=reference.digest)

    @classmethod
    def parse_tag(cls, text: str) -> Place:
        """Read `repository[:tag]`, somewhere to write to.

        Raises:
            UsageError: it has another shape, or names a registry.
        """
        place = cls.parse(text)
        if place.digest is not None:
            raise UsageError(
                f'this names a tag, not a digest: "{text[:160]}"', hint="remove what follows the @"
            )
        return place

    def at(self, host: str, prefix: str = "") -> Reference:
        """Return the full reference on a registry, its repository below `prefix`."""
        repository = f"{prefix.strip('/')}/{self.repository}" if prefix.strip("/") else self.repository
        return Reference(host=host, repository=repository, tag=self.tag, digest=self.digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


class Verb(StrEnum):
    """What a step does."""

    PUSH = "push"
    PULL = "pull"
    COPY = "copy"
    TAG = "tag"
    DELETE = "delete"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """A node pushes an image to a tag."""

    verb: ClassVar[Verb] = Verb.PUSH
    image: str
    to: Place
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """A node, or all of its machines at once, pulls what a tag or digest names."""

    verb: ClassVar[Verb] = Verb.PULL
    reference: Place
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A node copies from one place of the registry (`source`, written `from`) to another."""

    verb: ClassVar[Verb] = Verb.COPY
    source: Place
    to: Place
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """What `reference` names gets one more tag in its repository."""

    verb: ClassVar[Verb] = Verb.TAG
    reference: Place
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """A tag, or the manifest that a digest names, is deleted from the registry."""

    verb: ClassVar[Verb] = Verb.DELETE
    reference: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class InContainer:
    """Something is done with a container on a node; no registry knows of it."""

    verb: ClassVar[Verb] = Verb.CONTAINER
    doing: Doing


Action: TypeAlias = Push | Pull | Copy | Tag | Delete | InContainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What must hold for each node's transfer of a step, or for a container.

    Attributes:
        comparisons: figures over layers, or of a container, in the order of the file.
        error: the error code with which the step must fail; None where it must succeed.
        seen: what looking into a container must show.
    """

    comparisons: tuple[Comparison, ...] = ()
    error: str | None = None
    seen: Seen = field(default_factory=Seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. `number` counts from 1."""

    number: int
    action: Action
    name: str | None = None
    expect: Expect = field(default_factory=Expect)

    @property
    def verb(self) -> Verb:
        """What the step does."""
        return self.action.verb


# --- the whole ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario. Every name in it refers to something that it holds.

    `modes` are the fidelities that it may run in; `path` is the file, to which relative paths in it relate.
    """

    name: str
    description: str = ""
    seed: int = 0
    registry: RegistrySpec = field(default_factory=MockRegistry)
    images: Mapping[str, ImageSpec] = field(default_factory=dict)
    nodes: Mapping[str, NodeSpec] = field(default_factory=dict)
    steps: tuple[Step, ...]
    checks: tuple[Condition, ...] = ()
    modes: tuple[Mode, ...] = tuple(Mode)
    path: Path
