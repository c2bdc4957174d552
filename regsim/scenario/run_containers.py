"""The containers of one run: what steps do with them, what they hold then, and what is seen in them.

Owns the containers and closes them. No registry and no byte on a wire is involved, so that it is the same in
every fidelity. Must not know the order of steps or reports.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from regsim.core.ledger import Tally
from regsim.core.result import CheckResult, Committed, ContainerResult
from regsim.errors import LocalFileError
from regsim.image.container import Container, State
from regsim.scenario import schema_container as doings
from regsim.scenario.checks import of_containers
from regsim.scenario.schema_image import EffectSpec
from regsim.store.entry import Kind, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regsim.errors import RegsimError
    from regsim.scenario.real_images import RealImages
    from regsim.scenario.schema_container import Doing
    from regsim.scenario.schema_image import FileSpec
    from regsim.scenario.schema_step import Expect, Step

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Sight:
    """What a step saw of a file in a container.

    Attributes:
        content: its first bytes, more than were expected if it has more; None if there is no file.
        size: how many bytes it has in all.
    """

    content: bytes | None = None
    size: int = 0

    def __str__(self) -> str:
        if self.content is None:
            return str(doings.Presence.ABSENT)
        return _quoted(self.content) if self.size <= _SHOWN else f"{self.size} bytes"


@dataclass(slots=True)
class Containers:
    """What a run's steps make and use. As a context manager it removes all in the end.

    Args:
        images: what they are made from, and where they are committed to.
    """

    images: RealImages
    _containers: dict[str, Container] = field(default_factory=dict)
    _nodes: dict[str, str] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def do(self, step: Step, doing: Doing) -> tuple[ContainerResult, tuple[CheckResult, ...]]:
        """Do what a step says.

        Returns:
            Its result, and what the step expects of what it saw.

        Raises:
            RegsimError: it cannot be done.
        """
        container = await self._container(doing)
        before = container.copied_up
        sight, image, names = Sight(), None, None
        match doing:
            case doings.Write():
                await _write(container, doing)
            case doings.Remove():
                for path in doing.paths:
                    await container.remove(path)
            case doings.Read():
                sight = await _read(container, doing.path, step.expect)
            case doings.List():
                names = tuple(shown(each.name) for each in container.list(doing.path))
            case doings.Stop():
                container.stop()
            case doings.Start():
                container.start()
            case doings.Commit():
                image = await self._commit(container, doing)
            case doings.Rm():
                await container.rm()
                del self._containers[doing.name]
        after = container.copied_up
        copied_up = Tally(after.count - before.count, after.bytes - before.bytes)
        result = self._result(step, doing, container)
        result = replace(result, copied_up=copied_up, names=names, committed=image)
        return result, tuple(_verdicts(step, sight, result))

    def failed(self, step: Step, doing: Doing, error: RegsimError, *, expected: bool) -> ContainerResult:
        """Return the message for a step that failed."""
        result = self._result(step, doing, self._containers.get(doing.name))
        return replace(result, error=error, expected_error=expected)

    def _result(self, step: Step, doing: Doing, container: Container | None) -> ContainerResult:
        there = container is not None and container.state is not State.REMOVED
        return ContainerResult(
            step=step.number,
            step_name=step.name,
            node=doing.node if isinstance(doing, doings.Create) else self._nodes.get(doing.name),
            container=doing.name,
            action=doing.act,
            image=container.image.name if container is not None else getattr(doing, "image", ""),
            paths=_paths(doing),
            writable=container.size if container is not None and there else Tally(),
        )

    async def _container(self, doing: Doing) -> Container:
        if isinstance(doing, doings.Create):
            image = await self.images.container_image(doing.image)
            # Times are zero, as in all that a scenario builds: digests are the same wherever it runs.
            container = Container(image, doing.name, clock=lambda: 0)
            self._stack.push_async_exit(container)
            self._containers[doing.name], self._nodes[doing.name] = container, doing.node
        return self._containers[doing.name]

    async def _commit(self, container: Container, doing: doings.Commit) -> Committed:
        built = await self.images.commit(container, doing.image, doing.message)
        has_layer = len(built.layers) > len(container.image.layers)
        return Committed(
            image=doing.image,
            digest=built.manifest.descriptor.digest,
            layer=built.layers[-1].descriptor if has_layer else None,
        )


def _verdicts(step: Step, sight: Sight, result: ContainerResult) -> Iterator[CheckResult]:
    """Yield what a step expects of what it saw, and of its figures."""
    seen = step.expect
    there = doings.Presence.ABSENT if sight.content is None else doings.Presence.PRESENT
    if seen.file is not None:
        yield _verdict(step, f"file == {seen.file}", there, passed=there is seen.file)
    if seen.content is not None:
        passed = sight == Sight(seen.content, len(seen.content))
        yield _verdict(step, f"content == {_quoted(seen.content)}", str(sight), passed=passed)
    if seen.names is not None and result.names is not None:
        wanted, passed = sorted(seen.names), sorted(seen.names) == sorted(result.names)
        yield _verdict(step, f"names == {', '.join(wanted)}", ", ".join(result.names), passed=passed)
    for comparison in step.expect.comparisons:
        yield comparison.check(step.number, [of_containers([result], comparison.metric)])


async def _write(container: Container, doing: doings.Write) -> None:
    for path in doing.directories:
        await container.make_directory(path)
    await _put(container, doing.files, append=False)
    await _put(container, doing.append, append=True)
    for path, mode in doing.chmod.items():
        await container.change(path, mode=mode)


async def _put(container: Container, files: dict[bytes, FileSpec], *, append: bool) -> None:
    for entry in EffectSpec(files=files).effect().entries(0):
        if entry.kind is Kind.SYMLINK:
            await container.link(entry.path, entry.link)
            continue
        chunks = entry.content() if entry.content is not None else ()
        mode, owner = (None, None) if append else (entry.mode, (entry.uid, entry.gid))
        await container.write(entry.path, chunks, append=append, mode=mode, owner=owner)


async def _read(container: Container, path: bytes, seen: Expect) -> Sight:
    if not container.exists(path):
        if seen.file is None and seen.content is None:
            raise LocalFileError(f"there is no {'/' + shown(path)!r} in container {container.name}")
        return Sight()
    most = len(seen.content or b"") + _SHOWN
    content, size = b"", 0
    async for chunk in container.read(path):
        content += chunk[: most - len(content)]
        size += len(chunk)
    return Sight(content, size)


def _paths(doing: Doing) -> tuple[str, ...]:
    match doing:
        case doings.Write():
            paths = [*doing.directories, *doing.files, *doing.append, *doing.chmod]
        case doings.Remove():
            paths = [*doing.paths]
        case doings.Read() | doings.List():
            paths = [doing.path]
        case _:
            paths = []
    return tuple("/" + shown(path) for path in dict.fromkeys(paths))


def _verdict(step: Step, expression: str, found: str, *, passed: bool) -> CheckResult:
    return CheckResult(expression=expression, step=step.number, passed=passed, actual=found)


def _quoted(content: bytes) -> str:
    text = shown(content[:_SHOWN])
    return f'"{text}"' if len(content) <= _SHOWN else f'"{text}…"'
