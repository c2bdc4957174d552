from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsim.core import Digest, Reference
from regsim.core.reference import check_repository, check_tag, is_loopback
from regsim.errors import InvalidReferenceError
from regsim.net.address import base_url

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag"),
    [
        ("golang", "docker.io", "library/golang", "latest"),
        ("golang:1.23", "docker.io", "library/golang", "1.23"),
        ("library/golang", "docker.io", "library/golang", "latest"),
        ("someone/app:v1", "docker.io", "someone/app", "v1"),
        ("127.0.0.1:5000/app:1", "127.0.0.1:5000", "app", "1"),
        ("localhost/app", "localhost", "app", "latest"),
        ("localhost:5000/a/b/c", "localhost:5000", "a/b/c", "latest"),
        ("registry.example.com/team/app:v1.2-rc.1", "registry.example.com", "team/app", "v1.2-rc.1"),
        ("[::1]:5000/app:1", "[::1]:5000", "app", "1"),
        ("a__b/c--d/e.f:x", "docker.io", "a__b/c--d/e.f", "x"),
        ("example.com/" + "ab" * 32, "example.com", "ab" * 32, "latest"),
        ("Registry/app", "Registry", "app", "latest"),
    ],
)
def test_reference_is_read_as_docker_reads_it(text: str, host: str, repository: str, tag: str) -> None:
    reference = Reference.parse(text)
    assert (reference.host, reference.repository, reference.tag) == (host, repository, tag)
    assert reference.target == tag


def test_digest_decides_and_leaves_no_default_tag() -> None:
    reference = Reference.parse(f"example.com/app@{DIGEST}")
    assert (reference.tag, reference.digest, reference.target) == (None, Digest(DIGEST), DIGEST)
    both = Reference.parse(f"example.com/app:v1@{DIGEST}")
    assert (both.tag, both.target) == ("v1", DIGEST)


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io", "Docker.IO"])
@pytest.mark.parametrize(
    ("name", "repository"),
    [("golang", "library/golang"), ("library/golang", "library/golang"), ("someone/app", "someone/app")],
)
def test_edge_45_all_names_of_the_hub_are_one(host: str, name: str, repository: str) -> None:
    reference = Reference.parse(f"{host}/{name}:v1")
    assert (reference.host, reference.repository, reference.tag) == ("docker.io", repository, "v1")
    assert reference == Reference.parse(f"{name}:v1")
    assert base_url(reference.host) == "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("golang", "golang:latest"),
        ("index.docker.io/library/golang:1", "golang:1"),
        ("someone/app:v1", "someone/app:v1"),
        ("library/a/b:1", "library/a/b:1"),
        ("127.0.0.1:5000/app:1", "127.0.0.1:5000/app:1"),
        (f"golang:1@{DIGEST}", "golang:1"),
        (f"golang@{DIGEST}", "golang"),
        ("library/" + "ab" * 32, "library/" + "ab" * 32 + ":latest"),
    ],
)
def test_familiar_name_is_what_docker_prints(text: str, familiar: str) -> None:
    assert Reference.parse(text).familiar == familiar


def test_default_host_can_be_another_registry() -> None:
    reference = Reference.parse("shop/api:v1", default_host="127.0.0.1:5000")
    assert str(reference) == "127.0.0.1:5000/shop/api:v1"
    assert Reference.parse("api", default_host="127.0.0.1:5000").repository == "api"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/",
        "App",
        "example.com/App",
        "example.com/app:",
        "example.com/app:.bad",
        "example.com/app:" + "a" * 129,
        "example.com/app@",
        "example.com/app@sha256:short",
        "example.com//app",
        "example.com/app/",
        "example.com/-app",
        "example.com/app_-x",
        "example.com/" + "a" * 256,
        "-bad-.com/app",
        "example.com:99999999/app",
        "example.com:65536/app",
        "ab" * 32,
        "docker.io/" + "ab" * 32,
        "https://example.com/app",
        "user@example.com/app",
        "example.com/app\n",
        "example.com/ä",
        "../etc/passwd",
    ],
)
def test_text_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        Reference.parse(text)


def test_upper_case_is_named_in_the_hint() -> None:
    with pytest.raises(InvalidReferenceError) as caught:
        check_repository("Team/App")
    assert caught.value.hint == "repository names are lower case"


component = st.from_regex(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+){0,2}", fullmatch=True)
repositories = st.lists(component, min_size=1, max_size=3).map("/".join).filter(lambda name: len(name) <= 255)
tags = st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True).filter(lambda tag: tag.isascii())


@given(repositories, tags, st.booleans())
def test_printed_reference_is_read_back(repository: str, tag: str, with_digest: bool) -> None:
    reference = Reference(
        host="registry.example.com:5000",
        repository=check_repository(repository),
        tag=check_tag(tag),
        digest=Digest(DIGEST) if with_digest else None,
    )
    assert Reference.parse(str(reference)) == reference


@given(
    st.sampled_from(["docker.io", "localhost", "localhost:5000", "[::1]:5000", "ghcr.io", "127.0.0.1"]),
    repositories,
    tags,
)
def test_familiar_name_is_read_back(host: str, repository: str, tag: str) -> None:
    reference = Reference.parse(f"{host}/{repository}:{tag}")
    assert Reference.parse(reference.familiar) == reference


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_clear_refusal(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError as error:
        assert error.message  # noqa: PT017  (either outcome is fine; this one must say something)
    else:
        assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.8.8.8", True),
        ("[::1]:5000", True),
        ("example.com", False),
        ("128.0.0.1", False),
        ("localhost.example.com", False),
    ],
)
def test_loopback_hosts_are_known(host: str, *, loopback: bool) -> None:
    assert is_loopback(host) is loopback
