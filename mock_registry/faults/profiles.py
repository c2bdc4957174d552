"""Profiles: what named registries do where the specification leaves a choice, or against it.

Owns which rules a named registry has, and the order in which they act. Their evidence is in PROFILES.md. Must
not know what the rules do.
"""

from dataclasses import dataclass, field

from mock_registry.errors import close_to
from mock_registry.exchange import Exchange, Refusal, Response
from mock_registry.service import Handler

from . import quirks, upload_quirks  # noqa: F401 (define the effects)
from .effect import EFFECTS, QUIRKS, Incident, Scene, Surroundings
from .fault import Rule
from .parsing import parse_line
from .rules import Table


@dataclass(frozen=True, slots=True)
class Profile:
    """What one named registry does.

    Attributes:
        name: What it is asked for by.
        registry: Which registry it stands for, and which version.
        rules: What it does: lines in the grammar of faults, which may name quirks too. They act around the
            handler, the first one outermost, and are not named in the journal.
        faults: What it does by faults, which can be listed and removed.
        manifest_limit: Bytes of the largest manifest; ``None`` is this registry's own limit.
    """

    name: str
    registry: str
    rules: tuple[str, ...] = field(default=(), repr=False)
    faults: tuple[str, ...] = ()
    manifest_limit: int | None = None


class Habits:
    """A profile's rules in force in one registry."""

    def __init__(self, profile: Profile, surroundings: Surroundings) -> None:
        effects = EFFECTS | QUIRKS
        faults = [parse_line(line, effects=effects) for line in profile.rules]
        self._table = Table(Rule(fault, f"{profile.name}-{number}") for number, fault in enumerate(faults))
        self._surroundings = surroundings

    async def answer(self, exchange: Exchange, handler: Handler) -> Response:
        """Answer a request as the named registry would.

        Raises:
            Severed: The named registry drops the connection.
        """
        rules = self._table.find(exchange)
        scene = Scene(exchange, self._surroundings)
        passed: list[Incident] = []
        try:
            response = await self._ask(rules, scene, passed, handler)
            for incident in reversed(passed):
                if incident.rule.expects(response):
                    response = await incident.effect.reply(incident, response)
            return response
        finally:
            for incident in passed:
                incident.effect.over(incident)

    async def _ask(
        self, rules: tuple[Rule, ...], scene: Scene, passed: list[Incident], handler: Handler
    ) -> Response:
        """Return the handler's response, or that of the first rule which answers instead."""
        exchange = scene.exchange
        try:
            for rule in rules:
                if all(test(exchange) for test in rule.tests):
                    incident = rule.begin(scene)
                    response = None if rule.waits else await rule.effect.arrive(incident)
                    if response is not None:
                        return response
                    passed.append(incident)
            return await handler(scene.service, exchange)
        except Refusal as refusal:
            return refusal.response()


_GO_TEXT = "headers.content-type='text/plain; charset=utf-8'"
_PAGE = f"status 404 body='404 page not found\n' {_GO_TEXT}"
_NO_REFERRERS = f"referrers {_PAGE}"
_ANY_METHOD = (
    "base answered=405 status 200 body={} headers.content-type=application/json "
    "headers.docker-distribution-api-version=registry/2.0"
)
_EMPTY_BASE = "base answered=200 status 200 form=empty headers.docker-distribution-api-version=registry/2.0"
_UNKNOWN_REPOSITORY = "manifest answered='404 NAME_UNKNOWN' status 404 error=MANIFEST_UNKNOWN"
_GHCR_CAP = (
    "PATCH upload header=content-range name=ghcr-chunk-cap "
    "body_limit 4MiB status=416 form=json error=REQUESTED_RANGE_NOT_SATISFIABLE drain=yes"
)
_NO_SUBJECT = "manifest headers remove=oci-subject"

_DISTRIBUTION = (
    f"answered='404 UNSUPPORTED,400 NAME_INVALID' {_PAGE}",
    "base,uploads redirect_to_slash",
    _ANY_METHOD,
    f"tags answered=405 status 405 body='Method not allowed\n' {_GO_TEXT} headers.allow=GET",
    "manifest,upload,uploads answered=201,202,204 location absolute",
    "uploads mounts_need source",
    "blob,upload sha256_name",
    "blob answered=200,206,304,416 headers set.cache-control=max-age=31536000",
    "PUT manifest require header=content-type error=MANIFEST_INVALID",
    "PUT manifest require tag,digest status=404 form=page",
    "PUT manifest require tag,sha256 error=DIGEST_INVALID",
    "manifest answered=413 status 400 error=MANIFEST_INVALID",
    "manifest oci_accepted",
    _UNKNOWN_REPOSITORY,
    "manifest ignore query=yes",
    _NO_REFERRERS,
    _NO_SUBJECT,
    "tags no_blob_repositories",
)

_PROFILES = (
    Profile(
        "distribution-2.8",
        "distribution 2.8.2, the program inside `registry:2`, deletes enabled",
        (
            *_DISTRIBUTION,
            "error_type value='application/json; charset=utf-8'",
            "upload stale_location 404 kills=yes",
            "upload ignore content-range",
            "blob go_ranges several=yes full_length=yes",
            "tags tags_unordered",
            "DELETE manifest require digest error=DIGEST_INVALID",
        ),
    ),
    Profile(
        "distribution-3",
        "distribution 3.1, the program inside `registry:3`, deletes enabled",
        (
            *_DISTRIBUTION,
            "upload stale_location 416 error=RANGE_INVALID reads=no",
            "PATCH upload answered='416 BLOB_UPLOAD_INVALID' status 416 error=RANGE_INVALID",
            "PATCH upload answered='400 BLOB_UPLOAD_INVALID' status 500 error=UNKNOWN",
            "PUT upload ignore content-range",
            "blob go_ranges",
            "tags answered='400 UNSUPPORTED' status 400 error=PAGINATION_NUMBER_INVALID",
        ),
    ),
    Profile(
        "olareg",
        "olareg 0.2.2, deletes of manifests and blobs enabled",
        (
            "error_type value='text/plain; charset=utf-8'",
            "answered='404 UNSUPPORTED,400 NAME_INVALID,405 UNSUPPORTED' status 404 body='' " + _GO_TEXT,
            "uploads answered=202 headers remove=range,docker-upload-uuid",
            "upload headers remove=docker-upload-uuid",
            "upload upload_range empty=0--1",
            "upload answered='404 BLOB_UPLOAD_UNKNOWN' status 400 error=BLOB_UPLOAD_UNKNOWN",
            "PATCH,PUT upload start_counts",
            "PATCH,PUT upload stale_location 400 strict=no",
            "PUT upload mismatch kills=yes",
            "uploads mismatch",
            "blob,manifest headers remove=etag",
            "blob go_ranges",
            "DELETE blob answered=404 status 202 form=empty",
            "manifest trust_media_type",
            "PUT manifest require tag,digest error=DIGEST_INVALID",
            _UNKNOWN_REPOSITORY,
            "referrers answered='400 DIGEST_INVALID' no_referrers empty",
            "tags paging unquoted",
            "tags numbers_break",
            "tags every_repository",
            "catalog status 404 form=empty",
        ),
        manifest_limit=8 << 20,
    ),
    Profile(
        "ggcr",
        "`crane registry serve` of go-containerregistry 3f4ff3c",
        (
            "error_type value='text/plain; charset=utf-8'",
            "referrers answered=2xx,4xx status 404 error=METHOD_UNKNOWN",
            "catalog,other,tags answered='404 UNSUPPORTED' status 404 error=METHOD_UNKNOWN",
            "catalog,other,tags answered='405 UNSUPPORTED' status 400 error=METHOD_UNKNOWN",
            _ANY_METHOD,
            _EMPTY_BASE,
            "manifest,upload,uploads answered=201 headers remove=location",
            "upload,uploads headers remove=docker-upload-uuid",
            "uploads query=mount ignore query=yes",
            "PUT upload require sha256 query=digest error=NAME_INVALID",
            "upload any_session",
            "blob require sha256 error=NAME_INVALID",
            "blob one_store",
            "blob two_number_ranges",
            "blob answered=200,206 headers remove=etag,content-type,accept-ranges",
            "manifest any_manifest",
            "tags tags_from_somewhere",
            "tags no_blob_repositories",
            "catalog headers remove=link",
        ),
        manifest_limit=64 << 20,
    ),
    Profile(
        "ecr",
        "Amazon Elastic Container Registry",
        (
            _EMPTY_BASE,
            "PATCH upload answered=202 status 201 keep=yes",
            "upload range_stands",
            "uploads mounts_need manifest",
            "manifest answered=201 headers remove=location",
            "catalog,tags page_size most=1000",
            "tags page_size 100",
        ),
        ("PUT manifest name=ecr-throttling rate_limit 10 burst=10 retry_after=none",),
    ),
    Profile(
        "ghcr",
        "GitHub Container Registry",
        ("referrers status 404 error=MANIFEST_UNKNOWN", _NO_SUBJECT),
        (_GHCR_CAP,),
    ),
    Profile(
        "quay",
        "Quay as it was until 2024, and for mounts until 2021",
        (
            "uploads query=mount require query=from error=INVALID_REQUEST message='Invalid request'",
            _NO_SUBJECT,
        ),
        ("GET tags name=quay-pages paging opaque size=50",),
    ),
    Profile(
        "gitlab",
        "GitLab container registry, made of distribution",
        (_NO_REFERRERS, _NO_SUBJECT, "manifest no_referrers fallback-is-subject"),
    ),
    Profile(
        "acr",
        "Azure Container Registry",
        ("upload stale_location 404 kills=yes",),
        ("GET,HEAD blob name=acr-storage redirect 307",),
    ),
)

PROFILES = {profile.name: profile for profile in _PROFILES}
"""All profiles, by name."""

NAMES = tuple(PROFILES)
"""The names of all profiles."""


def profile_named(name: str) -> Profile:
    """Return a profile.

    Raises:
        ValueError: There is no profile of this name.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}{close_to(name, NAMES)}")
    return PROFILES[name]
