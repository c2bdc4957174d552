"""Who can log in: pairs, and htpasswd files with bcrypt hashes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import bcrypt
import pytest

from mock_registry.auth import BasicAuth, Htpasswd, HtpasswdError, Pairs, TokenAuth
from mock_registry.errors import MissingPackageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.mock_registry.conftest import OpenWith

pytestmark = pytest.mark.anyio


def hashed(password: str, prefix: str = "$2y$") -> str:
    """Return the cheapest hash of a password, with the prefix that htpasswd writes."""
    text = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    return text.replace("$2b$", prefix)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "htpasswd"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


async def test_pairs_know_their_passwords() -> None:
    users = Pairs({"ci": "s3cret", "empty": ""})
    assert await users.verify("ci", "s3cret")
    assert await users.verify("empty", "")
    for name, password in [("ci", ""), ("ci", "s3cret "), ("nobody", "s3cret"), ("", ""), ("ci\0", "s3cret")]:
        assert not await users.verify(name, password)


async def test_a_name_cannot_pass_for_part_of_a_password() -> None:
    users = Pairs({"a": "b\0c"})
    assert not await users.verify("a\0b", "c")


@pytest.mark.parametrize("prefix", ["$2y$", "$2b$", "$2a$"])
async def test_a_file_of_htpasswd_knows_its_passwords(tmp_path: Path, prefix: str) -> None:
    path = write(tmp_path, "# users", "", f"ci:{hashed('s3cret', prefix)}", f"Ünal:{hashed('ж')}  ")
    users = Htpasswd.read(path)
    for _ in range(2):  # from the file, and as remembered
        assert await users.verify("ci", "s3cret")
        assert await users.verify("Ünal", "ж")
        assert not await users.verify("ci", "ж")
        assert not await users.verify("nobody", "s3cret")
        assert not await users.verify("ci", "s3\0cret")


async def test_a_password_that_was_right_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = Htpasswd.read(write(tmp_path, f"ci:{hashed('s3cret')}"))
    assert await users.verify("ci", "s3cret")
    monkeypatch.setattr(users, "_check", None)
    assert await users.verify("ci", "s3cret")
    with pytest.raises(TypeError):  # a wrong one is
        await users.verify("ci", "wrong")


async def test_of_a_long_password_bcrypt_reads_72_octets_as_htpasswd_does(tmp_path: Path) -> None:
    users = Htpasswd.read(write(tmp_path, f"ci:{hashed('ж' * 50)}"))
    assert await users.verify("ci", "ж" * 50)
    assert not await users.verify("ci", "ж" * 35)


async def test_in_an_empty_file_there_is_nobody(tmp_path: Path) -> None:
    assert not await Htpasswd.read(write(tmp_path, "")).verify("ci", "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ci:s3cret", "not a bcrypt hash"),
        ("ci:$apr1$abcdefgh$abcdefghijklmnopqrstuv", "not a bcrypt hash"),
        ("ci:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "not a bcrypt hash"),
        ("ci:$2y$99$" + "a" * 53, "not a bcrypt hash"),
        ("ci:$2y$05$" + "a" * 52, "not a bcrypt hash"),
        ("ci", "not a bcrypt hash"),
        (":" + "$2y$05$" + "a" * 53, "not a name"),
        ("first:$2y$05$" + "a" * 53, "first stands twice"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_its_password_is_not(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = write(tmp_path, f"first:{hashed('x')}", line)
    with pytest.raises(HtpasswdError) as caught:
        Htpasswd.read(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert reason in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_not_there_is_the_system_s_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Htpasswd.read(tmp_path / "nothing")


def test_without_bcrypt_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, f"ci:{hashed('x')}")
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(MissingPackageError, match="an htpasswd file needs the package bcrypt: pip install"):
        Htpasswd.read(path)
    Pairs({"ci": "x"})  # needs nothing


async def test_a_registry_asks_the_file(with_settings: OpenWith, tmp_path: Path) -> None:
    users = Htpasswd.read(write(tmp_path, f"ci:{hashed('s3cret')}"))
    async with with_settings(auth=BasicAuth(users)) as peer:
        assert (await peer.http.get("/v2/", auth=("ci", "s3cret"))).status_code == 200
        assert (await peer.http.get("/v2/", auth=("ci", "wrong"))).status_code == 401
    async with with_settings(auth=TokenAuth(users)) as peer:
        assert (await peer.http.get("/token", auth=("ci", "s3cret"))).status_code == 200
        assert (await peer.http.get("/token", auth=("nobody", "s3cret"))).status_code == 401


async def test_anything_that_knows_passwords_will_do(with_settings: OpenWith) -> None:
    class Palindromes:
        async def verify(self, name: str, password: str) -> bool:
            return name == password[::-1]

    async with with_settings(auth=BasicAuth(Palindromes())) as peer:
        assert (await peer.http.get("/v2/", auth=("abc", "cba"))).status_code == 200
        assert (await peer.http.get("/v2/", auth=("abc", "abc"))).status_code == 401
