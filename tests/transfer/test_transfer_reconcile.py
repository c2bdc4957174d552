"""Ledger and journal side by side: exact where nothing broke, bounded where something did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mock_registry import Journal, Record, Route
from regsim.core import Digest, Role, media_types
from regsim.core.account import Account
from regsim.core.ledger import Direction, Entry, Evidence, Ledger, Outcome, Tally
from regsim.errors import NetworkError, NotFoundError
from regsim.scenario.reconcile import reconcile
from tests.transfer.shop import lawful

DIGEST, OTHER = Digest.of(b"base"), Digest.of(b"other")
SIZE = 100


def record(method: str, route: Route, **fields: Any) -> Record:
    standard = Record(
        number=1,
        method=method,
        target="/",
        route=route,
        repository="shop/api",
        reference=None,
        digest=DIGEST,
        session=None,
        mounted_from=None,
        status=200,
        bytes_in=0,
        bytes_out=0,
        complete=True,
        fault=None,
        started=0.0,
        ended=0.0,
    )
    return replace(standard, **fields)


def journal_of(*records: Record) -> Journal:
    journal = Journal()
    for each in records:
        journal.append(each)
    return journal


ASKED = record("HEAD", Route.BLOB, status=404)
OPENED = record("POST", Route.UPLOADS, digest=None, session="s", status=202)
SENT = record("PUT", Route.UPLOAD, session="s", status=201, bytes_in=SIZE)
READ = record("GET", Route.BLOB, bytes_out=SIZE)


def entry(**fields: Any) -> Entry:
    """Return a layer of 100 bytes that was uploaded in three requests."""
    standard = Entry(
        digest=DIGEST,
        size=SIZE,
        media_type=media_types.OCI_LAYER_GZIP,
        role=Role.LAYER,
        direction=Direction.PUSH,
        outcome=Outcome.TRANSFERRED,
        evidence=Evidence.UPLOAD,
        wire_sent=SIZE,
        requests=3,
        attempts=1,
    )
    return lawful(replace(standard, **fields))


def pulled(**fields: Any) -> Entry:
    standard = entry(
        direction=Direction.PULL,
        evidence=Evidence.DOWNLOAD,
        wire_sent=0,
        wire_received=SIZE,
        requests=1,
    )
    return lawful(replace(standard, **fields))


def ledger_of(*entries: Entry, **fields: Any) -> Ledger:
    direction = entries[0].direction if entries else Direction.PULL
    standard = Ledger(
        direction=direction,
        reference="shop/api:v1",
        sends=direction is not Direction.PULL,
        receives=direction is not Direction.PUSH,
        entries=entries,
        referenced=Tally(len(entries), sum(each.size for each in entries)),
    )
    return replace(standard, **fields)


def differences(ledger: Ledger, *records: Record, beside: Account | None = None) -> tuple[str, ...]:
    found = reconcile([ledger], journal_of(*records), beside=beside)
    assert found.matched is (not found.differences)
    return found.differences


# Undisturbed: to the byte.


def test_two_accounts_of_one_upload_agree() -> None:
    assert differences(ledger_of(entry()), ASKED, OPENED, SENT) == ()


def test_nothing_agrees_with_nothing() -> None:
    assert reconcile([], Journal()).matched is True


@pytest.mark.parametrize(("theirs", "written"), [(99, "99"), (101, "101"), (123_456, "123,456")])
def test_upload_that_the_registry_counted_otherwise_is_named_with_both_figures(
    theirs: int, written: str
) -> None:
    sent = replace(SENT, bytes_in=theirs)
    assert differences(ledger_of(entry()), ASKED, OPENED, sent) == (
        f"sent, {DIGEST}: ledger 100 bytes, journal {written}",
    )


@pytest.mark.parametrize("theirs", [99, 101])
def test_download_that_the_registry_counted_otherwise_is_named_with_both_figures(theirs: int) -> None:
    assert differences(ledger_of(pulled()), replace(READ, bytes_out=theirs)) == (
        f"received, {DIGEST}: ledger 100 bytes, journal {theirs}",
    )


def test_laws_that_a_ledger_breaks_are_told_with_its_name() -> None:
    broken = ledger_of(entry(wire_sent=99), referenced=Tally(2, SIZE))
    found = differences(broken, ASKED, OPENED, replace(SENT, bytes_in=99))
    assert found == (
        "push shop/api:v1: references: 2 but sum over outcomes: 1",
        f"push shop/api:v1: layer {DIGEST.short}: sent: 99 but useful + wasted: 100",
    )


def test_chunks_of_a_session_are_those_of_what_it_was_committed_as() -> None:
    chunk = record("PATCH", Route.UPLOAD, digest=None, session="s", status=202, bytes_in=60)
    rest = replace(SENT, bytes_in=40)
    assert differences(ledger_of(entry(requests=4)), ASKED, OPENED, chunk, rest) == ()


def test_blob_in_a_single_post_is_an_upload() -> None:
    post = record("POST", Route.UPLOADS, session="s", status=201, bytes_in=SIZE)
    assert differences(ledger_of(entry(requests=2)), ASKED, post) == ()


def test_manifest_in_a_put_is_an_upload() -> None:
    manifest = entry(role=Role.MANIFEST, media_type=media_types.OCI_MANIFEST, requests=2)
    asked = record("HEAD", Route.MANIFEST, digest=None, reference="v1", status=404)
    put = record("PUT", Route.MANIFEST, reference="v1", status=201, bytes_in=SIZE)
    assert differences(ledger_of(manifest), asked, put) == ()


def test_part_of_a_blob_is_content_and_a_refusal_is_not() -> None:
    part = replace(READ, status=206, bytes_out=1)
    refusal = replace(READ, status=404, bytes_out=70)
    asked = entry(
        wire_received=1,
        wasted_received=1,
        requests=5,
        overhead=70,
    )
    assert differences(ledger_of(asked), ASKED, OPENED, SENT, part, refusal) == ()


@pytest.mark.parametrize("route", [Route.TAGS, Route.BASE, Route.UPLOAD, Route.REFERRERS])
def test_what_is_neither_blob_nor_manifest_is_overhead(route: Route) -> None:
    listed = record("GET", route, digest=None, bytes_out=33)
    assert differences(ledger_of(entry(requests=4, overhead=33)), ASKED, OPENED, SENT, listed) == ()
    assert differences(ledger_of(entry(requests=4)), ASKED, OPENED, SENT, listed) == (
        "overhead, in all: ledger 0 bytes, journal 33",
    )


def test_body_of_a_request_that_uploads_nothing_is_overhead() -> None:
    odd = record("DELETE", Route.UPLOAD, digest=None, bytes_in=5)
    assert differences(ledger_of(entry(requests=4, overhead=5)), ASKED, OPENED, SENT, odd) == ()
    patched = record("PATCH", Route.MANIFEST, digest=None, bytes_in=5)
    assert differences(ledger_of(entry(requests=4, overhead=5)), ASKED, OPENED, SENT, patched) == ()


def test_requests_are_compared_by_digest_and_in_all() -> None:
    assert differences(ledger_of(entry(requests=2)), ASKED, OPENED, SENT, ASKED) == (
        f"requests, {DIGEST}: ledger 2, journal 4",
        "requests, in all: ledger 2, journal 4",
    )
    assert differences(ledger_of(entry(requests=4)), ASKED, OPENED, SENT) == (
        "requests, in all: ledger 4, journal 3",
    )


def test_requests_that_one_digest_lacks_are_not_made_good_by_another() -> None:
    two = ledger_of(entry(requests=5), entry(digest=OTHER, requests=1))
    others = (replace(each, digest=each.digest and OTHER, session="t") for each in (OPENED, SENT))
    found = differences(two, ASKED, OPENED, SENT, replace(ASKED, digest=OTHER), *others)
    assert found == (f"requests, {OTHER}: ledger 1, journal 3",)


def test_entries_of_one_digest_in_several_ledgers_are_added_up() -> None:
    second = [replace(each, repository="shop/web") for each in (ASKED, OPENED, SENT)]
    journal = journal_of(ASKED, OPENED, SENT, *second)
    assert reconcile([ledger_of(entry()), ledger_of(entry())], journal).differences == ()


# Outcomes.


def test_upload_that_only_one_side_knows_of_is_named() -> None:
    unmade = replace(SENT, status=202)
    assert differences(ledger_of(entry()), ASKED, OPENED, unmade) == (
        f"uploads, {DIGEST}: ledger 1, journal 0",
    )
    empty = entry(size=0, outcome=Outcome.EXISTS, evidence=Evidence.MANIFEST, wire_sent=0, attempts=0)
    assert differences(ledger_of(empty), ASKED, OPENED, replace(SENT, bytes_in=0)) == (
        f"uploads, {DIGEST}: ledger 0, journal 1",
    )


def test_mount_that_only_one_side_knows_of_is_named() -> None:
    mounted = entry(
        outcome=Outcome.MOUNTED,
        evidence=Evidence.CREATED,
        mounted_from="library/base",
        wire_sent=0,
        requests=2,
        attempts=0,
    )
    granted = record("POST", Route.UPLOADS, status=201, mounted_from="library/base")
    assert differences(ledger_of(mounted), ASKED, granted) == ()
    assert differences(ledger_of(mounted), ASKED, replace(granted, status=202, mounted_from=None)) == (
        f"mounts, {DIGEST} from library/base: ledger 1, journal 0",
    )
    exists = lawful(replace(mounted, outcome=Outcome.EXISTS, evidence=Evidence.MANIFEST, mounted_from=None))
    assert differences(ledger_of(exists), ASKED, granted) == (
        f"mounts, {DIGEST} from library/base: ledger 0, journal 1",
    )


@pytest.mark.parametrize(
    "answer",
    [
        record("HEAD", Route.BLOB, status=200),
        record("GET", Route.BLOB, status=206, bytes_out=1),
    ],
    ids=["HEAD", "GET of one byte"],
)
def test_what_was_found_by_asking_was_answered_so(answer: Record) -> None:
    one = answer.bytes_out
    found = entry(
        outcome=Outcome.EXISTS,
        evidence=Evidence.HEAD,
        wire_sent=0,
        wire_received=one,
        wasted_received=one,
        requests=1,
        attempts=0,
    )
    assert differences(ledger_of(found), answer) == ()
    denied = replace(answer, status=404, bytes_out=0)
    assert f"found by asking, {DIGEST}: the journal has no such answer" in differences(
        ledger_of(found), denied
    )


def test_pull_claims_no_upload() -> None:
    assert differences(ledger_of(pulled()), READ) == ()


# Tags.


def test_tag_that_named_another_digest_is_asked_for_on_the_account_of_the_new_one() -> None:
    manifest = entry(role=Role.MANIFEST, media_type=media_types.OCI_MANIFEST)
    moved = record("HEAD", Route.MANIFEST, digest=OTHER, reference="latest")
    absent = record("HEAD", Route.MANIFEST, reference=DIGEST, status=404)
    put = record("PUT", Route.MANIFEST, reference="latest", status=201, bytes_in=SIZE)
    assert differences(ledger_of(manifest), moved, absent, put) == ()


def test_manifest_that_a_tag_was_answered_with_is_on_the_account_of_what_was_sought() -> None:
    manifest = entry(
        role=Role.MANIFEST,
        media_type=media_types.OCI_MANIFEST,
        wire_received=70,
        wasted_received=70,
        requests=2,
    )
    by_get = record("GET", Route.MANIFEST, digest=OTHER, reference="latest", bytes_out=70)
    put = record("PUT", Route.MANIFEST, reference="latest", status=201, bytes_in=SIZE)
    assert differences(ledger_of(manifest), by_get, put) == ()
    assert differences(ledger_of(manifest), replace(by_get, bytes_out=71), put) == (
        "received, for no known digest: journal 1 bytes more than the ledger",
    )
    assert differences(ledger_of(manifest), replace(by_get, bytes_out=69), put) == (
        f"received, {DIGEST}: ledger 70 bytes, journal 0",
        "received, for no known digest: journal 69 bytes more than the ledger",
    )


def test_manifest_that_is_read_by_digest_and_by_tag_is_received_twice() -> None:
    manifest = entry(
        role=Role.MANIFEST,
        media_type=media_types.OCI_MANIFEST,
        direction=Direction.PULL,
        evidence=Evidence.DOWNLOAD,
        wire_sent=0,
        wire_received=2 * SIZE,
        wasted_received=SIZE,
        requests=2,
    )
    by_tag = record("GET", Route.MANIFEST, reference="v1", bytes_out=SIZE)
    by_digest = record("GET", Route.MANIFEST, reference=DIGEST, bytes_out=SIZE)
    assert differences(ledger_of(manifest), by_tag, by_digest) == ()


# Beside transfers.


def test_what_was_spent_beside_transfers_stands_for_its_own_requests() -> None:
    deleted = record("DELETE", Route.MANIFEST, reference="v1", status=202)
    refused = record("DELETE", Route.MANIFEST, reference="v2", digest=None, status=404, bytes_out=50)
    beside = Account(requests=2, overhead=50)
    assert differences(ledger_of(entry()), ASKED, OPENED, SENT, deleted, refused, beside=beside) == ()
    assert differences(ledger_of(entry()), ASKED, OPENED, SENT, deleted) == (
        f"requests, {DIGEST}: ledger 3, journal 4",
        "requests, in all: ledger 3, journal 4",
    )


def test_reference_that_was_not_found_is_reconciled_to_the_byte() -> None:
    error = NotFoundError("shop/api:v9 does not exist")
    missing = ledger_of(resolving=Account(requests=1), error=error)
    asked = record("HEAD", Route.MANIFEST, digest=None, reference="v9", status=404)
    assert differences(missing, asked) == ()
    assert differences(missing, replace(asked, bytes_out=3)) == (
        "overhead, in all: ledger 0 bytes, journal 3",
    )


def test_reference_that_could_not_be_asked_for_may_cost_what_nobody_saw() -> None:
    unreachable = ledger_of(resolving=Account(requests=4), error=NetworkError("no connection"))
    assert differences(unreachable) == ()


# Disturbed: bounded.


def failed(**fields: Any) -> Entry:
    return entry(outcome=Outcome.FAILED, evidence=Evidence.ERROR, **fields)


def test_upload_that_broke_off_may_have_given_more_than_was_taken() -> None:
    broken = ledger_of(failed(wire_sent=80, wasted_sent=80))
    cut = replace(SENT, status=None, bytes_in=60, complete=False)
    assert differences(broken, ASKED, OPENED, cut) == ()
    took_more = replace(cut, bytes_in=81)
    assert differences(broken, ASKED, OPENED, took_more) == (f"sent, {DIGEST}: ledger 80 bytes, journal 81",)


def test_octets_in_a_session_that_was_never_committed_are_set_against_what_broke_off() -> None:
    broken = ledger_of(failed(wire_sent=80, wasted_sent=80, requests=3))
    chunk = record("PATCH", Route.UPLOAD, digest=None, session="s", status=202, bytes_in=70)
    assert differences(broken, ASKED, OPENED, chunk) == ()
    more = replace(chunk, bytes_in=81)
    assert differences(broken, ASKED, OPENED, more) == (
        "sent, in sessions that were never committed: journal 1 bytes more than the ledger",
    )


def test_octets_in_a_session_that_was_never_committed_need_somebody_who_sent_them() -> None:
    stray = record("PATCH", Route.UPLOAD, digest=None, session="t", status=202, bytes_in=7)
    found = differences(ledger_of(entry(requests=4)), ASKED, OPENED, SENT, stray)
    assert found == ("sent, in sessions that were never committed: journal 7 bytes more than the ledger",)


def test_download_that_broke_off_may_have_been_given_more_than_arrived() -> None:
    cut = pulled(outcome=Outcome.FAILED, evidence=Evidence.ERROR, wire_received=60, wasted_received=60)
    given = replace(READ, bytes_out=90, complete=False)
    assert differences(ledger_of(cut), given) == ()
    assert differences(ledger_of(cut), replace(given, bytes_out=59)) == (
        f"received, {DIGEST}: ledger 60 bytes, journal 59",
    )


def test_download_that_was_cut_and_then_finished_is_bounded_by_the_record_that_says_so() -> None:
    resumed = pulled(requests=2)
    cut = replace(READ, bytes_out=70, complete=False)
    rest = replace(READ, status=206, bytes_out=40)
    assert differences(ledger_of(resumed), cut, rest) == ()
    assert differences(ledger_of(resumed), replace(cut, complete=True), rest) == (
        f"received, {DIGEST}: ledger 100 bytes, journal 110",
    )


def test_try_that_never_reached_the_registry_may_be_known_to_the_client_alone() -> None:
    retried = ledger_of(entry(wire_sent=130, wasted_sent=30, requests=4, attempts=2))
    assert differences(retried, ASKED, OPENED, SENT) == ()


def test_disturbance_excuses_overhead_that_only_one_side_knows_of() -> None:
    broken = ledger_of(failed(wire_sent=0, requests=3, overhead=4))
    assert differences(broken, ASKED, OPENED) == ()
    assert differences(ledger_of(entry(overhead=4)), ASKED, OPENED, SENT) == (
        "overhead, in all: ledger 4 bytes, journal 0",
    )


def test_disturbance_does_not_excuse_a_request_that_the_client_hides() -> None:
    broken = ledger_of(failed(wire_sent=0, requests=1))
    assert differences(broken, ASKED, OPENED) == ("requests, in all: ledger 1, journal 2",)


def test_disturbance_of_one_digest_does_not_excuse_the_bytes_of_another() -> None:
    broken = ledger_of(failed(wire_sent=0, requests=1), entry(digest=OTHER, wire_sent=101, wasted_sent=1))
    others = (
        replace(ASKED, digest=OTHER),
        OPENED,
        replace(SENT, digest=OTHER),
    )
    assert differences(broken, ASKED, *others) == (f"sent, {OTHER}: ledger 101 bytes, journal 100",)


def test_upload_that_was_done_though_the_client_does_not_know_is_excused_by_its_failure() -> None:
    assert differences(ledger_of(failed(wasted_sent=SIZE)), ASKED, OPENED, SENT) == ()


FOUND = record("HEAD", Route.BLOB)


@pytest.mark.parametrize("status", [None, 404, 500, 503])
def test_upload_whose_answer_was_lost_is_known_by_what_was_found_afterwards(status: int | None) -> None:
    lost = replace(SENT, status=status)
    uploaded = ledger_of(entry(requests=4))
    assert differences(uploaded, ASKED, OPENED, lost, FOUND) == ()
    assert f"uploads, {DIGEST}: ledger 1, journal 0" in differences(uploaded, ASKED, OPENED, lost, ASKED)


@pytest.mark.parametrize("status", [202, 401, 403])
def test_upload_that_was_refused_is_none_whatever_was_found_afterwards(status: int) -> None:
    refused = replace(SENT, status=status)
    assert f"uploads, {DIGEST}: ledger 1, journal 0" in differences(
        ledger_of(entry(requests=4)), ASKED, OPENED, refused, FOUND
    )


def test_one_lost_answer_stands_for_one_upload() -> None:
    lost = replace(SENT, status=503)
    twice = ledger_of(entry(wire_sent=SIZE), entry(requests=1, wire_sent=0))
    assert f"uploads, {DIGEST}: ledger 2, journal 1" in differences(twice, ASKED, OPENED, lost, FOUND)


def test_blob_in_a_single_post_whose_answer_was_lost_is_found_afterwards() -> None:
    lost = record("POST", Route.UPLOADS, status=503, bytes_in=SIZE)
    assert differences(ledger_of(entry()), ASKED, lost, FOUND) == ()


def test_mount_that_was_done_though_the_client_does_not_know_is_excused_by_its_failure() -> None:
    granted = record("POST", Route.UPLOADS, status=201, mounted_from="library/base")
    assert differences(ledger_of(failed(wire_sent=0, requests=2)), ASKED, granted) == ()


def test_copy_reads_once_and_writes_once_undisturbed() -> None:
    copied = entry(direction=Direction.COPY, wire_received=SIZE, requests=4, attempts=2)
    assert differences(ledger_of(copied), ASKED, OPENED, SENT, READ) == ()
    assert differences(ledger_of(copied), ASKED, OPENED, SENT, replace(READ, bytes_out=101)) == (
        f"received, {DIGEST}: ledger 100 bytes, journal 101",
    )
    again = replace(copied, attempts=3)
    assert differences(ledger_of(again), ASKED, OPENED, SENT, replace(READ, bytes_out=101)) == ()
