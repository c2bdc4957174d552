from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

import mock_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``python -m mock_registry`` on a free port, and see to its end."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "mock_registry", "--port", "0", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process, (process.stdout or sys.stdin).readline().strip()

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_its_address_serves_and_stops_when_told(start: Start, number: int) -> None:
    process, url = start("--log", "json")
    assert url.startswith("http://127.0.0.1:")
    assert httpx.get(f"{url}/v2/", trust_env=False).status_code == 200
    process.send_signal(number)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    [record] = [json.loads(line) for line in log.splitlines()]
    assert (record["method"], record["target"], record["status"], record["complete"]) == (
        "GET",
        "/v2/",
        200,
        True,
    )


def test_the_command_logs_lines_for_people(start: Start) -> None:
    process, url = start()
    httpx.get(f"{url}/v2/nosuch/tags/list", trust_env=False)
    process.terminate()
    _, log = process.communicate(timeout=20)
    assert log.startswith("404 GET /v2/nosuch/tags/list in=0 out=")


def test_a_port_that_is_taken_is_one_clear_error(start: Start) -> None:
    _, url = start()
    command = [sys.executable, "-m", "mock_registry", "--port", url.rpartition(":")[2]]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (second.returncode, second.stdout) == (4, "")
    assert second.stderr.startswith("Error: cannot listen on 127.0.0.1:")
    assert "hint: " in second.stderr


def test_importing_the_registry_loads_no_client_and_no_server() -> None:
    code = "import sys, mock_registry; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"httpx", "httptools", "uvicorn", "regsim", "click", "pytest"}.isdisjoint(loaded)


def test_every_public_name_is_exported_and_sorted() -> None:
    assert mock_registry.__all__ == sorted(mock_registry.__all__)
    assert all(hasattr(mock_registry, name) for name in mock_registry.__all__)
