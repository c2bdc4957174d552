from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsim.errors import InvalidReferenceError, RegistryError
from regsim.net import address

BASE = "http://127.0.0.1:5000/v2/shop/api/blobs/uploads/"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("localhost", "http://localhost"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("ghcr.io", "https://ghcr.io"),
        ("registry.example:443", "https://registry.example:443"),
        ("http://registry.example:80/", "http://registry.example:80"),
        ("https://127.0.0.1:5000", "https://127.0.0.1:5000"),
        ("docker.io", "https://registry-1.docker.io"),
    ],
)
def test_plain_http_is_spoken_on_loopback_or_where_the_address_says_so(host: str, url: str) -> None:
    assert address.base_url(host) == url


def test_plain_http_is_spoken_to_other_hosts_where_asked_for() -> None:
    assert address.base_url("registry.example:5000", plain_http=True) == "http://registry.example:5000"
    assert address.base_url("https://registry.example", plain_http=True) == "https://registry.example"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "http://",
        "ftp://x",
        "x/y",
        "http://x/v2/",
        "user:secret@x",
        "x:port",
        "x?y",
        "[::1",
        "not a host",
        "a\nb",
    ],
)
def test_what_is_no_registry_address_is_refused(host: str) -> None:
    with pytest.raises(InvalidReferenceError, match="not the address of a registry"):
        address.base_url(host)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/v2/x?a=%2F&_state=b%3d%3D", "http://127.0.0.1:5000/v2/x?a=%2F&_state=b%3d%3D"),
        ("http://Other:443/x?y", "http://Other:443/x?y"),
        ("https://cdn.example/x?sig=a+b~'%27", "https://cdn.example/x?sig=a+b~'%27"),
        ("//cdn.example/x", "http://cdn.example/x"),
        ("127.0.0.1:5000/v2/x?y=1", "http://127.0.0.1:5000/v2/x?y=1"),
        ("?_state=1", BASE + "?_state=1"),
        ("uuid?_state=a/../b", BASE + "uuid?_state=a/../b"),
        ("../uuid", "http://127.0.0.1:5000/v2/shop/api/blobs/uuid"),
        ("/x?next=http://y/z", "http://127.0.0.1:5000/x?next=http://y/z"),
        ("https://cdn.example@cdn.example/x", "https://cdn.example/x"),
        ("/x#fragment", "http://127.0.0.1:5000/x"),
    ],
)
def test_a_location_is_resolved_without_touching_its_query(location: str, url: str) -> None:
    assert address.resolve(BASE, location) == url


@pytest.mark.parametrize("location", ["", "/a b", "/a\r\nX: y", "ftp://x/y", "http://", "/é", "http://[x/"])
def test_a_location_that_cannot_be_asked_is_a_fault_of_the_registry(location: str) -> None:
    with pytest.raises(RegistryError):
        address.resolve(BASE, location)


@given(
    query=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), min_size=1)
)
def test_any_query_survives_byte_for_byte(query: str) -> None:
    url = address.with_query(address.resolve(BASE, f"/u?{query}"), "digest=sha256:1")
    separator = "" if query.endswith(("?", "&")) else "&"
    assert address.target_of(url) == f"/u?{query}{separator}digest=sha256:1".encode()


def test_a_query_is_begun_where_there_is_none() -> None:
    assert address.with_query("http://x/u", "digest=d") == "http://x/u?digest=d"


def test_a_port_that_is_spelled_out_stays_in_the_host_yet_is_the_same_origin() -> None:
    assert address.host_of("https://x:443/y") == "x:443"
    assert address.origin("https://x:443/y") == address.origin("https://X/z")
    assert address.origin("http://x") != address.origin("https://x")
    assert address.target_of("https://x:443") == b"/"


def test_what_is_shown_of_a_url_has_neither_query_nor_user() -> None:
    assert address.without_query("https://me:secret@x:1/y?sig=secret#secret") == "https://x:1/y"
