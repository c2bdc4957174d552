from __future__ import annotations

import dataclasses
import io
import itertools
import json
from typing import TYPE_CHECKING

import pytest

from mock_registry import Journal, MemoryStorage, MockRegistry, Record, Route
from mock_registry.journal import Draft

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    from tests.mock_registry.conftest import OpenWith, Peer

pytestmark = pytest.mark.anyio


def record(number: int = 1, **fields: Any) -> Record:
    values: dict[str, Any] = {field.name: None for field in dataclasses.fields(Record)}
    values |= {"number": number, "method": "GET", "target": "/v2/", "route": Route.BASE}
    values |= {"bytes_in": 0, "bytes_out": 0, "complete": True, "started": 0.0, "ended": 1.0}
    return Record(**(values | fields))


def filled() -> Journal:
    journal = Journal()
    for fields in (
        {"method": "HEAD", "route": Route.BLOB, "repository": "a", "digest": "d", "status": 404},
        {"method": "POST", "route": Route.UPLOADS, "repository": "a", "session": "s", "status": 202},
        {"method": "PATCH", "route": Route.UPLOAD, "repository": "a", "session": "s", "bytes_in": 7},
        {
            "method": "PUT",
            "route": Route.UPLOAD,
            "repository": "a",
            "session": "s",
            "digest": "d",
            "status": 201,
        },
        {"method": "GET", "route": Route.BLOB, "repository": "a", "digest": "d", "bytes_out": 7},
        {"method": "POST", "route": Route.UPLOADS, "repository": "b", "digest": "d", "status": 201},
        {"method": "DELETE", "route": Route.UPLOAD, "repository": "b", "session": "t", "status": 204},
    ):
        journal.append(record(len(journal) + 1, **fields))
    return journal


def inside(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def numbers(records: Iterable[Record]) -> list[int]:
    return [each.number for each in records]


def test_a_record_can_neither_be_changed_nor_extended() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        record().status = 500  # type: ignore[misc]  # what mypy refuses is refused at run time too
    assert not hasattr(record(), "__dict__")


def test_a_draft_becomes_a_record_like_any_other() -> None:
    made = record(session="s", user="ci")
    draft = Draft()
    for field in dataclasses.fields(Record):
        setattr(draft, field.name, getattr(made, field.name))
    written = draft.finish()
    assert type(written) is Record
    assert (written, hash(written), repr(written)) == (made, hash(made), repr(made))
    with pytest.raises(dataclasses.FrozenInstanceError):
        written.status = 200  # type: ignore[misc]


async def test_the_record_of_a_request_has_every_field(peer: Peer) -> None:
    await peer.http.get("/v2/", params={"n": "1"})
    [written] = peer.journal
    assert dataclasses.replace(written) == written
    assert written == Record(**dataclasses.asdict(written))


def test_a_journal_is_a_sequence_of_its_records() -> None:
    journal = filled()
    assert len(journal) == 7
    assert numbers(journal) == [1, 2, 3, 4, 5, 6, 7]
    assert journal[0].number == 1
    assert journal[-1].number == 7
    assert numbers(journal[1:3]) == [2, 3]
    assert journal[2] in journal


def test_records_are_found_by_every_condition_together() -> None:
    journal = filled()
    assert numbers(journal.records(repository="b")) == [6, 7]
    assert numbers(journal.records(method="PUT")) == [4]
    assert numbers(journal.records(route=Route.BLOB)) == numbers(journal.records(route="blob")) == [1, 5]
    assert numbers(journal.records(digest="d", repository="a")) == [1, 4, 5]
    assert journal.records(repository="nosuch") == ()


def test_uploads_are_the_requests_that_upload_or_mount() -> None:
    journal = filled()
    assert numbers(journal.uploads()) == [2, 3, 4, 6]
    assert numbers(journal.uploads("a")) == [2, 3, 4]


def test_uploads_of_a_digest_are_those_of_the_sessions_committed_as_it() -> None:
    journal = filled()
    assert journal.session_digest("s") == "d"
    assert journal.session_digest("t") is journal.session_digest(None) is None
    assert numbers(journal.uploads("a", digest="d")) == [2, 3, 4]
    assert numbers(journal.uploads(digest="d")) == [2, 3, 4, 6]


def test_heads_and_sums_answer_for_conditions() -> None:
    journal = filled()
    assert numbers(journal.heads("a")) == numbers(journal.heads(route="blob", digest="d")) == [1]
    assert journal.bytes_in() == journal.bytes_in(repository="a", method="PATCH") == 7
    assert journal.bytes_out(repository="b") == 0
    assert journal.bytes_out(digest="d", route=Route.BLOB) == 7


def test_clear_forgets_records_and_sessions() -> None:
    journal = filled()
    journal.clear()
    assert (len(journal), journal.session_digest("s")) == (0, None)


def test_a_limit_keeps_the_newest_records_and_sessions() -> None:
    journal = Journal(limit=3)
    for number in range(1, 11):
        journal.append(record(number, session=f"s{number}", digest=f"d{number}", status=201))
    assert numbers(journal) == [8, 9, 10]
    assert [journal.session_digest(f"s{number}") for number in (7, 8, 10)] == [None, "d8", "d10"]


def test_a_dump_has_a_json_object_a_line_with_every_field() -> None:
    file = io.StringIO()
    filled().dump(file)
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    assert len(lines) == 7
    assert list(lines[0]) == [field.name for field in dataclasses.fields(Record)]
    assert (lines[0]["route"], lines[2]["bytes_in"]) == ("blob", 7)


async def test_a_registry_writes_down_every_request_once_in_order_of_completion(peer: Peer) -> None:
    content = await peer.push_image("app", "1", layers=[b"layer"])
    await peer.http.get("/v2/app/manifests/1")
    account = [(r.number, r.method, str(r.route), r.status, r.bytes_in, r.bytes_out) for r in peer.journal]
    assert account == [
        (1, "POST", "uploads", 202, 0, 0),
        (2, "PUT", "upload", 201, 2, 0),
        (3, "POST", "uploads", 202, 0, 0),
        (4, "PUT", "upload", 201, 5, 0),
        (5, "PUT", "manifest", 201, len(content), 0),
        (6, "GET", "manifest", 200, 0, len(content)),
    ]
    assert all(r.complete and r.fault is None and r.repository == "app" for r in peer.journal)
    assert peer.journal[1].session == peer.journal[0].session


async def test_times_are_those_of_the_clock_that_was_given(with_settings: OpenWith) -> None:
    ticks = itertools.count(100.0)
    async with with_settings(clock=lambda: next(ticks)) as peer:
        await peer.http.get("/v2/")
        await peer.http.get("/v2/")
        assert [(r.started, r.ended) for r in peer.journal] == [(100.0, 101.0), (102.0, 103.0)]


async def test_a_journal_that_was_given_is_used(with_settings: OpenWith) -> None:
    journal = Journal(limit=1)
    async with with_settings(journal=journal) as peer:
        await peer.http.get("/v2/")
        await peer.http.get("/v2/")
    assert numbers(journal) == [2]


async def test_a_fault_of_the_registry_itself_is_500_and_it_lives_on(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mock_registry.state.Repository.resolve", None)
    await peer.push("app", b"x")
    answer = await peer.http.get("/v2/app/manifests/1")
    assert (answer.status_code, peer.codes(answer)) == (500, ["UNKNOWN"])
    assert peer.journal[-1].status == 500
    assert "TypeError" in caplog.text
    assert (await peer.http.get("/v2/")).status_code == 200


async def test_a_blob_whose_file_is_gone_is_absent_until_it_is_pushed_again(peer: Peer) -> None:
    content = bytes(1_000_000)
    digest = await peer.push("app", content)
    [file] = peer.files()
    file.unlink()
    answer = await peer.http.get(f"/v2/app/blobs/{digest}")
    assert (answer.status_code, peer.codes(answer)) == (404, ["BLOB_UNKNOWN"])
    await peer.push("app", content)
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == content


async def test_leaving_the_last_context_removes_the_spool_directory(tmp_path: Path) -> None:
    registry = MockRegistry(storage=MemoryStorage(directory=tmp_path))
    async with registry:
        async with registry.serve():
            assert inside(tmp_path) == []  # made only when needed
            assert isinstance(registry.storage, MemoryStorage)
            registry.storage.spool_path("x").touch()
        assert len(inside(tmp_path)) == 1
    assert inside(tmp_path) == []


def test_a_registry_that_nobody_closed_removes_its_spool_directory_when_it_is_collected(
    tmp_path: Path,
) -> None:
    registry = MockRegistry(storage=MemoryStorage(directory=tmp_path))
    assert isinstance(registry.storage, MemoryStorage)
    registry.storage.spool_path("x").touch()
    del registry
    assert inside(tmp_path) == []


async def test_a_question_about_a_route_that_does_not_exist_is_an_error(peer: Peer) -> None:
    await peer.push("app", b"content")
    assert peer.journal.bytes_in(route="uploads") + peer.journal.bytes_in(route="upload") == 7
    for ask in (peer.journal.bytes_in, peer.journal.bytes_out, peer.journal.records, peer.journal.heads):
        with pytest.raises(ValueError, match=r"no route 'uploda', did you mean 'upload'\?"):
            ask(route="uploda")


def test_a_question_with_an_unknown_condition_is_an_error() -> None:
    conditions: Any = {"repo": "app"}
    with pytest.raises(TypeError, match="no condition 'repo'"):
        Journal().bytes_in(**conditions)
