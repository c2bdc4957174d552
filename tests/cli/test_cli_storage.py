"""`regsim df`, `rmi` and `prune`, as a user calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Layout, Regsim, Served


@pytest.mark.parametrize("where", ["layout", "store"])
def test_usage_is_told_and_what_is_removed_is_what_was_said_to_be_unique(
    regsim: Regsim, layout: Layout, registry: Served, where: str
) -> None:
    store = [str(layout.path)] if where == "layout" else []
    if where == "store":
        for tag in ("v1", "v2"):
            regsim("push", f"{layout}:{tag}", f"{registry.host}/app:{tag}")
            assert regsim("pull", f"{registry.host}/app:{tag}").code == 0
    name = "v1" if where == "layout" else f"{registry.host}/app:v1"
    usage = regsim("df", *store, "--format", "json").json
    first, second = usage["images"]
    assert first["names"] == [name]
    assert first["shared_size"] == second["shared_size"] == 100_000
    assert usage["total"]["saved"] == 100_000
    assert "sharing saves 100,000 bytes" in regsim("df", *store).out
    flags = ["--store", *store] if store else []
    removed = regsim("rmi", name, *flags, "--format", "json").json
    assert (removed["names"], removed["bytes"]) == ([name], first["unique_size"])
    assert regsim("prune", *store).out == "freed 0 bytes in 0 blobs\n"


def test_a_store_that_is_not_there_holds_nothing(regsim: Regsim) -> None:
    done = regsim("df")
    assert (done.code, done.out) == (0, "0 images of 0 bytes take 0 bytes: sharing saves 0 bytes (0.0 %)\n")
    assert regsim("rmi", "x").errors[0].startswith("Error: there are no images in ")
