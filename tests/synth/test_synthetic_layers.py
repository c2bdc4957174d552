"""Synthetic layers are valid, exact to the byte, and the same everywhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import subprocess
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from regsim.core import Digest, media_types
from regsim.errors import UsageError
from regsim.synth.gzipframe import MAX_COMMENT
from regsim.synth.recipe import LayerPlan, LayerRecipe, layer_key, minimum_size, plan
from regsim.synth.synthetic import generate

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = media_types.OCI_LAYER
EMPTY_TAR = 28  # bytes: a gzip of 1,024 zeros
ONE_FILE = 94  # bytes: a gzip of a tar with one empty file

names = st.text("abcxyz0123._-é", min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


def recipe(size: int = 0, *, key: str = "some key", **more: Any) -> LayerRecipe:
    return LayerRecipe(key=key, size=size, **more)


def blob(planned: LayerPlan) -> bytes:
    return b"".join(generate(planned))


def tar_of(planned: LayerPlan, raw: bytes) -> bytes:
    return gzip.decompress(raw) if planned.recipe.compressed else raw


def read_back(tar: bytes) -> dict[str, bytes]:
    """Return the files of a tar, and check that they are what a careful layer holds."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        for member in archive:
            assert (member.mode, member.uid, member.gid, member.mtime) == (0o644, 0, 0, 0o14700000000)
            assert member.isreg()
            content = archive.extractfile(member)
            assert content is not None
            found[member.name] = content.read()
    return found


def check(made: LayerRecipe) -> LayerPlan:
    """Make a layer and hold it against its plan and every promise."""
    planned = plan(made)
    hasher = hashlib.sha256()
    raw = b"".join(generate(planned, hasher))
    tar = tar_of(planned, raw)
    assert len(raw) == made.size
    assert len(tar) == planned.uncompressed_size
    assert hasher.hexdigest() == hashlib.sha256(tar).hexdigest()
    found = read_back(tar)
    assert {name: len(content) for name, content in found.items()} == {
        file.path.decode(): file.size for file in planned.files
    }
    return planned


# --- exact sizes


@pytest.mark.parametrize("size", [32, 97, 125, 126, 127, 249, 448, 573, 875, 1102, 3322])
def test_sizes_of_real_tiny_layers_are_met(size: int) -> None:
    planned = check(recipe(size))
    assert len(planned.files) == (0 if size < ONE_FILE else 1)


def test_every_small_size_is_met() -> None:
    for size in range(EMPTY_TAR, 2000):
        check(recipe(size))


@pytest.mark.parametrize("size", [65_535 + delta for delta in range(100, 130)])
def test_sizes_around_a_block_boundary_are_met(size: int) -> None:
    check(recipe(size))


@given(st.integers(EMPTY_TAR, 3_000_000), st.text(max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_size_is_met(size: int, key: str) -> None:
    check(recipe(size, key=key))


@given(st.integers(0, 300_000), st.floats(1, 150), st.integers(0, 40) | st.none())
@settings(max_examples=150, deadline=None)
def test_any_ratio_is_met_to_the_byte(extra: int, ratio: float, files: int | None) -> None:
    made = recipe(ratio=ratio, files=files)
    made = made.of_size(minimum_size(made) + extra)
    try:
        planned = check(made)
    except UsageError as error:
        # Where a ratio meets the smallest tar some sizes leave no room for it; the next good one is named.
        (least,) = map(int, re.findall("[0-9]+", error.hint))
        assert made.size < least < made.size + 2000
        planned = check(made.of_size(least))
        made = planned.recipe
    wanted = round(ratio * made.size)
    if wanted >= 1024 + 512 * len(planned.files) and ratio > 1:
        assert planned.uncompressed_size == wanted


@given(st.integers(1024, 3_000_000), st.integers(0, 100_000))
@settings(max_examples=60, deadline=None)
def test_any_uncompressed_size_is_met(uncompressed: int, extra: int) -> None:
    made = recipe(uncompressed_size=uncompressed)
    planned = check(made.of_size(minimum_size(made) + extra))
    assert planned.uncompressed_size == uncompressed


@given(st.dictionaries(paths, st.integers(0, 200_000), max_size=12), st.integers(0, 400_000), st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_given_files_have_their_paths_and_sizes(files: dict[str, int], extra: int, plain: bool) -> None:
    folders = {path.rsplit("/", depth)[0] for path in files for depth in range(1, path.count("/") + 1)}
    assume(not folders & files.keys())
    made = recipe(files=files, media_type=PLAIN if plain else media_types.OCI_LAYER_GZIP)
    planned = check(made.of_size(minimum_size(made) + extra))
    assert {file.path.decode(): file.size for file in planned.files} == files


@given(st.integers(0, 300), st.integers(0, 200_000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_number_of_files_is_made(count: int, extra: int, plain: bool) -> None:
    made = recipe(files=count, media_type=PLAIN if plain else media_types.OCI_LAYER_GZIP)
    assert len(check(made.of_size(minimum_size(made) + extra)).files) == count


@pytest.mark.parametrize("size", [1024, 1025, 1535, 1536, 1537, 2047, 2048, 1_000_001])
def test_plain_tar_is_padded_after_its_end(size: int) -> None:
    planned = check(recipe(size, media_type=PLAIN))
    assert blob(planned).endswith(bytes(1024))
    assert planned.uncompressed_size == size


def test_one_byte_less_than_the_minimum_is_refused_and_the_minimum_named() -> None:
    for made in (
        recipe(),
        recipe(files=1),
        recipe(files=17),
        recipe(ratio=100),
        recipe(ratio=9, files=30),
        recipe(uncompressed_size=1_000_000),
        recipe(files={"a/b": 100_000}),
        recipe(media_type=PLAIN),
        recipe(media_type=PLAIN, files={"a": 1}),
    ):
        least = minimum_size(made)
        check(made.of_size(least))
        with pytest.raises(UsageError, match=f"of {least - 1} bytes is too small") as caught:
            plan(made.of_size(least - 1))
        assert str(least) in caught.value.hint


def test_minima_are_as_documented() -> None:
    assert minimum_size(recipe()) == EMPTY_TAR
    assert minimum_size(recipe(files=1)) == ONE_FILE
    assert minimum_size(recipe(media_type=PLAIN)) == 1024


def test_what_no_noise_can_take_up_goes_into_framing() -> None:
    for slack in range(505, 540):
        planned = check(recipe(ONE_FILE + slack, files={"a1234567": 0}))
        assert planned.comment is None or len(planned.comment) < 512


# --- validity to other readers


@pytest.mark.parametrize(
    "made",
    [
        recipe(32),
        recipe(126),
        recipe(2_000_000, files=50),
        recipe(100_000, ratio=40),
        recipe(50_000, files={"ü/ä": 3, "d" * 100 + "/" + "e" * 100: 70_000}),
    ],
    ids=["empty", "tiny", "many", "runs", "paths"],
)
def test_gzip_and_tar_read_it(made: LayerRecipe, tmp_path: Path) -> None:
    for program in ("gzip", "tar"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
    file = tmp_path / "layer.tar.gz"
    file.write_bytes(blob(plan(made)))
    subprocess.run(["gzip", "-t", file], check=True)
    listed = subprocess.run(["tar", "-tzf", file], check=True, capture_output=True)
    assert listed.stderr == b""
    assert len(listed.stdout.splitlines()) == len(plan(made).files)


def test_header_is_one_that_strict_readers_take() -> None:
    for size in range(EMPTY_TAR, ONE_FILE):
        raw = blob(plan(recipe(size)))
        assert raw[:4] in (b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x10")
        # Go's gzip reader refuses a comment of more than 511 bytes, and one outside Latin-1.
        comment = raw[10 : raw.index(b"\0", 10)] if raw[3] else b""
        assert len(comment) < 512
        assert comment.isascii()


def test_no_match_is_longer_than_the_window_hides() -> None:
    """A real compressor finds nothing to gain in noise, however long the layer."""
    raw = blob(plan(recipe(6_000_000)))
    assert len(zlib.compress(raw, 9)) > len(raw)


def test_zeros_beyond_a_slice_have_the_right_checksum() -> None:
    check(recipe(200_000, ratio=100))


# --- sameness and difference


GOLDEN = {
    "tiny": (
        recipe(32),
        "2208dc37591f4beaac958b19cc45a6ccc7952fcb7e8de6a8a3b0917560db5b91",
        "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    ),
    "small": (
        recipe(126),
        "ba481af7311dbd8f20d16e54c961cca6742625443f78335096559cb1a2da5ac2",
        "02445386f154f553fb805932fe2010ee6581a58ef8796154df3907427522eec0",
    ),
    "free": (
        recipe(3_000_000),
        "5c85452b9909904ec33449c97c83732478f052eb511187cd4fd0690de64b6c8d",
        "1ccd1802666fc2bdb5f860fc38302af8c10ee6a9379ffe54c94844005d6122a7",
    ),
    "ratio": (
        recipe(100_000, ratio=30),
        "80763453dc541bcd41c3da88695cc0e7e7d78597190cc2ac208cb3bd7c5904d4",
        "7fab40fbbef7ed01fd7dfacaff64086f4560b3db2ee3f59e3d515d5a54860ea1",
    ),
    "count": (
        recipe(500_000, files=20, ratio=2.5),
        "7832923ac86cfa5dcc7f5e8d23d7738e6328f70acd5092c4d87057296dbee5e2",
        "a17ffd6646ea7fb7e6c1c753ac668f1c9f0e85b978f6dbc820cdb385e0be96b7",
    ),
    "paths": (
        recipe(90_000, files={"app/main": 80_000, "app/ünï": 9_000}),
        "2343c99f20e30dafb61a89ddd77b04b1ae840675e17e7825a9520bb3c3f7a47f",
        "3e1f27cb9ab7b9127adaff3367b4956f8c479051d5ca5bd27b645c03eee3be0b",
    ),
    "plain": (
        recipe(70_001, media_type=PLAIN),
        "fdc4d6a72c64bd8ec070fd6a53da4e89fbea2ba72b5ab8e71ba94b08b4bea99f",
        "fdc4d6a72c64bd8ec070fd6a53da4e89fbea2ba72b5ab8e71ba94b08b4bea99f",
    ),
    "recorded": (
        recipe(4_000, key=f"recorded {Digest.of(b'real')}"),
        "973ed515d9c8d93f853b4808418503665694a8cb1a34e09a01f6fae50470778b",
        "d064c69bc7a502794e666481c3b4f2cca1c29c56e332dc3535b016d984956877",
    ),
    "scenario": (
        recipe(4_000, key=layer_key(7, "api:v1", 0)),
        "1dfcddf07f37cc2aaedb1feb1f85c56277df51ef4523c2dfba9292599a99c885",
        "138cf644d08c8aa49b2d4cea08decdd67cd63c5a4b4d80106b2c425d7101110b",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_are_the_same_as_ever(name: str) -> None:
    """A change of the bytes needs a change of `recipe.GENERATOR`, because digests are remembered."""
    made, blob_hash, tar_hash = GOLDEN[name]
    hasher = hashlib.sha256()
    raw = b"".join(generate(plan(made), hasher))
    assert (hashlib.sha256(raw).hexdigest(), hasher.hexdigest()) == (blob_hash, tar_hash)


def test_layer_is_the_same_each_time_it_is_made() -> None:
    made = recipe(2_500_000, files=7, ratio=1.3)
    assert blob(plan(made)) == blob(plan(made))


DIFFERENT = [
    recipe(5000),
    recipe(5001),
    recipe(5000, key="another key"),
    recipe(5000, ratio=1),
    recipe(5000, ratio=2),
    recipe(5000, uncompressed_size=10_000),
    recipe(5000, files=1),
    recipe(5000, files=2),
    recipe(5000, files={"a": 4000}),
    recipe(5000, files={"b": 4000}),
    recipe(5000, media_type=media_types.DOCKER_LAYER_GZIP),
    recipe(5000, media_type=PLAIN),
    recipe(5000, key=layer_key(1, "a", 0)),
    recipe(5000, key=layer_key(1, "a", 1)),
    recipe(5000, key=layer_key(1, "b", 0)),
    recipe(5000, key=layer_key(2, "a", 0)),
    recipe(5000, key=f"recorded {Digest.of(b'a')}"),
    recipe(5000, key=f"recorded {Digest.of(b'b')}"),
]


def test_different_recipes_give_different_blobs_and_tars() -> None:
    blobs = [blob(plan(made)) for made in DIFFERENT]
    tars = [tar_of(plan(made), raw) for made, raw in zip(DIFFERENT, blobs, strict=True)]
    assert len(set(blobs)) == len(set(tars)) == len(DIFFERENT)


@pytest.mark.parametrize("size", [EMPTY_TAR, 32, 97, 125])
def test_different_keys_give_different_blobs_at_the_smallest_sizes(size: int) -> None:
    assert len({blob(plan(recipe(size, key=str(number)))) for number in range(500)}) == 500


def test_keys_that_look_alike_differ() -> None:
    assert layer_key(1, "a", 11) != layer_key(1, "a1", 1)
    assert layer_key(1, 'a",1', 1) != layer_key(1, "a", 1)


# --- recipes that cannot be


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        "a/.",
        "a\0b",
        "a\nb",
        "\ud800",
        "x" * 101,
        "a/" * 128 + "a",
    ],
)
def test_path_that_escapes_or_does_not_fit_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="path"):
        recipe(10_000, files={path: 1})


@pytest.mark.parametrize(
    "more",
    [
        {"size": -1},
        {"size": 2**41},
        {"ratio": 0.5},
        {"ratio": 151},
        {"ratio": float("nan")},
        {"ratio": 2, "uncompressed_size": 20_000},
        {"uncompressed_size": -1},
        {"files": -1},
        {"files": 100_001},
        {"files": {"a": -1}},
        {"files": {"a": 8 * 2**30}},
        {"files": {"a": 1, "a/b": 1}},
        {"media_type": media_types.OCI_LAYER_ZSTD},
        {"media_type": PLAIN, "ratio": 2},
        {"media_type": PLAIN, "uncompressed_size": 10_000},
    ],
    ids=str,
)
def test_recipe_out_of_range_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        LayerRecipe(**{"key": "some key", "size": 10_000, **more})


def test_uncompressed_size_below_the_files_is_refused() -> None:
    with pytest.raises(UsageError, match="too small for its files") as caught:
        plan(recipe(10_000, files={"a": 5000}, uncompressed_size=4000))
    assert "6656" in caught.value.hint
    with pytest.raises(UsageError, match="too small for its files"):
        plan(recipe(10_000, uncompressed_size=1000))


# --- large layers


def test_large_layer_is_planned_in_files_of_ordinary_size() -> None:
    planned = plan(recipe(40 * 2**30))
    assert len(planned.files) == 40
    assert max(file.size for file in planned.files) < 8 * 2**30
    assert planned.slack <= MAX_COMMENT


def test_large_layer_is_made_in_chunks_of_about_a_mebibyte() -> None:
    sizes = [len(chunk) for chunk in generate(plan(recipe(20_000_000, ratio=20)))]
    assert sum(sizes) == 20_000_000
    assert max(sizes) < 2 * 1024 * 1024
    assert min(sizes[:-1]) >= 1024 * 1024
