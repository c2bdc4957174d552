"""One scenario, three fidelities: wire, model and plan give equal entries.

Equal in order, role, size, outcome, evidence (a plan's and a model's mount stands for a granted one),
where a blob was mounted from, wire bytes and waste; and equal in which references name the same content,
since the model's digests are made up.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from regsim.core.ledger import Entry, Evidence, violations
from regsim.core.result import Mode, RunResult
from regsim.errors import ExitCode
from regsim.scenario.images import open_images
from regsim.scenario.load import Shipped, find_scenario, load_scenario, shipped
from regsim.scenario.model_world import ModelWorld
from regsim.scenario.run import run
from regsim.scenario.wire_world import wire_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regsim.scenario.world import World

pytestmark = pytest.mark.anyio


def ignore(_: str) -> None:
    """Tell nobody."""


async def run_as(mode: Mode, path: Path, *overrides: str) -> RunResult:
    """Run a scenario file in one of the modes."""
    scenario = load_scenario(path, overrides)
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        images = await open_images(scenario, generate=mode is not Mode.MODEL, tell=ignore, scratch=scratch)
        world: World
        if mode is Mode.MODEL:
            world = ModelWorld(images=images)
        else:
            world = await stack.enter_async_context(
                wire_world(scenario.registry, images, mode=mode, warn=ignore)
            )
        return await run(scenario, world, mode, ignore)


def told(entry: Entry, names: dict[str, int]) -> tuple[object, ...]:
    assumed = Evidence.ASSUMED if entry.evidence is Evidence.CREATED else entry.evidence
    return (
        names.setdefault(entry.digest, len(names)),
        entry.role,
        entry.size,
        entry.media_type,
        entry.direction,
        entry.outcome,
        assumed,
        entry.mounted_from,
        entry.wire_sent,
        entry.wire_received,
        entry.wasted_sent,
        entry.wasted_received,
        entry.created_by,
        entry.recorded_digest,
    )


def account(result: RunResult) -> Iterator[object]:
    """Return all that the modes must agree on; digests by the order in which they first appear."""
    names: dict[str, int] = {}
    for transfer in result.transfers:
        ledger = transfer.ledger
        yield (transfer.step, transfer.step_name, transfer.node, transfer.weight, transfer.image)
        yield (ledger.direction, ledger.reference, ledger.referenced, ledger.unselected)
        yield (transfer.expected_error, ledger.error.exit_code if ledger.error else None)
        yield from (told(entry, names) for entry in ledger.entries)
    for done in result.containers:
        layer = done.committed.layer if done.committed else None
        error = done.error.message if done.error else None
        # The image's own digest is its config's, in which a model has made-up layers below.
        yield replace(done, error=None, committed=None), error, layer
    yield from (
        (check.expression, check.step, check.passed, check.actual)
        for check in result.checks
        # Only a wire has these; they are not for comparing modes.
        if not check.expression.startswith(("requests", "overhead"))
    )


def assert_equal(*results: RunResult) -> None:
    first, *others = (list(account(result)) for result in results)
    for other in others:
        assert other == first
    for result in results:
        assert result.error is None
        assert [line for transfer in result.transfers for line in violations(transfer.ledger)] == []
        assert result.reconciliation.differences == ()
        assert result.reconciliation.matched is (True if result.mode is Mode.WIRE else None)


def assert_passed(result: RunResult, entry: Shipped) -> None:
    assert result.exit_code is ExitCode.OK
    assert result.checks
    assert all(check.passed for check in result.checks)
    assert result.description == entry.description


@pytest.mark.long
@pytest.mark.parametrize("entry", shipped(), ids=lambda entry: entry.name)
async def test_shipped_scenarios_pass_and_agree_in_the_model_and_as_a_plan(entry: Shipped) -> None:
    model, plan = await run_as(Mode.MODEL, entry.path), await run_as(Mode.PLAN, entry.path)
    assert_equal(model, plan)
    assert_passed(model, entry)
    assert_passed(plan, entry)


GIGABYTES = frozenset({"base-alignment", "rebuilt-base"})
SECONDS = frozenset({"big-layer-split", "hello-world-go", "instruction-order"})


def marks_of(name: str) -> list[pytest.MarkDecorator]:
    """Return where a shipped scenario runs on the wire, by how long that takes."""
    if name in GIGABYTES:
        return [pytest.mark.soak]
    return [pytest.mark.long] if name in SECONDS else []


ON_THE_WIRE = [pytest.param(entry, id=entry.name, marks=marks_of(entry.name)) for entry in shipped()]


@pytest.mark.long
@pytest.mark.parametrize("entry", ON_THE_WIRE)
async def test_shipped_scenarios_pass_on_the_wire_as_in_the_model(entry: Shipped) -> None:
    wire, model = await run_as(Mode.WIRE, entry.path), await run_as(Mode.MODEL, entry.path)
    assert_equal(wire, model)
    assert_passed(wire, entry)


async def test_golang_upgrade_moves_the_figures_that_were_measured() -> None:
    result = await run_as(Mode.MODEL, find_scenario("golang-upgrade"))
    upgrade = result.transfers[-1].summary.layers
    assert upgrade is not None
    assert (upgrade.transferred.bytes, upgrade.referenced.bytes) == (166_359_863, 303_114_489)


async def test_rebuilt_base_costs_more_by_the_chain_rule() -> None:
    result = await run_as(Mode.MODEL, find_scenario("rebuilt-base"))
    moved = [each.summary.layers.transferred.bytes for each in result.transfers[-2:] if each.summary.layers]
    assert moved == [229_263_120, 303_310_601]


# Everything that a scenario can say, small.


def layout(directory: Path, *layers: bytes) -> Path:
    """Write an OCI image layout by hand, of one image tagged `real`."""

    def put(raw: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(raw).hexdigest()
        (directory / "blobs" / "sha256" / digest).write_bytes(raw)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(raw)}

    (directory / "blobs" / "sha256").mkdir(parents=True)
    kind = "application/vnd.oci.image.{}+json"
    config = {
        "os": "linux",
        "architecture": "amd64",
        "history": [{"created_by": f"ADD {number}"} for number in range(len(layers))],
    }
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": kind.format("manifest.v1"),
        "config": put(json.dumps(config).encode(), kind.format("config.v1")),
        "layers": [put(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
    }
    entry = put(json.dumps(manifest).encode(), manifest["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": "real"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


EVERYTHING = """\
seed: 5
images:
  base: {layers: [20kB, 4kB]}
  api:v1: {from: base, layers: [{size: 3kB, created_by: "COPY . ."}, {size: 3kB, media_type: tar+gzip}]}
  api:v2: {from: base, layers: [{size: 2kB, ratio: 2}, {size: 6144, media_type: tar}]}
  multi:
    platforms:
      linux/amd64: {layers: [9kB, 1kB]}
      linux/arm64: {layers: [8kB], from: base}
      linux/arm64/v9: {layers: [7kB]}
  mine: {oci: "./layout:real"}
nodes:
  ci: {}
  docker: {client: docker}
  podman: {client: podman, skip: chain, parallel: 1}
  edge: {count: 3, client: containerd}
steps:
  - push: {image: "api:v1", to: "shop/api:v1", node: ci}
  - push: {image: "api:v1", to: "shop/api:v1", node: edge}
    expect: {exists: 4, transferred: 0}
  - push: {image: "api:v2", to: "shop/api:v2", node: ci}
    expect: {exists: 2, transferred: 2}
  - push: {image: "api:v1", to: "shop/web:v1", node: ci}
    expect: {mounted: 4}
  - name: all platforms
    push: {image: multi, to: "shop/multi", node: ci}
    expect: {referenced: 6, mounted: 2, transferred: 4}
  - push: {image: mine, to: "own/mine:1", node: ci}
    expect: {transferred: 2, joined: 1}
  - copy: {from: "own/mine:1", to: "shop/mine:2", node: ci}
    expect: {mounted: 2, joined: 1}
  - copy: {from: "shop/multi", to: "release/multi:1", node: edge}
  - tag: {reference: "shop/api:v2", tag: latest}
  - tag: {reference: "shop/api:v2", tag: latest}
  - pull: {reference: "shop/api:v1", node: docker}
    expect: {transferred: 4}
  - pull: {reference: "shop/api", node: docker}
    expect: {exists: 2, transferred: 2}
  - pull: {reference: "shop/api:v1", node: edge}
  - pull: {reference: "shop/api:v2", node: edge}
    expect: {exists: 2, transferred: 2}
  - pull: {reference: "shop/api:v2", node: edge}
    expect: {exists: 4}
  - pull: {reference: "shop/multi", node: podman}
    expect: {transferred: 6}
  - pull: {reference: "release/multi:1", node: podman}
    expect: {exists: 6}
  - pull: {reference: "shop/mine:2", node: podman}
  - delete: {reference: "shop/api:latest"}
  - pull: {reference: "shop/api:latest", node: ci}
    expect: {error: MANIFEST_UNKNOWN}
  - delete: {reference: "shop/api:latest"}
    expect: {error: MANIFEST_UNKNOWN}
  - push: {image: "api:v2", to: "shop/api:latest", node: ci}
    expect: {exists: 4}
checks:
  - transferred(step all platforms) == 4
  - mounted(shop/web:v1) == 4
  - failed == 0
"""


async def test_everything_that_a_scenario_can_say_agrees_in_every_mode(tmp_path: Path) -> None:
    layout(tmp_path / "layout", b"mine " * 900, b"own " * 90, b"mine " * 900)
    path = tmp_path / "scenario.yaml"
    path.write_text(EVERYTHING)
    results = [await run_as(mode, path) for mode in (Mode.WIRE, Mode.PLAN, Mode.MODEL)]
    for result in results:
        assert [check for check in result.checks if not check.passed] == []
        assert result.exit_code is ExitCode.OK
    assert_equal(*results)


async def test_the_comparison_of_modes_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text("images: {a: {layers: [9kB]}}\nsteps:\n  - push: {image: a, to: app}\n")
    one, other = [await run_as(Mode.WIRE, path, *more) for more in ((), ("images.a.layers=[9001]",))]
    with pytest.raises(AssertionError):
        assert_equal(one, other)


@pytest.mark.parametrize("mode", [Mode.PLAN, Mode.MODEL, Mode.WIRE])
async def test_a_manifest_that_is_deleted_by_digest_takes_its_tags_along(tmp_path: Path, mode: Mode) -> None:
    layout(tmp_path / "layout", b"mine")
    digest = json.loads((tmp_path / "layout" / "index.json").read_bytes())["manifests"][0]["digest"]
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "images: {mine: {oci: layout}}\n"
        "steps:\n"
        "  - push: {image: mine, to: 'app:1'}\n"
        "  - tag: {reference: 'app:1', tag: '2'}\n"
        f"  - pull: {{reference: 'app@{digest}'}}\n"
        f"  - delete: {{reference: 'app@{digest}'}}\n"
        "  - pull: {reference: 'app:2'}\n"
        "    expect: {error: MANIFEST_UNKNOWN}\n"
        # The blobs stay: what is pushed again finds them there.
        "  - push: {image: mine, to: 'app:1'}\n"
        "    expect: {exists: 1, transferred: 0}\n"
    )
    result = await run_as(mode, path)
    assert [check for check in result.checks if not check.passed] == []
    assert result.exit_code is ExitCode.OK


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def test_a_node_keeps_what_it_pulls_in_its_layout(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "images: {a: {layers: [9kB, 2kB]}}\n"
        "nodes: {ci: {}, edge: {store: 'oci:./new/edge'}, docker: {store: 'oci:docker'}}\n"
        "steps:\n"
        "  - push: {image: a, to: 'app:1', node: ci}\n"
        "  - pull: {reference: 'app:1', node: edge}\n"
        "  - pull: {reference: 'app:1', node: docker}\n"
    )
    model, plan = await run_as(Mode.MODEL, path), await run_as(Mode.PLAN, path)
    assert names_in(tmp_path) == {"scenario.yaml"}
    wire = await run_as(Mode.WIRE, path)
    assert_equal(model, plan, wire)
    digests = {entry.digest.encoded for entry in wire.transfers[0].ledger.entries}
    for store in (tmp_path / "new" / "edge", tmp_path / "docker"):
        assert names_in(store / "blobs" / "sha256") == digests
        (listed,) = json.loads((store / "index.json").read_bytes())["manifests"]
        assert listed["annotations"] == {"org.opencontainers.image.ref.name": "app:1"}
    # What is kept is found by the next run.
    again = await run_as(Mode.WIRE, path, "steps.3.expect={exists: 2}")
    assert again.exit_code is ExitCode.OK


async def test_what_a_node_pulled_by_digest_is_listed_in_its_layout(tmp_path: Path) -> None:
    layout(tmp_path / "layout", b"mine")
    (entry,) = json.loads((tmp_path / "layout" / "index.json").read_bytes())["manifests"]
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "images: {mine: {oci: layout}}\n"
        "nodes: {ci: {store: 'oci:./store'}}\n"
        "steps:\n"
        "  - push: {image: mine, to: 'app:1'}\n"
        f"  - pull: {{reference: 'app@{entry['digest']}'}}\n"
    )
    assert_equal(await run_as(Mode.PLAN, path), await run_as(Mode.WIRE, path))
    (listed,) = json.loads((tmp_path / "store" / "index.json").read_bytes())["manifests"]
    assert listed["digest"] == entry["digest"]
