"""An image's config while it is built, and the line that each instruction adds to its history.

Owns the keys of a config (image-spec, config.md, and docker's additions) and the wording of `created_by`,
which is BuildKit's of the time of the article that the project retells. Must not know stages, layers' content
or caches.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from regsim.core import Platform
from regsim.core.manifest import encode
from regsim.errors import ContentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from regsim.core import Digest
    from regsim.image.builder.instructions import Command, Healthcheck

COMMENT = "buildkit.dockerfile.v0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")

# In the order in which docker writes them.
_KEYS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
    "ArgsEscaped", "OnBuild", "Healthcheck", "StopTimeout", "Shell",
)  # fmt: skip
_PLATFORM_KEYS = ("architecture", "variant", "os", "os.version", "os.features")


@dataclass(slots=True)
class Config:
    """A config that instructions change.

    Attributes:
        document: platform and whatever else a base says at the top; without config, history and rootfs.
        config: how a container starts.
        history: one line an instruction, the base's first.
        diff_ids: of all layers, base first.
        author: who made it, if anybody says.
    """

    document: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    diff_ids: list[str] = field(default_factory=list)
    author: str | None = None

    @classmethod
    def empty(cls, platform: Platform) -> Config:
        """Return the config of `FROM scratch`."""
        return cls(document=platform.to_json(), config={"Env": [f"PATH={DEFAULT_PATH}"], "WorkingDir": "/"})

    @classmethod
    def of(cls, raw: bytes) -> Config:
        """Read the config of a base.

        Raises:
            ContentError: it is none.
        """
        try:
            document = json.loads(raw)
            rootfs, config = document["rootfs"], document.get("config") or {}
            diff_ids = [str(each) for each in rootfs["diff_ids"]]
            history = [dict(line) for line in document.get("history") or []]
            platform = {key: document[key] for key in _PLATFORM_KEYS if document.get(key)}
            author = document.get("author")
            if not isinstance(config, dict):
                raise TypeError("config")  # noqa: TRY301  (told with the others)
            _check_lists(config)
            encode(document)  # what cannot be written again (lone surrogates) is no text
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ContentError("a base's config is malformed", hint="it is no image to build on") from error
        return cls(
            document=platform,
            config={key: value for key, value in config.items() if value is not None},
            history=history,
            diff_ids=diff_ids,
            author=author if isinstance(author, str) else None,
        )

    def copy(self) -> Config:
        """Return one that changes on its own, for a stage that builds on this one."""
        return Config(
            document=dict(self.document),
            config=json.loads(json.dumps(self.config)),
            history=[dict(line) for line in self.history],
            diff_ids=list(self.diff_ids),
            author=self.author,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The variables that ENV set."""
        pairs = (str(each).partition("=") for each in self.config.get("Env") or ())
        return {name: value for name, _, value in pairs}

    @property
    def workdir(self) -> str:
        """Where relative paths begin."""
        return str(self.config.get("WorkingDir") or "/")

    @property
    def user(self) -> str:
        """Who runs commands; empty for root."""
        return str(self.config.get("User") or "")

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return Platform.from_json(self.document) or Platform("linux", "amd64")

    def add(
        self, created_by: str, timestamp: int, *, diff_id: Digest | None = None, comment: str = COMMENT
    ) -> None:
        """Add a line to the history, and the layer that it made unless it changed only metadata."""
        line: dict[str, Any] = {"created": when(timestamp), "created_by": created_by}
        if comment:
            line["comment"] = comment
        if diff_id is None:
            line["empty_layer"] = True
        else:
            self.diff_ids.append(diff_id)
        self.history.append(line)

    def set_env(self, name: str, value: str) -> None:
        """Set a variable, where it stood or at the end."""
        names = [str(each).partition("=")[0] for each in self.config.setdefault("Env", [])]
        if name in names:
            self.config["Env"][names.index(name)] = f"{name}={value}"
        else:
            self.config["Env"].append(f"{name}={value}")

    def absolute(self, path: str) -> str:
        """Return a path from the root, `.` and `..` resolved; a `/` at its end stays."""
        joined = posixpath.normpath(posixpath.join("/", self.workdir, path))
        joined = "/" + joined.lstrip("/")
        return f"{joined}/" if path.endswith(("/", "/.")) and joined != "/" else joined

    def shell_words(self, command: Command) -> list[str]:
        """Return a command's words; one that is no exec form goes to the shell."""
        if command.is_exec:
            return list(command.words)
        return [*(self.config.get("Shell") or DEFAULT_SHELL), *command.words]

    def raw(self, timestamp: int) -> bytes:
        """Return the finished config, the same to the byte for the same content."""
        document: dict[str, Any] = {"created": when(timestamp)}
        if self.author:
            document["author"] = self.author
        known = {key: self.config[key] for key in _KEYS if _says_something(self.config.get(key))}
        others = {key: self.config[key] for key in sorted(self.config) if key not in _KEYS}
        return encode(
            {
                **document,
                **self.document,
                "config": {**known, **others},
                "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
                "history": self.history,
            }
        )


def when(timestamp: int) -> str:
    """Return a time in seconds since 1970 as configs write it (RFC 3339)."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def quoted(words: Iterable[str]) -> str:
    """Return words as a history shows them: `["./main" "-v"]`."""
    return f"[{' '.join(json.dumps(word, ensure_ascii=False) for word in words)}]"


def health(check: Healthcheck) -> dict[str, Any]:
    """Return a HEALTHCHECK as a config has it."""
    document: dict[str, Any] = {"Test": list(check.test), **check.times}
    if check.retries:
        document["Retries"] = check.retries
    return document


def go_map(names: Iterable[str]) -> str:
    """Return a set of names as Go prints one, which is what a history shows of EXPOSE."""
    return f"map[{' '.join(f'{name}:{{}}' for name in sorted(names))}]"


def words_line(name: str, values: Sequence[str]) -> str:
    """Return the history's line of an instruction that has a list."""
    return f"{name} [{' '.join(values)}]"


def _says_something(value: object) -> bool:
    return value not in (None, "", [], {}, False)


def _check_lists(config: Mapping[str, Any]) -> None:
    for key in ("Env", "Entrypoint", "Cmd", "OnBuild", "Shell"):
        value = config.get(key)
        if value is not None and not (
            isinstance(value, list) and all(isinstance(each, str) for each in value)
        ):
            raise TypeError(key)
    for key in ("ExposedPorts", "Volumes", "Labels"):
        if not isinstance(config.get(key), dict | None):
            raise TypeError(key)
    for key in ("User", "WorkingDir"):
        if not isinstance(config.get(key) or "", str):
            raise TypeError(key)
