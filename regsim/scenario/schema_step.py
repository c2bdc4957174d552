"""Steps of a scenario as its file writes them, and what they expect.

Owns the keys of a step and the error codes that it may expect. Must not know the other parts of a file, nor
how a scenario runs: names used here are judged in `names.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

from pydantic import GetPydanticSchema, create_model

from regsim.core import Digest, Reference
from regsim.core.reference import check_repository, check_tag
from regsim.errors import ExitCode, UsageError
from regsim.scenario.checks import (
    COMPARISON_PATTERN,
    METRICS,
    OF_CONTAINERS,
    Condition,
    Kind,
    parse_comparison,
)
from regsim.scenario.fields import Mapped, Several, Written, choice, free_text, key, word
from regsim.scenario.schema_container import ByNode, InContainer, KnownImage, Presence

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from regsim.scenario.reader import Reader
    from regsim.scenario.yaml_document import Entries

# Stands for the scenario's registry while a reference without host is parsed; no host is written so.
_HERE = ""

# Of errors without a code.
_KINDS = (ExitCode.USAGE, ExitCode.REGISTRY, ExitCode.NETWORK, ExitCode.CONTENT, ExitCode.LOCAL_FILES)
# distribution-spec, "Error Codes"; those of distribution, ggcr and Harbor; and of errors without a code.
_CODES = (
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "MANIFEST_UNVERIFIED",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "PAGINATION_NUMBER_INVALID",
    "RANGE_INVALID",
    "SIZE_INVALID",
    "TAG_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNAVAILABLE",
    "UNKNOWN",
    "UNSUPPORTED",
    "METHOD_UNKNOWN",
    "BAD_REQUEST",
    "CONFLICT",
    "FORBIDDEN",
    "INTERNAL_SERVER_ERROR",
    "INVALID_REQUEST",
    "METHOD_NOT_ALLOWED",
    "NOT_FOUND",
    "PRECONDITION",
    *(code.name for code in _KINDS),
)

# --- places ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A repository and a tag or digest in the scenario's registry, which is known only when it runs."""

    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read `repository[:tag][@digest]`; without tag and digest the tag is `latest`.

        Raises:
            UsageError: it has another shape, or names a registry.
        """
        reference = Reference.parse(text, default_host=_HERE)
        if reference.host != _HERE:
            if reference.host == text.partition("/")[0] and not set(reference.host) & set(".:"):
                check_repository(f"{reference.host}/{reference.repository}")
            raise UsageError(
                f'a step names no registry: "{text[:160]}"',
                hint=f'the registry is the scenario\'s; did you mean "{text.partition("/")[2][:160]}"?',
            )
        return cls(repository=reference.repository, tag=reference.tag, digest=reference.digest)

    @classmethod
    def parse_tag(cls, text: str) -> Place:
        """Read `repository[:tag]`, somewhere to write to.

        Raises:
            UsageError: it has another shape, or names a registry.
        """
        place = cls.parse(text)
        if place.digest is not None:
            raise UsageError(
                f'this names a tag, not a digest: "{text[:160]}"', hint="remove what follows the @"
            )
        return place

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")


Source: TypeAlias = Annotated[Place, Written(noun="a reference", parse=Place.parse, mentions="place")]
Target: TypeAlias = Annotated[
    Place, Written(noun="a tag to write to", parse=Place.parse_tag, mentions="place")
]

_TAG = Written(
    noun="a tag", parse=check_tag, schema={"type": "string", "pattern": "^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$"}
)

# --- the verbs ------------------------------------------------------------------------------------------


class Push(ByNode):
    """A node pushes an image to a tag."""

    noun = "a push"

    image: KnownImage = key("The image to push, by its key in images")
    to: Target = key("REPOSITORY[:TAG] to write to")


class Pull(ByNode):
    """A node, or all of its machines at once, pulls what a tag or digest names."""

    noun = "a pull"

    reference: Source = key("What to pull: REPOSITORY[:TAG][@DIGEST]")


class Copy(ByNode):
    """A node copies from one place of the registry (`source`, written `from`) to another."""

    noun = "a copy"

    source: Source = key("What to copy: REPOSITORY[:TAG][@DIGEST]", alias="from")
    to: Target = key("REPOSITORY[:TAG] to write to")


class Tag(Mapped):
    """What `reference` names gets one more tag in its repository."""

    noun = "a tag step"

    reference: Source = key("What to tag: REPOSITORY[:TAG][@DIGEST]")
    tag: Annotated[str, _TAG] = key("The new tag, in the same repository")


class Delete(Mapped):
    """A tag, or the manifest that a digest names, is deleted from the registry."""

    noun = "a delete"

    reference: Source = key("What to delete: REPOSITORY[:TAG][@DIGEST]")


Action: TypeAlias = Push | Pull | Copy | Tag | Delete | InContainer

# --- expectations ---------------------------------------------------------------------------------------


# What looking into a container shows, and which of its steps looks.
SEEN = {"content": "read", "file": "read", "names": "list"}


class Expect(Mapped):
    """What must hold for each node's transfer of a step, or for a container.

    Each metric is a key too. Of a container's read and list, None is not checked.

    Attributes:
        comparisons: figures over layers, or of a container, in the order of the file.
        error: the error code with which the step must fail; None if it must succeed.
        content: what the file holds.
        file: whether something is at the path.
        names: what is in the directory, in any order.
    """

    noun = "an expectation"

    comparisons: tuple[Condition, ...] = ()
    content: Annotated[bytes, replace(free_text("a content"), parse=str.encode)] | None = key(
        "What the file holds", default=None
    )
    file: Presence | None = key("Whether the file is there", default=None)
    names: Annotated[tuple[Annotated[str, free_text("a name")], ...], Several("a list of names")] | None = (
        key("What is in the directory", default=None)
    )
    error: Annotated[str, choice("an error code", _CODES, "no such error code")] | None = key(
        "The error code with which the step must fail", absent="the step must succeed", default=None
    )

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the keys that may be written, metrics first."""
        known = super().keys()
        return {name: known[name] for name in sorted(known, key=lambda name: name not in METRICS)}

    def finish(self, entries: Entries, reader: Reader) -> Self:
        """Gather the comparisons."""
        if self.content is not None and self.file is Presence.ABSENT:
            reader.problems.add(entries.key_at("content"), "what is absent has no content")
        metrics = [name for name in entries if name in METRICS]
        return self.model_copy(update={"comparisons": tuple(getattr(self, name) for name in metrics)})


def _comparison(metric: str) -> tuple[Any, Any]:
    kind, doc = METRICS[metric]
    noun = {Kind.COUNT: "a number of layers", Kind.BYTES: "a size", Kind.RATIO: "a ratio"}[kind]
    written = Written(
        noun=f"{noun}, or a comparison",
        parse=lambda text: parse_comparison(metric, text),
        schema={
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": COMPARISON_PATTERN}]
        },
        text=False,
    )
    return Annotated[Condition | None, written], key(doc[0].upper() + doc[1:], default=None)


_COMPARISONS: Any = {metric: _comparison(metric) for metric in METRICS}

# As a file writes it: with a key for each metric.
ExpectWritten = create_model("Expect", __base__=Expect, **_COMPARISONS)

# --- a step ---------------------------------------------------------------------------------------------

_STEP_NAME = word(
    "a step name",
    r"(?!\s)(?![0-9]+$)[^()\x00-\x1f\x7f]{1,100}(?<!\s)",
    "not a mere number, and without parentheses",
)


class Step(Mapped):
    """One step. `number` counts from 1."""

    noun = "a step"
    one_of = ("push", "pull", "copy", "tag", "delete", "container")
    reserved = ("prune",)

    number: int = 0
    push: Push | None = key("A node pushes an image", default=None)
    pull: Pull | None = key("A node pulls; several equal nodes pull at once", default=None)
    copy_: Copy | None = key("A node copies within the registry", default=None, alias="copy")
    tag: Tag | None = key("A manifest gets one more tag", default=None)
    delete: Delete | None = key("A tag, or a manifest by its digest, is deleted", default=None)
    container: InContainer | None = key("Something is done with a container on a node", default=None)
    name: Annotated[str, _STEP_NAME] | None = key(
        "What reports and checks may call it", absent="its number, from 1", default=None
    )
    expect: Annotated[Expect, GetPydanticSchema(lambda _, handler: handler(ExpectWritten))] = key(
        "What must hold for each node's transfer, or for the container",
        absent="that it succeeds",
        default=Expect(),
    )

    @property
    def action(self) -> Action:
        """What the step does, in full."""
        actions = (self.push, self.pull, self.copy_, self.tag, self.delete, self.container)
        return next(action for action in actions if action is not None)

    def finish(self, entries: Entries, reader: Reader) -> Self:
        """Note what the action of the step cannot show."""
        where, add = entries.key_at("expect"), reader.problems.add
        verb = next(verb for verb in self.one_of if verb in entries)
        act = self.container.doing.act if self.container is not None else None
        for metric in [comparison.metric for comparison in self.expect.comparisons]:
            if verb in ("tag", "delete"):
                add(where, f"a {verb} moves no layers to count", 'it may expect an "error" only')
            elif (metric in OF_CONTAINERS) != (verb == "container"):
                add(where, f'"{metric}" is not measured of a {verb}')
        for name, wanted in SEEN.items():
            if getattr(self.expect, name) is not None and act != wanted:
                add(where, f'"{name}" is what a container\'s {wanted} shows')
        return self
