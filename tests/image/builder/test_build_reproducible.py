"""The same input gives the same digests, wherever and by whomever it is built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long

DOCKERFILE = """FROM scratch AS build
COPY . /src
RUN make
FROM scratch
COPY --from=build /src/b /out /
ENV A=1
CMD ["/out"]
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "one"
    (place / "d").mkdir(parents=True)
    for name in ("b", "a", "d/ü", "d/z"):
        (place / name).write_text(name)
    (place / "Dockerfile").write_text(DOCKERFILE)
    (place / "Dockerfile.run.yaml").write_text("make: {files: {out: {size: 3MB, ratio: 3}}}\n")
    return place


def build(context: Path, out: Path, *arguments: str, umask: int = 0o022, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "regsim", "build", str(context), "-q", "-t", f"oci:{out}:x", *arguments],
        env={**os.environ, **environment},
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_place_time_zone_locale_umask_and_time_change_nothing(context: Path, tmp_path: Path) -> None:
    first = build(context, tmp_path / "out1")
    moved = tmp_path / "elsewhere" / "deep"
    shutil.copytree(context, moved)
    for path in moved.rglob("*"):
        os.utime(path, (1, 1))
    for number, options in enumerate(
        (
            {"TZ": "Asia/Kathmandu"},
            {"LC_ALL": "C", "PYTHONUTF8": "0"},
            {"PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "0"},
        )
    ):
        assert build(moved, tmp_path / f"other{number}", umask=0o077, **options) == first


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_each_compression_repeats_itself(context: Path, tmp_path: Path, compression: str) -> None:
    flags = ("--compression", compression)
    assert build(context, tmp_path / "a", *flags) == build(context, tmp_path / "b", *flags)


def test_times_are_the_given_one(context: Path, tmp_path: Path) -> None:
    given = build(context, tmp_path / "a", "--timestamp", "1735689600")
    by_environment = build(context, tmp_path / "b", SOURCE_DATE_EPOCH="1735689600")
    assert given == by_environment != build(context, tmp_path / "c")
