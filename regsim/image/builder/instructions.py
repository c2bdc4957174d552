"""What each instruction of a Dockerfile says, as values; variables in them are not replaced yet.

Owns the values only. Must not know how they are read or what they do to an image.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from regsim.image.builder.syntax import Heredoc


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program and its arguments, or with `is_exec` unset one line for the shell."""

    words: tuple[str, ...]
    is_exec: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class From:
    """FROM: begins a stage."""

    line: int
    base: str
    name: str | None = None
    platform: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """COPY, or with `is_add` ADD.

    Args:
        line: its line in the Dockerfile.
        is_add: whether it is ADD.
        unpack: whether local tar archives are unpacked: of ADD they are, unless `--unpack=false`.
        sources: paths or patterns in the source.
        heredocs: files that stand in the Dockerfile.
        destination: a path in the image; one that ends with `/` is a directory.
        source: `--from`: a stage or an image; None for the context.
        chown: `--chown`: user or user:group.
        chmod: `--chmod`: octal digits.
        exclude: `--exclude`: patterns of what is left out.
        parents: `--parents`: keep the sources' directories.
        link: `--link`: the layer does not depend on what is below it.
    """

    line: int
    is_add: bool
    unpack: bool
    sources: tuple[str, ...]
    heredocs: tuple[Heredoc, ...]
    destination: str
    source: str | None = None
    chown: str | None = None
    chmod: str | None = None
    exclude: tuple[str, ...] = ()
    parents: bool = False
    link: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """RUN: a command, which is not executed here.

    Args:
        line: its line in the Dockerfile.
        command: the program, or what the shell gets.
        key: by what name its effects are declared: the command on one line, each run of spaces as one.
    """

    line: int
    command: Command
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """ENV or LABEL: names and values, as written."""

    line: int
    is_label: bool
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg:
    """ARG: names, each with its default if it has one."""

    line: int
    names: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """CMD, or with `is_entrypoint` ENTRYPOINT."""

    line: int
    is_entrypoint: bool
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """An instruction with one argument: WORKDIR, USER, STOPSIGNAL or MAINTAINER."""

    line: int
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """An instruction with a list of arguments: EXPOSE, VOLUME or SHELL."""

    line: int
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """HEALTHCHECK. Times are in nanoseconds, as in a config; 0 if not given.

    Args:
        line: its line in the Dockerfile.
        test: `NONE`; `CMD` and words; or `CMD-SHELL` and a line.
        times: `Interval`, `Timeout`, `StartPeriod`, `StartInterval`.
        retries: how many failures in a row.
    """

    line: int
    test: tuple[str, ...]
    times: dict[str, int] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild:
    """ONBUILD: an instruction for images that are built on this one, as written."""

    line: int
    trigger: str


Instruction: TypeAlias = Copy | Run | Pairs | Arg | Start | Text | Words | Healthcheck | Onbuild


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A FROM and what follows it, up to the next one."""

    start: From
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A whole Dockerfile.

    Args:
        name: what messages call it.
        arguments: the ARGs before the first FROM.
        stages: in order, at least one.
        escape: the character that escapes.
    """

    name: str
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    escape: str
