"""Whatever a file holds, reading it ends in a scenario or in told problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.errors import ScenarioError
from regsim.scenario.load import parse_scenario
from regsim.scenario.schema import Scenario

PATH = Path("s.yaml")
WORDS = [
    *Scenario.keys(),
    *("layers", "from", "record", "oci", "platforms", "size", "ratio", "files", "created_by", "media_type"),
    *(
        "push",
        "pull",
        "copy",
        "tag",
        "delete",
        "prune",
        "image",
        "to",
        "node",
        "reference",
        "expect",
        "count",
    ),
    *(
        "client",
        "skip",
        "parallel",
        "store",
        "link",
        "mock",
        "container",
        "transferred",
        "saved_ratio",
        "error",
    ),
    *(
        "a",
        "shop/a:v1",
        "linux/amd64",
        "1MB",
        "28MB",
        "1.5MiB",
        "docker",
        "chain",
        "oci:./x",
        "http://x",
        "tar",
    ),
    *("create", "write", "read", "commit", "stop", "rm", "name", "path", "paths", "append", "content"),
    *("no", "1.10", "2025-01-14", "exists(a) >= 1", "saved_ratio(step 1) >= 90%", "<<", "", ">= 3", "step 1"),
]
SCALARS = (
    st.sampled_from(WORDS) | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
)
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=25,
)
PIECES = st.lists(
    st.sampled_from(
        [
            *WORDS,
            ": ",
            "\n",
            "\n  ",
            "\n    - ",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&x ",
            "*x",
            "!!str ",
            "|\n",
            ">-\n",
        ]
    )
    | st.text(max_size=3),
    max_size=60,
).map("".join)


def problems(data: str | bytes, *overrides: str) -> list[str]:
    try:
        parse_scenario(data, PATH, overrides, records=lambda: {"a"})
    except ScenarioError as error:
        return error.problems or ["a ScenarioError without a problem"]
    return []


def told(data: str | bytes, *overrides: str) -> None:
    for problem in problems(data, *overrides):
        assert "\n" not in problem
        assert problem.startswith(("s.yaml:", "--set ", "… and "))


@settings(deadline=None)
@given(DOCUMENTS)
def test_json_like_documents(document: Any) -> None:
    told(json.dumps(document))


@settings(deadline=None)
@given(PIECES)
def test_pieces_of_yaml(text: str) -> None:
    told(text)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes(data: bytes) -> None:
    told(data)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.sampled_from(["", "seed=", "images.a.layers.1=", "steps.1.push."]))
def test_overrides(text: str, start: str) -> None:
    told("images:\n  a: {layers: [1MB]}\nsteps:\n  - push: {image: a, to: x}\n", start + text)
