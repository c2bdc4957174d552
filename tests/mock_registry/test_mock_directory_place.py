"""The directory itself: whose it is, what else may be in it, and what happens when it is full."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from mock_registry import DirectoryError, DirectoryInUseError, DirectoryStorage, MockRegistry
from mock_registry.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mock_registry.conftest import OpenPeer, Peer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SMALL = b"a small blob"
LARGE = bytes(range(256)) * 10_000


async def closed(path: Path) -> None:
    """Make a registry's directory, and leave it."""
    await DirectoryStorage(path).aclose()


# Whose it is


async def test_two_registries_on_one_directory_are_refused(path: Path) -> None:
    async with MockRegistry(directory=path):
        with pytest.raises(
            DirectoryInUseError, match=rf"in use by another registry \(process {os.getpid()}\)"
        ):
            MockRegistry(directory=path)
    async with MockRegistry(directory=path):
        pass


async def test_a_registry_of_another_process_is_refused_and_the_command_says_why(path: Path) -> None:
    arguments = [sys.executable, "-m", "mock_registry", "--port", "0", "--log", "none", "--dir", str(path)]
    storage = DirectoryStorage(path)
    run = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)  # noqa: ASYNC221
    assert (run.returncode, run.stdout) == (6, "")
    assert f"Error: {path} is in use by another registry (process {os.getpid()})" in run.stderr
    assert "hint: " in run.stderr
    await storage.aclose()


@contextlib.contextmanager
def command(*options: str) -> Iterator[str]:
    """Run the command on a free port until it is told to stop, and give its address."""
    arguments = [sys.executable, "-m", "mock_registry", "--port", "0", "--log", "none", *options]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
    assert process.returncode == 0


def test_the_command_serves_what_an_earlier_one_kept(path: Path) -> None:
    more = ["--session-lifetime", "60.5", "--collect-after", "3600"]
    url = "/v2/app/blobs/uploads/"
    with command("--dir", str(path), *more) as base, httpx.Client(base_url=base, trust_env=False) as http:
        digest = f"sha256:{hashlib.sha256(SMALL).hexdigest()}"
        assert http.post(url, params={"digest": digest}, content=SMALL).status_code == 201
        session = http.patch(http.post(url).headers["location"], content=LARGE).headers["location"]
    with command("--dir", str(path)) as base, httpx.Client(base_url=base, trust_env=False) as http:
        assert http.get(f"/v2/app/blobs/{digest}").content == SMALL
        assert http.get(session).headers["range"] == f"0-{len(LARGE) - 1}"


@pytest.mark.parametrize("seconds", ["-1", "inf", "soon"])
def test_the_command_refuses_times_that_are_none(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--session-lifetime", seconds])
    assert caught.value.code == 2
    assert f"--session-lifetime: not a number of seconds: {seconds}" in capsys.readouterr().err


async def test_another_server_lets_go_of_the_directory_when_it_stops(open_peer: OpenPeer, path: Path) -> None:
    async with open_peer("uvicorn", directory=path) as peer:
        digest = await peer.push("app", SMALL)
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == SMALL


async def test_a_registry_that_was_dropped_lets_go_of_its_directory(path: Path) -> None:
    storage = DirectoryStorage(path)
    del storage
    await closed(path)


async def test_missing_directories_are_made(tmp_path: Path) -> None:
    await closed(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "changes.log").is_file()


async def test_a_directory_given_through_a_link_is_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    await closed(tmp_path / "link")
    assert (tmp_path / "real" / "changes.log").is_file()


@pytest.mark.parametrize("name", ["photo.jpg", "blobs/sha256/" + "0" * 64, "index.html"])
def test_a_directory_with_content_of_somebody_else_is_refused_and_left_alone(path: Path, name: str) -> None:
    (path / name).parent.mkdir(parents=True)
    (path / name).write_bytes(b"precious")
    with pytest.raises(DirectoryError, match="holds"):
        DirectoryStorage(path)
    assert (path / name).read_bytes() == b"precious"


async def test_the_root_of_a_new_file_system_is_taken(path: Path) -> None:
    (path / "lost+found").mkdir(parents=True)
    await closed(path)


def test_a_path_that_is_no_directory_is_an_error_that_names_it(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(FileExistsError) as caught:
        DirectoryStorage(path)
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("left", [None, b"", b"mock_reg"])
async def test_content_whose_changes_are_lost_is_refused_rather_than_taken_for_left_over(
    open_peer: OpenPeer, path: Path, left: bytes | None
) -> None:
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", SMALL)
    (path / "changes.log").unlink()
    if left is not None:
        (path / "changes.log").write_bytes(left)
    for _ in range(2):
        with pytest.raises(DirectoryError, match=r"holds content, but nothing in a changes\.log"):
            DirectoryStorage(path)
    assert (path / "blobs" / digest.replace(":", "/")).read_bytes() == SMALL


# The file of changes


@pytest.mark.parametrize("torn", [b"12345678 {", b"mock", b"\0" * 10])
async def test_the_torn_end_of_the_changes_is_cut_off(open_peer: OpenPeer, path: Path, torn: bytes) -> None:
    async with open_peer("process", directory=path) as peer:
        await peer.push("app", SMALL)
    log = path / "changes.log"
    whole = log.read_bytes()
    log.write_bytes(whole + torn)
    async with open_peer("process", directory=path) as peer:
        assert log.read_bytes() == whole
        await peer.push("app", LARGE)
    async with open_peer("process", directory=path) as peer:
        for content in (SMALL, LARGE):
            assert (await peer.http.get(f"/v2/app/blobs/{peer.digest(content)}")).content == content


async def test_a_torn_first_line_is_written_again(path: Path) -> None:
    await closed(path)
    (path / "changes.log").write_bytes(b"mock_reg")
    await closed(path)
    assert (path / "changes.log").read_bytes().startswith(b"mock_registry changes 1\n")


async def test_a_damaged_line_of_the_changes_is_refused_with_its_number(
    open_peer: OpenPeer, path: Path
) -> None:
    async with open_peer("process", directory=path) as peer:
        await peer.push("app", SMALL)
        await peer.push("app", LARGE)
    log = path / "changes.log"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"sha256", b"sha255")
    log.write_bytes(b"".join(lines))
    with pytest.raises(DirectoryError, match=r"line 3 of changes\.log is damaged: the checksum"):
        DirectoryStorage(path)
    with pytest.raises(DirectoryError):  # and the lock was let go
        DirectoryStorage(path)


async def test_changes_of_another_version_are_refused(path: Path) -> None:
    await closed(path)
    (path / "changes.log").write_bytes(b"mock_registry changes 2\nsomething new\n")
    with pytest.raises(DirectoryError, match="this version"):
        DirectoryStorage(path)


ZEROS = f"sha256:{'0' * 64}"
HOSTILE = [
    '{"change": "session-opened", "session": "../../x", "repository": "app", "algorithm": "sha256"}',
    '{"change": "session-opened", "session": ".hidden", "repository": "app", "algorithm": "sha256"}',
    '{"change": "session-opened", "session": "x", "repository": "app", "algorithm": "md5"}',
    '{"change": "session-opened", "session": 5, "repository": "app", "algorithm": "sha256"}',
    '{"change": "session-committed", "session": "x", "digest": "sha256:../../../etc/passwd"}',
    '{"change": "blob-linked", "repository": "../x", "digest": "' + ZEROS + '"}',
    '{"change": "blob-linked", "repository": "app", "digest": "' + ZEROS + '", "more": 1}',
    '{"change": "manifest-stored", "repository": "app", "digest": "' + ZEROS + '", "media_type": "a\\r\\nb"}',
    '{"change": "tag-deleted", "repository": "app", "tag": "a/b"}',
    '{"change": "exploded"}',
    "[]",
    "7",
    "not JSON",
]


@pytest.mark.parametrize("line", HOSTILE)
async def test_a_line_that_no_registry_writes_is_refused_though_its_checksum_holds(
    path: Path, line: str
) -> None:
    await closed(path)
    with (path / "changes.log").open("ab") as log:
        log.write(b"%08x %b\n" % (zlib.crc32(line.encode()), line.encode()))
    with pytest.raises(DirectoryError, match="line 2"):
        DirectoryStorage(path)


# What else may be in it


@pytest.mark.parametrize("name", ["blobs", "uploads", "blobs/sha256"])
async def test_a_folder_that_is_a_link_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    await closed(path)
    for child in (path / "blobs").iterdir():
        if name == "blobs":
            child.rmdir()
    (path / name).rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (path / name).symlink_to(elsewhere)
    with pytest.raises(DirectoryError, match="is not a folder"):
        DirectoryStorage(path)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["changes.log", "lock"])
async def test_a_file_of_ours_that_is_a_link_is_not_followed(path: Path, tmp_path: Path, name: str) -> None:
    await closed(path)
    (tmp_path / "precious").write_bytes(b"precious")
    (path / name).unlink()
    (path / name).symlink_to(tmp_path / "precious")
    with pytest.raises((DirectoryError, OSError)):
        DirectoryStorage(path)
    assert (tmp_path / "precious").read_bytes() == b"precious"


async def test_strange_names_are_neither_served_nor_removed(
    open_peer: OpenPeer, path: Path, tmp_path: Path
) -> None:
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", SMALL)
    (tmp_path / "precious").write_bytes(b"precious")
    sha256, uploads = path / "blobs" / "sha256", path / "uploads"
    (sha256 / "README").write_bytes(b"hello")
    (sha256 / ("A" * 64)).write_bytes(b"upper case")
    (sha256 / ("1" * 64)).mkdir()
    (uploads / "a folder").mkdir()
    (uploads / "..strange\n").write_bytes(b"")
    names = [".manifest-7", ".freed-7", "a" * 32]
    for name in names:
        (uploads / name).symlink_to(tmp_path / "precious")
    async with open_peer("process", directory=path) as peer:
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == SMALL
        for name in ("README", "A" * 64, "1" * 64, "../../lock"):
            answer = await peer.http.get(f"/v2/app/blobs/sha256:{name}")
            assert answer.status_code in (400, 404)
        await peer.push_image("app", "v1", layers=[LARGE])
    assert {"README", "A" * 64, "1" * 64} <= {file.name for file in sha256.iterdir()}
    assert {file.name for file in uploads.iterdir()} == {"a folder", "..strange\n"}
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_a_session_whose_file_became_a_link_is_an_error_and_the_link_is_not_followed(
    open_peer: OpenPeer, path: Path, tmp_path: Path, method: str
) -> None:
    (tmp_path / "precious").write_bytes(SMALL)
    async with open_peer("process", directory=path) as peer:
        location = (await peer.http.patch(await peer.open("app"), content=SMALL)).headers["location"]
        [file] = (path / "uploads").iterdir()
        file.unlink()
        file.symlink_to(tmp_path / "precious")
        content = LARGE if method == "PATCH" else b""
        params = peer.also(location, digest=peer.digest(SMALL))
        answer = await peer.http.request(method, location, params=params, content=content)
        assert (answer.status_code, peer.codes(answer)) == (500, ["UNKNOWN"])
        assert (await peer.http.get(f"/v2/app/blobs/{peer.digest(SMALL)}")).status_code == 404
    assert (tmp_path / "precious").read_bytes() == SMALL
    assert list((path / "uploads").iterdir()) == []


async def test_what_a_killed_process_left_over_is_removed(open_peer: OpenPeer, path: Path) -> None:
    async with open_peer("process", directory=path) as peer:
        digest = await peer.push("app", SMALL)
        location = (await peer.http.patch(await peer.open("app"), content=LARGE)).headers["location"]
    for name in (".manifest-0", ".freed-3", "0123456789abcdef"):
        (path / "uploads" / name).write_bytes(LARGE)
    (path / "blobs" / "sha512" / ("0" * 128)).write_bytes(LARGE)
    (path / "changes.log.new").write_bytes(b"half")
    async with open_peer("process", directory=path) as peer:
        assert len(peer.files()) == 2
        assert (await peer.http.get(location)).headers["range"] == f"0-{len(LARGE) - 1}"
        assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == SMALL


# When it is full


async def require_alive(peer: Peer, digest: str) -> None:
    assert (await peer.http.get("/v2/")).status_code == 200
    assert (await peer.http.get(f"/v2/app/blobs/{digest}")).content == SMALL


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let writes beyond so many bytes of a file fail, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST"])
async def test_an_upload_beyond_what_fits_is_507_and_its_space_is_free(
    open_peer: OpenPeer, path: Path, method: str
) -> None:
    async with open_peer("port", directory=path) as peer:
        digest = await peer.push("app", SMALL)
        params = {"digest": peer.digest(LARGE)}
        location = "/v2/app/blobs/uploads/" if method == "POST" else await peer.open("app")
        url = location.partition("?")[0]
        with file_size_limit(1_500_000):
            answer = await peer.http.request(method, url, params=params, content=LARGE)
            assert (answer.status_code, peer.codes(answer)) == (507, ["UNKNOWN"])
            await require_alive(peer, digest)
        assert len(peer.files()) == 1
        assert (method == "POST") or (await peer.http.get(location)).status_code == 404
        await peer.push("app", LARGE)
    async with open_peer("process", directory=path) as peer:
        assert peer.registry.state.sessions == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a file system of 3 MiB, where this machine lets us have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def free(disk: Path) -> int:
    figures = os.statvfs(disk)
    return figures.f_bavail * figures.f_frsize


def fill(disk: Path) -> Path:
    """Leave no room at all."""
    file = disk / "registry" / "uploads" / "not ours"
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as opened:
        while True:
            opened.write(bytes(4096))
    assert free(disk) == 0
    return file


async def mount_until_full(peer: Peer, digest: str) -> list[str]:
    """Mount a blob again and again until the changes have no room, and return where it is then."""
    mounted: list[str] = []
    for number in range(100):
        name = f"mounted-{number:02}"
        params = {"mount": digest, "from": "app"}
        answer = await peer.http.post(f"/v2/{name}/blobs/uploads/", params=params)
        if answer.status_code == 507:
            assert peer.codes(answer) == ["UNKNOWN"]
            return mounted
        assert answer.status_code == 201
        mounted.append(name)
    raise AssertionError


async def test_a_full_disk_is_507_and_the_registry_lives_on(open_peer: OpenPeer, small_disk: Path) -> None:
    async with open_peer("port", directory=small_disk / "registry") as peer:
        digest = await peer.push("app", SMALL)
        location = (await peer.http.patch(await peer.open("app"), content=LARGE[:400_000])).headers[
            "location"
        ]
        before = free(small_disk)
        answer = await peer.http.patch(location, content=LARGE * 2)
        assert (answer.status_code, peer.codes(answer)) == (507, ["UNKNOWN"])
        assert free(small_disk) >= before + 400_000 - 4096
        assert (await peer.http.get(location)).status_code == 404
        await require_alive(peer, digest)
        await peer.push("app", LARGE[:2_000_000])


async def test_on_a_disk_without_any_room_nothing_is_promised_that_is_not_written(
    open_peer: OpenPeer, small_disk: Path
) -> None:
    path = small_disk / "registry"
    async with open_peer("port", directory=path) as peer:
        image = await peer.push_image("app", "v1", SMALL)
        digest = peer.digest(SMALL)
        junk = fill(small_disk)
        mounted = await mount_until_full(peer, digest)
        answer = await peer.put("app", "v2", image)
        assert (answer.status_code, peer.codes(answer)) == (507, ["UNKNOWN"])
        answer = await peer.http.get("/v2/app/tags/list")
        assert answer.json()["tags"] == ["v1"]
        await require_alive(peer, digest)
        assert len(peer.files()) == 2 + (junk in peer.files())
    async with open_peer("port", directory=path) as peer:
        assert peer.registry.repositories == ("app", *mounted)
        await require_alive(peer, digest)


async def test_on_a_disk_without_any_room_deletes_are_possible_and_make_some(
    open_peer: OpenPeer, small_disk: Path
) -> None:
    path = small_disk / "registry"
    async with open_peer("port", directory=path) as peer:
        image = await peer.push_image("app", "v1", SMALL)
        large = await peer.push("app", LARGE[:1_000_000])
        location = (await peer.http.patch(await peer.open("app"), content=LARGE[:500_000])).headers[
            "location"
        ]
        fill(small_disk)
        await mount_until_full(peer, peer.digest(SMALL))
        assert (await peer.http.delete(location)).status_code == 204
        fill(small_disk)
        assert (await peer.http.delete(f"/v2/app/blobs/{large}")).status_code == 202
        assert free(small_disk) >= 900_000
        await peer.push("app", LARGE[:500_000])
    async with open_peer("port", directory=path) as peer:
        assert (await peer.http.get(f"/v2/app/blobs/{large}")).status_code == 404
        assert peer.registry.state.sessions == {}
        assert (await peer.http.get("/v2/app/manifests/v1")).content == image
