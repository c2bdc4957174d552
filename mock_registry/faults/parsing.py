"""Faults from words: as a mapping of a scenario has them, and as a line of a command.

Owns the grammar, and says everything that is wrong at once. Must not know where the words were read.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mock_registry.errors import close_to, nearest
from mock_registry.journal import Route

from .catalogue import EFFECTS
from .effect import Effect
from .fault import Fault, Stream
from .quantities import QuantityError, quantities

_METHODS = frozenset({"DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"})
_CONDITIONS = quantities(Fault)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a fault's words that cannot be understood.

    Attributes:
        path: Where: keys and places from the outermost one, as in the mapping or list that was read.
        message: What, with what may have been meant.
    """

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return f"{place.lstrip('.')}: {self.message}" if place else self.message


class FaultError(ValueError):
    """Words that are no fault.

    Args:
        problems: All that is wrong with them.
    """

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def parse_fault(given: Fault | Effect | str | Mapping[str, Any], conditions: Mapping[str, Any]) -> Fault:
    """Return a fault, however it was given.

    Raises:
        FaultError: It cannot be understood; or conditions are given beside words that have their own.
    """
    if isinstance(given, Effect):
        return _make(given, conditions)
    if conditions:
        raise FaultError(Problem((), "conditions stand in the fault, unless an effect alone is given"))
    if isinstance(given, Fault):
        return given
    return parse_line(given) if isinstance(given, str) else parse_mapping(given)


def parse_faults(given: Iterable[Any]) -> tuple[Fault, ...]:
    """Return the faults of a list, such as a scenario's.

    Raises:
        FaultError: Some cannot be understood; the places of all of them are told.
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

    The effect is a key of its own, with a mapping of its attributes, its first attribute alone, or nothing;
    or, as toxiproxy has it, ``type`` names it and ``attributes`` holds them.

    Raises:
        FaultError: It cannot be understood; all that is wrong is told.
    """
    problems = [
        Problem((str(key),), f"unknown key {str(key)!r}{close_to(str(key), [*_CONDITIONS, *EFFECTS])}")
        for key in given
        if key not in _CONDITIONS and key not in EFFECTS and key not in ("type", "attributes")
    ]
    named = [key for key in given if key in EFFECTS]
    conditions = {key: value for key, value in given.items() if key in _CONDITIONS}
    place: tuple[str, ...] = ()
    attributes: Any = None
    kind: Any = None
    if "type" in given and not named:
        kind, attributes, place = given["type"], given.get("attributes"), ("attributes",)
        conditions.setdefault("stream", Stream.DOWNSTREAM)  # as toxiproxy has it
        if kind not in EFFECTS:
            problems.append(Problem(("type",), f"unknown effect {kind!r}{close_to(str(kind), [*EFFECTS])}"))
    elif len(named) == 1 and "type" not in given and "attributes" not in given:
        kind, attributes, place = named[0], given[named[0]], (named[0],)
    else:
        said = ", ".join([*named, *(["type"] if "type" in given else [])]) or "none"
        problems.append(Problem((), f"a fault has one effect, here there is {said}"))
    return _build(kind, attributes, conditions, place, problems)


def parse_line(line: str) -> Fault:
    """Return the fault that a line of words describes.

    ``[METHOD] [ROUTE] [CONDITION=VALUE…] EFFECT [VALUE] [ATTRIBUTE=VALUE…]``: a lone value after the effect
    is its first attribute; ``headers.name=value`` is one entry of an attribute that is a mapping.

    Raises:
        FaultError: It cannot be understood; all that is wrong is told.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise FaultError(Problem((), f"{line!r}: {error}")) from None
    problems: list[Problem] = []
    conditions: dict[str, Any] = {}
    while words and words[0] not in EFFECTS:
        _read_condition(words.pop(0), conditions, problems)
    if not words:
        return _build(None, None, conditions, (), problems or [Problem((), f"{line!r} names no effect")])
    kind, *rest = words
    return _build(kind, _read_attributes(kind, rest, problems), conditions, (), problems)


def _read_condition(word: str, conditions: dict[str, Any], problems: list[Problem]) -> None:
    name, equals, value = word.partition("=")
    if equals and name in _CONDITIONS:
        conditions[name] = value
    elif not equals and _METHODS.issuperset(word.split(",")):
        conditions["method"] = word
    elif not equals and set(Route).issuperset(word.split(",")):
        conditions["route"] = word
    elif equals:
        problems.append(Problem((), f"unknown condition {name!r}{close_to(name, [*_CONDITIONS])}"))
    else:
        near = nearest(word, [*_METHODS, *Route, *EFFECTS])
        hint = f", did you mean '{near}'?" if near else ""
        problems.append(Problem((), f"{word!r} is no method, route or effect{hint}"))


def _read_attributes(kind: str, words: list[str], problems: list[Problem]) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    names = list(quantities(EFFECTS[kind]))
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        outer, dot, inner = name.partition(".")
        if not equals and place == 0 and names:
            attributes[names[0]] = word
        elif not equals:
            problems.append(Problem((), f"{word!r} is no attribute=value of {kind}"))
        elif dot and outer in names:
            attributes.setdefault(outer, {})[inner] = value
        elif name in names or name not in _CONDITIONS:
            attributes[name] = value
        else:
            problems.append(Problem((), f"{name!r} is a condition, which stands before {kind}"))
    return attributes


def _build(
    kind: str | None,
    attributes: Any,
    conditions: Mapping[str, Any],
    place: tuple[str, ...],
    problems: list[Problem],
) -> Fault:
    effect = _effect(kind, attributes, place, problems) if kind in EFFECTS else None
    conditions = {key: value for key, value in conditions.items() if _is_read(key, value, problems)}
    if effect is None or problems:
        raise FaultError(*problems)
    return _make(effect, conditions)


def _is_read(key: str, value: Any, problems: list[Problem]) -> bool:
    """Try one condition by itself, so that every one that is wrong is told."""
    try:
        if value is not None:
            _CONDITIONS[key].read(value)
    except QuantityError as error:
        problems.append(Problem((key,), str(error)))
        return False
    return value is not None


def _effect(kind: str, attributes: Any, place: tuple[str, ...], problems: list[Problem]) -> Effect | None:
    effect = EFFECTS[kind]
    known = quantities(effect)
    if attributes is None:
        attributes = {}
    elif not isinstance(attributes, Mapping):
        if not known:
            problems.append(Problem(place, f"{kind} has no attributes"))
            return None
        attributes = {next(iter(known)): attributes}
    wrong = list(_wrong_attributes(kind, attributes, place))
    problems += wrong
    if wrong:
        return None
    try:
        return effect(**attributes)
    except QuantityError as error:
        problems.append(Problem(place, f"{kind}: {error}"))
    except TypeError:
        missing = [name for name in effect.required() if name not in attributes]
        problems.append(Problem(place, f"{kind} needs {' and '.join(missing)}"))
    return None


def _wrong_attributes(kind: str, attributes: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[Problem]:
    known = quantities(EFFECTS[kind])
    for name, value in attributes.items():
        where = (*place, str(name))
        if name not in known:
            hint = close_to(str(name), [*known]) if known else "; it has none"
            yield Problem(where, f"{kind} has no attribute {str(name)!r}{hint}")
        elif value is not None:
            try:
                known[name].read(value)
            except QuantityError as error:
                yield Problem(where, str(error))


def _make(effect: Effect, conditions: Mapping[str, Any]) -> Fault:
    unknown = [name for name in conditions if name not in _CONDITIONS]
    if unknown:
        raise FaultError(
            *(
                Problem((name,), f"unknown condition {name!r}{close_to(name, [*_CONDITIONS])}")
                for name in unknown
            )
        )
    try:
        return Fault(effect, **conditions)
    except QuantityError as error:
        raise FaultError(Problem((), str(error))) from None
