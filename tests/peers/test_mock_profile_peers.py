"""The profile of a registry beside that registry: Debian's docker-registry, asked the same questions."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from mock_registry import MockRegistry

if TYPE_CHECKING:
    from types import ModuleType

    from tests.peers.conftest import DockerRegistry

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

FOLDER = Path(__file__).parents[1] / "mock_registry"


def load(name: str) -> ModuleType:
    """Return a module of the mock registry's tests: tests are no package."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def answers(url: str) -> dict[str, str]:
    """Ask the registry at an address every question."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        found: dict[str, str] = await load("probing").Probe(http).answers()
    return found


async def test_docker_registry_answers_as_is_written_of_it(docker_registry: DockerRegistry) -> None:
    assert await answers(docker_registry.url) == load("probe_answers").answers_of("distribution-2.8")


async def test_the_profile_answers_as_docker_registry_does(docker_registry: DockerRegistry) -> None:
    async with MockRegistry(profile="distribution-2.8").serve() as server:
        assert await answers(server.url) == await answers(docker_registry.url)


async def test_neither_takes_a_manifest_under_its_sha512(docker_registry: DockerRegistry) -> None:
    raw = b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'
    path = f"/v2/app/manifests/sha512:{hashlib.sha512(raw).hexdigest()}"
    headers = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
    found = []
    async with (
        MockRegistry(profile="distribution-2.8").serve() as server,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        for url in (server.url, docker_registry.url):
            answer = await http.put(f"{url}{path}", content=raw, headers=headers)
            found.append((answer.status_code, answer.json()["errors"][0]["code"]))
    assert found == [(400, "DIGEST_INVALID")] * 2
