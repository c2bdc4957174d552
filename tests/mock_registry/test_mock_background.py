"""A registry that is served from a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import httpx
import pytest

from mock_registry import Journal, MockRegistry, RegistryServer
from mock_registry.faults import Stall

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture
def http(server: RegistryServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        yield http


def serving() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mock-registry"]


def test_the_journal_is_complete_when_a_client_has_broken_off(
    server: RegistryServer, http: httpx.Client
) -> None:
    location = http.post("/v2/app/blobs/uploads/").headers["location"]
    host, port = server.netloc.split(":")
    with socket.create_connection((host, int(port))) as wire:
        head = f"PATCH {location} HTTP/1.1\r\nHost: {server.netloc}\r\nContent-Length: 100\r\n\r\n"
        wire.sendall(head.encode() + b"x" * 40)
    assert [(record.bytes_in, record.complete) for record in server.journal] == [(0, True), (40, False)]


def test_a_journal_that_would_never_be_complete_is_refused_and_is_there_as_it_stands(
    server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.registry.faults.add(Stall(), route="catalog")
    host, port = server.netloc.split(":")
    with socket.create_connection((host, int(port))) as wire:
        wire.sendall(f"GET /v2/_catalog HTTP/1.1\r\nHost: {server.netloc}\r\n\r\n".encode())
        while not server.call(lambda: server.registry.faults["stall"].seen):
            pass
        monkeypatch.setattr("mock_registry.background._PATIENCE", 0.01)
        with pytest.raises(TimeoutError, match="end it first, or read"):
            _ = server.journal
        assert len(server.registry.journal) == 0


def test_a_rule_that_holds_a_request_is_told_to_let_go(server: RegistryServer, http: httpx.Client) -> None:
    rule = server.registry.faults.add(Stall(), route="base")
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(http.get("/v2/").status_code))
    client.start()
    while not server.call(lambda: rule.seen):
        pass
    server.call(rule.remove)
    client.join()
    assert answers == [200]
    assert [record.fault for record in server.journal] == ["stall"]


def test_functions_and_coroutine_functions_are_called_in_the_loop_of_the_registry(
    server: RegistryServer,
) -> None:
    async def where(word: str, *, other: str) -> tuple[str, str, str]:
        await asyncio.sleep(0)
        return word, other, threading.current_thread().name

    def fail() -> None:
        raise ZeroDivisionError

    assert server.call(where, "a", other="b") == ("a", "b", "mock-registry")
    assert server.call(lambda: threading.current_thread().name) == "mock-registry"
    assert server.call(server.registry.collect, grace=0.0).octets == 0
    with pytest.raises(ZeroDivisionError):
        server.call(fail)


def test_a_server_that_has_stopped_says_so_and_keeps_its_journal() -> None:
    with RegistryServer(MockRegistry(delete=False)) as server:
        assert httpx.get(f"{server.url}/v2/", trust_env=False).status_code == 200
    assert serving() == []
    assert server.url.startswith("http://127.0.0.1:")
    assert len(server.journal) == 1
    with pytest.raises(RuntimeError, match="is not being served"):
        server.call(lambda: None)
    server.stop()
    with pytest.raises(RuntimeError, match="started once"):
        server.start()


def test_a_server_that_was_not_started_says_so() -> None:
    server = RegistryServer()
    with pytest.raises(RuntimeError, match="has not been served yet"):
        _ = server.url
    with pytest.raises(RuntimeError, match="is not being served"):
        server.call(lambda: None)
    assert len(server.journal) == 0
    server.stop()


def test_a_port_that_is_taken_is_an_error_where_it_was_asked_for() -> None:
    with RegistryServer() as first:
        second = RegistryServer(port=int(first.netloc.rpartition(":")[2]))
        with pytest.raises(OSError, match="in use"):
            second.start()
        second.stop()
        assert len(serving()) == 1


def test_an_error_at_the_end_is_raised_where_it_was_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise OSError(28, "no room for the index")

    registry = MockRegistry()
    server = RegistryServer(registry)
    server.start()
    monkeypatch.setattr(registry.storage, "aclose", fail)
    with pytest.raises(OSError, match="no room for the index"):
        server.stop()
    assert serving() == []


def test_questions_of_a_journal_hold_while_requests_are_recorded() -> None:
    journal = Journal()

    class Recording:
        """Is asked whether it equals each record's route, and records another one meanwhile."""

        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            journal.append(journal[0])
            return True

    with RegistryServer(MockRegistry(journal=journal)) as server:
        httpx.get(f"{server.url}/v2/", trust_env=False)
        httpx.get(f"{server.url}/v2/", trust_env=False)
        assert len(server.journal) == 2
    assert len(journal.records(repository=Recording())) == 2  # type: ignore[arg-type]
    assert len(journal) == 4
