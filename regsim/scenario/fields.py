"""The models of a scenario file, without their keys: how they read values, and how fields are annotated.

Owns the base of the models and the annotations of their fields: what pydantic adds no words for (unknown,
missing and excluded keys, text that must be text to every YAML reader, short forms) and the JSON Schema of
it. Must not know any particular key.

A model reads a `YamlNode` with a `Reader` as context; made in Python, its values are taken as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from regsim.core.quantities import MAX_SIZE, SIZE_PATTERN, parse_size
from regsim.core.suggest import closest, did_you_mean
from regsim.errors import UsageError
from regsim.scenario.reader import NOTED, Mention, Reader, describe, refusal, unexpected
from regsim.scenario.yaml_document import YAML_NODE, Entries, Items, Scalar, YamlNode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pydantic.fields import FieldInfo

JsonSchema: TypeAlias = dict[str, Any]

MAX_TEXT = 10_000
_SHOWN = 60
DEFAULT = ". Default: "


# --- annotations of fields ------------------------------------------------------------------------------


def key(doc: str, *, absent: str = "", default: Any = ..., alias: str | None = None) -> Any:
    """Return the field of a key that may be written.

    A field that is made without this function is no key: whatever loads the file fills it in.

    Args:
        doc: what it means.
        absent: in words, what its absence means.
        default: the value then; without one the key is required.
        alias: the key, if it is no name in Python.
    """
    described = f"{doc}{DEFAULT}{absent}." if absent else f"{doc}."
    return Field(default, description=described, validation_alias=alias)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Written:
    """The annotation of a value that is read from how it is written.

    Attributes:
        noun: how mistakes call such a value.
        parse: returns the value, or raises UsageError, whose hint is shown.
        schema: of the value, in JSON Schema.
        mentions: what kind of thing the value names that must be defined elsewhere in the file.
        text: it must be text to every YAML reader; otherwise a number may be written as well.
    """

    noun: str
    parse: Callable[[str], Any] = str
    schema: JsonSchema = field(default_factory=lambda: {"type": "string", "minLength": 1})
    mentions: str = ""
    text: bool = True

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(
        self, _core: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        return dict(self.schema)

    def _read(self, node: Any, info: ValidationInfo[Any]) -> Any:
        if not isinstance(node, YAML_NODE):
            return node
        value = self.read(node)
        if self.mentions:
            info.context.mentions.append(Mention(self.mentions, value, node.where))
        return value

    def read(self, node: YamlNode) -> Any:
        """Return the value of a node, or raise the error that tells why it has none."""
        try:
            return self.parse(str(self._text_of(node)))
        except UsageError as error:
            raise refusal(node, error.message, error.hint) from None

    def _text_of(self, node: YamlNode) -> Scalar:
        if not isinstance(node, Scalar) or node.is_null:
            raise unexpected(node, self.noun)
        if not self.text:
            if isinstance(node.value, bool):
                raise unexpected(node, self.noun)
            return node
        quote = f'put it in quotes: "{node[:_SHOWN]}"'
        if not isinstance(node.value, str):
            raise refusal(node, f"{self.noun} must be text, found {describe(node)}", quote)
        if node.is_ambiguous:
            unquoted = f"some readers take an unquoted {node[:_SHOWN]} for something else"
            raise refusal(node, f"{self.noun} must be text, but {unquoted}", quote)
        if len(node) > MAX_TEXT:
            raise refusal(node, f"{self.noun} is longer than {MAX_TEXT:,} characters")
        return node


def free_text(noun: str) -> Written:
    """Return the annotation of free text."""
    return Written(noun=noun, schema={"type": "string", "maxLength": MAX_TEXT})


def word(noun: str, pattern: str, allowed: str, *, mentions: str = "") -> Written:
    """Return the annotation of a word of a given alphabet."""

    def parse(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise UsageError(f'not {noun}: "{text[:80]}"', hint=allowed)
        return text

    return Written(
        noun=noun, parse=parse, schema={"type": "string", "pattern": f"^{pattern}$"}, mentions=mentions
    )


def choice(noun: str, words: Collection[str], mistake: str) -> Written:
    """Return the annotation of one of some words; `mistake` says that another one is none of them."""

    def parse(text: str) -> str:
        if text not in words:
            raise UsageError(f'{mistake}: "{text[:80]}"', hint=did_you_mean(text, words))
        return text

    return Written(noun=noun, parse=parse, schema={"type": "string", "enum": list(words)})


SIZE = Written(
    noun="a size",
    parse=parse_size,
    schema={
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": MAX_SIZE},
            {"type": "string", "pattern": SIZE_PATTERN},
        ]
    },
    text=False,
)


# The annotation of a number, after those of its bounds.
NUMBER = BeforeValidator(lambda node: node.value if isinstance(node, Scalar) else node)


@dataclass(frozen=True, slots=True)
class Several:
    """The annotation of a list or a mapping: how mistakes call it, and how many items it has at least."""

    noun: str
    minimum: int = 0

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        inner = handler(source)
        kind = Entries if inner["type"] == "dict" else Items

        def read(node: Any, validate: core_schema.ValidatorFunctionWrapHandler) -> Any:
            if isinstance(node, YAML_NODE) and (not isinstance(node, kind) or len(node) < self.minimum):
                raise unexpected(node, self.noun)
            found = validate(node)
            if isinstance(node, Entries) and len(found) < len(node):
                raise refusal(node, f"two keys of {self.noun} mean the same")
            return found

        return core_schema.no_info_wrap_validator_function(read, inner)

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        made = handler(core)
        bound = "minItems" if made["type"] == "array" else "minProperties"
        return {**made, bound: self.minimum} if self.minimum else made


# --- mappings with known keys ---------------------------------------------------------------------------


class Mapped(BaseModel):
    """The base of a mapping with known keys, which are the fields made by `key`.

    Attributes:
        noun: how mistakes call it.
        form: what may be written for it, if that is not a mapping alone.
        one_of: exactly one of these keys must be written.
        goes_with: keys that mean something only with another one.
        reserved: keys whose place is kept for a later version.
        short: the key whose value may stand for the whole.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, arbitrary_types_allowed=True
    )

    noun: ClassVar[str]
    form: ClassVar[str] = ""
    one_of: ClassVar[tuple[str, ...]] = ()
    goes_with: ClassVar[dict[str, str]] = {}
    reserved: ClassVar[tuple[str, ...]] = ()
    short: ClassVar[str] = ""

    def finish(self, entries: Entries, reader: Reader) -> Self:  # noqa: ARG002  (for those that override it)
        """Return the value when all keys are read; note what is wrong with them together."""
        return self

    @classmethod
    def keys(cls) -> dict[str, FieldInfo]:
        """Return the keys that may be written."""
        fields = cls.model_fields.items()
        return {str(info.validation_alias or name): info for name, info in fields if info.description}

    @classmethod
    def long(cls, node: YamlNode) -> YamlNode | Self:
        """Return the mapping, or the value, that another node stands for."""
        if isinstance(node, Scalar) and not node.is_null and cls.short:
            return Entries([(Scalar(cls.short, node.where), node)], node.where)
        if isinstance(node, Scalar) and node.is_null and cls._may_be_empty():
            # "ci:" with nothing after it says the same as "ci: {}".
            return Entries([], node.where)
        return node

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo[Any]) -> Self:
        if not isinstance(data, YAML_NODE):
            return handler(data)
        entries, reader = cls.long(data), info.context
        if isinstance(entries, cls):
            return entries
        if not isinstance(entries, Entries):
            raise unexpected(data, cls.form or cls.noun)
        known = cls.keys()
        whole = cls._is_whole(entries, known, reader)
        value = handler({str(name): entries[name] for name in entries if name in known})
        if not whole:
            raise PydanticCustomError(NOTED, "")
        return value.finish(entries, reader)

    @classmethod
    def _may_be_empty(cls) -> bool:
        return not cls.one_of and not any(info.is_required() for info in cls.keys().values())

    @classmethod
    def _is_whole(cls, entries: Entries, known: Mapping[str, FieldInfo], reader: Reader) -> bool:
        """Note unknown, missing and excluded keys; tell whether there are none."""
        add = reader.problems.add
        unknown = [each for each in entries.words() if each not in known]
        for each in unknown:
            if each in cls.reserved:
                add(each.where, f'"{each}" is not available yet')
            elif each == "<<":
                add(each.where, 'unknown key "<<"', "YAML 1.2 has no merge keys; write the keys out")
            else:
                add(each.where, f'unknown key "{each[:80]}"', did_you_mean(each, known))
        # A mistyped key is reported; that the right one is missing follows from it.
        mistyped = {closest(each, known) for each in unknown}
        missing = [name for name, info in known.items() if info.is_required() and name not in entries]
        for name in missing:
            if name not in mistyped:
                add(entries.where, f'{cls.noun} lacks the key "{name}"')
        if cls.one_of and {*entries, *mistyped}.isdisjoint((*cls.one_of, *cls.reserved)):
            names = ", ".join(f'"{name}"' for name in cls.one_of)
            add(entries.where, f"{cls.noun} needs one of {names}")
        chosen = [each for each in entries.words() if each in cls.one_of]
        for each in chosen[1:]:
            add(each.where, f'{cls.noun} has "{chosen[0]}" already', f'"{each}" excludes it')
        for name, needed in cls.goes_with.items():
            if name in entries and needed not in entries:
                add(entries.key_at(name), f'"{name}" goes with "{needed}" only')
        return not (unknown or missing) and len(chosen) == bool(cls.one_of)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        made, known = handler.resolve_ref_schema(handler(core)), cls.keys()
        properties = {name: made["properties"][name] for name in known}
        schema: JsonSchema = {
            "type": ["object", "null"] if cls._may_be_empty() else "object",
            "additionalProperties": False,
            "properties": properties,
        }
        if "required" in made:
            schema["required"] = made["required"]
        if cls.one_of:
            schema["oneOf"] = [{"required": [name]} for name in cls.one_of]
        made.clear()
        made.update({"anyOf": [cls._short_schema(properties), schema]} if cls.short else schema)
        return made

    @classmethod
    def _short_schema(cls, properties: JsonSchema) -> JsonSchema:
        return {name: value for name, value in properties[cls.short].items() if name != "description"}


def _file(text: str) -> Path:
    if not text or "\0" in text:
        raise UsageError(f'no path: "{text[:160]}"', hint="write a path, such as web/Dockerfile")
    return Path(text)


def beside(path: Path, info: ValidationInfo) -> Path:
    """Return a path of a file as one that can be opened: it is relative to the file's own directory."""
    return info.context.directory / path if info.context is not None else path


FilePath: TypeAlias = Annotated[Path, Written(noun="a path", parse=_file), AfterValidator(beside)]
