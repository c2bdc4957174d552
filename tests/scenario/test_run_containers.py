"""Steps with containers: what they leave, what is checked of them, and what a mistake in them is."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from regsim.core.ledger import Tally
from regsim.core.result import Mode, RunResult
from regsim.errors import ExitCode, LocalFileError
from regsim.report.text import render
from regsim.scenario.images import open_images
from regsim.scenario.load import parse_scenario
from regsim.scenario.model_world import ModelWorld
from regsim.scenario.run import run
from regsim.scenario.wire_world import wire_world
from tests.scenario.reading import problems

if TYPE_CHECKING:
    from regsim.scenario.world import World

pytestmark = pytest.mark.anyio

GALLERY = Path(__file__).parents[2] / "scenarios" / "README.md"
IMAGES = "images:\n  app: {layers: [2MB, {size: 1MB, ratio: 3, files: {srv/data: 3MB, srv/note: 10}}]}\n"
CREATE = "{create: {name: web, image: app}}"
MODES = [Mode.WIRE, Mode.PLAN, Mode.MODEL]


def ignore(_: str) -> None:
    """Tell nobody."""


def with_steps(*steps: str, images: str = IMAGES, rest: str = "") -> str:
    """Return a scenario of these steps; what is no push is done with a container."""
    lines = (f"  - {each}\n" if each.startswith("{push") else f"  - container: {each}\n" for each in steps)
    return f"{images}steps:\n{''.join(lines)}{rest}"


async def run_text(text: str, mode: Mode = Mode.MODEL) -> RunResult:
    scenario = parse_scenario(text, Path("s.yaml"))
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        images = await open_images(scenario, generate=mode is not Mode.MODEL, tell=ignore, scratch=scratch)
        world: World = ModelWorld(images=images)
        if mode is not Mode.MODEL:
            world = await stack.enter_async_context(
                wire_world(scenario.registry, images, mode=mode, warn=ignore)
            )
        return await run(scenario, world, mode, ignore)


def passed(result: RunResult) -> list[tuple[str, bool, Any]]:
    return [(check.expression, check.passed, check.actual) for check in result.checks]


@pytest.mark.parametrize("mode", MODES)
async def test_the_gallerys_example_says_what_happens(mode: Mode) -> None:
    (example,) = re.findall(r"```yaml\n(name: ephemeral\n.*?)```", GALLERY.read_text(), re.DOTALL)
    result = await run_text(example, mode)
    assert (result.exit_code, result.errors) == (ExitCode.OK, ())
    assert [check.passed for check in result.checks] == [True] * 5
    assert [each.action for each in result.containers] == [
        "create", "write", "stop", "create", "read", "start", "read", "commit", "stop", "rm",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_step_copies_up_and_what_the_layer_holds_are_told(mode: Mode) -> None:
    result = await run_text(
        with_steps(
            CREATE,
            "{write: {name: web, files: {new: {content: abc}}, append: {srv/data: {content: '!'}}}}",
            "{write: {name: web, append: {srv/data: 5}, chmod: {srv/note: 0600}}}",
            "{remove: {name: web, paths: [srv/data]}}",
            rest=(
                'checks: ["copied_up_bytes == 3000010", "writable_bytes(step 2) == 3000004", '
                '"writable_bytes == 13"]\n'
            ),
        ),
        mode,
    )
    assert [(each.writable, each.copied_up) for each in result.containers] == [
        (Tally(), Tally()),
        (Tally(2, 3_000_004), Tally(1, 3_000_000)),
        (Tally(3, 3_000_019), Tally(1, 10)),
        (Tally(2, 13), Tally()),
    ]
    assert [check.passed for check in result.checks] == [True] * 3


@pytest.mark.parametrize("mode", MODES)
async def test_an_image_may_be_committed_pushed_and_run_again(mode: Mode) -> None:
    result = await run_text(
        with_steps(
            CREATE,
            "{write: {name: web, files: {etc/app/conf: {content: x, mode: 0600}}, directories: [var/run]}}",
            "{commit: {name: web, image: 'app:set', message: configured}}",
            "{create: {name: again, image: 'app:set'}}",
            "{list: {name: again, path: etc/app}}\n    expect: {names: [conf]}",
            "{remove: {name: again, paths: [etc, srv/data]}}",
            "{commit: {name: again, image: 'app:less'}}",
            "{push: {image: app, to: 'shop/app:v1'}}",
            "{push: {image: 'app:set', to: 'shop/app:set'}, expect: {transferred: 1, exists: 2}}",
            "{push: {image: 'app:less', to: 'shop/app:less'}, expect: {transferred: 1, exists: 3}}",
            rest='checks: ["transferred(app:less) == 1"]\n',
        ),
        mode,
    )
    assert (result.exit_code, passed(result)[0]) == (ExitCode.OK, ("names == conf", True, "conf"))
    first, second = (each.committed for each in result.containers if each.committed is not None)
    assert first.layer is not None
    assert second.layer is not None
    assert result.transfers[1].ledger.digest == first.digest
    moved = [each.digest for each in result.transfers[2].ledger.entries]
    assert second.layer.digest in moved
    assert first.layer.digest in moved


async def test_a_commit_of_nothing_moves_no_layer() -> None:
    result = await run_text(
        with_steps(
            "{push: {image: app, to: 'shop/app:v1'}}",
            CREATE,
            "{commit: {name: web, image: same}}",
            "{push: {image: same, to: 'shop/app:same'}, expect: {transferred: 0, exists: 2}}",
        )
    )
    assert result.exit_code is ExitCode.OK
    assert [each.committed.layer for each in result.containers if each.committed] == [None]


async def test_containers_on_one_image_do_not_see_each_other() -> None:
    result = await run_text(
        with_steps(
            CREATE,
            "{create: {name: other, image: app}}",
            "{write: {name: web, files: {x: {content: mine}}}}",
            "{read: {name: other, path: x}}\n    expect: {file: absent}",
            "{read: {name: web, path: x}}\n    expect: {file: present, content: mine}",
        )
    )
    assert passed(result) == [
        ("file == absent", True, "absent"),
        ("file == present", True, "present"),
        ('content == "mine"', True, '"mine"'),
    ]


@pytest.mark.parametrize(
    ("steps", "check"),
    [
        (["{read: {name: web, path: srv/none}}\n    expect: {file: present}"], ("file == present", "absent")),
        (["{read: {name: web, path: srv/none}}\n    expect: {content: x}"], ('content == "x"', "absent")),
        (["{read: {name: web, path: srv/data}}\n    expect: {file: absent}"], ("file == absent", "present")),
        (
            ["{read: {name: web, path: srv/data}}\n    expect: {content: x}"],
            ('content == "x"', "3000000 bytes"),
        ),
        (
            [
                '{write: {name: web, files: {x: {content: "a\\nb"}}}}',
                "{read: {name: web, path: x}}\n    expect: {content: a}",
            ],
            ('content == "a"', '"a\\x0ab"'),
        ),
        (
            ["{list: {name: web, path: srv}}\n    expect: {names: [data]}"],
            ("names == data", "data, note"),
        ),
        (["{stop: web}\n    expect: {writable_bytes: 1}"], ("writable_bytes == 1", 0)),
        (["{stop: web}\n    expect: {error: USAGE}"], ("error == USAGE", "no error")),
    ],
)
async def test_an_expectation_that_does_not_hold_is_a_failed_check(
    steps: list[str], check: tuple[str, object]
) -> None:
    result = await run_text(with_steps(CREATE, *steps))
    assert result.exit_code is ExitCode.CHECK_FAILED
    assert [(each.expression, each.actual) for each in result.checks] == [check]


async def test_a_step_that_cannot_be_done_ends_the_run_unless_it_is_wanted() -> None:
    read = "{read: {name: web, path: srv/none}}"
    result = await run_text(with_steps(CREATE, read, "{stop: web}", rest='checks: ["writable_bytes == 0"]\n'))
    assert (result.exit_code, result.checks, len(result.containers)) == (ExitCode.LOCAL_FILES, (), 2)
    (error,) = result.errors
    assert isinstance(error, LocalFileError)
    assert error.message == "there is no '/srv/none' in container web"
    assert "Step 2: read /srv/none in container web on node\n  Failed: there is no" in render(result)
    wanted = await run_text(with_steps(CREATE, f"{read}\n    expect: {{error: LOCAL_FILES}}", "{stop: web}"))
    assert (wanted.exit_code, len(wanted.containers)) == (ExitCode.OK, 3)
    assert wanted.to_json()["containers"][1]["error"]["exit_code"] == 6


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("{rm: web}", "USAGE"),
        ("{write: {name: web, files: {srv/data/x: 1}}}", "LOCAL_FILES"),
        ("{write: {name: web, files: {out: {link: ../../x}, out/y: 1}}}", "CONTENT"),
        ("{remove: {name: web, paths: [nothing]}}", "LOCAL_FILES"),
        ("{list: {name: web, path: srv/data}}", "LOCAL_FILES"),
    ],
)
async def test_what_cannot_be_done_may_be_expected(step: str, error: str) -> None:
    result = await run_text(with_steps(CREATE, f"{step}\n    expect: {{error: {error}}}", "{stop: web}"))
    assert result.exit_code is ExitCode.OK


async def test_a_stopped_container_waits_and_can_be_committed() -> None:
    result = await run_text(
        with_steps(
            CREATE,
            "{write: {name: web, files: {x: 5}}}",
            "{stop: web}",
            "{write: {name: web, files: {x: 5}}}\n    expect: {error: USAGE}",
            "{commit: {name: web, image: kept}}",
            "{rm: web}",
            "{create: {name: web, image: kept}}",
            "{read: {name: web, path: x}}",
            "{list: {name: web}}",
        )
    )
    assert result.exit_code is ExitCode.OK
    assert result.containers[-1].image == "kept"
    assert set(result.containers[-1].names or ()) >= {"srv", "x"}
    assert result.containers[5].writable == Tally()


async def test_the_report_has_a_line_for_each_thing_done_among_the_transfers() -> None:
    result = await run_text(
        with_steps(
            CREATE,
            "{write: {name: web, append: {srv/data: {content: '!'}}}}",
            "{push: {image: app, to: 'shop/app:v1'}}",
            "{list: {name: web, path: srv}}",
            "{commit: {name: web, image: more}}",
            "{stop: web}",
            "{rm: web}",
        )
    )
    lines = render(result).splitlines()
    assert lines[2:7] == [
        "Step 1: create container web on node from app",
        (
            "Step 2: write /srv/data in container web on node; its own layer has 3,000,001 bytes, "
            "3,000,000 bytes copied up"
        ),
        "",
        "Step 3: push app to shop/app:v1, node node",
        lines[6],
    ]
    committed = result.containers[3].committed
    assert committed is not None
    assert committed.layer is not None
    layer = f"layer {committed.layer.digest.short}, {committed.layer.size:,} bytes"
    start = lines.index("Step 4: list /srv in container web on node")
    assert lines[start : start + 6] == [
        "Step 4: list /srv in container web on node",
        "  data, note",
        f"Step 5: commit container web on node as more: {layer}",
        "Step 6: stop container web on node; its own layer has 3,000,001 bytes",
        "Step 7: rm container web on node",
        "",
    ]


async def test_the_result_format_has_what_was_done() -> None:
    result = await run_text(
        with_steps("{create: {name: web, image: app}}\n    name: begin", "{commit: {name: web, image: b}}")
    )
    created, committed = result.to_json()["containers"]
    assert created == {
        "step": 1,
        "step_name": "begin",
        "node": "node",
        "container": "web",
        "action": "create",
        "image": "app",
        "paths": [],
        "writable": {"count": 0, "bytes": 0},
        "copied_up": {"count": 0, "bytes": 0},
        "names": None,
        "committed": None,
        "error": None,
    }
    assert committed["committed"] == {
        "image": "b",
        "digest": result.containers[1].committed.digest if result.containers[1].committed else "",
        "layer": None,
    }


@pytest.mark.parametrize("mode", [Mode.WIRE, Mode.MODEL])
async def test_the_same_changes_give_the_same_layer_in_every_mode_and_order(mode: Mode) -> None:
    steps = (CREATE, "{commit: {name: web, image: done}}")
    writes = ["{write: {name: web, files: {a: 1}}}", "{write: {name: web, append: {srv/data: 1}}}"]
    one = await run_text(with_steps(steps[0], *writes, steps[1]), Mode.PLAN)
    two = await run_text(with_steps(steps[0], *reversed(writes), steps[1]), mode)
    layers = [each.committed.layer for result in (one, two) for each in result.containers if each.committed]
    assert layers[0] is not None
    assert layers[0] == layers[1]


# --- mistakes in the file ---------------------------------------------------------------------------------


def mistakes(text: str) -> list[str]:
    """Return the problems of a scenario without their places."""
    return [line.partition(": ")[2] for line in problems(text)]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["{stop: web}"], ['no container "web"']),
        ([CREATE, "{stop: wbe}"], ['no container "wbe" — did you mean "web"?']),
        ([CREATE, CREATE], ['another container is called "web" already — remove it before']),
        ([CREATE, "{rm: web}", "{start: web}"], ['no container "web": step 2 removes it']),
        (["{create: {name: web, image: ap}}"], ['no image "ap" — did you mean "app"?']),
        (
            ["{create: {name: next, image: done}}", CREATE, "{commit: {name: web, image: done}}"],
            ['no step before this one commits "done"'],
        ),
        (
            [CREATE, "{push: {image: done, to: x}}", "{commit: {name: web, image: done}}"],
            ['no step before this one commits "done"'],
        ),
        ([CREATE, "{commit: {name: web, image: app}}"], ['another image is called "app" already']),
        (
            [CREATE, "{commit: {name: web, image: b}}", "{commit: {name: web, image: b}}"],
            ['another image is called "b" already'],
        ),
        (
            [CREATE, "{write: {name: web}}"],
            ['a write needs one of "directories", "files", "append", "chmod"'],
        ),
        (
            [CREATE, "{write: {name: web, append: {x: {link: y}}}}"],
            ['"x": a link cannot be appended'],
        ),
        (
            [CREATE, "{read: {name: web, path: ../etc}}"],
            [
                (
                    "'../etc' cannot be in a layer: no part may be empty, '.' or '..' — a path in the image, "
                    "such as go/main"
                )
            ],
        ),
        (
            [f"{CREATE}\n    expect: {{transferred: 1}}"],
            ['"transferred" is not measured of a container'],
        ),
        (
            ["{push: {image: app, to: x}, expect: {copied_up_bytes: 1}}"],
            ['"copied_up_bytes" is not measured of a push'],
        ),
        (
            [CREATE, "{stop: web}\n    expect: {content: x, names: [y]}"],
            ['"content" is what a container\'s read shows', '"names" is what a container\'s list shows'],
        ),
        (
            [CREATE, "{read: {name: web, path: x}}\n    expect: {content: x, file: absent}"],
            ["what is absent has no content"],
        ),
    ],
)
def test_mistakes_are_told_before_anything_runs(steps: list[str], expected: list[str]) -> None:
    assert mistakes(with_steps(*steps)) == expected


def test_a_container_runs_on_one_node_and_on_an_image_of_one_platform() -> None:
    nodes = "nodes: {ci: {}, edge: {count: 3}}\n"
    images = f"{nodes}{IMAGES}  all: {{platforms: {{linux/amd64: {{layers: [1MB]}}}}}}\n"
    create = "{create: {name: web, image: all, node: edge}}"
    assert [
        line.partition(": ")[2]
        for line in problems(with_steps(create, "{create: {name: b, image: app}}", images=images))
    ] == [
        '"all" is an index — name an image of one platform',
        '"edge" is a group of nodes, and a container runs on one',
        'several nodes, and no "node" here says which one — write one of ci, edge',
    ]


def test_nothing_is_built_from_a_committed_image_since_builds_come_first() -> None:
    images = f"{IMAGES}  b: {{from: done, layers: []}}\n"
    found = mistakes(with_steps(CREATE, "{commit: {name: web, image: done}}", images=images))
    assert found[0].startswith('no image "done"')
