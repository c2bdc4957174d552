"""Auth in words: the options of `python -m mock_registry`, and what a scenario or a marker says."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from mock_registry.__main__ import main
from mock_registry.access import Action
from mock_registry.auth import BasicAuth, TokenAuth
from mock_registry.auth.options import auth_from_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-W", "error", "-m", "mock_registry", "--port", "0"]


@contextmanager
def serving(*options: str, lines: int = 1) -> Iterator[tuple[list[str], subprocess.Popen[str]]]:
    """Run the command, and yield the lines that it prints at first."""
    with subprocess.Popen(
        [*COMMAND, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield [process.stdout.readline().rstrip("\n") for _ in range(lines)], process
        finally:
            process.terminate()


@pytest.fixture
def complaint(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function for the last line that the command says when it does not start."""

    def last_line(*options: str, exit_code: int = 2) -> str:
        try:
            code: object = main(["--port", "0", *options])
        except SystemExit as error:
            code = error.code
        told = capsys.readouterr()
        assert (code, told.out) == (exit_code, "")
        return told.err.splitlines()[-1]

    return last_line


def test_words_make_the_modes() -> None:
    assert auth_from_words("none") is None
    assert isinstance(auth_from_words("basic", users=["ci:a:b"]), BasicAuth)
    assert isinstance(auth_from_words("token", users=["ci:"]), TokenAuth)


def test_rights_in_words_are_who_what_and_which_actions() -> None:
    words = ["ci=shop/**:pull,push", "*=shared:pull", "=public/*:pull", "boss=**"]
    auth = auth_from_words("basic", users=["ci:x"], rights=words)
    assert auth is not None
    told = {
        (user, name): "".join(action[1] for action in Action if auth.granted.allow(user, action, name))
        for user in ("ci", "boss", None)
        for name in ("shop/a/b", "shared", "public/x")
    }
    assert told == {
        ("ci", "shop/a/b"): "uu",
        ("ci", "shared"): "u",
        ("ci", "public/x"): "u",
        ("boss", "shop/a/b"): "uue",
        ("boss", "shared"): "uue",
        ("boss", "public/x"): "uue",
        (None, "shop/a/b"): "",
        (None, "shared"): "",
        (None, "public/x"): "u",
    }


@pytest.mark.parametrize(
    ("mode", "words", "reason"),
    [
        ("kerberos", {}, "auth is one of none, basic, token, not 'kerberos'"),
        ("none", {"users": ["a:b"]}, "mean nothing without auth"),
        ("none", {"anonymous_pull": True}, "mean nothing without auth"),
        ("basic", {}, "no user can log in"),
        ("token", {"users": ["s3cret"]}, "a user is NAME:PASSWORD"),
        ("token", {"users": [":s3cret"]}, "not a name"),
        ("basic", {"users": ["a:b"], "htpasswd": "x"}, "not both"),
        ("basic", {"users": ["a:b"], "rights": ["ci"]}, "WHO=REPOSITORIES:ACTIONS"),
        ("basic", {"users": ["a:b"], "rights": ["ci=:pull"]}, "WHO=REPOSITORIES:ACTIONS"),
        ("basic", {"users": ["a:b"], "rights": ["ci=a:write"]}, "actions are"),
    ],
)
def test_words_that_make_no_sense_are_an_error_that_repeats_no_password(
    mode: str, words: dict[str, list[str]], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        auth_from_words(mode, **words)  # type: ignore[arg-type]  # the table holds every kind of word
    assert "s3cret" not in str(caught.value)


def test_the_command_serves_with_auth_and_its_log_has_the_user_and_no_password() -> None:
    options = ["--auth", "token", "--user", "ci:s3cret", "--right", "ci=app:pull,push", "--log", "json"]
    with serving(*options) as ([url], process):
        assert httpx.get(f"{url}/v2/", trust_env=False).status_code == 401
        form = {"grant_type": "password", "username": "ci", "password": "s3cret", "scope": "repository:app:*"}
        answer = httpx.post(f"{url}/token", data=form, trust_env=False)
        assert answer.json()["scope"] == "repository:app:pull,push"
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert '"user": "ci"' in log
    assert "s3cret" not in log
    assert answer.json()["token"] not in log


def test_the_command_serves_basic_with_anonymous_pull_and_read_only() -> None:
    options = ["--auth", "basic", "--user", "ci:s3cret", "--anonymous-pull", "--read-only", "--log", "none"]
    with serving(*options) as ([url], _), httpx.Client(base_url=url, trust_env=False) as http:
        assert http.get("/v2/", auth=("ci", "s3cret")).status_code == 200
        assert http.get("/v2/app/tags/list").status_code == 404
        assert http.post("/v2/app/blobs/uploads/", auth=("ci", "s3cret")).status_code == 405


def test_the_command_serves_over_tls_and_says_by_which_file_to_check_it() -> None:
    with serving("--tls", "self-signed", "--log", "none", lines=2) as ([url, ca], _):
        assert re.fullmatch(r"https://127\.0\.0\.1:\d+", url)
        run = subprocess.run(
            ["curl", "--silent", "--fail", "--noproxy", "*", "--cacert", ca, f"{url}/v2/"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (run.returncode, run.stdout) == (0, "{}")


def test_the_command_says_what_is_wrong_with_its_options(
    complaint: Callable[..., str], tmp_path: Path
) -> None:
    assert "no user can log in" in complaint("--auth", "basic")
    assert "invalid choice: 'kerberos'" in complaint("--auth", "kerberos")
    missing = tmp_path / "missing"
    assert str(missing) in complaint("--auth", "basic", "--htpasswd", str(missing))
    assert "neither self-signed nor CERT,KEY: 'x'" in complaint("--tls", "x")
    assert f"{missing}: No such file" in complaint("--tls", f"{missing},{missing}", exit_code=6)
    missing.write_text("nonsense")
    assert "no certificate with its key" in complaint("--tls", f"{missing},{missing}", exit_code=6)
