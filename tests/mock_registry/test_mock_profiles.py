"""A registry under a profile, beside what the registry that it is named after was seen to answer."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import mock_registry.faults
from mock_registry import MockRegistry
from mock_registry.auth import BasicAuth
from mock_registry.clock import ManualClock
from mock_registry.faults import Status
from mock_registry.faults.profiles import NAMES, Profile, profile_named

if TYPE_CHECKING:
    from types import ModuleType

    from tests.mock_registry.conftest import OpenPeer, OpenWith, Peer

pytestmark = pytest.mark.anyio


def beside(name: str) -> ModuleType:
    """Return a module that stands beside this one: tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


probing, probe_answers = beside("probing"), beside("probe_answers")


@pytest.fixture(params=["process", "port"])
def transport(request: pytest.FixtureRequest) -> str:
    """Leave out other storages: no profile knows of any."""
    return str(request.param)


@pytest.mark.parametrize("name", probe_answers.REGISTRIES)
async def test_a_profile_answers_every_question_as_its_registry_did(name: str) -> None:
    async with (
        MockRegistry(profile=name).serve() as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as http,
    ):
        assert await probing.Probe(http).answers() == probe_answers.answers_of(name)


def test_every_question_has_an_answer_and_every_answer_a_question() -> None:
    assert list(probing.QUESTIONS) == list(probe_answers.ANSWERS) == list(probe_answers.OWN)
    folder = Path(mock_registry.faults.__file__).parent
    for readme in (folder / "PROFILES.md", folder.parent / "README.md"):
        assert f"{len(probing.QUESTIONS)} questions" in readme.read_text()


@pytest.mark.parametrize("name", NAMES)
async def test_no_number_that_a_stranger_makes_up_breaks_a_profile(name: str, open_peer: OpenPeer) -> None:
    endless = "9" * 5_000
    async with open_peer("process", profile=name) as peer:
        digest = await peer.push("app", b"content")
        assert (await peer.put("app", "v1", peer.index(), peer.OCI_INDEX)).status_code == 201
        asked = [
            peer.http.get(f"/v2/app/tags/list?n={number}")
            for number in ("%C2%B2", "%D9%A3", endless, "0" * 5_000)
        ]
        asked += [
            peer.http.get(f"/v2/app/blobs/{digest}", headers={"Range": f"bytes={text}"})
            for text in (f"0-{endless}", f"{endless}-", f"-{endless}", f"{endless}-{endless}")
        ]
        for text in (f"{endless}-{endless}".encode(), b"\xb2-\xb2"):
            session = await peer.open("app")
            asked.append(peer.http.patch(session, content=b"x", headers={b"Content-Range": text}))
        statuses = [(await each).status_code for each in asked]
    # What registry:3 itself was seen to answer a Content-Range that is none.
    allowed = {"distribution-3": 2}.get(name, 0)
    assert sum(status >= 500 for status in statuses[:-2]) == 0
    assert sum(status >= 500 for status in statuses[-2:]) == allowed


async def test_a_registry_that_looks_at_nothing_takes_no_part_of_a_manifest(
    open_peer: OpenPeer,
) -> None:
    async with open_peer("process", profile="ggcr", manifest_limit=100) as peer:
        put = await peer.put("app", "v1", b"x" * 101)
        assert put.status_code == 413
        assert (await peer.http.get("/v2/app/manifests/v1")).status_code == 404
        assert (await peer.put("app", "v1", b"x" * 100)).status_code == 201


@pytest.mark.parametrize("kept", ["memory", "directory"])
async def test_without_a_profile_every_question_is_answered_as_was_decided(kept: str, tmp_path: Path) -> None:
    directory = tmp_path / "registry" if kept == "directory" else None
    async with (
        MockRegistry(directory=directory).serve() as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as http,
    ):
        assert await probing.Probe(http).answers() == probe_answers.OWN


def own_codes(answer: httpx.Response) -> list[str]:
    """Return error codes that no specification knows, as some registries make them up."""
    return [error["code"] for error in answer.json()["errors"]]


async def upload(peer: Peer, name: str, content: bytes) -> str:
    """Push a blob as a careful client does, to any registry."""
    digest = peer.digest(content)
    answer = await peer.http.post(f"/v2/{name}/blobs/uploads/")
    location = answer.headers["location"]
    answer = await peer.http.patch(
        location, content=content, headers={"Content-Type": "application/octet-stream"}
    )
    assert answer.is_success
    location = answer.headers["location"]
    answer = await peer.http.put(f"{location}{'&' if '?' in location else '?'}digest={digest}")
    assert answer.status_code == 201
    return digest


@pytest.mark.parametrize("name", NAMES)
async def test_an_image_goes_up_and_down_under_every_profile(with_settings: OpenWith, name: str) -> None:
    async with with_settings(profile=name) as peer:
        content = peer.image(layers=[b"layer"])
        for each in (b"{}", b"layer"):
            digest = await upload(peer, "app", each)
        assert (await peer.put("app", "v1", content)).status_code == 201
        accept = {"Accept": peer.OCI_MANIFEST}
        answer = await peer.http.get("/v2/app/manifests/v1", headers=accept)
        assert (answer.status_code, answer.content) == (200, content)
        answer = await peer.http.get(f"/v2/app/blobs/{digest}", follow_redirects=True)
        assert answer.content == b"layer"
        assert (await peer.http.get("/v2/app/tags/list")).json()["tags"] == ["v1"]
        assert peer.journal.bytes_in(route="upload") == len(b"{}layer")
        assert peer.journal.bytes_out(route="blob") == len(b"layer")


@pytest.mark.parametrize("name", NAMES)
async def test_a_profile_lets_nobody_in_whom_the_registry_would_not(
    with_settings: OpenWith, name: str
) -> None:
    async with with_settings(profile=name, auth=BasicAuth({"ci": "s3cret"})) as peer:
        for method, path in (
            ("GET", "/v2/app/tags/list"),
            ("PUT", "/v2/app/manifests/v1"),
            ("POST", "/v2/app/blobs/uploads/"),
            ("DELETE", f"/v2/app/blobs/{peer.digest(b'x')}"),
        ):
            assert (await peer.http.request(method, path)).status_code == 401
        assert not peer.registry.repositories


async def test_faults_come_on_top_of_a_profile(with_settings: OpenWith) -> None:
    async with with_settings(profile="ecr", faults=["base status 503"]) as peer:
        assert [rule.name for rule in peer.registry.faults] == ["ecr-throttling", "status"]
        assert (await peer.http.get("/v2/")).status_code == 503
        peer.registry.faults.add(Status(429), route="tags")
        peer.registry.faults.remove("ecr-throttling")
        assert [rule.name for rule in peer.registry.faults] == ["status", "status-2"]


async def test_a_setting_that_is_given_wins_over_the_profile(with_settings: OpenWith) -> None:
    async with with_settings(profile="olareg", manifest_limit=100) as peer:
        assert (await peer.put("app", "v1", peer.image())).status_code == 413
        assert peer.registry.profile is not None
        assert peer.registry.profile.name == "olareg"


async def test_a_profile_may_be_made_by_hand(with_settings: OpenWith) -> None:
    async with with_settings(profile=Profile("mine", "my own", ("base answered=200 status 403",))) as peer:
        assert (await peer.http.get("/v2/")).status_code == 403
        assert peer.registry.journal[0].fault is None
        assert len(peer.registry.faults) == 0


def test_an_unknown_profile_is_refused_with_what_may_be_meant() -> None:
    with pytest.raises(
        ValueError, match=r"unknown profile 'distribution-2\.9', did you mean 'distribution-2\.8'\?"
    ):
        MockRegistry(profile="distribution-2.9")


async def test_two_registries_of_one_profile_remember_nothing_of_each_other() -> None:
    first, second = MockRegistry(profile="ggcr"), MockRegistry(profile="ggcr")
    content = b"any bytes"
    path = f"/v2/app/manifests/sha256:{hashlib.sha256(content).hexdigest()}"
    async with (
        httpx.AsyncClient(transport=first.transport(), base_url="http://first") as one,
        httpx.AsyncClient(transport=second.transport(), base_url="http://second") as other,
    ):
        for http in (one, other):
            assert (await http.put(path, content=content)).status_code == 201
        await one.delete(path)
        assert [(await http.get(path)).status_code for http in (one, other)] == [404, 200]


# What was reported of registries that nobody can run here


@pytest.fixture
async def ecr(open_peer: OpenPeer, transport: str) -> Any:
    clock = ManualClock()
    async with open_peer(transport, profile="ecr", clock=clock, sleep=clock.sleep) as peer:
        yield peer


async def test_ecr_answers_chunks_with_201_and_a_range_that_stands_still(ecr: Peer) -> None:
    content = b"0123456789" * 100
    location = await ecr.open("app")
    ranges = []
    for start in range(0, 1000, 250):
        headers = {"Content-Range": f"{start}-{start + 249}"}
        answer = await ecr.http.patch(location, content=content[start : start + 250], headers=headers)
        assert answer.status_code == 201
        ranges.append(answer.headers["range"])
        location = answer.headers["location"]
    assert ranges == ["0-249"] * 4
    digest = ecr.digest(content)
    answer = await ecr.http.put(location, params=ecr.also(location, digest=digest))
    assert answer.status_code == 201
    assert (await ecr.http.get(f"/v2/app/blobs/{digest}")).content == content
    assert [record.fault for record in ecr.journal] == [None] * len(ecr.journal)


async def test_ecr_refuses_an_upload_that_starts_again(ecr: Peer) -> None:
    location = await ecr.open("app")
    first = {"Content-Range": "0-3"}
    location = (await ecr.http.patch(location, content=b"0123", headers=first)).headers["location"]
    answer = await ecr.http.patch(location, content=b"0123", headers=first)
    assert (answer.status_code, ecr.codes(answer)) == (416, ["BLOB_UPLOAD_INVALID"])


async def test_ecr_has_no_location_of_manifests_and_lists_no_more_than_it_likes(ecr: Peer) -> None:
    await upload(ecr, "app", b"{}")
    answer = await ecr.put("app", "v0", ecr.image())
    assert (answer.status_code, answer.headers.get("location")) == (201, None)
    assert (await ecr.http.get("/v2/")).content == b""
    answer = await ecr.http.get("/v2/app/tags/list?n=1001")
    assert (answer.status_code, ecr.codes(answer)) == (400, ["UNSUPPORTED"])
    repository = ecr.registry.state.repositories["app"]
    repository.tags |= dict.fromkeys((f"v{n}" for n in range(120)), repository.tags["v0"])
    answer = await ecr.http.get("/v2/app/tags/list")
    assert len(answer.json()["tags"]) == 100
    assert len((await ecr.http.get(answer.links["next"]["url"])).json()["tags"]) == 20
    assert len((await ecr.http.get("/v2/app/tags/list?n=1000")).json()["tags"]) == 120


async def test_ecr_mounts_what_a_manifest_refers_to(ecr: Peer) -> None:
    digest = await upload(ecr, "base", b"{}")
    mount = {"mount": digest, "from": "base"}
    assert (await ecr.http.post("/v2/app/blobs/uploads/", params=mount)).status_code == 202
    nowhere = mount | {"from": "nowhere"}
    assert (await ecr.http.post("/v2/app/blobs/uploads/", params=nowhere)).status_code == 202
    await ecr.put("base", "v1", ecr.image())
    assert (await ecr.http.post("/v2/app/blobs/uploads/", params=mount)).status_code == 201


async def test_ecr_takes_ten_manifests_a_second(ecr: Peer) -> None:
    await upload(ecr, "app", b"{}")
    answers = [await ecr.put("app", f"v{n}", ecr.image()) for n in range(11)]
    assert [answer.status_code for answer in answers] == [201] * 10 + [429]
    assert "retry-after" not in answers[10].headers
    assert ecr.journal[-1].fault == "ecr-throttling"


async def test_ghcr_caps_chunks_but_not_streams(with_settings: OpenWith) -> None:
    content = bytes((4 << 20) + 1)
    async with with_settings(profile="ghcr") as peer:
        location = await peer.open("app")
        headers = {"Content-Range": f"0-{len(content) - 1}"}
        answer = await peer.http.patch(location, content=content, headers=headers)
        assert (answer.status_code, own_codes(answer)) == (416, ["REQUESTED_RANGE_NOT_SATISFIABLE"])
        assert (await peer.http.patch(location, content=content)).status_code == 202


async def test_ghcr_knows_no_referrers_and_says_so_as_of_a_manifest(with_settings: OpenWith) -> None:
    async with with_settings(profile="ghcr") as peer:
        await upload(peer, "app", b"{}")
        subject = peer.image()
        await peer.put("app", "v1", subject)
        answer = await peer.put("app", "sig", peer.image(subject=peer.descriptor(subject, peer.OCI_MANIFEST)))
        assert "oci-subject" not in answer.headers
        answer = await peer.http.get(f"/v2/app/referrers/{peer.digest(subject)}")
        assert (answer.status_code, peer.codes(answer)) == (404, ["MANIFEST_UNKNOWN"])


async def test_quay_links_pages_by_a_token_and_wants_a_source_of_mounts(with_settings: OpenWith) -> None:
    async with with_settings(profile="quay") as peer:
        digest = await upload(peer, "base", b"{}")
        answer = await peer.http.post("/v2/app/blobs/uploads/", params={"mount": digest})
        assert (answer.status_code, own_codes(answer)) == (400, ["INVALID_REQUEST"])
        answer = await peer.http.post("/v2/app/blobs/uploads/", params={"mount": digest, "from": "base"})
        assert answer.status_code == 201
        await peer.put("app", "v000", peer.image())
        repository = peer.registry.state.repositories["app"]
        repository.tags |= dict.fromkeys((f"v{n:03}" for n in range(60)), repository.tags["v000"])
        answer = await peer.http.get("/v2/app/tags/list")
        url = httpx.URL(answer.links["next"]["url"])
        assert (len(answer.json()["tags"]), list(url.params)) == (50, ["next_page"])
        assert len((await peer.http.get(url)).json()["tags"]) == 10


async def test_quay_lists_referrers_but_says_nothing_of_a_subject(with_settings: OpenWith) -> None:
    async with with_settings(profile="quay") as peer:
        await upload(peer, "app", b"{}")
        subject = peer.image()
        answer = await peer.put("app", "sig", peer.image(subject=peer.descriptor(subject, peer.OCI_MANIFEST)))
        assert (answer.status_code, answer.headers.get("oci-subject")) == (201, None)
        answer = await peer.http.get(f"/v2/app/referrers/{peer.digest(subject)}")
        assert len(answer.json()["manifests"]) == 1


async def test_gitlab_takes_a_fallback_tag_for_a_digest(with_settings: OpenWith) -> None:
    async with with_settings(profile="gitlab") as peer:
        await upload(peer, "app", b"{}")
        content = peer.image()
        await peer.put("app", "v1", content)
        digest = peer.digest(content)
        assert (await peer.http.get(f"/v2/app/referrers/{digest}")).status_code == 404
        answer = await peer.http.get(f"/v2/app/manifests/{digest.replace(':', '-')}")
        assert (answer.content, answer.headers["docker-content-digest"]) == (content, digest)
        assert (await peer.http.get("/v2/app/manifests/sha256-00")).status_code == 404


async def test_acr_redirects_blobs_and_resumes_nothing(with_settings: OpenWith) -> None:
    async with with_settings(profile="acr") as peer:
        digest = await upload(peer, "app", b"{}")
        answer = await peer.http.get(f"/v2/app/blobs/{digest}")
        assert answer.status_code == 307
        refused = await peer.http.get(answer.headers["location"], headers={"Authorization": "Bearer x"})
        assert refused.status_code == 400
        location = await peer.open("app")
        await peer.http.patch(location, content=b"0123")
        answer = await peer.http.get(location)  # as who never heard of the newest one
        assert (answer.status_code, peer.codes(answer)) == (404, ["BLOB_UPLOAD_INVALID"])


# What is written of them

SOURCE = re.compile(r"[\w.-]+/[\w.-]+(?:#\d+| [\w/.]+)")
README = (Path(mock_registry.faults.__file__).parent / "PROFILES.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (`.+`) \|$", README, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_of_a_profile_stands_in_the_readme_with_its_evidence(name: str) -> None:
    profile = profile_named(name)
    assert f"| `{name}` | {profile.registry} |" in README
    rules = [rule for names, _, _, cell in ROWS if f"`{name}`" in names for rule in cell.split(" <br> ")]
    told = [rule.strip("`").replace("\\n", "\n") for rule in rules]
    assert sorted(told) == sorted((*profile.rules, *profile.faults))


def test_every_quirk_has_evidence() -> None:
    sources = [source for _, _, evidence, _ in ROWS for source in evidence.split(", ")]
    assert len(ROWS) > 80
    assert [each for each in sources if each != "probe" and not SOURCE.fullmatch(each)] == []
