"""Edge 19: where a registry may send its clients, and their passwords, for tokens."""

from __future__ import annotations

import pytest

from regsim.core.reference import is_loopback
from regsim.errors import AuthenticationError
from regsim.net.address import Origin, origin
from regsim.registry.login.token_service import realm_url

PUBLIC = Origin("https", "registry.example", 443)
PLAIN = Origin("http", "registry.example", 5000)
LOOPBACK = Origin("http", "127.0.0.1", 5000)
INSIDE = Origin("https", "10.1.2.3", 443)


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize(
    ("registry", "realm"),
    [
        (PUBLIC, "https://auth.example/token"),
        (PUBLIC, "https://auth.example:8443/token?tenant=a%2Fb"),
        (PUBLIC, "https://registry.example/token"),
        (PUBLIC, "https://8.8.8.8/token"),
        (PUBLIC, "HTTPS://auth.example/token"),
        (PLAIN, "https://auth.example/token"),
        (PLAIN, "http://registry.example:5000/token"),
        (PLAIN, "http://registry.example:5001/token"),
        (LOOPBACK, "http://127.0.0.1:5001/token"),
        (LOOPBACK, "http://localhost:5001/token"),
        (LOOPBACK, "http://[::1]:5001/token"),
        (LOOPBACK, "https://auth.example/token"),
        (INSIDE, "https://10.9.9.9/token"),
        (INSIDE, "https://[fd00::1]/token"),
    ],
)
def test_edge_19_a_realm_that_may_be_asked(registry: Origin, realm: str, secret: bool) -> None:
    assert origin(realm_url(registry, realm, secret=secret)) == origin(realm)


@pytest.mark.parametrize(
    ("registry", "realm", "trouble"),
    [
        (PUBLIC, "http://auth.example/token", "plain HTTP, though the registry speaks TLS"),
        (PUBLIC, "http://registry.example/token", "plain HTTP, though the registry speaks TLS"),
        (INSIDE, "http://10.1.2.3/token", "plain HTTP, though the registry speaks TLS"),
        (PUBLIC, "https://127.0.0.1/token", "inside a network"),
        (PUBLIC, "https://localhost/token", "inside a network"),
        (PUBLIC, "https://[::1]/token", "inside a network"),
        (PUBLIC, "https://169.254.169.254/latest", "inside a network"),
        (PUBLIC, "https://[fd00:ec2::254]/latest", "inside a network"),
        (PUBLIC, "https://[::ffff:169.254.169.254]/latest", "inside a network"),
        (PUBLIC, "https://10.0.0.1/token", "inside a network"),
        (PUBLIC, "https://192.168.1.1/token", "inside a network"),
        (PUBLIC, "https://0.0.0.0/token", "inside a network"),
        # What resolvers take for an address as well.
        (PUBLIC, "https://127.1/token", "inside a network"),
        (PUBLIC, "https://2130706433/token", "inside a network"),
        (PUBLIC, "https://0x7f000001/token", "inside a network"),
        (PUBLIC, "https://127.0.0.1./token", "inside a network"),
        (PUBLIC, "https://localhost./token", "inside a network"),
        (PUBLIC, "https://registry.localhost/token", "inside a network"),
        (PLAIN, "http://192.168.1.1/token", "inside a network"),
        (PUBLIC, "/token", "no URL"),
        (PUBLIC, "ftp://auth.example/token", "no URL"),
        (PUBLIC, "file:///etc/passwd", "no URL"),
        (PUBLIC, "https://", "no URL"),
        (PUBLIC, "https://auth.example/token\r\nX: y", "no URL"),
        (PUBLIC, "https://auth.example:port/", "no URL"),
    ],
)
def test_edge_19_a_realm_that_may_not_be_asked(registry: Origin, realm: str, trouble: str) -> None:
    for secret in (False, True):
        with pytest.raises(AuthenticationError, match=trouble):
            realm_url(registry, realm, secret=secret)


def test_edge_19_plain_http_to_another_host_takes_no_credentials() -> None:
    realm = "http://auth.example/token"
    assert realm_url(PLAIN, realm, secret=False) == realm
    with pytest.raises(AuthenticationError, match="plain HTTP, to another host"):
        realm_url(PLAIN, realm, secret=True)


def test_a_user_in_a_realm_is_not_for_a_registry_to_say() -> None:
    assert (
        realm_url(PUBLIC, "https://root:pw@auth.example/token", secret=True) == "https://auth.example/token"
    )


def test_an_error_about_a_realm_does_not_repeat_its_query() -> None:
    with pytest.raises(AuthenticationError) as caught:
        realm_url(PUBLIC, "ftp://auth.example/token?key=s3cr3t", secret=True)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.evil.example", "127.0.0.1.evil.example", "127.0.0.evil:80", "127"])
def test_a_name_that_begins_like_loopback_is_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:5000", "127.8.9.10", "localhost:80", "[::1]:80"])
def test_loopback_is_this_machine(host: str) -> None:
    assert is_loopback(host)
