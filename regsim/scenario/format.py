"""The scenario file as a whole: every key, what it means, what it may hold and what its absence means.

Owns the top of the format (DESIGN 8, *contract*) and what is derived from it: the JSON Schema for editors and
the table of keys in `scenarios/README.md`. Must not know YAML syntax; names that refer to other parts of a
file are gathered while reading, and judged in `names.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regsim.core.result import Mode
from regsim.errors import UsageError
from regsim.scenario.checks import CONDITION_PATTERN, METRICS, Condition, ImageSelector, parse_condition
from regsim.scenario.compound import ByKind, ListOf, MapOf
from regsim.scenario.format_container import CONTAINER_TABLES
from regsim.scenario.format_image import IMAGE, IMAGE_NAME, LAYER, PLATFORM_IMAGE
from regsim.scenario.format_node import MOCK, NODE, NODE_NAME, REGISTRY
from regsim.scenario.format_run import EFFECT, FILE
from regsim.scenario.format_step import EXPECT, SEEN, STEP, VERBS
from regsim.scenario.schema import parse_registry
from regsim.scenario.shapes import (
    Choice,
    Fields,
    JsonSchema,
    Mention,
    Parsed,
    Reader,
    Text,
    Whole,
)
from regsim.scenario.table import AnyTable, Key, Table

if TYPE_CHECKING:
    from regsim.scenario.positions import YamlNode


class _Check:
    """A check. What it selects must be defined elsewhere in the file."""

    noun = "a check"

    def read(self, node: YamlNode, reader: Reader) -> Condition:
        """Return the parsed check."""
        text, where = reader.text(node, self.noun)
        try:
            condition = parse_condition(text)
        except UsageError as error:
            reader.problems.reject(where, error.message, error.hint)
        match condition.selector:
            case None:
                pass
            case ImageSelector(image):
                reader.mentions.append(Mention("selected image", image, where))
            case selector:
                reader.mentions.append(Mention("selected step", str(selector.step), where))
        return condition

    def schema(self) -> JsonSchema:
        """A string of the grammar."""
        return {"type": "string", "pattern": CONDITION_PATTERN}


def _fields(fields: Fields, *_: Any) -> Fields:
    return fields


def _named(name: str | None, spec: Any) -> Any:
    return replace(spec, name=name or "")


SCENARIO: Table[Fields] = Table(
    noun="a scenario",
    keys={
        "name": Key(doc="What reports call it", shape=Text("a name"), default="the file's name"),
        "description": Key(doc="The question that it answers", shape=Text("a description"), default="none"),
        "seed": Key(
            doc="Decides the bytes of synthetic layers, and all chance in faults", shape=Whole(), default="0"
        ),
        "registry": Key(
            doc="Where images go: mock, a URL, or a mapping",
            shape=ByKind(
                noun="mock, a URL, or a mapping",
                scalar=Parsed(noun="mock or a URL", parse=parse_registry),
                entries=REGISTRY,
            ),
            default="mock",
        ),
        "images": Key(
            doc="The images, by names of the scenario's own",
            shape=MapOf(noun="a mapping of names to images", key=IMAGE_NAME, value=IMAGE, build=_named),
            default="none",
        ),
        "nodes": Key(
            doc="The machines that push and pull",
            shape=MapOf(
                noun="a mapping of names to nodes", key=NODE_NAME, value=NODE, build=_named, minimum=1
            ),
            default="one, called node",
        ),
        "steps": Key(
            doc="What happens, in order",
            shape=ListOf(noun="a list of steps", item=STEP, minimum=1),
            required=True,
        ),
        "checks": Key(
            doc="What must hold in the end, such as saved_ratio(step 2) >= 0.9",
            shape=ListOf(noun="a list of checks", item=_Check()),
            default="none",
        ),
        "modes": Key(
            doc="The fidelities that it may run in",
            shape=ListOf(noun="a list of modes", item=Choice(Mode), minimum=1),
            default="all",
        ),
    },
    build=_fields,
    reserved=("registries",),
)


def json_schema() -> JsonSchema:
    """Return the JSON Schema (draft-07) of scenario files, a description at every key."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "regsim scenario",
        "description": "Images, nodes and steps whose transfers regsim runs and accounts for.",
        **SCENARIO.schema(),
    }


SECTIONS: tuple[tuple[str, AnyTable], ...] = (
    ("The file", SCENARIO),
    ("`registry` as a mapping", REGISTRY),
    ("`mock`", MOCK),
    ("An image", IMAGE),
    ("A platform's image", PLATFORM_IMAGE),
    ("A layer", LAYER),
    ("What a command leaves, below `run`", EFFECT),
    ("A file of these", FILE),
    ("A node", NODE),
    ("A step", STEP),
    *((f"`{verb}`", table) for verb, (_, table) in VERBS.items()),
    *CONTAINER_TABLES,
)


def key_tables() -> str:
    """Return the tables of all keys and of the metrics in Markdown, as `scenarios/README.md` has them."""
    parts = [_key_table(title, table) for title, table in SECTIONS]
    rows = [f"| `{metric}` | {kind} | {doc} |" for metric, (kind, doc) in METRICS.items()]
    for name in ("error", *SEEN):
        key = EXPECT.keys[name]
        of = f" (of a container's {SEEN[name][0]})" if name in SEEN else ""
        rows.append(
            f"| `{name}` | {key.shape.noun} | in `expect` only: {key.doc[0].lower()}{key.doc[1:]}{of} |"
        )
    parts.append(
        "\n".join(
            [
                "**Metrics of `expect` and `checks`**",
                "",
                "| metric | kind | meaning |",
                "|---|---|---|",
                *rows,
            ]
        )
    )
    return "\n\n".join(parts)


def _key_table(title: str, table: AnyTable) -> str:
    rows = [
        f"| `{name}` | {key.shape.noun} | {'required' if key.required else key.default or '-'} | {key.doc} |"
        for name, key in table.keys.items()
    ]
    return "\n".join([f"**{title}**", "", "| key | value | default | meaning |", "|---|---|---|---|", *rows])
