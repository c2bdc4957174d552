"""Descriptors, manifests, indexes and configs, those of others and hostile ones included."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsim.core import (
    Descriptor,
    Digest,
    History,
    ImageConfig,
    Platform,
    Role,
    config_document,
    media_types,
    parse_config,
)
from regsim.core.manifest import index_document, manifest_document, media_type_of, parse, role_of
from regsim.core.platform import choose
from regsim.errors import ContentError, RegsimError

DIGEST = "sha256:" + "ab" * 32
GOOD = {"mediaType": "some/type", "digest": DIGEST, "size": 5}

digests = st.binary(max_size=8).map(Digest.of)
texts = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)
platforms = st.builds(
    Platform,
    st.sampled_from(["linux", "windows"]),
    st.sampled_from(["amd64", "arm64"]),
    st.sampled_from([None, "v8"]),
)
descriptors = st.builds(
    Descriptor,
    media_type=st.sampled_from([media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER, "some/type"]),
    digest=digests,
    size=st.integers(0, 2**63 - 1),
    annotations=texts,
    platform=st.none() | platforms,
    artifact_type=st.none() | st.just("some/artifact"),
    urls=st.lists(st.just("https://example.com/x"), max_size=2).map(tuple),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def read(raw: bytes, media_type: str = media_types.OCI_MANIFEST) -> Any:
    return parse(Descriptor.of(raw, media_type), raw)


# --- descriptors


@given(descriptors)
def test_descriptor_is_read_back_as_it_was_written(descriptor: Descriptor) -> None:
    text = json.dumps(descriptor.to_json())
    assert Descriptor.from_json(json.loads(text), where="here") == descriptor


def test_embedded_data_is_decoded_and_checked() -> None:
    data = b"hello"
    value = {**Descriptor.of(data, "some/type").to_json(), "data": base64.b64encode(data).decode()}
    descriptor = Descriptor.from_json(value, where="here")
    assert descriptor.data == data
    assert descriptor.to_json() == value
    for bad in ("!!", base64.b64encode(b"hellO").decode(), base64.b64encode(b"hell").decode(), 5):
        with pytest.raises(ContentError, match="here: the embedded data"):
            Descriptor.from_json({**value, "data": bad}, where="here")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        {},
        {**GOOD, "mediaType": ""},
        {**GOOD, "mediaType": 5},
        {**GOOD, "size": -1},
        {**GOOD, "size": "5"},
        {**GOOD, "size": 5.0},
        {**GOOD, "size": True},
        {**GOOD, "size": 2**63},
        {**GOOD, "digest": "sha256:short"},
        {**GOOD, "digest": None},
        {**GOOD, "digest": "sha256:../../" + "a" * 58},
        {**GOOD, "data": "é"},
    ],
)
def test_malformed_descriptor_is_refused_and_its_place_named(value: object) -> None:
    with pytest.raises(ContentError, match="layers"):
        Descriptor.from_json(value, where="manifest x, layers[3]")


def test_odd_but_harmless_parts_of_a_descriptor_are_ignored() -> None:
    value = {
        **GOOD,
        "annotations": {"a": 1, "b": "c"},
        "urls": ["u", 2],
        "platform": "linux",
        "artifactType": 7,
    }
    assert Descriptor.from_json({**value, "urls": 7}, where="here").urls == ()
    descriptor = Descriptor.from_json(value, where="here")
    assert (dict(descriptor.annotations), descriptor.urls, descriptor.platform) == ({"b": "c"}, ("u",), None)


# --- manifests and indexes


@given(descriptors, st.lists(descriptors, max_size=4))
def test_manifest_names_its_config_then_its_layers(config: Descriptor, layers: list[Descriptor]) -> None:
    document = read(manifest_document(config, layers))
    assert document.config == config
    assert document.layers == tuple(layers)
    assert [each.role for each in document.successors] == [Role.CONFIG] + [Role.LAYER] * len(layers)


@given(st.lists(descriptors, max_size=4))
def test_index_names_its_manifests(manifests: list[Descriptor]) -> None:
    document = read(index_document(manifests), media_types.OCI_INDEX)
    assert [each.descriptor for each in document.successors] == manifests
    assert document.config is None


@pytest.mark.parametrize(
    ("media_type", "role"),
    [
        (media_types.OCI_INDEX, Role.INDEX),
        (media_types.DOCKER_INDEX, Role.INDEX),
        (media_types.OCI_MANIFEST, Role.MANIFEST),
        (media_types.DOCKER_MANIFEST, Role.MANIFEST),
        (media_types.OCI_CONFIG, Role.LAYER),
        ("anything/else", Role.LAYER),
    ],
)
def test_role_follows_from_the_media_type(media_type: str, role: Role) -> None:
    assert role_of(media_type) is role


def manifest(**changes: Any) -> bytes:
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": GOOD, "layers": [GOOD]}
    return json.dumps({**document, **changes}).encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        manifest(schemaVersion=1),
        manifest(schemaVersion="2"),
        manifest(mediaType=media_types.OCI_INDEX),
        manifest(mediaType=7),
        manifest(config=None),
        manifest(config=[]),
        manifest(layers={}),
        manifest(layers=[GOOD, None]),
        manifest(layers=[{**GOOD, "size": -1}]),
    ],
)
def test_hostile_manifest_is_one_clear_error(raw: bytes) -> None:
    with pytest.raises(ContentError, match="manifest "):
        read(raw)


@pytest.mark.parametrize("keys", [{}, {"layers": None, "manifests": None}])
def test_layers_and_manifests_that_are_absent_or_null_are_none(keys: dict[str, None]) -> None:
    raw = json.dumps({"schemaVersion": 2, "config": GOOD, **keys}).encode()
    assert read(raw).layers == ()
    assert read(raw, media_types.OCI_INDEX).successors == ()


def test_manifest_without_a_media_type_is_what_its_descriptor_says() -> None:
    document = json.loads(manifest())
    del document["mediaType"]
    assert len(read(json.dumps(document).encode()).successors) == 2


def test_raw_bytes_are_kept_as_they_were() -> None:
    raw = manifest() + b"\n  "
    document = read(raw)
    assert document.raw == raw
    assert document.descriptor.digest == Digest.of(raw)


@given(json_values)
def test_any_json_is_a_manifest_or_a_clear_refusal(value: object) -> None:
    raw = json.dumps(value).encode()
    for media_type in (media_types.OCI_MANIFEST, media_types.OCI_INDEX):
        with pytest.raises(RegsimError):
            read(raw, media_type)


@given(st.dictionaries(st.sampled_from(["config", "layers", "manifests", "annotations"]), json_values))
def test_any_parts_of_a_manifest_are_read_or_clearly_refused(changes: dict[str, Any]) -> None:
    try:
        read(manifest(**changes))
    except ContentError as error:
        assert error.message  # noqa: PT017  (either outcome is fine; this one must say something)


# --- what a manifest states and what it is served as


def test_media_type_is_the_stated_one_or_the_served_one() -> None:
    stated = manifest()
    silent = b'{"schemaVersion":2}'
    assert media_type_of(stated) == media_types.OCI_MANIFEST
    assert (
        media_type_of(stated, f"{media_types.OCI_MANIFEST.upper()}; charset=utf-8")
        == media_types.OCI_MANIFEST
    )
    assert media_type_of(stated, "application/octet-stream") == media_types.OCI_MANIFEST
    assert media_type_of(silent, media_types.DOCKER_INDEX) == media_types.DOCKER_INDEX


@pytest.mark.parametrize(
    ("raw", "served"),
    [
        (manifest(), media_types.OCI_INDEX),
        (b"{}", None),
        (b"{}", "text/html"),
        (b'{"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}', None),
        (b"<html>", "text/html"),
    ],
)
def test_media_type_that_cannot_be_transferred_is_refused(raw: bytes, served: str | None) -> None:
    with pytest.raises(ContentError):
        media_type_of(raw, served)


# --- configs


histories = st.builds(
    History,
    created_by=st.text(max_size=10),
    created=st.none() | st.just("2025-01-01T00:00:00Z"),
    comment=st.none() | st.text(max_size=5),
    empty_layer=st.booleans(),
)
configs = st.builds(
    ImageConfig,
    platform=platforms,
    history=st.lists(histories, max_size=4).map(tuple),
    diff_ids=st.lists(digests.map(str), max_size=4).map(tuple),
)


@given(configs)
def test_config_is_read_back_as_it_was_written(config: ImageConfig) -> None:
    raw = config_document(config)
    assert parse_config(raw) == config
    assert config_document(parse_config(raw)) == raw


def test_history_of_layers_skips_empty_ones_and_gives_up_where_counts_differ() -> None:
    lines = (History(created_by="ADD"), History(created_by="ENV", empty_layer=True), History(created_by=""))
    config = ImageConfig(platform=Platform("linux", "amd64"), history=lines, diff_ids=())
    assert config.lines(2) == (lines[0], lines[2])
    assert config.lines(3) == (History(),) * 3


@pytest.mark.parametrize("raw", [b"", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_config_that_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ContentError, match="config"):
        parse_config(raw)


@given(st.dictionaries(st.sampled_from(["history", "rootfs", "os", "architecture"]), json_values))
def test_any_object_is_a_config(value: dict[str, Any]) -> None:
    config = parse_config(json.dumps(value).encode())
    assert len(config.lines(len(config.diff_ids))) == len(config.diff_ids)


# --- platforms and media types


@pytest.mark.parametrize(
    ("image", "wanted", "fits"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/amd64", "linux/arm64", False),
        ("windows/amd64", "linux/amd64", False),
        ("linux/amd64", "linux/amd64/v1", True),
        ("linux/amd64/v3", "linux/amd64/v1", False),
        ("linux/arm", "linux/arm/v7", True),
        ("windows/amd64:10.0.17763.1", "windows/amd64", True),
        ("windows/amd64:10.0.17763.1", "windows/amd64:10.0.17763", True),
        ("windows/amd64:10.0.17763.1", "windows/amd64:10.0.1776", False),
        ("windows/amd64", "windows/amd64:10.0.17763", False),
    ],
)
def test_platform_satisfies_what_is_wanted(image: str, wanted: str, *, fits: bool) -> None:
    assert Platform.parse(image).satisfies(Platform.parse(wanted)) is fits
    assert str(Platform.parse(image)) == image


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("linux/aarch64", "linux/arm64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("windows/x86_64:10.0", "windows/amd64:10.0"),
    ],
)
def test_wanted_platform_may_be_called_what_people_call_it(asked: str, meant: str) -> None:
    assert str(Platform.wanted(asked)) == meant


@pytest.mark.parametrize(
    ("images", "wanted", "place"),
    [
        (["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm", 1),
        (["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v6", 2),
        (["linux/arm/v6"], "linux/arm", 0),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", 1),
        (["linux/arm64", "linux/arm64/v8"], "linux/arm64/v8", 0),
        (["unknown/unknown", "linux/amd64"], "linux/s390x", None),
        ([], "linux/amd64", None),
    ],
)
def test_one_of_several_images_is_chosen_as_clients_choose(
    images: list[str], wanted: str, place: int | None
) -> None:
    assert choose([Platform.parse(each) for each in images], Platform.wanted(wanted)) == place
    assert choose([None, *map(Platform.parse, images)], Platform.wanted(wanted)) == (
        None if place is None else place + 1
    )


def test_version_of_the_system_is_kept() -> None:
    document = {"architecture": "amd64", "os": "windows", "os.version": "10.0.17763.1"}
    platform = Platform.from_json(document)
    assert platform is not None
    assert platform.to_json() == document


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd64:", ":1", "linux:1"]
)
def test_text_that_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(RegsimError, match="not a platform"):
        Platform.parse(text)


def test_foreign_layers_are_known_by_their_types() -> None:
    assert media_types.is_foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    assert not media_types.is_foreign(media_types.OCI_LAYER_GZIP)
    assert media_types.essence(" Text/HTML ; charset=utf-8") == "text/html"
