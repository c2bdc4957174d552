"""What a history says of an image's layers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from regsim.core import Descriptor, History, ImageConfig, Platform, media_types
from regsim.image.history import Line, content_size, lines_of, measured, moment
from regsim.store.entry import Entry, Kind, of_bytes

LAYERS = tuple(Descriptor.of(name, media_types.OCI_LAYER) for name in (b"base", b"own"))
ONE, OTHER, OWN = (Descriptor.of(name, media_types.OCI_MANIFEST).digest for name in (b"1", b"2", b"3"))


def config(*history: History) -> ImageConfig:
    return ImageConfig(platform=Platform("linux", "amd64"), history=history, diff_ids=())


def test_lines_have_their_layers_and_what_changed_metadata_has_none() -> None:
    env = History(created_by="ENV A=1", empty_layer=True, created="2024-12-03T19:01:46Z", comment="mine")
    lines = lines_of(config(History(created_by="ADD"), env, History(created_by="COPY")), LAYERS)
    assert [(line.created_by, line.layer, line.size) for line in lines] == [
        ("ADD", LAYERS[0], None),
        ("ENV A=1", None, 0),
        ("COPY", LAYERS[1], None),
    ]
    assert (lines[1].created, lines[1].comment) == (datetime(2024, 12, 3, 19, 1, 46, tzinfo=UTC), "mine")


@pytest.mark.parametrize("history", [(), (History(),), (History(),) * 3, None])
def test_a_history_of_other_layers_says_nothing(history: tuple[History, ...] | None) -> None:
    found = lines_of(config(*history) if history is not None else None, LAYERS)
    assert found == tuple(Line(layer=layer, size=None) for layer in LAYERS)


def test_other_images_that_share_a_layer_are_counted_and_the_image_itself_is_not() -> None:
    base, own = (layer.digest for layer in LAYERS)
    view = {ONE: frozenset({base}), OTHER: frozenset({base}), OWN: frozenset({base, own})}
    lines = measured(lines_of(None, LAYERS), {base: 5}, view, OWN)
    assert [(line.size, line.shared_by) for line in lines] == [(5, 2), (None, 0)]
    outside = measured(lines_of(None, LAYERS), {}, {ONE: frozenset({own})}, OWN)
    assert [line.shared_by for line in outside] == [0, 1]


def test_the_size_of_a_layer_is_the_bytes_of_its_files_each_path_once() -> None:
    entries = [
        Entry(path=b"d", kind=Kind.DIRECTORY),
        of_bytes(b"d/f", b"12345"),
        Entry(path=b"d/again", kind=Kind.HARDLINK, link=b"d/f"),
        Entry(path=b"d/link", kind=Kind.SYMLINK, link=b"f"),
        Entry(path=b"d/gone", kind=Kind.WHITEOUT),
        of_bytes(b"twice", b"long before"),
        of_bytes(b"twice", b"now"),
        Entry(path=b"twice", kind=Kind.WHITEOUT),  # of what is below, wherever it stands
        of_bytes(b"became", b"a directory"),
        Entry(path=b"became", kind=Kind.DIRECTORY),
    ]
    assert content_size(entries) == len(b"12345") + len(b"now")


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
