"""The mock registry's page in a real browser: Debian's Chromium, without a screen."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import threading
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Protocol

import httpx
import pytest

from mock_registry import RegistryServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peers

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DEADLINE = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1200,1400",
)
SCRIPT = "<script>document.title = 'it ran'</script>"


class Browser(Protocol):
    """Start Chromium at an address with more flags, and return what it prints."""

    def __call__(self, url: str, *flags: str) -> str: ...


@pytest.fixture
def chromium(tmp_path: Path) -> Browser:
    profile = tmp_path / "profile"

    def browse(url: str, *flags: str) -> str:
        done = subprocess.run(
            ["chromium", *FLAGS, f"--user-data-dir={profile}", *flags, url],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return browse


def push(http: httpx.Client, name: str, content: bytes, media_type: str) -> dict[str, object]:
    """Push a blob and return its descriptor."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    answer = http.post(f"/v2/{name}/blobs/uploads/", params={"digest": digest}, content=content)
    assert answer.status_code == 201
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def push_image(http: httpx.Client, name: str, tag: str, *sizes: int, media_type: str = LAYER) -> None:
    """Push an image of layers, each of which is told by its size."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": push(http, name, b"{}", "application/vnd.oci.image.config.v1+json"),
        "layers": [push(http, name, random.Random(size).randbytes(size), media_type) for size in sizes],
    }
    headers = {"Content-Type": MANIFEST}
    url = f"/v2/{name}/manifests/{tag}"
    assert http.put(url, content=json.dumps(document), headers=headers).status_code == 201


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    """A registry with a few images, whose journal begins afterwards."""
    base, tools = 9_000_000, 3_100_000
    with RegistryServer() as server:
        with httpx.Client(base_url=server.url, trust_env=False) as http:
            push_image(http, "shop/api", "v1.0", base, tools, 260_000)
            push_image(http, "shop/api", "v1.1", base, tools, 270_000)
            push_image(http, "shop/api", "latest", base, tools, 270_000)
            push_image(http, "shop/web", "v2", base, 1_250_000)
            push_image(http, "shop/web", "hostile", 420, media_type=SCRIPT)
            push_image(http, "tools/curl", "8.5", base, tools)
            http.get("/v2/shop/api/manifests/none")
        yield server


def first_pixel(png: bytes) -> tuple[int, ...]:
    """Return red, green and blue of the first pixel, which every filter of PNG leaves as it is."""
    data, place = b"", 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    return tuple(zlib.decompress(data)[1:4])


def test_chromium_shows_the_page_and_asks_for_nothing_else(server: RegistryServer, chromium: Browser) -> None:
    before = len(server.journal)
    shown = chromium(server.url, "--dump-dom")
    assert [(record.route, record.target) for record in server.journal[before:]] == [("page", "/")]
    for told in ("shop/api", "shop/web", "tools/curl", "v1.0", "image of 3 layers", "12.4 MB"):
        assert told in shown


def test_chromium_takes_strangers_texts_for_text(server: RegistryServer, chromium: Browser) -> None:
    shown = chromium(server.url, "--dump-dom")
    assert "<title>mock_registry</title>" in shown
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 1


@pytest.mark.parametrize(
    ("flags", "paper"), [((), (0xF6, 0xF7, 0xF9)), (("--force-dark-mode",), (0x12, 0x16, 0x1C))]
)
def test_chromium_paints_the_page_in_light_and_in_dark(
    server: RegistryServer, chromium: Browser, tmp_path: Path, flags: tuple[str, ...], paper: tuple[int, ...]
) -> None:
    picture = tmp_path / "page.png"
    chromium(server.url, f"--screenshot={picture}", *flags)
    assert first_pixel(picture.read_bytes()) == paper


@contextmanager
def serving(body: bytes, headers: list[tuple[str, str]]) -> Iterator[str]:
    """Serve one document, and return its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/"
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize("guarded", [True, False])
def test_the_policy_stops_a_script_that_escaping_would_have_missed(
    server: RegistryServer, chromium: Browser, guarded: bool
) -> None:
    answer = httpx.get(server.url, trust_env=False)
    broken = answer.content.replace(b"</footer>", SCRIPT.encode() + b"</footer>")
    policy = ("Content-Security-Policy", answer.headers["content-security-policy"])
    kind = ("Content-Type", answer.headers["content-type"])
    with serving(broken, [kind, policy] if guarded else [kind]) as url:
        shown = chromium(url, "--dump-dom")
    assert ("<title>it ran</title>" in shown) is not guarded
