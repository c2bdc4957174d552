"""Which requests a rule is applied to, how often, and what is told of it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from mock_registry.auth import BasicAuth
from mock_registry.clock import ManualClock
from mock_registry.faults import (
    Corrupt,
    Cut,
    Fault,
    FaultError,
    Latency,
    Reset,
    Status,
    Throttle,
)

if TYPE_CHECKING:
    from tests.mock_registry.conftest import OpenPeer, OpenWith, Peer

pytestmark = pytest.mark.anyio

CONTENT = os.urandom(100_000)


@pytest.fixture(params=["process", "port"])
def transport(request: pytest.FixtureRequest) -> str:
    """Leave out other storages: no rule knows of any."""
    return str(request.param)


async def statuses(peer: Peer, count: int, path: str = "/v2/", **more: Any) -> list[int]:
    return [(await peer.http.get(path, **more)).status_code for _ in range(count)]


def failed(answers: list[int]) -> list[int]:
    """Return which of the answers, from the first, the fault made."""
    return [number for number, status in enumerate(answers, start=1) if status == 503]


async def test_a_registry_without_rules_does_nothing_but_its_duty(peer: Peer) -> None:
    assert (len(peer.registry.faults), peer.registry.faults.active) == (0, False)
    assert await statuses(peer, 3) == [200] * 3
    assert [record.fault for record in peer.journal] == [None] * 3


async def test_rules_are_added_listed_and_removed_while_requests_are_served(peer: Peer) -> None:
    faults = peer.registry.faults
    rule = faults.add(Status(503), route="base")
    other = faults.add("blob cut")
    assert [each.name for each in faults] == ["status", "cut"]
    assert (faults["cut"] is other, "status" in faults, len(faults)) == (True, True, 2)
    assert await statuses(peer, 2) == [503, 503]
    assert (rule.seen, rule.applied, other.seen) == (2, 2, 0)
    assert "status: seen 2, applied 2" in repr(rule)
    rule.remove()
    rule.remove()
    assert await statuses(peer, 1) == [200]
    faults.remove("cut")
    faults.remove("no such rule")
    assert not faults.active
    with faults.add({"status": 503}):
        assert await statuses(peer, 1) == [503]
    assert await statuses(peer, 1) == [200]
    faults.add("status 503")
    faults.clear()
    assert await statuses(peer, 1) == [200]


async def test_a_rule_that_has_the_name_of_another_gets_its_own(peer: Peer) -> None:
    faults = peer.registry.faults
    names = [faults.add(Status(503), **more).name for more in ({}, {}, {"name": "mine"}, {"name": "mine"})]
    assert names == ["status", "status-2", "mine", "mine-2"]
    faults.remove(faults["status"])
    assert faults.add(Status(500)).name == "status"


async def test_the_journal_names_all_faults_that_did_something_in_order(peer: Peer) -> None:
    peer.registry.faults.add(Fault(Latency(0), name="slow"))
    peer.registry.faults.add(Status(503), method="GET")
    peer.registry.faults.add("headers set.x-served-by=1")
    peer.registry.faults.add("headers remove=x-not-there")
    answer = await peer.http.get("/v2/")
    assert (answer.status_code, answer.headers["x-served-by"]) == (503, "1")
    assert peer.journal[-1].fault == "status,slow,headers"


async def test_what_a_fault_is_given_as_makes_no_difference(peer: Peer) -> None:
    faults = peer.registry.faults
    rules = [
        faults.add(Fault(Reset(100), method="PATCH", route="upload", nth=2)),
        faults.add(Reset(100), method="PATCH", route="upload", nth=2),
        faults.add("PATCH upload nth=2 reset 100"),
        faults.add("PATCH upload nth=2 reset after=100"),
        faults.add({"method": "PATCH", "route": "upload", "nth": 2, "reset": 100}),
        faults.add({"method": "PATCH", "route": "upload", "nth": 2, "reset": {"after": 100}}),
    ]
    assert len({rule.fault for rule in rules}) == 1


async def test_faults_can_be_there_from_the_start(with_settings: OpenWith) -> None:
    async with with_settings(faults=[Fault(Status(503), nth=1), "nth=2 status 500"]) as peer:
        assert await statuses(peer, 3) == [503, 500, 200]


COUNTS = {
    "nth=2": [2],
    "first=3": [1, 2, 3],
    "skip=2": [3, 4, 5, 6, 7, 8, 9],
    "every=3": [3, 6, 9],
    "skip=1 first=2": [2, 3],
    "skip=1 every=3": [4, 7],
    "every=2 times=2": [2, 4],
    "times=1": [1],
    "first=4 every=2": [2, 4],
}


@pytest.mark.parametrize("counts", COUNTS)
async def test_a_rule_counts_the_requests_that_it_is_meant_for(peer: Peer, counts: str) -> None:
    peer.registry.faults.add(f"base {counts} status 503")
    answers = []
    for _ in range(9):
        answers += await statuses(peer, 1)
        await statuses(peer, 1, "/v2/_catalog")  # which does not count
    assert failed(answers) == COUNTS[counts]


async def test_what_did_nothing_does_not_count_as_applied(peer: Peer) -> None:
    small, large = await peer.push("app", b"small"), await peer.push("app", CONTENT)
    rule = peer.registry.faults.add("GET blob times=1 cut 1000")
    assert (await peer.http.get(f"/v2/app/blobs/{small}")).content == b"small"
    with pytest.raises(httpx.RemoteProtocolError):
        await peer.http.get(f"/v2/app/blobs/{large}")
    assert (await peer.http.get(f"/v2/app/blobs/{large}")).content == CONTENT
    assert (rule.seen, rule.applied) == (3, 1)
    assert [record.fault for record in peer.journal][-3:] == [None, "cut", None]


@pytest.mark.parametrize(
    ("per", "paths", "expected"),
    [
        ("repository", ["/v2/a/tags/list", "/v2/a/tags/list", "/v2/b/tags/list"], [1, 3]),
        ("reference", ["/v2/a/manifests/1", "/v2/a/manifests/2", "/v2/a/manifests/1"], [1, 2]),
        ("client", ["/v2/", "/v2/", "/v2/"], [1]),
        ("user", ["/v2/", "/v2/", "/v2/"], [1]),
    ],
)
async def test_a_rule_may_count_apart(peer: Peer, per: str, paths: list[str], expected: list[int]) -> None:
    peer.registry.faults.add(f"per={per} nth=1 status 503")
    assert failed([(await statuses(peer, 1, path))[0] for path in paths]) == expected


async def test_the_first_try_of_each_blob_may_fail(peer: Peer) -> None:
    peer.registry.faults.add("HEAD per=digest first=1 status 503")
    paths = [f"/v2/app/blobs/{peer.digest(content)}" for content in (b"1", b"2", b"1", b"2")]
    assert [(await peer.http.head(path)).status_code for path in paths] == [503, 503, 404, 404]


DIGEST = "sha256:" + "a" * 64
CONDITIONS: dict[str, list[tuple[str, str]]] = {
    "method=GET,HEAD": [("GET", "/v2/"), ("HEAD", "/v2/")],
    "route=tags,catalog": [("GET", "/v2/a/tags/list"), ("GET", "/v2/_catalog")],
    "repository=shop/api": [("GET", "/v2/shop/api/tags/list")],
    "repository=shop/*": [("GET", "/v2/shop/api/tags/list")],
    "repository=shop/**": [("GET", "/v2/shop/api/tags/list"), ("GET", "/v2/shop/api/v2/tags/list")],
    f"digest={DIGEST}": [
        ("HEAD", f"/v2/a/blobs/{DIGEST}"),
        ("GET", f"/v2/a/manifests/{DIGEST}"),
        ("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}"),
    ],
    "digest=sha256:aa*": [
        ("HEAD", f"/v2/a/blobs/{DIGEST}"),
        ("GET", f"/v2/a/manifests/{DIGEST}"),
        ("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}"),
    ],
    "reference=v1.*": [("GET", "/v2/a/manifests/v1.2")],
    "query=mount": [("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}")],
    "query=n=1*": [("GET", "/v2/_catalog?n=12")],
    "header=X-Special": [("PUT", "/v2/special")],
    "header=x-special=y*": [("PUT", "/v2/special")],
    "peer=127.0.0.1": [],
    "agent=skopeo/*": [("PUT", "/v2/special")],
}
ASKED = [
    ("GET", "/v2/", {}),
    ("HEAD", "/v2/", {}),
    ("GET", "/v2/a/tags/list", {}),
    ("GET", "/v2/shop/api/tags/list", {}),
    ("GET", "/v2/shop/api/v2/tags/list", {}),
    ("GET", "/v2/_catalog", {}),
    ("GET", "/v2/_catalog?n=12", {}),
    ("HEAD", f"/v2/a/blobs/{DIGEST}", {}),
    ("GET", f"/v2/a/manifests/{DIGEST}", {}),
    ("GET", "/v2/a/manifests/v1.2", {}),
    ("POST", f"/v2/a/blobs/uploads/?mount={DIGEST}", {}),
    ("PUT", "/v2/special", {"X-Special": "yes", "User-Agent": "skopeo/1.9.3"}),
]


@pytest.mark.parametrize("condition", [each for each in CONDITIONS if "peer" not in each])
async def test_a_condition_is_met_by_some_requests(peer: Peer, condition: str) -> None:
    only = "" if "method" in condition or "route" in condition else "GET,HEAD,POST,PUT"
    peer.registry.faults.add(f"{only} {condition} status 503")
    met = [
        (method, path)
        for method, path, headers in ASKED
        if (await peer.http.request(method, path, headers=headers)).status_code == 503
    ]
    expected = CONDITIONS[condition]
    if condition == "method=GET,HEAD":
        expected = [(method, path) for method, path, _ in ASKED if method in ("GET", "HEAD")]
    if condition == "route=tags,catalog":
        expected = [(method, path) for method, path, _ in ASKED if "tags/list" in path or "_catalog" in path]
    assert met == expected


async def test_a_client_is_told_by_its_address(peer: Peer) -> None:
    peer.registry.faults.add("peer=127.0.0.1 nth=1 status 503")
    peer.registry.faults.add("peer=127.0.0.1:* nth=2 status 503")
    peer.registry.faults.add("peer=10.* status 503")
    assert await statuses(peer, 3) == [503, 503, 200]


async def test_a_client_is_told_by_its_user_once_it_has_logged_in(with_settings: OpenWith) -> None:
    users = {"ci": "s3cret", "dev": "d"}
    async with with_settings(auth=BasicAuth(users), faults=["user=ci status 503", "user=d* latency"]) as peer:
        for user, password, expected in (("ci", "s3cret", 503), ("dev", "d", 200), ("ci", "wrong", 401)):
            assert await statuses(peer, 1, auth=(user, password)) == [expected]
        assert await statuses(peer, 1) == [401]
        assert [record.fault for record in peer.journal] == ["status", "latency", None, None]


async def test_a_rule_may_wait_for_what_the_handler_decides(peer: Peer) -> None:
    digest = await peer.push("app", CONTENT)
    faults = peer.registry.faults
    faults.add("answered=BLOB_UNKNOWN nth=2 status 403 form=empty")
    faults.add("answered=2xx blob headers set.x-found=yes")
    faults.add("answered=404 manifest status 403")
    faults.add("answered=MANIFEST_UNKNOWN tags cut")
    absent = f"/v2/app/blobs/{peer.digest(b'absent')}"
    assert await statuses(peer, 3, absent) == [404, 403, 404]
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).headers["x-found"] == "yes"
    assert await statuses(peer, 1, "/v2/app/manifests/v1") == [403]
    assert await statuses(peer, 1, "/v2/app/tags/list") == [200]


async def test_a_rule_may_wait_for_one_of_several_answers(peer: Peer) -> None:
    await peer.push("app", CONTENT)
    peer.registry.faults.add("answered='404 NAME_UNKNOWN,405' status 403")
    assert await statuses(peer, 1, "/v2/nobody/tags/list") == [403]
    assert (await peer.http.post("/v2/_catalog")).status_code == 403
    assert await statuses(peer, 1, f"/v2/app/blobs/{peer.digest(b'absent')}") == [404]
    assert await statuses(peer, 1, "/v2/app/tags/list") == [200]


async def chances(open_peer: OpenPeer, seed: int, *, extra: bool = False) -> list[int]:
    async with open_peer("process", seed=seed) as peer:
        if extra:
            peer.registry.faults.add("catalog toxicity=0.5 status 500")
        peer.registry.faults.add("base name=weather toxicity=0.3 status 503")
        answers = []
        for _ in range(200):
            answers += await statuses(peer, 1)
            if extra:
                await statuses(peer, 1, "/v2/_catalog")
        return failed(answers)


async def test_chance_follows_from_the_seed_and_from_nothing_else(open_peer: OpenPeer) -> None:
    first = await chances(open_peer, 7)
    assert 40 < len(first) < 80
    assert await chances(open_peer, 7) == first
    assert await chances(open_peer, 7, extra=True) == first
    assert await chances(open_peer, 8) != first


async def test_toxicity_0_and_1_leave_nothing_to_chance(peer: Peer) -> None:
    peer.registry.faults.add("base toxicity=0 status 500")
    peer.registry.faults.add("base toxicity=1 status 503")
    assert await statuses(peer, 20) == [503] * 20


async def test_a_bound_on_applications_holds_for_requests_that_are_under_way_too(
    with_settings: OpenWith,
) -> None:
    clock = ManualClock()
    async with with_settings(clock=clock, sleep=clock.sleep) as peer:
        rule = peer.registry.faults.add(Latency(1000), times=2)
        asking = [asyncio.ensure_future(statuses(peer, 1)) for _ in range(5)]
        await peer.until(lambda: clock.sleepers == 2 and sum(each.done() for each in asking) == 3)
        clock.advance(1)
        assert await asyncio.gather(*asking) == [[200]] * 5
        assert (rule.seen, rule.applied) == (5, 2)


async def test_the_first_rule_that_answers_is_the_one_that_does(peer: Peer) -> None:
    first = peer.registry.faults.add(Status(500), route="base")
    second = peer.registry.faults.add(Status(503), route="base")
    assert await statuses(peer, 1) == [500]
    assert (first.applied, second.applied) == (1, 0)


async def test_rules_stand_one_behind_the_other_in_a_body(with_settings: OpenWith) -> None:
    clock = ManualClock(jumps=True)
    async with with_settings(clock=clock, sleep=clock.sleep) as peer:
        digest = await peer.push("app", CONTENT)
        faults = [Throttle(10_000), Corrupt(5), Cut(50_000)]
        rules = [peer.registry.faults.add(fault, method="GET", route="blob") for fault in faults]
        with pytest.raises(httpx.RemoteProtocolError):
            await peer.http.get(f"/v2/app/blobs/{digest}")
        await peer.registry.settled()
        assert peer.journal[-1].fault == "throttle,corrupt,cut"
        assert peer.journal[-1].bytes_out == 50_000
        assert clock() == pytest.approx(5.0)
        assert [rule.applied for rule in rules] == [1, 1, 1]


async def test_a_rule_that_is_removed_lets_go_of_what_it_holds(peer: Peer) -> None:
    rule = peer.registry.faults.add("base stall")
    asking = asyncio.ensure_future(statuses(peer, 1))
    await peer.until(lambda: rule.applied)
    rule.remove()
    assert await asking == [200]


async def test_a_registry_that_stops_serving_lets_go_of_what_it_holds(open_peer: OpenPeer) -> None:
    async with open_peer("port") as peer:
        rule = peer.registry.faults.add("base stall")
        async with httpx.AsyncClient(base_url=peer.http.base_url, trust_env=False) as http:
            asking = asyncio.ensure_future(http.get("/v2/"))
            await peer.until(lambda: rule.applied)
            peer.registry.faults.release()
            assert (await asking).status_code == 200


@pytest.mark.parametrize(
    ("given", "conditions", "complaint"),
    [
        ("base status 503", {"nth": 1}, "conditions are given apart only for an effect"),
        (Fault(Status(503)), {"nth": 1}, "conditions are given apart only for an effect"),
        (Status(503), {"nht": 1}, "unknown condition 'nht', did you mean 'nth'?"),
        (Status(503), {"nth": 0}, "nth: 0 is not a count from 1"),
    ],
)
async def test_conditions_that_cannot_be_are_refused(
    peer: Peer, given: Any, conditions: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(FaultError, match=complaint):
        peer.registry.faults.add(given, **conditions)
    assert not peer.registry.faults.active
