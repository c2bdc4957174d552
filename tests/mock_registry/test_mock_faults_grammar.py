"""Faults from words: a line of a command, a mapping of a scenario, toxiproxy's own form."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal

import pytest

import mock_registry.faults
from mock_registry import MockRegistry
from mock_registry.faults import (
    EFFECTS,
    Bandwidth,
    Cut,
    Effect,
    Fault,
    FaultError,
    ForgetSessions,
    Headers,
    Latency,
    Lie,
    LimitData,
    Location,
    Quota,
    RateLimit,
    Reset,
    ResetPeer,
    Slicer,
    SlowClose,
    Stall,
    Status,
    Throttle,
    Timeout,
    Trickle,
)
from mock_registry.faults.parsing import parse_line, parse_mapping
from mock_registry.faults.quantities import QuantityError, quantities

LINES = {
    "cut": Fault(Cut()),
    "PATCH upload nth=2 reset after=100000": Fault(Reset(100_000), method="PATCH", route="upload", nth=2),
    "PATCH upload nth=2 reset 100kB": Fault(Reset(100_000), method="PATCH", route="upload", nth=2),
    "GET,HEAD blob,manifest status 503": Fault(Status(503), method="GET,HEAD", route="blob,manifest"),
    "method=GET route=blob status status=503": Fault(Status(503), method="GET", route="blob"),
    "repository=shop/** toxicity=0.25 name=slow latency latency=2s jitter=500ms": Fault(
        Latency(2000, 500), repository="shop/**", toxicity=0.25, name="slow"
    ),
    "latency 200 jitter=50": Fault(Latency(200, 50)),
    "PUT when=after status 502 form=html": Fault(Status(502, form="html"), method="PUT", when="after"),
    "status 429 headers.Retry-After=5 headers.X-A='b c'": Fault(
        Status(429, headers={"Retry-After": "5", "X-A": "b c"})
    ),
    "headers remove=location,etag set.warning='299 - \"old\"'": Fault(
        Headers(remove=("location", "etag"), set={"warning": '299 - "old"'})
    ),
    "blob throttle 64KiB/s": Fault(Throttle(65536), route="blob"),
    "quota 1_000_000 hang=yes frees=off": Fault(Quota(1_000_000, hang=True)),
    "stream=upstream bandwidth 100": Fault(Bandwidth(100), stream="upstream"),
    "bandwidth 1MB/s": Fault(Bandwidth(1000)),
    "slicer 100 size_variation=20 delay=10ms": Fault(Slicer(100, 20, 10_000)),
    "trickle every=1m": Fault(Trickle(every=60)),
    "stall seconds=1h": Fault(Stall(seconds=3600)),
    "location port=8443 scheme=https": Fault(Location(port=8443, scheme="https")),
    "forget_sessions all on=abort": Fault(ForgetSessions("all", "abort")),
    "rate_limit 0.5 burst=3 per=client retry_after=date": Fault(RateLimit(0.5, 3, "client", "date")),
    "query='mount=sha256:*' status 403": Fault(Status(403), query="mount=sha256:*"),
    "answered=404 status 403": Fault(Status(403), answered="404"),
    "answered='404 BLOB_UNKNOWN, 5xx' status 403": Fault(Status(403), answered="404 BLOB_UNKNOWN,5xx"),
    "lie exists octets=7": Fault(Lie("exists", octets=7)),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_a_fault(line: str) -> None:
    assert parse_line(line) == LINES[line]


MAPPINGS: list[tuple[dict[str, Any], Fault]] = [
    ({"cut": None}, Fault(Cut())),
    ({"cut": {}, "name": None}, Fault(Cut())),
    (
        {"method": "PATCH", "route": "upload", "nth": 2, "reset": {"after": 100_000}},
        Fault(Reset(100_000), method="PATCH", route="upload", nth=2),
    ),
    (
        {"route": "manifest", "status": 503, "when": "after"},
        Fault(Status(503), route="manifest", when="after"),
    ),
    (
        {"status": {"status": 429, "headers": {"Retry-After": 5}}},
        Fault(Status(429, headers={"Retry-After": "5"})),
    ),
    ({"throttle": "1MB/s", "toxicity": 0.5}, Fault(Throttle(1_000_000), toxicity=0.5)),
    ({"headers": {"remove": ["Location"]}}, Fault(Headers(remove=("Location",)))),
]


@pytest.mark.parametrize(("mapping", "fault"), MAPPINGS)
def test_a_mapping_is_a_fault(mapping: dict[str, Any], fault: Fault) -> None:
    assert parse_mapping(mapping) == fault


TOXICS = {
    "latency": ({"latency": 1000, "jitter": 100}, Latency(1000, 100)),
    "bandwidth": ({"rate": 64}, Bandwidth(64)),
    "slow_close": ({"delay": 500}, SlowClose(500)),
    "timeout": ({"timeout": 2000}, Timeout(2000)),
    "reset_peer": ({"timeout": 100}, ResetPeer(100)),
    "slicer": ({"average_size": 64, "size_variation": 32, "delay": 10}, Slicer(64, 32, 10)),
    "limit_data": ({"bytes": 1000}, LimitData(1000)),
}


@pytest.mark.parametrize("kind", TOXICS)
@pytest.mark.parametrize("stream", ["upstream", "downstream", None])
def test_a_toxic_of_toxiproxy_is_a_fault_word_for_word(
    kind: str, stream: Literal["upstream", "downstream"] | None
) -> None:
    attributes, effect = TOXICS[kind]
    toxic = {"name": "weather", "type": kind, "toxicity": 0.5, "attributes": attributes}
    if stream:
        toxic["stream"] = stream
    expected = Fault(effect, name="weather", toxicity=0.5, stream=stream or "downstream")
    assert parse_mapping(toxic) == expected


WRONG_LINES = {
    "PATCH uplod reset": "'uplod' is not a method, route or effect, did you mean 'upload'?",
    "PATCH upload": "'PATCH upload' names no effect",
    "": "'' names no effect",
    "nht=2 reset": "unknown condition 'nht', did you mean 'nth'?",
    "reset nth=2": "'nth' is a condition: it goes before reset",
    "reset aftr=2": "aftr: reset has no attribute 'aftr', did you mean 'after'?",
    "reset after=2kb": "after: '2kb': unknown unit 'kb', did you mean 'kB'?",
    "reset after=-1": "after: '-1' is not a number of bytes",
    "reset 1 2": "'2' is not attribute=value, as reset expects",
    "collect now=1": "now: collect has no attribute 'now'; it has none",
    "collect now": "'now' is not attribute=value, as collect expects",
    "latency 5parsec": "unknown unit 'parsec'",
    "status": "status needs status",
    "status 99": "status: 99 is not the status of a final response, 200 to 599",
    "status ok": "status: 'ok' is not a whole number",
    "status 503 form=xml": "form: 'xml' is unknown; it is one of json, html, empty",
    "status 503 form=htm": "form: 'htm' is unknown, did you mean 'html'?",
    "status 503 keep=maybe": "keep: 'maybe' is neither true nor false",
    "status 503 headers=x": "headers: 'x' is not a mapping of header names to values",
    "status 503 headers.a='b\nc'": "is not allowed in a header",
    "throttle 0": "rate: a rate must be more than 0",
    "bandwidth 0": "rate: a rate must be more than 0",
    "rate_limit 0": "rate: a number must be more than 0",
    "toxicity=1.5 cut": "toxicity: '1.5' is not a probability from 0 to 1",
    "nth=0 cut": "nth: 0 is not a count from 1",
    "method=FETCH cut": "method: 'FETCH' is unknown",
    "route=blbo cut": "route: 'blbo' is unknown, did you mean 'blob'?",
    "when=later cut": "when: 'later' is unknown",
    "per=blob cut": "per: 'blob' is unknown",
    "answered=no cut": "answered: 'no' is neither a status such as 404 or 5xx nor an error code",
    "stream=up cut": "stream: 'up' is unknown, did you mean 'upstream'?",
    "corrupt mask=256": "mask: 256 is not a byte's mask, 1 to 255",
    "encode br compress=yes": "compress: br is not supported",
    "redirect 200": "status: 200 is not a redirect",
    "cut 'open": "No closing quotation",
}


@pytest.mark.parametrize("line", WRONG_LINES)
def test_a_line_that_is_no_fault_is_refused_with_what_may_be_meant(line: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse_line(line)
    assert WRONG_LINES[line] in str(caught.value)


WRONG_MAPPINGS: list[tuple[dict[str, Any], list[tuple[tuple[str | int, ...], str]]]] = [
    ({}, [((), "a fault has one effect, here there is none")]),
    ({"cut": None, "reset": 1}, [((), "a fault has one effect, here there is cut, reset")]),
    ({"cut": None, "type": "reset"}, [((), "a fault has one effect, here there is cut, reset")]),
    ({"rout": "blob", "cut": 1}, [(("rout",), "unknown key 'rout', did you mean 'route'?")]),
    ({"cut": {"aftr": 1}}, [(("cut", "aftr"), "cut has no attribute 'aftr', did you mean 'after'?")]),
    ({"collect": 1}, [(("collect",), "collect has no attributes")]),
    ({"type": "latncy"}, [(("type",), "unknown effect 'latncy', did you mean 'latency'?")]),
    (
        {"type": "latency", "attributes": {"latency": True}},
        [(("attributes", "latency"), "True is not a duration")],
    ),
    (
        {"nth": 0, "toxicity": 2, "status": {"status": 503, "form": 1}},
        [
            (("status", "form"), "'1' is unknown; it is one of json, html, empty"),
            (("nth",), "0 is not a count from 1"),
            (("toxicity",), "2 is not a probability from 0 to 1"),
        ],
    ),
    ({"nth": 1.5, "cut": None}, [(("nth",), "1.5 is not a whole number")]),
    (
        {"method": 1, "cut": None},
        [(("method",), "'1' is unknown; it is one of DELETE, GET, HEAD, PATCH, POST, PUT")],
    ),
    ({"name": [1], "cut": None}, [(("name",), "[1] is not a text")]),
    ({"headers": {"remove": 5}}, [(("headers", "remove"), "5 is not a list of names")]),
]


@pytest.mark.parametrize(("mapping", "problems"), WRONG_MAPPINGS)
def test_all_that_is_wrong_with_a_mapping_is_told_at_once_with_its_place(
    mapping: dict[str, Any], problems: list[tuple[tuple[str | int, ...], str]]
) -> None:
    with pytest.raises(FaultError) as caught:
        parse_mapping(mapping)
    assert [(each.path, each.message) for each in caught.value.problems] == problems


def test_a_registry_refuses_a_fault_that_it_does_not_understand() -> None:
    with pytest.raises(FaultError, match="did you mean 'latency'"):
        MockRegistry(faults=["latncy 5"])


def test_an_effect_made_in_python_is_read_as_strictly() -> None:
    with pytest.raises(QuantityError, match="latency: -1 is not a duration"):
        Latency(-1)
    with pytest.raises(QuantityError, match="method: 'FETCH' is unknown"):
        Fault(Cut(), method="FETCH")


def made(effect: type[Effect]) -> Effect:
    """Make an effect with something in every attribute that must be given."""
    return effect(**dict.fromkeys(effect.required(), 400))


@pytest.mark.parametrize("kind", EFFECTS)
def test_every_effect_is_a_frozen_value_that_describes_itself(kind: str) -> None:
    effect = EFFECTS[kind]
    assert effect.kind() == kind
    assert effect.__doc__
    value = made(effect)
    assert value == made(effect)
    names = [field.name for field in dataclasses.fields(effect)]
    assert names == [*quantities(effect)]
    assert [name for name in names if f"{name}:" not in str(effect.__doc__)] == []
    assert parse_mapping({kind: {name: getattr(value, name) for name in names}}) == Fault(value)


README = (Path(mock_registry.faults.__file__).parent / "README.md").read_text()


@pytest.mark.parametrize("kind", EFFECTS)
def test_every_effect_stands_in_the_readme_with_all_its_attributes(kind: str) -> None:
    table = README.partition("### Effects")[2].partition("\n## ")[0]
    [row] = [line for line in table.splitlines() if line.startswith(f"| `{kind}` |")]
    told = re.findall(r"(?:\| |<br> )(?:\*\*)?`(\w+)`(?:\*\*)?(?:=[^:]*)?:", row)
    assert told == [*quantities(EFFECTS[kind])]


def test_every_condition_stands_in_the_readme() -> None:
    table = README.partition("### Conditions")[2].partition("### Effects")[0]
    told = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))
    assert sorted(told) == sorted(quantities(Fault))


def field_rows() -> list[tuple[int, str]]:
    """Return number and rule of each fault in the README's table of those seen in the field."""
    table = README.partition("## Faults seen in the field")[2]
    rows = re.findall(r"^\| (\d+) \|.*\| (.+) \|$", table, re.MULTILINE)
    return [(int(number), rule) for number, rule in rows]


def test_every_fault_seen_in_the_field_has_a_rule_that_can_be_read_and_a_test_that_has_its_number() -> None:
    rows = dict(field_rows())
    assert list(rows) == list(range(1, 35))
    code = Path(__file__).with_name("test_mock_faults_field.py").read_text()
    tested = {int(number) for number in re.findall(r"def test_fault_(\d+)_", code)}
    assert tested == set(rows) - {8}
    lines = [line for number, rule in rows.items() if number != 11 for line in re.findall(r"`([^`]+)`", rule)]
    assert len([parse_line(line) for line in lines if not line.startswith("Lifetime")]) > 35


def test_every_line_of_other_documents_can_be_read() -> None:
    text = (Path(mock_registry.faults.__file__).parent / "PROFILES.md").read_text()
    lines = re.findall(r"--fault '([^']+)'", text)
    assert len([parse_line(line) for line in lines]) == 4
