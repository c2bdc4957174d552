"""The grammar of faults: a mapping, as in a scenario, or a line, as in a command.

Owns both forms, and reports all problems at once. Must not know where the words were read.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mock_registry.errors import close_to, nearest
from mock_registry.journal import Route

from .conditions import METHODS
from .effect import EFFECTS, Effect, Fault
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
        return _build(given, conditions, [])
    if conditions:
        raise FaultError(Problem((), "conditions are given apart only for an effect"))
    if isinstance(given, Fault):
        return given
    return parse_line(given) if isinstance(given, str) else parse_mapping(given)


def parse_mapping(given: Mapping[str, Any]) -> Fault:
    """Return the fault that a mapping describes.

    The effect is a key, with a mapping of its attributes, its first attribute alone, or ``None``; or, as in
    toxiproxy, ``type`` names it and ``attributes`` holds its attributes.

    Raises:
        FaultError: The mapping is invalid; its problems are all that is wrong.
    """
    problems: list[Problem] = []
    conditions: dict[str, Any] = {}
    effects: list[tuple[str, str, Any]] = []  # the name, the key of the attributes, and what is there
    for key, value in given.items():
        if key in _CONDITIONS:
            conditions[key] = value
        elif key in EFFECTS:
            effects.append((key, key, value))
        elif key == "type" and str(value) in EFFECTS:
            effects.append((str(value), "attributes", given.get("attributes")))
            conditions.setdefault("stream", "downstream")  # toxiproxy's default
        elif key == "type":
            problems.append(Problem(("type",), f"unknown effect {value!r}{close_to(str(value), [*EFFECTS])}"))
        elif key != "attributes" or "type" not in given:
            hint = close_to(str(key), [*_CONDITIONS, *EFFECTS])
            problems.append(Problem((str(key),), f"unknown key {str(key)!r}{hint}"))
    effect: Effect | None = None
    if len(effects) == 1:
        kind, place, attributes = effects[0]
        effect = _effect(EFFECTS[kind], attributes, (place,), problems)
    elif effects or "type" not in given:
        told = ", ".join(kind for kind, _, _ in effects) or "none"
        problems.append(Problem((), f"a fault has one effect, here there is {told}"))
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
    elif equals:
        problems.append(Problem((), f"unknown condition {name!r}{close_to(name, [*_CONDITIONS])}"))
    elif set(METHODS).issuperset(word.split(",")):
        conditions["method"] = word
    elif set(Route).issuperset(word.split(",")):
        conditions["route"] = word
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
    problems += _wrong(conditions, _CONDITIONS, (), "unknown condition")
    if effect is None or problems:
        raise FaultError(*problems)
    return Fault(effect, **{key: value for key, value in conditions.items() if value is not None})


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
    wrong = [*_wrong(attributes, known, place, f"{name} has no attribute")]
    missing = [each for each in kind.required() if each not in attributes]
    if missing and not wrong:
        wrong = [Problem(place, f"{name} needs {' and '.join(missing)}")]
    problems += wrong
    try:
        return None if wrong else kind(**attributes)
    except QuantityError as error:  # of attributes that do not go together
        problems.append(Problem(place, f"{name}: {error}"))
        return None


def _wrong(
    given: Mapping[str, Any], known: Mapping[str, Quantity], place: tuple[str, ...], unknown: str
) -> Iterator[Problem]:
    for name, value in given.items():
        try:
            if name not in known:
                hint = close_to(str(name), [*known]) if known else "; it has none"
                yield Problem((*place, str(name)), f"{unknown} {str(name)!r}{hint}")
            elif value is not None:
                known[name].read(value)
        except QuantityError as error:
            yield Problem((*place, name), str(error))
