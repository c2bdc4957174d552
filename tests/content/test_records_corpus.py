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
    "golang-1.23.4-bookworm-arm64": "Uncompressed sizes are rounded, as docker history prints them.",
    "golang-1-bookworm-amd64": "The tag moves: ENV GOLANG_VERSION stands without its value.",
    "golang-1-bookworm-arm64": "The tag moves: ENV GOLANG_VERSION stands without its value.",
}
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
            facts["uncompressed_size"] = int(sizes[position])
        history.append({"created_by": layer["created_by_short"], "layer": facts})
    name = record_name(image)
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
