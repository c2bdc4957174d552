"""Nodes and the registry as a scenario file writes them.

Owns the keys below `nodes` and `registry`. Must not know the other parts of a file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from regsim.errors import UsageError
from regsim.scenario.compound import ListOf
from regsim.scenario.misbehaviour import PROFILES, parse_fault, parse_profile
from regsim.scenario.schema import Client, ContainerRegistry, Login, MockRegistry, NodeSpec, RegistrySpec
from regsim.scenario.shapes import Choice, Fields, Name, Parsed, Reader, Whole
from regsim.scenario.table import Key, Table
from regsim.store.memory import SkipRule

if TYPE_CHECKING:
    from regsim.scenario.positions import Entries

MAX_COUNT = 1_000_000
MAX_PARALLEL = 256

NODE_NAME = Name(
    noun="a node name",
    pattern=r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,62}",
    allowed="letters, digits and _ . -, such as edge",
)


def _store(text: str) -> str:
    scheme, _, directory = text.partition(":")
    if scheme != "oci" or not directory or "\0" in directory:
        raise UsageError(f'not a store: "{text[:160]}"', hint="write oci:DIR, such as oci:./pulled")
    return directory


def _node(fields: Fields, entries: Entries, reader: Reader) -> NodeSpec:
    client: Client = fields.get("client", Client.REGSIM)
    store = entries.key("store")
    if store is not None and "count" in fields:
        reader.problems.add(store.where, "several nodes cannot share one store", 'remove "count" or "store"')
    return NodeSpec(
        name="",
        count=fields.get("count"),
        client=client,
        skip=fields.get("skip", client.skip),
        parallel=fields.get("parallel", client.parallel),
        store=reader.directory / fields["store"] if "store" in fields else None,
    )


NODE = Table(
    noun="a node",
    keys={
        "count": Key(
            doc="How many equal nodes; they are called NAME-1, NAME-2 and so on",
            shape=Whole(minimum=1, maximum=MAX_COUNT),
            default="one node called NAME",
        ),
        "client": Key(
            doc="Whose habits it has; sets skip and parallel", shape=Choice(Client), default="regsim"
        ),
        "skip": Key(
            doc="What it need not pull: any layer it holds (blob), or an unbroken run from the base (chain)",
            shape=Choice(SkipRule),
            default="the client's: chain for docker, else blob",
        ),
        "parallel": Key(
            doc="How many layers it moves at once",
            shape=Whole(minimum=1, maximum=MAX_PARALLEL),
            default="the client's: regsim 4, docker 3, containerd 3, podman 6",
        ),
        "store": Key(
            doc="The OCI layout that keeps what it pulls, relative to the scenario file",
            shape=Parsed(noun="oci:DIR", parse=_store, pattern="^oci:.+$"),
            default="it remembers digests and drops bytes after hashing them",
        ),
    },
    build=_node,
    reserved=("link",),
)

MOCK = Table(
    noun="the mock registry",
    keys={
        "auth": Key(doc="How the nodes log in; they have what it takes", shape=Choice(Login), default="none"),
        "profile": Key(
            doc="The named registry whose ways it has",
            shape=Parsed(
                noun="a profile",
                parse=parse_profile,
                pattern=f"^({'|'.join(map(re.escape, PROFILES))})$",
            ),
            default="none: its own ways",
        ),
        "faults": Key(
            doc="How it misbehaves, each as after `regsim serve --fault`; chance follows from the seed",
            shape=ListOf(noun="a list of faults", item=Parsed(noun="a fault", parse=parse_fault)),
            default="none",
        ),
    },
    build=lambda fields, *_: MockRegistry(**fields),
)


def _registry(fields: Fields, _: Entries, __: Reader) -> RegistrySpec:
    if "container" in fields:
        return ContainerRegistry(image=fields["container"])
    mock: MockRegistry = fields["mock"]
    return mock


REGISTRY = Table(
    noun="a registry",
    keys={
        "mock": Key(doc="The registry that regsim starts on a loopback port", shape=MOCK),
        "container": Key(
            doc="The image of a registry that a container engine starts, such as registry:2",
            shape=Name(
                noun="an image", pattern=r"[A-Za-z0-9][A-Za-z0-9_.:/@\-]{0,400}", allowed="such as registry:2"
            ),
        ),
    },
    build=_registry,
    one_of=("mock", "container"),
)
