"""The registry against a model of one that is far too simple to be wrong: dictionaries, asked one by one."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mock_registry import MemoryStorage, MockRegistry
from mock_registry.clock import ManualClock
from mock_registry.handlers import blobs, uploads
from mock_registry.journal import Journal
from mock_registry.maintenance import compact, expire_sessions
from mock_registry.state import Repository, State
from mock_registry.storage.memory import MemoryUpload

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from mock_registry.journal import Record
    from mock_registry.storage.protocol import Blob

LIFETIME = 100.0
MANIFEST_LIMIT = 3_000
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.test.layer"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

NAMES = ["a", "b/c", "blobs/uploads"]
TAGS = ["1", "2", "B", "a", "latest"]
KINDS = ["application/vnd.test.a", "application/vnd.test.b"]


class Octets(bytes):
    """Content that is quickly shown: hypothesis shows all that it draws."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} octets>"


# Few, so that repositories meet on them; the memory of this registry ends at 64 octets.
CONTENTS = [Octets(each * count) for each, count in ((b"", 1), (b"{}", 1), (b"one", 1), (b"two", 30))]
CONTENTS += [Octets(1_000), Octets(bytes(range(256)) * 1_100)]

names = st.sampled_from(NAMES)
tags = st.sampled_from(TAGS)
contents = st.sampled_from(CONTENTS)
algorithms = st.sampled_from(["sha256", "sha512"])
picks = st.integers(0, 1_000)
booleans = st.booleans()


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """Choose the usual as often as all others together."""
    return st.sampled_from([usual] * len(others) + [*others])


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def fallback_tag(subject: str) -> str:
    algorithm, encoded = subject.split(":")
    return f"{algorithm}-{encoded[:64]}"


@dataclass(slots=True)
class Pushed:
    """A manifest as the model remembers it."""

    content: bytes
    document: dict[str, Any]

    @property
    def media_type(self) -> str:
        return str(self.document["mediaType"])

    def descriptor(self, digest: str) -> dict[str, Any]:
        described = {"mediaType": self.media_type, "size": len(self.content), "digest": digest}
        kind = self.document.get("artifactType") or self.document.get("config", {}).get("mediaType")
        if kind:
            described["artifactType"] = kind
        if self.document.get("annotations"):
            described["annotations"] = self.document["annotations"]
        return described

    def mentioned(self) -> set[str]:
        parts = [
            *self.document.get("layers", ()),
            *self.document.get("manifests", ()),
            self.document.get("config"),
            self.document.get("subject"),
        ]
        return {part["digest"] for part in parts if part}


@dataclass(slots=True)
class Shelf:
    """A repository."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, Pushed] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, reference: str) -> str | None:
        digest = reference if ":" in reference else self.tags.get(reference)
        return digest if digest in self.manifests else None

    def referrers(self, subject: str) -> dict[str, dict[str, Any]]:
        found = {
            digest: pushed.descriptor(digest)
            for digest, pushed in self.manifests.items()
            if (pushed.document.get("subject") or {}).get("digest") == subject
        }
        fallback = self.manifests.get(self.tags.get(fallback_tag(subject), ""))
        if fallback is not None and fallback.media_type == OCI_INDEX:
            for descriptor in fallback.document["manifests"]:
                found.setdefault(descriptor["digest"], descriptor)
        return found


@dataclass(slots=True)
class Session:
    """An upload, also when it is over."""

    name: str
    identifier: str
    used: float
    received: bytes = b""
    over: bool = False


def expected_range(wanted: tuple[int | None, int | None], size: int) -> tuple[int, int] | None:
    """Return the first octet and the one behind the last, or nothing for a range that is 416."""
    first, last = wanted
    if first is None:
        first, last = max(size - (last or 0), 0), size - 1
    elif last is None:
        last = size - 1
    elif last < first:
        return None
    return None if first >= size else (first, min(last, size - 1) + 1)


class Machine(RuleBasedStateMachine):
    """Asks for one thing after another, and knows each answer before it comes."""

    directory: ClassVar[bool] = False
    steps: ClassVar[int] = 0
    requests: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.journal = Journal()
        self.shelves: dict[str, Shelf] = {}
        self.sessions: list[Session] = []
        self.asked = 0
        self.octets_in = dict.fromkeys(NAMES, 0)
        self.octets_out = dict.fromkeys(NAMES, 0)
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.runner.run(self.open())

    async def open(self) -> None:
        self.stack = AsyncExitStack()
        kept: dict[str, Any] = (
            {"directory": self.folder.name}
            if self.directory
            else {"storage": MemoryStorage(directory=self.folder.name, threshold=64)}
        )
        self.registry = await self.stack.enter_async_context(
            MockRegistry(
                journal=self.journal,
                clock=self.clock,
                session_lifetime=LIFETIME,
                manifest_limit=MANIFEST_LIMIT,
                anonymous_mount=self.directory,
                **kept,
            )
        )
        transport = self.registry.transport()
        self.http = await self.stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://registry")
        )
        self.before = 0  # requests that an earlier process had numbered

    def teardown(self) -> None:
        try:
            self.runner.run(self.stack.aclose())
        finally:
            self.runner.close()
            self.folder.cleanup()

    # Asking

    def ask(
        self,
        method: str,
        path: str,
        content: bytes = b"",
        *,
        streamed: bool = False,
        **headers: str | None,
    ) -> httpx.Response:
        """Send a request, and hold the journal's record against what was sent and received."""
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        answer = self.runner.run(self.exchange(method, path, content, sent, streamed=streamed))
        type(self).requests += 1
        self.asked += 1
        assert len(self.journal) == self.asked
        record = self.journal[-1]
        assert record.number == self.asked - self.before
        assert (record.method, record.target) == (method, path)
        assert (record.status, record.complete) == (answer.status_code, True)
        assert (record.bytes_in, record.bytes_out) == (len(content), len(answer.content))
        assert (record.fault, record.user) == (None, None)
        assert record.ended == record.started == self.clock()
        if record.repository is not None:
            self.octets_in[record.repository] += record.bytes_in
            self.octets_out[record.repository] += record.bytes_out
        if method == "HEAD":
            assert answer.content == b""
        elif answer.status_code not in (204, 304):
            assert answer.headers["content-length"] == str(len(answer.content))
        if answer.status_code >= 400 and method != "HEAD":
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["errors"]
        return answer

    async def exchange(
        self, method: str, path: str, content: bytes, headers: dict[str, str], *, streamed: bool
    ) -> httpx.Response:
        async def stream() -> AsyncIterator[bytes]:
            yield content[: len(content) // 2]
            yield content[len(content) // 2 :]

        body = stream() if streamed else content
        request = self.http.build_request(method, "/", content=body, headers=headers)
        request.url = request.url.copy_with(raw_path=path.encode())
        async with asyncio.timeout(60):
            answer = await self.http.send(request)
            await self.registry.settled()
        return answer

    def refused(self, answer: httpx.Response, status: int, *codes: str) -> None:
        assert answer.status_code == status
        if self.journal[-1].method != "HEAD":
            assert [error["code"] for error in answer.json()["errors"]] == list(codes)

    @property
    def record(self) -> Record:
        return self.journal[-1]

    # What the model holds

    def shelf(self, name: str) -> Shelf:
        return self.shelves.get(name, Shelf())

    def make(self, name: str) -> Shelf:
        return self.shelves.setdefault(name, Shelf())

    def a_digest(self, name: str, pick: int, content: bytes) -> str:
        """Return the digest of a blob: of this repository, of any, or of one that nobody needs to have."""
        known = sorted({digest for shelf in self.shelves.values() for digest in shelf.blobs})
        return self.choose(pick, sorted(self.shelf(name).blobs), known) or digest_of(content)

    def a_manifest(self, name: str, pick: int) -> str:
        known = sorted({digest for shelf in self.shelves.values() for digest in shelf.manifests})
        return self.choose(pick, sorted(self.shelf(name).manifests), known) or digest_of(b"no manifest")

    def a_reference(self, name: str, pick: int) -> str:
        tag = self.choose(pick, sorted(self.shelf(name).tags), TAGS)
        return self.a_manifest(name, pick // 3) if tag is None or pick % 3 else tag

    @staticmethod
    def choose(pick: int, near: list[str], far: list[str]) -> str | None:
        """Return one that is there, most of the time."""
        number, kind = divmod(pick, 10)
        pool = near if kind < 7 else far if kind < 9 else []
        return pool[number % len(pool)] if pool else None

    def a_session(self, pick: int) -> Session:
        usable = [session for session in self.sessions if not session.over][-3:]
        return (
            (usable or self.sessions)[pick % len(usable or self.sessions)] if pick % 8 else self.sessions[-1]
        )

    def usable(self, session: Session) -> bool:
        """Tell whether the session is there for a request, which ends one that has expired."""
        if not session.over and self.clock() - session.used >= LIFETIME:
            session.over = True
        session.used = self.clock()
        return not session.over

    def add_session(self, answer: httpx.Response, name: str) -> None:
        assert answer.status_code == 202
        identifier = answer.headers["docker-upload-uuid"]
        assert answer.headers["location"] == f"/v2/{name}/blobs/uploads/{identifier}?offset=0"
        assert answer.headers["range"] == "0-0"
        assert (self.record.session, self.record.mounted_from) == (identifier, None)
        assert identifier not in {session.identifier for session in self.sessions}
        self.sessions.append(Session(name, identifier, self.clock()))

    def position(self, session: Session, answer: httpx.Response) -> None:
        """Check where the answer says that a session stands."""
        size = len(session.received)
        path = f"/v2/{session.name}/blobs/uploads/{session.identifier}"
        assert answer.headers["location"] == f"{path}?offset={size}"
        assert answer.headers["range"] == f"0-{max(size - 1, 0)}"

    def stored(self, answer: httpx.Response, name: str, digest: str, content: bytes) -> None:
        assert answer.status_code == 201
        assert answer.headers["location"] == f"/v2/{name}/blobs/{digest}"
        assert answer.headers["docker-content-digest"] == digest
        self.make(name).blobs[digest] = content

    @initialize(several=st.lists(contents, min_size=3, max_size=4), number=st.integers(1, 3))
    def begin_with_something(self, several: list[bytes], number: int) -> None:
        for name in NAMES[:number]:
            for content in several:
                self.push_with_one_post(name, content, "sha256", honest="honest", streamed=False)
            digests = [digest_of(content) for content in several]
            document = self.image_of(digests, KINDS[0])
            octets = json.dumps(document).encode()
            answer = self.ask("PUT", f"/v2/{name}/manifests/1", octets, content_type=OCI_MANIFEST)
            assert answer.status_code == 201
            self.make(name).manifests[digest_of(octets)] = Pushed(octets, document)
            self.make(name).tags["1"] = digest_of(octets)

    # Uploads

    @rule(
        name=names,
        content=contents,
        algorithm=algorithms,
        honest=mostly("honest", "not"),
        streamed=booleans,
    )
    def push_with_one_post(
        self, name: str, content: bytes, algorithm: str, *, honest: str, streamed: bool
    ) -> None:
        digest = digest_of(content, algorithm)
        body = content if honest == "honest" else content + b"!"
        path = f"/v2/{name}/blobs/uploads/?digest={digest}"
        answer = self.ask("POST", path, body, streamed=streamed)
        assert (self.record.route, self.record.repository, self.record.digest) == ("uploads", name, digest)
        if honest == "honest":
            self.stored(answer, name, digest, content)
            assert self.journal.session_digest(self.record.session) == digest
        else:
            self.refused(answer, 400, "DIGEST_INVALID")

    @rule(name=names, announced=st.sampled_from(["", "?digest-algorithm=sha512", "?digest-algorithm=md5"]))
    def open_a_session(self, name: str, announced: str) -> None:
        answer = self.ask("POST", f"/v2/{name}/blobs/uploads/{announced}")
        if announced.endswith("md5"):
            self.refused(answer, 400, "DIGEST_INVALID")
        else:
            self.add_session(answer, name)

    @rule(
        name=names,
        parts=st.lists(contents, max_size=3),
        last=contents,
        algorithm=algorithms,
        repeated=booleans,
    )
    def push_in_chunks(
        self, name: str, parts: list[bytes], last: bytes, algorithm: str, *, repeated: bool
    ) -> None:
        self.open_a_session(name, "")
        session = self.sessions[-1]
        for number, part in enumerate(parts):
            self.send(session, part, "right", "right" if number else "no")
            if repeated and part:  # as by a client that did not hear the answer
                self.send(session, part, "none", "again")
        self.send(session, last, "right", "no", last="right", algorithm=algorithm)
        assert session.over

    @precondition(lambda self: self.sessions)
    @rule(
        pick=picks,
        content=contents,
        streamed=booleans,
        offset=mostly("right", "none", "stale"),
        ranged=mostly("no", "right", "right", "gap", "again", "longer", "shorter", "nonsense"),
    )
    def send_a_chunk(self, pick: int, content: bytes, offset: str, ranged: str, *, streamed: bool) -> None:
        self.send(self.a_session(pick), content, offset, ranged, streamed=streamed)

    @precondition(lambda self: self.sessions)
    @rule(
        pick=picks,
        content=contents,
        streamed=booleans,
        offset=mostly("right", "none", "stale"),
        ranged=mostly("no", "no", "right", "gap", "again", "longer", "nonsense"),
        last=mostly("right", "wrong", "missing", "bad"),
        algorithm=algorithms,
    )
    def commit_a_session(
        self,
        *,
        pick: int,
        content: bytes,
        offset: str,
        ranged: str,
        last: str,
        algorithm: str,
        streamed: bool,
    ) -> None:
        self.send(
            self.a_session(pick), content, offset, ranged, last=last, algorithm=algorithm, streamed=streamed
        )

    def send(
        self,
        session: Session,
        content: bytes,
        offset: str,
        ranged: str,
        *,
        last: str = "",
        algorithm: str = "sha256",
        streamed: bool = False,
    ) -> None:
        """PATCH, or PUT with what may be the last chunk: the only difference is what follows."""
        size = len(session.received)
        whole = session.received + content
        query = {
            "none": [],
            "right": [f"offset={size}"],
            "stale": [f"offset={size + 1}"],
        }[offset]
        digest = digest_of(whole if last == "right" else whole + b"!", algorithm)
        if last in ("right", "wrong"):
            query = [*query, f"digest={digest}"]
        elif last == "bad":
            query = [*query, f"digest={digest[:-1]}"]
        path = f"/v2/{session.name}/blobs/uploads/{session.identifier}"
        path += f"?{'&'.join(query)}" if query else ""
        announced = len(content) + {"longer": 1, "shorter": -1}.get(ranged, 0)
        if ranged == "again" and not size:
            ranged = "right"
        first = 0 if ranged == "again" else size + (ranged == "gap")
        sent_range = "bytes x" if ranged == "nonsense" else f"{first}-{first + announced - 1}"
        if ranged != "nonsense" and (announced < 1 or ranged == "no"):
            ranged, sent_range = "no", ""

        answer = self.ask(
            "PUT" if last else "PATCH", path, content, streamed=streamed, content_range=sent_range or None
        )

        assert (self.record.route, self.record.repository) == ("upload", session.name)
        if not self.usable(session):
            self.refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")
            return
        assert self.record.session == session.identifier
        stale = ranged == "no" and offset == "stale" and (streamed or content != b"")
        if last in ("missing", "bad"):
            self.refused(answer, 400, "DIGEST_INVALID")
        elif ranged == "nonsense":
            self.refused(answer, 400, "BLOB_UPLOAD_INVALID")
        elif ranged in ("gap", "again") or stale:
            self.refused(answer, 416, "BLOB_UPLOAD_INVALID")
            self.position(session, answer)
        elif ranged in ("longer", "shorter"):
            self.refused(answer, 400, "SIZE_INVALID")
            # Of a length that is known, nothing is taken; of a stream, what was announced.
            session.received += content[:announced] if streamed else b""
        else:
            session.received = whole
            self.went_on(session, answer, last, digest)

    def went_on(self, session: Session, answer: httpx.Response, last: str, digest: str) -> None:
        """Check what follows a chunk that was taken whole."""
        if not last:
            assert answer.status_code == 202
            self.position(session, answer)
        elif last == "wrong":
            self.refused(answer, 400, "DIGEST_INVALID")
        else:
            session.over = True
            self.stored(answer, session.name, digest, session.received)
            session.received = b""
            assert self.journal.session_digest(session.identifier) == digest
            assert self.record in self.journal.uploads(session.name, digest=digest)

    @precondition(lambda self: self.sessions)
    @rule(pick=picks, method=mostly("GET", "HEAD", "DELETE"))
    def ask_for_or_cancel_a_session(self, pick: int, method: str) -> None:
        session = self.a_session(pick)
        answer = self.ask(method, f"/v2/{session.name}/blobs/uploads/{session.identifier}")
        if not self.usable(session):
            self.refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")
            return
        assert answer.status_code == 204
        if method == "DELETE":
            session.over = True
        else:
            self.position(session, answer)

    @precondition(lambda self: self.sessions)
    @rule(pick=picks, name=names, method=st.sampled_from(["GET", "PATCH", "PUT", "DELETE"]))
    def use_a_session_under_another_repository(self, pick: int, name: str, method: str) -> None:
        session = self.a_session(pick)
        if name != session.name:
            answer = self.ask(method, f"/v2/{name}/blobs/uploads/{session.identifier}", b"of another")
            self.refused(answer, 404, "BLOB_UPLOAD_UNKNOWN")
            assert self.record.session is None

    @rule(
        name=names,
        source=st.sampled_from([None, "no/such", "Not A Name", *NAMES, *NAMES]),
        pick=picks,
        content=contents,
    )
    def mount(self, name: str, source: str | None, pick: int, content: bytes) -> None:
        digest = self.a_digest(name, pick, content)
        from_there = "" if source is None else f"&from={quote(source, safe='')}"
        answer = self.ask("POST", f"/v2/{name}/blobs/uploads/?mount={digest}{from_there}")
        assert (self.record.route, self.record.repository, self.record.digest) == ("uploads", name, digest)
        candidates = [source, name] if source else [name]
        if source is None and self.registry.settings.anonymous_mount:
            candidates += NAMES
        holders = [each for each in candidates if digest in self.shelf(each or "").blobs]
        if not holders:
            self.add_session(answer, name)
            return
        self.stored(answer, name, digest, self.shelf(holders[0] or "").blobs[digest])
        assert self.record.mounted_from in holders
        assert self.record.mounted_from == holders[0] or source is None

    # Blobs

    @rule(
        name=names,
        pick=picks,
        content=contents,
        method=st.sampled_from(["GET", "GET", "HEAD"]),
        wanted=st.none()
        | st.tuples(st.none() | st.integers(0, 1_200), st.none() | st.integers(0, 1_200)).filter(any),
        condition=mostly("", "same", "other"),
    )
    def get_a_blob(
        self,
        *,
        name: str,
        pick: int,
        content: bytes,
        method: str,
        wanted: tuple[int | None, int | None] | None,
        condition: str,
    ) -> None:
        digest = self.a_digest(name, pick, content)
        header = wanted and "bytes={}-{}".format(*("" if each is None else each for each in wanted))
        answer = self.ask(
            method,
            f"/v2/{name}/blobs/{digest}",
            range=header,
            if_none_match={"same": f'"{digest}"', "other": '"other"'}.get(condition),
        )
        assert (self.record.route, self.record.repository, self.record.digest) == ("blob", name, digest)
        held = self.shelf(name).blobs.get(digest)
        if held is None:
            self.refused(answer, 404, "BLOB_UNKNOWN")
        elif condition == "same":
            assert (answer.status_code, answer.content) == (304, b"")
        elif wanted is None or method == "HEAD":
            assert answer.status_code == 200
            assert answer.headers["docker-content-digest"] == digest
            assert answer.headers["content-length"] == str(len(held))
            assert answer.content == (b"" if method == "HEAD" else held)
        elif (part := expected_range(wanted, len(held))) is None:
            self.refused(answer, 416, "SIZE_INVALID")
            assert answer.headers["content-range"] == f"bytes */{len(held)}"
        else:
            assert (answer.status_code, answer.content) == (206, held[slice(*part)])
            assert answer.headers["content-range"] == f"bytes {part[0]}-{part[1] - 1}/{len(held)}"

    @rule(name=names, pick=picks, content=contents)
    def delete_a_blob(self, name: str, pick: int, content: bytes) -> None:
        digest = self.a_digest(name, pick, content)
        answer = self.ask("DELETE", f"/v2/{name}/blobs/{digest}")
        if digest in self.shelf(name).blobs:
            assert answer.status_code == 202
            del self.shelves[name].blobs[digest]
        else:
            self.refused(answer, 404, "BLOB_UNKNOWN")

    # Manifests

    @staticmethod
    def image_of(digests: list[str], kind: str) -> dict[str, Any]:
        parts = [{"mediaType": LAYER, "digest": digest, "size": 1} for digest in digests]
        return {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": parts[0] | {"mediaType": kind},
            "layers": parts[1:],
        }

    def an_image(self, name: str, pick: int, count: int, content: bytes) -> dict[str, Any]:
        picks = range(pick, pick + 10 * count + 1, 10)
        return self.image_of([self.a_digest(name, each, content) for each in picks], KINDS[pick % 2])

    def an_index(self, name: str, pick: int, count: int) -> dict[str, Any]:
        held = sorted(self.shelf(name).manifests)
        children = {self.a_manifest(name, pick)} if pick % 5 == 0 else set(held[pick % 3 :][:count])
        entries = [
            {
                "mediaType": OCI_MANIFEST,
                "digest": child,
                "size": 2,
                "annotations": {"from": "fallback"},
                "artifactType": KINDS[number % 2],
            }
            for number, child in enumerate(sorted(children))
        ]
        return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}

    @rule(
        name=names,
        pick=picks,
        count=st.integers(0, 3),
        content=contents,
        index=booleans,
        subject=mostly("no", "known", "known", "unknown"),
        kind=st.sampled_from([None, *KINDS]),
        filling=mostly(0, 1, 500, 1_500, 4_000),
        under=mostly("tag", "digest", "digest and tags", "other digest", "fallback", "bad tag"),
        tag=tags,
        more=st.lists(tags, max_size=3),
        algorithm=algorithms,
        streamed=booleans,
        parameter=st.sampled_from(["", "; charset=utf-8"]),
    )
    def put_a_manifest(
        self,
        *,
        name: str,
        pick: int,
        count: int,
        content: bytes,
        index: bool,
        subject: str,
        kind: str | None,
        filling: int,
        under: str,
        tag: str,
        more: list[str],
        algorithm: str,
        streamed: bool,
        parameter: str,
    ) -> None:
        document = self.an_index(name, pick, count) if index else self.an_image(name, pick, count, content)
        if subject != "no":
            digest = self.a_manifest(name, pick + 11) if subject == "known" else digest_of(b"unknown")
            document["subject"] = {"mediaType": OCI_MANIFEST, "digest": digest, "size": 3}
        if kind is not None:
            document["artifactType"] = kind
        if filling:
            document["annotations"] = {"filling": "x" * filling}
        octets = json.dumps(document).encode()
        digest = digest_of(octets, algorithm if "digest" in under else "sha256")
        taken = {
            "tag": [tag],
            "digest": [],
            "digest and tags": list(dict.fromkeys([tag, *more])),
            "fallback": [fallback_tag(self.a_manifest(name, pick))],
        }.get(under, [])
        reference = {
            "tag": tag,
            "fallback": (taken or [""])[0],
            "other digest": digest_of(octets + b" ", algorithm),
            "bad tag": "-bad",
        }.get(under, digest)
        query = "?" + "&".join(f"tag={each}" for each in [tag, *more]) if under == "digest and tags" else ""

        answer = self.ask(
            "PUT",
            f"/v2/{name}/manifests/{reference}{query}",
            octets,
            streamed=streamed,
            content_type=f"{document['mediaType']}{parameter}",
        )

        assert (self.record.route, self.record.repository) == ("manifest", name)
        assert self.record.reference == reference
        shelf = self.shelf(name)
        parts = [document["config"], *document["layers"]] if not index else document["manifests"]
        held = shelf.manifests if index else shelf.blobs
        missing = {part["digest"]: part for part in parts if part["digest"] not in held}
        named = {(part["digest"], part["mediaType"]) for part in missing.values()}
        if not index and document["config"]["digest"] in missing:
            layers = {part["digest"] for part in document["layers"]} & set(missing)
            named = {(digest, LAYER) for digest in layers}
            named.add((document["config"]["digest"], document["config"]["mediaType"]))
        if under == "bad tag":
            self.refused(answer, 400, "MANIFEST_INVALID")
        elif len(octets) > MANIFEST_LIMIT:
            self.refused(answer, 413, "SIZE_INVALID")
        elif under == "other digest":
            self.refused(answer, 400, "DIGEST_INVALID")
        elif missing:
            self.refused(answer, 400, *["MANIFEST_BLOB_UNKNOWN"] * len(named))
            told = [error["detail"] for error in answer.json()["errors"]]
            assert {(each["digest"], each["mediaType"]) for each in told} == named
        else:
            assert answer.status_code == 201
            assert answer.headers["location"] == f"/v2/{name}/manifests/{digest}"
            assert answer.headers["docker-content-digest"] == digest == self.record.digest
            assert answer.headers.get("oci-subject") == (document.get("subject") or {}).get("digest")
            told_tags = answer.headers.get_list("oci-tag")
            assert told_tags == (taken if under == "digest and tags" else [])
            shelf = self.make(name)
            shelf.manifests[digest] = Pushed(octets, document)
            shelf.tags.update(dict.fromkeys(taken, digest))

    @rule(
        name=names,
        pick=picks,
        method=st.sampled_from(["GET", "GET", "HEAD"]),
        accept=mostly(None, "*/*", OCI_MANIFEST, f"{OCI_INDEX};q=0.5, text/html"),
        same=booleans,
    )
    def get_a_manifest(self, name: str, pick: int, method: str, accept: str | None, *, same: bool) -> None:
        reference = self.a_reference(name, pick)
        digest = self.shelf(name).resolve(reference)
        answer = self.ask(
            method,
            f"/v2/{name}/manifests/{reference}",
            accept=accept or "",
            if_none_match=f'"{digest}"' if same else None,
        )
        assert (self.record.route, self.record.reference) == ("manifest", reference)
        if name not in self.shelves:
            self.refused(answer, 404, "NAME_UNKNOWN")
            return
        if digest is None:
            self.refused(answer, 404, "MANIFEST_UNKNOWN")
            return
        assert self.record.digest == digest
        pushed = self.shelves[name].manifests[digest]
        if accept not in (None, "*/*") and pushed.media_type not in accept:
            self.refused(answer, 404, "MANIFEST_UNKNOWN")
        elif same:
            assert (answer.status_code, answer.content) == (304, b"")
        else:
            assert answer.status_code == 200
            assert answer.headers["content-type"] == pushed.media_type
            assert answer.headers["docker-content-digest"] == digest
            assert answer.headers["content-length"] == str(len(pushed.content))
            assert answer.content == (b"" if method == "HEAD" else pushed.content)

    @rule(name=names, pick=picks)
    def delete_a_manifest_or_a_tag(self, name: str, pick: int) -> None:
        reference = self.a_reference(name, pick)
        digest = self.shelf(name).resolve(reference)
        answer = self.ask("DELETE", f"/v2/{name}/manifests/{reference}")
        if name not in self.shelves:
            self.refused(answer, 404, "NAME_UNKNOWN")
        elif digest is None:
            self.refused(answer, 404, "MANIFEST_UNKNOWN")
        else:
            assert answer.status_code == 202
            shelf = self.shelves[name]
            if ":" not in reference:
                del shelf.tags[reference]
            else:
                del shelf.manifests[digest]
                shelf.tags = {each: on for each, on in shelf.tags.items() if on != digest}

    # Lists

    def walk(self, path: str, key: str, *, limit: int | None) -> list[Any]:
        """Follow the links from page to page, and return everything that was listed."""
        found: list[Any] = []
        while True:
            answer = self.ask("GET", path)
            assert answer.status_code == 200
            page = answer.json()[key]
            assert limit is None or len(page) <= limit
            assert len(answer.content) <= MANIFEST_LIMIT or len(page) == 1
            found += page
            if not answer.links:
                return found
            assert page
            path = answer.links["next"]["url"]

    @rule(name=names, count=st.none() | st.integers(0, 4), last=st.none() | tags | st.just("a0"))
    def list_tags(self, name: str, count: int | None, last: str | None) -> None:
        self.list_names(
            f"/v2/{name}/tags/list", "tags", count=count, last=last, held=self.shelf(name).tags, name=name
        )

    @rule(count=st.none() | st.integers(0, 3), last=st.none() | names | st.just("b"))
    def list_the_catalog(self, count: int | None, last: str | None) -> None:
        self.list_names("/v2/_catalog", "repositories", count=count, last=last, held=self.shelves, name=None)

    def list_names(
        self,
        path: str,
        key: str,
        *,
        count: int | None,
        last: str | None,
        held: Iterable[str],
        name: str | None,
    ) -> None:
        query = [f"n={count}"] * (count is not None)
        query += [f"last={quote(last or '', safe='')}"] * (last is not None)
        path = f"{path}?{'&'.join(query)}" if query else path
        if name is not None and name not in self.shelves:
            self.refused(self.ask("GET", path), 404, "NAME_UNKNOWN")
            return
        wanted = sorted(each for each in held if last is None or each > last)
        assert self.walk(path, key, limit=count) == ([] if count == 0 else wanted)
        assert (self.record.route, self.record.repository) == ("tags" if name else "catalog", name)

    @rule(name=names, pick=picks, kind=st.sampled_from([None, None, *KINDS]))
    def list_referrers(self, name: str, pick: int, kind: str | None) -> None:
        subject = self.a_manifest(name, pick)
        wanted = self.shelf(name).referrers(subject)
        if kind is not None:
            wanted = {key: each for key, each in wanted.items() if each.get("artifactType") == kind}
        query = f"?artifactType={kind}" if kind else ""
        answer = self.ask("HEAD", f"/v2/{name}/referrers/{subject}{query}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, OCI_INDEX)
        assert answer.headers.get("oci-filters-applied") == (kind and "artifactType")
        found = self.walk(f"/v2/{name}/referrers/{subject}{query}", "manifests", limit=None)
        assert len(found) == len(wanted)
        assert {each["digest"]: each for each in found} == wanted
        assert (self.record.route, self.record.digest) == ("referrers", subject)

    # What no client does, and what none should

    @rule(
        name=st.sampled_from(["A", "a%2fb", "a..b", "a//b", "a", "a"]),
        method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]),
        rest=st.sampled_from(
            [
                "blobs/sha256:0",
                "blobs/uploads/no-such",
                "manifests/sha256:0",
                "manifests/",
                "manifests/%00",
                "referrers/latest",
                "tags/list?n=-1",
                "tags/list/x",
                "blobs/uploads/x/y",
            ]
        ),
    )
    def ask_for_nonsense(self, name: str, method: str, rest: str) -> None:
        answer = self.ask(method, f"/v2/{name}/{rest}", b"{}" if method in ("PUT", "PATCH") else b"")
        assert 400 <= answer.status_code < 500

    @rule(share=mostly(0.1, 1.0))
    def let_time_pass(self, share: float) -> None:
        self.clock.advance(LIFETIME * share)

    @rule(what=mostly("expire", "collect"))
    def keep_house(self, what: str) -> None:
        """Expire sessions, and take out the blobs that no manifest of their repository mentions."""
        self.runner.run(expire_sessions(self.registry.state))
        compact(self.registry.state)
        for session in self.sessions:
            if self.clock() - session.used >= LIFETIME:
                session.over = True
        if what == "expire":
            return
        collected = self.runner.run(self.registry.collect(grace=0.0))
        gone = []
        for name, shelf in self.shelves.items():
            needed = {digest for pushed in shelf.manifests.values() for digest in pushed.mentioned()}
            gone += [(name, digest) for digest in shelf.blobs if digest not in needed]
            shelf.blobs = {digest: each for digest, each in shelf.blobs.items() if digest in needed}
        assert sorted(collected.links) == sorted(gone)

    @precondition(lambda self: self.directory)
    @rule()
    def start_again(self) -> None:
        """Let another registry take the directory over; every session has its whole life again."""

        async def start() -> None:
            await self.stack.aclose()
            await self.open()

        self.runner.run(start())
        self.before = self.asked
        for session in self.sessions:
            session.used = self.clock()

    # What always holds

    @invariant()
    def the_registry_holds_what_the_model_holds(self) -> None:
        type(self).steps += 1
        state = self.registry.state
        assert set(state.repositories) == set(self.shelves)
        for name, shelf in self.shelves.items():
            repository = state.repositories[name]
            assert set(repository.blobs) == set(shelf.blobs)
            assert repository.tags == shelf.tags
            assert {key: each.content for key, each in repository.manifests.items()} == {
                key: each.content for key, each in shelf.manifests.items()
            }
        open_sessions = {each.identifier: each for each in self.sessions if not each.over}
        assert set(state.sessions) == set(open_sessions)

    @invariant()
    def each_content_takes_room_once_and_nothing_is_left_behind(self) -> None:
        kept = {digest: len(each) for shelf in self.shelves.values() for digest, each in shelf.blobs.items()}
        if self.directory:
            kept |= {
                key: len(e.content) for shelf in self.shelves.values() for key, e in shelf.manifests.items()
            }
        growing = sum(len(session.received) for session in self.sessions if not session.over)
        assert self.registry.storage.used == sum(kept.values()) + growing

    @invariant()
    def the_journal_adds_up(self) -> None:
        for name in NAMES:
            assert self.journal.bytes_in(repository=name) == self.octets_in[name]
            assert self.journal.bytes_out(repository=name) == self.octets_out[name]


class DirectoryMachine(Machine):
    """The same over a directory, which another registry takes over now and then; mounts need no source."""

    directory = True


MACHINES = pytest.mark.parametrize("machine", [Machine, DirectoryMachine], ids=["memory", "directory"])


def drive(machine: type[Machine], examples: int, steps: int, **more: Any) -> dict[str, int]:
    machine.steps = machine.requests = 0
    chosen = settings(
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=examples,
        stateful_step_count=steps,
        suppress_health_check=list(HealthCheck),
        **more,
    )
    run_state_machine_as_test(machine, settings=chosen)
    return {"steps": machine.steps, "requests": machine.requests}


@MACHINES
def test_the_registry_does_what_the_model_says(machine: type[Machine]) -> None:
    assert drive(machine, examples=12, steps=60)["steps"] > 500


@pytest.mark.soak
@MACHINES
def test_the_registry_does_what_the_model_says_for_long(machine: type[Machine]) -> None:
    figures = drive(machine, examples=600, steps=100)
    print(figures)  # noqa: T201 (for the record)
    assert figures["steps"] > 20_000


# What would be wrong is found out.


def show_what_others_hold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(blobs, "_require_link", lambda *_: None)
    patch.setattr(State, "intact_blob", lambda state, _, digest: found(state.storage.find(digest)))


async def found(blob: Blob | None) -> Blob | None:
    return blob


def keep_a_deleted_tag(patch: pytest.MonkeyPatch) -> None:
    async def keep(*_: object) -> None:
        """Do nothing."""

    patch.setattr(State, "delete_tag", keep)


def take_chunks_in_any_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(uploads, "_expected", lambda *_: None)


def forget_room_that_was_taken(patch: pytest.MonkeyPatch) -> None:
    async def leak(_: MemoryUpload) -> None:
        """Free nothing."""

    patch.setattr(MemoryUpload, "discard", leak)


def count_an_octet_too_many(patch: pytest.MonkeyPatch) -> None:
    append = Journal.append

    def miscount(journal: Journal, record: Record) -> None:
        append(journal, replace(record, bytes_in=record.bytes_in + (record.bytes_in > 500)))

    patch.setattr(Journal, "append", miscount)


def take_manifests_without_their_layers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Repository, "missing", lambda *_: [])


@pytest.mark.parametrize(
    "break_the_law",
    [
        show_what_others_hold,
        keep_a_deleted_tag,
        take_chunks_in_any_order,
        forget_room_that_was_taken,
        count_an_octet_too_many,
        take_manifests_without_their_layers,
    ],
)
def test_a_registry_that_breaks_a_law_is_found_out(
    break_the_law: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_the_law(monkeypatch)
    with pytest.raises(AssertionError):
        # Found within 50 as a rule; what is generated depends on constants of all modules that are loaded.
        drive(Machine, examples=400, steps=50, phases=[Phase.generate], report_multiple_bugs=False)
