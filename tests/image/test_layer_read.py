"""Layers as others write them, as accidents leave them, and as an enemy would."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from regsim.errors import ContentError
from regsim.image import layer_read
from regsim.image.compression import compressor
from regsim.image.layer_read import LayerReader, content_size, read_layer
from regsim.image.layer_write import arrange, write_layer
from regsim.store.entry import Entry, Kind, of_bytes
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[..., tuple[Entry, ...]]
    Tar = Callable[..., bytes]
    RawType = Callable[..., tuple[object, ...]]

names = st.binary(min_size=1, max_size=60).filter(
    lambda name: not {0, 47} & set(name) and name not in {b".", b".."} and not name.startswith(b".wh.")
)
kinds = st.sampled_from([Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.CHAR, Kind.FIFO, Kind.WHITEOUT])


@st.composite
def an_entry(draw: st.DrawFn) -> Entry:
    kind = draw(kinds)
    path = b"/".join(draw(st.lists(names, min_size=1, max_size=4)))
    if kind is Kind.WHITEOUT:
        return Entry(path=path, kind=kind)
    data = draw(st.binary(max_size=1500)) if kind is Kind.FILE else b""
    return Entry(
        path=path,
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, 2**40)),
        gid=draw(st.integers(0, 2**40)),
        mtime_ns=draw(st.integers(-(2**62), 2**62)),
        size=len(data),
        content=(lambda: iter((data,))) if kind is Kind.FILE else None,
        link=draw(st.binary(min_size=1, max_size=300)).replace(b"\0", b"/") if kind is Kind.SYMLINK else b"",
        xattrs=draw(st.dictionaries(st.sampled_from(["user.a", "security.ä"]), st.binary(max_size=50))),
        device=draw(st.tuples(st.integers(0, 0o7777777), st.integers(0, 0o7777777)))
        if kind is Kind.CHAR
        else (0, 0),
    )


@given(
    st.lists(an_entry(), max_size=5, unique_by=lambda entry: entry.path),
    st.sampled_from(["none", "gzip", "zstd"]),
    st.integers(1, 3000),
)
def test_whatever_is_written_is_read_back(entries: list[Entry], by: str, step: int) -> None:
    try:
        expected = arrange(entries)
    except ContentError:
        return  # something stands below a file
    chunks: list[bytes] = []
    info = write_layer(entries, compressor(by), chunks.append)
    reader = LayerReader("layer", info.descriptor.size)
    blob = b"".join(chunks)
    for start in range(0, len(blob), step):
        reader.feed(blob[start : start + step])
    assert list(reader.finish()) == expected


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_of_the_field_is_read_alike(form: int, tar: Tar, read: Read, raw: RawType) -> None:
    long = "d" * 90 + "/" + "n" * 90
    members = [
        raw("./", tarfile.DIRTYPE, mode=0o700),
        raw(long, data=b"x" * 700),
        raw("l", tarfile.SYMTYPE, link="t" * 90),
    ]
    entries = read(tar(members, form))
    assert [(entry.path, entry.kind, entry.size) for entry in entries] == [
        (b"", Kind.DIRECTORY, 0),
        (long.encode(), Kind.FILE, 700),
        (b"l", Kind.SYMLINK, 0),
    ]


def test_gnu_numbers_beyond_octal_are_read(read: Read) -> None:
    info = tarfile.TarInfo("a")
    info.uid, info.mtime = 2**31, -5
    (entry,) = read(info.tobuf(tarfile.GNU_FORMAT))
    assert (entry.uid, entry.mtime_ns) == (2**31, -5 * 10**9)


def test_several_gzip_members_and_zstd_frames_are_one_layer(tar: Tar, read: Read, raw: RawType) -> None:
    plain = tar([raw("a", data=b"1" * 5000), raw("b")])
    halves = plain[:2000], plain[2000:]
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    for blob in (
        b"".join(map(gzip.compress, halves)) + b"\0\0",
        skippable + skippable.join(map(zstandard.compress, halves)),
    ):
        assert [entry.path for entry in read(blob, step=7)] == [b"a", b"b"]


def test_what_follows_the_end_of_a_tar_is_no_entry(tar: Tar, read: Read, raw: RawType) -> None:
    assert len(read(tar([raw("a")]) + b"trailing")) == 1


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/etc/passwd", b"etc/passwd"),
        ("//etc///passwd/", b"etc/passwd"),
        ("./a/./b", b"a/b"),
        ("a/b/../c", b"a/c"),
    ],
)
def test_a_path_that_stays_in_the_tree_is_contained(
    name: str, path: bytes, tar: Tar, read: Read, raw: RawType
) -> None:
    (entry,) = read(tar([raw(name, tarfile.SYMTYPE, link="x")]))
    assert entry.path == path


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (("../evil",), r"'\.\./evil' climbs out of the tree"),
        (("a/../../evil",), r"'a/\.\./\.\./evil' climbs out of the tree"),
        (("x", tarfile.LNKTYPE, b"", "../../etc/shadow"), "climbs out of the tree"),
        ((".wh...",), r"'\.wh\.\.\.' would delete something other than a file in its directory"),
        (("a/.wh..",), "would delete something other than a file in its directory"),
        (("a/.wh.",), "would delete something other than a file in its directory"),
        (("a/.wh..wh.b",), "would delete something other than a file in its directory"),
        (("a/.wh.b/c",), "lies below what deletes a file"),
        (("./",), None),
        (("./", tarfile.SYMTYPE, b"", "/"), "would replace the root directory"),
        (("n" * 256,), "has a name of more than 255 bytes"),
        (("n/" * 2100,), "has a path of more than 4096 bytes"),
        (("l", tarfile.SYMTYPE, b"", ""), "is a symbolic link to nothing"),
        (("l", tarfile.SYMTYPE, b"", "t" * 5000), "is a symbolic link to nothing, or to more than 4096"),
        (("s", tarfile.GNUTYPE_SPARSE), "'s' is a sparse file"),
        (("s", tarfile.REGTYPE, b"", "", 0o644, {"GNU.sparse.major": "1"}), "'s' is a sparse file"),
        (("v", b"V"), "'v' is of the unknown type 'V'"),
        (("d/", tarfile.REGTYPE, b"x"), "'d/' is a directory to some readers, and to others a file"),
        (("s", tarfile.REGTYPE, b"", "", 0o644, {"uid": "-1"}), "'s' has a PAX uid that is not a number"),
        (
            ("s", tarfile.REGTYPE, b"", "", 0o644, {"size": "9" * 30}),
            "'s' has a PAX size that is not a number",
        ),
        (("s", tarfile.REGTYPE, b"", "", 0o644, {"mtime": "1e9"}), "'s' has a PAX mtime that is not a time"),
    ],
)
def test_a_hostile_member_is_refused_and_named(
    member: tuple[str], why: str | None, tar: Tar, read: Read, raw: RawType
) -> None:
    blob = tar([raw("before"), raw(*member)])
    if why is None:
        assert read(blob)[1].path == b""
        return
    with pytest.raises(ContentError, match=f"^layer [0-9a-f]{{12}}: .*{why}"):
        read(blob)


@pytest.mark.parametrize("digits", [b"0000000_001", b"0o000000001", b"+0000000001"])
def test_a_number_that_only_python_reads_is_refused(
    digits: bytes, tar: Tar, read: Read, raw: RawType
) -> None:
    blob = bytearray(tar([raw("x", tarfile.REGTYPE, b"1")]))
    blob[124:135] = digits
    blob[148:156] = b" " * 8
    blob[148:156] = b"%06o\0 " % sum(blob[:512])
    with pytest.raises(ContentError, match="has a size that is not a number"):
        read(bytes(blob))


def test_notes_of_aufs_are_passed_over(tar: Tar, read: Read, raw: RawType) -> None:
    blob = tar([raw(name) for name in (".wh..wh.aufs", ".wh..wh.plnk/1.2", ".wh..wh..opq", "a/.wh.b")])
    assert [(entry.kind, entry.path) for entry in read(blob)] == [
        (Kind.OPAQUE, b""),
        (Kind.WHITEOUT, b"a/b"),
    ]


def test_a_pax_header_that_would_fill_memory_is_refused(read: Read, tar: Tar, raw: RawType) -> None:
    with pytest.raises(ContentError, match="headers of more than 1048576 bytes"):
        read(tar([raw("a", pax={"comment": "x" * 2**20})]))
    one = tar([raw("a", pax={"comment": "x" * 2**19})])
    header = one[: 512 + 2**19 + 512]
    with pytest.raises(ContentError, match="headers of more than 1048576 bytes"):
        read(header * 3 + one)


@pytest.mark.parametrize("length", [b"-5", b"0", b"3", b"999", b"x", b""])
def test_a_pax_record_with_a_wrong_length_is_refused(length: bytes, read: Read) -> None:
    body = (length + b" path=b\n").ljust(20, b"\n")
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(body)
    with pytest.raises(ContentError, match="has a damaged PAX header"):
        read(info.tobuf() + body.ljust(512, b"\0") + tarfile.TarInfo("a").tobuf())


def test_a_bomb_is_refused_before_it_is_unpacked(
    read: Read, tar: Tar, raw: RawType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_read, "MAX_UNPACKED", 1_000_000)
    monkeypatch.setattr(layer_read, "MAX_RATIO", 10)
    plain = tar([raw("small"), raw("zeros", data=bytes(3_000_000))])
    for blob in (gzip.compress(plain), zstandard.compress(plain)):
        with pytest.raises(ContentError, match="unpacks to more than 1000000") as caught:
            read(blob)
        assert "'zeros' is where reading stopped" in caught.value.hint
    assert len(read(plain)) == 2


def test_zstd_that_asks_for_a_huge_window_is_refused(read: Read) -> None:
    # A frame header: no single segment, window descriptor of exponent 31, that is 2 TiB.
    with pytest.raises(ContentError, match="is damaged"):
        read(b"\x28\xb5\x2f\xfd\x00" + bytes([31 << 3]) + b"\x01\0\0" + bytes(100))


def test_more_entries_or_names_than_any_layer_has_are_refused(
    read: Read, tar: Tar, raw: RawType, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = tar([raw(f"{number:03}") for number in range(100)])
    monkeypatch.setattr(layer_read, "MAX_ENTRIES", 100)
    assert len(read(blob)) == 100
    monkeypatch.setattr(layer_read, "MAX_METADATA", 299)
    with pytest.raises(ContentError, match="more than 299 bytes of names"):
        read(blob)
    monkeypatch.setattr(layer_read, "MAX_ENTRIES", 99)
    with pytest.raises(ContentError, match="more than 99 entries"):
        read(blob)


@pytest.mark.parametrize("cut", [1, 100, 511, 600, 1300])
def test_a_tar_that_is_cut_short_is_an_error(cut: int, read: Read, tar: Tar, raw: RawType) -> None:
    plain = tar([raw("a", data=b"1" * 1000)])[:cut]
    for blob in (plain, gzip.compress(plain), zstandard.compress(plain)):
        with pytest.raises(ContentError, match=r"is cut short|is not a tar"):
            read(blob)


def test_a_gzip_stream_that_is_cut_short_or_damaged_is_an_error(read: Read, tar: Tar, raw: RawType) -> None:
    blob = gzip.compress(tar([raw("a", data=b"1" * 1000)]))
    with pytest.raises(ContentError, match="its gzip stream does not end"):
        read(blob[:-4])
    with pytest.raises(ContentError, match="is damaged"):
        read(blob[:-8] + b"\0" * 8)


def test_a_wrong_checksum_is_an_error(read: Read, tar: Tar, raw: RawType) -> None:
    blob = bytearray(tar([raw("first"), raw("second")]))
    blob[512] ^= 1
    with pytest.raises(ContentError, match="has a header whose checksum is wrong, at byte 512"):
        read(bytes(blob))


@given(st.binary(max_size=3000), st.integers(0, 2000), st.booleans())
def test_noise_is_refused_plainly_wherever_it_stands(noise: bytes, place: int, squeezed: bool) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        info = tarfile.TarInfo("a" * 150)
        info.size = 300
        file.addfile(info, io.BytesIO(b"x" * 300))
    blob = zlib.compress(out.getvalue(), wbits=31) if squeezed else out.getvalue()
    blob = blob[:place] + noise + blob[place + len(noise) :]
    reader = LayerReader("layer", len(blob))
    try:
        reader.feed(blob)
        reader.finish()
    except ContentError as error:
        assert error.message.startswith("layer ")  # noqa: PT017  (either outcome is right)


@pytest.mark.anyio
async def test_nothing_is_read_unhashed() -> None:
    chunks: list[bytes] = []
    info = write_layer([of_bytes(b"a", b"1")], compressor("gzip"), chunks.append)
    good, bad = b"".join(chunks), write_of(b"2")
    assert [each.path for each in await read_layer(BytesContent(info.descriptor, good))] == [b"a"]
    with pytest.raises(ContentError, match="names other bytes"):
        await read_layer(BytesContent(info.descriptor, bad.ljust(len(good), b"\0")[: len(good)]))


def write_of(data: bytes) -> bytes:
    chunks: list[bytes] = []
    write_layer([of_bytes(b"a", data)], compressor("gzip"), chunks.append)
    return b"".join(chunks)


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
