"""A scenario as its file writes it, and its JSON Schema.

Owns the top of the format (DESIGN 8, *contract*) and its nodes. Must not know YAML syntax or how a scenario
runs; names that refer to other parts of a file are gathered while it is read, and judged in `names.py`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, Field
from pydantic.json_schema import GenerateJsonSchema

from regsim.core.holdings import SkipRule
from regsim.core.result import Mode
from regsim.errors import UsageError
from regsim.scenario.checks import CONDITION_PATTERN, Condition, parse_condition
from regsim.scenario.fields import NUMBER, JsonSchema, Mapped, Several, Written, beside, free_text, key
from regsim.scenario.schema_container import NODE_NAME
from regsim.scenario.schema_image import IMAGE_NAME, ImageSpec
from regsim.scenario.schema_registry import MockSpec, RegistrySpec
from regsim.scenario.schema_step import Step

if TYPE_CHECKING:
    from pydantic_core import core_schema

    from regsim.scenario.reader import Reader
    from regsim.scenario.yaml_document import Entries

MAX_COUNT = 1_000_000
MAX_PARALLEL = 256

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
