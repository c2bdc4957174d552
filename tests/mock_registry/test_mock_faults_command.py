"""``python -m mock_registry`` with faults and under a profile."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.long

COMMAND = [sys.executable, "-m", "mock_registry"]


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[str, list[str]]]:
    """Serve on a free port; yield the address, and a list that holds the log when it is over."""
    log: list[str] = []
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), log
        process.terminate()
        _, text = process.communicate(timeout=20)
        log += text.splitlines()


def test_the_command_misbehaves_as_told_and_logs_what_it_did() -> None:
    faults = ("--fault", "base nth=2 status 503", "--fault", "base nth=3 cut")
    with serving(*faults) as (url, log), httpx.Client(base_url=url, trust_env=False) as http:
        assert [http.get("/v2/").status_code for _ in range(2)] == [200, 503]
        with pytest.raises(httpx.RemoteProtocolError):
            http.get("/v2/")
        assert http.get("/v2/").status_code == 200
    assert [line.split()[0] for line in log] == ["200", "503", "---", "200"]
    assert ["fault=" in line for line in log] == [False, True, True, False]
    assert log[1].endswith("fault=status")
    assert log[2].endswith("incomplete fault=cut")


def test_the_command_takes_chance_from_a_seed() -> None:
    def answers(seed: str) -> list[int]:
        fault = ("--fault", "toxicity=0.5 status 503", "--seed", seed)
        with serving(*fault) as (url, _), httpx.Client(base_url=url, trust_env=False) as http:
            return [http.get("/v2/").status_code for _ in range(40)]

    first = answers("7")
    assert first == answers("7") != answers("8")
    assert set(first) == {200, 503}


def test_the_command_serves_under_a_profile() -> None:
    with serving("--profile", "distribution-2.8") as (url, _):
        assert httpx.get(f"{url}/v2", trust_env=False).status_code == 301


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["--fault", "PATCH uplod reset"],
            "'uplod' is not a method, route or effect, did you mean 'upload'?",
        ),
        (["--fault", "reset aftr=1"], "reset has no attribute 'aftr', did you mean 'after'?"),
        (["--profile", "registry"], "invalid choice: 'registry'"),
    ],
)
def test_the_command_refuses_what_it_does_not_understand(arguments: list[str], complaint: str) -> None:
    run = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert run.returncode == 2
    assert complaint in run.stderr
