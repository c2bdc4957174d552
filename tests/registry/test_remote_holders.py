from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest

from regsim.core import Digest
from regsim.registry import holders
from regsim.registry.holders import MAX_REPOSITORIES, Holders, default_path

A, B = Digest.of(b"a"), Digest.of(b"b")
HOST = "127.0.0.1:5000"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "holders"


def candidates(index: Holders, host: str, digest: Digest) -> tuple[str, ...]:
    return tuple(index.read(host).get(digest, ()))


def test_the_most_recent_repository_comes_first(path: Path) -> None:
    index = Holders(path)
    index.add(HOST, "shop/api", [A, B])
    index.add(HOST, "shop/web", [A])
    assert candidates(index, HOST, A) == ("shop/web", "shop/api")
    index.add(HOST, "shop/api", [A])
    assert candidates(Holders(path), HOST, A) == ("shop/api", "shop/web")
    assert candidates(index, HOST, B) == ("shop/api",)


def test_edge_46_hosts_are_kept_apart_with_their_ports(path: Path) -> None:
    index = Holders(path)
    index.add(HOST, "shop/api", [A])
    assert candidates(index, "127.0.0.1:5001", A) == ()
    assert candidates(index, "../" + HOST, A) == ()


def test_repositories_and_digests_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "MAX_DIGESTS", 3)
    index = Holders(path)
    for number in range(MAX_REPOSITORIES + 3):
        index.add(HOST, f"shop/{number}", [A])
    assert candidates(index, HOST, A)[0] == f"shop/{MAX_REPOSITORIES + 2}"
    assert len(candidates(index, HOST, A)) == MAX_REPOSITORIES
    index.add(HOST, "shop/api", [Digest.of(bytes([number])) for number in range(3)])
    assert candidates(index, HOST, A) == ()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version":2,"digests":{}}', '{"version":1}', '{"version":1,"digests":[]}', "[" * 50_000]
    + [json.dumps({"version": 1, "digests": {A: value}}) for value in (1, None, [1])],
)
def test_a_corrupt_index_is_an_empty_one_and_is_replaced(path: Path, text: str) -> None:
    index = Holders(path)
    index.add(HOST, "shop/api", [B])
    file = next(path.glob("*.json"))
    file.write_text(text)
    assert candidates(index, HOST, A) == ()
    index.add(HOST, "shop/api", [A])
    assert candidates(index, HOST, A) == ("shop/api",)


def test_a_name_that_is_none_is_never_a_candidate(path: Path) -> None:
    index = Holders(path)
    index.add(HOST, "shop/api", [A])
    file = next(path.glob("*.json"))
    file.write_text(json.dumps({"version": 1, "digests": {A: ["x&y=1", "../x", "ok/name", "", "UPPER"]}}))
    assert candidates(index, HOST, A) == ("ok/name",)


def test_a_cache_that_cannot_be_written_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    index = Holders(tmp_path / "file" / "holders")
    index.add(HOST, "shop/api", [A])
    assert candidates(index, HOST, A) == ()


def test_a_writer_that_is_stuck_holds_nobody_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "_PAUSE", 0)
    index = Holders(path)
    index.add(HOST, "shop/api", [A])
    with next(path.glob("*.lock")).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        index.add(HOST, "shop/web", [A])
    assert candidates(index, HOST, A) == ("shop/api",)


def test_processes_that_write_at_once_lose_nothing_and_leave_no_half_file(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from regsim.core import Digest; from regsim.registry import holders\n"
        "holders._TRIES = 10**9; index = holders.Holders(Path(sys.argv[1]))\n"
        f"for n in range(20): index.add('{HOST}', 'shop/api', [Digest.of(f'{{sys.argv[2]}}{{n}}'.encode())])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, path, str(number)]) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    index = Holders(path)
    for number in range(4):
        for each in range(20):
            assert candidates(index, HOST, Digest.of(f"{number}{each}".encode())) == ("shop/api",)
    assert not list(path.glob(".*"))


def test_the_index_lives_in_the_users_cache() -> None:
    assert default_path({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/regsim/holders")
    assert default_path({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}) == Path(
        "/home/me/.cache/regsim/holders"
    )
    assert default_path({"HOME": "/home/me"}) == Path("/home/me/.cache/regsim/holders")
