"""A server on a directory is killed while clients push, and what it has acknowledged is there again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    Fact = tuple[str, str]
    Facts = dict[Fact, Any]

pytestmark = [pytest.mark.anyio, pytest.mark.long]

ROOT = Path(__file__).parents[2]
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TAGS = ("latest", "v1", "v2", "v3")
PIECE = 20_000


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Executioner:
    """Kills a process when its clients have done a given number of things, at any point of one of them.

    Attributes:
        things: Answers received and pieces of bodies sent, of all clients together.
    """

    def __init__(self, random: Random, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._hour = random.randrange(1, 300)
        self._minute = random.randrange(30_000)
        self.things = 0
        self.done = False

    def count(self) -> None:
        """Know that a client has done something."""
        self.things += 1
        if self.things >= self._hour and not self.done:
            for _ in range(self._minute):  # the server goes on meanwhile, to anywhere
                pass
            self._process.kill()
            self.done = True


class Client:
    """One client with a repository of its own, who knows what it was promised.

    Attributes:
        facts: What the registry has acknowledged: ``blob`` and ``manifest`` to content, ``tag`` to digest,
            ``session`` (its path) to octets.
        doubt: What is so instead if the request under way was carried out.
        sessions: What each open session is to become.
    """

    def __init__(self, number: int, seed: int) -> None:
        self.name = f"crash/client-{number}"
        self.random = Random(f"{seed} {number}")
        self.facts: Facts = {}
        self.doubt: Facts = {}
        self.sessions: dict[str, bytes] = {}
        self.gone: list[Fact] = []
        self.others: list[Client] = []
        self.resumed = 0
        self.http: httpx.AsyncClient
        self.executioner: Executioner

    # Asking

    async def ask(
        self, method: str, path: str, content: bytes = b"", *, after: Facts | None = None, digest: str = ""
    ) -> httpx.Response:
        """Send a request that, if it is carried out, makes facts of ``after``."""
        self.doubt = dict(self.facts if after is None else after)
        headers = {"Content-Length": str(len(content))}
        if "/manifests/" in path:
            headers["Content-Type"] = OCI_MANIFEST
        url = httpx.URL(path).copy_merge_params({"digest": digest} if digest else {})
        body = self._pieces(content) if content else b""
        answer = await self.http.request(method, url, content=body, headers=headers)
        self.executioner.count()
        if answer.is_success:
            self._know(self.doubt)
        self.doubt = dict(self.facts)
        return answer

    def _know(self, facts: Facts) -> None:
        self.gone = [fact for fact in {*self.gone[-20:], *self.facts} if fact not in facts]
        self.facts = dict(facts)

    async def _pieces(self, content: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(content), PIECE):
            yield content[start : start + PIECE]
            self.executioner.count()

    def having(self, *without: Fact, **more: Any) -> Facts:
        facts = {fact: value for fact, value in self.facts.items() if fact not in without}
        return facts | {(kind, key): value for kind, pairs in more.items() for key, value in pairs.items()}

    def some(self, kind: str) -> str | None:
        keys = sorted(key for each, key in self.facts if each == kind)
        return self.random.choice(keys) if keys else None

    # What clients do

    async def work(self) -> None:
        """Push, mount, tag and delete until the server is killed."""
        steps = [self.push, self.push, self.go_on, self.go_on, self.push_again, self.mount, self.put_manifest]
        steps += [self.put_manifest, self.put_manifest, self.cancel, self.delete_tag, self.delete_manifest]
        try:
            await self.finish_some()
            while True:
                step = self.random.choice(steps if len(self.facts) < 40 else [self.delete_blob, *steps[-2:]])
                await step()
        except httpx.TransportError:
            assert self.executioner.done

    def content(self) -> bytes:
        size = self.random.choice([0, 1, 100, 5_000, 60_000, 60_000, 200_000, 700_000])
        return self.random.randbytes(size)

    async def open(self, content: bytes) -> str:
        answer = await self.ask("POST", f"/v2/{self.name}/blobs/uploads/")
        assert answer.status_code == 202
        path = httpx.URL(answer.headers["location"]).path
        self.sessions[path] = content
        self.facts["session", path] = 0
        return path

    async def push(self) -> None:
        """Push a blob at once, or open a session that chunks are sent to now and then."""
        content = self.content()
        digest = digest_of(content)
        choice = self.random.random()
        if choice < 0.2:
            after = self.having(blob={digest: content})
            path = f"/v2/{self.name}/blobs/uploads/"
            answer = await self.ask("POST", path, content, after=after, digest=digest)
            assert answer.status_code == 201
            return
        session = await self.open(content)
        if choice < 0.6:
            await self.commit(session)

    async def commit(self, session: str) -> None:
        content = self.sessions[session]
        held = self.facts["session", session]
        digest = digest_of(content)
        after = self.having(("session", session), blob={digest: content})
        answer = await self.ask("PUT", session, content[held:], after=after, digest=digest)
        assert answer.status_code == 201, answer.text  # with octets missing or changed it would be a 400
        assert (await self.ask("GET", f"/v2/{self.name}/blobs/{digest}")).content == content

    async def go_on(self) -> None:
        """Send a session the next chunk, or the rest."""
        session = self.some("session")
        if session is None:
            return
        content = self.sessions[session]
        held = self.facts["session", session]
        end = self.random.randint(held, len(content))
        if end == len(content) or self.random.random() < 0.2:
            await self.commit(session)
            return
        after = self.having(session={session: end})
        answer = await self.ask("PATCH", session, content[held:end], after=after)
        assert answer.headers["range"] == f"0-{max(end - 1, 0)}"

    async def cancel(self) -> None:
        session = self.some("session")
        if session is not None and self.random.random() < 0.3:
            answer = await self.ask("DELETE", session, after=self.having(("session", session)))
            assert answer.status_code == 204

    async def push_again(self) -> None:
        digest = self.some("blob")
        if digest is not None:
            await self.commit(await self.open(self.facts["blob", digest]))

    async def mount(self) -> None:
        """Mount what another client holds, or did until a moment ago."""
        other = self.random.choice(self.others)
        digest = other.some("blob")
        if digest is None:
            return
        content = other.facts["blob", digest]
        after = self.having(blob={digest: content})
        path = f"/v2/{self.name}/blobs/uploads/?mount={digest}&from={other.name}"
        before = self.facts
        answer = await self.ask("POST", path, after=after)
        if answer.status_code == 202:
            self.facts = before
            session = httpx.URL(answer.headers["location"]).path
            self.sessions[session] = content
            self.facts["session", session] = 0

    async def put_manifest(self) -> None:
        blobs = sorted(key for kind, key in self.facts if kind == "blob")
        if not blobs:
            return
        chosen = self.random.choices(blobs, k=3)
        parts = [
            {"mediaType": "application/x.part", "digest": each, "size": len(self.facts["blob", each])}
            for each in chosen
        ]
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
        document |= {"config": parts[0], "layers": parts[1:], "annotations": {"n": str(self.random.random())}}
        subject = self.some("manifest")
        if subject is not None and self.random.random() < 0.5:
            size = len(self.facts["manifest", subject])
            document["subject"] = {"mediaType": OCI_MANIFEST, "digest": subject, "size": size}
        content = json.dumps(document).encode()
        digest = digest_of(content)
        tags = self.random.sample(TAGS, self.random.randint(0, 2))
        after = self.having(manifest={digest: content}, tag=dict.fromkeys(tags, digest))
        path = f"/v2/{self.name}/manifests/{tags[0] if len(tags) == 1 else digest}"
        query = "&".join(f"tag={tag}" for tag in tags) if len(tags) > 1 else ""
        answer = await self.ask("PUT", f"{path}?{query}", content, after=after)
        assert answer.status_code == 201, answer.text

    async def delete_tag(self) -> None:
        tag = self.some("tag")
        if tag is not None:
            path = f"/v2/{self.name}/manifests/{tag}"
            assert (await self.ask("DELETE", path, after=self.having(("tag", tag)))).status_code == 202

    async def delete_manifest(self) -> None:
        digest = self.some("manifest")
        if digest is not None:
            tags = [
                ("tag", key) for (kind, key), value in self.facts.items() if (kind, value) == ("tag", digest)
            ]
            after = self.having(("manifest", digest), *tags)
            path = f"/v2/{self.name}/manifests/{digest}"
            assert (await self.ask("DELETE", path, after=after)).status_code == 202

    async def delete_blob(self) -> None:
        digest = self.some("blob")
        if digest is not None:
            path = f"/v2/{self.name}/blobs/{digest}"
            assert (await self.ask("DELETE", path, after=self.having(("blob", digest)))).status_code == 202

    # What must hold afterwards

    async def check(self) -> None:
        """See that all that was acknowledged is there, and of the request under way all or nothing."""
        known = {*self.facts, *self.doubt, *self.gone}
        seen = {fact: value for fact in known if (value := await self.see(*fact)) is not None}
        if not self.agrees(seen, self.doubt):
            assert self.agrees(seen, self.facts), self.difference(seen)
        await self.check_lists(seen)
        self.facts = self.doubt = seen
        self.sessions = {path: whole for path, whole in self.sessions.items() if ("session", path) in seen}

    def agrees(self, seen: Facts, promised: Facts) -> bool:
        """Compare; a session that a request was under way for may have more octets than were promised."""

        def rest(facts: Facts) -> Facts:
            return {fact: value for fact, value in facts.items() if fact[0] != "session"}

        sessions = {fact for fact in promised if fact[0] == "session"}
        return (
            rest(seen) == rest(promised)
            and all(self.facts.get(fact, 0) <= seen.get(fact, -1) for fact in sessions)
            and all(
                seen[fact] <= max(self.facts.get(fact, 0), self.doubt.get(fact, 1 << 30)) for fact in sessions
            )
            and {fact for fact in seen if fact[0] == "session"} == sessions
        )

    def difference(self, seen: Facts) -> dict[Fact, Any]:
        """Return, for whoever reads a failure, what is neither as acknowledged nor as asked for."""
        facts = {*seen, *self.facts, *self.doubt}
        each = {
            fact: tuple(str(of.get(fact))[:60] for of in (seen, self.facts, self.doubt)) for fact in facts
        }
        return {fact: values for fact, values in each.items() if len(set(values)) > 1}

    async def see(self, kind: str, key: str) -> Any:
        """Return what the registry says of a fact, or nothing; what it serves must be what was named."""
        if kind == "session":
            answer = await self.http.get(key)
            if answer.status_code == 404:
                return None
            last = int(answer.headers["range"].removeprefix("0-"))
            return last + 1 if last or int(answer.headers["location"].partition("offset=")[2]) else 0
        path = f"/v2/{self.name}/{'blobs' if kind == 'blob' else 'manifests'}/{key}"
        answer = await self.http.get(path)
        if answer.status_code == 404:
            return None
        assert answer.status_code == 200
        assert digest_of(answer.content) == answer.headers["docker-content-digest"]
        if kind == "tag":
            return answer.headers["docker-content-digest"]
        assert answer.headers["docker-content-digest"] == key
        return answer.content

    async def check_lists(self, seen: Facts) -> None:
        answer = await self.http.get(f"/v2/{self.name}/tags/list")
        tags = sorted(key for kind, key in seen if kind == "tag")
        assert answer.status_code == 404 or answer.json()["tags"] == tags
        manifests = {key: json.loads(value) for (kind, key), value in seen.items() if kind == "manifest"}
        for subject in manifests:
            answer = await self.http.get(f"/v2/{self.name}/referrers/{subject}")
            found = {each["digest"] for each in answer.json()["manifests"]}
            expected = {
                key for key, each in manifests.items() if each.get("subject", {}).get("digest") == subject
            }
            assert found == expected

    async def finish_some(self) -> None:
        """Send sessions that outlived the kill what they lack: their octets must be the ones sent before."""
        for session in list(self.sessions):
            if self.facts["session", session] and self.random.random() < 0.7:
                await self.commit(session)
                self.resumed += 1


@asynccontextmanager
async def server(directory: Path, *options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    command = ["-m", "mock_registry", "--port", "0", "--log", "none", "--dir", str(directory), *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def require_whole_files(directory: Path) -> None:
    for file in directory.glob("blobs/*/*"):
        assert hashlib.new(file.parent.name, file.read_bytes()).hexdigest() == file.name
    strange = [file.name for file in (directory / "uploads").iterdir() if file.name.startswith(".")]
    assert strange == []


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run at once. When one fails, the others end before its error is raised: they have connections."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kill_again_and_again(
    directory: Path, *, kills: int, seed: int, meanwhile: Callable[[], None] = lambda: None
) -> dict[str, int]:
    """Kill a server so many times, and check it after each; return figures.

    Args:
        meanwhile: What happens to the directory before the next start.
    """
    random = Random(seed)
    clients = [Client(number, seed) for number in range(6)]
    for client in clients:
        client.others = [each for each in clients if each is not client]
    figures = {"kills": 0, "things": 0}
    while True:
        async with (
            server(directory) as (process, url),
            httpx.AsyncClient(base_url=url, trust_env=False) as http,
        ):
            executioner = Executioner(random, process)
            for client in clients:
                client.http, client.executioner = http, executioner
            await together(client.check() for client in clients)
            require_whole_files(directory)
            if figures["kills"] == kills:
                figures["facts"] = sum(len(client.facts) for client in clients)
                figures["resumed"] = sum(client.resumed for client in clients)
                return figures
            await together(client.work() for client in clients)
            figures["kills"] += 1
            figures["things"] += executioner.things
        meanwhile()


async def test_an_acknowledged_change_that_is_lost_would_be_found_out(tmp_path: Path) -> None:
    directory = tmp_path / "registry"

    def forget() -> None:
        log = directory / "changes.log"
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join(lines[: len(lines) // 2]))

    with pytest.raises(AssertionError):
        await kill_again_and_again(directory, kills=1, seed=3, meanwhile=forget)


async def test_octets_of_a_session_that_are_lost_would_be_found_out(tmp_path: Path) -> None:
    directory = tmp_path / "registry"

    def forget() -> None:
        for file in (directory / "uploads").iterdir():
            os.truncate(file, file.stat().st_size // 2)

    with pytest.raises(AssertionError):
        await kill_again_and_again(directory, kills=9, seed=3, meanwhile=forget)


async def test_what_was_acknowledged_survives_kills_under_a_concurrent_load(tmp_path: Path) -> None:
    figures = await kill_again_and_again(tmp_path / "registry", kills=6, seed=7)
    assert figures["kills"] == 6
    assert figures["facts"] > 20


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 21))
async def test_what_was_acknowledged_survives_200_kills_of_twenty_seeds(tmp_path: Path, seed: int) -> None:
    figures = await kill_again_and_again(tmp_path / "registry", kills=10, seed=seed)
    print(figures)  # noqa: T201 (for the record)
    assert figures["kills"] == 10
    assert figures["resumed"] > 0
