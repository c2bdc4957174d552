"""What `regsim build` does: reads what the flags name, builds, and puts the image into its layout."""

from __future__ import annotations

import json
import os
import platform as machine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regsim.cli.output import Format, status
from regsim.core import Platform
from regsim.errors import ContentError, UsageError
from regsim.image.builder.builder import Built, Request, build, export
from regsim.image.builder.cache import Cache
from regsim.image.builder.work import Outcome, StepReport
from regsim.image.compress import compressor
from regsim.image.context.checksums import Checksums
from regsim.image.context.context import Context, read_ignore
from regsim.image.dockerfile.syntax import MAX_DOCKERFILE
from regsim.report.quantities import size
from regsim.store.files import file_errors, read_bounded
from regsim.store.layout import LayoutStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from regsim.cli.bases import AddressedBases
    from regsim.cli.build import BuildFlags
    from regsim.cli.connecting import Connecting
    from regsim.client.addresses import Layout
    from regsim.client.ends import Ends
    from regsim.image.builder.bases import Base
    from regsim.image.builder.effects import Effect

# What Python and the kernel call machines that images call otherwise.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_EPOCH = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """A finished build: the image, where it went, and what became of each step."""

    built: Built
    tag: Layout
    steps: list[StepReport]


async def build_image(context: Path, tag: Layout, flags: BuildFlags, connecting: Connecting) -> Outcomes:
    """Build an image and put it into a layout.

    Raises:
        RegsimError: it cannot be built; nothing is tagged.
    """
    dockerfile = flags.file if flags.file is not None else context / "Dockerfile"
    text = _read_text(dockerfile)
    cache = Cache(flags.cache) if flags.cache is not None else None
    checksums = Checksums(cache.checksums_file(context) if cache is not None else None)
    steps: list[StepReport] = []

    def tell(step: StepReport) -> None:
        steps.append(step)
        if not flags.quiet:
            status(_line(step))

    bases = _Bases(_pairs(flags.build_context, "--build-context", "NAME=IMAGE"), connecting)
    try:
        request = Request(
            text=text,
            name=dockerfile.name,
            context=Context(context, read_ignore(context, dockerfile), checksums),
            bases=bases,
            compressor=compressor(flags.compression, flags.compression_level),
            host=host_platform(),
            effects=_effects(flags.run, dockerfile),
            platform=Platform.parse(flags.platform) if flags.platform is not None else None,
            arguments=_pairs(flags.build_arg, "--build-arg", "NAME=VALUE"),
            target=flags.target,
            timestamp=_timestamp(flags.timestamp),
        )
        store = LayoutStore(tag.directory, create=True)
        async with store.in_use():
            built = await build(request, store, cache, tell=tell)
            await export(built, store, tag.tag or "", cache.layers if cache is not None else store)
    finally:
        await bases.close()
    checksums.save()
    return Outcomes(built=built, tag=tag, steps=steps)


class _Bases:
    """Finds images by their addresses; what speaks to registries is loaded when the first one is asked for.

    Building on nothing, or from the cache, is over before that would be.
    """

    def __init__(self, names: Mapping[str, str], connecting: Connecting) -> None:
        self._names = names
        self._connecting = connecting
        self._hosts: dict[str, None] = {}
        self._ends: list[Ends] = []
        self._addressed: AddressedBases | None = None

    async def open(self, name: str, platform: Platform) -> Base:
        """Return the image of a name.

        Raises:
            UsageError: the name is no address, or credentials that are for one registry meet two.
        """
        from regsim.cli.bases import AddressedBases, hosts_of  # noqa: PLC0415  (see above)

        hosts = hosts_of(self._names.get(name, name))
        if self._addressed is None or not self._hosts.keys() >= hosts:
            self._hosts |= dict.fromkeys(sorted(hosts))
            self._ends.append(self._connecting.ends(*self._hosts))
            self._addressed = AddressedBases(self._ends[-1], self._names)
        return await self._addressed.open(name, platform)

    async def close(self) -> None:
        """Close every connection."""
        for ends in self._ends:
            await ends.close()


def render(outcomes: Outcomes, *, form: Format) -> str:
    """Write what was built: its digest, or a JSON document."""
    manifest = outcomes.built.manifest.descriptor
    if form is Format.TEXT:
        return f"{manifest.digest}\n"
    document = {
        "digest": manifest.digest,
        "tag": str(outcomes.tag),
        "layers": [
            {"digest": layer.descriptor.digest, "size": layer.descriptor.size, "diff_id": layer.diff_id}
            for layer in outcomes.built.layers
        ],
        "steps": [
            {
                "stage": step.stage,
                "created_by": step.created_by,
                "outcome": step.outcome,
                "seconds": round(step.seconds, 6),
                "bytes": step.size,
                "layer": step.layer.digest if step.layer is not None else None,
                "layer_size": step.layer.size if step.layer is not None else None,
            }
            for step in outcomes.steps
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def host_platform() -> Platform:
    """Return what this machine is, for images: Linux on whatever processor."""
    return Platform("linux", _ARCHITECTURES.get(machine.machine(), machine.machine()))


def _line(step: StepReport) -> str:
    if step.outcome is Outcome.METADATA or step.layer is None:
        return f"{'':<6} {'':>9} {'':>20}  [{step.stage}] {step.created_by}"
    what = f"{size(step.size)} ({size(step.layer.size)})"
    return f"{step.outcome:<6} {step.seconds:>7.2f} s {what:>20}  [{step.stage}] {step.created_by}"


def _read_text(path: Path) -> str:
    try:
        with file_errors(path, "read"):
            return read_bounded(path, MAX_DOCKERFILE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContentError(f"{path} is not text", hint="a Dockerfile is UTF-8") from error


def _effects(given: Path | None, dockerfile: Path) -> Mapping[str, Effect]:
    beside = dockerfile.with_name(f"{dockerfile.name}.run.yaml")
    if given is None and not beside.is_file():
        return {}
    from regsim.scenario.load import load_effects  # noqa: PLC0415  (most builds need no YAML)

    return load_effects(given or beside)


def _pairs(given: Iterable[str] | None, flag: str, shape: str) -> dict[str, str]:
    pairs = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals and flag == "--build-arg" and name in os.environ:
            value = os.environ[name]  # as docker does, so that a value need not be typed
        elif not equals or not name:
            raise UsageError(f"{flag} {text!r:.80} has no value", hint=f"write {flag} {shape}")
        if not _is_text(name + value):
            raise UsageError(f"{flag} {text!a:.80} is not text", hint="write it in UTF-8")
        pairs[name] = value
    return pairs


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8
        return False
    return True


def _timestamp(given: int | None) -> int:
    text = os.environ.get(_EPOCH, "0") if given is None else str(given)
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > 2**33:  # noqa: PLR2004  (digits of 2**33)
        name = _EPOCH if given is None else "--timestamp"
        raise UsageError(f"{name} is no time: {text[:40]!r}", hint="seconds since 1970, such as 1735689600")
    return int(text)
