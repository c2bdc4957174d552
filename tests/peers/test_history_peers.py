"""`regsim history` beside `podman history`: the same lines, in the same table."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.peers

DOCKERFILE = """FROM scratch
COPY data /data
RUN make --an --instruction --that --is --longer --than --what --fits
WORKDIR /data
ENV GREETING=hi
CMD ["/data/run"]
"""
LEFT = "make --an --instruction --that --is --longer --than --what --fits: {files: {out: {size: 300kB}}}\n"
CONTAINERS_CONF = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def regsim(*arguments: str) -> str:
    return run(sys.executable, "-m", "regsim", *arguments)


@pytest.fixture
def image(tmp_path: Path) -> str:
    context = tmp_path / "context"
    (context / "data").mkdir(parents=True)
    (context / "data" / "words").write_bytes(b"words" * 100)
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "Dockerfile.run.yaml").write_text(LEFT)
    address = f"oci:{tmp_path / 'image'}:v1"
    regsim("build", str(context), "-t", address, "--quiet", "--timestamp", "1733486388")
    return address


@pytest.fixture
def podman() -> Iterator[Callable[..., str]]:
    program = shutil.which("podman")
    if program is None:
        pytest.fail("podman is not installed (Debian package podman)")
    # podman takes no place whose name has more than 50 letters.
    with TemporaryDirectory(prefix="podman-") as home:
        (Path(home) / "containers.conf").write_text(CONTAINERS_CONF)
        flags = (f"--root={home}/root", f"--runroot={home}/run", "--storage-driver=vfs")

        def call(*arguments: str) -> str:
            return run(program, *flags, *arguments, CONTAINERS_CONF=f"{home}/containers.conf")

        yield call
        shutil.rmtree(Path(home) / "root", ignore_errors=True)


def test_podman_tells_the_same_lines_of_an_image(podman: Callable[..., str], image: str) -> None:
    identifier = podman("pull", "--quiet", image).strip()
    theirs = json.loads(podman("history", "--format", "json", identifier))
    (ours,) = json.loads(regsim("history", image, "--format", "json"))
    assert ours["id"] == f"sha256:{theirs[0]['id']}"
    assert [(line["created"], line["created_by"], line["comment"]) for line in ours["history"]] == [
        (line["created"], line["CreatedBy"], line["comment"]) for line in theirs
    ]
    # What podman calls size is the tar, with a header and padding for each entry; docker counts the files.
    assert [(line["size"], line["empty_layer"]) for line in ours["history"]] == [
        (0, True),
        (0, True),
        (0, False),
        (300_000, False),
        (500, False),
    ]
    assert [line["size"] for line in theirs] == [0, 0, 1024, 301_568, 2560]


def test_podman_prints_the_same_ages_and_cuts_where_it_cuts(podman: Callable[..., str], image: str) -> None:
    identifier = podman("pull", "--quiet", image).strip()

    def cells(text: str) -> list[list[str]]:
        return [re.split(r"\s{2,}", row)[:3] for row in text.splitlines()[1:] if row]

    theirs, ours = cells(podman("history", identifier)), cells(regsim("history", image))
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    # Both print 45 letters at most, docker and regsim with one for what is left out, podman with three.
    assert [row[2].removesuffix("…")[:42] for row in ours] == [row[2].removesuffix("...") for row in theirs]
