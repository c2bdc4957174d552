"""Which stages of a Dockerfile are built, in which order, and the mistakes that need no image to be found.

Owns the names of stages and the checks that need no image. Must not know layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.core.suggest import did_you_mean
from regsim.errors import UsageError
from regsim.image.builder.effects import declared
from regsim.image.builder.instructions import Copy, Run
from regsim.image.builder.syntax import expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regsim.core import Platform
    from regsim.image.builder.effects import Effect
    from regsim.image.builder.instructions import Dockerfile, Stage
    from regsim.image.builder.syntax import Problems
    from regsim.image.builder.work import Request

SCRATCH = "scratch"
_MOST_DIGITS = 9  # more than any number of a stage has, fewer than Python reads


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """A stage that is built.

    Args:
        number: its place in the Dockerfile, from 0.
        stage: what it says.
        base: the number of the stage that it begins with, or an image's name.
        platform: what `--platform` says, if it does.
        copies: for each COPY with `--from`, by line: the number of a stage, or an image's name.
    """

    number: int
    stage: Stage
    base: int | str
    platform: str | None
    copies: Mapping[int, int | str]

    @property
    def name(self) -> str:
        """What progress and messages call it."""
        return self.stage.start.name or f"stage-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The stages to build, each after those that it needs; the last one is the image.

    Args:
        stages: in order.
        arguments: values of the ARGs before the first FROM, and of those that describe platforms.
    """

    stages: tuple[PlannedStage, ...]
    arguments: Mapping[str, str]


def make_plan(dockerfile: Dockerfile, problems: Problems, request: Request) -> Plan:
    """Return what is to be built.

    Args:
        dockerfile: what it says.
        problems: collects mistakes.
        request: what was requested.

    Raises:
        DockerfileError: there are mistakes, found here or before.
        UsageError: there is no such target.
    """
    arguments = platform_arguments(request.platform or request.host, request.host, request.target)
    for arg in dockerfile.arguments:
        for name, default in arg.names:
            value = request.arguments.get(name)
            if value is None and default is not None:
                value = _expand(default, arguments, dockerfile, arg.line, problems)
            if value is not None:
                arguments[name] = value
    if not dockerfile.stages:
        problems.check()
    planned: list[PlannedStage] = []
    for number, stage in enumerate(dockerfile.stages):
        earlier = dockerfile.stages[:number]
        text = _expand(stage.start.base, arguments, dockerfile, stage.start.line, problems)
        if not text:
            problems.add(stage.start.line, f"FROM {stage.start.base} names no image", "give its ARG a value")
        found = _stage_number(text, earlier)
        planned.append(
            PlannedStage(
                number=number,
                stage=stage,
                base=text if found is None else found,
                platform=_expand(stage.start.platform, arguments, dockerfile, stage.start.line, problems)
                if stage.start.platform
                else None,
                copies=dict(_copies(stage, number, dockerfile, problems)),
            )
        )
    last = _target(request.target, planned)
    needed = _needed(planned, last)
    for each in needed:
        _check_runs(each.stage, request.effects, problems)
    problems.check()
    return Plan(stages=tuple(needed), arguments=arguments)


def platform_arguments(platform: Platform, host: Platform, target: str | None = None) -> dict[str, str]:
    """Return the values that a stage gets by `ARG TARGETPLATFORM` and the like."""
    values = {"TARGETSTAGE": target or "default"}
    for prefix, each in (("BUILD", host), ("TARGET", platform)):
        values[f"{prefix}PLATFORM"] = str(each)
        values[f"{prefix}OS"] = each.os
        values[f"{prefix}ARCH"] = each.architecture
        values[f"{prefix}VARIANT"] = each.variant or ""
    return values


def _expand(
    word: str, values: Mapping[str, str], dockerfile: Dockerfile, line: int, problems: Problems
) -> str:
    try:
        return expand(word, values, dockerfile.escape)
    except UsageError as error:
        problems.add(line, error.message, error.hint)
        return word


def _stage_number(name: str, stages: tuple[Stage, ...]) -> int | None:
    """Return the number of the last stage of a name, or None."""
    numbers = [number for number, stage in enumerate(stages) if stage.start.name == name.lower()]
    return numbers[-1] if numbers else None


def _copies(
    stage: Stage, number: int, dockerfile: Dockerfile, problems: Problems
) -> list[tuple[int, int | str]]:
    found: list[tuple[int, int | str]] = []
    for each in stage.instructions:
        if not isinstance(each, Copy) or each.source is None:
            continue
        source = each.source
        if source.isascii() and source.isdigit():
            wanted = int(source[:_MOST_DIGITS])
            if wanted >= number:
                hint = (
                    f"the stages before this one are 0 to {number - 1}"
                    if number
                    else "this is the first stage"
                )
                problems.add(each.line, f"--from={source[:20]} names no stage before this one", hint)
            found.append((each.line, wanted))
            continue
        earlier = _stage_number(source, dockerfile.stages[:number])
        if earlier is None and _stage_number(source, dockerfile.stages) is not None:
            problems.add(each.line, f"--from={source[:80]} names a stage that is not built before this one")
        found.append((each.line, source if earlier is None else earlier))
    return found


def _target(target: str | None, planned: list[PlannedStage]) -> PlannedStage:
    if target is None:
        return planned[-1]
    for each in reversed(planned):
        if target.lower() == each.stage.start.name or target == str(each.number):
            return each
    names = [each.stage.start.name for each in planned if each.stage.start.name]
    hint = (
        did_you_mean(target, names)
        if names
        else f"its stages have no names, but numbers: 0 to {len(planned) - 1}"
    )
    raise UsageError(f"there is no stage {target!r:.80}", hint=hint)


def _needed(planned: list[PlannedStage], last: PlannedStage) -> list[PlannedStage]:
    needed = {last.number}
    for each in reversed(planned[: last.number + 1]):
        if each.number in needed:
            wanted = (each.base, *each.copies.values())
            needed.update(number for number in wanted if isinstance(number, int))
    return [each for each in planned if each.number in needed]


def _check_runs(stage: Stage, effects: Mapping[str, Effect], problems: Problems) -> None:
    for each in stage.instructions:
        if not isinstance(each, Run):
            continue
        try:
            declared(effects, each.key)
        except UsageError as error:
            problems.add(each.line, error.message, error.hint)
