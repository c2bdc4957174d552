"""COPY and ADD put files where the Dockerfile reference says."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import tarfile
from typing import TYPE_CHECKING

import pytest

from regsim.errors import ContentError, DockerfileError, LocalFileError
from regsim.image.builder.effects import Effect, MadeFile
from regsim.store.entry import Kind

if TYPE_CHECKING:
    from tests.image.builder.conftest import Bench

pytestmark = pytest.mark.anyio


def names(entries: object) -> list[str]:
    """Return the paths of all that is not a directory."""
    assert isinstance(entries, dict)
    return sorted(path for path, entry in entries.items() if entry.kind is not Kind.DIRECTORY)


@pytest.mark.parametrize(
    ("copy", "paths"),
    [
        ("COPY . /", ["a.txt", "b.txt", "d/c.txt", "d/e/f"]),
        ("COPY . .", ["w/a.txt", "w/b.txt", "w/d/c.txt", "w/d/e/f"]),
        ("COPY a.txt /x", ["x"]),
        ("COPY a.txt /x/", ["x/a.txt"]),
        ("COPY a.txt ./", ["w/a.txt"]),
        ("COPY a.txt b.txt /x/", ["x/a.txt", "x/b.txt"]),
        ("COPY d /x", ["x/c.txt", "x/e/f"]),
        ("COPY d d/ /x/", ["x/c.txt", "x/e/f"]),
        ("COPY *.txt /x/", ["x/a.txt", "x/b.txt"]),
        ("COPY [a].txt d/e /x/", ["x/a.txt", "x/f"]),
        ("COPY ?.txt none* /x/", ["x/a.txt", "x/b.txt"]),
        ("COPY d/*/f /x", ["x"]),
        ("COPY ../../a.txt /x", ["x"]),
        ("COPY /a.txt /x/../y", ["y"]),
        ("COPY --parents d/e/f a.txt /x/", ["x/a.txt", "x/d/e/f"]),
        ("COPY --parents d/./e/f /x/", ["x/e/f"]),
        ("COPY --exclude=*.txt --exclude=d/e . /x/", ["x/d/c.txt"]),
        ("COPY --exclude=a.* *.txt /x/", ["x/b.txt"]),
        ("COPY <<one <<two /x/\n1\none\n2\ntwo", ["x/one", "x/two"]),
    ],
)
async def test_copy_means_by_its_words(bench: Bench, copy: str, paths: list[str]) -> None:
    for name in ("a.txt", "b.txt", "d/c.txt", "d/e/f"):
        bench.write(name, name)
    image = await bench.build(f"FROM scratch\nWORKDIR /w\n{copy}\n")
    assert names(image.files) == paths


async def test_files_keep_their_modes_and_lose_their_owners_and_times(bench: Bench) -> None:
    bench.write("tool", "x", mode=0o4751)
    os.chown(bench.context / "tool", 1234, 1234)
    image = await bench.build("FROM scratch\nCOPY tool /bin/\n", timestamp=77)
    tool = image.files["bin/tool"]
    assert (tool.mode & 0o777, tool.uid, tool.gid, tool.mtime_ns) == (0o751, 0, 0, 77 * 10**9)
    assert image.files["bin"].mode == 0o755


async def test_chown_and_chmod_apply_to_all_that_is_copied(bench: Bench) -> None:
    bench.write("etc/passwd", "root:x:0:0::/:\nme:x:1000:1001::/:\n")
    bench.write("etc/group", "staff:x:50:\n")
    image = await bench.build(
        "FROM scratch\nCOPY etc /etc\nCOPY --chown=me --chmod=640 etc/passwd /a/\n"
        "COPY --chown=me:staff etc /b\nCOPY --chown=7 etc/group /c\n"
    )
    owners = {path: (entry.uid, entry.gid, entry.mode) for path, entry in image.files.items()}
    assert owners["a/passwd"] == (1000, 1001, 0o640)
    assert owners["a"] == (1000, 1001, 0o755)
    assert owners["b/group"] == (1000, 50, 0o644)
    assert owners["c"] == (7, 7, 0o644)


async def test_a_destination_that_is_a_directory_of_the_image_needs_no_slash(bench: Bench) -> None:
    bench.write("a", "a")
    image = await bench.build("FROM scratch\nWORKDIR /x\nCOPY a /x\n")
    assert names(image.files) == ["x/a"]


async def test_a_destination_that_is_a_link_is_followed_within_the_image(bench: Bench) -> None:
    bench.write("a", "a")
    links = {
        b"usr/lib/x": MadeFile(size=1),
        b"lib": MadeFile(link=b"usr/lib"),
        b"out": MadeFile(link=b"../../../usr"),
    }
    image = await bench.build(
        "FROM scratch\nRUN ln\nCOPY a /lib/\nCOPY a /out/b/\n", effects={"ln": Effect(files=links)}
    )
    assert names(image.files) == ["lib", "out", "usr/b/a", "usr/lib/a", "usr/lib/x"]


@pytest.mark.parametrize(
    ("copy", "message"),
    [
        ("COPY a b /x", "several sources have one destination"),
        ("COPY a? /x", "several sources have one destination"),
        ("COPY none /x", "there is no 'none' in the context"),
        ("COPY none* /x", "nothing in the context matches"),
        ("COPY a1 /file/", "'file' in the image is a file, not a directory"),
        ("COPY a1 /file/x", "'file' in the image is a file, not a directory"),
        ("COPY d /", "'d/file' is a directory, and 'file' in the image is a file"),
        ("COPY --from=0 / /", "names no stage before"),
        ("COPY ignored /x", "there is no 'ignored' in the context"),
    ],
)
async def test_what_cannot_be_copied_is_named_with_its_line(bench: Bench, copy: str, message: str) -> None:
    for name in ("a", "b", "a1", "a2", "file", "d/file/x", "ignored"):
        bench.write(name)
    bench.write(".dockerignore", "ignored\n")
    with pytest.raises((ContentError, DockerfileError)) as error:
        await bench.build(f"FROM scratch\nCOPY file /\n{copy}\n")
    assert str(error.value).startswith("Dockerfile:3: ")
    assert message in str(error.value)
    if "ignored" in copy:
        assert error.value.hint == "an ignore file leaves it out"


async def test_ignore_patterns_leave_out_and_take_in_again(bench: Bench) -> None:
    for name in ("a.md", "README.md", "src/x.o", "src/deep/y.o", "src/deep/keep.o", "node/m/z", ".git/HEAD"):
        bench.write(name)
    bench.write(".dockerignore", "# comment\n*.md\n!README.md\n**/*.o\n!src/**/keep.o\n/node/\n.git\n")
    image = await bench.build("FROM scratch\nCOPY . /\n")
    assert names(image.files) == [".dockerignore", "README.md", "src/deep/keep.o"]


async def test_a_dockerfile_s_own_ignore_file_stands_above_the_common_one(bench: Bench) -> None:
    for name in ("a", "b"):
        bench.write(name)
    bench.write(".dockerignore", "a\n")
    bench.write("Dockerfile.dockerignore", "b\n*ignore\n")
    assert names((await bench.build("FROM scratch\nCOPY . /\n")).files) == ["a"]


async def test_links_are_copied_as_they_are_and_followed_only_where_they_are_named(bench: Bench) -> None:
    bench.write("real/file", "x")
    for name, target in (
        ("dir", "real"),
        ("file", "real/file"),
        ("out", "../../etc/passwd"),
        ("abs", "/real"),
    ):
        (bench.context / name).symlink_to(target)
    image = await bench.build("FROM scratch\nCOPY . /all/\nCOPY dir /d/\nCOPY file /f\nCOPY abs /a/\n")
    assert image.files["all/out"].link == b"../../etc/passwd"
    assert image.files["all/dir"].kind is Kind.SYMLINK
    assert (image.data["d/file"], image.data["f"], image.data["a/file"]) == (b"x", b"x", b"x")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "loop"])
async def test_a_link_out_of_the_context_leads_nowhere(bench: Bench, target: str) -> None:
    (bench.context / "loop").symlink_to("loop")
    (bench.context / "link").symlink_to(target)
    with pytest.raises(ContentError, match=r"Dockerfile:2: .*'link'"):
        await bench.build("FROM scratch\nCOPY link /x\n")


@pytest.mark.parametrize("kind", ["socket", "named pipe"])
async def test_what_no_layer_takes_from_a_context_is_refused_and_named(bench: Bench, kind: str) -> None:
    bench.write("d/file", "x")
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(bench.context / "d" / "odd"))
    else:
        os.mkfifo(bench.context / "d" / "odd")
    with pytest.raises(ContentError, match=f"'d/odd' in the context is a {kind}") as error:
        await bench.build("FROM scratch\nCOPY . /\n")
    assert ".dockerignore" in error.value.hint
    assert names((await bench.build("FROM scratch\nCOPY d/file /\n")).files) == ["file"]
    bench.write(".dockerignore", "d/odd\n")
    assert "d/file" in (await bench.build("FROM scratch\nCOPY . /\n")).files


async def test_names_may_be_any_bytes_up_to_255_of_them(bench: Bench) -> None:
    odd = [b"\xff\xfe", b"a\nb", b"x" * 255, "ä".encode() * 127, b"-rf", b"a b\\c"]
    for name in odd:
        (bench.context / os.fsdecode(name)).write_bytes(name)
    image = await bench.build("FROM scratch\nCOPY . /\n")
    assert {os.fsencode(path): data for path, data in image.data.items()} == {name: name for name in odd}


async def build_many(bench: Bench, count: int) -> None:
    for number in range(count):
        bench.write(f"{number % 100}/{number}", str(number))
    image = await bench.build("FROM scratch\nCOPY . /\n")
    assert len(image.files) == count + 100
    assert image.data[f"{(count - 1) % 100}/{count - 1}"] == str(count - 1).encode()


async def test_a_context_may_have_many_files(bench: Bench) -> None:
    await build_many(bench, 2_000)


@pytest.mark.soak
async def test_a_context_may_have_100000_files(bench: Bench) -> None:
    await build_many(bench, 100_000)


async def test_a_directory_too_deep_is_refused(bench: Bench) -> None:
    (bench.context / "/".join(["d"] * 300)).mkdir(parents=True)
    with pytest.raises(ContentError, match="nested deeper than 256"):
        await bench.build("FROM scratch\nCOPY . /\n")


async def test_a_path_too_deep_to_be_there_is_refused(bench: Bench) -> None:
    with pytest.raises(ContentError, match="nested deeper than 256"):
        await bench.build(f"FROM scratch\nCOPY {'a/' * 3000} /\n")


async def test_a_deep_directory_that_is_left_out_is_searched_for_what_is_not(bench: Bench) -> None:
    bench.write(".dockerignore", "d\n!**/kept\n")
    bench.write("/".join(["d"] * 240 + ["kept"]), "1")
    bench.write("/".join(["d"] * 240 + ["other"]), "2")
    image = await bench.build("FROM scratch\nCOPY d /d\n")
    assert list(image.data.values()) == [b"1"]


async def test_chown_and_chmod_that_are_empty_say_nothing(bench: Bench) -> None:
    bench.write("a", "1", mode=0o640)
    image = await bench.build("FROM scratch\nARG WHO\nCOPY --chown=$WHO --chmod=$WHO a /x\n")
    assert (image.files["x"].uid, image.files["x"].mode) == (0, 0o640)
    assert image.history[-1] == "COPY a /x # buildkit"


async def test_a_file_that_cannot_be_read_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write("secret", "x")

    def refuse(*_: object, **__: object) -> None:
        raise LocalFileError("cannot read secret: Permission denied")

    monkeypatch.setattr("regsim.image.builder.context.open_regular", refuse)
    with pytest.raises(LocalFileError, match="Dockerfile:2: cannot read secret"):
        await bench.build("FROM scratch\nCOPY secret /\n")


def archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./top/{name}")
            info.size, info.mode, info.uid = len(data), 0o640, 9
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("top/hard")
        link.type, link.linkname = tarfile.LNKTYPE, "top/one"
        tar.addfile(link)
    return out.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
async def test_add_unpacks_local_archives_and_copy_does_not(bench: Bench, pack: type[bytes]) -> None:
    bench.write("x.bin", pack(archive(one=b"1" * 70_000, two=b"2")))
    image = await bench.build(
        "FROM scratch\nADD x.bin /a/\nCOPY x.bin /b/\nADD --unpack=false x.bin /c/\nADD --chown=3 x.bin /d\n"
    )
    assert names(image.files) == [
        *(f"a/top/{name}" for name in ("hard", "one", "two")), "b/x.bin", "c/x.bin",
        *(f"d/top/{name}" for name in ("hard", "one", "two")),
    ]  # fmt: skip
    assert image.data["a/top/one"] == b"1" * 70_000
    assert (image.files["a/top/one"].mode, image.files["a/top/one"].uid) == (0o640, 9)
    assert image.files["d/top/one"].uid == 3


async def test_add_copies_what_only_looks_like_an_archive(bench: Bench) -> None:
    bench.write("text.gz", gzip.compress(b"no tar\n" * 100))
    bench.write("broken.tar", b"BZh9 not really")
    bench.write("empty.tar", b"")
    image = await bench.build("FROM scratch\nADD text.gz broken.tar empty.tar /x/\n")
    assert names(image.files) == ["x/broken.tar", "x/empty.tar", "x/text.gz"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/.wh.b"])
async def test_an_archive_that_climbs_or_deletes_is_refused_and_named(bench: Bench, name: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    bench.write("evil.tar", out.getvalue())
    with pytest.raises(ContentError, match=r"Dockerfile:2: archive 'evil\.tar': "):
        await bench.build("FROM scratch\nADD evil.tar /x/\n")


async def test_a_link_in_an_archive_does_not_lead_later_files_out_of_the_destination(bench: Bench) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("up")
        link.type, link.linkname = tarfile.SYMTYPE, "../../../../etc"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("up/passwd"))
    bench.write("evil.tar", out.getvalue())
    image = await bench.build("FROM scratch\nADD evil.tar /x/\n")
    assert names(image.files) == ["etc/passwd", "x/up"]  # in the image's own tree, as tar would do there


async def test_stages_give_files_with_their_owners_and_contents(bench: Bench) -> None:
    bench.write("a", "aaa")
    bench.write("b", "bbb")
    text = (
        "FROM scratch AS one\nCOPY --chown=5:6 a /d/a\nCOPY a /d/b\nCOPY b /d/b\nRUN ln\n"
        "FROM scratch\nCOPY --from=one /d /x\nCOPY --from=0 d/link /y\nCOPY --from=one --chown=1 d/? /z/\n"
    )
    image = await bench.build(text, effects={"ln": Effect(files={b"d/link": MadeFile(link=b"b")})})
    assert (image.data["x/a"], image.data["x/b"], image.data["y"]) == (b"aaa", b"bbb", b"bbb")
    assert (image.files["x/a"].uid, image.files["x/a"].gid, image.files["z/a"].uid) == (5, 6, 1)
    assert image.files["x/link"].kind is Kind.SYMLINK
    assert len(image.built.layers) == 3


async def test_only_the_stages_that_the_target_needs_are_built(bench: Bench) -> None:
    bench.write("a", "a")
    text = (
        "FROM scratch AS unused\nRUN never\nFROM scratch AS one\nCOPY a /\nFROM one AS two\nLABEL x=y\n"
        "FROM scratch AS three\nCOPY --from=two a /b\n"
    )
    assert names((await bench.build(text)).files) == ["b"]
    assert names((await bench.build(text, target="ONE")).files) == ["a"]
    assert names((await bench.build(text, target="2")).files) == ["a"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("?.md", "é.md"), ("arr[[]0.txt", "arr[0.txt"), (r"arr\\[0*", "arr[0.txt"), ("[^a]*.md", "é.md")],
)
async def test_a_pattern_is_one_of_letters_in_which_a_bracket_may_be_escaped(
    bench: Bench, pattern: str, found: str
) -> None:
    for name in ("é.md", "arr[0.txt", "a.mdx"):
        bench.write(name)
    image = await bench.build(f"FROM scratch\nCOPY {pattern} /x/\n")
    assert names(image.files) == [f"x/{found}"]
