"""`regsim build`: an image from a Dockerfile, without any engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from regsim.cli.connecting import Connecting
from regsim.cli.output import Format, check_outputs, write
from regsim.client.address import Local, parse_destination
from regsim.core.result import error_document
from regsim.errors import RegsimError, UsageError


class Compression(StrEnum):
    """How layers are compressed."""

    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BuildFlags:
    """What a build can be told.

    Attributes:
        file: the Dockerfile; CONTEXT/Dockerfile if left out.
        tag: where the image goes: oci:DIR:TAG.
        build_arg: NAME=VALUE of an ARG; repeatable.
        build_context: NAME=IMAGE, what FROM NAME or --from=NAME means; repeatable.
        target: stop at this stage.
        platform: OS/ARCHITECTURE to build for; this machine's if left out.
        run: what RUN commands leave behind; the Dockerfile's name with .run.yaml added, if there is one.
        cache: keep layers in this directory, and take them from there.
        compression: gzip, zstd or none.
        compression_level: how hard to compress.
        timestamp: seconds since 1970 that all times are set to; $SOURCE_DATE_EPOCH, or 0.
        format: text or json.
        output: print to this file instead.
        quiet: print nothing but the digest and errors.
    """

    file: Annotated[Path | None, Parameter(name=("--file", "-f"))] = None
    tag: Annotated[str, Parameter(name=("--tag", "-t"))]
    build_arg: Annotated[list[str] | None, Parameter(negative=())] = None
    build_context: Annotated[list[str] | None, Parameter(negative=())] = None
    target: str | None = None
    platform: str | None = None
    run: Path | None = None
    cache: Path | None = None
    compression: Compression = Compression.GZIP
    compression_level: int | None = None
    timestamp: int | None = None
    format: Format = Format.TEXT
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False


def build(context: Path, /, *, flags: BuildFlags, connecting: Connecting | None = None) -> None:
    """Build an image from a Dockerfile, without any engine.

    RUN commands are not executed: a file says what they leave behind.

    Args:
        context: directory that COPY takes files from.
        flags: see below.
        connecting: see below.
    """
    try:
        digest = _build(context, flags, connecting or Connecting())
    except RegsimError as error:
        if flags.format is Format.JSON:
            write(json.dumps({"error": error_document(error)}, indent=2) + "\n", flags.output)
        raise
    write(digest, flags.output)


def _build(context: Path, flags: BuildFlags, connecting: Connecting) -> str:
    tag = parse_destination(flags.tag)
    if not isinstance(tag, Local) or tag.is_archive or tag.tag is None:
        raise UsageError(f"a build goes to a layout: --tag {flags.tag!r}", hint="write --tag oci:DIR:TAG")
    check_outputs(flags.output)
    from regsim.cli.building import build_image, render  # noqa: PLC0415  (helping needs no HTTP client)
    from regsim.cli.running import run  # noqa: PLC0415  (likewise)

    return render(run(build_image(context, tag, flags, connecting)), form=flags.format)
