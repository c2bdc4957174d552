"""What commands leave behind, as a file writes it: `run` of an image, and a file beside a Dockerfile.

Owns these keys, and how a path and a file in an image are written. Must not know Dockerfiles.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regsim.errors import ContentError, UsageError
from regsim.image.builder.dockerfile import command_key
from regsim.image.builder.effects import Effect, MadeFile, check_effect
from regsim.scenario.compound import ByKind, ListOf, MapOf
from regsim.scenario.shapes import SIZE, Amount, Decimal, Fields, Parsed, Reader, Text
from regsim.scenario.table import Key, Table
from regsim.store.entry import check_path
from regsim.synth.recipe import MAX_RATIO

if TYPE_CHECKING:
    from regsim.scenario.positions import Entries, YamlNode

_MODE = re.compile(r"0?[0-7]{3,4}")
_OWNER = re.compile(r"([0-9]{1,10}):([0-9]{1,10})")


def _path(text: str) -> bytes:
    try:
        path = check_path(text.removeprefix("/").encode("utf-8", "surrogateescape"))
    except ContentError as error:
        raise UsageError(error.message, hint="a path in the image, such as go/main") from error
    if not path:
        raise UsageError("the root directory itself is no file", hint="a path in the image, such as go/main")
    return path


def _mode(text: str) -> int:
    if _MODE.fullmatch(text) is None:
        raise UsageError(f'not a mode: "{text[:40]}"', hint="octal digits, such as 0755")
    return int(text, 8)


def _owner(text: str) -> tuple[int, int]:
    match = _OWNER.fullmatch(text)
    if match is None:
        raise UsageError(
            f'not an owner: "{text[:40]}"', hint='numbers of a user and a group, such as "1000:1000"'
        )
    return int(match[1]), int(match[2])


def _file(fields: Fields, entries: Entries, reader: Reader) -> MadeFile:
    for name in ("seed", "ratio"):
        key = entries.key(name)
        if key is not None and "size" not in fields:
            reader.problems.add(key.where, f'"{name}" goes with "size" only')
    content = fields.get("content")
    link = fields.get("link")
    uid, gid = fields.get("owner", (0, 0))
    return MadeFile(
        size=fields.get("size", 0),
        content=content.encode("utf-8", "surrogateescape") if content is not None else None,
        seed=fields.get("seed"),
        ratio=fields.get("ratio", 1.0),
        mode=fields.get("mode", 0o644),
        uid=uid,
        gid=gid,
        link=link.encode("utf-8", "surrogateescape") if link is not None else None,
    )


FILE = Table(
    noun="a file that a command leaves",
    keys={
        "size": Key(doc="Bytes of a made-up content", shape=SIZE),
        "content": Key(doc="What it holds", shape=Text("a content")),
        "link": Key(doc="Makes it a symbolic link to this target", shape=Text("a target")),
        "seed": Key(
            doc="Made-up contents of one seed, size and ratio are equal",
            shape=Text("a seed"),
            default="its path",
        ),
        "ratio": Key(
            doc="How many times smaller a compressor makes a made-up content",
            shape=Decimal(noun="a ratio", minimum=1, maximum=MAX_RATIO),
            default="1, it does not compress",
        ),
        "mode": Key(
            doc="Permission bits",
            shape=Amount(
                noun="a mode such as 0755",
                parse=_mode,
                schema_of={
                    "anyOf": [
                        {"type": "integer", "minimum": 0},
                        {"type": "string", "pattern": "^0?[0-7]{3,4}$"},
                    ]
                },
            ),
            default="0644",
        ),
        "owner": Key(
            doc="Numbers of user and group",
            shape=Parsed(noun="user:group", parse=_owner, pattern="^[0-9]{1,10}:[0-9]{1,10}$"),
            default="0:0",
        ),
    },
    build=_file,
    one_of=("size", "content", "link"),
)


class _FileSize:
    """A file of which only the size is given."""

    noun = "a size such as 81MB, or a mapping with size, content or link"

    def read(self, node: YamlNode, reader: Reader) -> MadeFile:
        """Return the file."""
        return MadeFile(size=SIZE.read(node, reader))

    def schema(self) -> dict[str, object]:
        """A size."""
        return SIZE.schema()


PATH = Parsed(noun="a path in the image", parse=_path)

FILES = MapOf(
    noun="a mapping of paths to files",
    key=PATH,
    value=ByKind(noun=_FileSize.noun, scalar=_FileSize(), entries=FILE),
    build=lambda _, file: file,
)


def _effect(fields: Fields, entries: Entries, reader: Reader) -> Effect:
    effect = Effect(files=fields.get("files", {}), delete=fields.get("delete", ()))
    try:
        check_effect(effect)
    except (UsageError, ContentError) as error:
        reader.problems.reject(entries.where, error.message, error.hint)
    return effect


EFFECT = Table(
    noun="what a command leaves",
    keys={
        "files": Key(
            doc="Files by their paths: a size, or a mapping",
            shape=FILES,
            default="none",
        ),
        "delete": Key(
            doc="Files and directories of the layers below that it removes",
            shape=ListOf(noun="a list of paths", item=PATH),
            default="nothing",
        ),
    },
    build=_effect,
)

RUNS = MapOf(
    noun="a mapping of commands to what they leave",
    key=Parsed(noun="a command, as it stands after RUN", parse=command_key),
    value=EFFECT,
    build=lambda _, effect: effect,
)
