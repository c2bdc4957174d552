"""What happens to files behind a registry's back: refused when it is read, and healed by the next push."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import DirectoryStorage
from mock_registry.maintenance import compact
from mock_registry.spec import Algorithm
from mock_registry.storage import files
from mock_registry.storage.protocol import BlobRemoved

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mock_registry.conftest import OpenPeer, Peer

pytestmark = pytest.mark.anyio

SMALL = b"a small blob that is kept in memory for a while"
LARGE = bytes(range(256)) * 10_000


def file_of(path: Path, digest: str) -> Path:
    return path / "blobs" / digest.replace(":", "/")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def lengthen(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"x")


def flip(file: Path) -> None:
    """Change one octet in place, within the same tick of the clock as the push."""
    with file.open("r+b") as opened:
        opened.seek(10)
        opened.write(b"?")


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(bytes(file.stat().st_size))
    other.rename(file)


def remove(file: Path) -> None:
    file.unlink()


def link(file: Path) -> None:
    """Leave a link to the very content: where it leads may change."""
    file.rename(file.parents[3] / "elsewhere")
    file.symlink_to(file.parents[3] / "elsewhere")


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGES = [empty, cut, lengthen, flip, replace, remove, link, pipe]


async def require_refused(peer: Peer, digest: str) -> None:
    for method in ("GET", "HEAD"):
        answer = await peer.http.request(method, f"/v2/app/blobs/{digest}", headers={"Range": "bytes=0-3"})
        assert answer.status_code == 404
        assert "docker-content-digest" not in answer.headers
        assert method == "HEAD" or peer.codes(answer) == ["BLOB_UNKNOWN"]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_refused_and_healed_by_a_new_push(
    open_peer: OpenPeer, path: Path, damage: Callable[[Path], None], content: bytes
) -> None:
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", content)
        damage(file_of(path, digest))
        await require_refused(peer, digest)
        await peer.push("app", content)
        answer = await peer.http.get(f"/v2/app/blobs/{digest}")
        assert (answer.status_code, answer.content) == (200, content)
        damage(file_of(path, digest))  # also what was served before
        await require_refused(peer, digest)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_done_while_no_registry_runs_is_refused_too(
    open_peer: OpenPeer, path: Path, damage: Callable[[Path], None]
) -> None:
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", LARGE)
    damage(file_of(path, digest))
    async with open_peer("process", directory=path) as peer:
        await require_refused(peer, digest)
        await peer.push("app", LARGE)
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == LARGE


async def test_a_damaged_blob_is_not_mounted_but_can_be_deleted(open_peer: OpenPeer, path: Path) -> None:
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", LARGE)
        flip(file_of(path, digest))
        params = {"mount": digest, "from": "app"}
        assert (await peer.http.post("/v2/other/blobs/uploads/", params=params)).status_code == 202
        assert (await peer.http.delete(f"/v2/app/blobs/{digest}")).status_code == 202
        assert not file_of(path, digest).exists()


class Readings:
    """Counts how often files are read to know what is in them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._read = hashlib.file_digest
        monkeypatch.setattr(hashlib, "file_digest", self)

    def __call__(self, *arguments: Any) -> Any:
        self.count += 1
        return self._read(*arguments)


async def test_a_file_that_was_only_touched_is_read_once_and_served(
    open_peer: OpenPeer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Readings(monkeypatch)
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", LARGE)
        for _ in range(3):
            assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == LARGE
        assert readings.count == 0
        os.utime(file_of(path, digest))
        for _ in range(3):
            assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == LARGE
        assert readings.count == 1
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == LARGE
        assert readings.count == 1


async def test_damage_is_looked_for_once(
    open_peer: OpenPeer, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    readings = Readings(monkeypatch)
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", LARGE)
        flip(file_of(path, digest))
        for _ in range(3):
            await require_refused(peer, digest)
    assert readings.count == 1
    assert f"{digest} is damaged" in caplog.text


async def test_many_who_ask_for_a_file_in_doubt_share_its_reading(
    open_peer: OpenPeer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Readings(monkeypatch)
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", LARGE)
        os.utime(file_of(path, digest))
        answers = await asyncio.gather(*[peer.http.get(f"/v2/app/blobs/{digest}") for _ in range(10)])
        assert all(answer.content == LARGE for answer in answers)
    assert readings.count == 1


async def test_a_copied_directory_is_read_once_and_served(
    open_peer: OpenPeer, path: Path, tmp_path: Path
) -> None:
    async with open_peer("process", directory=path) as peer:
        image = await peer.push_image("app", "v1", SMALL, [LARGE])
    shutil.copytree(path, tmp_path / "copy", copy_function=shutil.copyfile)
    async with open_peer("process", directory=tmp_path / "copy") as peer:
        assert (await peer.http.get("/v2/app/manifests/v1")).content == image
        for content in (SMALL, LARGE):
            answer = await peer.http.get(f"/v2/app/blobs/{peer.digest(content)}")
            assert answer.content == content


async def test_after_the_machine_was_started_again_each_file_is_read_once(
    open_peer: OpenPeer, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was never flushed may be lost with the power, though its file has the right times and size."""
    readings = Readings(monkeypatch)
    async with open_peer("process", directory=path) as peer:
        kept, lost = await peer.push("app", LARGE), await peer.push("app", LARGE[::-1])
    times = file_of(path, lost).stat()
    file_of(path, lost).write_bytes(bytes(len(LARGE)))
    os.utime(file_of(path, lost), ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "boot_id").write_text("another boot")
    monkeypatch.setattr(files, "BOOT_ID", tmp_path / "boot_id")
    for _ in range(2):
        async with open_peer("process", directory=path) as peer:
            assert (await peer.http.get(f"/v2/app/blobs/{kept}")).content == LARGE
            await require_refused(peer, lost)
    assert readings.count == 3  # the damaged one cannot be marked, and is read at each start


async def test_on_a_file_system_that_keeps_no_exact_times_nothing_is_read_twice(
    open_peer: OpenPeer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = Readings(monkeypatch)
    monkeypatch.setattr(files.Library, "times", lambda *_: (10**18, 10**18))
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", LARGE)
        for _ in range(3):
            assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == LARGE
        assert readings.count == 0
        flip(file_of(path, digest))
        await require_refused(peer, digest)


async def test_a_file_changed_between_finding_and_opening_is_an_error(path: Path) -> None:
    storage = DirectoryStorage(path)
    upload = await storage.open_upload("session", Algorithm.SHA256)
    await upload.append([LARGE])
    digest = await upload.digest(Algorithm.SHA256)
    blob = await upload.commit(digest)
    assert await blob.is_intact()
    flip(file_of(path, digest))
    with pytest.raises(OSError, match="changed by another program"):
        blob.open()
    storage.remove(digest)
    with pytest.raises(BlobRemoved):
        blob.open()
    await storage.aclose()


async def test_an_upload_whose_file_was_changed_is_not_committed(open_peer: OpenPeer, path: Path) -> None:
    async with open_peer("process", directory=path) as peer:
        location = (await peer.http.patch(await peer.open("app"), content=LARGE)).headers["location"]
        [file] = (path / "uploads").iterdir()
        cut(file)
        answer = await peer.http.put(location, params=peer.also(location, digest=peer.digest(LARGE)))
        assert (answer.status_code, peer.codes(answer)) == (500, ["UNKNOWN"])
        assert (await peer.http.get(f"/v2/app/blobs/{peer.digest(LARGE)}")).status_code == 404
        assert peer.files() == []
        await peer.push("app", LARGE)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_manifest_is_absent_at_the_next_start_and_healed_by_a_new_push(
    open_peer: OpenPeer, path: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_peer("process", directory=path) as peer:
        image = await peer.push_image("app", "v1", layers=[LARGE])
        other = await peer.push_image("app", "v2")
        damage(file_of(path, peer.digest(image)))
        assert (await peer.http.get("/v2/app/manifests/v1")).content == image  # from memory, octet for octet
    for _ in range(2):
        async with open_peer("process", directory=path) as peer:
            monkeypatch.setattr("mock_registry.storage.directory._WASTE", -100)
            compact(peer.registry.state)  # which must not forget it
            assert (await peer.registry.collect(grace=0)).links == ()  # nor may what it needs be freed
            for reference in ("v1", peer.digest(image)):
                answer = await peer.http.get(f"/v2/app/manifests/{reference}")
                assert (answer.status_code, peer.codes(answer)) == (404, ["MANIFEST_UNKNOWN"])
            assert (await peer.http.get("/v2/app/manifests/v2")).content == other
    async with open_peer("process", directory=path) as peer:
        assert (await peer.put("app", peer.digest(image), image)).status_code == 201
        assert (await peer.http.get("/v2/app/manifests/v1")).content == image  # the tag was on it all along
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get("/v2/app/manifests/v1")).content == image


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_session_whose_file_was_removed_is_over(
    open_peer: OpenPeer, path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_peer("process", storage=DirectoryStorage(path)) as peer:
        location = (await peer.http.patch(await peer.open("app"), content=LARGE)).headers["location"]
        [file] = (path / "uploads").iterdir()
        file.unlink()
        parameters = peer.also(location, digest=peer.digest(LARGE + SMALL))
        answer = await peer.http.request(method, location, params=parameters, content=SMALL)
        assert (answer.status_code, peer.codes(answer)) == (404, ["BLOB_UPLOAD_UNKNOWN"])
        assert (await peer.http.get(location)).status_code == 404
        await peer.push("app", LARGE)
    assert not caplog.records
