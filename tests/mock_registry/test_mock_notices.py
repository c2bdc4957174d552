"""What is said beside the answers: warnings, and the host that a pull is meant for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mock_registry import MockRegistry
from mock_registry.auth import BasicAuth
from mock_registry.auth.options import auth_from_words
from mock_registry.service import WARNING_LIMIT

if TYPE_CHECKING:
    import httpx

    from tests.mock_registry.conftest import OpenWith, Peer

pytestmark = pytest.mark.anyio

PULLS = ("blobs/{layer}", "manifests/v1", "manifests/{image}", "tags/list", "referrers/{image}")
HUB = {"docker.io": "hub", "quay.io": "mirrors/quay", "ghcr.io": ""}


# Warnings


async def test_end_1_to_end_14_every_answer_carries_the_warnings(with_settings: OpenWith) -> None:
    async with with_settings(warnings=["This registry is for tests.", 'A "quoted" \\ word']) as peer:
        wanted = ['299 - "This registry is for tests."', '299 - "A \\"quoted\\" \\\\ word"']
        await peer.push_image("app", "v1", layers=[b"layer"])
        location = await peer.open("app")
        for method, path, status in (
            ("GET", "/v2/", 200),
            ("GET", f"/v2/app/blobs/{peer.digest(b'layer')}", 200),
            ("HEAD", "/v2/app/manifests/v1", 200),
            ("GET", "/v2/app/manifests/none", 404),
            ("GET", "/v2/app/tags/list?n=-1", 400),
            ("GET", location, 204),
            ("DELETE", location, 204),
            ("PUT", "/v2/app/tags/list", 405),
            ("DELETE", "/v2/app/manifests/v1", 202),
            ("GET", "/v2/no/such/endpoint", 404),
        ):
            answer = await peer.http.request(method, path)
            assert (answer.status_code, answer.headers.get_list("warning")) == (status, wanted)


async def test_by_default_there_is_no_warning(peer: Peer) -> None:
    assert "warning" not in (await peer.http.get("/v2/")).headers


async def test_who_is_not_let_in_is_warned_too(with_settings: OpenWith) -> None:
    async with with_settings(warnings=["mind the gap"], auth=BasicAuth({"ci": "s3cret"})) as peer:
        answer = await peer.http.get("/v2/")
        assert (answer.status_code, answer.headers["warning"]) == (401, '299 - "mind the gap"')


async def test_a_made_up_answer_warns_of_nothing(with_settings: OpenWith) -> None:
    async with with_settings(warnings=["mind the gap"], faults=["base status 502 form=html"]) as peer:
        answer = await peer.http.get("/v2/")
        assert (answer.status_code, "warning" in answer.headers) == (502, False)


def test_warnings_fill_what_a_response_may_carry_and_no_more() -> None:
    text = "x" * (WARNING_LIMIT - len('299 - ""'))
    MockRegistry(warnings=[text])
    with pytest.raises(ValueError, match="warnings of 4097 bytes: a response carries 4096"):
        MockRegistry(warnings=[text + "x"])
    with pytest.raises(ValueError, match="warnings of 4105 bytes"):
        MockRegistry(warnings=[text, "x"])


@pytest.mark.parametrize("text", ["", "two\nlines", "tab\t", "é", "a\r\nSet-Cookie: b"])
def test_what_no_header_can_carry_is_no_warning(text: str) -> None:
    with pytest.raises(ValueError, match="a warning is a line of printable ASCII"):
        MockRegistry(warnings=[text])


# The host that a pull is meant for


async def pull(peer: Peer, image: bytes, name: str, ns: str | None) -> list[httpx.Response]:
    """Ask for everything that can be pulled of a repository."""
    digests = {"layer": peer.digest(b"layer"), "image": peer.digest(image)}
    params: dict[str, Any] = {} if ns is None else {"ns": ns}
    return [await peer.http.get(f"/v2/{name}/{path.format(**digests)}", params=params) for path in PULLS]


@pytest.mark.parametrize(("ns", "where"), [("docker.io", "hub/app"), ("quay.io", "mirrors/quay/app")])
async def test_end_2_end_3_end_8_end_12_a_pull_is_answered_from_the_repositories_of_its_host(
    with_settings: OpenWith, ns: str, where: str
) -> None:
    async with with_settings(namespaces=HUB) as peer:
        image = await peer.push_image(where, "v1", layers=[b"layer"])
        answers = await pull(peer, image, "app", ns)
        assert [answer.status_code for answer in answers] == [200] * len(PULLS)
        assert {answer.headers["oci-namespace"] for answer in answers} == {ns}
        assert answers[0].content == b"layer"
        assert answers[1].content == answers[2].content == image
        assert answers[3].json() == {"name": "app", "tags": ["v1"]}
        assert {record.repository for record in peer.journal if record.method == "GET"} == {where}


async def test_end_3_what_another_host_has_is_not_there(with_settings: OpenWith) -> None:
    async with with_settings(namespaces=HUB) as peer:
        image = await peer.push_image("hub/app", "v1", layers=[b"layer"])
        answers = await pull(peer, image, "app", "quay.io")
        assert [answer.status_code for answer in answers] == [404, 404, 404, 404, 200]
        assert answers[-1].json()["manifests"] == []
        assert {answer.headers["oci-namespace"] for answer in answers} == {"quay.io"}


async def test_a_host_without_a_prefix_has_the_names_as_they_are(with_settings: OpenWith) -> None:
    async with with_settings(namespaces=HUB) as peer:
        image = await peer.push_image("app", "v1", layers=[b"layer"])
        answers = await pull(peer, image, "app", "ghcr.io")
        assert [answer.status_code for answer in answers] == [200] * len(PULLS)
        assert {answer.headers["oci-namespace"] for answer in answers} == {"ghcr.io"}


@pytest.mark.parametrize("ns", [None, "", "example.org", "docker.io "])
async def test_a_pull_that_names_no_host_or_another_one_is_answered_as_ever(
    with_settings: OpenWith, ns: str | None
) -> None:
    async with with_settings(namespaces=HUB) as peer:
        image = await peer.push_image("app", "v1", layers=[b"layer"])
        answers = await pull(peer, image, "app", ns)
        assert [answer.status_code for answer in answers] == [200] * len(PULLS)
        assert not any("oci-namespace" in answer.headers for answer in answers)


async def test_a_registry_that_is_no_proxy_ignores_the_host(peer: Peer) -> None:
    image = await peer.push_image("app", "v1", layers=[b"layer"])
    answers = await pull(peer, image, "app", "docker.io")
    assert [answer.status_code for answer in answers] == [200] * len(PULLS)
    assert not any("oci-namespace" in answer.headers for answer in answers)


async def test_what_changes_something_is_no_pull(with_settings: OpenWith) -> None:
    async with with_settings(namespaces=HUB) as peer:
        params = {"digest": peer.digest(b"x"), "ns": "docker.io"}
        answer = await peer.http.post("/v2/app/blobs/uploads/", params=params, content=b"x")
        assert (answer.status_code, "oci-namespace" in answer.headers) == (201, False)
        assert peer.registry.repositories == ("app",)
        answer = await peer.http.delete(answer.headers["location"], params={"ns": "docker.io"})
        assert (answer.status_code, "oci-namespace" in answer.headers) == (202, False)


async def test_end_8b_the_link_to_the_next_page_keeps_the_host(with_settings: OpenWith) -> None:
    async with with_settings(namespaces=HUB) as peer:
        for tag in ("1", "2", "3"):
            await peer.push_image("hub/app", tag)
        found, url = [], "/v2/app/tags/list?n=1&ns=docker.io"
        while url:
            answer = await peer.http.get(url)
            found += answer.json()["tags"]
            url = answer.links["next"]["url"] if answer.links else ""
        assert found == ["1", "2", "3"]


async def test_end_12a_the_link_to_more_referrers_keeps_the_host(with_settings: OpenWith) -> None:
    async with with_settings(namespaces=HUB, manifest_limit=1500) as peer:
        subject = await peer.push_image("hub/app", "1")
        for number in range(4):
            await peer.push_image(
                "hub/app",
                None,
                subject=peer.descriptor(subject, peer.OCI_MANIFEST),
                annotations={"text": str(number) * 600},
            )
        found, url = [], f"/v2/app/referrers/{peer.digest(subject)}?ns=docker.io"
        while url:
            answer = await peer.http.get(url)
            found += answer.json()["manifests"]
            url = answer.links["next"]["url"] if answer.links else ""
        assert len({each["digest"] for each in found}) == 4


async def test_who_may_read_what_is_decided_by_where_it_is(with_settings: OpenWith) -> None:
    auth = auth_from_words("basic", users=["ci:s3cret"], rights=["ci=hub/**:pull,push"])
    async with with_settings(namespaces=HUB, auth=auth) as peer:
        peer.http.auth = ("ci", "s3cret")
        await peer.push_image("hub/app", "v1", layers=[b"layer"])
        params = {"ns": "docker.io"}
        assert (await peer.http.get("/v2/app/manifests/v1", params=params)).status_code == 200
        assert (await peer.http.get("/v2/app/manifests/v1", params={"ns": "quay.io"})).status_code == 403
        assert (await peer.http.get("/v2/app/manifests/v1")).status_code == 403


async def test_a_name_that_is_too_long_below_its_prefix_is_not_there(with_settings: OpenWith) -> None:
    async with with_settings(namespaces=HUB) as peer:
        answer = await peer.http.get(f"/v2/{'x' * 255}/manifests/v1", params={"ns": "docker.io"})
        assert (answer.status_code, peer.codes(answer)) == (404, ["NAME_UNKNOWN"])


@pytest.mark.parametrize(
    ("namespaces", "complaint"),
    [
        ({"docker io": ""}, "not a host: 'docker io'"),
        ({"": ""}, "not a host: ''"),
        ({"docker.io\r\nX": ""}, "not a host"),
        ({"docker.io": "Hub"}, "not the beginning of a repository's name: 'Hub'"),
        ({"docker.io": "hub/"}, "not the beginning of a repository's name: 'hub/'"),
    ],
)
def test_what_is_no_host_or_no_prefix_is_refused(namespaces: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        MockRegistry(namespaces=namespaces)
