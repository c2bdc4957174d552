"""The specification's table: which tests hold each row, and what belongs to no single endpoint."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mock_registry.spec import ErrorCode

if TYPE_CHECKING:
    from tests.mock_registry.conftest import Peer, WirePeer

pytestmark = pytest.mark.anyio

ENDPOINTS = (
    *("1", "2", "3", "4a", "4b", "4c", "5", "6", "7a", "7b"),
    *("8a", "8b", "9", "10", "11", "12a", "12b", "13", "14"),
)

EASY_TO_FORGET = {
    "n=0, n<0, n=abc, Link, page walk, order": [
        "test_end_8b_n_of_0_is_an_empty_list_without_a_link",
        "test_end_8b_n_that_is_no_number_from_0_is_400",
        "test_end_8b_pages_lead_through_all_tags_by_their_links",
        "test_end_8a_tags_are_listed_in_ascii_order",
    ],
    "grammar of names and tags": [
        "test_a_bad_name_is_400_on_every_endpoint_and_makes_nothing",
        "test_a_good_name_is_taken_even_if_it_reads_like_a_path",
        "test_end_7a_a_bad_tag_is_400_on_put_and_404_on_get",
        "test_end_7a_a_good_tag_is_taken",
    ],
    "codes of 404 and 400": [
        "test_end_3_an_unknown_repository_and_an_unknown_manifest_are_told_apart",
        "test_end_7a_what_is_no_manifest_is_400",
        "test_end_1_to_end_14_every_code_of_the_specification_is_answered",
    ],
    "Range on PATCH": [
        "test_end_5_chunks_in_order_are_appended",
        "test_end_5_a_stream_of_unknown_length_is_appended",
    ],
    "OCI-Chunk-Min-Length": [
        "test_end_4a_the_smallest_chunk_is_announced",
        "test_end_5_only_the_last_chunk_may_be_short",
    ],
    "digest-algorithm": [
        "test_end_4c_an_announced_algorithm_is_followed",
        "test_end_4c_an_unknown_algorithm_is_400",
        "test_end_4c_an_algorithm_that_nobody_announced_is_found_when_the_digest_comes",
        "test_end_4c_an_algorithm_that_was_announced_need_not_be_the_one_that_comes",
    ],
    "413 and its boundary": [
        "test_end_7a_a_manifest_of_exactly_the_limit_is_taken_and_one_octet_more_is_413",
        "test_end_7a_four_mebibytes_are_taken_by_default_and_nine_get_a_proper_413",
    ],
    "isolation of repositories": [
        "test_end_2_a_blob_of_another_repository_does_not_leak",
        "test_end_3_a_manifest_of_another_repository_does_not_leak",
        "test_end_7a_blobs_of_another_repository_are_missing",
        "test_end_10_delete_removes_the_blob_from_its_repository_alone",
        "test_end_12a_referrers_of_another_repository_do_not_leak",
    ],
    "Accept, parameters, mediaType unlike Content-Type": [
        "test_end_3_a_manifest_that_is_not_accepted_is_404",
        "test_end_3_accept_may_come_in_several_lines",
        "test_end_7a_content_type_parameters_do_not_count",
        "test_end_7a_content_type_and_media_type_must_agree",
    ],
    "referrers": [
        "test_end_12a_a_bad_digest_is_400",
        "test_end_12a_a_list_that_does_not_fit_comes_in_pages",
        "test_end_12a_a_deleted_referrer_leaves_the_list_and_a_deleted_subject_does_not_empty_it",
        "test_end_12a_what_an_older_client_kept_under_the_fallback_tag_is_listed_too",
    ],
    "mount from what is unknown, forbidden, invalid or the same": [
        "test_end_11_a_mount_that_cannot_be_opens_a_session_and_put_goes_on",
        "test_end_11_a_mount_from_what_may_not_be_read_opens_a_session_and_tells_nothing",
        "test_end_11_a_blob_that_is_there_already_is_201",
    ],
    "warnings": ["test_end_1_to_end_14_every_answer_carries_the_warnings"],
    "redirects and Authorization": [
        "test_fault_23_blobs_are_redirected_to_a_host_that_wants_no_credentials",
    ],
    "concurrency": [
        "test_a_blob_that_eight_clients_push_at_once_is_stored_once",
        "test_of_eight_clients_that_move_a_tag_at_once_one_is_the_last",
        "test_a_blob_pushed_while_its_last_holder_deletes_it_is_there",
        "test_a_manifest_pushed_while_it_is_deleted_is_there_or_not_but_never_half",
    ],
    "bodies that break off, wrong lengths, resuming": [
        "test_end_5_a_half_sent_body_is_kept_and_resumed",
        "test_end_6_a_half_sent_put_is_resumed_with_the_rest",
        "test_a_length_beyond_the_body_is_408_when_patience_ends",
        "test_octets_beyond_the_length_are_the_next_request_and_garbage",
    ],
    "sessions of another repository, closed, expired": [
        "test_end_5_a_session_of_another_repository_is_404",
        "test_end_6_a_closed_session_is_404",
        "test_end_14_a_session_that_nobody_used_for_its_lifetime_is_404_and_its_space_is_free",
    ],
    "no body of a HEAD, of errors either": [
        "test_end_2_end_3_end_8_end_12_end_13_a_head_has_no_body_whatever_it_is_answered",
    ],
    "TLS": ["test_content_goes_in_and_out_unchanged_and_is_counted_without_what_tls_adds"],
    "If-None-Match and ETag": [
        "test_end_2_a_client_that_has_the_blob_gets_304",
        "test_end_3_a_client_that_has_the_manifest_gets_304",
    ],
    "Retry-After": [
        "test_fault_01_requests_above_a_rate_are_refused_and_retry_after_is_told_in_seconds",
        "test_fault_01_retry_after_may_be_a_date_or_absent",
    ],
}
"""Section 5 of the table: each entry with the tests that hold it."""


def names_of_tests() -> list[str]:
    return [
        node.name
        for file in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_every_endpoint_has_tests_that_are_named_after_it() -> None:
    names = names_of_tests()
    assert [end for end in ENDPOINTS if not any(f"test_end_{end}_" in name for name in names)] == []


def test_everything_that_is_easy_to_forget_has_its_tests() -> None:
    assert len(EASY_TO_FORGET) == 20
    names = set(names_of_tests())
    assert [each for tests in EASY_TO_FORGET.values() for each in tests if each not in names] == []


# What belongs to no single endpoint


async def test_end_2_end_3_end_8_end_12_end_13_a_head_has_no_body_whatever_it_is_answered(
    wire_peer: WirePeer,
) -> None:
    # On a bare connection a body would be taken for the next answer.
    wire = await wire_peer.connect()
    for path, status in (
        ("/v2/", 200),
        ("/v2/UPPER/tags/list", 400),
        ("/v2/app/tags/list", 404),
        ("/v2/app/tags/list?n=-1", 404),
        ("/v2/_catalog?n=x", 400),
        (f"/v2/app/blobs/sha256:{'0' * 64}", 404),
        ("/v2/app/blobs/sha256:short", 400),
        ("/v2/app/manifests/none", 404),
        ("/v2/app/manifests/sha256:short", 400),
        ("/v2/app/referrers/latest", 400),
        (f"/v2/app/referrers/sha256:{'0' * 64}", 200),
        ("/v2/app/blobs/uploads/none", 404),
        ("/v2/app/blobs/uploads/", 405),
        ("/v2/no/such/endpoint", 404),
    ):
        head = await wire.ask(f"HEAD {path} HTTP/1.1\r\nHost: r\r\n\r\n".encode(), method="HEAD")
        assert (head[0], head[2]) == (status, b"")
        got = await wire.ask(f"GET {path} HTTP/1.1\r\nHost: r\r\n\r\n".encode())
        assert got[0] == status
        if status != 405:  # its error names the method; all others tell how long the GET's body would be
            assert got[1]["content-length"] == head[1]["content-length"]
    assert all(record.bytes_out == 0 for record in wire_peer.journal if record.method == "HEAD")


async def test_end_1_to_end_14_every_code_of_the_specification_is_answered(peer: Peer) -> None:
    """Those that need users or too many requests have their tests with those."""
    http = peer.http
    await peer.push("app", b"{}")
    location = (await http.patch(await peer.open("app"), content=b"x")).headers["location"]
    chunk = {"Content-Range": "0-4"}
    big = peer.image() + b" " * (4 << 20)
    answers = [
        await http.get(f"/v2/app/blobs/{peer.digest(b'absent')}"),
        await http.patch(location, content=b"later", headers={"Content-Range": "9-13"}),
        await http.get("/v2/app/blobs/uploads/none"),
        await http.put(location, params=peer.also(location, digest="sha256:short")),
        await peer.put("app", "1", peer.image(layers=[b"absent"])),
        await peer.put("app", "1", b"no manifest"),
        await http.get("/v2/app/manifests/none"),
        await http.get("/v2/UPPER/tags/list"),
        await http.get("/v2/none/tags/list"),
        await http.patch(await peer.open("app"), content=b"too long", headers=chunk),
        await peer.put("app", "1", big),
        await http.put("/v2/app/tags/list"),
    ]
    assert [(answer.status_code, *peer.codes(answer)) for answer in answers] == [
        (404, ErrorCode.BLOB_UNKNOWN),
        (416, ErrorCode.BLOB_UPLOAD_INVALID),
        (404, ErrorCode.BLOB_UPLOAD_UNKNOWN),
        (400, ErrorCode.DIGEST_INVALID),
        (400, ErrorCode.MANIFEST_BLOB_UNKNOWN),
        (400, ErrorCode.MANIFEST_INVALID),
        (404, ErrorCode.MANIFEST_UNKNOWN),
        (400, ErrorCode.NAME_INVALID),
        (404, ErrorCode.NAME_UNKNOWN),
        (400, ErrorCode.SIZE_INVALID),
        (413, ErrorCode.SIZE_INVALID),
        (405, ErrorCode.UNSUPPORTED),
    ]


async def test_end_4a_a_body_without_a_digest_is_read_counted_and_not_kept(peer: Peer) -> None:
    answer = await peer.http.post("/v2/app/blobs/uploads/", content=b"whose?")
    assert (answer.status_code, answer.headers["range"]) == (202, "0-0")
    assert (peer.journal[-1].bytes_in, peer.journal[-1].complete) == (6, True)
    assert peer.registry.storage.used == 0


async def test_end_4c_an_algorithm_that_was_announced_need_not_be_the_one_that_comes(peer: Peer) -> None:
    location = await peer.open("app", **{"digest-algorithm": "sha512"})
    location = (await peer.http.patch(location, content=b"content")).headers["location"]
    digest = peer.digest(b"content")
    answer = await peer.http.put(location, params=peer.also(location, digest=digest))
    assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, digest)
    assert (await peer.http.get(answer.headers["location"])).content == b"content"


async def test_end_6_a_half_sent_put_is_resumed_with_the_rest(wire_peer: WirePeer) -> None:
    path = await wire_peer.session()
    digest = "sha256:9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"
    wire = await wire_peer.connect()
    await wire.send(
        b"PUT %b&digest=%b HTTP/1.1\r\nHost: r\r\nContent-Length: 12\r\n\r\nabc" % (path, digest.encode())
    )
    await wire_peer.reading(3)
    wire.half_close()
    assert (await wire.response())[0] == 400
    wire = await wire_peer.connect()
    status, headers, _ = await wire.ask(b"GET %b HTTP/1.1\r\nHost: r\r\n\r\n" % path)
    assert (status, headers["range"]) == (204, "0-2")
    request = f"PUT {headers['location']}&digest={digest} HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\n\r\n"
    assert (await wire.ask(request.encode(), b"defgh"))[0] == 201


async def test_end_7a_an_index_with_a_subject_says_so_too(peer: Peer) -> None:
    subject = peer.descriptor(b"not there yet", peer.OCI_MANIFEST)
    index = peer.index(await peer.push_image("app", None), subject=subject)
    for reference in ("1", peer.digest(index)):
        answer = await peer.put("app", reference, index, peer.OCI_INDEX)
        assert (answer.status_code, answer.headers["oci-subject"]) == (201, subject["digest"])
    plain = peer.index()
    assert "oci-subject" not in (await peer.put("app", "2", plain, peer.OCI_INDEX)).headers


async def test_end_7b_more_tags_than_a_request_may_name_are_414(wire_peer: WirePeer) -> None:
    wire = await wire_peer.connect()
    tags = "&".join(f"tag={'t' * 128}{number}"[:132] for number in range(200))
    target = f"/v2/app/manifests/sha256:{'0' * 64}?{tags}"
    status, _, _ = await wire.ask(f"PUT {target} HTTP/1.1\r\nHost: r\r\nContent-Length: 0\r\n\r\n".encode())
    assert status == 414
