"""What is refused before any key is looked at, and where."""

from __future__ import annotations

import pytest

from regsim.scenario.load import MAX_FILE
from regsim.scenario.yaml_document import Position, Scalar
from tests.scenario.reading import problems

STEPS = "steps:\n  - pull: {reference: x}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '1:1: the file is empty — a scenario has at least "steps"'),
        ("# nothing\n", '1:1: the file is empty — a scenario has at least "steps"'),
        ("- 1\n", "1:1: expected a scenario: a mapping with steps, found a list"),
        (
            f"%YAML 1.1\n---\n{STEPS}",
            "2:1: %YAML and %TAG directives are not accepted — scenarios are YAML 1.2; remove them",
        ),
        (
            f"%TAG ! tag:x,2000:\n---\n{STEPS}",
            "2:1: %YAML and %TAG directives are not accepted — scenarios are YAML 1.2; remove them",
        ),
        (
            f"{STEPS}---\na: 1\n",
            "3:1: a second document — a scenario file holds one; put others in files of their own",
        ),
        ("name: a\n\tseed: 2\n", "2:1: a tab where YAML allows none — indent with spaces"),
        (
            "name: a: b\n",
            "1:8: not YAML: a second ': ' in one value — put the value in quotes, or check the indentation",
        ),
        (
            "a:\n  b:\n c: 1\n",
            "3:2: not YAML: this does not line up with what is above it — check the indentation",
        ),
        ("name: a\nseed: \x01\n", "2:7: a control character that YAML does not allow"),
        ("name: *x\n", '1:7: alias "*x" stands for nothing defined above it'),
        ("name: &x [*x]\n", '1:11: alias "*x" stands for nothing defined above it'),
        ("[" * 60, "1:25: nested more than 24 levels deep"),
        ("{" * 60, "1:25: nested more than 24 levels deep"),
        (b"name: caf\xe9\n", "1:10: not UTF-8: byte 0xe9 — save the file as UTF-8"),
        (b"name: \xc3\xa9\n\xff", "2:1: not UTF-8: byte 0xff — save the file as UTF-8"),
        (STEPS + "#" * MAX_FILE, "1:1: larger than 1 MiB, which no scenario is"),
    ],
)
def test_refused(text: str | bytes, expected: str) -> None:
    assert problems(text) == [f"s.yaml:{expected}"]


def test_surrogates_of_json_are_joined_and_half_a_pair_is_refused() -> None:
    text = r'{"name": "\ud834\udd1e \udd1e", "steps": [{"pull": {"reference": "\ud834\udd1e"}}]}'
    assert problems(text) == [
        "s.yaml:1:10: half of a surrogate pair is not a character",
        "s.yaml:1:66: not a repository name: '\N{MUSICAL SYMBOL G CLEF}' — such as library/golang",
    ]


def test_a_key_given_twice_is_told_beside_other_mistakes() -> None:
    assert problems(f"seed: 1\n{STEPS}seed: 2\nsed: 3\n? [a]\n: 1\n") == [
        's.yaml:4:1: "seed" is given twice — first at line 1',
        's.yaml:5:1: unknown key "sed" — did you mean "seed"?',
        "s.yaml:6:3: a key must be a word, not a list or a mapping",
    ]


def test_tags_and_merge_keys_are_refused() -> None:
    assert problems(f"name: !!str 1.10\n<<: {{seed: 1}}\n{STEPS}") == [
        "s.yaml:1:7: tags (!…) are not accepted — write text in quotes instead",
        's.yaml:1:7: a name must be text, found the number 1.10 — put it in quotes: "1.10"',
        's.yaml:2:1: unknown key "<<" — YAML 1.2 has no merge keys; write the keys out',
    ]


def test_an_alias_bomb_is_refused_before_it_is_expanded() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]\n" for n in range(1, 12)
    )
    assert problems(bomb) == ["s.yaml:5:55: more than 100,000 values, each alias counted in full"]


def test_a_byte_order_mark_moves_no_column() -> None:
    assert problems(b"\xef\xbb\xbfsed: 1\n" + STEPS.encode())[0].startswith("s.yaml:1:1: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1.10", 1.1),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("", None),
        ("~", None),
        ("no", "no"),
        ("1_000", "1_000"),
        ("12:30:00", "12:30:00"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_plain_scalars_have_the_types_of_yaml_1_2(text: str, value: object) -> None:
    where = Position(0, 1, 1, "s.yaml")
    scalar = Scalar(text, where)
    assert scalar.value == value
    assert type(scalar.value) is type(value)
    assert Scalar(text, where, quoted=True).value == text
