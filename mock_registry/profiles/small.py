"""Small registries that people test with: olareg, and the one in go-containerregistry.

Owns what is known of them.
"""

from mock_registry.faults.answers import SESSION_ROUTES
from mock_registry.journal import Route

from .describing import (
    bad_tags,
    bare_404s,
    believes_the_media_type,
    blobs_make_no_repository,
    catalog_without_links,
    every_repository_exists,
    keeps_whatever_comes,
    no_catalog,
    numbers_break_it,
    referrers_of_anything,
    tags_from_somewhere,
    unknown_methods,
    unquoted_links,
)
from .quirk import Profile, Quirk
from .serving import deletes_of_nothing, go_ranges, one_store_for_all, ranges_of_two_numbers
from .uploading import (
    digests_are_names,
    empty_session_ends_before_0,
    mismatch_kills,
    mismatch_of_a_post,
    never_mount,
    sessions_of_nobody,
    stale_location_is_invalid,
    start_alone_counts,
)
from .wording import any_method, empty_base, errors_as_text, reword, without

_BASE = frozenset({Route.BASE})
_BLOB = frozenset({Route.BLOB})
_CATALOG = frozenset({Route.CATALOG})
_MANIFEST = frozenset({Route.MANIFEST})
_REFERRERS = frozenset({Route.REFERRERS})
_TAGS = frozenset({Route.TAGS})
_UPLOAD = frozenset({Route.UPLOAD})
_UPLOADS = frozenset({Route.UPLOADS})
_WRITES = frozenset({"PATCH", "PUT"})


def olareg() -> Profile:
    """Return olareg."""
    return Profile(
        "olareg",
        "olareg 0.2.2, deletes of manifests and blobs enabled",
        (
            Quirk("errors are told as text/plain", "probe", errors_as_text),
            Quirk("unknown paths, bad names and other methods are 404 without a body", "probe", bare_404s),
            Quirk(
                "an opened session tells neither Range nor UUID",
                "probe",
                without(b"range", b"docker-upload-uuid", statuses=(202,)),
                _UPLOADS,
            ),
            Quirk("a session tells no UUID", "probe", without(b"docker-upload-uuid"), _UPLOAD),
            Quirk("a session of no octets is `0--1`", "probe", empty_session_ends_before_0, _UPLOAD),
            Quirk(
                "an unknown session is 400 BLOB_UPLOAD_UNKNOWN",
                "probe",
                reword({"404 BLOB_UPLOAD_UNKNOWN": "400 BLOB_UPLOAD_UNKNOWN"}),
                _UPLOAD,
            ),
            Quirk(
                "a chunk out of order is 416 SIZE_INVALID; its end is not looked at",
                "probe",
                start_alone_counts,
                _UPLOAD,
                _WRITES,
            ),
            Quirk(
                "writing to a location that is not the newest one is 400 BLOB_UPLOAD_INVALID",
                "probe",
                stale_location_is_invalid,
                _UPLOAD,
                _WRITES,
            ),
            Quirk(
                "a commit under another digest, or none, ends the session",
                "probe, olareg/olareg blob.go",
                mismatch_kills,
                _UPLOAD,
                frozenset({"PUT"}),
            ),
            Quirk(
                "a blob that comes with its POST under another digest is BLOB_UPLOAD_INVALID",
                "probe",
                mismatch_of_a_post,
                _UPLOADS,
            ),
            Quirk("no ETag", "probe", without(b"etag"), _BLOB | _MANIFEST),
            Quirk("ranges that cannot be served are 416 in plain text", "probe", go_ranges(), _BLOB),
            Quirk("the delete of a missing blob is 202", "probe", deletes_of_nothing, _BLOB),
            Quirk("a manifest's Content-Type need not agree", "probe", believes_the_media_type, _MANIFEST),
            Quirk("a bad tag is DIGEST_INVALID", "probe", bad_tags(400, "DIGEST_INVALID"), _MANIFEST),
            Quirk(
                "manifests of an unknown repository are MANIFEST_UNKNOWN",
                "probe",
                reword({"404 NAME_UNKNOWN": "404 MANIFEST_UNKNOWN"}),
                _MANIFEST,
            ),
            Quirk("referrers of a bad digest are an empty list", "probe", referrers_of_anything, _REFERRERS),
            Quirk("links are unquoted", "probe", unquoted_links, _TAGS),
            Quirk("`n` below 1 drops the connection, no number is none", "probe", numbers_break_it, _TAGS),
            Quirk("an unknown repository has an empty list of tags", "probe", every_repository_exists, _TAGS),
            Quirk("no catalog", "probe", no_catalog, _CATALOG),
        ),
        manifest_limit=8 << 20,
    )


def ggcr() -> Profile:
    """Return ``crane registry serve``."""
    return Profile(
        "ggcr",
        "`crane registry serve` of go-containerregistry 3f4ff3c",
        (
            Quirk("errors are told as text/plain", "probe", errors_as_text),
            Quirk(
                "unknown paths are 404, other methods 400, both METHOD_UNKNOWN; no referrers",
                "probe",
                unknown_methods,
                frozenset({Route.OTHER, Route.TAGS, Route.CATALOG, Route.REFERRERS}),
            ),
            Quirk("`/v2/` answers any method", "probe", any_method, _BASE),
            Quirk("`/v2/` has no body", "probe", empty_base, _BASE),
            Quirk(
                "no Location of what was stored",
                "probe",
                without(b"location", statuses=(201,)),
                SESSION_ROUTES | _MANIFEST,
            ),
            Quirk("a session tells no UUID", "probe", without(b"docker-upload-uuid"), SESSION_ROUTES),
            Quirk("every mount is a session", "probe", never_mount, _UPLOADS),
            Quirk(
                "sha512 and what is no digest are NAME_INVALID",
                "probe",
                digests_are_names,
                _UPLOAD,
                frozenset({"PUT"}),
            ),
            Quirk(
                "any name is a session, of any repository; its status and cancelling are 400",
                "probe, google/go-containerregistry pkg/registry/blobs.go",
                sessions_of_nobody,
                _UPLOAD,
            ),
            Quirk("blobs belong to no repository; deletes are for all", "probe", one_store_for_all, _BLOB),
            Quirk("only `bytes=a-b` within the blob is a range", "probe", ranges_of_two_numbers, _BLOB),
            Quirk(
                "blobs have no ETag, no Content-Type and no Accept-Ranges",
                "probe",
                without(b"etag", b"content-type", b"accept-ranges", statuses=(200, 206)),
                _BLOB,
            ),
            Quirk(
                "any octets are a manifest, under any name and tag; its tags outlive it",
                "probe",
                keeps_whatever_comes(),
                _MANIFEST,
            ),
            Quirk(
                "`last` may be ignored, nothing is linked, a negative `n` drops the connection",
                "probe",
                tags_from_somewhere,
                _TAGS,
            ),
            Quirk("a repository of blobs alone is unknown", "probe", blobs_make_no_repository, _TAGS),
            Quirk("the catalog links no next page", "probe", catalog_without_links, _CATALOG),
        ),
        manifest_limit=64 << 20,
    )
