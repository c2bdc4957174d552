"""One stage being built: its instructions one after the other, from the cache if possible.

Owns what each instruction reads and leaves, and so what decides a step's key: the layers below, the
instruction with its variables replaced, and what it copies or is declared to leave. Metadata alone decides
nothing: a new LABEL rebuilds no layer. Must not know which stages there are.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from regsim.errors import UsageError
from regsim.image.builder.archives import is_archive, unpack
from regsim.image.builder.config import change
from regsim.image.builder.copying import Placement, Taken, take, take_inline
from regsim.image.builder.dockerfile import Copy, Healthcheck, Run, defaults
from regsim.image.builder.effects import declared
from regsim.image.builder.syntax import Written, expand, expand_content, expand_words
from regsim.image.opened import Files
from regsim.image.spool import DiskSpool
from regsim.image.tree import follow
from regsim.store.entry import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import ExitStack

    from regsim.image.builder.config import Config
    from regsim.image.builder.copying import Source
    from regsim.image.builder.dockerfile import Instruction
    from regsim.image.builder.effects import Effect
    from regsim.image.builder.work import Maker, Work
    from regsim.image.opened import OpenLayer
    from regsim.store.entry import Opener

_PASSWD = b"etc/passwd"
_GROUP = b"etc/group"
_MAX_ID = 2**32 - 2
_FIELDS = 3


async def owner(text: str, read: Callable[[bytes], Awaitable[bytes]]) -> tuple[int, int]:
    """Return the numbers of a user and a group.

    A user number without a group is the group's number too; a user name has the group of its line. root is 0
    whether or not the files list it.

    Args:
        text: `user`, `user:group`, names or numbers.
        read: returns a file of the image, or nothing if it does not exist.

    Raises:
        UsageError: a name is not in those files, or a number is too large.
    """
    user, colon, group = text.partition(":")
    uid = 0 if user == "root" else _number(user)
    gid = uid
    if uid is None:
        line = _line(await read(_PASSWD), user)
        if line is None or _number(line[2]) is None:
            raise UsageError(f"there is no user {user!r:.60} in the image", hint=_hint("/etc/passwd"))
        uid, gid = _number(line[2]), _number(line[3]) if len(line) > _FIELDS else 0
    if colon:
        gid = 0 if group == "root" else _number(group)
        if gid is None:
            line = _line(await read(_GROUP), group)
            gid = _number(line[2]) if line is not None else None
            if gid is None:
                raise UsageError(f"there is no group {group!r:.60} in the image", hint=_hint("/etc/group"))
    return uid or 0, gid or 0


def _hint(file: str) -> str:
    return f"give a number, or build on an image whose {file} has that name"


def _number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > len(str(_MAX_ID)):
        return None
    if int(text) > _MAX_ID:
        raise UsageError(f"no such owner: {text}", hint=f"numbers go up to {_MAX_ID}")
    return int(text)


def _line(raw: bytes, name: str) -> list[str] | None:
    for line in raw.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) >= _FIELDS and fields[0] == name and name:
            return fields
    return None


_MODE = re.compile(r"[0-7]{1,4}")
_SUFFIX = " # buildkit"


class StageBuilder:
    """Builds one stage.

    Args:
        name: what messages call it.
        config: that of its base; changed from here on.
        layers: those of its base; added to from here on.
        work: writes layers, or finds them.
        inherited: what an ARG without a value takes from before the first FROM.
        escape: the Dockerfile's escape character.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        layers: Sequence[OpenLayer],
        work: Work,
        *,
        inherited: Mapping[str, str],
        escape: str,
    ) -> None:
        self.config = config
        self.layers = list(layers)
        self._name = name
        self._inherited = inherited
        self._escape = escape
        self._work = work
        self._timestamp = work.request.timestamp
        self._arguments: dict[str, str] = {}
        self._shown_arguments: dict[str, str] = {}
        self._files = Files(f"stage {name}")

    def inherit(self, below: StageBuilder) -> None:
        """Take over the ARGs of the stage that this one begins with."""
        self._arguments |= below._arguments
        self._shown_arguments |= below._shown_arguments

    async def files(self) -> Files:
        """Return what the stage holds by now."""
        await self._files.grow(self.layers)
        return self._files

    async def do(self, instruction: Instruction, source: Source | Files) -> None:
        """Do an instruction.

        Args:
            instruction: any.
            source: what COPY and ADD copy from.

        Raises:
            RegsimError: it cannot be done; the file, flag or value that is wrong is named.
        """
        match instruction:
            case Copy():
                await self._copy(instruction, source)
            case Run():
                await self._run(instruction)
            case Healthcheck(document=document):
                self.config.config["Healthcheck"] = document
                shown = (f"{key}:{_as_go_prints(value)}" for key, value in document.items())
                self._note(f"HEALTHCHECK {{{' '.join(shown)}}}")
            case Written(name="WORKDIR"):
                await self._workdir(instruction.arguments[0])
            case Written(name="ARG"):
                self._note(self._arg(instruction))
            case Written(name="ONBUILD"):
                self.config.config.setdefault("OnBuild", []).append(instruction.arguments[0])
            case _:
                self._note(change(self.config, instruction, self._expand, self._expand_words))

    def _note(self, created_by: str) -> None:
        self.config.add(created_by, self._timestamp)
        self._work.note(self._name, created_by)

    @property
    def _values(self) -> dict[str, str]:
        return {**self._arguments, **self.config.environment}

    def _expand(self, word: str) -> str:
        return expand(word, self._values, self._escape)

    def _expand_words(self, text: str) -> list[str]:
        return expand_words(text, self._values, self._escape)

    def _arg(self, arg: Written) -> str:
        shown = []
        for name, default in defaults(arg):
            value = self._work.request.arguments.get(name)
            if value is None:
                value = self._expand(default) if default is not None else self._inherited.get(name)
            if value is not None:
                self._arguments[name] = value
            self._shown_arguments[name] = value or ""
            shown.append(name if value is None else f"{name}={value}")
        return " ".join(("ARG", *shown))

    async def _workdir(self, text: str) -> None:
        path = self.config.absolute(self._expand(text)).rstrip("/") or "/"
        self.config.config["WorkingDir"] = path
        if path == "/":
            self._note("WORKDIR /")
            return

        async def make(_: ExitStack) -> Placement:
            user = await self._owner(self.config.user) if self.config.user else None
            placement = Placement(find=(await self.files()).find, timestamp=self._timestamp, owner=user)
            placement.make_directory(path.encode("utf-8", "surrogateescape").strip(b"/"))
            return placement

        inputs = ["workdir", path, self.config.user]
        await self._layer(f"WORKDIR {path}", inputs, make)

    async def _run(self, run: Run) -> None:
        effect = declared(self._work.request.effects, run.key)
        words = self.config.shell_words(run.words, is_exec=run.is_exec)
        arguments = [f"{name}={value}" for name, value in self._shown_arguments.items()]
        prefix = [f"|{len(arguments)}", *arguments] if arguments else []
        line = " ".join(("RUN", *prefix, *words)) + _SUFFIX

        async def make(_: ExitStack) -> Placement:
            return _left(effect, await self.files(), self._timestamp)

        environment = sorted(self._values.items())
        inputs = ["run", words, arguments, environment, self.config.workdir, self.config.user]
        await self._layer(line, [*inputs, effect.fingerprint()], make)

    async def _copy(self, copy: Copy, source: Source | Files) -> None:
        sources = [self._expand(each) for each in copy.sources]
        written = self._expand(copy.destination)
        destination = self.config.absolute(written or ".")
        # An unset variable changes nothing, as in BuildKit.
        chown = self._expand(copy.chown or "") or None
        chmod = self._expand(copy.chmod or "")
        mode = _mode(chmod) if chmod else None
        taken = await asyncio.to_thread(
            take, source, sources, exclude=tuple(map(self._expand, copy.exclude)), parents=copy.parents
        )
        for each in copy.heredocs:
            content = each.content
            if each.expand:
                content = expand_content(content, self._values, self._escape)
            taken.append(take_inline(each.name, content))

        async def make(stack: ExitStack) -> Placement:
            filled = await _filled(taken, source, stack)
            placement = Placement(
                find=_nothing if copy.link else (await self.files()).find,
                timestamp=self._timestamp,
                owner=await self._owner(chown) if chown is not None else None,
                mode=mode,
            )
            await asyncio.to_thread(_put, placement, filled, destination, stack, unpacking=copy.unpack)
            return placement

        flags = [f"--{name}={value}" for name, value in (("chown", chown), ("chmod", chmod)) if value]
        names = [*sources, *(f"<<{each.name}" for each in copy.heredocs)]
        line = " ".join(("ADD" if copy.is_add else "COPY", *flags, *names, written)) + _SUFFIX
        if all(each.is_directory for each in taken):
            destination = destination.rstrip("/")  # it says nothing then
        # With --link what is below is not in the key, and so the name's meaning there has to be.
        who = await self._owner(chown) if copy.link and chown is not None else chown
        inputs = ["copy", destination, who, mode, copy.unpack, [each.fingerprint() for each in taken]]
        await self._layer(line, inputs, make, alone=copy.link)

    async def _layer(self, line: str, inputs: Sequence[object], make: Maker, *, alone: bool = False) -> None:
        below = [] if alone else self.config.diff_ids
        layer = await self._work.layer(self._name, line, [below, inputs], make)
        self.layers.append(layer)
        self.config.add(line, self._timestamp, diff_id=layer.diff_id)

    async def _owner(self, text: str) -> tuple[int, int]:
        async def read(path: bytes) -> bytes:
            return await (await self.files()).small_file(path)

        return await owner(text, read)


def _as_go_prints(value: object) -> str:
    return f"[{' '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _nothing(_path: bytes) -> Entry | None:
    return None


def _mode(text: str) -> int:
    if _MODE.fullmatch(text) is None:
        raise UsageError(f"not a mode: --chmod={text[:40]}", hint="octal digits, such as 0755")
    return int(text, 8)


def _left(effect: Effect, files: Files, timestamp: int) -> Placement:
    """Return what a RUN leaves of what was there.

    Raises:
        UsageError: it deletes what is not there.
        ContentError: a file cannot be at its declared path.
    """
    placement = Placement(find=files.find, timestamp=timestamp)
    for path in effect.delete:
        place = follow(files.find, path, last=False)
        if files.find(place) is None:
            shown = path.decode("utf-8", "replace")
            raise UsageError(f"a command is declared to delete {shown!r}, which is not there")
        placement.entries[place] = Entry(path=place, kind=Kind.WHITEOUT)
    for entry in effect.entries(timestamp):
        placement.put(follow(placement.find, entry.path, last=False), entry)
    return placement


async def _filled(taken: Sequence[Taken], source: Source | Files, stack: ExitStack) -> list[Taken]:
    """Return what was taken with contents: those of a stage are in its layers."""
    if not isinstance(source, Files):
        return list(taken)
    entries = [entry for each in taken for _, entry in each.entries if entry.content is None]
    contents = await source.contents(entries, stack)
    return [
        replace(each, entries=tuple((path, _with_content(entry, contents)) for path, entry in each.entries))
        for each in taken
    ]


def _with_content(entry: Entry, contents: Mapping[bytes, Opener]) -> Entry:
    if entry.kind is not Kind.FILE or entry.content is not None:
        return entry
    return replace(entry, content=contents[entry.path])


def _put(
    placement: Placement, taken: Sequence[Taken], destination: str, stack: ExitStack, *, unpacking: bool
) -> None:
    if len(taken) > 1:
        placement.directory_of(taken, destination)  # one after the other, each would be the only one
    for each in taken:
        archive = each.entries[0][1] if unpacking and not each.is_directory else None
        if archive is None or not is_archive(archive):
            placement.copy([each] if unpacking else taken, destination)
            if not unpacking:
                return
            continue
        place = placement.directory_of([replace(each, is_directory=True)], destination)
        if place is not None:
            placement.unpack(unpack(archive, stack.enter_context(DiskSpool())), place)
