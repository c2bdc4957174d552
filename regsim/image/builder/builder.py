"""Images from Dockerfiles: the stages in order, and the config and layers of the last one.

Owns what a build does with its stages, and synthetic and recorded images as bases: what their layers hold is
known without generating them, and how a container of theirs starts is read from the instructions in their
history. Must not know registries, layouts, scenarios, or where the image goes.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

from regsim.core import Platform
from regsim.errors import DockerfileError, RegsimError, UsageError
from regsim.image.builder.config import Config, change
from regsim.image.builder.dockerfile import Copy, read_dockerfile, read_trigger
from regsim.image.builder.plan import SCRATCH, PlannedStage, make_plan
from regsim.image.builder.stage import StageBuilder
from regsim.image.builder.syntax import Problems, Written
from regsim.image.builder.work import Request, Work
from regsim.image.listing import Listing
from regsim.image.opened import Files, OpenImage
from regsim.store.entry import Entry, Kind
from regsim.synth.recipe import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from regsim.image.builder.dockerfile import Instruction
    from regsim.image.builder.work import Cache, StepReport
    from regsim.image.opened import OpenLayer
    from regsim.store.layout import LayoutStore
    from regsim.synth.images import ImageSource
    from regsim.synth.recipe import LayerRecipe

# What an instruction in a history says of how a container starts, in words that a Dockerfile has too.
_METADATA = re.compile(
    r"(?:/bin/sh -c #\(nop\)\s+)?(?P<text>(?:ENV|WORKDIR|USER|CMD|ENTRYPOINT|EXPOSE)\s.*)", re.DOTALL
)
_WORDS = re.compile(r'"\s+"')


async def base_of(source: ImageSource, key: str) -> OpenImage:
    """Return a synthetic or recorded image as something to build on.

    Args:
        source: where it is made.
        key: what it is called there.

    Raises:
        UsageError: there is no such image, or a layer cannot be made.
    """
    made = await source.image(key)
    image = await OpenImage.of(made, source.content, key)
    recipes = [line.recipe for line in source.recipe_of(key).instructions if line.recipe is not None]
    layers = (
        replace(layer, known=_listing(recipe)) for layer, recipe in zip(image.layers, recipes, strict=True)
    )
    return replace(image, raw=_configured(image.raw), layers=tuple(layers))


def _listing(recipe: LayerRecipe) -> Listing:
    entries = (Entry(path=file.path, kind=Kind.FILE, size=file.size) for file in plan(recipe).files)
    return Listing(entries=tuple(entries), checksums={})


def _configured(raw: bytes) -> bytes:
    """Return a config with what its history says of how a container starts."""
    config = Config.of(raw)
    for line in config.history:
        match = _METADATA.fullmatch(str(line.get("created_by", "")))
        if match is None:
            continue
        try:
            instruction = read_trigger(_WORDS.sub('", "', match["text"]), "history")
            if isinstance(instruction, Written) and instruction.name == "WORKDIR":
                config.config["WorkingDir"] = config.absolute(instruction.arguments[0])
            elif isinstance(instruction, Written):
                change(config, instruction, str, str.split)
        except RegsimError:
            continue  # a history is free text, and says only what it says
    return config.raw(0)


async def build(
    request: Request,
    store: LayoutStore,
    cache: Cache | None = None,
    *,
    tell: Callable[[StepReport], object] = lambda _: None,
) -> OpenImage:
    """Build an image.

    Args:
        request: what.
        store: takes layers that are written, unless there is a cache, whose own layout takes them.
        cache: what earlier builds made; None to make everything.
        tell: receives the report of each instruction when it is done.

    Raises:
        DockerfileError: the Dockerfile has mistakes: all of those that can be found without an image.
        RegsimError: a step cannot be done; the Dockerfile's line is named.
    """
    problems = Problems(request.name)
    dockerfile = read_dockerfile(request.text, problems)
    stages, arguments = make_plan(dockerfile, problems, request)
    work = Work(request=request, store=store, cache=cache, tell=tell)
    building = _Build(work, arguments, dockerfile.escape)
    for planned in stages:
        last = await building.stage(planned)
    return OpenImage(name=request.name, raw=last.config.raw(request.timestamp), layers=tuple(last.layers))


class _Build:
    def __init__(self, work: Work, arguments: Mapping[str, str], escape: str) -> None:
        self._request = work.request
        self._arguments = arguments
        self._escape = escape
        self._platform = work.request.platform or work.request.host
        self._work = work
        self._stages: dict[int, StageBuilder] = {}
        self._images: dict[str, Files] = {}

    async def stage(self, planned: PlannedStage) -> StageBuilder:
        with _at(self._request.name, planned.stage.line):
            config, layers = await self._begin(planned)
            triggers = [
                read_trigger(text, f"ONBUILD of {planned.stage.base}")
                for text in config.config.pop("OnBuild", ())
            ]
        stage = self._stages[planned.number] = StageBuilder(
            planned.name, config, layers, self._work, inherited=self._arguments, escape=self._escape
        )
        if isinstance(planned.base, int):
            stage.inherit(self._stages[planned.base])
        for trigger in triggers:
            with _at(self._request.name, planned.stage.line):
                await self._do(stage, trigger, {})
        for instruction in planned.stage.instructions:
            with _at(self._request.name, instruction.line):
                await self._do(stage, instruction, planned.copies)
        return stage

    async def _begin(self, planned: PlannedStage) -> tuple[Config, list[OpenLayer]]:
        if isinstance(planned.base, int):
            below = self._stages[planned.base]
            return replace(deepcopy(below.config), has_cmd=False), list(below.layers)
        platform = Platform.parse(planned.platform) if planned.platform else self._platform
        if planned.base == SCRATCH:
            return Config.empty(platform), []
        base = await self._request.bases.open(planned.base, platform)
        return base.settings(), self._remembered(base)

    def _remembered(self, image: OpenImage) -> list[OpenLayer]:
        return [replace(layer, listings=self._work.cache) for layer in image.layers]

    async def _do(
        self, stage: StageBuilder, instruction: Instruction, copies: Mapping[int, int | str]
    ) -> None:
        if not isinstance(instruction, Copy) or instruction.source is None:
            await stage.do(instruction, self._request.context)
            return
        wanted = copies.get(instruction.line, instruction.source)
        if isinstance(wanted, int):
            await stage.do(instruction, await self._stages[wanted].files())
            return
        await stage.do(instruction, await self._image(wanted))

    async def _image(self, name: str) -> Files:
        if name not in self._images:
            image = await self._request.bases.open(name, self._platform)
            self._images[name] = files = Files(name)
            await files.grow(self._remembered(image))
        return self._images[name]


@contextmanager
def _at(name: str, line: int) -> Iterator[None]:
    """Name the Dockerfile's line in what is raised within."""
    try:
        yield
    except DockerfileError:
        raise
    except UsageError as error:
        problems = Problems(name)
        problems.add(line, error.message, error.hint)
        problems.check()
    except RegsimError as error:
        error.message = f"{name}:{line}: {error.message}"
        error.args = (error.message,)
        raise
