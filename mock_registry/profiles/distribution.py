"""The program inside ``registry:2`` and ``registry:3``, and registries made of it.

Owns what is known of them. What of it a registry keeps that was made of them is said there.
"""

from mock_registry.faults.answers import SESSION_ROUTES
from mock_registry.journal import Route

from .describing import (
    bad_tags,
    blobs_make_no_repository,
    digests_alone_are_deleted,
    manifests_by_sha256,
    needs_a_content_type,
    no_referrers,
    oci_must_be_accepted,
    one_tag,
    silent_about_subjects,
    tags_in_no_order,
)
from .quirk import Profile, Quirk
from .serving import go_ranges
from .uploading import (
    chunks_are_streams,
    named_by_sha256,
    posts_only_open,
    stale_location_is_refused,
    stale_location_kills,
)
from .wording import (
    absolute_locations,
    any_method,
    charset_in_errors,
    only_method,
    pages_for_paths,
    redirect_to_slash,
    reword,
    with_header,
)

_BLOB = frozenset({Route.BLOB})
_MANIFEST = frozenset({Route.MANIFEST})
_TAGS = frozenset({Route.TAGS})
_UPLOAD = frozenset({Route.UPLOAD})
_YEAR = b"max-age=31536000"

SHARED = (
    Quirk("unknown paths, bad names and bad tags get a page, not an error", "probe", pages_for_paths),
    Quirk(
        "`/v2` and `…/uploads` are redirected to their slash",
        "probe",
        redirect_to_slash,
        frozenset({Route.BASE, Route.UPLOADS}),
    ),
    Quirk("`/v2/` answers any method", "probe", any_method, frozenset({Route.BASE})),
    Quirk("405 allows GET alone, in plain text", "probe", only_method(b"GET"), _TAGS),
    Quirk("locations are absolute", "probe", absolute_locations, SESSION_ROUTES | _MANIFEST),
    Quirk(
        "a blob is not taken with its POST, nor mounted without a source or by a bad digest: 202",
        "probe",
        posts_only_open,
        frozenset({Route.UPLOADS}),
    ),
    Quirk(
        "what is pushed or pulled by sha512 is named by its sha256",
        "probe",
        named_by_sha256,
        _BLOB | _UPLOAD,
    ),
    Quirk(
        "blobs may be cached for a year",
        "probe",
        with_header(b"cache-control", _YEAR, statuses=(200, 206, 304, 416)),
        _BLOB,
    ),
    Quirk("a manifest needs a Content-Type", "probe", needs_a_content_type, _MANIFEST),
    Quirk(
        "a manifest under a sha512 digest is DIGEST_INVALID",
        "distribution/distribution registry/handlers/manifests.go",
        manifests_by_sha256,
        _MANIFEST,
    ),
    Quirk("a bad tag is no path: 404", "probe", bad_tags(404, None), _MANIFEST),
    Quirk(
        "a manifest above 4 MiB is invalid (400), not too large",
        "probe",
        reword({"413 SIZE_INVALID": "400 MANIFEST_INVALID"}),
        _MANIFEST,
    ),
    Quirk(
        "an OCI manifest is served only to an Accept that names its type; `*/*` does not",
        "probe",
        oci_must_be_accepted,
        _MANIFEST,
    ),
    Quirk(
        "manifests of an unknown repository are MANIFEST_UNKNOWN",
        "probe",
        reword({"404 NAME_UNKNOWN": "404 MANIFEST_UNKNOWN"}),
        _MANIFEST,
    ),
    Quirk("one push sets one tag", "probe", one_tag, _MANIFEST),
    Quirk("no referrers: 404", "probe", no_referrers, frozenset({Route.REFERRERS})),
    Quirk("no OCI-Subject", "probe", silent_about_subjects, _MANIFEST),
    Quirk("a repository of blobs alone has no list of tags: 404", "probe", blobs_make_no_repository, _TAGS),
)


def distribution_2() -> Profile:
    """Return Debian's docker-registry 2.8.2."""
    return Profile(
        "distribution-2.8",
        "distribution 2.8.2, the program inside `registry:2`, deletes enabled",
        (
            *SHARED,
            Quirk("errors tell their charset", "probe", charset_in_errors),
            Quirk(
                "a location that is not the newest one is 404 BLOB_UPLOAD_INVALID and kills the session: a "
                "broken upload cannot be resumed",
                "probe, distribution/distribution#2593",
                stale_location_kills,
                _UPLOAD,
            ),
            Quirk(
                "Content-Range of a chunk is ignored: it is appended", "probe", chunks_are_streams, _UPLOAD
            ),
            Quirk(
                "several ranges come as multipart; a 416 tells the length of the blob and ends early",
                "probe",
                go_ranges(several=True, broken=True),
                _BLOB,
            ),
            Quirk("tags are in no order, `n` and `last` are ignored", "probe", tags_in_no_order, _TAGS),
            Quirk("tags cannot be deleted: 400", "probe", digests_alone_are_deleted, _MANIFEST),
        ),
    )


def distribution_3() -> Profile:
    """Return distribution 3.1."""
    return Profile(
        "distribution-3",
        "distribution 3.1, the program inside `registry:3`, deletes enabled",
        (
            *SHARED,
            Quirk(
                "writing to a location that is not the newest one is 416 RANGE_INVALID",
                "probe",
                stale_location_is_refused,
                _UPLOAD,
            ),
            Quirk(
                "a chunk out of order is 416 RANGE_INVALID, without a Range; with a bad Content-Range, 500",
                "probe",
                reword(
                    {"416 BLOB_UPLOAD_INVALID": "416 RANGE_INVALID", "400 BLOB_UPLOAD_INVALID": "500 UNKNOWN"}
                ),
                _UPLOAD,
                frozenset({"PATCH"}),
            ),
            Quirk(
                "Content-Range of a commit is ignored",
                "opencontainers/distribution-spec#590",
                chunks_are_streams,
                _UPLOAD,
                frozenset({"PUT"}),
            ),
            Quirk("ranges that cannot be served are 416 in plain text", "probe", go_ranges(), _BLOB),
            Quirk(
                "a bad `n` is PAGINATION_NUMBER_INVALID",
                "probe",
                reword({"400 UNSUPPORTED": "400 PAGINATION_NUMBER_INVALID"}),
                _TAGS,
            ),
        ),
    )
