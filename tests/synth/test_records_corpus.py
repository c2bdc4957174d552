"""The shipped records hold what the corpus beside the checkout says; run this file to write them anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "corpus" / "_modern_2024_2026.json"
RECORDS = ROOT / "scenarios" / "records"

# Two builds of one tag share the name, so the month of each tells them apart.
BUILDS = {"0ace92a91fb1": "-2024-12", "ccdca3b3bde3": "-2025-01"}
NOTES = {
    "golang-1.23.4-bookworm-arm64": (
        "Uncompressed and content sizes are rounded, as docker history prints them; its lines are docker's."
    ),
    "golang-1-bookworm-amd64": "The tag moves: ENV GOLANG_VERSION stands without its value.",
    "golang-1-bookworm-arm64": "The tag moves: ENV GOLANG_VERSION stands without its value.",
}
# Layers that hold no files: a tar of nothing, which BuildKit makes of WORKDIR, and golang's directories.
EMPTY = "sha256:4f4fb700ef54461cfa02571ae0db9a0dc1e0cdb5577484a6d75e68dc38e8acc1"
ONLY_DIRECTORIES = "RUN mkdir -p $GOPATH"
BUILDKIT = "buildkit.dockerfile.v0"
APT = "RUN /bin/sh -c set -eux; \tapt-get update; \tapt-get install -y --no-install-recommends \t\t"
APT_END = " \t; \trm -rf /var/lib/apt/lists/* # buildkit"
# What docker history says of this one: the dates and instructions of the page, in docker's words.
DOCKER_HISTORY = {
    "golang-1.23.4-bookworm-arm64": {
        "RUN # debian.sh (base rootfs)": (
            "2023-05-10T23:29:59Z",
            "# debian.sh --arch 'arm64' out/ 'bookworm' '@1736726400'",
            "debuerreotype 0.15",
        ),
        "RUN apt-get install ca-certificates curl gnupg netbase sq wget": (
            "2023-05-10T23:29:59Z",
            f"{APT}ca-certificates \t\tcurl \t\tgnupg \t\tnetbase \t\tsq \t\twget{APT_END}",
            BUILDKIT,
        ),
        "RUN apt-get install git mercurial openssh-client subversion procps": (
            "2024-01-09T01:14:25Z",
            f"{APT}git \t\tmercurial \t\topenssh-client \t\tsubversion \t\t\t\tprocps{APT_END}",
            BUILDKIT,
        ),
        "RUN apt-get install g++ gcc libc6-dev make pkg-config": (
            "2024-12-03T19:01:46Z",
            f"{APT}g++ \t\tgcc \t\tlibc6-dev \t\tmake \t\tpkg-config{APT_END}",
            BUILDKIT,
        ),
        "COPY /target/ / (Go toolchain)": ("2024-12-03T19:01:46Z", "COPY /target/ / # buildkit", BUILDKIT),
        "RUN mkdir -p $GOPATH": (
            "2024-12-03T19:01:46Z",
            'RUN /bin/sh -c mkdir -p "$GOPATH/src" "$GOPATH/bin" && chmod -R 1777 "$GOPATH" # buildkit',
            BUILDKIT,
        ),
    },
}
LATEST = "2024-12-03T19:01:46Z"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def record_name(image: dict[str, Any]) -> str:
    architecture = image["platform"].split("/")[1]
    build = BUILDS.get(image["manifest"].removeprefix("sha256:")[:12], "")
    return f"{image['repo']}-{image['tag']}-{architecture}{build}"


def converted(image: dict[str, Any], uncompressed: dict[str, list[float]]) -> dict[str, Any]:
    """Turn an image of the corpus into a record."""
    platform = "/".join(image["platform"].split("/")[:2])
    sizes = uncompressed.get(f"{image['repo']}:{image['tag']} {platform}", [])
    history: list[dict[str, Any]] = []
    for position, layer in enumerate(image["layers"]):
        if image["repo"] == "golang" and layer["created_by_short"].startswith("COPY /target/"):
            history.extend({"created_by": line} for line in golang_environment(image["tag"]))
        facts = {key: layer[key] for key in ("media_type", "digest", "size")}
        if position < len(sizes):
            facts["uncompressed_size"] = facts["content_size"] = int(sizes[position])
        if layer["digest"] == EMPTY or layer["created_by_short"] == ONLY_DIRECTORIES:
            facts["content_size"] = 0
        history.append({"created_by": layer["created_by_short"], "layer": facts})
    name = record_name(image)
    if name in DOCKER_HISTORY:
        history = [in_docker_words(line, DOCKER_HISTORY[name]) for line in history]
    return {
        "record": 1,
        "image": f"{image['repo']}:{image['tag']}",
        "platform": image["platform"],
        "manifest": image["manifest"],
        "total_size": image["total_size"],
        "source": image["source"],
        "licence": "Apache-2.0",
        **({"notes": NOTES[name]} if name in NOTES else {}),
        "history": history,
    }


def in_docker_words(line: dict[str, Any], known: dict[str, tuple[str, str, str]]) -> dict[str, Any]:
    created_by = line["created_by"]
    created, created_by, comment = known.get(created_by, (LATEST, created_by, BUILDKIT))
    words = {"created": created, "created_by": created_by, "comment": comment}
    return {**words, **{key: line[key] for key in line.keys() - words.keys()}}


def golang_environment(tag: str) -> list[str]:
    """Return the instructions of golang's Dockerfile that change only metadata."""
    version = tag.partition("-")[0]
    return [
        f"ENV GOLANG_VERSION={version}" if "." in version else "ENV GOLANG_VERSION",
        "ENV GOTOOLCHAIN=local",
        "ENV GOPATH=/go",
        f"ENV PATH=/go/bin:/usr/local/go/bin:{DEFAULT_PATH}",
    ]


def conversions() -> dict[str, str]:
    """Return what each record's file must hold."""
    corpus = json.loads(CORPUS.read_bytes())
    sizes = corpus["seed_article_uncompressed"]
    return {
        f"{record_name(image)}.json": json.dumps(converted(image, sizes), indent=1) + "\n"
        for image in corpus["images"]
    }


@pytest.mark.skipif(not CORPUS.exists(), reason="no corpus beside this checkout")
def test_records_are_what_the_corpus_says() -> None:
    shipped = {path.name: path.read_text() for path in RECORDS.glob("*.json")}
    assert shipped == conversions()


if __name__ == "__main__":
    for file_name, text in conversions().items():
        (RECORDS / file_name).write_text(text)
