"""Every mistake of a file is told at once, each where it stands and with what was probably meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regsim.errors import LocalFileError, ScenarioError
from regsim.scenario.load import load_scenario
from tests.scenario.reading import problems

if TYPE_CHECKING:
    from pathlib import Path

FIVE = """\
name: five
sed: 7
images:
  base: {layers: [28MB, 4mb]}
  api:v1: {from: bsae, layers: [1MB]}
steps:
  - push: {image: api:v1, to: Shop/api:v1}
    expect:
      transfered: 3
checks: ["saved_ration(step 1) >= 0.9"]
"""


def scenario(
    images: str = "a: {layers: [1MB]}", steps: str = "- push: {image: a, to: x}", rest: str = ""
) -> str:
    return f"images:\n  {images}\nsteps:\n  {steps}\n{rest}"


def test_five_mistakes_and_one_more_are_told_at_once_in_file_order() -> None:
    assert problems(FIVE) == [
        's.yaml:2:1: unknown key "sed" — did you mean "seed"?',
        's.yaml:4:25: unknown unit of size: "mb" — did you mean "MB"?',
        's.yaml:5:18: no image "bsae" — did you mean "base"?',
        "s.yaml:7:31: not a repository name: 'Shop/api' — repository names are lower case",
        's.yaml:9:7: unknown key "transfered" — did you mean "transferred"?',
        's.yaml:10:10: no such metric: "saved_ration" — did you mean "saved_ratio"?',
    ]


def test_positions_name_the_file_that_was_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 3\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert caught.value.problems == [f"{path}:1:8: expected a list of steps, found the number 3"]


def test_a_missing_file_is_a_local_failure(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="cannot read the scenario"):
        load_scenario(tmp_path / "none.yaml")
    with pytest.raises(LocalFileError, match="cannot read the scenario"):
        load_scenario(tmp_path)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("- push: {to: x}", '4:11: a push lacks the key "image"'),
        ("- push: {imag: a, to: x}", '4:12: unknown key "imag" — did you mean "image"?'),
        ("- push:", "4:5: expected a push, found nothing"),
        ("- {}", '4:5: a step needs one of "push", "pull", "copy", "tag", "delete", "container"'),
        ("- psuh: {image: a, to: x}", '4:5: unknown key "psuh" — did you mean "push"?'),
        (
            "- {push: {image: a, to: x}, pull: {reference: x}}",
            '4:31: a step has "push" already — "pull" excludes it',
        ),
        ("- prune: {}", '4:5: "prune" is not available yet'),
        (
            "- container: {}",
            (
                '4:16: a container step needs one of "create", "write", "remove", "read", "list", "stop", '
                '"start", "rm", "commit"'
            ),
        ),
        ("- container: {stop: {name: web}}", "4:23: expected a container name, found a mapping"),
        ("- container: {create: {name: web}}", '4:25: a create lacks the key "image"'),
        (
            "- container: {create: {name: we b, image: a}}",
            '4:32: not a container name: "we b" — letters, digits and _ . -, such as web',
        ),
        ("- push: {image: a, to: x, node: nod}", '4:35: no node "nod" — did you mean "node"?'),
        (
            "- push: {image: a, to: 'x:'}",
            "4:26: not a tag: '' — letters, digits, '_', '.' and '-', at most 128 of them",
        ),
        (
            "- pull: {reference: 'localhost:5000/x'}",
            (
                '4:23: a step names no registry: "localhost:5000/x"'
                ' — the registry is the scenario\'s; did you mean "x"?'
            ),
        ),
        (
            "- push: {image: a, to: 'x@sha256:" + 64 * "0" + "'}",
            f'4:26: this names a tag, not a digest: "x@sha256:{64 * "0"}" — remove what follows the @',
        ),
        (
            "- {tag: {reference: x, tag: v1}, expect: {transferred: 1}}",
            '4:36: a tag moves no layers to count — it may expect an "error" only',
        ),
        (
            "- {pull: {reference: x}, expect: {error: MANIFEST_UNKOWN}}",
            '4:44: no such error code: "MANIFEST_UNKOWN" — did you mean "MANIFEST_UNKNOWN"?',
        ),
        (
            "- {pull: {reference: x}, expect: {saved_ratio: 3}}",
            "4:50: saved_ratio is never above 1 — write 0.9 or 90%",
        ),
    ],
)
def test_mistakes_in_a_step(step: str, expected: str) -> None:
    assert problems(scenario(steps=step)) == [f"s.yaml:{expected}"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a: {}", '2:6: an image needs one of "layers", "record", "oci", "dockerfile", "platforms"'),
        ("a: {layers: 28MB}", '2:15: expected a list of layers, found "28MB"'),
        ("a: {layers: [true]}", "2:16: expected a size, found the boolean true"),
        ("a: {layers: [1.5B]}", '2:16: "1.5B" is not a whole number of bytes — it is 1.500 bytes'),
        ("a: {layers: [{ratio: 2}]}", '2:16: a layer lacks the key "size"'),
        ("a: {layers: [{size: 1MB, ratio: 0.5}]}", "2:35: expected 1 or more, found 0.5"),
        ("a: {layers: [5000000GB]}", '2:16: "5000000GB" is too large for a layer — the largest is 1TiB'),
        ("a: {layers: [9]}", "2:16: 9B is too small for this layer — the smallest is 28B"),
        (
            "a: {layers: [{size: 1MB, media_type: tar, ratio: 2}]}",
            '2:45: a plain tar is not compressed — remove "ratio", or use tar+gzip',
        ),
        (
            "a: {layers: [{size: 1MB, files: {../x: 3}}]}",
            "2:36: not a path of a layer: '../x' — such as app/main, without ./ and ../",
        ),
        ("a: {record: x, from: b}", '2:18: "from" goes with "layers" only'),
        (
            "a: {dockerfile: ./Dockerfile, context: ., contex: 1}",
            '2:45: unknown key "contex" — did you mean "context"?',
        ),
        ("a: {layers: [1MB], run: {}}", '2:22: "run" goes with "dockerfile" only'),
        (
            "a: {dockerfile: x, run: {go: {files: {/: 1MB}}}}",
            "2:41: the root directory itself is no file — a path in the image, such as go/main",
        ),
        (
            "a: {platforms: {amd64: {layers: [1MB]}}}",
            "2:19: not a platform: 'amd64' — write os/architecture, such as linux/amd64",
        ),
        ("a: {oci: ':x'}", '2:12: no directory: ":x" — write DIR or DIR:TAG, such as ./layout:latest'),
    ],
)
def test_mistakes_in_an_image(image: str, expected: str) -> None:
    found = problems(scenario(images=image), records={"x"})
    assert found[0] == f"s.yaml:{expected}"


def test_reserved_keys_are_told_beside_other_mistakes_of_the_same_node() -> None:
    nodes = "nodes:\n  edge: {client: dockr, link: {down: 1Mbit}}\n"
    rest = f"{nodes}registries: {{}}\n"
    assert problems(scenario(rest=rest)) == [
        (
            "s.yaml:6:18: expected one of regsim, docker, containerd, podman,"
            ' found "dockr" — did you mean "docker"?'
        ),
        's.yaml:6:25: "link" is not available yet',
        's.yaml:7:1: "registries" is not available yet',
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("moc", 'not a registry: "moc" — did you mean "mock"?'),
        ("me:pw@x", "a registry's URL holds no user name or password — remove what precedes the @"),
        ("me:pw@x:99999", "a registry's URL holds no user name or password — remove what precedes the @"),
        ("x:99999", 'not a URL: "https://x:99999"'),
        ("ftp://x", 'not the URL of a registry: "ftp://x" — such as http://127.0.0.1:5000'),
        ("http://me:pw@x", "a registry's URL holds no user name or password — remove what precedes the @"),
        ("http://x/v2", 'a registry\'s URL ends after its host and port: "http://x/v2"'),
        ("http://[::1", 'not a URL: "http://[::1"'),
        ("[mock]", "expected mock, a URL, or a mapping, found a list"),
    ],
)
def test_mistakes_in_the_registry(value: str, expected: str) -> None:
    assert problems(scenario(rest=f"registry: {value}")) == [f"s.yaml:5:11: {expected}"]


def test_unquoted_names_that_are_no_text_to_some_reader_are_refused() -> None:
    text = """\
images:
  1.10: {layers: [1MB]}
  a: {layers: [1MB]}
steps:
  - tag: {reference: x, tag: 1.10}
  - tag: {reference: x, tag: no}
  - tag: {reference: x, tag: 2025-01-14}
  - tag: {reference: x, tag: "1.10"}
  - tag: {reference: x, tag: "no"}
"""
    assert problems(text) == [
        's.yaml:2:3: an image name must be text, found the number 1.10 — put it in quotes: "1.10"',
        's.yaml:5:30: a tag must be text, found the number 1.10 — put it in quotes: "1.10"',
        (
            "s.yaml:6:30: a tag must be text, but some readers take an unquoted no for something else"
            ' — put it in quotes: "no"'
        ),
        (
            "s.yaml:7:30: a tag must be text, but some readers take an unquoted 2025-01-14 for something else"
            ' — put it in quotes: "2025-01-14"'
        ),
    ]


def test_the_number_of_problems_told_is_bounded() -> None:
    text = scenario(rest="\n".join(f"key{number}: 1" for number in range(500)))
    found = problems(text)
    assert len(found) == 201
    assert found[-1] == "… and 300 more problems"


def test_an_error_code_that_no_registry_has_is_refused_with_the_known_ones() -> None:
    [problem] = problems(scenario(steps="- {pull: {reference: x}, expect: {error: FOO}}"))
    assert problem.startswith('s.yaml:4:44: no such error code: "FOO" — known: BLOB_UNKNOWN, ')
