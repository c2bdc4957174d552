"""Killed between any two system calls, or inside one, a directory is as before or after the request."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from mock_registry import DirectoryStorage, MockRegistry
from mock_registry.maintenance import snapshot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Step = Callable[["Client"], Awaitable[httpx.Response | None]]

pytestmark = [pytest.mark.anyio, pytest.mark.long]

MODULES = (
    "changelog",
    "directory",
    "files",
    "place",
    "protocol",
)
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class KilledError(BaseException):
    """What code sees of its own end here: nothing that it does from now on has an effect."""


class MortalOs:
    """The module ``os`` of a process that is killed at its n-th call that changes something.

    Args:
        lives: Calls before the one that it dies in; ``None`` is for ever.
        torn: A write that it dies in has written half. Other calls have not begun.
    """

    def __init__(self, lives: int | None, *, torn: bool = False) -> None:
        self.lives = lives
        self.torn = torn
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name in ("link", "ftruncate", "mkdir", "pwrite", "rename", "unlink", "utime", "writev"):
            return lambda *arguments, **options: self._change(name, real, *arguments, **options)
        if name == "open":
            return lambda path, flags, *more, **options: (
                self._change(name, real, path, flags, *more, **options)
                if flags & (os.O_CREAT | os.O_TRUNC)
                else real(path, flags, *more, **options)
            )
        if name == "fsync":
            return lambda _: None  # a killed process's writes are in the system's hands
        return real

    def _change(self, name: str, real: Any, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        if self.lives is None or self.calls <= self.lives:
            return real(*arguments, **options)
        if self.torn and self.calls == self.lives + 1:
            if name == "pwrite":
                descriptor, data, offset = arguments
                real(descriptor, data[: len(data) // 2], offset)
            elif name == "writev":
                descriptor, chunks = arguments
                whole = b"".join(chunks)
                real(descriptor, [whole[: len(whole) // 2]])
        raise KilledError

    @property
    def dead(self) -> bool:
        return self.lives is not None and self.calls > self.lives


@pytest.fixture
def put_os(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Return what gives all of the storage another module ``os``."""

    def put(module: Any) -> None:
        for name in MODULES:
            monkeypatch.setattr(f"mock_registry.storage.{name}.os", module)

    return put


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


SMALL = b"a config"
LARGE = bytes(range(256)) * 2000  # more than is written on the loop
PARTS = LARGE[:400_000], LARGE[400_000:400_100], LARGE[400_100:]
OTHER = b"another blob"
WHOLE = {digest_of(each): each for each in (SMALL, LARGE, OTHER)} | {digest_of(OTHER, "sha512"): OTHER}


def descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def manifest(**more: Any) -> bytes:
    config, layer = descriptor(SMALL, "application/x.config"), descriptor(LARGE, "application/x.layer")
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]}
    return json.dumps(document | more).encode()


FIRST = manifest()
SECOND = manifest(subject=descriptor(FIRST, OCI_MANIFEST))


@dataclass
class Client:
    """A registry on a directory, and a client that remembers its sessions."""

    registry: MockRegistry
    locations: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.http = httpx.AsyncClient(transport=self.registry.transport(), base_url="http://registry")

    async def ask(self, method: str, path: str, content: bytes = b"", **query: str) -> httpx.Response:
        url = httpx.URL(path).copy_merge_params(query)
        headers = {"Content-Type": OCI_MANIFEST} if "/manifests/" in path and content else {}
        return await self.http.request(method, url, content=content, headers=headers)

    def abandon(self) -> None:
        storage = self.registry.storage
        assert isinstance(storage, DirectoryStorage)
        storage.abandon()


def request(method: str, path: str, content: bytes = b"", **query: str) -> Step:
    return lambda client: client.ask(method, f"/v2/{path}", content, **query)


def begin(key: str, name: str) -> Step:
    async def step(client: Client) -> httpx.Response:
        answer = await client.ask("POST", f"/v2/{name}/blobs/uploads/")
        client.locations[key] = answer.headers["location"]
        return answer

    return step


def go_on(method: str, key: str, content: bytes = b"", **query: str) -> Step:
    async def step(client: Client) -> httpx.Response:
        answer = await client.ask(method, client.locations[key], content, **query)
        if method == "PATCH":
            client.locations[key] = answer.headers["location"]
        return answer

    return step


async def compact(client: Client) -> None:
    storage = client.registry.storage
    assert isinstance(storage, DirectoryStorage)
    storage.shorten(snapshot(client.registry.state), -1_000_000)  # however short it is already


STEPS: list[Step] = [
    begin("small", "one"),
    go_on("PUT", "small", SMALL, digest=digest_of(SMALL)),
    begin("large", "one"),
    go_on("PATCH", "large", PARTS[0]),
    go_on("PATCH", "large", PARTS[1]),
    go_on("PUT", "large", PARTS[2], digest=digest_of(LARGE)),
    request("POST", f"two/blobs/uploads/?mount={digest_of(LARGE)}&from=one"),
    request("POST", "two/blobs/uploads/", SMALL, digest=digest_of(SMALL)),
    request("PUT", "one/manifests/v1", FIRST),
    request("PUT", f"one/manifests/{digest_of(SECOND)}", SECOND, tag="v1"),
    request("PUT", "one/manifests/v2", FIRST),
    request("PUT", "two/manifests/latest", FIRST),
    compact,
    request("DELETE", "one/manifests/v2"),
    begin("again", "two"),
    go_on("PATCH", "again", PARTS[0]),
    go_on("PUT", "again", PARTS[1] + PARTS[2], digest=digest_of(LARGE)),
    request("DELETE", f"one/blobs/{digest_of(LARGE)}"),
    request("DELETE", f"one/manifests/{digest_of(FIRST)}"),
    begin("given up", "one"),
    go_on("PATCH", "given up", OTHER),
    go_on("DELETE", "given up"),
    request("DELETE", f"two/manifests/{digest_of(FIRST)}"),
    request("DELETE", f"two/blobs/{digest_of(LARGE)}"),
    request("POST", "one/blobs/uploads/", OTHER, digest=digest_of(OTHER, "sha512")),
    begin("open", "one"),
    go_on("PATCH", "open", PARTS[0]),
    compact,
    go_on("PATCH", "open", PARTS[1]),
]


def open_client(path: Path) -> Client:
    client = Client(MockRegistry(storage=DirectoryStorage(path)))
    numbers = count(len(client.registry.state.sessions))
    client.registry.state.make_identifier = lambda: f"session-{next(numbers)}"
    return client


async def sight(client: Client) -> dict[str, Any]:
    """Return all that clients can see, having seen that content is what its digest says."""
    seen: dict[str, Any] = {}
    for name in ("one", "two"):
        for digest, content in WHOLE.items():
            answer = await client.ask("GET", f"/v2/{name}/blobs/{digest}")
            assert answer.status_code == 404 or (answer.status_code, answer.content) == (200, content)
            seen[f"{name} {digest}"] = answer.status_code
        for content in (FIRST, SECOND):
            answer = await client.ask("GET", f"/v2/{name}/manifests/{digest_of(content)}")
            assert answer.status_code == 404 or (answer.status_code, answer.content) == (200, content)
            assert answer.status_code == 404 or answer.headers["content-type"] == OCI_MANIFEST
            seen[f"{name} {digest_of(content)}"] = answer.status_code
        for tag in ("v1", "v2", "latest"):
            answer = await client.ask("HEAD", f"/v2/{name}/manifests/{tag}")
            seen[f"{name} {tag}"] = answer.headers.get("docker-content-digest")
        seen[f"{name} tags"] = (await client.ask("GET", f"/v2/{name}/tags/list")).text
        seen[f"{name} referrers"] = (await client.ask("GET", f"/v2/{name}/referrers/{digest_of(FIRST)}")).text
    for session in client.registry.state.sessions.values():
        path = f"/v2/{session.repository}/blobs/uploads/{session.identifier}"
        answer = await client.ask("GET", path)
        seen[session.identifier] = int(answer.headers["range"].removeprefix("0-"))
    return seen


def agrees(seen: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Tell whether a request happened or not. Octets of one that was cut off may be in its session."""
    if seen == after:
        return True

    def content(sight: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in sight.items() if not key.startswith("session-")}

    kept = all(before[key] <= seen.get(key, -1) for key in before.keys() - content(before).keys())
    return kept and content(seen) == content(before)


def is_tidy(client: Client, path: Path) -> bool:
    """Tell whether the disk has all that can be seen, and nothing else."""
    state = client.registry.state
    uploads = {file.name for file in (path / "uploads").iterdir()}
    content = {f"{file.parent.name}:{file.name}" for file in path.glob("blobs/*/*")}
    return uploads <= set(state.sessions) and content == state.digests


async def require_resumable(client: Client) -> None:
    """What a session says that it has is the beginning of what was sent."""
    for session in list(client.registry.state.sessions.values()):
        path = f"/v2/{session.repository}/blobs/uploads/{session.identifier}"
        whole = OTHER if session.size and session.size <= len(OTHER) else LARGE
        if session.size <= len(SMALL):
            continue  # nothing, or too little to know of what
        digest = digest_of(whole)
        answer = await client.ask("PUT", path, whole[session.size :], digest=digest)
        assert answer.status_code == 201, answer.text
        assert (await client.ask("GET", f"/v2/{session.repository}/blobs/{digest}")).content == whole


async def run(client: Client, steps: list[Step], seen: list[dict[str, Any]] | None = None) -> int:
    """Take steps, and return how many were acknowledged before the end."""
    for number, step in enumerate(steps):
        try:
            answer = await step(client)
        except (KilledError, httpx.HTTPError):
            return number
        assert answer is None or answer.status_code < 300, (number, answer.text)
        if seen is not None:
            seen.append(await sight(client))
    return len(steps)


async def story(path: Path) -> list[dict[str, Any]]:
    """Return what can be seen after each step of a life without trouble, and before the first one."""
    client = open_client(path)
    seen = [await sight(client)]
    assert await run(client, STEPS, seen) == len(STEPS)
    client.abandon()
    return seen


async def wrongs(
    tmp_path: Path, put_os: Callable[[Any], None], *, torn: bool = False
) -> list[tuple[int, int]]:
    """Die at each system call in turn, and return at which ones something was wrong, and in which step."""
    put_os(MortalOs(None))
    seen = await story(tmp_path / "story")
    found: list[tuple[int, int]] = []
    for lives in count():
        path, mortal = tmp_path / str(lives), MortalOs(lives, torn=torn)
        client = open_client(path)
        put_os(mortal)
        done = await run(client, STEPS)
        put_os(MortalOs(None))
        client.abandon()
        if done == len(STEPS):
            assert lives > 70
            return found
        client = open_client(path)
        if not (agrees(await sight(client), seen[done], seen[done + 1]) and is_tidy(client, path)):
            found.append((lives, done))
        await require_resumable(client)
        client.abandon()
    raise AssertionError


@pytest.mark.parametrize("torn", [False, True], ids=["between", "inside"])
async def test_killed_at_any_system_call_the_directory_is_as_before_or_after_the_request(
    tmp_path: Path, put_os: Callable[[Any], None], *, torn: bool
) -> None:
    assert await wrongs(tmp_path, put_os, torn=torn) == []


async def test_a_start_that_did_not_finish_commits_would_be_found_out(
    tmp_path: Path, put_os: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectoryStorage, "recall", lambda storage: storage._recalled)
    assert await wrongs(tmp_path, put_os) != []


async def test_killed_again_while_it_starts_the_directory_is_still_right(
    tmp_path: Path, put_os: Callable[[Any], None]
) -> None:
    put_os(MortalOs(None))
    seen = await story(tmp_path / "story")
    starts = 0
    for lives in range(0, 80, 3):
        path = tmp_path / str(lives)
        client = open_client(path)
        put_os(MortalOs(lives, torn=True))
        done = await run(client, STEPS)
        client.abandon()
        for more in count():
            mortal = MortalOs(more, torn=True)
            put_os(mortal)
            with suppress(KilledError):
                storage = DirectoryStorage(path)
                with suppress(KilledError):
                    MockRegistry(storage=storage)
                storage.abandon()
            put_os(MortalOs(None))
            if not mortal.dead:
                break
            starts += 1
        client = open_client(path)
        now = await sight(client)
        assert agrees(now, seen[done], seen[min(done + 1, len(seen) - 1)]), lives
        assert is_tidy(client, path)
        client.abandon()
    assert starts > 100
