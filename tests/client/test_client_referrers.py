"""What refers to an image: asked for, and taken along by a copy, wherever it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim.client.client import Client
from regsim.core import Descriptor, media_types
from regsim.core.ledger import Outcome, violations
from regsim.core.manifest import encode
from regsim.errors import NotFoundError, RegistryError, UsageError
from regsim.registry.referrers import fallback_tag
from regsim.scenario.reconcile import reconcile
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from pathlib import Path

    from regsim.core.result import RunResult
    from tests.client.conftest import Make

pytestmark = pytest.mark.anyio

HOST = "127.0.0.1:5000"
FROM, TO = f"{HOST}/shop/api", f"{HOST}/live/api"
SIGNATURE, SBOM = "application/x.signature", "application/x.sbom"
EMPTY = Descriptor.of(b"{}", media_types.OCI_EMPTY)
# Who lists what refers to an image, and who leaves that to clients.
KEEPERS = pytest.mark.parametrize("profile", [None, "distribution-2.8"])


@dataclass(frozen=True, slots=True)
class Family:
    """An image, its bill of materials, and a signature of each."""

    image: Descriptor
    sbom: Descriptor
    signature: Descriptor
    of_sbom: Descriptor

    @property
    def followers(self) -> set[str]:
        return {self.sbom.digest, self.signature.digest, self.of_sbom.digest}


async def refer(store: LayoutStore, subject: Descriptor, kind: str, content: bytes) -> Descriptor:
    """Put what refers to a manifest into a layout, listed without a tag."""
    layer = Descriptor.of(content, "application/octet-stream")
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": kind,
        "config": EMPTY.to_json(),
        "layers": [layer.to_json()],
        "subject": subject.to_json(),
        "annotations": {"made-by": "a test"},
    }
    raw = encode(document)
    descriptor = Descriptor.of(raw, media_types.OCI_MANIFEST)
    for each, data in ((EMPTY, b"{}"), (layer, content), (descriptor, raw)):
        await store.put(BytesContent(each, data))
    await store.tag(descriptor, descriptor.digest)
    return descriptor


async def family(make: Make, place: Path) -> Family:
    image = await make("v1", b"base", b"own")
    store = LayoutStore(place)
    sbom = await refer(store, image, SBOM, b"what is in it")
    signature = await refer(store, image, SIGNATURE, b"mine")
    return Family(image, sbom, signature, await refer(store, sbom, SIGNATURE, b"mine too"))


def ends(result: RunResult) -> list[tuple[str | None, str]]:
    """Return each transfer's digest, and what became of the manifest."""
    return [(each.ledger.digest, str(each.ledger.entries[0].outcome)) for each in result.transfers]


@KEEPERS
async def test_a_copy_takes_along_what_refers_to_an_image_and_what_refers_to_that(
    make: Make, place: Path, tmp_path: Path, profile: str | None
) -> None:
    known = await family(make, place)
    async with MockRegistry(profile=profile) as mock, Client(transport=mock.transport()) as client:
        up = await client.copy(f"oci:{place}:v1", f"{FROM}:v1", referrers=True)
        across = await client.copy(f"{FROM}:v1", f"{TO}:v1", referrers=True)
        down = await client.copy(f"{TO}:v1", f"oci:{tmp_path / 'down'}:v1", referrers=True)
        for result in (up, across, down):
            assert ends(result)[0] == (known.image.digest, "transferred")
            assert {digest for digest, _ in ends(result)[1:]} == known.followers
            assert {outcome for _, outcome in ends(result)} == {"transferred"}
            assert [violations(each.ledger) for each in result.transfers] == [[]] * 4
        ledgers = [each.ledger for result in (up, across, down) for each in result.transfers]
        assert reconcile(ledgers, mock.journal).differences == ()
        for address in (f"{FROM}:v1", f"{TO}@{known.image.digest}", f"oci:{tmp_path / 'down'}"):
            found = await client.referrers(address)
            assert {each.digest for each in found} == {known.sbom.digest, known.signature.digest}
        (only,) = await client.referrers(f"{TO}:v1", artifact_type=SIGNATURE)
        assert (only.digest, only.artifact_type) == (known.signature.digest, SIGNATURE)
        assert only.annotations == {"made-by": "a test"}
    for descriptor in (known.sbom, known.signature, known.of_sbom):
        assert await LayoutStore(tmp_path / "down").resolve(descriptor.digest) is not None


async def test_what_was_left_unlisted_is_listed_by_the_next_copy(
    make: Make, place: Path, tmp_path: Path
) -> None:
    known = await family(make, place)
    down = tmp_path / "down"
    async with (
        MockRegistry(profile="distribution-3") as mock,
        Client(transport=mock.transport()) as client,
    ):
        for to in (f"{FROM}:v1", f"oci:{down}:v1"):
            await client.copy(f"oci:{place}:v1", to, referrers=True)
        # As if it had been stopped between a manifest and its listing.
        await client.delete(
            f"{FROM}@{(await client.resolve(f'{FROM}:{fallback_tag(known.image.digest)}')).digest}"
        )
        for digest in known.followers:
            await LayoutStore(down).untag(digest)
        for address in (f"{FROM}:v1", f"oci:{down}:v1"):
            assert await client.referrers(address) == ()
            again = await client.copy(f"oci:{place}:v1", address, referrers=True)
            assert {outcome for _, outcome in ends(again)} == {"exists"}
            assert [violations(each.ledger) for each in again.transfers] == [[]] * 4
            found = await client.referrers(address)
            assert {each.digest for each in found} == {known.sbom.digest, known.signature.digest}


async def test_without_being_asked_nothing_is_taken_along(client: Client, make: Make, place: Path) -> None:
    known = await family(make, place)
    assert len((await client.copy(f"oci:{place}:v1", f"{FROM}:v1")).transfers) == 1
    assert await client.referrers(f"{FROM}@{known.image.digest}") == ()


async def test_a_second_copy_finds_all_of_it_there(client: Client, make: Make, place: Path) -> None:
    await family(make, place)
    await client.copy(f"oci:{place}:v1", f"{FROM}:v1", referrers=True)
    again = await client.copy(f"oci:{place}:v1", f"{FROM}:v1", referrers=True)
    assert {outcome for _, outcome in ends(again)} == {"exists"}
    assert again.summary.wire_sent == 0


@KEEPERS
async def test_what_refers_to_each_platforms_image_is_taken_along_too(
    make: Make, place: Path, tmp_path: Path, profile: str | None
) -> None:
    index = await make("v1", b"base", architectures=("amd64", "arm64"))
    store = LayoutStore(place)
    async with MockRegistry(profile=profile) as mock, Client(transport=mock.transport()) as client:
        images = (await client.inspect(f"oci:{place}:v1")).images
        signed = [await refer(store, each.manifest, SIGNATURE, b"s") for each in images]
        signed.append(await refer(store, index, SIGNATURE, b"s"))
        result = await client.copy(f"oci:{place}:v1", f"{FROM}:v1", referrers=True)
        assert {digest for digest, _ in ends(result)[1:]} == {each.digest for each in signed}
        # The same bytes in several of them go once to a repository, and are then found there.
        uploaded = [each for each in mock.journal if each.status == 201 and each.route == "upload"]
        assert len({each.digest for each in uploaded}) == len(uploaded)
        assert (await client.copy(f"{FROM}:v1", f"oci:{tmp_path / 'x'}", referrers=True)).exit_code == 0


async def test_a_dry_run_tells_it_all_and_writes_nothing(
    client: Client, mock: MockRegistry, make: Make, place: Path
) -> None:
    known = await family(make, place)
    plan = await client.copy(f"oci:{place}:v1", f"{FROM}:v1", referrers=True, dry_run=True)
    assert {each.method for each in mock.journal} <= {"GET", "HEAD"}
    real = await client.copy(f"oci:{place}:v1", f"{FROM}:v1", referrers=True)
    assert ends(plan) == ends(real)
    assert plan.summary.wire_sent == real.summary.wire_sent
    assert len(ends(plan)) == 1 + len(known.followers)


async def test_an_archive_has_room_for_it_but_one_of_dockers_has_not(
    client: Client, make: Make, place: Path, tmp_path: Path
) -> None:
    known = await family(make, place)
    archive = f"oci-archive:{tmp_path / 'image.tar'}"
    await client.copy(f"oci:{place}:v1", f"{archive}:v1", referrers=True)
    found = await client.referrers(archive)
    assert {each.digest for each in found} == {known.sbom.digest, known.signature.digest}
    with pytest.raises(UsageError, match="nothing that refers to an image"):
        await client.copy(f"oci:{place}:v1", f"docker-archive:{tmp_path / 'd.tar'}:a:1", referrers=True)


async def test_a_list_that_clients_keep_is_read_in_a_layout_too(
    client: Client, make: Make, place: Path
) -> None:
    image = await make("v1", b"base")
    store = LayoutStore(place)
    named = Descriptor(media_type=media_types.OCI_MANIFEST, digest=EMPTY.digest, size=2, artifact_type=SBOM)
    raw = encode({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [named.to_json()]})
    listing = Descriptor.of(raw, media_types.OCI_INDEX)
    await store.put(BytesContent(listing, raw))
    await store.tag(listing, fallback_tag(image.digest))
    assert await client.referrers(f"oci:{place}:v1") == (named,)
    assert await client.referrers(f"oci:{place}:v1", artifact_type=SIGNATURE) == ()


async def test_a_registry_that_does_not_say_what_refers_to_an_image_fails_the_copy_after_the_image(
    make: Make, place: Path, tmp_path: Path
) -> None:
    await family(make, place)
    async with (
        MockRegistry(faults=["referrers status 403"]) as mock,
        Client(transport=mock.transport()) as client,
    ):
        await client.copy(f"oci:{place}:v1", f"{FROM}:v1")
        result = await client.copy(f"{FROM}:v1", f"oci:{tmp_path / 'down'}:v1", referrers=True, check=False)
        (error,) = result.errors
        assert isinstance(error, RegistryError)
        assert [each.outcome for each in result.transfers[0].ledger.entries] == [Outcome.TRANSFERRED] * 4
        # What the answer took is on the account of the transfer that it was asked after.
        assert result.summary.overhead > 0
        assert (await client.resolve(f"oci:{tmp_path / 'down'}:v1")) is not None


async def test_what_is_not_there_has_no_referrers_but_a_digest_may_have_some(client: Client) -> None:
    with pytest.raises(NotFoundError):
        await client.referrers(f"{FROM}:v1")
    assert await client.referrers(f"{FROM}@{EMPTY.digest}") == ()
