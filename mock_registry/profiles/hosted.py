"""Registries that are run by others, as far as their users have told.

Owns what was reported of them. What nobody reported, they do as this registry does.
"""

from mock_registry.journal import Route

from .describing import (
    at_most_1000,
    fallback_tag_is_a_digest,
    no_referrers,
    no_referrers_as,
    pages_of,
    silent_about_subjects,
)
from .quirk import Profile, Quirk
from .uploading import (
    mounts_need_a_manifest,
    mounts_need_a_source,
    range_stands_still,
    stale_location_kills,
)
from .wording import empty_base, with_status, without

_LISTS = frozenset({Route.CATALOG, Route.TAGS})
_MANIFEST = frozenset({Route.MANIFEST})
_REFERRERS = frozenset({Route.REFERRERS})
_TAGS = frozenset({Route.TAGS})
_UPLOAD = frozenset({Route.UPLOAD})
_UPLOADS = frozenset({Route.UPLOADS})
_PATCH = frozenset({"PATCH"})
_GHCR_CAP = (
    "PATCH upload header=content-range name=ghcr-chunk-cap "
    "body_limit 4MiB status=416 form=json error=REQUESTED_RANGE_NOT_SATISFIABLE drain=yes"
)


def ecr() -> Profile:
    """Return Amazon's Elastic Container Registry."""
    return Profile(
        "ecr",
        "Amazon Elastic Container Registry",
        (
            Quirk(
                "`/v2/` has no body",
                "apple/swift-container-plugin#25",
                empty_base,
                frozenset({Route.BASE}),
            ),
            Quirk("a chunk is answered with 201", "jdx/mise#11376", with_status(202, 201), _UPLOAD, _PATCH),
            Quirk(
                "the Range of a session stands still after its first chunk, though all chunks are kept",
                "aws/containers-roadmap#2831, crashappsec/chalk#682",
                range_stands_still(),
                _UPLOAD,
            ),
            Quirk(
                "a blob is mounted once a manifest of its source refers to it, else 202",
                "aws/containers-roadmap#2860, bazel-contrib/rules_img#732",
                mounts_need_a_manifest,
                _UPLOADS,
            ),
            Quirk(
                "no Location of a stored manifest",
                "apple/swift-container-plugin#27",
                without(b"location", statuses=(201,)),
                _MANIFEST,
            ),
            Quirk(
                "`n` above 1000 is UNSUPPORTED",
                "google/go-containerregistry#681, google/go-containerregistry#1091",
                at_most_1000,
                _LISTS,
            ),
            Quirk(
                "no more than 100 tags at once unless asked for",
                "genuinetools/reg#206, docker-archive/migrator#96",
                pages_of(100),
                _TAGS,
            ),
            Quirk(
                "manifests above 10 a second are refused with 429, which tells no wait",
                "containerd/containerd#10447",
                faults=("PUT manifest name=ecr-throttling rate_limit 10 burst=10 retry_after=none",),
            ),
        ),
    )


def ghcr() -> Profile:
    """Return GitHub's container registry."""
    return Profile(
        "ghcr",
        "GitHub Container Registry",
        (
            Quirk(
                "a chunk with Content-Range above 4 MiB is 416 REQUESTED_RANGE_NOT_SATISFIABLE",
                "ocx-sh/ocx#237, oras-project/rust-oci-client#35",
                faults=(_GHCR_CAP,),
            ),
            Quirk(
                "no referrers: 404 MANIFEST_UNKNOWN",
                "NVIDIA/aicr#1957",
                no_referrers_as(404, "MANIFEST_UNKNOWN"),
                _REFERRERS,
            ),
            Quirk("no OCI-Subject", "dataaxiom/ghcr-cleanup-action#13", silent_about_subjects, _MANIFEST),
        ),
    )


def quay() -> Profile:
    """Return Quay, before its tags were paged as the specification says."""
    return Profile(
        "quay",
        "Quay as it was until 2024, and for mounts until 2021",
        (
            Quirk(
                "a mount without a source is 400 INVALID_REQUEST",
                "GoogleContainerTools/jib#703, quay/quay#899",
                mounts_need_a_source,
                _UPLOADS,
            ),
            Quirk(
                "50 tags at once; the next page is linked by an opaque `next_page`",
                "deitch/docker_registry2#56, regclient/regclient#274, quay/quay#2884",
                faults=("GET tags name=quay-pages paging opaque size=50",),
            ),
            Quirk("no OCI-Subject", "opencontainers/distribution-spec#563", silent_about_subjects, _MANIFEST),
        ),
    )


def gitlab() -> Profile:
    """Return GitLab's container registry."""
    return Profile(
        "gitlab",
        "GitLab container registry, made of distribution",
        (
            Quirk("no referrers: 404", "oras-project/oras-go#1396", no_referrers, _REFERRERS),
            Quirk("no OCI-Subject", "oras-project/oras-go#1403", silent_about_subjects, _MANIFEST),
            Quirk(
                "the fallback tag of a subject names the subject itself",
                "oras-project/oras-go#1396, oras-project/oras#2148",
                fallback_tag_is_a_digest,
                _MANIFEST,
            ),
        ),
    )


def acr() -> Profile:
    """Return Azure's container registry."""
    return Profile(
        "acr",
        "Azure Container Registry",
        (
            Quirk(
                "blobs are redirected (307) to a storage that refuses Authorization (400)",
                "Azure/acr#217, distribution/distribution#3574",
                faults=("GET,HEAD blob name=acr-storage redirect 307",),
            ),
            Quirk(
                "an upload cannot be resumed after its connection broke: 404 BLOB_UPLOAD_INVALID",
                "Azure/azure-sdk-for-python#29738, Azure/azure-sdk-for-java#34276",
                stale_location_kills,
                _UPLOAD,
            ),
        ),
    )
