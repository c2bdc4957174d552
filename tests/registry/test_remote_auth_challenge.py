"""What a registry's `WWW-Authenticate` is taken for: edge 16, and every header that anybody could send."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regsim.registry.login.challenge import Challenge, Scope, covers, merged, parse_challenges, parse_scopes

TOKEN_CHARACTERS = string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-"
TOKENS = st.text(TOKEN_CHARACTERS, min_size=1, max_size=8)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
CHALLENGES = st.builds(
    Challenge, TOKENS.map(str.lower), st.dictionaries(TOKENS.map(str.lower), VALUES, max_size=4)
)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written(challenge: Challenge, equals: str, comma: str) -> str:
    parameters = comma.join(f"{name}{equals}{quoted(text)}" for name, text in challenge.parameters.items())
    return f"{challenge.scheme} {parameters}".rstrip(" ")


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ('Basic realm="registry"', [("basic", {"realm": "registry"})]),
        ("BASIC REALM=registry", [("basic", {"realm": "registry"})]),
        (
            'Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.example/token",
                        "service": "r",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        # Without the quotes that a URL should have.
        (
            "Bearer realm=https://auth.example/token?a=b,service=r",
            [("bearer", {"realm": "https://auth.example/token?a=b", "service": "r"})],
        ),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Negotiate YWJj==, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        (
            'Digest qop="auth, auth-int", nonce="Basic realm=\\"no\\"", Basic realm="yes"',
            [("digest", {"qop": "auth, auth-int", "nonce": 'Basic realm="no"'}), ("basic", {"realm": "yes"})],
        ),
        ('Basic realm="twice", realm="second"', [("basic", {"realm": "twice"})]),
        ('Basic realm = "spaced" , charset = UTF-8', [("basic", {"realm": "spaced", "charset": "UTF-8"})]),
        ('Bearer realm="never ends', [("bearer", {"realm": "never ends"})]),
        ('realm="no scheme", Basic realm="x"', [("basic", {"realm": "x"})]),
        ("", []),
        (', ,"",;', []),
    ],
)
def test_edge_16_a_header_is_read_as_all_the_challenges_in_it(
    header: str, challenges: list[tuple[str, dict[str, str]]]
) -> None:
    assert [(each.scheme, dict(each.parameters)) for each in parse_challenges(header)] == challenges


@given(st.lists(CHALLENGES, max_size=4), st.sampled_from(["=", " = "]), st.sampled_from([",", " , ", ",,"]))
def test_what_was_written_by_the_grammar_is_read_back(
    challenges: list[Challenge], equals: str, comma: str
) -> None:
    header = f"{comma} ".join(written(each, equals, comma) for each in challenges)
    read = [(each.scheme, dict(each.parameters)) for each in parse_challenges(header)]
    assert read == [(each.scheme, dict(each.parameters)) for each in challenges]


@given(st.text(max_size=200) | st.text('a=", \\', max_size=200))
@example('"' * 5000)
@example("a " * 5000)
@example('a="\\' * 2000)
def test_any_text_is_read_to_its_end(header: str) -> None:
    for challenge in parse_challenges(header):
        assert challenge.scheme
        assert "" not in challenge.parameters


@pytest.mark.parametrize(
    "text",
    [
        "repository:shop/api:pull,push",
        "repository:localhost:5000/shop/api:pull",
        "registry:catalog:*",
        "repository(plugin):a/b:pull",
        "aws",
        "a:b",
    ],
)
def test_a_scope_is_written_as_it_was_read(text: str) -> None:
    assert str(Scope.parse(text)) == text


def test_scopes_are_added_resource_by_resource_in_their_first_order() -> None:
    total = merged(parse_scopes("repository:b:push aws"), parse_scopes("repository:a:pull repository:b:pull"))
    assert [str(each) for each in total] == ["repository:b:pull,push", "aws", "repository:a:pull"]


def test_scopes_cover_what_needs_no_more() -> None:
    held = parse_scopes("repository:a:pull,push repository:b:pull")
    assert covers(held, parse_scopes("repository:b:pull repository:a:push"))
    assert covers(held, ())
    assert not covers(held, parse_scopes("repository:b:push"))
    assert not covers(held, parse_scopes("repository:c:pull"))
