"""A registry on a directory goes on where the one before it stopped."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from mock_registry import DirectoryStorage, MockRegistry
from mock_registry.maintenance import compact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.mock_registry.conftest import OpenPeer, OpenWirePeer, Peer

pytestmark = pytest.mark.anyio

SMALL = b"a small blob"
LARGE = bytes(range(256)) * 10_000


async def tags(peer: Peer, name: str) -> list[str]:
    return list((await peer.http.get(f"/v2/{name}/tags/list")).json()["tags"])


async def test_content_is_there_again_octet_for_octet(open_peer: OpenPeer, path: Path) -> None:
    async with open_peer("process", directory=path) as peer:
        digests = [await peer.push("a/b/c", each) for each in (b"", SMALL, LARGE)]
        digests.append(await peer.push("a/b/c", LARGE, "sha512"))
        manifest = await peer.push_image("app", "v1", SMALL, [LARGE])
        odd = b" " + manifest + b"\n"
        await peer.put("app", "v2", odd)
        await peer.put("app", "list", peer.index(manifest, odd), peer.OCI_INDEX)
    async with open_peer("process", directory=path) as peer:
        for digest, content in zip(digests, (b"", SMALL, LARGE, LARGE), strict=True):
            answer = await peer.http.get(f"/v2/a/b/c/blobs/{digest}")
            assert (answer.content, answer.headers["docker-content-digest"]) == (content, digest)
        for tag, content, media_type in (
            ("v1", manifest, peer.OCI_MANIFEST),
            ("v2", odd, peer.OCI_MANIFEST),
            ("list", peer.index(manifest, odd), peer.OCI_INDEX),
        ):
            answer = await peer.http.get(f"/v2/app/manifests/{tag}")
            assert (answer.content, answer.headers["content-type"]) == (content, media_type)
            assert answer.headers["docker-content-digest"] == peer.digest(content)
        assert await tags(peer, "app") == ["list", "v1", "v2"]
        assert peer.registry.repositories == ("a/b/c", "app")


async def test_sha512_manifests_are_there_again(open_peer: OpenPeer, path: Path) -> None:
    async with open_peer("process", directory=path) as peer:
        await peer.push("app", b"{}")
        digest = peer.digest(peer.image(), "sha512")
        assert (await peer.put("app", digest, peer.image())).status_code == 201
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get(f"/v2/app/manifests/{digest}")).content == peer.image()


async def test_mounts_and_deletes_are_remembered(open_peer: OpenPeer, path: Path) -> None:
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("base", LARGE)
        mount = {"mount": digest, "from": "base"}
        assert (await peer.http.post("/v2/app/blobs/uploads/", params=mount)).status_code == 201
        assert (await peer.http.delete(f"/v2/base/blobs/{digest}")).status_code == 202
        first = await peer.push_image("app", "v1")
        second = await peer.push_image("app", "v2", layers=[LARGE])
        await peer.put("app", "v3", first)
        await peer.http.delete("/v2/app/manifests/v3")
        await peer.http.delete(f"/v2/app/manifests/{peer.digest(second)}")
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get(f"/v2/base/blobs/{digest}")).status_code == 404
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == LARGE
        assert (await peer.http.get(f"/v2/app/manifests/{peer.digest(second)}")).status_code == 404
        assert await tags(peer, "app") == ["v1"]
        assert peer.registry.repositories == ("app", "base")  # base held content once
        assert (await peer.http.delete(f"/v2/app/blobs/{digest}")).status_code == 202
        assert len(peer.files()) == 2


async def test_a_manifest_that_is_pushed_as_a_blob_too_is_kept_for_whoever_is_left(
    open_peer: OpenPeer, path: Path
) -> None:
    async with open_peer("process", directory=path) as peer:
        image = await peer.push_image("app", "v1")
        digest = await peer.push("other", image)
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).status_code == 404
        assert (await peer.http.delete(f"/v2/other/blobs/{digest}")).status_code == 202
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get("/v2/app/manifests/v1")).content == image
        await peer.push("other", image)
        assert (await peer.http.delete(f"/v2/app/manifests/{digest}")).status_code == 202
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get(f"/v2/other/blobs/{digest}")).content == image
        assert (await peer.http.get("/v2/app/manifests/v1")).status_code == 404


async def test_referrers_are_listed_again_in_the_order_of_arrival(open_peer: OpenPeer, path: Path) -> None:
    async with open_peer("process", directory=path) as peer:
        subject = await peer.push_image("app", "v1")
        about = peer.descriptor(subject, peer.OCI_MANIFEST)
        for number in range(5):
            image = peer.image(subject=about, annotations={"n": str(number)}, artifactType="application/x")
            await peer.put("app", peer.digest(image), image)
        url = f"/v2/app/referrers/{peer.digest(subject)}"
        before = (await peer.http.get(url)).content
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get(url)).content == before
        assert [each["annotations"]["n"] for each in json.loads(before)["manifests"]] == list("01234")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("size", [1, 1_000_000])
async def test_a_session_is_resumed_at_the_exact_byte(
    open_peer: OpenPeer, path: Path, algorithm: str, size: int
) -> None:
    async with open_peer("process", directory=path) as peer:
        location = await peer.open("app")
        answer = await peer.http.patch(location, content=LARGE[:size])
        assert answer.headers["range"] == f"0-{size - 1}"
    async with open_peer("process", directory=path) as peer:
        answer = await peer.http.get(location)
        assert (answer.status_code, answer.headers["range"]) == (204, f"0-{size - 1}")
        chunk = {"Content-Range": f"{size}-{size + 9}"}
        location = answer.headers["location"]
        answer = await peer.http.patch(location, content=LARGE[size : size + 10], headers=chunk)
        assert answer.headers["range"] == f"0-{size + 9}"
        digest = peer.digest(LARGE, algorithm)
        params = peer.also(answer.headers["location"], digest=digest)
        answer = await peer.http.put(location, params=params, content=LARGE[size + 10 :])
        assert answer.status_code == 201
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == LARGE


async def test_a_session_without_octets_is_there_again(open_peer: OpenPeer, path: Path) -> None:
    async with open_peer("process", directory=path) as peer:
        location = await peer.open("app", **{"digest-algorithm": "sha512"})
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get(location.replace("/app/", "/other/"))).status_code == 404
        params = peer.also(location, digest=peer.digest(SMALL, "sha512"))
        assert (await peer.http.put(location, params=params, content=SMALL)).status_code == 201


async def test_what_arrived_of_a_broken_chunk_is_there_again(
    open_wire_peer: OpenWirePeer, open_peer: OpenPeer, path: Path
) -> None:
    async with open_wire_peer(directory=path) as peer:
        session, wire = await peer.session(), await peer.connect()
        await wire.send(b"PATCH %b HTTP/1.1\r\nHost: r\r\nContent-Length: 2560000\r\n\r\n" % session)
        await wire.send(LARGE[:1_234_567])
        wire.writer.close()
        await peer.until(lambda: len(peer.journal) == 2)
    async with open_peer("process", directory=path) as again:
        location = session.decode()
        assert (await again.http.get(location)).headers["range"] == "0-1234566"
        params = {"digest": again.digest(LARGE)}
        location = location.partition("?")[0]
        answer = await again.http.put(location, params=params, content=LARGE[1_234_567:])
        assert answer.status_code == 201


@pytest.mark.parametrize("end", ["cancelled", "committed"])
async def test_a_session_that_is_over_stays_over(open_peer: OpenPeer, path: Path, end: str) -> None:
    async with open_peer("process", directory=path) as peer:
        location = (await peer.http.patch(await peer.open("app"), content=SMALL)).headers["location"]
        if end == "cancelled":
            await peer.http.delete(location)
        else:
            await peer.http.put(location, params=peer.also(location, digest=peer.digest(SMALL)))
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get(location)).status_code == 404
        assert peer.registry.state.sessions == {}


async def test_a_registry_entered_again_sees_what_another_one_did_meanwhile(
    open_peer: OpenPeer, path: Path
) -> None:
    registry = MockRegistry(directory=path)
    async with registry:
        pass
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", SMALL)
    async with registry.serve():
        assert registry.state.blob("app", digest) is not None
    async with registry:
        assert registry.repositories == ("app",)


async def test_a_storage_that_is_closed_says_so(path: Path) -> None:
    storage = DirectoryStorage(path)
    await storage.aclose()
    await storage.aclose()
    with pytest.raises(RuntimeError, match="is closed"):
        storage.find("sha256:" + "0" * 64)


async def test_changes_of_the_past_are_not_kept_for_ever(
    open_peer: OpenPeer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mock_registry.storage.directory._WASTE", 0)
    async with open_peer("process", directory=path) as peer:
        first, second = await peer.push_image("app", "v0"), await peer.push_image("app", "v1", layers=[SMALL])
        location = (await peer.http.patch(await peer.open("app"), content=SMALL)).headers["location"]
        for number in range(40):
            await peer.put("app", f"v{number % 3}", (first, second)[number % 2])
        long = (path / "changes.log").stat().st_size
        expected = {
            tag: (await peer.http.get(f"/v2/app/manifests/{tag}")).content for tag in ("v0", "v1", "v2")
        }
        compact(peer.registry.state)
        assert (path / "changes.log").stat().st_size < long / 3
        await peer.put("app", "v2", second)
        expected["v2"] = second
        await peer.push("other", SMALL)
    for _ in range(2):
        async with open_peer("process", directory=path) as peer:
            for tag, content in expected.items():
                assert (await peer.http.get(f"/v2/app/manifests/{tag}")).content == content
            assert (await peer.http.get(location)).headers["range"] == f"0-{len(SMALL) - 1}"
            assert peer.registry.repositories == ("app", "other")
            for number in range(20):
                await peer.put("app", f"v{number % 2}", first)
            expected |= {"v0": first, "v1": first}


async def test_the_directory_is_a_layout_that_other_programs_can_read(
    open_peer: OpenPeer, path: Path
) -> None:
    async with open_peer("process", directory=path) as peer:
        image = await peer.push_image("shop/api", "v1", SMALL, [LARGE])
        await peer.put("shop/api", "v2", image)
    assert json.loads((path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((path / "index.json").read_bytes())
    named = {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"]
        for entry in index["manifests"]
    }
    assert list(named) == ["shop/api:v1", "shop/api:v2"]
    for digest in named.values():
        assert (path / "blobs" / digest.replace(":", "/")).read_bytes() == image
    layer = json.loads(image)["layers"][0]["digest"]
    assert (path / "blobs" / layer.replace(":", "/")).read_bytes() == LARGE


async def test_the_directory_is_a_layout_also_while_it_is_in_use(
    open_peer: OpenPeer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names() -> list[str]:
        index = json.loads((path / "index.json").read_bytes())
        return [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]]

    monkeypatch.setattr("mock_registry.app.PUBLISH_AFTER", 0.0)
    async with open_peer("process", directory=path) as peer:
        assert names() == []
        image = await peer.push_image("shop/api", "v1", SMALL)
        await peer.put("shop/api", "v2", image)
        await peer.until(lambda: names() == ["shop/api:v1", "shop/api:v2"])
        await peer.http.delete("/v2/shop/api/manifests/v1")
        await peer.until(lambda: names() == ["shop/api:v2"])


class Flushes:
    """Knows which files have been flushed since they were last written to, by inode."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dirty: set[int] = set()
        self.count = 0
        for name in ("pwrite", "writev"):
            monkeypatch.setattr(os, name, self._writing(getattr(os, name)))
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _writing(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(descriptor: int, *arguments: object) -> int:
            self.dirty.add(os.fstat(descriptor).st_ino)
            return real(descriptor, *arguments)

        return write

    def _fsync(self, descriptor: int) -> None:
        self.count += 1
        self.dirty.discard(os.fstat(descriptor).st_ino)


async def test_nothing_is_flushed_since_a_killed_process_needs_none_of_it(
    open_peer: OpenPeer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_peer("process", directory=path) as peer:
        flushes = Flushes(monkeypatch)
        await peer.push_image("app", "v1", layers=[LARGE])
        assert flushes.count == 0
        assert flushes.dirty


async def test_changes_that_cannot_be_rewritten_stay_as_they_are(
    open_peer: OpenPeer, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mock_registry.storage.directory._WASTE", -100)
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", SMALL)
        before = (path / "changes.log").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("os.rename", full)
            compact(peer.registry.state)
        assert "could not be rewritten" in caplog.text
        assert (path / "changes.log").read_bytes() == before
        assert not (path / "changes.log.new").exists()
        await peer.push("other", SMALL)
    async with open_peer("process", directory=path) as peer:
        for name in ("app", "other"):
            assert (await peer.http.get(f"/v2/{name}/blobs/{digest}")).content == SMALL
