"""Where credentials are found: auth files in their order, their keys, and the programs that they name."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import textwrap
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from regsim.errors import LocalFileError
from regsim.registry.login import AuthFiles, Credentials
from regsim.registry.login.auth_files import ask_helper

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

HOST = "registry.example:5000"
SECRET = "S3CR3T"


def encoded(user: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


class Home:
    """A home directory, and what the environment says of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {
            "HOME": str(path),
            "XDG_RUNTIME_DIR": str(path / "runtime"),
            "PATH": f"{path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def write(self, name: str, document: Any) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    def helper(self, name: str, body: str) -> Path:
        """Install a helper: a Python program that has what it was asked for as `server`."""
        path = self.write(
            f"bin/docker-credential-{name}",
            f"#!{sys.executable}\nimport sys, json, os, time\nassert sys.argv[1:] == ['get']\n"
            f"server = sys.stdin.read()\n{textwrap.dedent(body)}",
        )
        path.chmod(0o755)
        return path

    def keychain(self, authfile: Path | None = None) -> AuthFiles:
        return AuthFiles(self.environment, authfile)

    async def user(self, host: str = HOST, repository: str | None = None) -> str | None:
        found = await self.keychain().find(host, repository)
        return found.user if found else None


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


PLACES = [
    "runtime/containers/auth.json",
    "config/containers/auth.json",
    "docker/config.json",
    ".dockercfg",
]


async def test_files_are_looked_at_in_skopeos_order(home: Home) -> None:
    home.environment |= {
        "XDG_CONFIG_HOME": str(home.path / "config"),
        "DOCKER_CONFIG": str(home.path / "docker"),
    }
    assert [str(each.relative_to(home.path)) for each in home.keychain().paths] == PLACES
    assert await home.user() is None
    for place in reversed(PLACES):
        entries = {HOST: encoded(place)}
        home.write(place, entries if place == ".dockercfg" else {"auths": entries})
        assert await home.user() == place


async def test_without_more_words_the_files_are_below_the_home_directory(home: Home) -> None:
    del home.environment["XDG_RUNTIME_DIR"]
    assert [str(each) for each in home.keychain().paths] == [
        f"/run/containers/{os.getuid()}/auth.json",
        f"{home.path}/.config/containers/auth.json",
        f"{home.path}/.docker/config.json",
        f"{home.path}/.dockercfg",
    ]


async def test_a_file_that_was_named_is_the_only_one(home: Home) -> None:
    home.write("runtime/containers/auth.json", {"auths": {HOST: encoded("usual")}})
    named = home.write("named.json", {"auths": {"other.example": encoded("named")}})
    home.environment["REGISTRY_AUTH_FILE"] = str(named)
    assert await home.user() is None
    assert await home.user("other.example") == "named"
    flag = home.write("flag.json", {"auths": {HOST: encoded("flag")}})
    found = await home.keychain(flag).find(HOST, None)
    assert found is not None
    assert (found.user, found.source) == ("flag", str(flag))


async def test_a_file_that_was_named_and_is_missing_is_an_error(home: Home) -> None:
    keychain = home.keychain(home.path / "none.json")
    with pytest.raises(LocalFileError, match=r"there is no auth file .*none\.json"):
        keychain.check()
    home.keychain().check()


@pytest.mark.parametrize(
    ("repository", "user"),
    [
        ("shop/api", "api"),
        ("shop/api/deep", "api"),
        ("shop/apis", "shop"),
        ("shop/web", "shop"),
        ("shopping", "host"),
        (None, "host"),
    ],
)
async def test_the_nearest_key_counts(home: Home, repository: str | None, user: str) -> None:
    auths = {
        HOST: encoded("host"),
        f"{HOST}/shop": encoded("shop"),
        f"{HOST}/shop/api": encoded("api"),
        "registry.example": encoded("another port"),
    }
    home.write(".docker/config.json", {"auths": auths})
    assert await home.user(HOST, repository) == user


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io", "DOCKER.io"])
@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
async def test_docker_hub_goes_by_several_names(home: Home, host: str, key: str) -> None:
    home.write(".docker/config.json", {"auths": {key: encoded("hub")}})
    assert await home.user(host, "library/golang") == "hub"
    assert await home.user("docker.io.example") is None


@pytest.mark.parametrize("key", [f"https://{HOST}", f"http://{HOST}/v2/", f"{HOST}/v1/", f"https://{HOST}/x"])
async def test_keys_may_be_urls(home: Home, key: str) -> None:
    home.write(".docker/config.json", {"auths": {key: encoded("url")}})
    assert await home.user() == "url"


async def test_a_namespace_of_a_host_is_not_the_host(home: Home) -> None:
    home.write(".docker/config.json", {"auths": {f"{HOST}/shop": encoded("shop")}})
    assert await home.user() is None
    assert await home.user(HOST, "other/api") is None


@pytest.mark.parametrize("password", ["a:b:c", ":", "ü-ñ", " spaced ", 'a\\b"c'])
async def test_a_password_may_hold_anything(home: Home, password: str) -> None:
    home.write(".docker/config.json", {"auths": {HOST: encoded("ci", password)}})
    assert await home.keychain().find(HOST, None) == Credentials(user="ci", password=password)


@pytest.mark.parametrize(
    ("entry", "credentials"),
    [
        ({"username": "ci", "password": SECRET}, Credentials(user="ci", password=SECRET)),
        ({**encoded("ci", SECRET + "\0\0")}, Credentials(user="ci", password=SECRET)),
        ({**encoded("ci", ""), "identitytoken": SECRET}, Credentials(user="ci", identity_token=SECRET)),
        ({"identitytoken": SECRET}, Credentials(identity_token=SECRET)),
        ({**encoded("<token>", SECRET)}, Credentials(identity_token=SECRET)),
        ({}, None),
        (None, None),
        ({"auth": "", "email": "x"}, None),
        ({**encoded("ci", "")}, None),
        ({**encoded("", "")}, None),
    ],
)
async def test_what_an_entry_says(home: Home, entry: Any, credentials: Credentials | None) -> None:
    home.write(".docker/config.json", {"auths": {HOST: entry}, "psFormat": "x"})
    assert await home.keychain().find(HOST, None) == credentials


def shown(error: BaseException) -> str:
    """Return all that a traceback could show of an error and of what led to it."""
    words = "".join(traceback.format_exception(error))
    seen: BaseException | None = error
    while seen is not None:
        words += f"{seen!r} {getattr(seen, 'hint', '')} {vars(seen)}"
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return words


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'{{"auths": {{"{HOST}": {{"auth": "{SECRET}', "it is not JSON"),
        (f'["{SECRET}"]', "it is not a JSON object"),
        ("[" * 100_000, "it is not JSON"),
        ("\xff", "it is not"),
        ("", "it is not JSON"),
        (json.dumps({"auths": [SECRET]}), "auths is not an object"),
        (json.dumps({"auths": SECRET}), "auths is not an object"),
        (json.dumps({"credHelpers": [SECRET]}), "credHelpers is not an object"),
        (json.dumps({"credsStore": {"a": SECRET}}), "credsStore is not a string"),
        (json.dumps({"auths": {HOST: SECRET}}), f"the entry of '{HOST}' is not an object"),
        (json.dumps({"auths": {HOST: {"auth": [SECRET]}}}), "has a value that is not a string"),
        (json.dumps({"auths": {HOST: {"identitytoken": {SECRET: 1}}}}), "has a value that is not a string"),
        (json.dumps({"auths": {HOST: {"auth": f"{SECRET}!"}}}), "is not base64 of USER:PASSWORD"),
        (
            json.dumps({"auths": {HOST: {"auth": base64.b64encode(SECRET.encode()).decode()}}}),
            "is not base64 of USER:PASSWORD",
        ),
        (
            json.dumps({"auths": {HOST: {"auth": base64.b64encode(b"ci:\xff\xfe").decode()}}}),
            "is not base64 of USER:PASSWORD",
        ),
        (json.dumps({"credHelpers": {HOST: 7}}), "credHelpers has no name of a program"),
        (json.dumps({"credHelpers": {HOST: "../../bin/sh"}}), "no helper is called"),
        (json.dumps({"credsStore": "a b"}), "no helper is called"),
        (json.dumps({"padding": "x" * 1024 * 1024}), "is larger than"),
    ],
)
async def test_a_file_that_is_of_no_use_is_named_and_not_repeated(home: Home, text: str, why: str) -> None:
    path = home.write(".docker/config.json", text)
    with pytest.raises(LocalFileError) as caught:
        await home.keychain().find(HOST, "shop/api")
    assert str(path) in str(caught.value)
    assert why in str(caught.value)
    assert SECRET not in shown(caught.value)


async def test_a_file_that_cannot_be_read_is_named(home: Home) -> None:
    (home.path / ".docker" / "config.json").mkdir(parents=True)
    with pytest.raises(LocalFileError, match=r"cannot read the auth file .*config\.json: Is a directory"):
        await home.user()


async def test_an_entry_that_nobody_asks_for_is_not_judged(home: Home) -> None:
    home.write(".docker/config.json", {"auths": {"other.example": 7, HOST: encoded("ci")}})
    assert await home.user() == "ci"


# Programs.

ANSWER = """
    print(json.dumps({"ServerURL": server, "Username": "helped", "Secret": f"secret of {server}"}))
"""


async def test_a_helper_is_asked_for_its_registry(home: Home) -> None:
    home.helper("mine", ANSWER)
    home.write(".docker/config.json", {"credHelpers": {HOST: "mine"}, "auths": {HOST: encoded("stored")}})
    found = await home.keychain().find(HOST, "shop/api")
    assert found == Credentials(user="helped", password=f"secret of {HOST}")
    assert found.source == "docker-credential-mine"
    assert await home.user("other.example") is None


async def test_a_helper_is_asked_for_hub_by_its_old_url(home: Home) -> None:
    home.helper("mine", ANSWER)
    home.write(".docker/config.json", {"credHelpers": {"docker.io": "mine"}})
    found = await home.keychain().find("docker.io", "library/golang")
    assert found == Credentials(user="helped", password="secret of https://index.docker.io/v1/")


async def test_the_store_is_asked_where_a_file_has_no_more_than_a_name(home: Home) -> None:
    home.helper("all", ANSWER)
    auths = {HOST: {}, "stored.example": encoded("stored")}
    home.write(".docker/config.json", {"credsStore": "all", "auths": auths})
    assert await home.user() == "helped"
    assert await home.user("stored.example") == "stored"


async def test_edge_18_the_user_token_has_an_identity_token(home: Home) -> None:
    home.helper("id", 'print(json.dumps({"Username": "<token>", "Secret": "refresh"}))')
    home.write(".docker/config.json", {"credsStore": "id"})
    assert await home.keychain().find(HOST, None) == Credentials(identity_token="refresh")


@pytest.mark.parametrize(
    "words", ["credentials not found in native keychain", "Credentials not found in native keychain\n"]
)
async def test_a_helper_that_has_none_leaves_the_question_open(home: Home, words: str) -> None:
    home.helper("none", f"sys.exit(print({words!r}) or 1)")
    home.write(".docker/config.json", {"credHelpers": {HOST: "none"}})
    home.write(".dockercfg", {HOST: encoded("later")})
    assert await home.user() == "later"


async def test_a_helper_is_asked_once(home: Home) -> None:
    home.helper("counting", f"open({str(home.path / 'log')!r}, 'a').write('x')\n{textwrap.dedent(ANSWER)}")
    home.write(".docker/config.json", {"credsStore": "counting"})
    keychain = home.keychain()
    for name in ("shop/api", "shop/web", None):
        assert await keychain.find(HOST, name)
    assert (home.path / "log").read_text() == "x"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (f"sys.exit(print('{SECRET}') or 3)", "failed with exit code 3"),
        (f"sys.stderr.write('{SECRET}'); sys.exit(1)", "failed with exit code 1"),
        (f"print('{SECRET}')", "did not answer with credentials"),
        (f"print(json.dumps(['{SECRET}']))", "did not answer with credentials"),
        (
            f"print(json.dumps({{'Username': 'ci', 'Secret': ['{SECRET}']}}))",
            "did not answer with credentials",
        ),
        (f"print(json.dumps({{'Secret': '{SECRET}'}}))", "did not answer with credentials"),
        ("print('[' * 60_000)", "did not answer with credentials"),
        (f"print('{SECRET}' * 20_000)", "answered more than 65536 bytes"),
        ("while True: print('endless')", "answered more than 65536 bytes"),
        ("os.kill(os.getpid(), 9)", "failed with exit code -9"),
    ],
)
async def test_a_helper_that_is_of_no_use_is_named_and_not_repeated(home: Home, body: str, why: str) -> None:
    home.helper("odd", body)
    path = home.write(".docker/config.json", {"credHelpers": {HOST: "odd"}})
    with pytest.raises(LocalFileError, match=f"docker-credential-odd {why}") as caught:
        await home.keychain().find(HOST, None)
    assert str(path) in caught.value.hint
    assert SECRET not in shown(caught.value)


async def test_a_helper_that_is_not_installed_is_named(home: Home) -> None:
    home.write(".docker/config.json", {"credsStore": "desktop"})
    with pytest.raises(LocalFileError, match="docker-credential-desktop is not installed"):
        await home.user()


async def test_a_helper_that_hangs_is_given_up(home: Home) -> None:
    home.helper("slow", "time.sleep(600)")
    with pytest.raises(LocalFileError, match=r"docker-credential-slow did not answer within 0\.01 s"):
        await ask_helper("slow", HOST, home.path, home.environment, seconds=0.01)


async def test_of_a_helper_that_is_given_up_nothing_is_left(home: Home) -> None:
    alive = home.path / "alive"
    os.mkfifo(alive)
    home.helper(
        "forking",
        f"""
        pipe = open({str(alive)!r}, "w")
        if os.fork():
            print("ready", file=pipe, flush=True)
        time.sleep(600)
        """,
    )
    asking = asyncio.create_task(ask_helper("forking", HOST, home.path, home.environment))
    pipe = await asyncio.to_thread(alive.open)
    assert await asyncio.to_thread(pipe.readline) == "ready\n"
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    # It ends when nobody has it open any more, parent or child.
    assert await asyncio.to_thread(pipe.read) == ""
    pipe.close()


async def test_a_helper_need_not_read_what_it_is_told(home: Home) -> None:
    path = home.helper("deaf", "")
    path.write_text(
        f"#!{sys.executable}\nimport os, json\nos.close(0)\n"
        'print(json.dumps({"Username": "deaf", "Secret": "x"}))'
    )
    home.write(".docker/config.json", {"credsStore": "deaf"})
    assert await home.user() == "deaf"
