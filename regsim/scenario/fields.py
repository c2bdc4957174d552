"""How models of a scenario file read its values: with positions, in our words, and every mistake at once.

Owns the base of the models and the annotations of their fields: what pydantic adds no words for (unknown,
missing and excluded keys, text that must be text to every YAML reader, short forms), the table from
pydantic's errors to our words, and the JSON Schema of all this. Must not know any particular key.

A model reads a `YamlNode` with a `Reader` as context; made in Python, its values are taken as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    NamedTuple,
    Self,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
)

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from regsim.core.quantities import MAX_SIZE, SIZE_PATTERN, parse_size
from regsim.core.suggest import closest, did_you_mean
from regsim.errors import UsageError
from regsim.scenario.yaml_document import YAML_NODE, Entries, Items, Position, Problems, Scalar, YamlNode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

T = TypeVar("T")

JsonSchema: TypeAlias = dict[str, Any]

MAX_TEXT = 10_000
_SHOWN = 60
_DEFAULT = ". Default: "
# Errors with these types have been noted already, or follow from what has been noted.
_NOTED: Final = "noted"
_TOLD = frozenset({_NOTED, "missing"})


class Mention(NamedTuple):
    """A name, or a check with one, that must be defined elsewhere in the file; where it is used."""

    kind: str
    value: Any
    where: Position


@dataclass(slots=True)
class Reader:
    """What one reading of a file has gathered: its mistakes, and the names that it uses.

    `directory` is the file's own, to which paths in it relate.
    """

    problems: Problems = field(default_factory=Problems)
    directory: Path = field(default_factory=Path)
    mentions: list[Mention] = field(default_factory=list)

    def read(self, kind: TypeAdapter[T], root: YamlNode) -> T | None:
        """Return what a document says; None if it has mistakes, which are noted."""
        try:
            return kind.validate_python(root, context=self)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                self._note(each, root)
        return None

    def _note(self, error: ErrorDetails, root: YamlNode) -> None:
        if error["type"] in _TOLD:
            return
        given = error.get("ctx", {})
        if "where" in given:
            self.problems.add(given["where"], given["what"], given["hint"])
            return
        node = _at(root, error["loc"])
        words = _WORDS.get(error["type"])
        what, hint = words(node, given) if words is not None else (error["msg"], "")
        self.problems.add(node.where, what, hint)


def refusal(node: YamlNode, what: str, hint: str = "") -> PydanticCustomError:
    """Return the error for a value that cannot be what a key wants."""
    return PydanticCustomError("refused", "{what}", {"what": what, "hint": hint, "where": node.where})


def unexpected(node: YamlNode, noun: str, hint: str = "") -> PydanticCustomError:
    """Return the error for a value of the wrong type."""
    return refusal(node, f"expected {noun}, found {describe(node)}", hint)


def describe(node: YamlNode) -> str:
    """Say what a value is, in words."""
    if isinstance(node, Items):
        return "a list" if node else "an empty list"
    if isinstance(node, Entries):
        return "a mapping"
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {node}"
    short = node if len(node) <= _SHOWN else f"{node[:_SHOWN]}…"
    return f'"{short}"' if isinstance(value, str) else f"the number {short}"


# --- from pydantic's errors to our words ----------------------------------------------------------------


def _at(root: YamlNode, path: tuple[int | str, ...]) -> YamlNode:
    """Return the node at pydantic's location, which also names members of unions."""
    node = root
    for step in path:
        if isinstance(node, Entries) and step in node:
            node = node[str(step)]
        elif isinstance(node, Items) and isinstance(step, int):
            node = node[step]
    return node


def _number(noun: str) -> Callable[[YamlNode, Mapping[str, Any]], tuple[str, str]]:
    def words(node: YamlNode, _: Mapping[str, Any]) -> tuple[str, str]:
        quoted = isinstance(node, Scalar) and node.quoted and node.isdecimal()
        return f"expected {noun}, found {describe(node)}", "remove the quotes" if quoted else ""

    return words


def _bound(words: str, bound: str) -> Callable[[YamlNode, Mapping[str, Any]], tuple[str, str]]:
    return lambda node, given: (f"expected {int(given[bound]):,} {words}, found {node}", "")


def _choice(node: YamlNode, given: Mapping[str, Any]) -> tuple[str, str]:
    words = re.findall("'([^']*)'", str(given["expected"]))
    hint = did_you_mean(node, words) if isinstance(node, Scalar) and not node.is_null else ""
    return f"expected one of {', '.join(words)}, found {describe(node)}", hint


_WORDS: dict[str, Callable[[YamlNode, Mapping[str, Any]], tuple[str, str]]] = {
    "int_type": _number("a whole number"),
    "float_type": _number("a number"),
    "enum": _choice,
    "greater_than_equal": _bound("or more", "ge"),
    "less_than_equal": _bound("or less", "le"),
    "finite_number": _number("a number"),
}


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
    described = f"{doc}{_DEFAULT}{absent}." if absent else f"{doc}."
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

    def _read(self, node: Any, info: ValidationInfo) -> Any:
        if not isinstance(node, YAML_NODE):
            return node
        text = self.text_of(node)
        try:
            value = self.parse(str(text))
        except UsageError as error:
            raise refusal(node, error.message, error.hint) from None
        if self.mentions:
            _reader(info).mentions.append(Mention(self.mentions, value, node.where))
        return value

    def text_of(self, node: YamlNode) -> Scalar:
        """Return the node if it is such text; otherwise raise the error that tells why not."""
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


def _reader(info: ValidationInfo) -> Reader:
    reader = info.context
    assert isinstance(reader, Reader)  # noqa: S101  (a document is read by `Reader.read`)
    return reader


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
        reserved: keys whose place is kept for a later version.
        reserved_forms: such keys that make something else of it; then nothing beside them is judged.
        short: the key whose value may stand for the whole.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, arbitrary_types_allowed=True
    )

    noun: ClassVar[str]
    form: ClassVar[str] = ""
    one_of: ClassVar[tuple[str, ...]] = ()
    reserved: ClassVar[tuple[str, ...]] = ()
    reserved_forms: ClassVar[tuple[str, ...]] = ()
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
    def _read(cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(data, YAML_NODE):
            return handler(data)
        entries, reader = cls.long(data), _reader(info)
        if isinstance(entries, cls):
            return entries
        if not isinstance(entries, Entries):
            raise unexpected(data, cls.form or cls.noun)
        for each in entries.words():
            if each in cls.reserved_forms:
                raise refusal(each, f'"{each}" is not available yet')
        known = cls.keys()
        whole = cls._is_whole(entries, known, reader)
        value = handler({str(name): entries[name] for name in entries if name in known})
        if not whole:
            raise PydanticCustomError(_NOTED, "")
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
        # A mistyped key is told as such; that the right one is missing follows from it.
        mistyped = {closest(each, known) for each in unknown}
        missing = [name for name, info in known.items() if info.is_required() and name not in entries]
        for name in missing:
            if name not in mistyped:
                add(entries.where, f'{cls.noun} lacks the key "{name}"')
        chosen = [each for each in entries.words() if each in cls.one_of]
        if cls.one_of and not chosen and mistyped.isdisjoint(cls.one_of):
            names = ", ".join(f'"{name}"' for name in cls.one_of)
            add(entries.where, f"{cls.noun} needs one of {names}")
        for each in chosen[1:]:
            add(each.where, f'{cls.noun} has "{chosen[0]}" already', f'"{each}" excludes it')
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


class SchemaMaker(GenerateJsonSchema):
    """Writes JSON Schema without titles, defaults, and the nulls that stand for absent keys."""

    def field_title_should_be_set(self, _schema: Any) -> bool:  # noqa: D102  (pydantic says it)
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchema:  # noqa: D102
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchema:  # noqa: D102
        return self.generate_inner(schema["schema"])

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchema:  # noqa: D102
        return {"type": "string", "enum": [str(member) for member in schema["members"]]}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchema:  # noqa: D102
        names, values = schema["keys_schema"], schema["values_schema"]
        return {
            "type": "object",
            "propertyNames": self.generate_inner(names),
            "additionalProperties": self.generate_inner(values),
        }


# --- what the keys are, for readers ---------------------------------------------------------------------


def key_table(title: str, model: type[Mapped]) -> str:
    """Return the table of a mapping's keys in Markdown."""
    rows = []
    for name, info in model.keys().items():
        doc, _, absent = str(info.description).removesuffix(".").partition(_DEFAULT)
        given = "required" if info.is_required() else absent or "-"
        rows.append(f"| `{name}` | {noun_of(info)} | {given} | {doc} |")
    return "\n".join([f"**{title}**", "", "| key | value | default | meaning |", "|---|---|---|---|", *rows])


def models_of(model: type[Mapped]) -> Iterator[tuple[str, type[Mapped]]]:
    """Yield the keys of which exactly one is written, each with the mapping below it if it has one."""
    for name in model.one_of:
        kind = get_args(model.keys()[name].annotation)[0]
        if isinstance(kind, type) and issubclass(kind, Mapped):
            yield name, kind


def noun_of(info: FieldInfo) -> str:
    """Say what a key holds."""
    return _noun(info.annotation, info.metadata)


def _noun(kind: Any, metadata: Iterable[Any] = ()) -> str:
    for each in metadata:
        if isinstance(each, Written | Several):
            return str(each.noun)
    if get_origin(kind) is Annotated:
        return _noun(get_args(kind)[0], get_args(kind)[1:])
    if members := [each for each in get_args(kind) if each is not type(None)]:
        return " or ".join(_noun(each) for each in members)
    if issubclass(kind, Mapped):
        return str(kind.form or kind.noun)
    if issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return "a whole number" if kind is int else "a number"
