"""What a scenario does with containers: values, with every default filled in.

Owns the domain of a `container` step. Must not know YAML, positions or how a scenario runs. The words of the
enumerations are those written in files; `format_container.py` says how each value is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from regsim.image.builder.effects import MadeFile


class Act(StrEnum):
    """What is done with a container."""

    CREATE = "create"
    WRITE = "write"
    REMOVE = "remove"
    READ = "read"
    LIST = "list"
    STOP = "stop"
    START = "start"
    RM = "rm"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """A container is made from an image, and runs."""

    act: ClassVar[Act] = Act.CREATE
    name: str
    image: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Files of a container change; in this order.

    Attributes:
        directories: are there.
        files: by path, in place of what is there.
        append: by path, what comes to the end of a file.
        chmod: by path, permission bits.
    """

    act: ClassVar[Act] = Act.WRITE
    name: str
    directories: tuple[bytes, ...] = ()
    files: Mapping[bytes, MadeFile] = field(default_factory=dict)
    append: Mapping[bytes, MadeFile] = field(default_factory=dict)
    chmod: Mapping[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Files and directories of a container are removed."""

    act: ClassVar[Act] = Act.REMOVE
    name: str
    paths: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A file of a container is read."""

    act: ClassVar[Act] = Act.READ
    name: str
    path: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class List:
    """A directory of a container is listed."""

    act: ClassVar[Act] = Act.LIST
    name: str
    path: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A container stops, and keeps its layer."""

    act: ClassVar[Act] = Act.STOP
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A container runs again."""

    act: ClassVar[Act] = Act.START
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rm:
    """A container is removed, and its layer lost."""

    act: ClassVar[Act] = Act.RM
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a container holds becomes an image, which later steps may push or create containers from."""

    act: ClassVar[Act] = Act.COMMIT
    name: str
    image: str
    message: str = ""


Doing: TypeAlias = Create | Write | Remove | Read | List | Stop | Start | Rm | Commit


class Presence(StrEnum):
    """Whether something is at a path."""

    PRESENT = "present"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What looking into a container must show; None for what is not checked.

    Attributes:
        content: what the file holds.
        file: whether something is at the path.
        names: what is in the directory, in any order.
    """

    content: str | None = None
    file: Presence | None = None
    names: tuple[str, ...] | None = None
