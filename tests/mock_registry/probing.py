"""The questions by which registries differ, asked of any registry, and their answers in one short form.

An answer is a text such as ``404 BLOB_UNKNOWN`` or ``202 range=0-4``. A registry that drops the connection
answers ``cut``. Questions are asked in order: later ones use what earlier ones left.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    Question = Callable[["Probe"], Awaitable[str]]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
OCTETS = {"Content-Type": "application/octet-stream"}

QUESTIONS: dict[str, Question] = {}


def question(text: str) -> Callable[[Question], Question]:
    """Add a question, in the order in which they stand here."""

    def add(ask: Question) -> Question:
        QUESTIONS[text] = ask
        return ask

    return add


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def code_of(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["errors"][0]["code"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


class Probe:
    """One registry, asked.

    Attributes:
        blob: 100 octets that the repository ``a`` holds.
    """

    def __init__(self, http: httpx.AsyncClient, prefix: str = "probe") -> None:
        self.http = http
        self.a = f"{prefix}/a"
        self.b = f"{prefix}/b"
        self.blob = bytes(range(100))
        self.location = ""
        self.first_location = ""

    async def answers(self) -> dict[str, str]:
        """Ask everything."""
        return {text: await self._ask(ask) for text, ask in QUESTIONS.items()}

    async def _ask(self, ask: Question) -> str:
        try:
            return await ask(self)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            return "cut"

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.http.request(method, path, **more)

    def say(self, answer: httpx.Response, *headers: str, **more: object) -> str:
        """Return an answer in short: status, error code, and the headers named, each if it is there."""
        told = [f"{name}={answer.headers.get(name, 'none')}" for name in headers]
        told += [f"{name}={value}" for name, value in more.items()]
        return " ".join(filter(None, (str(answer.status_code), code_of(answer), *told)))

    async def open(self, repository: str | None = None) -> str:
        answer = await self.ask("POST", f"/v2/{repository or self.a}/blobs/uploads/")
        return answer.headers["location"]

    async def push(self, content: bytes, repository: str | None = None, algorithm: str = "sha256") -> str:
        digest = digest_of(content, algorithm)
        await self.put(await self.open(repository), digest, content)
        return digest

    async def put(self, location: str, digest: str | None, content: Any = b"", **more: Any) -> httpx.Response:
        mark = "&" if "?" in location else "?"
        url = location if digest is None else f"{location}{mark}digest={digest}"
        return await self.ask("PUT", url, content=content, headers=more.pop("headers", OCTETS), **more)

    async def patch(self, content: Any, content_range: str | None = None, **more: Any) -> httpx.Response:
        headers = dict(OCTETS) if content_range is None else OCTETS | {"Content-Range": content_range}
        location = more.pop("location", self.location)
        answer = await self.ask("PATCH", location, content=content, headers=headers)
        if answer.is_success and "location" in answer.headers and not more.pop("stay", False):
            self.location = answer.headers["location"]
        return answer

    def image(self, **more: object) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(b"{}"), "size": 2},
            "layers": [{"mediaType": LAYER, "digest": digest_of(self.blob), "size": 100}],
        }
        return json.dumps(document | more).encode()

    async def put_manifest(
        self, reference: str, content: bytes, media_type: str | None = MANIFEST, repository: str | None = None
    ) -> httpx.Response:
        headers = {} if media_type is None else {"Content-Type": media_type}
        path = f"/v2/{repository or self.a}/manifests/{reference}"
        return await self.ask("PUT", path, content=content, headers=headers)

    async def get_manifest(
        self, reference: str, accept: str | None = MANIFEST, **more: Any
    ) -> httpx.Response:
        repository = more.get("repository") or self.a
        request = self.http.build_request(
            more.get("method", "GET"), f"/v2/{repository}/manifests/{reference}"
        )
        del request.headers["accept"]
        if accept is not None:
            request.headers["accept"] = accept
        return await self.http.send(request)

    async def cut_off(self, method: str, location: str, content: bytes, sent: int) -> None:
        """Send part of a body, and leave."""
        url = urlsplit(str(self.http.base_url.join(location)))
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        path = f"{url.path}?{url.query}"
        lines = f"{method} {path} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {len(content)}\r\n"
        writer.write(f"{lines}Content-Type: application/octet-stream\r\n\r\n".encode() + content[:sent])
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        del reader

    async def settled(self, ask: Callable[[], Awaitable[httpx.Response]], not_yet: str) -> httpx.Response:
        """Ask until the registry has noticed that somebody left, and answers without `not_yet`."""
        answer = await ask()
        for _ in range(200):
            if not_yet not in self.say(answer, "range"):
                break
            await asyncio.sleep(0.01)
            answer = await ask()
        return answer


def form_of(location: str | None) -> str:
    if location is None:
        return "missing"
    return "absolute" if "://" in location else "relative"


@question("base")
async def _(probe: Probe) -> str:
    answer = await probe.ask("GET", "/v2/")
    kind = answer.headers.get("content-type", "none").partition(";")[0]
    version = answer.headers.get("docker-distribution-api-version", "none")
    return f"{answer.status_code} version={version} type={kind} body={answer.text}"


@question("base without slash")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", "/v2"))


@question("HEAD base")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("HEAD", "/v2/"))


@question("POST base")
async def _(probe: Probe) -> str:
    return str((await probe.ask("POST", "/v2/")).status_code)


@question("open a session")
async def _(probe: Probe) -> str:
    answer = await probe.ask("POST", f"/v2/{probe.a}/blobs/uploads/")
    location = answer.headers.get("location")
    probe.location = probe.first_location = location or ""
    uuid = "yes" if "docker-upload-uuid" in answer.headers else "no"
    return probe.say(answer, "range", location=form_of(location), uuid=uuid)


@question("open without slash")
async def _(probe: Probe) -> str:
    return str((await probe.ask("POST", f"/v2/{probe.a}/blobs/uploads")).status_code)


@question("session of 0 octets")
async def _(probe: Probe) -> str:
    answer = await probe.ask("GET", probe.location)
    return probe.say(answer, "range", location="yes" if "location" in answer.headers else "no")


@question("stream 5 octets")
async def _(probe: Probe) -> str:
    return probe.say(await probe.patch(b"01234"), "range")


@question("session of 5 octets")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", probe.location), "range")


@question("stream to a stale location")
async def _(probe: Probe) -> str:
    return probe.say(await probe.patch(b"56", location=probe.first_location), "range")


async def _fresh_session_of_5(probe: Probe) -> None:
    probe.location = await probe.open()
    await probe.patch(b"01234", "0-4")


@question("chunk out of order")
async def _(probe: Probe) -> str:
    await _fresh_session_of_5(probe)
    return probe.say(await probe.patch(b"xyz", "10-12"), "range")


@question("session after it")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", probe.location), "range")


@question("chunk again")
async def _(probe: Probe) -> str:
    await _fresh_session_of_5(probe)
    return probe.say(await probe.patch(b"01234", "0-4"), "range")


@question("chunk longer told than it is")
async def _(probe: Probe) -> str:
    await _fresh_session_of_5(probe)
    return probe.say(await probe.patch(b"567", "5-9"), "range")


@question("chunk with a total")
async def _(probe: Probe) -> str:
    await _fresh_session_of_5(probe)
    return probe.say(await probe.patch(b"567", "bytes 5-7/8"), "range")


@question("cancel a session")
async def _(probe: Probe) -> str:
    await _fresh_session_of_5(probe)
    return probe.say(await probe.ask("DELETE", probe.location))


@question("session cancelled")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", probe.location))


@question("stream with chunked framing")
async def _(probe: Probe) -> str:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"012"
        yield b"345"

    probe.location = await probe.open()
    return probe.say(await probe.patch(pieces()), "range")


@question("commit without digest")
async def _(probe: Probe) -> str:
    return probe.say(await probe.put(await probe.open(), None, b"x"))


@question("commit digest=bogus")
async def _(probe: Probe) -> str:
    return probe.say(await probe.put(await probe.open(), "bogus", b"x"))


@question("commit digest=sha256:short")
async def _(probe: Probe) -> str:
    return probe.say(await probe.put(await probe.open(), "sha256:abc", b"x"))


@question("commit digest=md5")
async def _(probe: Probe) -> str:
    return probe.say(await probe.put(await probe.open(), "md5:" + "a" * 32, b"x"))


@question("commit another digest")
async def _(probe: Probe) -> str:
    probe.location = await probe.open()
    await probe.patch(b"012345")
    return probe.say(await probe.put(probe.location, digest_of(b"other")))


@question("session after that")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", probe.location), "range")


@question("commit the right digest then")
async def _(probe: Probe) -> str:
    return probe.say(await probe.put(probe.location, digest_of(b"012345")))


@question("commit")
async def _(probe: Probe) -> str:
    probe.location = await probe.open()
    answer = await probe.put(probe.location, digest_of(probe.blob), probe.blob)
    await probe.push(b"{}")
    dcd = "yes" if "docker-content-digest" in answer.headers else "no"
    return probe.say(answer, location=form_of(answer.headers.get("location")), digest=dcd)


@question("commit again")
async def _(probe: Probe) -> str:
    return probe.say(await probe.put(probe.location, digest_of(probe.blob), probe.blob))


@question("session committed")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", probe.location))


@question("commit with chunked framing")
async def _(probe: Probe) -> str:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"chu"
        yield b"nked"

    return probe.say(await probe.put(await probe.open(), digest_of(b"chunked"), pieces()))


@question("commit without Content-Type")
async def _(probe: Probe) -> str:
    return probe.say(await probe.put(await probe.open(), digest_of(b"typeless"), b"typeless", headers={}))


@question("session under another repository")
async def _(probe: Probe) -> str:
    location = (await probe.open()).replace(probe.a, probe.b)
    return probe.say(await probe.put(location, digest_of(b"elsewhere"), b"elsewhere"))


@question("stream to an unknown session")
async def _(probe: Probe) -> str:
    session = "0" * 8 + "-0000-4000-8000-" + "0" * 12
    path = f"/v2/{probe.a}/blobs/uploads/{session}"
    return probe.say(await probe.patch(b"x", location=path, stay=True))


@question("blob with its POST")
async def _(probe: Probe) -> str:
    path = f"/v2/{probe.a}/blobs/uploads/?digest={digest_of(b'single')}"
    return probe.say(await probe.ask("POST", path, content=b"single", headers=OCTETS))


@question("blob with its POST, another digest")
async def _(probe: Probe) -> str:
    path = f"/v2/{probe.a}/blobs/uploads/?digest={digest_of(b'other')}"
    return probe.say(await probe.ask("POST", path, content=b"single", headers=OCTETS))


@question("push by sha512")
async def _(probe: Probe) -> str:
    digest = digest_of(b"long", "sha512")
    answer = await probe.put(await probe.open(), digest, b"long")
    told = answer.headers.get("docker-content-digest", "none").partition(":")[0]
    return probe.say(answer, digest=told)


@question("pull by sha512")
async def _(probe: Probe) -> str:
    answer = await probe.ask("GET", f"/v2/{probe.a}/blobs/{digest_of(b'long', 'sha512')}")
    told = answer.headers.get("docker-content-digest", "none").partition(":")[0]
    return probe.say(answer, digest=told)


@question("stream cut at 200 kB")
async def _(probe: Probe) -> str:
    content = bytes(1_000_000)
    location = await probe.open()
    await probe.cut_off("PATCH", location, content, 200_000)
    answer = await probe.settled(lambda: probe.ask("GET", location), "range=0-0")
    probe.location = answer.headers.get("location", "")
    return probe.say(answer, "range")


@question("going on from there")
async def _(probe: Probe) -> str:
    if not probe.location:
        return "-"
    content = bytes(1_000_000)
    patched = await probe.patch(content[200_000:], "200000-999999")
    put = await probe.put(probe.location, digest_of(content))
    return f"{patched.status_code} {put.status_code}"


@question("commit cut at 200 kB")
async def _(probe: Probe) -> str:
    content = b"1" * 1_000_000
    location = await probe.open()
    mark = "&" if "?" in location else "?"
    await probe.cut_off("PUT", f"{location}{mark}digest={digest_of(content)}", content, 200_000)
    session = await probe.settled(lambda: probe.ask("GET", location), "range=0-0")
    blob = await probe.ask("HEAD", f"/v2/{probe.a}/blobs/{digest_of(content)}")
    return f"{probe.say(session, 'range')} / {blob.status_code}"


@question("eight commits at once")
async def _(probe: Probe) -> str:
    content = b"8" * 100_000
    locations = [await probe.open() for _ in range(8)]
    puts = [probe.put(location, digest_of(content), content) for location in locations]
    answers = await asyncio.gather(*puts)
    return " ".join(sorted({str(answer.status_code) for answer in answers}))


def blob_path(probe: Probe, content: bytes | None = None, repository: str | None = None) -> str:
    return f"/v2/{repository or probe.a}/blobs/{digest_of(probe.blob if content is None else content)}"


@question("HEAD blob")
async def _(probe: Probe) -> str:
    answer = await probe.ask("HEAD", blob_path(probe))
    headers = answer.headers
    etag = "yes" if "etag" in headers else "no"
    dcd = "yes" if headers.get("docker-content-digest") == digest_of(probe.blob) else "no"
    names = {
        "len": "content-length",
        "type": "content-type",
        "ranges": "accept-ranges",
        "cache": "cache-control",
    }
    told = {name: headers.get(header, "none") for name, header in names.items()}
    return probe.say(answer, **told, digest=dcd, etag=etag)


@question("GET blob If-None-Match")
async def _(probe: Probe) -> str:
    etag = (await probe.ask("HEAD", blob_path(probe))).headers.get("etag")
    if etag is None:
        return "no etag"
    return probe.say(await probe.ask("GET", blob_path(probe), headers={"If-None-Match": etag}))


def _ranged(text: str) -> None:
    @question(f"GET blob {text}")
    async def _(probe: Probe) -> str:
        answer = await probe.ask("GET", blob_path(probe), headers={"Range": text})
        if "multipart" in answer.headers.get("content-type", ""):
            return f"{answer.status_code} multipart"
        length = "" if answer.status_code >= 400 else f" len={len(answer.content)}"
        return f"{answer.status_code}{length} {answer.headers.get('content-range', 'none')}"


for _text in ("0-0", "90-", "-5", "0-1,4-5", "500-600", "5-2"):
    _ranged(f"bytes={_text}")
_ranged("lines=0-1")


@question("GET blob missing")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", blob_path(probe, b"missing")))


@question("GET blob, unknown repository")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", blob_path(probe, repository="no/such")))


@question("GET blob, bad digest")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", f"/v2/{probe.a}/blobs/sha256:bad"))


@question("HEAD blob missing")
async def _(probe: Probe) -> str:
    return str((await probe.ask("HEAD", blob_path(probe, b"missing"))).status_code)


@question("blob through another repository")
async def _(probe: Probe) -> str:
    await probe.push(b"own", probe.b)
    return probe.say(await probe.ask("GET", blob_path(probe, repository=probe.b)))


def _mounted(text: str, query: Callable[[Probe], Mapping[str, str]], target: str = "b") -> None:
    @question(text)
    async def _(probe: Probe) -> str:
        path = f"/v2/{probe.b if target == 'b' else probe.a}/blobs/uploads/"
        answer = await probe.ask("POST", path, params=dict(query(probe)))
        told = "yes" if "docker-content-digest" in answer.headers else "no"
        return probe.say(answer, digest=told)


_mounted("mount", lambda probe: {"mount": digest_of(probe.blob), "from": probe.a})
_mounted("mount anonymously", lambda _: {"mount": digest_of(b"typeless")})
_mounted("mount from an unknown repository", lambda _: {"mount": digest_of(b"typeless"), "from": "no/such"})
_mounted("mount a missing blob", lambda probe: {"mount": digest_of(b"missing"), "from": probe.a})
_mounted("mount a bad digest", lambda probe: {"mount": "sha256:bad", "from": probe.a})
_mounted("mount from a bad name", lambda _: {"mount": digest_of(b"typeless"), "from": "BAD"})
_mounted("mount what is there", lambda probe: {"mount": digest_of(b"own"), "from": probe.b})
_mounted("mount what is there, no source", lambda _: {"mount": digest_of(b"own")})


@question("PUT manifest")
async def _(probe: Probe) -> str:
    answer = await probe.put_manifest("v1", probe.image())
    location = answer.headers.get("location", "missing")
    kind = "digest" if "sha256:" in location else location
    dcd = "yes" if "docker-content-digest" in answer.headers else "no"
    return probe.say(answer, location=kind, digest=dcd)


def _put(
    text: str, reference: str, content: Callable[[Probe], bytes], media_type: str | None = MANIFEST
) -> None:
    @question(f"PUT manifest, {text}")
    async def _(probe: Probe) -> str:
        return probe.say(await probe.put_manifest(reference, content(probe), media_type))


_put("no Content-Type", "typeless", lambda probe: probe.image(), None)
_put("Content-Type unlike mediaType", "unlike", lambda probe: probe.image(), DOCKER)
_put("Content-Type with parameters", "param", lambda probe: probe.image(), f"{MANIFEST}; charset=utf-8")
_put("not JSON", "notjson", lambda _: b"{")
_put("empty", "empty", lambda _: b"")
_put(
    "unknown layer",
    "layerless",
    lambda probe: probe.image(layers=[{"mediaType": LAYER, "digest": digest_of(b"missing"), "size": 7}]),
)
_put(
    "unknown config",
    "configless",
    lambda probe: probe.image(config={"mediaType": CONFIG, "digest": digest_of(b"missing"), "size": 7}),
)
_put("another digest", digest_of(b"other"), lambda probe: probe.image())
_put(
    "unknown media type",
    "kind",
    lambda probe: probe.image(mediaType="application/vnd.unknown"),
    "application/vnd.unknown",
)
_put("tag of 129", "a" * 129, lambda probe: probe.image())
_put("tag .bad", ".bad", lambda probe: probe.image())


@question("PUT manifest, upper-case name")
async def _(probe: Probe) -> str:
    return str((await probe.put_manifest("v1", probe.image(), repository="UPPER")).status_code)


_put(
    "wrong size of a layer",
    "size",
    lambda probe: probe.image(layers=[{"mediaType": LAYER, "digest": digest_of(probe.blob), "size": 99}]),
)
_put("3.9 MB", "big", lambda probe: probe.image(annotations={"x": "y" * 3_900_000}))
_put("5 MB", "bigger", lambda probe: probe.image(annotations={"x": "y" * 5_000_000}))


def _accepted(text: str, accept: str | None) -> None:
    @question(f"GET manifest, Accept {text}")
    async def _(probe: Probe) -> str:
        return probe.say(await probe.get_manifest("v1", accept))


_accepted("absent", None)
_accepted("*/*", "*/*")
_accepted("docker alone", DOCKER)
_accepted("index alone", INDEX)
_accepted("its own", MANIFEST)


@question("HEAD manifest without Accept")
async def _(probe: Probe) -> str:
    return str((await probe.get_manifest("v1", None, method="HEAD")).status_code)


@question("GET manifest, etag")
async def _(probe: Probe) -> str:
    return "yes" if "etag" in (await probe.get_manifest("v1")).headers else "no"


@question("GET manifest, ns of a host")
async def _(probe: Probe) -> str:
    request = probe.http.build_request("GET", f"/v2/{probe.a}/manifests/v1?ns=docker.io")
    request.headers["accept"] = MANIFEST
    answer = await probe.http.send(request)
    return probe.say(answer, namespace=answer.headers.get("oci-namespace", "none"))


@question("GET tag missing")
async def _(probe: Probe) -> str:
    return probe.say(await probe.get_manifest("missing"))


@question("GET manifest, unknown repository")
async def _(probe: Probe) -> str:
    return probe.say(await probe.get_manifest("v1", repository="no/such"))


@question("GET manifest through another repository")
async def _(probe: Probe) -> str:
    return probe.say(await probe.get_manifest(digest_of(probe.image()), repository=probe.b))


@question("PUT manifest with a subject")
async def _(probe: Probe) -> str:
    subject = {"mediaType": MANIFEST, "digest": digest_of(probe.image()), "size": len(probe.image())}
    answer = await probe.put_manifest("subj", probe.image(subject=subject))
    return probe.say(answer, subject="yes" if "oci-subject" in answer.headers else "no")


@question("referrers")
async def _(probe: Probe) -> str:
    answer = await probe.ask("GET", f"/v2/{probe.a}/referrers/{digest_of(probe.image())}")
    return probe.say(answer, type=answer.headers.get("content-type", "none").partition(";")[0])


@question("referrers of a bad digest")
async def _(probe: Probe) -> str:
    return str((await probe.ask("GET", f"/v2/{probe.a}/referrers/sha256:bad")).status_code)


@question("referrers, unknown repository")
async def _(probe: Probe) -> str:
    return str((await probe.ask("GET", f"/v2/no/such/referrers/{digest_of(b'x')}")).status_code)


@question("PUT manifest with several tags")
async def _(probe: Probe) -> str:
    reference = f"{digest_of(probe.image())}?tag=x1&tag=x2"
    answer = await probe.put_manifest(reference, probe.image())
    return probe.say(answer, tags=len(answer.headers.get_list("oci-tag")))


@question("tags in order")
async def _(probe: Probe) -> str:
    for tag in ("b", "10", "B", "9", "a"):
        await probe.put_manifest(tag, probe.image())
    tags = (await probe.ask("GET", f"/v2/{probe.a}/tags/list")).json()["tags"]
    return "ASCII" if tags == sorted(tags) else "unsorted"


def _listed(query: str) -> None:
    @question(f"tags {query}")
    async def _(probe: Probe) -> str:
        every = (await probe.ask("GET", f"/v2/{probe.a}/tags/list")).json()["tags"]
        answer = await probe.ask("GET", f"/v2/{probe.a}/tags/list?{query}")
        tags = answer.json().get("tags") if answer.is_success else None
        count = "absent" if tags is None else "all" if sorted(tags) == sorted(every) else len(tags)
        link = answer.headers.get("link", "none")
        style = "none" if link == "none" else "quoted" if 'rel="next"' in link else "unquoted"
        return probe.say(answer, tags=count, link=style)


for _query in ("n=0", "n=2", "n=-1", "n=abc", "n=100000", "last=zzz", "n=2&last=nosuchtag"):
    _listed(_query)


@question("tags, unknown repository")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", "/v2/no/such/tags/list"))


@question("tags, blobs alone")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", f"/v2/{probe.b}/tags/list"))


@question("catalog n=1")
async def _(probe: Probe) -> str:
    answer = await probe.ask("GET", "/v2/_catalog?n=1")
    return f"{answer.status_code} link={'yes' if 'link' in answer.headers else 'no'}"


@question("extensions")
async def _(probe: Probe) -> str:
    return str((await probe.ask("GET", "/v2/_oci/ext/discover")).status_code)


@question("unknown path")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("GET", "/v2/x/y/z"))


@question("PUT tags")
async def _(probe: Probe) -> str:
    answer = await probe.ask("PUT", f"/v2/{probe.a}/tags/list")
    return f"{answer.status_code} allow={answer.headers.get('allow', 'none')}"


@question("DELETE tag")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("DELETE", f"/v2/{probe.a}/manifests/10"))


@question("DELETE missing tag")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("DELETE", f"/v2/{probe.a}/manifests/missing"))


@question("DELETE missing manifest")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("DELETE", f"/v2/{probe.a}/manifests/{digest_of(b'missing')}"))


@question("DELETE blob that is referred to")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("DELETE", blob_path(probe)))


@question("that blob here / where it was mounted")
async def _(probe: Probe) -> str:
    here = await probe.ask("GET", blob_path(probe))
    there = await probe.ask("GET", blob_path(probe, repository=probe.b))
    return f"{here.status_code} / {there.status_code}"


@question("its manifest")
async def _(probe: Probe) -> str:
    return probe.say(await probe.get_manifest("v1"))


@question("DELETE missing blob")
async def _(probe: Probe) -> str:
    return probe.say(await probe.ask("DELETE", blob_path(probe, b"missing")))


@question("DELETE manifest")
async def _(probe: Probe) -> str:
    path = f"/v2/{probe.a}/manifests/{digest_of(probe.image())}"
    return probe.say(await probe.ask("DELETE", path))


@question("its tag afterwards")
async def _(probe: Probe) -> str:
    return probe.say(await probe.get_manifest("v1"))
