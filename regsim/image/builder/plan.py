"""Which stages of a Dockerfile are built, in which order, and the mistakes that need no image to be found.

Owns the names of stages and the checks that need no image. Must not know layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from regsim.core.suggest import did_you_mean
from regsim.errors import UsageError
from regsim.image.builder.dockerfile import Copy, Run, defaults
from regsim.image.builder.effects import declared
from regsim.image.builder.syntax import expand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from regsim.image.builder.dockerfile import Dockerfile, Stage
    from regsim.image.builder.effects import Effect
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
        return self.stage.name or f"stage-{self.number}"


def make_plan(
    dockerfile: Dockerfile, problems: Problems, request: Request
) -> tuple[list[PlannedStage], dict[str, str]]:
    """Return the stages to build, each after those that it needs, and the values of ARGs.

    The last stage is the image. The values are those of the ARGs before the first FROM, and of those that
    describe platforms.

    Args:
        dockerfile: what it says.
        problems: collects mistakes.
        request: what was requested.

    Raises:
        DockerfileError: there are mistakes, found here or before.
        UsageError: there is no such target.
    """
    arguments = _platform_arguments(request)

    def expanded(word: str, line: int) -> str:
        try:
            return expand(word, arguments, dockerfile.escape)
        except UsageError as error:
            problems.add(line, error.message, error.hint)
            return word

    for arg in dockerfile.arguments:
        for name, default in defaults(arg):
            value = request.arguments.get(name)
            if value is None and default is not None:
                value = expanded(default, arg.line)
            if value is not None:
                arguments[name] = value
    if not dockerfile.stages:
        problems.check()
    stages = dockerfile.stages
    planned = [_planned(number, stages, expanded, problems) for number in range(len(stages))]
    needed = _needed(planned, _target(request.target, planned))
    for each in needed:
        _check_runs(each.stage, request.effects, problems)
    problems.check()
    return needed, arguments


def _planned(
    number: int, stages: Sequence[Stage], expanded: Callable[[str, int], str], problems: Problems
) -> PlannedStage:
    stage = stages[number]
    base = expanded(stage.base, stage.line)
    if not base:
        problems.add(stage.line, f"FROM {stage.base} names no image", "give its ARG a value")
    found = _stage_number(base, stages[:number])
    return PlannedStage(
        number=number,
        stage=stage,
        base=base if found is None else found,
        platform=expanded(stage.platform, stage.line) if stage.platform else None,
        copies=_copies(number, stages, problems),
    )


def _platform_arguments(request: Request) -> dict[str, str]:
    """Return the values that a stage gets by `ARG TARGETPLATFORM` and the like."""
    values = {"TARGETSTAGE": request.target or "default"}
    for prefix, each in (("BUILD", request.host), ("TARGET", request.platform or request.host)):
        values[f"{prefix}PLATFORM"] = str(each)
        values[f"{prefix}OS"] = each.os
        values[f"{prefix}ARCH"] = each.architecture
        values[f"{prefix}VARIANT"] = each.variant or ""
    return values


def _stage_number(name: str, stages: Sequence[Stage]) -> int | None:
    """Return the number of the last stage of a name, or None."""
    numbers = [number for number, stage in enumerate(stages) if stage.name == name.lower()]
    return numbers[-1] if numbers else None


def _copies(number: int, stages: Sequence[Stage], problems: Problems) -> dict[int, int | str]:
    found: dict[int, int | str] = {}
    for each in stages[number].instructions:
        if not isinstance(each, Copy) or each.source is None:
            continue
        source = each.source
        if source.isascii() and source.isdigit():
            wanted = int(source[:_MOST_DIGITS])
            if wanted >= number:
                before = f"the stages before this one are 0 to {number - 1}"
                hint = before if number else "this is the first stage"
                problems.add(each.line, f"--from={source[:20]} names no stage before this one", hint)
            found[each.line] = wanted
            continue
        earlier = _stage_number(source, stages[:number])
        if earlier is None and _stage_number(source, stages) is not None:
            problems.add(each.line, f"--from={source[:80]} names a stage that is not built before this one")
        found[each.line] = source if earlier is None else earlier
    return found


def _target(target: str | None, planned: list[PlannedStage]) -> PlannedStage:
    if target is None:
        return planned[-1]
    for each in reversed(planned):
        if target.lower() == each.stage.name or target == str(each.number):
            return each
    names = [each.stage.name for each in planned if each.stage.name]
    numbers = f"its stages have no names, but numbers: 0 to {len(planned) - 1}"
    hint = did_you_mean(target, names) if names else numbers
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
