"""The cache is right: nothing stale, nothing built anew without need, nothing half-written believed."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from regsim.image.builder.effects import Effect, MadeFile
from regsim.image.builder.work import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from tests.image.builder.conftest import Bench

pytestmark = pytest.mark.anyio

CACHED, BUILT = Outcome.CACHED, Outcome.BUILT

TEXT = """FROM scratch
WORKDIR /app
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build
CMD ["/app/main"]
"""
EFFECTS = {
    "go mod download": Effect(files={b"go/pkg/dep": MadeFile(size=5000)}),
    "go build": Effect(files={b"app/main": MadeFile(size=9000, mode=0o755)}),
}


@pytest.fixture
def source(bench: Bench) -> Bench:
    for name in ("go.mod", "go.sum", "main.go", "lib/a.go", "lib/b.go"):
        bench.write(name, f"// {name}\n")
    return bench


async def test_nothing_is_built_twice(source: Bench) -> None:
    first = await source.build(TEXT, effects=EFFECTS)
    second = await source.build(TEXT, effects=EFFECTS)
    assert first.outcomes == [BUILT] * 5
    assert second.outcomes == [CACHED] * 5
    assert second.digest == first.digest
    assert [step.size for step in second.steps] == [step.size for step in first.steps]


async def test_one_changed_file_is_built_from_its_copy_on_and_nothing_above(source: Bench) -> None:
    await source.build(TEXT, effects=EFFECTS)
    source.write("main.go", "// changed\n")
    image = await source.build(TEXT, effects=EFFECTS)
    assert image.outcomes == [CACHED, CACHED, CACHED, BUILT, BUILT]
    source.write("go.sum", "// changed\n")
    image = await source.build(TEXT, effects=EFFECTS)
    assert image.outcomes == [CACHED, BUILT, BUILT, BUILT, BUILT]


async def test_a_file_that_got_the_same_size_and_time_is_seen_nevertheless(source: Bench) -> None:
    file = source.write("main.go", "aaaa")
    os.utime(file, ns=(10**18, 10**18))
    await source.build(TEXT, effects=EFFECTS)
    source.write("main.go", "bbbb")
    os.utime(file, ns=(10**18, 10**18))
    assert (await source.build(TEXT, effects=EFFECTS)).data["app/main.go"] == b"bbbb"


@pytest.mark.parametrize(
    ("old", "new", "outcomes"),
    [
        ("CMD", 'LABEL a=b\nEXPOSE 80\nENTRYPOINT ["x"]\nCMD', [CACHED] * 5),
        ("WORKDIR", "LABEL a=b\nUSER root\nWORKDIR", [BUILT, CACHED, BUILT, CACHED, BUILT]),
        ("COPY go.mod", "LABEL a=b\nCOPY go.mod", [CACHED] * 5),
        ("RUN go build", "ENV X=1\nRUN go build", [CACHED, CACHED, CACHED, CACHED, BUILT]),
        ("COPY . .", "COPY --chmod=755 . .", [CACHED, CACHED, CACHED, BUILT, BUILT]),
        ("COPY . .", "COPY ./ ./", [CACHED] * 5),
    ],
)
async def test_what_an_instruction_says_counts_where_it_is_read(
    source: Bench, old: str, new: str, outcomes: list[Outcome]
) -> None:
    await source.build(TEXT, effects=EFFECTS)
    assert (await source.build(TEXT.replace(old, new, 1), effects=EFFECTS)).outcomes == outcomes


async def test_what_is_declared_counts(source: Bench) -> None:
    await source.build(TEXT, effects=EFFECTS)
    changed = {**EFFECTS, "go mod download": Effect(files={b"go/pkg/dep": MadeFile(size=5001)})}
    assert (await source.build(TEXT, effects=changed)).outcomes == [CACHED, CACHED, BUILT, BUILT, BUILT]


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"timestamp": 1}])
async def test_how_layers_are_made_counts(source: Bench, options: dict[str, object]) -> None:
    await source.build(TEXT, effects=EFFECTS)
    assert set((await source.build(TEXT, effects=EFFECTS, **options)).outcomes) == {BUILT}  # type: ignore[arg-type]


async def test_a_stage_s_change_counts_only_where_it_is_copied(source: Bench) -> None:
    text = "FROM scratch AS one\nCOPY . /\nFROM scratch\nCOPY --from=one lib/a.go /\n"
    await source.build(text)
    source.write("main.go", "// changed\n")
    assert (await source.build(text)).outcomes == [BUILT, CACHED]
    source.write("lib/a.go", "// changed\n")
    changed = await source.build(text)
    assert (changed.outcomes, changed.data["a.go"]) == ([BUILT, BUILT], b"// changed\n")


async def test_a_linked_copy_does_not_count_what_is_below(source: Bench) -> None:
    text = "FROM scratch\nRUN base\nCOPY --link main.go /x/\n"
    await source.build(text, effects={"base": Effect(files={b"x/a": MadeFile(size=1)})})
    image = await source.build(text, effects={"base": Effect(files={b"x/a": MadeFile(size=2)})})
    assert image.outcomes == [BUILT, CACHED]
    assert sorted(image.data) == ["x/a", "x/main.go"]


async def test_a_cache_that_lost_or_damaged_anything_is_only_slower(source: Bench) -> None:
    assert source.cache is not None
    first = await source.build(TEXT, effects=EFFECTS)
    victims = sorted(path for path in source.cache.rglob("*") if path.is_file() and path.suffix == ".json")
    blobs = sorted((source.cache / "layers" / "blobs" / "sha256").iterdir())
    for number, path in enumerate([*victims, *blobs]):
        saved = path.read_bytes()
        path.unlink()
        if number % 3:
            path.write_bytes(saved[: len(saved) // 2] if number % 3 == 1 else b"")
        shutil.rmtree(source.layout)
        assert (await source.build(TEXT, effects=EFFECTS)).digest == first.digest


def random_edit(bench: Bench, choice: random.Random) -> None:
    """Do something to a context: write, append, delete, rename, touch, change a mode, or link."""
    files = [path for path in sorted(bench.context.rglob("*")) if path.is_file() and not path.is_symlink()]
    file = choice.choice(files)
    match choice.randrange(8):
        case 0:
            bench.write(
                f"{choice.choice('ab')}/{choice.choice('xyz')}", choice.randbytes(choice.randrange(40))
            )
        case 1:
            with file.open("ab") as open_file:
                open_file.write(b"more")
        case 2 if len(files) > 3:
            file.unlink()
        case 3:
            file.rename(file.with_name(f"r{choice.randrange(4)}"))
        case 4:
            os.utime(file, (choice.randrange(10**9), choice.randrange(10**9)))
        case 5:
            file.chmod(choice.choice([0o600, 0o644, 0o755]))
        case 6:
            link = bench.context / f"l{choice.randrange(2)}"
            link.unlink(missing_ok=True)
            link.symlink_to(choice.choice(["a", "b/x", "/nowhere"]))
        case _:
            (bench.context / "empty").mkdir(exist_ok=True)


def seen(bench: Bench, top: str) -> str:
    """Return a hash of all that a COPY of one directory, or of everything, may depend on."""
    hasher = hashlib.sha256()
    root = bench.context / top if top else bench.context
    for path in sorted([root, *root.rglob("*")]) if root.exists() else []:
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""  # noqa: PTH115
        # The directory that is copied itself gives no mode: only what is in it is copied.
        mode = 0 if path == root else status.st_mode
        hasher.update(repr((str(path.relative_to(root)), mode, content)).encode())
    return hasher.hexdigest()


@pytest.mark.parametrize("seed", range(3))
async def test_random_edits_build_neither_too_little_nor_too_much(bench: Bench, seed: int) -> None:
    choice = random.Random(seed)
    for name in ("a/x", "a/y", "b/x", "b/z", "top"):
        bench.write(name, name)
    bench.write("a/keep")
    bench.write("b/keep")
    text = "FROM scratch\nCOPY a /a\nCOPY b /b\nRUN build\nCOPY . /all\n"
    effects = {"build": Effect(files={b"out": MadeFile(size=100)})}
    known: set[tuple[str, ...]] = set()
    for _ in range(25):
        random_edit(bench, choice)
        for keep in ("a/keep", "b/keep"):
            if not (bench.context / keep).exists():
                bench.write(keep)
        image = await bench.build(text, effects=effects)
        without = bench.cache
        bench.cache = None
        assert (await bench.build(text, effects=effects)).digest == image.digest  # nothing stale
        bench.cache = without
        one, two, everything = seen(bench, "a"), seen(bench, "b"), seen(bench, "")
        needed = [("a", one), ("b", one, two), ("run", one, two), ("all", one, two, everything)]
        expected = [CACHED if each in known else BUILT for each in needed]
        assert image.outcomes == expected  # nothing without need
        known.update(needed)


KILLED = """
import asyncio, os, sys
from pathlib import Path
from regsim.cli.app import main
from regsim.store import files
count = int(sys.argv[1])
real = os.replace
def replace(*a, **k):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), 9)
    return real(*a, **k)
os.replace = replace
Path.replace = lambda self, target: replace(self, target)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.long
def test_a_build_that_is_killed_anywhere_leaves_nothing_that_is_believed(
    source: Bench, tmp_path: Path
) -> None:
    source.write("Dockerfile", TEXT)
    source.write(
        "Dockerfile.run.yaml", "go mod download: {files: {d: 5kB}}\ngo build: {files: {app/main: 9kB}}\n"
    )

    def run(moment: int, cache: str) -> subprocess.CompletedProcess[str]:
        command = ["build", str(source.context), "-q", "-t", f"oci:{tmp_path / 'out'}:x", "--cache", cache]
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(moment), *command], capture_output=True, text=True, check=False
        )

    whole = run(10**6, str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    cache, killed = str(tmp_path / "cut"), 0
    for moment in range(0, 40, 5):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        done = run(moment, cache)
        killed += done.returncode == -9
        assert done.returncode == -9 or done.stdout == whole.stdout
    assert killed >= 2
    assert run(10**6, cache).stdout == whole.stdout


async def test_the_clock_tells_how_long_a_step_took(source: Bench) -> None:
    image = await source.build(TEXT, effects=EFFECTS)
    assert all(0 <= step.seconds < time.monotonic() for step in image.steps)


async def test_a_name_means_who_it_is_below_even_where_the_layer_is_linked(
    bench: Bench, tmp_path: Path
) -> None:
    bench.cache = tmp_path / "cache"
    bench.write("f")
    for number in (1, 2):
        bench.write(f"{number}/etc/passwd", f"me:x:{number}:{number}::/:\n")
        image = await bench.build(f"FROM scratch\nCOPY {number} /\nCOPY --link --chown=me f /x\n")
        assert image.files["x"].uid == number
