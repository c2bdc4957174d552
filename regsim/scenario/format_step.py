"""Steps as a scenario file writes them, and what they expect.

Owns the keys of a step. Must not know the other parts of a file: the names used here are gathered and
judged in `names.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from regsim.core.reference import check_tag
from regsim.scenario.checks import (
    COMPARISON_PATTERN,
    METRICS,
    OF_CONTAINERS,
    Kind,
    Metric,
    parse_comparison,
)
from regsim.scenario.codes import ERROR_CODE_PATTERN, parse_error_code
from regsim.scenario.compound import ListOf
from regsim.scenario.format_container import CONTAINER
from regsim.scenario.format_image import IMAGE_NAME
from regsim.scenario.format_node import NODE_NAME
from regsim.scenario.schema import Copy, Delete, Expect, InContainer, Place, Pull, Push, Step, Tag, Verb
from regsim.scenario.schema_container import Act, Presence, Seen
from regsim.scenario.shapes import Amount, Choice, Fields, Mention, Name, Parsed, Reader, Text
from regsim.scenario.table import AnyTable, Key, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.scenario.checks import Comparison
    from regsim.scenario.positions import Entries

# --- expectations ---------------------------------------------------------------------------------------


def _comparison(metric: Metric) -> Amount[Comparison]:
    noun = {Kind.COUNT: "a number of layers", Kind.BYTES: "a size", Kind.RATIO: "a ratio"}[METRICS[metric][0]]
    return Amount(
        noun=f"{noun}, or a comparison",
        parse=lambda text: parse_comparison(metric, text),
        schema_of={
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": COMPARISON_PATTERN}]
        },
    )


def _sentence(meaning: str) -> str:
    return meaning[0].upper() + meaning[1:]


def _expect(fields: Fields, _: Entries, __: Reader) -> Expect:
    error = fields.pop("error", None)
    seen = Seen(**{key: fields.pop(key) for key in SEEN if key in fields})
    return Expect(comparisons=tuple(fields.values()), error=error, seen=seen)


# What looking into a container shows: which of its verbs, and how it is written.
SEEN: dict[str, tuple[Act, Key]] = {
    "content": (Act.READ, Key(doc="What the file holds", shape=Text("a content"))),
    "file": (Act.READ, Key(doc="Whether the file is there", shape=Choice(Presence))),
    "names": (
        Act.LIST,
        Key(doc="What is in the directory", shape=ListOf(noun="a list of names", item=Text("a name"))),
    ),
}


EXPECT = Table(
    noun="an expectation",
    keys={
        **{
            metric.value: Key(doc=_sentence(METRICS[metric][1]), shape=_comparison(metric))
            for metric in Metric
        },
        **{name: key for name, (_, key) in SEEN.items()},
        "error": Key(
            doc="The error code with which the step must fail",
            shape=Parsed(noun="an error code", parse=parse_error_code, pattern=f"^{ERROR_CODE_PATTERN}$"),
            default="the step must succeed",
        ),
    },
    build=_expect,
)

# --- the verbs ------------------------------------------------------------------------------------------

_TO = Key(
    doc="REPOSITORY[:TAG] to write to",
    shape=Parsed(noun="a tag to write to", parse=Place.parse_tag, mentions="place"),
    required=True,
)


def _place(doc: str) -> Key:
    shape = Parsed(noun="a reference", parse=Place.parse, mentions="place")
    return Key(doc=f"{doc}: REPOSITORY[:TAG][@DIGEST]", shape=shape, required=True)


_NODE = Key(doc="Which node does it", shape=replace(NODE_NAME, mentions="node"), default="the only node")
_IMAGE = Key(
    doc="The image to push, by its key in images", shape=replace(IMAGE_NAME, mentions="image"), required=True
)


def _acting(make: Callable[..., Any]) -> Callable[[Fields, Entries, Reader], Any]:
    def build(fields: Fields, entries: Entries, reader: Reader) -> Any:
        if "node" not in fields:
            reader.mentions.append(Mention("default node", "", entries.where))
        # Which node an omitted one is depends on all nodes, and is filled in when they are known.
        return make(**{"node": "", **{FIELD_NAMES.get(key, key): value for key, value in fields.items()}})

    return build


# A keyword of Python cannot be a field.
FIELD_NAMES = {"from": "source"}

VERBS: dict[Verb, tuple[str, AnyTable]] = {
    Verb.PUSH: (
        "A node pushes an image",
        Table(
            noun="a push",
            keys={"image": _IMAGE, "to": _TO, "node": _NODE},
            build=_acting(Push),
            reserved=("platform",),
        ),
    ),
    Verb.PULL: (
        "A node pulls; several equal nodes pull at once",
        Table(
            noun="a pull",
            keys={"reference": _place("What to pull"), "node": _NODE},
            build=_acting(Pull),
            reserved=("platform",),
        ),
    ),
    Verb.COPY: (
        "A node copies within the registry",
        Table(
            noun="a copy",
            keys={"from": _place("What to copy"), "to": _TO, "node": _NODE},
            build=_acting(Copy),
            reserved=("platform",),
        ),
    ),
    Verb.TAG: (
        "A manifest gets one more tag",
        Table(
            noun="a tag step",
            keys={
                "reference": _place("What to tag"),
                "tag": Key(
                    doc="The new tag, in the same repository",
                    shape=Parsed(
                        noun="a tag", parse=check_tag, pattern="^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$"
                    ),
                    required=True,
                ),
            },
            build=lambda fields, *_: Tag(**fields),
        ),
    ),
    Verb.DELETE: (
        "A tag, or a manifest by its digest, is deleted",
        Table(
            noun="a delete",
            keys={"reference": _place("What to delete")},
            build=lambda fields, *_: Delete(**fields),
        ),
    ),
    Verb.CONTAINER: ("Something is done with a container on a node", CONTAINER),
}

# --- a step ---------------------------------------------------------------------------------------------

STEP_NAME = Name(
    noun="a step name",
    pattern=r"(?!\s)(?![0-9]+$)[^()\x00-\x1f\x7f]{1,100}(?<!\s)",
    allowed="not a mere number, and without parentheses",
)


def _step(fields: Fields, entries: Entries, reader: Reader) -> Step:
    action = next(fields[verb] for verb in Verb if verb in fields)
    expect: Expect = fields.get("expect", Expect())
    where = (entries.key("expect") or entries).where
    if expect.comparisons and action.verb in (Verb.TAG, Verb.DELETE):
        reader.problems.add(
            where, f"a {action.verb} moves no layers to count", 'it may expect an "error" only'
        )
    for comparison in expect.comparisons if action.verb not in (Verb.TAG, Verb.DELETE) else ():
        if (comparison.metric in OF_CONTAINERS) != (action.verb is Verb.CONTAINER):
            reader.problems.add(where, f'"{comparison.metric}" is not measured of a {action.verb}')
    act = action.doing.act if isinstance(action, InContainer) else None
    for name, (wanted, _) in SEEN.items():
        if getattr(expect.seen, name) is not None and act is not wanted:
            reader.problems.add(where, f'"{name}" is what a container\'s {wanted} shows')
    if expect.seen.content is not None and expect.seen.file is Presence.ABSENT:
        reader.problems.add(where, "what is absent has no content")
    return Step(number=0, action=action, name=fields.get("name"), expect=expect)


STEP = Table(
    noun="a step",
    keys={
        **{verb.value: Key(doc=doc, shape=table) for verb, (doc, table) in VERBS.items()},
        "name": Key(doc="What reports and checks may call it", shape=STEP_NAME, default="its number, from 1"),
        "expect": Key(
            doc="What must hold for each node's transfer, or for the container",
            shape=EXPECT,
            default="that it succeeds",
        ),
    },
    build=_step,
    one_of=tuple(Verb),
    reserved_forms=("prune",),
)
