"""The page at `/`: what it shows, to whom, and that no text on it can be anything but text."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from mock_registry.auth import BasicAuth, Right, TokenAuth
from mock_registry.page.html import Html, element, escape, legible

if TYPE_CHECKING:
    from typing import Any

    import httpx

    from mock_registry.auth import Auth
    from tests.mock_registry.conftest import OpenPeer, OpenWith, Peer

pytestmark = pytest.mark.anyio

BASE = b"base" * 250
TOOLS = b"tools" * 40
HOSTILE = "<script>alert(1)</script>\"'&</style><img src=x onerror=alert(2)>"
VOID = {"meta", "link"}


class Page(HTMLParser):
    """A page as a parser sees it: every element must be closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)
            if "td" in self._open or "th" in self._open:
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def table(self, *heads: str) -> list[list[str]]:
        """Return the rows of the last table whose first heads are these."""
        start = max(n for n, row in enumerate(self.rows) if row[: len(heads)] == list(heads))
        found = self.rows[start + 1 :]
        return [row for row in found if len(row) == len(self.rows[start])]


async def look(http: httpx.AsyncClient, **options: Any) -> Page:
    answer = await http.get("/", **options)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return Page(answer.text)


def config(*steps: object, **more: object) -> bytes:
    history = [{"created_by": "ENV X=1", "empty_layer": True}, *({"created_by": step} for step in steps)]
    return json.dumps({"os": "linux", "architecture": "arm64", "history": history, **more}).encode()


async def fill(peer: Peer) -> None:
    """Push two images that share a layer in one repository, and one of another that has it too."""
    await peer.push_image("shop/api", "v1", config("COPY base /"), [BASE])
    await peer.push_image("shop/api", "v2", config("COPY base /", "RUN make"), [BASE, TOOLS])
    await peer.push_image("shop/web", "latest", b"{}", [BASE])


async def test_the_page_shows_repositories_tags_and_images(peer: Peer) -> None:
    await fill(peer)
    page = await look(peer.http)
    rows = [
        [size, what, repository, tags] for size, what, _, repository, tags in page.table("Size", "What")[:3]
    ]
    assert rows == [
        ["1.0 kB", "image of 1 layer", "shop/api", "v1"],
        ["1.2 kB", "image of 2 layers", "shop/api", "v2"],
        ["1.0 kB", "image of 1 layer", "shop/web", "latest"],
    ]
    assert ("title", f"sha256:{hashlib.sha256(BASE).hexdigest()}") in page.attributes


async def test_sharing_saves_a_layer_once_for_each_further_image_that_names_it(peer: Peer) -> None:
    await fill(peer)
    page = await look(peer.http)
    layers = page.table("Saves", "Size", "Images")[:2]
    assert [row[:3] for row in layers] == [["2.0 kB", "1.0 kB", "3"], ["0 B", "200 B", "1"]]
    assert layers[0][-1] == "shop/api, shop/web"
    assert "Without sharing, the images would take 3.2 kB" in page.text
    assert "1.2 kB stored, 2.0 kB (62.5 %) saved" in page.text


async def test_a_blob_without_an_image_is_a_layer_that_no_image_names(peer: Peer) -> None:
    await peer.push("one", BASE)
    await peer.push("two", BASE)
    (layer, *_) = (await look(peer.http)).table("Saves", "Size", "Images")
    assert layer[:3] == ["1.0 kB", "1.0 kB", "0"]
    assert layer[-2:] == ["no image names it", "one, two"]


async def test_the_page_of_an_empty_registry_says_so(peer: Peer) -> None:
    page = await look(peer.http)
    assert "No layers are stored." in page.text
    assert page.text.count("None.") == 2


async def test_an_index_and_an_image_without_a_tag_are_listed(peer: Peer) -> None:
    image = await peer.push_image("app", None, config("x"), [BASE])
    await peer.put("app", "all", peer.index(image), peer.OCI_INDEX)
    rows = (await look(peer.http)).table("Size", "What")[:2]
    assert [[what, tags] for _, what, _, _, tags in rows] == [
        ["image of 1 layer", "untagged"],
        ["index of 1", "all"],
    ]


async def test_what_a_sparse_image_lacks_is_not_here(with_settings: OpenWith) -> None:
    async with with_settings(sparse=True) as peer:
        await peer.put("app", "v1", peer.image(b"{}", [BASE]))
        page = await look(peer.http)
        assert page.table("Size", "What")[0][:2] == ["0 B", "image of 1 layer"]
        assert "No layers are stored." in page.text


async def test_strangers_texts_are_shown_as_the_text_that_they_are(peer: Peer) -> None:
    hostile = config(HOSTILE, os=HOSTILE)
    digest = await peer.push("app", BASE)
    layer = {"mediaType": HOSTILE, "digest": digest, "size": len(BASE)}
    await peer.push("app", hostile)
    document = json.loads(peer.image(hostile))
    document |= {"layers": [layer], "annotations": {HOSTILE: HOSTILE}, "artifactType": HOSTILE}
    assert (await peer.put("app", "v1", json.dumps(document).encode())).status_code == 201
    await peer.http.get(f"/v2/{HOSTILE}/tags/list")
    page = await look(peer.http)
    assert page.text.count(HOSTILE) == 1
    assert set(page.names).isdisjoint({"script", "img", "iframe", "form", "object"})
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "style")]
    assert {value for name, value in page.attributes if name == "href"} == {"data:,"}


@pytest.mark.parametrize(
    "text",
    [
        "\ud800",
        "\x00\x1b[2J",
        "\u202egnp.exe",
        "x" * 100_000,
        "\ufeff\u2028\u2029",
        "\U0001f980",
        "\r\n\t",
        " ",
    ],
)
async def test_no_text_breaks_the_page(peer: Peer, text: str) -> None:
    hostile = config(text, architecture=text)
    layer = {"mediaType": text, "digest": await peer.push("app", BASE), "size": 10**3000}
    await peer.push("app", hostile)
    document = json.loads(peer.image(hostile))
    document |= {"layers": [layer], "annotations": {text: text, "n": 1, "deep": {"a": [text]}}}
    assert (await peer.put("app", "v1", json.dumps(document).encode())).status_code == 201
    answer = await peer.http.get("/")
    assert answer.status_code == 200
    assert len(answer.content) < 20_000
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u2028-\u202e\ufeff]", answer.text)
    Page(answer.text)


def hash_of_style(text: str) -> str:
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


async def test_the_policy_allows_the_style_of_the_page_and_nothing_else(peer: Peer) -> None:
    answer = await peer.http.get("/")
    assert answer.headers["content-security-policy"].split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{hash_of_style(answer.text)}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "url(" not in answer.text
    assert "@import" not in answer.text


async def test_a_head_of_the_page_is_its_get_without_the_body(peer: Peer) -> None:
    await fill(peer)
    shown, told = await peer.http.get("/"), await peer.http.head("/")
    assert (told.status_code, told.content) == (200, b"")
    assert {**shown.headers, "date": ""} == {**told.headers, "date": ""}
    assert told.headers["content-length"] == str(len(shown.content))


@pytest.mark.parametrize("read_only", [False, True])
async def test_another_method_of_the_page_is_405(with_settings: OpenWith, read_only: bool) -> None:
    async with with_settings(read_only=read_only) as peer:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = await peer.http.request(method, "/")
            assert (answer.status_code, peer.codes(answer)) == (405, ["UNSUPPORTED"])
            assert answer.headers["allow"] == "GET, HEAD"
        assert (await peer.http.get("/")).status_code == 200


@pytest.mark.parametrize("profile", ["distribution-2.8", "ggcr", "ecr"])
async def test_the_page_is_there_under_a_profile_too(with_settings: OpenWith, profile: str) -> None:
    async with with_settings(profile=profile) as peer:
        await peer.push("app", BASE)
        assert "app" in (await look(peer.http)).text


async def test_a_look_is_journalled_and_does_not_change_what_is_seen(peer: Peer) -> None:
    await fill(peer)
    before = len(peer.journal)
    first = await peer.http.get("/")
    second = await peer.http.get("/?again")
    assert first.content == second.content
    assert [(each.route, each.target, each.status) for each in peer.journal][before:] == [
        ("page", "/", 200),
        ("page", "/?again", 200),
    ]
    assert peer.journal.bytes_out(route="page") == 2 * len(first.content)
    assert peer.journal[before].repository is None


async def test_the_journals_totals_are_the_journals(peer: Peer) -> None:
    await fill(peer)
    await peer.http.get("/v2/none/tags/list")
    journal = peer.journal
    expected = {
        str(route): [
            len(journal.records(route=route)),
            journal.bytes_in(route=route),
            journal.bytes_out(route=route),
        ]
        for route in {record.route for record in journal}
    }
    expected["all"] = [len(journal), journal.bytes_in(), journal.bytes_out()]
    rows = (await look(peer.http)).table("Requests", "Bytes in")
    assert {row[3]: [int(cell.replace(",", "")) for cell in row[:3]] for row in rows} == expected


async def test_a_fault_may_meet_the_page(with_settings: OpenWith) -> None:
    async with with_settings(faults=["page status 503"]) as peer:
        assert (await peer.http.get("/")).status_code == 503
        assert (await peer.http.get("/v2/")).status_code == 200


USERS = {"admin": "a", "guest": "g"}
RIGHTS = [Right("admin"), Right("guest", "open/**", "pull")]


async def fill_as_admin(peer: Peer) -> None:
    """Push a layer that is shared between a repository that the guest may read, and one that they may not."""
    admin: Any = ("admin", "a")
    peer.http.auth = admin
    for name in ("open/app", "secret/app"):
        await peer.push_image(name, "v1", config("COPY"), [BASE])
    await peer.push_image("secret/app", "hidden", config("RUN secretly"), [BASE, TOOLS])
    await peer.http.get("/v2/")


@pytest.mark.parametrize(
    "auth", [BasicAuth(USERS, rights=RIGHTS), TokenAuth(USERS, rights=RIGHTS, basic=True)]
)
async def test_what_may_not_be_read_is_neither_shown_nor_counted(with_settings: OpenWith, auth: Auth) -> None:
    async with with_settings(auth=auth) as peer:
        await fill_as_admin(peer)
        whole = await look(peer.http)
        assert "secret/app" in whole.text
        guests = await look(peer.http, auth=("guest", "g"))
        for word in ("secret", "hidden", hashlib.sha256(TOOLS).hexdigest()[:12]):
            assert word not in guests.text
            assert not [value for _, value in guests.attributes if value and word in value]
        assert [row[:3] for row in guests.table("Saves", "Size", "Images")][:1] == [["0 B", "1.0 kB", "1"]]
        assert "1.0 kB stored, 0 B (0.0 %) saved" in guests.text
        # A repository's requests are known to whoever may read it; those about none, to who sent them.
        totals = {row[3]: int(row[0]) for row in guests.table("Requests", "Bytes in")}
        journal = peer.journal
        assert totals["all"] == len(journal.records(repository="open/app"))
        assert "base" not in totals
        await peer.http.get("/v2/", auth=("guest", "g"))
        totals = {
            row[3]: int(row[0])
            for row in (await look(peer.http, auth=("guest", "g"))).table("Requests", "Bytes in")
        }
        assert totals["base"] == 1


async def test_the_page_asks_who_one_is_as_a_browser_understands_it(with_settings: OpenWith) -> None:
    for auth in (BasicAuth(USERS), TokenAuth(USERS)):
        async with with_settings(auth=auth) as peer:
            answer = await peer.http.get("/")
            assert (answer.status_code, peer.codes(answer)) == (401, ["UNAUTHORIZED"])
            assert any(each.startswith("Basic ") for each in answer.headers.get_list("www-authenticate"))
            assert (await peer.http.get("/", auth=("guest", "wrong"))).status_code == 401
            assert "guest may read" in (await look(peer.http, auth=("guest", "g"))).text


async def test_a_password_in_place_of_a_token_opens_the_page_alone(with_settings: OpenWith) -> None:
    async with with_settings(auth=TokenAuth(USERS)) as peer:
        assert (await peer.http.get("/", auth=("admin", "a"))).status_code == 200
        assert (await peer.http.get("/v2/", auth=("admin", "a"))).status_code == 401
        answer = await peer.http.get("/v2/")
        assert [each.split()[0] for each in answer.headers.get_list("www-authenticate")] == ["Bearer"]


async def test_a_token_opens_the_page_of_its_owner(with_settings: OpenWith) -> None:
    auth = TokenAuth(USERS, rights=RIGHTS)
    async with with_settings(auth=auth) as peer:
        headers = {"Authorization": f"Bearer {auth.issue_token('guest')}"}
        assert "guest may read" in (await look(peer.http, headers=headers)).text


async def test_where_everyone_may_pull_the_page_asks_nobody(with_settings: OpenWith) -> None:
    rights = [Right("admin"), Right(None, "open/**", "pull")]
    for auth in (BasicAuth(USERS, rights=rights), TokenAuth(USERS, rights=rights, basic=True)):
        async with with_settings(auth=auth) as peer:
            await fill_as_admin(peer)
            page = await look(peer.http, auth=lambda request: request)
            assert "open/app" in page.text
            assert "secret" not in page.text


async def test_a_thousand_layers_are_shown_in_part_and_counted_in_whole(open_peer: OpenPeer) -> None:
    made = random.Random(1)
    layers = [made.randbytes(made.randint(1, 60)) for _ in range(1_000)]
    async with open_peer("process") as peer:
        for content in {*layers, b"{}"}:
            await peer.http.post(
                "/v2/big/blobs/uploads/", params={"digest": peer.digest(content)}, content=content
            )
        assert (await peer.put("big", "all", peer.image(b"{}", layers))).status_code == 201
        for number in range(60):
            some = peer.image(b"{}", layers[number : number + 100])
            assert (await peer.put("big", f"v{number}", some)).status_code == 201
        answer = await peer.http.get("/")
        page = Page(answer.text)
        distinct = len(set(layers))
        assert f"and {distinct - 500:,} more" in page.text
        assert len(page.table("Size", "What")) >= 61
        assert len(answer.content) < 200_000


def test_what_is_put_into_an_element_is_escaped_once() -> None:
    inner = element("b", "<&>", title='"')
    assert inner == '<b title="&quot;">&lt;&amp;&gt;</b>'
    assert element("i", inner, None, 1, class_="x", hidden=None) == f'<i class="x">{inner}1</i>'
    assert escape(escape("<")) == "&lt;"
    assert isinstance(inner, Html)


def test_legible_text_is_one_line_of_a_bounded_length() -> None:
    assert legible("a\nb\x00\u202e", 10) == r"a b\x00\u202e"
    assert legible("x" * 11, 10) == "x" * 10 + "…"
    assert legible("x" * 10, 10) == "x" * 10
