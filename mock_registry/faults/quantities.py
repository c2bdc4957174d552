"""The kinds of values that faults are described with, and how each is read.

Owns units and their words: a value may be a number in the field's own unit, or a text with a unit of its own.
Must not know any fault.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mock_registry.errors import close_to

_NUMBER = re.compile(r"(?P<number>[0-9][0-9_]*(?:\.[0-9]+)?|\.[0-9]+)\s*(?P<unit>[A-Za-zµ/]*)")
_SIZES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_YES, _NO = ("true", "yes", "on"), ("false", "no", "off")


class QuantityError(ValueError):
    """A value that is none of its kind."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A kind of value.

    Attributes:
        name: What it is, as the documentation says it.
        read: Turns what was given into the value.
    """

    name: str
    read: Callable[[object], Any]


def _measure(value: object, units: Mapping[str, float], per_bare: float, what: str) -> float:
    """Read a number in its own unit, or a text with a unit; both come out in the bare one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise QuantityError(f"{value!r} is no {what}")
    number, unit = float(match["number"].replace("_", "")), match["unit"]
    if not unit:
        return number
    if unit not in units:
        raise QuantityError(f"{value!r}: unknown unit {unit!r}{close_to(unit, list(units))}")
    return number * units[unit] / per_bare


def _at_least_zero(number: float, what: str) -> float:
    if number < 0:
        raise QuantityError(f"{number:g} is no {what}")
    return number


def _read_octets(value: object) -> int:
    return int(_at_least_zero(_measure(value, _SIZES, 1, "number of octets"), "number of octets"))


def _read_rate(value: object) -> float:
    units = _SIZES | {f"{unit}/s": size for unit, size in _SIZES.items()}
    rate = _measure(value, units, 1, "rate")
    if rate <= 0:
        raise QuantityError("a rate is more than 0")
    return rate


def _read_kilobytes(value: object) -> float:
    units = _SIZES | {f"{unit}/s": size for unit, size in _SIZES.items()}
    rate = _measure(value, units, 1000, "rate")
    if rate <= 0:
        raise QuantityError("a rate is more than 0")
    return rate


def _time(per_bare: float) -> Callable[[object], float]:
    return lambda value: _at_least_zero(_measure(value, _SECONDS, per_bare, "duration"), "duration")


def _read_integer(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?(?:0x[0-9a-fA-F]+|[0-9]+)", value):
        return int(value, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise QuantityError(f"{value!r} is no whole number")
    return value


def _read_count(value: object) -> int:
    count = _read_integer(value)
    if count < 1:
        raise QuantityError(f"{count} is no count; the first one is 1")
    return count


def _read_status(value: object) -> int:
    status = _read_integer(value)
    if not 200 <= status <= 599:  # noqa: PLR2004 (final answers)
        raise QuantityError(f"{status} is no status of a final answer")
    return status


def _read_number(value: object) -> float:
    number = _measure(value, {}, 1, "number")
    if number <= 0:
        raise QuantityError(f"{number:g} is not more than 0")
    return number


def _read_probability(value: object) -> float:
    number = _measure(value, {}, 1, "probability")
    if not 0 <= number <= 1:
        raise QuantityError(f"{number:g} is no probability from 0 to 1")
    return number


def _read_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise QuantityError(f"{value!r} is no text")
    return str(value)


def _read_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _YES + _NO:
        return value.lower() in _YES
    raise QuantityError(f"{value!r} is neither true nor false")


def _read_headers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise QuantityError(f"{value!r} is no mapping of header names to values")
    return {_line(name): _line(text) for name, text in value.items()}


def _line(value: object) -> str:
    text = _read_text(value)
    if "\r" in text or "\n" in text or not text.isascii():
        raise QuantityError(f"{text!r} cannot stand in a header")
    return text


def _read_names(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise QuantityError(f"{value!r} is no list of names")
    return tuple(_line(part).strip() for part in parts)


def choice(*words: str) -> Quantity:
    """Return the kind of value that is one of these words."""

    def read(value: object) -> str:
        text = _read_text(value)
        if text not in words:
            raise QuantityError(f"{text!r} is unknown{close_to(text, words)}")
        return text

    return Quantity(" · ".join(f"`{word}`" for word in words), read)


OCTETS = Quantity("octets", _read_octets)
RATE = Quantity("octets per second", _read_rate)
KILOBYTES = Quantity("kB per second", _read_kilobytes)
SECONDS = Quantity("seconds", _time(1.0))
MILLISECONDS = Quantity("milliseconds", _time(1e-3))
MICROSECONDS = Quantity("microseconds", _time(1e-6))
INTEGER = Quantity("number", _read_integer)
NUMBER = Quantity("number", _read_number)
COUNT = Quantity("count from 1", _read_count)
PROBABILITY = Quantity("0 to 1", _read_probability)
STATUS = Quantity("status", _read_status)
TEXT = Quantity("text", _read_text)
FLAG = Quantity("true or false", _read_flag)
HEADERS = Quantity("name: value …", _read_headers)
NAMES = Quantity("names, with commas", _read_names)


def quantities(kind: type) -> Mapping[str, Quantity]:
    """Return the fields of a dataclass that say what kind of value they hold, in order.

    A field says so by an annotation, ``Annotated[int, OCTETS]``, or by being of a ``Literal`` type.
    """
    found: dict[str, Quantity] = {}
    for name, annotation in get_type_hints(kind, include_extras=True).items():
        given = [each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Quantity)]
        words = _words(annotation)
        if given or words:
            found[name] = given[0] if given else choice(*words)
    return found


def _words(annotation: Any) -> tuple[str, ...]:
    """Return the words of a ``Literal``, which may stand beside ``None``."""
    union = get_origin(annotation) in (Union, UnionType)
    types = get_args(annotation) if union else (annotation,)
    return tuple(word for each in types if get_origin(each) is Literal for word in get_args(each))


def settle(value: Any) -> None:
    """Read every such field of a frozen dataclass that was just made; ``None`` is always a value.

    Raises:
        QuantityError: A field holds what is none of its kind; the first one is named.
    """
    for name, quantity in quantities(type(value)).items():
        given = getattr(value, name)
        if given is None:
            continue
        try:
            object.__setattr__(value, name, quantity.read(given))
        except QuantityError as error:
            raise QuantityError(f"{name}: {error}") from None
