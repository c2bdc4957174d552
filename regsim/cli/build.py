"""`regsim build`: an image from a Dockerfile, without a container engine.

FROM and --from name a registry's image, `oci:DIR[:TAG]`, an archive, or `record:NAME`.
"""

from __future__ import annotations

import os
import platform as machine
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from regsim.cli.connecting import CONNECTING, Connecting
from regsim.cli.output import Printing, check_outputs, ignore, status, write, write_json
from regsim.cli.running import errors_as_json, run
from regsim.client.image_address import RECORD, Local, parse, parse_destination, registries
from regsim.core import Descriptor, Platform, media_types
from regsim.core.account import Account
from regsim.core.image import Image
from regsim.core.manifest import parse as parse_manifest
from regsim.core.quantities import size
from regsim.errors import ContentError, DockerfileError, ScenarioError, UsageError
from regsim.image.builder.builder import base_of
from regsim.image.builder.builder import build as build_from
from regsim.image.builder.context import Checksums, Context, read_ignore
from regsim.image.builder.effects import Effect
from regsim.image.builder.syntax import MAX_DOCKERFILE
from regsim.image.builder.work import Cache, Outcome, Request, StepReport
from regsim.image.compression import compressor
from regsim.image.opened import OpenImage
from regsim.store.files import file_errors, read_bounded
from regsim.store.layout import LayoutStore
from regsim.synth.images import ImageSource
from regsim.synth.recorded import load_record
from regsim.synth.synthetic import LayerForge, default_folder

if TYPE_CHECKING:
    from regsim.client.opener import Opener
    from regsim.transfer.ends import Source

_MAX_DEPTH = 4
_EPOCH = "SOURCE_DATE_EPOCH"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BuildFlags(Printing):
    """The options of a build.

    Attributes:
        file: the Dockerfile; CONTEXT/Dockerfile by default.
        tag: where the image goes: oci:DIR:TAG.
        build_arg: NAME=VALUE of an ARG; repeatable.
        build_context: NAME=IMAGE, what FROM NAME or --from=NAME stands for; repeatable.
        target: stop at this stage.
        platform: OS/ARCHITECTURE to build for; this machine's by default.
        run: YAML file that declares what each RUN command changes; by default the Dockerfile's name with
            .run.yaml added, if that file exists.
        cache: directory that keeps built layers for the next build.
        compression: gzip, zstd or none.
        compression_level: the compressor's level.
        timestamp: seconds since 1970 for all times; by default $SOURCE_DATE_EPOCH, or 0.
        quiet: print only the digest and errors.
    """

    file: Annotated[Path | None, Parameter(name=("--file", "-f"))] = None
    tag: Annotated[str, Parameter(name=("--tag", "-t"))]
    build_arg: Annotated[list[str] | None, Parameter(negative=())] = None
    build_context: Annotated[list[str] | None, Parameter(negative=())] = None
    target: str | None = None
    platform: str | None = None
    run: Path | None = None
    cache: Path | None = None
    compression: Literal["gzip", "zstd", "none"] = "gzip"
    compression_level: int | None = None
    timestamp: int | None = None
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False


def build(context: Path, /, *, flags: BuildFlags, connecting: Connecting = CONNECTING) -> None:
    """Build an image from a Dockerfile without an engine; RUN commands are declared, not run.

    The file that --run names says which files each RUN command adds and deletes.

    Args:
        context: directory that COPY takes files from.
        flags: see below.
        connecting: see below.
    """
    with errors_as_json(flags):
        tag = parse_destination(flags.tag)
        if not isinstance(tag, Local) or tag.is_archive or tag.tag is None:
            raise UsageError(f"a build goes to a layout: --tag {flags.tag!r}", hint="write --tag oci:DIR:TAG")
        check_outputs(flags.output)
        built, steps = run(_build(context, tag, flags, connecting))
    if flags.format == "json":
        write_json(_as_json(built, tag, steps), flags.output)
    else:
        write(f"{built.manifest.descriptor.digest}\n", flags.output)


async def _build(
    context: Path, tag: Local, flags: BuildFlags, connecting: Connecting
) -> tuple[OpenImage, list[StepReport]]:
    dockerfile = flags.file if flags.file is not None else context / "Dockerfile"
    text = _read_text(dockerfile)
    cache = Cache(flags.cache) if flags.cache is not None else None
    checksums = Checksums(cache.checksums_file(context) if cache is not None else None)
    steps: list[StepReport] = []
    line = ignore if flags.quiet else status

    def tell(step: StepReport) -> None:
        steps.append(step)
        line(_step_line(step))

    bases = AddressedBases(_pairs(flags.build_context, "--build-context", "NAME=IMAGE"), connecting)
    try:
        request = Request(
            text=text,
            name=dockerfile.name,
            context=Context(context, read_ignore(context, dockerfile), checksums),
            bases=bases,
            compressor=compressor(flags.compression, flags.compression_level),
            host=Platform.wanted(f"linux/{machine.machine()}"),
            effects=_effects(flags.run, dockerfile),
            platform=Platform.parse(flags.platform) if flags.platform is not None else None,
            arguments=_pairs(flags.build_arg, "--build-arg", "NAME=VALUE"),
            target=flags.target,
            timestamp=_timestamp(flags.timestamp),
        )
        store = LayoutStore(tag.path, create=True)
        async with store.in_use():
            built = await build_from(request, store, cache, tell=tell)
            await built.export(store, tag.tag or "", cache.layers if cache is not None else store)
    finally:
        await bases.close()
    checksums.save()
    return built, steps


class AddressedBases:
    """Finds base images by their addresses; imports what speaks to registries when the first one is needed.

    A build from scratch or from the cache needs none.

    Args:
        names: `--build-context`: the address that a name stands for.
        connecting: how to connect to registries.
    """

    def __init__(self, names: Mapping[str, str], connecting: Connecting) -> None:
        self._names = names
        self._connecting = connecting
        self._hosts: dict[str, None] = {}
        self._openers: list[Opener] = []

    async def open(self, name: str, platform: Platform) -> OpenImage:
        """Return the image of a name.

        Raises:
            UsageError: the name is not an address, or --creds would be sent to two registries.
            NotFoundError, LocalFileError, RegistryError, NetworkError, ContentError: it cannot be read.
        """
        address = self._names.get(name, name)
        if address.startswith(RECORD):
            record = address.removeprefix(RECORD)
            recipes = [load_record(record).image_recipe(record)]
            return await base_of(ImageSource(recipes, LayerForge(default_folder())), record)
        from regsim.client.opener import Opener  # noqa: PLC0415  (see above)

        hosts = registries(address)
        if not self._openers or not self._hosts.keys() >= {*hosts}:
            self._hosts |= dict.fromkeys(hosts)
            self._openers.append(Opener(self._connecting.connection(*self._hosts), warn=status))
        where = parse(address)
        source = self._openers[-1].source(where)
        root = await source.resolve(where.target, Account())
        return await _image(source, root, platform, address)

    async def close(self) -> None:
        """Close every connection."""
        for opener in self._openers:
            await opener.close()


async def _image(source: Source, root: Descriptor, platform: Platform, name: str) -> OpenImage:
    for _ in range(_MAX_DEPTH):
        document = parse_manifest(root, await source.manifest(root, Account()))
        if not media_types.is_index(root.media_type):
            break
        children = [each.descriptor for each in document.successors]
        fitting = [each for each in children if each.platform and each.platform.satisfies(platform)]
        if not fitting:
            offered = ", ".join(sorted({str(each.platform) for each in children if each.platform}))
            raise UsageError(f"{name} has no image for {platform}", hint=f"it has {offered or 'none'}")
        root = fitting[0]

    return await OpenImage.of(Image.of(document), lambda layer: source.content(layer, Account()), name)


def _as_json(built: OpenImage, tag: Local, steps: list[StepReport]) -> dict[str, Any]:
    return {
        "digest": built.manifest.descriptor.digest,
        "tag": str(tag),
        "layers": [
            {"digest": layer.descriptor.digest, "size": layer.descriptor.size, "diff_id": layer.diff_id}
            for layer in built.layers
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
            for step in steps
        ],
    }


def _step_line(step: StepReport) -> str:
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

    try:
        return load_effects(given or beside)
    except ScenarioError as error:
        raise DockerfileError(error.problems, hint=error.hint) from error


def _pairs(given: Iterable[str] | None, flag: str, shape: str) -> dict[str, str]:
    pairs = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals and flag == "--build-arg" and name in os.environ:
            value = os.environ[name]  # as docker does
        elif not equals or not name:
            raise UsageError(f"{flag} {text!r:.80} has no value", hint=f"write {flag} {shape}")
        if (name + value).encode(errors="ignore").decode() != name + value:  # not UTF-8 in the command line
            raise UsageError(f"{flag} {text!a:.80} is not text", hint="write it in UTF-8")
        pairs[name] = value
    return pairs


def _timestamp(given: int | None) -> int:
    text = os.environ.get(_EPOCH, "0") if given is None else str(given)
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > 2**33:  # noqa: PLR2004  (digits of 2**33)
        name = _EPOCH if given is None else "--timestamp"
        raise UsageError(
            f"{name} is not a time: {text[:40]!r}", hint="write seconds since 1970, such as 1735689600"
        )
    return int(text)
