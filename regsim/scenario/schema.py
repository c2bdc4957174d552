"""A scenario as its file writes it, and its JSON Schema.

Owns the top of the format (DESIGN 8, *contract*), its registry and its nodes: a profile and the faults of the
mock registry are judged in its own words while a file is read. Must not know YAML syntax or how a scenario
runs; names that refer to other parts of a file are gathered while it is read, and judged in `names.py`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic.json_schema import GenerateJsonSchema

from regsim.core.holdings import SkipRule
from regsim.core.reference import is_loopback
from regsim.core.result import Mode
from regsim.core.suggest import did_you_mean
from regsim.errors import UsageError
from regsim.scenario.checks import CONDITION_PATTERN, Condition, parse_condition
from regsim.scenario.fields import NUMBER, Mapped, Several, Written, beside, choice, free_text, key, word
from regsim.scenario.schema_container import NODE_NAME
from regsim.scenario.schema_image import IMAGE_NAME, ImageSpec
from regsim.scenario.schema_step import Step
from regsim.scenario.yaml_document import Scalar

if TYPE_CHECKING:
    from pydantic_core import core_schema

    from regsim.scenario.fields import JsonSchema
    from regsim.scenario.reader import Reader
    from regsim.scenario.yaml_document import Entries, YamlNode

MAX_COUNT = 1_000_000
MAX_PARALLEL = 256

# --- registries -----------------------------------------------------------------------------------------

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


# --- nodes ----------------------------------------------------------------------------------------------


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
        """How many layers this client moves at once unless it is configured."""
        return {Client.REGSIM: 4, Client.DOCKER: 3, Client.CONTAINERD: 3, Client.PODMAN: 6}[self]


def _store(text: str) -> Path:
    scheme, _, directory = text.partition(":")
    if scheme != "oci" or not directory or "\0" in directory:
        raise UsageError(f'not a store: "{text[:160]}"', hint="write oci:DIR, such as oci:./pulled")
    return Path(directory)


_STORE = Written(noun="oci:DIR", parse=_store, schema={"type": "string", "pattern": "^oci:.+$"})


class NodeSpec(Mapped):
    """One machine, or `count` equal ones.

    Attributes:
        name: its key.
        count: how many; None for a single node with its plain name.
        skip: which layers it need not pull.
        parallel: how many layers it moves at once.
        store: the OCI layout that keeps what it pulls; None remembers digests and drops the bytes.
    """

    noun = "a node"
    reserved = ("link",)

    name: str = ""
    count: Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT), NUMBER] | None = key(
        "How many equal nodes; they are called NAME-1, NAME-2 and so on",
        absent="one node called NAME",
        default=None,
    )
    client: Client = key(
        "Whose habits it has; sets skip and parallel", absent="regsim", default=Client.REGSIM
    )
    skip: SkipRule = key(
        "What it need not pull: any layer it holds (blob), or an unbroken run from the base (chain)",
        absent="the client's: chain for docker, else blob",
        default=SkipRule.BLOB,
    )
    parallel: Annotated[int, Field(strict=True, ge=1, le=MAX_PARALLEL), NUMBER] = key(
        "How many layers it moves at once",
        absent="the client's: regsim 4, docker 3, containerd 3, podman 6",
        default=Client.REGSIM.parallel,
    )
    store: Annotated[Path, _STORE, AfterValidator(beside)] | None = key(
        "The OCI layout that keeps what it pulls, relative to the scenario file",
        absent="it remembers digests and drops bytes after hashing them",
        default=None,
    )

    def finish(self, entries: Entries, reader: Reader) -> Self:
        """Take the client's habits where others are not written."""
        if self.store is not None and self.count is not None:
            where = entries.key_at("store")
            reader.problems.add(where, "several nodes cannot share one store", 'remove "count" or "store"')
        habits = {"skip": self.client.skip, "parallel": self.client.parallel}
        return self.model_copy(update={name: habits[name] for name in habits if name not in entries})

    def members(self) -> tuple[str, ...]:
        """Return the name of each machine: `ci` alone, or `edge-1` to `edge-20`."""
        if self.count is None:
            return (self.name,)
        return tuple(f"{self.name}-{number}" for number in range(1, self.count + 1))


# --- the whole ------------------------------------------------------------------------------------------


_CHECK = Written(
    noun="a check",
    parse=parse_condition,
    schema={"type": "string", "pattern": CONDITION_PATTERN},
    mentions="check",
)
Checks: TypeAlias = Annotated[tuple[Annotated[Condition, _CHECK], ...], Several("a list of checks")]


class Scenario(Mapped):
    """A whole scenario. Every name in it refers to something that it holds.

    `path` is the file, to which relative paths in it relate.
    """

    noun = "a scenario"
    reserved = ("registries",)

    path: Path = Path()
    name: Annotated[str, free_text("a name")] = key(
        "What reports call it", absent="the file's name", default=""
    )
    description: Annotated[str, free_text("a description")] = key(
        "The question that it answers", absent="none", default=""
    )
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1), NUMBER] = key(
        "Decides the bytes of synthetic layers, and all chance in faults", absent="0", default=0
    )
    registry: RegistrySpec = key(
        "Where images go: mock, a URL, or a mapping", absent="mock", default=RegistrySpec(mock=MockSpec())
    )
    images: Annotated[
        dict[Annotated[str, IMAGE_NAME], ImageSpec], Several("a mapping of names to images")
    ] = key("The images, by names of the scenario's own", absent="none", default={})
    nodes: Annotated[dict[Annotated[str, NODE_NAME], NodeSpec], Several("a mapping of names to nodes", 1)] = (
        key("The machines that push and pull", absent="one, called node", default={})
    )
    steps: Annotated[tuple[Step, ...], Several("a list of steps", 1)] = key("What happens, in order")
    checks: Checks = key(
        "What must hold in the end, such as saved_ratio(step 2) >= 0.9", absent="none", default=()
    )
    modes: Annotated[tuple[Mode, ...], Several("a list of modes", 1)] = key(
        "The fidelities that it may run in", absent="all", default=tuple(Mode)
    )


# --- the JSON Schema ------------------------------------------------------------------------------------


class _SchemaMaker(GenerateJsonSchema):
    """Writes JSON Schema without titles, defaults, and the nulls that stand for absent keys."""

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchema:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchema:
        return self.generate_inner(schema["schema"])

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchema:
        return {"type": "string", "enum": [str(member) for member in schema["members"]]}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchema:
        names, values = schema["keys_schema"], schema["values_schema"]
        return {
            "type": "object",
            "propertyNames": self.generate_inner(names),
            "additionalProperties": self.generate_inner(values),
        }


def json_schema() -> JsonSchema:
    """Return the JSON Schema (draft-07) of scenario files, a description at every key."""
    made = Scenario.model_json_schema(schema_generator=_SchemaMaker, ref_template="#/definitions/{model}")
    definitions = made.pop("$defs")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "regsim scenario",
        "description": "Images, nodes and steps whose transfers regsim runs and accounts for.",
        **made,
        "definitions": definitions,
    }
