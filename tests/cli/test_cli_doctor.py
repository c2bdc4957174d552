"""`regsim doctor`, as a user calls it."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from mock_registry import MockRegistry
from regsim.store.layout import LayoutStore
from regsim.store.memory import BytesContent

if TYPE_CHECKING:
    from pathlib import Path

    from regsim.core import Descriptor
    from regsim.store.protocols import Content
    from tests.cli.conftest import Outcome, Regsim
    from tests.conftest import FakeEngine


def states(done: Outcome) -> dict[str, str]:
    return {each["name"]: each["state"] for each in done.json["findings"]}


def detail(done: Outcome, name: str) -> str:
    (found,) = (each["detail"] for each in done.json["findings"] if each["name"] == name)
    return str(found)


def test_a_fit_machine_passes_its_self_test(
    regsim: Regsim, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REGSIM_ENGINE", engine.command)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = regsim("doctor")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("ok       regsim: 0.")
    assert f"REGSIM_ENGINE ({engine.command}): answers" in done.out
    assert lines[-1].startswith("ok       self-test: pushed, mounted and pulled on loopback: 10,2")
    done = regsim("doctor", "--format", "json")
    assert done.json["exit_code"] == 0
    assert states(done)["self-test"] == "ok"


def test_a_machine_without_an_engine_is_fit_for_all_but_containers(
    regsim: Regsim, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    none = regsim("doctor", "--format", "json")
    assert none.code == 0
    assert states(none)["container engine"] == "warning"
    assert detail(none, "container engine").startswith("no engine is installed")
    engine.is_("no-info")
    monkeypatch.setenv("REGSIM_ENGINE", engine.command)
    silent = regsim("doctor", "--format", "json")
    assert "cannot connect to the engine" in detail(silent, "container engine")
    monkeypatch.setenv("REGSIM_ENGINE", "podman 'no end")
    torn = regsim("doctor", "--format", "json")
    assert detail(torn, "container engine").startswith("REGSIM_ENGINE is not a command line")
    monkeypatch.setenv("REGSIM_ENGINE", "/nowhere/engine")
    assert "cannot be run" in detail(regsim("doctor", "--format", "json"), "container engine")


def test_auth_files_are_told_by_their_names_alone(
    regsim: Regsim, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "auth.json"
    file.write_text('{"auths": {"registry.example": {"auth": "dXNlcjpzM2NyZXQ="}}}')
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    done = regsim("doctor", "--format", "json")
    assert detail(done, "auth files") == str(file)
    assert "registry.example" not in done.out
    assert "dXNlcjpzM2NyZXQ=" not in done.out
    file.unlink()
    assert detail(regsim("doctor", "--format", "json"), "auth files").startswith("none")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "x" * 300)
    unseen = regsim("doctor", "--format", "json")
    assert (unseen.code, states(unseen)["auth files"]) == (0, "warning")


def test_few_open_files_are_a_warning(regsim: Regsim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    done = regsim("doctor", "--format", "json")
    assert (done.code, states(done)["limits"]) == (0, "warning")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert "unlimited open files" in detail(regsim("doctor", "--format", "json"), "limits")


def test_little_space_is_a_warning(regsim: Regsim, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10**6

    monkeypatch.setattr("regsim.cli.doctor.shutil.disk_usage", lambda _: Usage)
    done = regsim("doctor", "--format", "json")
    assert states(done)["local store"] == "warning"
    assert detail(done, "local store").endswith(", 1MB free")


@pytest.mark.parametrize(
    ("fault", "code"),
    [("PUT manifest status 403", 3), ("GET blob corrupt", 5)],
    ids=["refused", "damaged"],
)
def test_a_self_test_that_fails_fails_the_command(
    regsim: Regsim, monkeypatch: pytest.MonkeyPatch, fault: str, code: int
) -> None:
    monkeypatch.setattr("regsim.scenario.wire_world.MockRegistry", lambda **_: MockRegistry(faults=[fault]))
    done = regsim("doctor", "--format", "json")
    assert done.code == done.json["exit_code"] == code
    assert states(done)["self-test"] == "failed"


def test_what_arrived_is_hashed(regsim: Regsim, monkeypatch: pytest.MonkeyPatch) -> None:
    class Damaged(LayoutStore):
        def content(self, descriptor: Descriptor) -> Content:
            return BytesContent(descriptor, bytes(descriptor.size))

    monkeypatch.setattr("regsim.cli.doctor.LayoutStore", Damaged)
    done = regsim("doctor", "--format", "json")
    assert done.code == 5
    assert "sha256:" in detail(done, "self-test")


def test_the_finding_goes_to_a_file(regsim: Regsim, tmp_path: Path) -> None:
    assert regsim("doctor", "-o", tmp_path / "found").out == ""
    assert "self-test" in (tmp_path / "found").read_text()
    assert regsim("doctor", "-o", tmp_path / "missing" / "found").code == 6
