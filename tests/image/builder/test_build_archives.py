"""ADD unpacks what archivers really write, and nothing that is cut short or asks for too much."""

from __future__ import annotations

import bz2
import io
import lzma
import random
import struct
import tarfile
import zlib
from typing import TYPE_CHECKING

import pytest

from regsim.errors import ContentError, DockerfileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.image.builder.conftest import Bench

pytestmark = pytest.mark.anyio


def archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(("pack", "between"), [(bz2.compress, b""), (lzma.compress, bytes(4))])
async def test_streams_one_behind_the_other_are_one_archive(
    bench: Bench, pack: Callable[[bytes], bytes], between: bytes
) -> None:
    raw = archive(a=b"x" * 100, b=b"y" * 100)
    bench.write("a.tar", pack(raw[:1024]) + between + pack(raw[1024:]))  # as pbzip2 and pixz do
    image = await bench.build("FROM scratch\nADD a.tar /x/\n")
    assert image.data == {"x/a": b"x" * 100, "x/b": b"y" * 100}


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
async def test_an_archive_whose_compression_is_cut_short_is_refused(
    bench: Bench, pack: Callable[[bytes], bytes]
) -> None:
    bench.write("a.tar", pack(archive(a=random.Random(1).randbytes(100_000)))[:-10])
    with pytest.raises(ContentError, match=r"Dockerfile:2: archive 'a\.tar': it is cut short"):
        await bench.build("FROM scratch\nADD a.tar /x/\n")


async def test_an_archive_that_asks_for_too_much_memory_is_refused(bench: Bench) -> None:
    raw = lzma.compress(archive(a=b"a"))
    start, size = 12, (raw[12] + 1) * 4  # the header of its first block
    header = bytearray(raw[start : start + size - 4])
    header[header.index(b"\x21\x01") + 2] = 40  # a dictionary of 4 GiB
    changed = bytes(header) + struct.pack("<I", zlib.crc32(header))
    bench.write("a.tar", raw[:start] + changed + raw[start + size :])
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: archive 'a\.tar' needs more than \d+ bytes"):
        await bench.build("FROM scratch\nADD a.tar /x/\n")


async def test_hard_links_follow_the_links_that_their_files_followed(bench: Bench) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("lib/a")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
        link = tarfile.TarInfo("lib/b")
        link.type, link.linkname = tarfile.LNKTYPE, "lib/a"
        tar.addfile(link)
    bench.write("a.tar", out.getvalue())
    bench.write("root/usr/lib/z")
    (bench.context / "root" / "lib").symlink_to("usr/lib")
    image = await bench.build("FROM scratch\nCOPY root /\nADD a.tar /\n")
    assert image.files["usr/lib/b"] is image.files["usr/lib/a"]


@pytest.mark.parametrize("sources", ["a.txt b.txt", "*.txt"])
async def test_add_of_several_needs_a_directory_as_copy_does(bench: Bench, sources: str) -> None:
    bench.write("a.txt", "1")
    bench.write("b.txt", "2")
    with pytest.raises(ContentError, match="Dockerfile:2: several sources have one destination"):
        await bench.build(f"FROM scratch\nADD {sources} /x\n")


async def test_a_hard_link_that_comes_before_its_file_is_copied_on(bench: Bench) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("etc/passwd")
        data = b"me:x:7:8::/:\n"
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("a")  # sorts first, so the layer has the content under this name
        link.type, link.linkname = tarfile.LNKTYPE, "etc/passwd"
        tar.addfile(link)
    bench.write("a.tar", out.getvalue())
    bench.write("f")
    image = await bench.build(
        "FROM scratch AS one\nADD a.tar /\nCOPY --chown=me f /f\n"
        "FROM scratch\nCOPY --from=one /etc/passwd /x\nCOPY --from=one /a /f /y/\n"
    )
    assert (image.data["x"], image.data["y/a"]) == (data, data)
    assert (image.files["y/f"].uid, image.files["y/f"].gid) == (7, 8)
