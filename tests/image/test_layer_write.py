"""What the layer writer writes, told by readers that are not ours."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import zlib
from functools import partial
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from regsim.core import Descriptor, Digest
from regsim.errors import ContentError, UsageError
from regsim.image.compression import compressor
from regsim.image.layer_write import write_layer
from regsim.store.entry import Entry, Kind, check_path, of_bytes, shown
from regsim.store.layout import LayoutStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from regsim.image.compression import Compressor
    from regsim.image.layer_write import Sink
    from regsim.synth.recipe import LayerInfo


def written(entries: list[Entry], by: Compressor | None = None) -> tuple[LayerInfo, bytes]:
    chunks: list[bytes] = []
    info = write_layer(entries, by or compressor("none"), chunks.append)
    return info, b"".join(chunks)


def members(tar: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar), errors="surrogateescape") as file:
        return file.getmembers()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def directory(path: bytes) -> Entry:
    return Entry(path=path, kind=Kind.DIRECTORY, mode=0o755)


def test_parents_come_first_and_whiteouts_before_their_siblings() -> None:
    entries = [
        of_bytes(b"a/!first", b""),
        of_bytes(b"a-b", b""),
        Entry(path=b"a/gone", kind=Kind.WHITEOUT),
        Entry(path=b"a", kind=Kind.OPAQUE),
        of_bytes(b"a/b/c", b""),
        directory(b"a/b"),
        directory(b"a"),
        Entry(path=b"top", kind=Kind.WHITEOUT),
    ]
    names = [member.name for member in members(written(entries)[1])]
    assert names == [".wh.top", "a", "a/.wh..wh..opq", "a/.wh.gone", "a/!first", "a/b", "a/b/c", "a-b"]


def test_order_of_the_entries_does_not_matter() -> None:
    entries = [of_bytes(b"d/%d" % number, b"%d" % number) for number in range(50)]
    entries += [Entry(path=b"links/%d" % number, kind=Kind.HARDLINK, link=b"d/7") for number in range(3)]
    expected = written(entries)
    for seed in range(5):
        random.Random(seed).shuffle(entries)
        assert written(entries) == expected


def test_content_is_found_at_the_first_of_several_names() -> None:
    tar = written([of_bytes(b"z", b"content"), Entry(path=b"a", kind=Kind.HARDLINK, link=b"z")])[1]
    first, second = members(tar)
    assert (first.name, first.isreg(), first.size) == ("a", True, 7)
    assert (second.name, second.islnk(), second.linkname) == ("z", True, "a")


def test_every_attribute_is_read_back_by_tarfile() -> None:
    entry = Entry(
        path=b"s",
        kind=Kind.SYMLINK,
        mode=0o4755,
        uid=3_000_000,
        gid=70_000_000_000,
        mtime_ns=-1_500_000_000,
        link=b"/" + b"t" * 300,
        xattrs={"user.note": b"\0\xff", "security.capability": b"1"},
    )
    (member,) = members(written([entry])[1])
    assert (member.mode, member.uid, member.gid, member.mtime) == (0o4755, 3_000_000, 70_000_000_000, -1.5)
    assert member.linkname == "/" + "t" * 300
    assert member.pax_headers["SCHILY.xattr.user.note"].encode("utf-8", "surrogateescape") == b"\0\xff"
    assert list(member.pax_headers) == [
        "linkpath", "uid", "gid", "mtime", "SCHILY.xattr.security.capability", "SCHILY.xattr.user.note",
    ]  # fmt: skip


def test_a_pax_header_stands_only_where_ustar_has_no_room() -> None:
    plain = [of_bytes(b"p" * 100 + b"/" + b"n" * 100, b""), of_bytes(b"short", b"")]
    assert len(written(plain)[1]) == 2 * 512 + 1024
    assert len(written([of_bytes(b"n" * 101, b"")])[1]) == 3 * 512 + 1024


def test_devices_keep_their_numbers() -> None:
    (member,) = members(written([Entry(path=b"null", kind=Kind.CHAR, device=(1, 3))])[1])
    assert member.ischr()
    assert (member.devmajor, member.devminor) == (1, 3)


names = st.binary(min_size=1, max_size=255).filter(
    lambda name: not {0, 47} & set(name) and name not in {b".", b".."} and not name.startswith(b".wh.")
)


@given(st.lists(names, min_size=1, max_size=8), st.integers(-(2**40), 2**62), st.binary(max_size=600))
def test_any_name_and_time_survive(parts: list[bytes], mtime: int, data: bytes) -> None:
    path = b"/".join(parts)
    (member,) = members(written([of_bytes(path, data, mtime_ns=mtime)])[1])
    assert member.name.encode("utf-8", "surrogateescape") == path
    assert member.size == len(data)
    assert member.mtime == pytest.approx(mtime / 1e9)


def test_digests_and_sizes_are_those_of_blob_and_tar() -> None:
    entries = [
        of_bytes(b"noise", random.Random(1).randbytes(3_000_000)),
        of_bytes(b"zeros", bytes(3_000_000)),
    ]
    tar = written(entries)[1]
    unpack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": partial(zlib.decompress, wbits=31),
        "zstd": zstandard.ZstdDecompressor().decompressobj().decompress,
        "none": bytes,
    }
    for name, unpacked in unpack.items():
        info, blob = written(entries, compressor(name))
        assert info.descriptor.digest == Digest.of(blob)
        assert info.descriptor.size == len(blob)
        assert (info.diff_id, info.uncompressed_size) == (Digest.of(tar), len(tar))
        assert unpacked(blob) == tar


def test_a_gzip_blob_says_no_time_and_no_name() -> None:
    blob = written([of_bytes(b"a", b"")], compressor("gzip", 6))[1]
    assert blob[:9] == b"\x1f\x8b\x08\x00\0\0\0\0\0"


def test_a_compressor_says_what_its_output_depends_on() -> None:
    assert compressor("gzip", 9).identity == f"gzip zlib {zlib.ZLIB_RUNTIME_VERSION} 9"
    assert compressor("zstd").identity.startswith("zstd libzstd 1.")
    with pytest.raises(UsageError, match="no level 10"):
        compressor("gzip", 10)
    with pytest.raises(UsageError, match="no compression 'brotli'"):
        compressor("brotli")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (b"../etc/passwd", "no part may be empty"),
        (b"/etc/passwd", "no part may be empty"),
        (b"a//b", "no part may be empty"),
        (b"a/./b", "no part may be empty"),
        (b"a/", "no part may be empty"),
        (b"a\0b", "it has a NUL"),
        (b"n" * 256, "a name has at most 255 bytes"),
        (b"/".join([b"n" * 200] * 30), "it has more than 4096 bytes"),
        (b"a/.wh.b", "mean deletion"),
    ],
)
def test_a_path_that_no_layer_may_have_is_refused_by_name(path: bytes, why: str) -> None:
    with pytest.raises(ContentError, match=why):
        written([of_bytes(path, b"")])
    with pytest.raises(ContentError, match=why):
        check_path(path)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([of_bytes(b"a", b""), of_bytes(b"a", b"2")], "'a' is in the layer twice"),
        ([of_bytes(b"a", b""), Entry(path=b"a", kind=Kind.WHITEOUT)], "'a' is in the layer twice"),
        ([Entry(path=b"a", kind=Kind.OPAQUE)] * 2, "'a' is in the layer twice"),
        ([of_bytes(b"a", b""), of_bytes(b"a/b", b"")], "'a/b' cannot be in a layer in which 'a'"),
        ([of_bytes(b"a", b""), Entry(path=b"a", kind=Kind.OPAQUE)], "'a' is not a directory"),
        ([Entry(path=b"a", kind=Kind.HARDLINK, link=b"b")], "'a' is a hard link .* 'b'"),
        ([directory(b"d"), Entry(path=b"l", kind=Kind.HARDLINK, link=b"d")], "'l' is a hard link"),
        ([Entry(path=b"a", kind=Kind.FILE, size=1)], "'a' has no content"),
        ([Entry(path=b"a", kind=Kind.FILE, uid=-1)], "'a' has a number"),
        ([Entry(path=b"a", kind=Kind.CHAR, device=(2**30, 0))], "'a' has a number"),
        ([Entry(path=b"a", kind=Kind.FILE, xattrs={"user.a=b": b""})], "'a' has an extended attribute"),
    ],
)
def test_what_readers_would_understand_differently_is_refused(entries: list[Entry], why: str) -> None:
    with pytest.raises(ContentError, match=why):
        written(entries)


@pytest.mark.parametrize("size", [3, 6])
def test_a_file_that_changed_while_it_was_read_is_an_error(size: int) -> None:
    entry = Entry(path=b"log", kind=Kind.FILE, size=size, content=lambda: iter([b"12", b"34"]))
    with pytest.raises(ContentError, match="'log' has"):
        written([entry])


def test_content_is_closed_when_it_was_read() -> None:
    closed = []

    def content() -> Iterator[bytes]:
        try:
            yield b"12"
            yield b"34"
        finally:
            closed.append(True)

    written([Entry(path=b"a", kind=Kind.FILE, size=4, content=content)])
    with pytest.raises(ContentError):
        written([Entry(path=b"a", kind=Kind.FILE, size=1, content=content)])
    assert closed == [True, True]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"usr/bin", "usr/bin"),
        ("ä".encode(), "ä"),
        (b"a\xff", "a\\xff"),
        (b"a\n\x1b[31m", "a\\x0a\\x1b[31m"),
        (b"a\\xff", "a\\\\xff"),
    ],
)
def test_a_path_is_shown_without_harm_to_a_terminal(path: bytes, text: str) -> None:
    assert shown(path) == text


@pytest.mark.anyio
async def test_a_layout_takes_a_layer_in_while_it_is_written(tmp_path: Path) -> None:
    layout = LayoutStore(tmp_path / "layout", create=True)
    infos = []

    def write(sink: Sink) -> Descriptor:
        infos.append(write_layer([of_bytes(b"a", b"x" * 5_000_000)], compressor("gzip", 6), sink))
        return infos[0].descriptor

    descriptor = await layout.ingest(write)
    blob = (tmp_path / "layout/blobs/sha256" / descriptor.digest.encoded).read_bytes()
    assert hashlib.sha256(blob).hexdigest() == descriptor.digest.encoded
    assert await layout.has(infos[0].descriptor)


@pytest.mark.anyio
async def test_a_layer_that_fails_leaves_nothing_in_the_layout(tmp_path: Path) -> None:
    layout = LayoutStore(tmp_path, create=True)
    entry = Entry(path=b"a", kind=Kind.FILE, size=1, content=lambda: iter([bytes(4_000_000)]))
    with pytest.raises(ContentError, match="'a' has more than 1 bytes"):
        await layout.ingest(
            lambda sink: (
                write_layer([of_bytes(b"0", bytes(9_000_000)), entry], compressor("none"), sink).descriptor
            )
        )
    assert names_in(tmp_path) == ["index.json", "oci-layout"]
