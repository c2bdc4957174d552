"""The tables of all keys and metrics in Markdown, as `scenarios/README.md` has them, from the models."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from regsim.scenario.checks import METRICS
from regsim.scenario.fields import DEFAULT, Mapped, Several, Written
from regsim.scenario.schema import MockSpec, NodeSpec, RegistrySpec, Scenario
from regsim.scenario.schema_container import InContainer
from regsim.scenario.schema_image import EffectSpec, FileSpec, ImageSpec, LayerSpec, PlatformImage
from regsim.scenario.schema_step import SEEN, ExpectWritten, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def key_tables() -> str:
    """Return the tables of all keys and of the metrics in Markdown, as `scenarios/README.md` has them."""
    models: list[tuple[str, type[Mapped]]] = [
        ("The file", Scenario),
        ("`registry` as a mapping", RegistrySpec),
        ("`mock`", MockSpec),
        ("An image", ImageSpec),
        ("A platform's image", PlatformImage),
        ("A layer", LayerSpec),
        ("What a command leaves, below `run`", EffectSpec),
        ("A file of these", FileSpec),
        ("A node", NodeSpec),
        ("A step", Step),
        *((f"`{verb}`", model) for verb, model in _models_of(Step)),
        *((f"`container`: `{act}`", model) for act, model in _models_of(InContainer)),
    ]
    rows = [f"| `{metric}` | {kind} | {doc} |" for metric, (kind, doc) in METRICS.items()]
    for name, act in [("error", None), *SEEN.items()]:
        info = ExpectWritten.keys()[name]
        doc = str(info.description).partition(".")[0]
        of = f" (of a container's {act})" if act is not None else ""
        noun = _noun(info.annotation, info.metadata)
        rows.append(f"| `{name}` | {noun} | in `expect` only: {doc[0].lower()}{doc[1:]}{of} |")
    metrics = [
        "**Metrics of `expect` and `checks`**",
        "",
        "| metric | kind | meaning |",
        "|---|---|---|",
        *rows,
    ]
    return "\n\n".join([*(_key_table(title, model) for title, model in models), "\n".join(metrics)])


def _key_table(title: str, model: type[Mapped]) -> str:
    """Return the table of a mapping's keys in Markdown."""
    rows = []
    for name, info in model.keys().items():
        doc, _, absent = str(info.description).removesuffix(".").partition(DEFAULT)
        given = "required" if info.is_required() else absent or "-"
        rows.append(f"| `{name}` | {_noun(info.annotation, info.metadata)} | {given} | {doc} |")
    return "\n".join([f"**{title}**", "", "| key | value | default | meaning |", "|---|---|---|---|", *rows])


def _models_of(model: type[Mapped]) -> Iterator[tuple[str, type[Mapped]]]:
    """Yield the keys of which exactly one is written, each with the mapping below it if it has one."""
    for name in model.one_of:
        kind = get_args(model.keys()[name].annotation)[0]
        if isinstance(kind, type) and issubclass(kind, Mapped):
            yield name, kind


def _noun(kind: Any, metadata: Iterable[Any] = ()) -> str:
    for each in metadata:
        if isinstance(each, Written | Several):
            return str(each.noun)
    if get_origin(kind) is Annotated:
        return _noun(get_args(kind)[0], get_args(kind)[1:])
    if members := [each for each in get_args(kind) if each is not type(None)]:
        return " or ".join(_noun(each) for each in members)
    if issubclass(kind, Mapped):
        return str(kind.form or kind.noun)
    if issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return "a whole number" if kind is int else "a number"
