"""The grammar of faults: a mapping, as in a scenario, or a line, as in a command.

Owns both forms, and reports all problems at once. Must not know where the words were read.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mock_registry.errors import close_to, nearest
from mock_registry.journal import Route

from .effect import EFFECTS, Effect
from .fault import METHODS, Fault, Stream
from .quantities import Quantity, QuantityError, quantities

_CONDITIONS = quantities(Fault)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong in a fault.

    Attributes:
        path: Where: keys and list indexes from the outermost one, as in what was read.
        message: What, with a suggestion if there is one.
    """

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return f"{place.lstrip('.')}: {self.message}" if place else self.message


class FaultError(ValueError):
    """A line, mapping or list that is not a valid fault.

    Args:
        problems: All that is wrong with it.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def parse_fault(given: Fault | Effect | str | Mapping[str, Any], conditions: Mapping[str, Any]) -> Fault:
    """Return a fault that was given in any form.

    Raises:
        FaultError: It is invalid, or conditions are given with a form that has its own.
    """
    if isinstance(given, Effect):
        return _make(given, conditions)
    if conditions:
        raise FaultError(Problem((), "conditions are given apart only for an effect"))
    if isinstance(given, Fault):
        return given
    return parse_line(given) if isinstance(given, str) else parse_mapping(given)


def parse_faults(given: Iterable[Any]) -> tuple[Fault, ...]:
    """Return the faults of a list, such as a scenario's.

    Raises:
        FaultError: Some are invalid; its problems have the places of all of them.
    """
    faults: list[Fault] = []
    problems: list[Problem] = []
    for number, each in enumerate(given):
        if not isinstance(each, Fault | Effect | str | Mapping):
            problems.append(Problem((number,), f"a fault is a mapping or a line of words, not {each!r}"))
            continue
        try:
            faults.append(parse_fault(each, {}))
        except FaultError as error:
            problems += [Problem((number, *each.path), each.message) for each in error.problems]
    if problems:
        raise FaultError(*problems)
    return tuple(faults)


def parse_mapping(given: Mapping[str, Any]) -> Fault:
    """Return the fault that a mapping describes.

    The effect is a key, with a mapping of its attributes, its first attribute alone, or ``None``; or, as in
    toxiproxy, ``type`` names it and ``attributes`` holds its attributes.

    Raises:
        FaultError: The mapping is invalid; its problems are all that is wrong.
    """
    problems = [
        Problem((str(key),), f"unknown key {str(key)!r}{close_to(str(key), [*_CONDITIONS, *EFFECTS])}")
        for key in given
        if key not in _CONDITIONS and key not in EFFECTS and key not in ("type", "attributes")
    ]
    conditions = {key: value for key, value in given.items() if key in _CONDITIONS}
    named = [key for key in given if key in EFFECTS]
    effect: Effect | None = None
    if "type" in given and not named:
        conditions.setdefault("stream", Stream.DOWNSTREAM)  # toxiproxy's default
        kind = given["type"]
        if kind in EFFECTS:
            effect = _effect(EFFECTS[kind], given.get("attributes"), ("attributes",), problems)
        else:
            problems.append(Problem(("type",), f"unknown effect {kind!r}{close_to(str(kind), [*EFFECTS])}"))
    elif len(named) == 1 and "type" not in given and "attributes" not in given:
        effect = _effect(EFFECTS[named[0]], given[named[0]], (named[0],), problems)
    else:
        said = ", ".join([*named, *(["type"] if "type" in given else [])]) or "none"
        problems.append(Problem((), f"a fault has one effect, here there is {said}"))
    return _build(effect, conditions, problems)


def parse_line(line: str, *, effects: Mapping[str, type[Effect]] = EFFECTS) -> Fault:
    """Return the fault that a line describes.

    ``[METHOD] [ROUTE] [CONDITION=VALUE…] EFFECT [VALUE] [ATTRIBUTE=VALUE…]``: a value alone after the effect
    is its first attribute; ``headers.name=value`` is one entry of an attribute that is a mapping.

    Args:
        line: The words, quoted as in a shell.
        effects: The effects that it may name.

    Raises:
        FaultError: The line is invalid; its problems are all that is wrong.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise FaultError(Problem((), f"{line!r}: {error}")) from None
    problems: list[Problem] = []
    conditions: dict[str, Any] = {}
    while words and words[0] not in effects:
        _read_condition(words.pop(0), conditions, problems)
    effect: Effect | None = None
    if words:
        kind = effects[words[0]]
        effect = _effect(kind, _read_attributes(kind, words[1:], problems), (), problems)
    elif not problems:
        problems.append(Problem((), f"{line!r} names no effect"))
    return _build(effect, conditions, problems)


def _read_condition(word: str, conditions: dict[str, Any], problems: list[Problem]) -> None:
    name, equals, value = word.partition("=")
    if equals and name in _CONDITIONS:
        conditions[name] = value
    elif not equals and set(METHODS).issuperset(word.split(",")):
        conditions["method"] = word
    elif not equals and set(Route).issuperset(word.split(",")):
        conditions["route"] = word
    elif equals:
        problems.append(Problem((), f"unknown condition {name!r}{close_to(name, [*_CONDITIONS])}"))
    else:
        near = nearest(word, [*METHODS, *Route, *EFFECTS])
        hint = f", did you mean '{near}'?" if near else ""
        problems.append(Problem((), f"{word!r} is not a method, route or effect{hint}"))


def _read_attributes(effect: type[Effect], words: list[str], problems: list[Problem]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    kind, names = effect.kind(), list(quantities(effect))
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        outer, dot, inner = name.partition(".")
        if not equals and place == 0 and names:
            attributes[names[0]] = word
        elif not equals:
            problems.append(Problem((), f"{word!r} is not attribute=value, as {kind} expects"))
        elif dot and outer in names:
            attributes.setdefault(outer, {})[inner] = value
        elif name in names or name not in _CONDITIONS:
            attributes[name] = value
        else:
            problems.append(Problem((), f"{name!r} is a condition: it goes before {kind}"))
    return attributes


def _build(effect: Effect | None, conditions: Mapping[str, Any], problems: list[Problem]) -> Fault:
    """Return the fault if nothing is wrong; each condition is read, so that every problem is reported."""
    given = {key: value for key, value in conditions.items() if value is not None}
    problems += _wrong(given, _CONDITIONS, ())
    if effect is None or problems:
        raise FaultError(*problems)
    return _make(effect, given)


def _effect(
    kind: type[Effect], attributes: Any, place: tuple[str, ...], problems: list[Problem]
) -> Effect | None:
    name, known = kind.kind(), quantities(kind)
    if attributes is None:
        attributes = {}
    elif not isinstance(attributes, Mapping):
        if not known:
            problems.append(Problem(place, f"{name} has no attributes"))
            return None
        attributes = {next(iter(known)): attributes}
    wrong = [
        Problem((*place, str(key)), f"{name} has no attribute {str(key)!r}{_hint(str(key), known)}")
        for key in attributes
        if key not in known
    ]
    wrong += _wrong({key: value for key, value in attributes.items() if key in known}, known, place)
    if wrong:
        problems += wrong
        return None
    try:
        return kind(**attributes)
    except QuantityError as error:
        problems.append(Problem(place, f"{name}: {error}"))
    except TypeError:
        missing = [each for each in kind.required() if each not in attributes]
        problems.append(Problem(place, f"{name} needs {' and '.join(missing)}"))
    return None


def _hint(name: str, known: Mapping[str, Quantity]) -> str:
    return close_to(name, [*known]) if known else "; it has none"


def _wrong(
    given: Mapping[str, Any], known: Mapping[str, Quantity], place: tuple[str, ...]
) -> Iterator[Problem]:
    for name, value in given.items():
        try:
            if value is not None:
                known[name].read(value)
        except QuantityError as error:
            yield Problem((*place, name), str(error))


def _make(effect: Effect, conditions: Mapping[str, Any]) -> Fault:
    if unknown := [name for name in conditions if name not in _CONDITIONS]:
        hints = [f"unknown condition {name!r}{close_to(name, [*_CONDITIONS])}" for name in unknown]
        raise FaultError(*(Problem((name,), hint) for name, hint in zip(unknown, hints, strict=True)))
    try:
        return Fault(effect, **conditions)
    except QuantityError as error:
        raise FaultError(Problem((), str(error))) from None
