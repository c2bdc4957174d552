"""An image of a manifest and a config, and what several images share."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from regsim.core import Descriptor, Digest, History, ImageConfig, Platform, media_types
from regsim.core.image import Image, Layer, moment, share
from regsim.core.manifest import manifest_document, parse

CONFIG = Descriptor.of(b"config", media_types.OCI_CONFIG)
BASE, OWN = (Descriptor.of(name, media_types.OCI_LAYER) for name in (b"base", b"own layer"))
DIFF_IDS = tuple(Digest.of(name) for name in (b"1", b"2"))


def image(*layers: Descriptor, config: ImageConfig | None = None, platform: Platform | None = None) -> Image:
    raw = manifest_document(CONFIG, layers)
    descriptor = Descriptor(
        media_type=media_types.OCI_MANIFEST, digest=Digest.of(raw), size=len(raw), platform=platform
    )
    return Image.of(parse(descriptor, raw), config)


def config(*history: History, diff_ids: tuple[str, ...] = ()) -> ImageConfig:
    return ImageConfig(platform=Platform("linux", "amd64"), history=history, diff_ids=diff_ids)


def test_lines_have_their_layers_and_what_changed_metadata_has_none() -> None:
    env = History(created_by="ENV A=1", empty_layer=True, created="2024-12-03T19:01:46Z", comment="mine")
    history = (History(created_by="ADD"), env, History(created_by="COPY", created="2025-01-01T00:00:00Z"))
    found = image(BASE, OWN, config=config(*history, diff_ids=DIFF_IDS))
    assert found.layers == (
        Layer(descriptor=BASE, diff_id=DIFF_IDS[0], created_by="ADD"),
        Layer(descriptor=OWN, diff_id=DIFF_IDS[1], created_by="COPY", created="2025-01-01T00:00:00Z"),
    )
    assert found.lines == ((history[0], found.layers[0]), (env, None), (history[2], found.layers[1]))


@pytest.mark.parametrize(
    "history", [(), (History(created_by="ADD"),), (History(created_by="ADD"),) * 3, None]
)
def test_a_history_of_other_layers_says_nothing(history: tuple[History, ...] | None) -> None:
    found = image(BASE, OWN, config=config(*history) if history is not None else None)
    assert found.layers == (Layer(descriptor=BASE), Layer(descriptor=OWN))
    assert found.lines == tuple((History(), layer) for layer in found.layers)


@pytest.mark.parametrize("diff_ids", [(), DIFF_IDS[:1], ("no digest", "none either")])
def test_diff_ids_that_are_others_or_malformed_are_not_known(diff_ids: tuple[str, ...]) -> None:
    found = image(BASE, OWN, config=config(diff_ids=diff_ids))
    assert [layer.diff_id for layer in found.layers] == [None, None]


def test_what_an_index_says_of_the_platform_goes_before_what_the_config_says() -> None:
    assert image(BASE, config=config(), platform=Platform("linux", "arm64")).platform == Platform(
        "linux", "arm64"
    )
    assert image(BASE, config=config()).platform == Platform("linux", "amd64")
    assert image(BASE).platform is None


def test_a_layer_that_is_there_twice_travels_once_and_counts_twice() -> None:
    found = image(BASE, OWN, BASE)
    assert found.size == CONFIG.size + 2 * BASE.size + OWN.size
    assert found.blobs == {each.digest: each.size for each in (found.manifest, CONFIG, BASE, OWN)}
    assert found.id == CONFIG.digest


def test_sharing_counts_each_blob_once_and_what_only_one_image_holds() -> None:
    both, one = image(BASE, OWN), image(BASE)
    sharing = share([both, one, both])
    common = CONFIG.size + BASE.size
    assert sharing.referenced == both.manifest.size + one.manifest.size + 2 * common + OWN.size
    assert (sharing.saved, sharing.stored) == (common, sharing.referenced - common)
    assert sharing.unique(both.digest) == both.manifest.size + OWN.size
    assert sharing.unique(one.digest) == one.manifest.size
    assert share([]).saved_ratio == 0


def test_other_images_that_hold_a_layer_are_counted_and_the_image_itself_is_not() -> None:
    both, one = image(BASE, OWN), image(BASE)
    inside, outside = share([both, one]), share([one])
    assert [inside.others(both.digest, each.digest) for each in (BASE, OWN)] == [1, 0]
    assert [outside.others(both.digest, each.digest) for each in (BASE, OWN)] == [1, 0]
    assert (inside.others(both.digest), outside.others(both.digest)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2024-01-09T02:14:25.123456789+01:00", datetime(2024, 1, 9, 1, 14, 25, 123456, tzinfo=UTC)),
        ("2024-01-09T01:14:25Z", datetime(2024, 1, 9, 1, 14, 25, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+01:00", None),
        ("2024-01-09T01:14:25", None),
        ("2024-13-09T01:14:25Z", None),
        ("now", None),
        ("", None),
        (None, None),
    ],
)
def test_dates_are_read_as_go_writes_them(text: str | None, found: datetime | None) -> None:
    assert moment(text) == found
