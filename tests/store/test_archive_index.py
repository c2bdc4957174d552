"""Archives of others are hostile: what a tar holds is read without unpacking, and oddities are refused."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regsim.errors import ContentError, LocalFileError, RegsimError
from regsim.store.archive import MAX_MEMBERS, TarIndex
from regsim.store.tar_read import MAX_SPECIAL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def info(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in more.items():
        setattr(made, key, value)
    return made


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def raw_header(name: str, kind: bytes, size: int) -> bytes:
    made = info(name, kind)
    made.size = size
    return made.tobuf(tarfile.GNU_FORMAT)


@pytest.fixture
def index(tmp_path: Path) -> Callable[[bytes], TarIndex]:
    def read(raw: bytes) -> TarIndex:
        path = tmp_path / "image.tar"
        path.write_bytes(raw)
        return TarIndex.read(path)

    return read


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("name", ["a", "blobs/sha256/" + "a" * 64, "x" * 90 + "/" + "y" * 100])
def test_files_of_every_format_are_found_with_their_bytes(
    index: Callable[[bytes], TarIndex], form: int, name: str
) -> None:
    found = index(tar((info("first"), b"1"), (info(name), b"some bytes"), form=form))
    assert set(found.members) == {"first", name}
    assert found.document(name, 100) == b"some bytes"
    assert found.document("absent", 100) is None


def test_names_below_a_dot_are_those_below_nothing(index: Callable[[bytes], TarIndex]) -> None:
    found = index(tar((info("./", tarfile.DIRTYPE), b""), (info("./a/./b"), b"x")))
    assert set(found.members) == {"a/b"}


def test_sha512_names_and_sizes_come_from_extended_headers(index: Callable[[bytes], TarIndex]) -> None:
    name = "blobs/sha512/" + "c" * 128
    assert index(tar((info(name), b"abc"))).document(name, 3) == b"abc"


def test_a_link_within_the_archive_leads_to_its_file(index: Callable[[bytes], TarIndex]) -> None:
    link = info("b/layer.tar", tarfile.SYMTYPE, linkname="../a/layer.tar")
    found = index(tar((info("a/layer.tar"), b"layer"), (link, b"")))
    assert found.document("b/layer.tar", 10) == b"layer"


def test_what_a_global_header_says_is_ignored_as_engines_do(index: Callable[[bytes], TarIndex]) -> None:
    said = info("").create_pax_global_header({"path": "other", "comment": "a commit"})
    assert set(index(said + tar((info("a"), b"1"), (info("b"), b"2"))).members) == {"a", "b"}


def test_nothing_follows_a_directory_whatever_size_it_says(index: Callable[[bytes], TarIndex]) -> None:
    assert set(index(raw_header("d/", tarfile.DIRTYPE, 512) + tar((info("a"), b"1"))).members) == {"a"}


HOSTILE: dict[str, tuple[bytes, str]] = {
    "absolute name": (tar((info("/etc/passwd"), b"x")), "/etc/passwd"),
    "climbing name": (tar((info("a/../../b"), b"x")), r"a/\.\./\.\./b"),
    "climbing directory": (tar((info("../", tarfile.DIRTYPE), b"")), r"\.\."),
    "climbing link": (tar((info("a/b", tarfile.SYMTYPE, linkname="../../c"), b"")), "a/b"),
    "absolute link": (tar((info("a/b", tarfile.SYMTYPE, linkname="/etc/passwd"), b"")), "a/b"),
    "hard link": (tar((info("a", tarfile.LNKTYPE, linkname="b"), b"")), "hard link"),
    "character device": (tar((info("null", tarfile.CHRTYPE), b"")), "null"),
    "block device": (tar((info("sda", tarfile.BLKTYPE), b"")), "sda"),
    "pipe": (tar((info("pipe", tarfile.FIFOTYPE), b"")), "pipe"),
    "unknown type": (raw_header("odd", b"Z", 0), "odd"),
    "name twice": (tar((info("a/b"), b"1"), (info("./a//b"), b"2")), "a/b"),
    "sparse file": (raw_header("hole", tarfile.GNUTYPE_SPARSE, 0), "hole"),
    "sparse by pax": (
        tar((info("hole", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.size": "9" * 12}), b"x")),
        "hole.*sparse",
    ),
    "long name without end": (
        raw_header("L", tarfile.GNUTYPE_LONGNAME, 2**33),
        "precedes headers of more than",
    ),
    "pax header without end": (
        raw_header("x", tarfile.XHDTYPE, MAX_SPECIAL + 1),
        "precedes headers of more than",
    ),
    "pax header of garbage": (
        raw_header("x", tarfile.XHDTYPE, 4) + b"oops".ljust(512, b"\0"),
        "damaged PAX header",
    ),
    "pax record of length 0": (
        raw_header("x", tarfile.XHDTYPE, 4) + b"0 a=".ljust(512, b"\0"),
        "damaged PAX header",
    ),
    "pax size that is not a number": (
        tar((info("a", pax_headers={"size": "-1"}), b"x")),
        "size that is not a number",
    ),
    "pax size beyond the end": (tar((info("a", pax_headers={"size": "9" * 15}), b"x")), "ends before"),
    "negative size": (raw_header("a", tarfile.REGTYPE, -1), "the size -1"),
    "size beyond the end": (raw_header("a", tarfile.REGTYPE, 2**40), "ends before"),
    "headers upon headers": (
        (raw_header("x", tarfile.XHDTYPE, 0)) * 3000 + tar((info("a"), b"x")),
        "precedes headers",
    ),
    "header of nothing": (raw_header("x", tarfile.XHDTYPE, 0), "cut short"),
    "damage in the middle": (tar((info("a"), b"x"))[:1024] + b"\1" * 512, "at byte 1,024"),
    "no tar": (b"hello " * 500, "not a tar"),
    "empty file": (b"", "not a tar"),
    "gzip": (gzip.compress(tar((info("a"), b"x"))), "gzip"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(2000), "zstd"),
}


@pytest.mark.parametrize(("raw", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archive_is_refused_and_the_member_named(
    index: Callable[[bytes], TarIndex], raw: bytes, words: str
) -> None:
    with pytest.raises(ContentError, match=words) as caught:
        index(raw)
    assert "image.tar" in caught.value.message


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ([info("a", tarfile.SYMTYPE, linkname="b"), info("b", tarfile.SYMTYPE, linkname="a")], "a"),
        ([info("a", tarfile.SYMTYPE, linkname="gone")], "a"),
    ],
    ids=["circle", "nowhere"],
)
def test_link_to_no_file_is_refused_when_it_is_followed(
    index: Callable[[bytes], TarIndex], members: list[tarfile.TarInfo], name: str
) -> None:
    found = index(tar(*[(each, b"") for each in members]))
    with pytest.raises(ContentError, match="is a link to"):
        found.document(name, 10)


def test_document_beyond_its_limit_is_not_read(index: Callable[[bytes], TarIndex]) -> None:
    found = index(tar((info("index.json"), b"x" * 101)))
    with pytest.raises(ContentError, match=r"index\.json.*101"):
        found.document("index.json", 100)


@pytest.mark.long
def test_more_members_than_any_image_has_are_refused(index: Callable[[bytes], TarIndex]) -> None:
    directory = raw_header("d/", tarfile.DIRTYPE, 0)
    with pytest.raises(ContentError, match="more than 100,000 members"):
        index(directory * (MAX_MEMBERS + 1))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalFileError, match="no archive"):
        TarIndex.read(tmp_path / "absent.tar")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LocalFileError, match="regular file"):
        TarIndex.read(tmp_path / "pipe")


def test_a_large_member_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    with path.open("wb") as file:
        file.write(raw_header("layer", tarfile.REGTYPE, 2**34))
        file.truncate(512 + 2**34 + 1024)
    tracemalloc.start()
    try:
        found = TarIndex.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert found.members["layer"].size == 2**34


name_part = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=130).filter(
    lambda text: text not in (".", "..")
)


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.lists(name_part, min_size=1, max_size=3).map("/".join), st.binary(max_size=1500), max_size=6
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_files_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], form: int
) -> None:
    path = tmp_path_factory.mktemp("tar") / "image.tar"
    path.write_bytes(tar(*[(info(name), data) for name, data in files.items()], form=form))
    found = TarIndex.read(path)
    assert {name: found.document(name, 1500) for name in found.members} == files


GOOD = tar(
    (info("oci-layout"), b"{}"),
    (info("blobs/sha512/" + "d" * 128), b"data" * 300),
    (info("link", tarfile.SYMTYPE, linkname="oci-layout"), b""),
)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(GOOD)),
)
def test_damaged_archive_is_read_or_refused_but_never_a_surprise(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], length: int
) -> None:
    raw = bytearray(GOOD)
    for position, value in changes:
        raw[position] = value
    path = tmp_path_factory.mktemp("tar") / "image.tar"
    path.write_bytes(raw[:length] if length % 3 == 0 else raw)
    try:
        found = TarIndex.read(path)
        for member in found.members.values():
            assert member.offset + member.size <= len(raw)
            assert ".." not in member.name.split("/")
            assert found.document(member.name, len(raw)) is not None
    except RegsimError as error:
        assert error.message  # noqa: PT017  (either outcome is fine; this one must say something)
