"""The kinds of values in faults, and how each is read.

Owns units: a value is a number in the attribute's own unit, or a text with a unit. Must not know any fault.
"""

import math
import re
import sys
from collections.abc import Callable, Container, Mapping
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
_RATES = _SIZES | {f"{unit}/s": size for unit, size in _SIZES.items()}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_REDIRECTS = (301, 302, 303, 307, 308)
_ANSWER = re.compile(r"[1-5](?:xx|[0-9][0-9])(?: [A-Z_]+)?|[A-Z_]+")
_YES, _NO = ("true", "yes", "on"), ("false", "no", "off")


class QuantityError(ValueError):
    """A value that is not of the kind wanted."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A kind of value.

    Attributes:
        name: What the documentation calls it.
        read: Returns the value that was given, or raises `QuantityError`.
    """

    name: str
    read: Callable[[object], Any]


def _measure(
    what: str,
    units: Mapping[str, float],
    *,
    bare: float = 1.0,
    most: float = math.inf,
    positive: bool = False,
) -> Callable[[object], float]:
    """Return a reader of numbers from 0, or above 0; ``bare`` is the unit of a number without one."""

    def read(value: object) -> float:
        number: float | None = None
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
        elif isinstance(value, str) and (match := _NUMBER.fullmatch(value.strip())):
            unit = match["unit"]
            if unit and unit not in units:
                raise QuantityError(f"{value!r}: unknown unit {unit!r}{close_to(unit, list(units))}")
            number = float(match["number"].replace("_", ""))
            number = number * units[unit] / bare if unit else number
        if number is None or not (0 <= number <= most):
            raise QuantityError(f"{value!r} is not a {what}")
        if positive and not number:
            raise QuantityError(f"a {what} must be more than 0")
        return number

    return read


def _read_integer(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?(?:0x[0-9a-fA-F]+|[0-9]+)", value):
        return int(value, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise QuantityError(f"{value!r} is not a whole number")
    return value


def _whole(what: str, allowed: Container[int]) -> Callable[[object], int]:
    """Return a reader of those whole numbers that are allowed."""

    def read(value: object) -> int:
        number = _read_integer(value)
        if number not in allowed:
            raise QuantityError(f"{number} is not {what}")
        return number

    return read


def _read_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise QuantityError(f"{value!r} is not a text")
    return str(value)


def _read_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _YES + _NO:
        return value.lower() in _YES
    raise QuantityError(f"{value!r} is neither true nor false")


def _read_headers(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise QuantityError(f"{value!r} is not a mapping of header names to values")
    return {_line(name): _line(text) for name, text in value.items()}


def _line(value: object) -> str:
    text = _read_text(value)
    if "\r" in text or "\n" in text or not text.isascii():
        raise QuantityError(f"{text!r} is not allowed in a header")
    return text


def _read_names(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise QuantityError(f"{value!r} is not a list of names")
    return tuple(_line(part).strip() for part in parts)


def _read_answers(value: object) -> str:
    terms = [term.strip() for term in str(value).split(",")]
    for term in terms:
        if not _ANSWER.fullmatch(term):
            raise QuantityError(f"{term!r} is neither a status such as 404 or 5xx nor an error code")
    return ",".join(terms)


def choice(*words: str, several: bool = False) -> Quantity:
    """Return the kind of value that is one of these words, or several of them with commas."""

    def read(value: object) -> str:
        text = _read_text(value)
        parts = [part.strip() for part in text.split(",")] if several else [text]
        for part in parts:
            if part not in words:
                raise QuantityError(f"{part!r} is unknown{close_to(part, words)}")
        return ",".join(parts)

    return Quantity(" · ".join(f"`{word}`" for word in words), read)


_read_size = _measure("number of bytes", _SIZES)

OCTETS = Quantity("bytes", lambda value: int(_read_size(value)))
RATE = Quantity("bytes per second", _measure("rate", _RATES, positive=True))
KILOBYTES = Quantity("kB per second", _measure("rate", _RATES, bare=1000, positive=True))
SECONDS = Quantity("seconds", _measure("duration", _SECONDS))
MILLISECONDS = Quantity("milliseconds", _measure("duration", _SECONDS, bare=1e-3))
MICROSECONDS = Quantity("microseconds", _measure("duration", _SECONDS, bare=1e-6))
INTEGER = Quantity("number", _read_integer)
NUMBER = Quantity("number", _measure("number", {}, positive=True))
COUNT = Quantity("count from 1", _whole("a count from 1", range(1, sys.maxsize)))
PROBABILITY = Quantity("0 to 1", _measure("probability from 0 to 1", {}, most=1))
STATUS = Quantity("status", _whole("the status of a final response, 200 to 599", range(200, 600)))
REDIRECT = Quantity("status", _whole(f"a redirect; it is one of {_REDIRECTS}", _REDIRECTS))
MASK = Quantity("number", _whole("a byte's mask, 1 to 255", range(1, 256)))
ANSWERS = Quantity("statuses and error codes", _read_answers)
TEXT = Quantity("text", _read_text)
FLAG = Quantity("true or false", _read_flag)
HEADERS = Quantity("name: value …", _read_headers)
NAMES = Quantity("names, with commas", _read_names)


def quantities(kind: type) -> Mapping[str, Quantity]:
    """Return the kinds of values of a dataclass's fields, in order.

    A field has one by its annotation, ``Annotated[int, OCTETS]``, or by a ``Literal`` type.
    """
    found: dict[str, Quantity] = {}
    for name, annotation in get_type_hints(kind, include_extras=True).items():
        given = [each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Quantity)]
        words = _words(annotation)
        if given or words:
            found[name] = given[0] if given else choice(*words)
    return found


def _words(annotation: Any) -> tuple[str, ...]:
    """Return the words of a ``Literal``, alone or in a union with ``None``."""
    union = get_origin(annotation) in (Union, UnionType)
    types = get_args(annotation) if union else (annotation,)
    return tuple(word for each in types if get_origin(each) is Literal for word in get_args(each))


def settle(value: Any) -> None:
    """Read the fields of a frozen dataclass that was just made; ``None`` is allowed in each.

    Raises:
        QuantityError: A field's value is not of its kind.
    """
    for name, quantity in quantities(type(value)).items():
        given = getattr(value, name)
        if given is None:
            continue
        try:
            object.__setattr__(value, name, quantity.read(given))
        except QuantityError as error:
            raise QuantityError(f"{name}: {error}") from None
