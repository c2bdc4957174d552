"""What a registry ends and frees by itself: sessions that nobody uses, blobs that no manifest needs."""

from __future__ import annotations

import asyncio
import json
import os
from random import Random
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from mock_registry.clock import ManualClock as Clock
from mock_registry.maintenance import Collected, expire_sessions

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.mock_registry.conftest import OpenPeer, OpenWith, Peer

pytestmark = pytest.mark.anyio

LARGE = os.urandom(1_000_000)
UNKNOWN = (404, ["BLOB_UPLOAD_UNKNOWN"])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["process", "directory"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# Sessions


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
async def test_end_14_a_session_that_nobody_used_for_its_lifetime_is_404_and_its_space_is_free(
    with_settings: OpenWith, clock: Clock, method: str
) -> None:
    async with with_settings(clock=clock, session_lifetime=60) as peer:
        location = (await peer.http.patch(await peer.open("app"), content=LARGE)).headers["location"]
        clock.advance(60)
        answer = await peer.http.request(method, location, params={"digest": peer.digest(LARGE)})
        assert (answer.status_code, peer.codes(answer)) == UNKNOWN
        assert (peer.registry.state.sessions, peer.registry.storage.used, peer.files()) == ({}, 0, [])


async def test_each_use_of_a_session_gives_it_another_lifetime(with_settings: OpenWith, clock: Clock) -> None:
    async with with_settings(clock=clock, session_lifetime=60) as peer:
        location = await peer.open("app")
        for _ in range(3):
            clock.advance(59)
            location = (await peer.http.patch(location, content=b"x")).headers["location"]
            clock.advance(59)
            assert (await peer.http.get(location)).status_code == 204
        params = peer.also(location, digest=peer.digest(b"xxx"))
        assert (await peer.http.put(location, params=params)).status_code == 201


async def test_a_session_of_another_repository_tells_nothing_of_its_age(
    with_settings: OpenWith, clock: Clock
) -> None:
    async with with_settings(clock=clock, session_lifetime=60) as peer:
        location = await peer.open("app")
        clock.advance(60)
        answer = await peer.http.get(location.replace("/app/", "/other/"))
        assert (answer.status_code, peer.codes(answer)) == UNKNOWN
        assert len(peer.registry.state.sessions) == 1


async def test_a_session_does_not_expire_while_a_request_has_it(
    with_settings: OpenWith, clock: Clock
) -> None:
    async with with_settings(clock=clock, session_lifetime=60) as peer:
        location = await peer.open("app")
        [session] = peer.registry.state.sessions.values()
        async with session.hold(0):
            clock.advance(1000)
            assert await expire_sessions(peer.registry.state) == 0
        clock.advance(59)  # counted from the end of its use
        assert (await peer.http.get(location)).status_code == 204


async def test_without_a_lifetime_a_session_waits_for_ever(with_settings: OpenWith, clock: Clock) -> None:
    async with with_settings(clock=clock, session_lifetime=None) as peer:
        location = await peer.open("app")
        clock.advance(1e9)
        assert (await peer.http.get(location)).status_code == 204


async def test_a_session_that_nobody_asks_for_expires_too(with_settings: OpenWith, clock: Clock) -> None:
    async with with_settings(clock=clock, session_lifetime=60, housekeeping_interval=0.0) as peer:
        await peer.http.patch(await peer.open("app"), content=LARGE)
        clock.advance(30)
        young = await peer.open("app")
        clock.advance(30)
        await peer.until(lambda: len(peer.registry.state.sessions) == 1)
        await peer.until(lambda: peer.files() == [])
        assert (await peer.http.get(young)).status_code == 204


async def test_an_expired_session_is_gone_at_the_next_start(
    open_peer: OpenPeer, clock: Clock, tmp_path: Path
) -> None:
    async with open_peer("process", directory=tmp_path, clock=clock, session_lifetime=60) as peer:
        location = (await peer.http.patch(await peer.open("app"), content=LARGE)).headers["location"]
        clock.advance(60)
        assert await expire_sessions(peer.registry.state) == 1
    async with open_peer("process", directory=tmp_path) as peer:
        assert (await peer.http.get(location)).status_code == 404


async def test_a_session_has_a_whole_lifetime_from_a_start(
    open_peer: OpenPeer, clock: Clock, tmp_path: Path
) -> None:
    async with open_peer("process", directory=tmp_path, clock=clock, session_lifetime=60) as peer:
        location = await peer.open("app")
        clock.advance(59)
    clock = Clock()  # that of another process
    async with open_peer("process", directory=tmp_path, clock=clock, session_lifetime=60) as peer:
        clock.advance(59)
        assert (await peer.http.get(location)).status_code == 204


async def test_nothing_runs_on_after_a_registry_was_left() -> None:
    before = asyncio.all_tasks()
    registry = MockRegistry(housekeeping_interval=0.0, collect_after=0.0)
    for _ in range(2):
        async with registry, registry.serve():
            assert len(asyncio.all_tasks() - before) == 1  # of two holders one keeps house
        assert asyncio.all_tasks() == before


async def test_a_failure_while_keeping_house_is_logged_and_there_is_a_next_time(
    with_settings: OpenWith,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with with_settings(clock=clock, session_lifetime=60, housekeeping_interval=0.0) as peer:
        with monkeypatch.context() as patch:
            patch.setattr("mock_registry.maintenance.expire_sessions", None)
            await peer.until(lambda: "housekeeping failed" in caplog.text)
        await peer.open("app")
        clock.advance(60)
        await peer.until(lambda: not peer.registry.state.sessions)


# Blobs


async def test_a_blob_that_no_manifest_mentions_is_collected(with_settings: OpenWith, clock: Clock) -> None:
    async with with_settings(clock=clock) as peer:
        digest = await peer.push("app", LARGE)
        await peer.push_image("app", "v1", b"config", [b"layer"])
        clock.advance(10)
        collected = await peer.registry.collect(grace=10)
        assert collected == Collected((("app", digest),), len(LARGE))
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).status_code == 404
        for content in (b"config", b"layer"):
            answer = await peer.http.get(f"/v2/app/blobs/{peer.digest(content)}")
            assert answer.content == content
        assert await peer.registry.collect(grace=0) == Collected((), 0)


async def test_what_any_manifest_mentions_stays(peer: Peer) -> None:
    kept = {
        name: name.encode() for name in ("config", "layer", "foreign", "inlined", "blob", "entry", "untagged")
    }
    for content in kept.values():
        await peer.push("app", content)
    foreign = peer.descriptor(kept["foreign"], "application/vnd.oci.image.layer.nondistributable.v1.tar")
    inlined = peer.descriptor(kept["inlined"], data="aW5saW5lZA==")
    image = peer.image(kept["config"], [kept["layer"]], blobs=[peer.descriptor(kept["blob"])])
    parts = image.replace(
        b'"layers": [', f'"layers": [{json.dumps(foreign)}, {json.dumps(inlined)}, '.encode()
    )
    assert (await peer.put("app", "v1", parts)).status_code == 201
    untagged = peer.image(kept["untagged"])
    assert (await peer.put("app", peer.digest(untagged), untagged)).status_code == 201
    index = peer.index(manifests=[peer.descriptor(kept["entry"], "application/x")])
    assert (await peer.put("app", "index", index, peer.OCI_INDEX)).status_code == 201
    assert (await peer.registry.collect(grace=0)).links == ()


async def test_a_manifest_deleted_no_longer_keeps_its_blobs(peer: Peer) -> None:
    first = await peer.push_image("app", "v1", b"config", [b"shared", b"first"])
    await peer.push_image("app", "v2", b"config", [b"shared", b"second"])
    await peer.http.delete(f"/v2/app/manifests/{peer.digest(first)}")
    collected = await peer.registry.collect(grace=0)
    assert collected == Collected((("app", peer.digest(b"first")),), 5)


async def test_a_tag_deleted_keeps_its_manifest_and_its_blobs(peer: Peer) -> None:
    image = await peer.push_image("app", "v1", b"config", [b"layer"])
    await peer.http.delete("/v2/app/manifests/v1")
    assert (await peer.registry.collect(grace=0)).links == ()
    assert (await peer.http.get(f"/v2/app/manifests/{peer.digest(image)}")).content == image


@pytest.mark.parametrize("use", ["push", "again", "mount", "HEAD", "GET"])
async def test_what_a_client_was_just_told_to_be_there_stays_for_the_time_of_grace(
    with_settings: OpenWith, clock: Clock, use: str
) -> None:
    async with with_settings(clock=clock) as peer:
        await peer.push_image("base", "v1", b"{}", [LARGE])
        digest = peer.digest(LARGE)
        if use != "mount":
            await peer.push("app", LARGE)
        clock.advance(100)
        if use == "again":
            await peer.push("app", LARGE)
        elif use == "mount":
            params = {"mount": digest, "from": "base"}
            assert (await peer.http.post("/v2/app/blobs/uploads/", params=params)).status_code == 201
        elif use in ("HEAD", "GET"):
            await peer.http.request(use, f"/v2/app/blobs/{digest}")
        clock.advance(59)
        kept = use != "push"
        assert (await peer.registry.collect(grace=60)).links == (() if kept else (("app", digest),))
        clock.advance(1)
        collected = await peer.registry.collect(grace=60)
        assert collected == Collected((("app", digest),) if kept else (), 0)  # base still has the octets
        assert (await peer.http.get(f"/v2/base/blobs/{digest}")).content == LARGE


async def test_a_start_begins_the_time_of_grace_anew(
    open_peer: OpenPeer, clock: Clock, tmp_path: Path
) -> None:
    async with open_peer("process", directory=tmp_path, clock=clock) as peer:
        digest = await peer.push("app", LARGE)
        clock.advance(59)
    async with open_peer("process", directory=tmp_path, clock=clock) as peer:
        clock.advance(59)
        assert (await peer.registry.collect(grace=60)).links == ()
        clock.advance(1)
        assert (await peer.registry.collect(grace=60)).links == (("app", digest),)
    async with open_peer("process", directory=tmp_path, clock=clock) as peer:
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).status_code == 404
        assert peer.files() == []


async def test_a_collection_leaves_sessions_alone(peer: Peer) -> None:
    location = (await peer.http.patch(await peer.open("app"), content=LARGE[:500])).headers["location"]
    await peer.push("app", LARGE[:500])
    await peer.registry.collect(grace=0)
    params = peer.also(location, digest=peer.digest(LARGE))
    assert (await peer.http.put(location, params=params, content=LARGE[500:])).status_code == 201
    assert (await peer.http.get(f"/v2/app/blobs/{peer.digest(LARGE)}")).content == LARGE


async def test_blobs_are_collected_from_time_to_time_where_that_is_asked_for(
    with_settings: OpenWith, clock: Clock
) -> None:
    async with with_settings(clock=clock, collect_after=60, housekeeping_interval=0.0) as peer:
        image = await peer.push_image("app", "v1", b"config", [b"layer"])
        await peer.push("app", LARGE)
        clock.advance(60)
        state = peer.registry.state
        await peer.until(lambda: len(state.digests) == 3)
        assert (await peer.http.get("/v2/app/manifests/v1")).content == image


async def test_by_default_nothing_is_collected(with_settings: OpenWith, clock: Clock) -> None:
    async with with_settings(clock=clock, housekeeping_interval=0.0) as peer:
        digest = await peer.push("app", LARGE)
        clock.advance(1e9)
        session = await peer.open("app")
        clock.advance(1e9)
        await peer.until(lambda: not peer.registry.state.sessions)  # so it has been round
        assert (await peer.http.get(session)).status_code == 404
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == LARGE


async def test_a_damaged_blob_is_collected_like_any_other(open_peer: OpenPeer, tmp_path: Path) -> None:
    async with open_peer("process", directory=tmp_path) as peer:
        digest = await peer.push("app", LARGE)
        [file] = peer.files()
        file.unlink()
        assert await peer.registry.collect(grace=0) == Collected((("app", digest),), 0)


class Pusher:
    """Pushes images that share layers, as clients do: what is there already is not pushed again."""

    def __init__(self, peer: Peer, number: int, layers: list[bytes]) -> None:
        self.peer = peer
        self.name = f"team/{number % 2}"
        self.number = number
        self.layers = layers
        self.refused = 0
        self._random = Random(number)

    async def push(self) -> None:
        for turn in range(6):
            config = f"{self.number} {turn}".encode()
            parts = [config, *self._random.sample(self.layers, 2)]
            for content in parts:
                if (await self._blob("HEAD", content)).status_code == 404:
                    await self.peer.push(self.name, content)
            image = self.peer.image(config, parts[1:])
            answer = await self.peer.put(self.name, f"{self.number}-{turn}", image)
            if answer.status_code == 400:
                assert set(self.peer.codes(answer)) == {"MANIFEST_BLOB_UNKNOWN"}
                self.refused += 1
                continue
            assert answer.status_code == 201
            for content in parts:
                assert (await self._blob("GET", content)).content == content
            if turn % 2:
                await self.peer.http.delete(f"/v2/{self.name}/manifests/{self.peer.digest(image)}")

    async def _blob(self, method: str, content: bytes) -> httpx.Response:
        return await self.peer.http.request(method, f"/v2/{self.name}/blobs/{self.peer.digest(content)}")


@pytest.mark.parametrize("grace", [0.0, 60.0])
async def test_an_image_that_was_accepted_while_collections_run_is_whole(peer: Peer, grace: float) -> None:
    """With no grace a push may be refused, and says of which blob; with some, none is."""
    layers = [bytes([number]) * 20_000 for number in range(6)]
    pushers = [Pusher(peer, number, layers) for number in range(4)]
    over = asyncio.Event()

    async def collect() -> None:
        while not over.is_set():
            await peer.registry.collect(grace=grace)
            await asyncio.sleep(0)

    collecting = asyncio.ensure_future(collect())
    await asyncio.gather(*[pusher.push() for pusher in pushers])
    over.set()
    await collecting
    assert (sum(pusher.refused for pusher in pushers) == 0) == (grace > 0)
    for repository in peer.registry.state.repositories.values():
        for manifest in repository.manifests.values():
            for digest in manifest.mentioned:
                answer = await peer.http.get(f"/v2/{repository.name}/blobs/{digest}")
                assert answer.status_code == 200
