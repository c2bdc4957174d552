"""Decisions driven by hand: what is asked for, in which order, and what the ledger says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from regsim.core import Descriptor, Digest, media_types
from regsim.core import actions as act
from regsim.core import graph as graph_module
from regsim.core.account import Account, Loss, Waste
from regsim.core.decide import Decisions
from regsim.core.ledger import Direction, Entry, Evidence, Ledger, Outcome, violations
from regsim.core.work import Labels, Rules, entries
from regsim.errors import ContentError, NetworkError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


@dataclass
class Named:
    """Content under a name, which is also its bytes unless it is a document."""

    name: str
    descriptor: Descriptor
    raw: bytes
    children: tuple[Named, ...] = ()

    def below(self) -> Iterable[Named]:
        yield self
        for child in self.children:
            yield from child.below()


def blob(name: str, media_type: str = media_types.OCI_LAYER_GZIP, *, inlined: bool = False) -> Named:
    raw = name.encode()
    descriptor = Descriptor(
        media_type=media_type, digest=Digest.of(raw), size=len(raw), data=raw if inlined else None
    )
    return Named(name, descriptor, raw)


def document(name: str, media_type: str, keys: Mapping[str, object], children: tuple[Named, ...]) -> Named:
    raw = json.dumps({"schemaVersion": 2, **keys, "annotations": {"name": name}}).encode()
    return Named(name, Descriptor.of(raw, media_type), raw, children)


def image(name: str, *layers: Named | str, config: Named | None = None) -> Named:
    config = config or blob("config", media_types.OCI_CONFIG)
    parts = tuple(blob(layer) if isinstance(layer, str) else layer for layer in layers)
    keys = {
        "config": config.descriptor.to_json(),
        "layers": [part.descriptor.to_json() for part in parts],
    }
    return document(name, media_types.OCI_MANIFEST, keys, (config, *parts))


def index(name: str, *children: Named) -> Named:
    keys = {"manifests": [child.descriptor.to_json() for child in children]}
    return document(name, media_types.OCI_INDEX, keys, children)


@dataclass
class Hand:
    """Decisions, and what they are waiting for in words such as `ask base` or `put app as v1`."""

    root: Named
    decisions: Decisions
    sends: bool
    receives: bool
    pending: dict[str, act.Action] = field(default_factory=dict)
    holders: bool = True  # candidates are seen to hold what is asked for

    @classmethod
    def take(
        cls,
        root: Named,
        direction: Direction,
        *,
        to_registry: bool,
        from_registry: bool,
        tag: str | None = None,
        candidates: tuple[str, ...] = (),
    ) -> Hand:
        rules = Rules(
            direction=direction,
            to_registry=to_registry,
            from_registry=from_registry,
            tag=tag,
            candidates=lambda _: candidates,
        )
        hand = cls(root, Decisions(root.descriptor, rules, Account()), to_registry, from_registry)
        hand.note(hand.decisions.start())
        return hand

    @property
    def asked(self) -> list[str]:
        return list(self.pending)

    def note(self, actions: list[act.Action]) -> list[str]:
        for action in [each for each in actions if isinstance(each, act.CheckHolder)]:
            actions = [each for each in actions if each is not action]
            actions += self.decisions.succeed(action, self.holders)
        found = {self.words(action): action for action in actions}
        assert len(found) == len(actions)
        assert not found.keys() & self.pending.keys()
        self.pending |= found
        return list(found)

    def words(self, action: act.Action) -> str:
        names = {each.descriptor.digest: each.name for each in self.root.below()}
        name = names[action.descriptor.digest]
        match action:
            case act.CheckManifest():
                asked = action.reference
                words = f"ask {names[Digest(asked)]}" if ":" in asked else f"ask tag {asked}"
            case act.FetchManifest():
                words = f"read {name}" + " here" * action.from_destination
            case act.CheckBlob():
                words = f"ask {name}"
            case act.Mount():
                words = f"mount {name} from {action.repository}"
            case act.Upload():
                words = f"upload {name}" + f" in {action.session}" * (action.session is not None)
            case act.Download():
                words = f"download {name}"
            case act.PutManifest():
                words = f"put {name}" + f" as {action.tag}" * (action.tag is not None)
            case _:
                raise AssertionError(action)
        return words

    def answer(self, words: str, answer: object = None) -> list[str]:
        """Answer one action, at its cost; documents are known. Return what is asked for next."""
        action = self.pending.pop(words)
        if isinstance(action, act.FetchManifest):
            digest = action.descriptor.digest
            answer = next(each.raw for each in self.root.below() if each.descriptor.digest == digest)
        self.pay(action)
        return self.note(self.decisions.succeed(action, answer))

    def pay(self, action: act.Action) -> None:
        size = action.descriptor.size
        if isinstance(action, act.Upload | act.PutManifest) and self.sends:
            action.account.sent += size
            action.account.useful_sent += size
        inlined = isinstance(action, act.Download) and action.descriptor.data is not None
        read = isinstance(action, act.FetchManifest) and not action.from_destination
        if (read or isinstance(action, act.Upload | act.Download)) and self.receives and not inlined:
            action.account.received += size
            action.account.held += size if read else 0
            action.account.useful_received += 0 if read else size

    def answer_all(self, there: Iterable[str] = (), *, until: str = "") -> list[str]:
        """Answer whatever is asked, oldest first: only what is `there` is there. Return what was asked."""
        held = {each.name: each.descriptor.digest for each in self.root.below()}
        log: list[str] = []
        while self.pending:
            words = next((each for each in self.pending if each != until), "")
            if not words:
                break
            log.append(words)
            action = self.pending[words]
            answer: object = None
            if isinstance(action, act.CheckManifest):
                name = words.removeprefix("ask ")
                answer = held.get(name) if name in there else None
                if name.startswith("tag ") and name in there:
                    answer = self.root.descriptor.digest
            elif isinstance(action, act.CheckBlob) and words.removeprefix("ask ") in there:
                answer = Evidence.HEAD if self.sends else Evidence.LOCAL
            elif isinstance(action, act.Mount):
                answer = act.MountAnswer(mounted=False)
            self.answer(words, answer)
        return log

    def fail(self, words: str) -> None:
        assert self.decisions.fail(self.pending.pop(words), NetworkError("the connection broke")) == []

    def ledger(self) -> Ledger:
        return Ledger(
            direction=self.decisions.rules.direction,
            reference=self.root.name,
            sends=self.sends,
            receives=self.receives,
            entries=entries(self.decisions.graph(), self.decisions.work, self.decisions.rules, Labels()),
            referenced=self.decisions.referenced,
            error=self.decisions.error,
        )

    @property
    def told(self) -> list[str]:
        """The ledger in words: `base transferred upload`."""
        ledger = self.ledger()
        assert violations(ledger) == []
        names = {each.descriptor.digest: each.name for each in self.root.below()}
        return [
            " ".join(filter(None, (names[entry.digest], entry.outcome, entry.evidence)))
            for entry in ledger.entries
        ]


def push(root: Named, *, tag: str | None = None, candidates: tuple[str, ...] = ()) -> Hand:
    return Hand.take(
        root, Direction.PUSH, to_registry=True, from_registry=False, tag=tag, candidates=candidates
    )


def pull(root: Named, *, tag: str | None = None) -> Hand:
    return Hand.take(root, Direction.PULL, to_registry=False, from_registry=True, tag=tag)


def copy(root: Named, *, tag: str | None = None) -> Hand:
    return Hand.take(root, Direction.COPY, to_registry=True, from_registry=True, tag=tag)


def local_copy(root: Named) -> Hand:
    return Hand.take(root, Direction.COPY, to_registry=False, from_registry=False)


# Manifests: what is asked, and how.


def test_push_asks_for_the_tag_and_reads_the_manifest_at_the_same_time() -> None:
    assert push(image("app"), tag="v1").asked == ["ask tag v1", "read app"]


def test_pull_looks_into_its_own_store_before_it_fetches() -> None:
    hand = pull(image("app"), tag="v1")
    assert hand.asked == ["ask tag v1"]
    assert hand.answer("ask tag v1", None) == ["ask app"]
    assert hand.answer("ask app", None) == ["read app"]


def test_root_without_a_tag_is_asked_for_by_digest_once() -> None:
    hand = push(image("app"))
    assert hand.asked == ["ask app", "read app"]
    assert hand.answer("ask app", None) == []


def test_tag_that_names_something_else_is_followed_by_the_digest() -> None:
    hand = push(image("app"), tag="v1")
    assert hand.answer("ask tag v1", Digest.of(b"another")) == ["ask app"]


def test_tag_that_names_the_root_ends_all_questions_of_a_push() -> None:
    app = image("app", "base")
    hand = push(app, tag="v1")
    assert hand.answer_all(["tag v1"]) == ["ask tag v1", "read app"]
    assert hand.decisions.done
    assert hand.told == ["app exists head", "config exists manifest", "base exists manifest"]


def test_nothing_is_known_before_both_the_answer_and_the_document_are_there() -> None:
    hand = push(image("app", "base"), tag="v1")
    assert hand.answer("read app") == []
    assert hand.answer("ask tag v1", None) == ["ask app"]
    assert hand.answer("ask app", None) == ["ask config", "ask base"]


def test_known_digest_under_a_new_tag_is_put_again_and_answers_for_its_children() -> None:
    hand = push(image("app", "base"), tag="v2")
    assert hand.answer_all(["app"]) == ["ask tag v2", "read app", "ask app", "put app as v2"]
    assert hand.told == ["app transferred upload", "config exists manifest", "base exists manifest"]


def test_pull_of_a_known_digest_under_a_new_tag_downloads_the_manifest_alone() -> None:
    hand = pull(image("app", "base"), tag="v2")
    assert hand.answer_all(["app", "config", "base"]) == [
        "ask tag v2",
        "ask app",
        "read app",
        "ask config",
        "ask base",
        "put app as v2",
    ]
    assert hand.told == ["app transferred download", "config exists manifest", "base exists manifest"]


def test_pull_of_what_is_there_already_reads_it_here() -> None:
    hand = pull(image("app", "base"), tag="v1")
    assert hand.answer_all(["tag v1", "config", "base"]) == [
        "ask tag v1",
        "read app here",
        "ask config",
        "ask base",
    ]
    assert hand.told == ["app exists local", "config exists manifest", "base exists manifest"]


def test_pull_mends_a_hole_under_a_manifest_that_it_knows() -> None:
    hand = pull(image("app", "base", "top"), tag="v1")
    assert "download base" in hand.answer_all(["tag v1", "config", "top"])
    assert hand.told == [
        "app exists local",
        "config exists manifest",
        "base transferred download",
        "top exists manifest",
    ]


def test_index_is_put_only_when_the_hole_under_a_known_manifest_is_mended() -> None:
    hand = pull(index("all", image("app", "base")), tag="v1")
    log = hand.answer_all(["app", "config"])
    assert log[-2:] == ["download base", "put all as v1"]
    assert hand.told[:2] == ["all transferred download", "app exists local"]


def test_nested_manifests_are_asked_for_by_digest() -> None:
    hand = push(index("all", image("one"), image("two")), tag="v1")
    hand.answer("ask tag v1", None)
    hand.answer("ask all", None)
    assert hand.answer("read all") == ["ask one", "ask two", "read one", "read two"]
    hand.answer_all(["one"])
    assert hand.told[:2] == ["all transferred upload", "one exists head"]


def test_children_of_a_known_index_are_read_and_not_asked_for() -> None:
    hand = push(index("all", image("one", "base"), image("two", "base")), tag="v1")
    assert hand.answer_all(["tag v1"]) == ["ask tag v1", "read all", "read one", "read two"]
    assert set(hand.told[1:]) == {
        "one exists manifest",
        "two exists manifest",
        "config exists manifest",
        "base exists manifest",
    }


def test_neighbouring_manifests_start_together_but_not_past_a_nested_index() -> None:
    shared = image("shared", "base")
    hand = push(index("all", image("one"), index("inner", shared), shared, image("last")))
    hand.answer("ask all", None)
    assert hand.answer("read all") == ["ask one", "ask inner", "read one", "read inner"]
    log = hand.answer_all()
    assert log.index("put shared") < log.index("put inner") < log.index("put all")
    assert hand.told == [
        "all transferred upload",
        "one transferred upload",
        "config transferred upload",
        "inner transferred upload",
        "shared transferred upload",
        "config joined",
        "base transferred upload",
        "shared joined",
        "last transferred upload",
        "config joined",
    ]


# Blobs.


def test_blob_is_asked_for_then_mounted_then_uploaded_in_the_session_that_was_opened() -> None:
    hand = push(image("app"), candidates=("library/base", "library/other"))
    hand.answer("ask app", None)
    assert hand.answer("read app") == ["ask config"]
    assert hand.answer("ask config", None) == ["mount config from library/base"]
    refused = act.MountAnswer(mounted=False, session="session 7")
    assert hand.answer("mount config from library/base", refused) == ["upload config in session 7"]
    assert hand.answer("upload config in session 7") == ["put app"]
    assert hand.told == ["app failed cancelled", "config transferred mount-refused"]
    assert hand.answer("put app") == []
    assert hand.decisions.done


@pytest.mark.parametrize(("size", "tried"), [(102_399, 1), (102_400, 3), (10_485_759, 3), (10_485_760, 4)])
def test_more_candidates_are_tried_for_a_larger_blob(size: int, tried: int) -> None:
    config = Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(b"config"), size=size)
    hand = push(
        image("app", config=Named("config", config, b"")),
        candidates=tuple(f"library/{number}" for number in range(9)),
    )
    assert hand.answer_all() == [
        "ask app",
        "read app",
        "ask config",
        *(f"mount config from library/{number}" for number in range(tried)),
        "upload config",
        "put app",
    ]


def test_candidate_that_is_not_seen_to_hold_a_blob_is_not_mounted_from() -> None:
    hand = push(image("app"), candidates=("library/base",))
    hand.holders = False
    assert hand.answer_all() == ["ask app", "read app", "ask config", "upload config", "put app"]
    assert hand.told == ["app transferred upload", "config transferred upload"]


def test_mounted_blob_tells_where_from_and_is_not_uploaded() -> None:
    hand = push(image("app"), candidates=("library/base",))
    hand.answer("ask app", None)
    hand.answer("read app")
    hand.answer("ask config", None)
    assert hand.answer("mount config from library/base", act.MountAnswer(mounted=True)) == ["put app"]
    hand.answer("put app")
    config = hand.ledger().entries[1]
    assert (config.outcome, config.evidence, config.mounted_from) == ("mounted", "201", "library/base")


def test_mount_that_a_plan_assumes_says_so() -> None:
    hand = push(image("app"), candidates=("library/base",))
    hand.answer("ask app", None)
    hand.answer("read app")
    hand.answer("ask config", None)
    hand.answer("mount config from library/base", act.MountAnswer(mounted=True, assumed=True))
    assert hand.told[1] == "config mounted assumed"


def test_blob_that_exists_is_neither_mounted_nor_uploaded() -> None:
    hand = push(image("app", "base"), candidates=("library/base",))
    assert "mount base from library/base" not in hand.answer_all(["base", "config"])
    assert hand.told == ["app transferred upload", "config exists head", "base exists head"]


def test_pull_never_mounts() -> None:
    hand = Hand.take(
        image("app"), Direction.PULL, to_registry=False, from_registry=True, candidates=("library/base",)
    )
    assert hand.answer_all() == ["ask app", "read app", "ask config", "download config", "put app"]


def test_question_for_a_layer_tells_its_place_among_the_layers() -> None:
    hand = pull(image("app", "base", "top"))
    hand.answer("ask app", None)
    hand.answer("read app")
    layers = (Digest.of(b"base"), Digest.of(b"top"))
    places = {
        words: (action.layers, action.layer)
        for words, action in hand.pending.items()
        if isinstance(action, act.CheckBlob)
    }
    assert places == {
        "ask config": (layers, None),
        "ask base": (layers, 0),
        "ask top": (layers, 1),
    }


def test_blob_in_an_index_has_no_place_among_layers() -> None:
    hand = pull(index("all", image("app"), blob("notes", "text/plain")))
    hand.answer("ask all", None)
    hand.answer("read all")
    hand.answer("ask app", None)
    hand.answer("read app")
    notes = hand.pending["ask notes"]
    assert isinstance(notes, act.CheckBlob)
    assert (notes.layers, notes.layer) == ((), None)


def test_foreign_layer_is_listed_and_never_asked_for() -> None:
    hand = push(image("app", blob("windows", FOREIGN), "top"))
    assert not [words for words in hand.answer_all() if "windows" in words]
    assert hand.told == [
        "app transferred upload",
        "config transferred upload",
        "windows foreign",
        "top transferred upload",
    ]


def test_image_of_nothing_but_foreign_layers_is_put() -> None:
    hand = push(image("app", blob("windows", FOREIGN)))
    assert hand.answer_all(["config"])[-1] == "put app"
    assert hand.decisions.done


def test_empty_index_is_put_at_once() -> None:
    hand = push(index("nothing"), tag="v1")
    assert hand.answer_all() == ["ask tag v1", "read nothing", "ask nothing", "put nothing as v1"]


# Data in descriptors.


def test_data_in_a_descriptor_spares_a_pull_the_download() -> None:
    hand = pull(image("app", blob("tiny", inlined=True)))
    hand.answer_all()
    assert hand.told == ["app transferred download", "config transferred download", "tiny inlined"]


@pytest.mark.parametrize(("take", "evidence"), [(push, "upload"), (copy, "upload"), (local_copy, "stored")])
def test_data_in_a_descriptor_spares_nobody_else_anything(
    take: Callable[[Named], Hand], evidence: str
) -> None:
    hand = take(image("app", blob("tiny", inlined=True)))
    hand.answer_all()
    assert hand.told[2] == f"tiny transferred {evidence}"


def test_first_reference_decides_whether_data_counts() -> None:
    plain, inlined = blob("tiny"), blob("tiny", inlined=True)
    first, second = pull(image("app", plain, inlined)), pull(image("app", inlined, plain))
    first.answer_all()
    second.answer_all()
    assert first.told[2:] == ["tiny transferred download", "tiny joined"]
    assert second.told[2:] == ["tiny inlined", "tiny inlined"]


def test_manifest_whose_descriptor_carries_data_is_transferred_like_any_other() -> None:
    app = image("app")
    carried = Named(
        app.name,
        Descriptor(
            media_type=app.descriptor.media_type,
            digest=app.descriptor.digest,
            size=app.descriptor.size,
            data=app.raw,
        ),
        app.raw,
        app.children,
    )
    hand = pull(index("all", carried))
    hand.answer_all()
    assert hand.told[1] == "app transferred download"


# References to one digest.


def test_digest_named_twice_is_asked_for_once_and_joins_what_was_moved() -> None:
    hand = push(image("app", "base", "base"))
    assert [words for words in hand.answer_all() if "base" in words] == ["ask base", "upload base"]
    assert hand.told[2:] == ["base transferred upload", "base joined"]


def test_later_reference_joins_what_was_mounted() -> None:
    hand = push(image("app", "base", "base"), candidates=("library/base",))
    hand.answer("ask app", None)
    hand.answer("read app")
    hand.answer("ask base", None)
    hand.answer("mount base from library/base", act.MountAnswer(mounted=True))
    first, second = hand.ledger().entries[2:]
    assert (first.outcome, second.outcome) == (Outcome.MOUNTED, Outcome.JOINED)
    assert second.mounted_from is None
    assert second.evidence is None


def test_later_reference_repeats_outcome_and_evidence_of_what_was_there() -> None:
    hand = push(image("app", "base", "base"))
    hand.answer_all(["base"])
    assert hand.told[2:] == ["base exists head", "base exists head"]


def test_config_that_is_also_a_layer_is_one_blob() -> None:
    hand = push(image("app", "config"))
    assert hand.answer_all().count("ask config") == 1
    assert hand.told == ["app transferred upload", "config transferred upload", "config joined"]


def test_manifest_named_twice_lists_what_it_names_once() -> None:
    app = image("app", "base")
    hand = push(index("all", app, app))
    hand.answer_all()
    assert hand.told == [
        "all transferred upload",
        "app transferred upload",
        "config transferred upload",
        "base transferred upload",
        "app joined",
    ]
    assert hand.ledger().referenced.count == 5


def test_blob_and_manifest_of_one_digest_are_two_things() -> None:
    inner = image("inner")
    twin = Named("inner", Descriptor.of(inner.raw, media_types.OCI_LAYER), inner.raw)
    rules = Rules(direction=Direction.PUSH, to_registry=True, from_registry=False)
    outer = index("all", inner, image("outer", twin))
    decisions = Decisions(outer.descriptor, rules, Account())
    pending = decisions.start()
    asked: list[tuple[str, Digest]] = []
    raw = {each.descriptor.digest: each.raw for each in outer.below()}
    while pending:
        action = pending.pop(0)
        digest = action.descriptor.digest
        asked.append((type(action).__name__, digest))
        pending += decisions.succeed(action, raw[digest] if isinstance(action, act.FetchManifest) else None)
    assert ("CheckManifest", inner.descriptor.digest) in asked
    assert ("CheckBlob", inner.descriptor.digest) in asked
    told = [
        (entry.role, entry.outcome)
        for entry in entries(decisions.graph(), decisions.work, decisions.rules, Labels())
        if entry.digest == inner.descriptor.digest
    ]
    assert told == [("manifest", "transferred"), ("layer", "transferred")]


def test_costs_stand_at_the_first_reference_alone() -> None:
    hand = push(image("app", "base", "base"))
    hand.answer("ask app", None)
    hand.answer("read app")
    account = hand.pending["ask base"].account
    account.requests, account.attempts, account.overhead = 3, 1, 17
    hand.answer("ask base", None)
    hand.answer("upload base")
    first, second = hand.ledger().entries[2:]
    assert (first.requests, first.attempts, first.overhead, first.wire_sent) == (3, 1, 17, 4)
    assert (second.requests, second.attempts, second.overhead, second.wire_sent) == (0, 0, 0, 0)


def test_octets_that_a_question_cost_are_wasted() -> None:
    hand = copy(image("app", "base"))
    hand.answer("ask app", None)
    hand.answer("read app")
    account = hand.pending["ask base"].account
    hand.answer("ask base", None)
    account.sent, account.received = 2, 1
    account.waste(sent=2, received=1, loss=Loss.PROBE)
    hand.answer("upload base")
    entry = hand.ledger().entries[2]
    assert (entry.wasted_sent, entry.wasted_received, entry.wasted) == (2, 1, 3)


def test_upload_of_what_another_client_stored_first_is_raced_and_wasted() -> None:
    hand = copy(image("app", "base"))
    hand.answer("ask app", None)
    hand.answer("read app")
    hand.answer("ask base", None)
    hand.answer("upload base", Evidence.HEAD)
    entry = hand.ledger().entries[2]
    assert (entry.outcome, entry.evidence) == ("exists", "head")
    assert (entry.wasted_sent, entry.wasted_received) == (4, 4)
    assert entry.losses == (Waste(Loss.RACED, 8),)
    assert [str(loss) for loss in Loss] == [
        "probe",
        "read-again",
        "range-overlap",
        "cut",
        "not-needed",
        "raced",
        "failed",
    ]


def test_manifest_that_a_copy_read_though_it_was_there_has_its_bytes_wasted() -> None:
    app = image("app")
    hand = copy(app, tag="v1")
    hand.answer_all(["tag v1"])
    entry = hand.ledger().entries[0]
    assert (entry.outcome, entry.wasted_received) == (Outcome.EXISTS, app.descriptor.size)


# Order.


def test_entries_stand_depth_first_in_manifest_order_with_the_config_first() -> None:
    hand = push(index("all", image("one", "a", "b"), index("inner", image("two", "c")), image("three", "d")))
    hand.answer_all()
    names = [line.split()[0] for line in hand.told]
    assert names == ["all", "one", "config", "a", "b", "inner", "two", "config", "c", "three", "config", "d"]


def test_tag_comes_last() -> None:
    hand = push(index("all", image("one", "a"), image("two", "b")), tag="v1")
    log = hand.answer_all()
    assert log[-1] == "put all as v1"
    assert sum(" as " in words for words in log) == 1


def test_all_is_done_when_the_last_answer_is_in_and_not_before() -> None:
    hand = push(image("app"), tag="v1")
    hand.answer_all(until="put app as v1")
    assert not hand.decisions.done
    hand.answer("put app as v1")
    assert hand.decisions.done


# What cannot be transferred.


def test_digest_with_two_sizes_is_refused_by_name() -> None:
    layer = blob("base")
    wrong = Named(
        "base",
        Descriptor(media_type=layer.descriptor.media_type, digest=layer.descriptor.digest, size=5),
        layer.raw,
    )
    hand = push(image("app", layer, wrong))
    hand.answer("ask app", None)
    assert hand.answer("read app") == []
    assert isinstance(hand.decisions.error, ContentError)
    assert layer.descriptor.digest in hand.decisions.error.message
    assert "4 and 5 bytes" in hand.decisions.error.message
    assert hand.decisions.done


def test_document_that_is_no_manifest_fails_the_transfer() -> None:
    hand = push(image("app"))
    hand.answer("ask app", None)
    action = hand.pending.pop("read app")
    assert hand.decisions.succeed(action, b"[]") == []
    assert isinstance(hand.decisions.error, ContentError)
    assert hand.told == ["app failed error"]


def nested(depth: int) -> Named:
    """Return an image under `depth` indexes."""
    root = image("app")
    for level in range(depth):
        root = index(f"index {level}", root)
    return root


def test_sixteen_indexes_may_stand_in_each_other() -> None:
    hand = push(nested(16))
    hand.answer_all()
    assert hand.decisions.error is None
    assert hand.decisions.done


def test_a_seventeenth_index_is_refused() -> None:
    hand = push(nested(17))
    hand.answer_all()
    assert isinstance(hand.decisions.error, ContentError)
    assert "16" in hand.decisions.error.hint


def test_too_many_references_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "MAX_REFERENCES", 4)
    fits, exceeds = push(image("app", "a", "b")), push(image("app", "a", "b", "c"))
    fits.answer_all()
    exceeds.answer_all()
    assert fits.decisions.error is None
    assert isinstance(exceeds.decisions.error, ContentError)
    assert "4 references" in exceeds.decisions.error.message


# Failures.


def under_way() -> Hand:
    """A push of two images in an index: two uploads are under way, one question is open."""
    hand = push(index("all", image("one", "a", "b"), image("two", "b", "c")))
    hand.answer("ask all", None)
    hand.answer("read all")
    for words in ("ask one", "read one", "ask two", "read two", "ask config", "ask a", "ask b"):
        hand.answer(words, None)
    hand.answer("upload config")
    assert hand.asked == ["ask c", "upload a", "upload b"]
    return hand


def test_failure_is_an_error_its_manifests_are_blocked_and_the_rest_is_cancelled() -> None:
    hand = under_way()
    hand.fail("upload a")
    assert hand.decisions.done
    assert isinstance(hand.decisions.error, NetworkError)
    assert hand.told == [
        "all failed blocked",
        "one failed blocked",
        "config transferred upload",
        "a failed error",
        "b failed cancelled",
        "two failed blocked",
        "config joined",
        "b failed cancelled",
        "c failed cancelled",
    ]


def test_what_ends_well_after_a_failure_is_told_as_done_and_starts_nothing() -> None:
    hand = under_way()
    hand.fail("upload a")
    assert hand.answer("upload b") == []
    assert hand.answer("ask c", None) == []
    assert [line for line in hand.told if line.startswith(("b", "c "))] == [
        "b transferred upload",
        "b joined",
        "c failed cancelled",
    ]


def test_second_failure_is_told_too_and_the_first_error_stays() -> None:
    hand = under_way()
    hand.fail("upload a")
    first = hand.decisions.error
    hand.fail("upload b")
    assert hand.decisions.error is first
    assert hand.told[3:5] == ["a failed error", "b failed error"]


def test_bytes_sent_before_a_failure_are_wasted() -> None:
    hand = under_way()
    hand.pending["upload a"].account.sent += 1
    hand.fail("upload a")
    entry = next(each for each in hand.ledger().entries if each.evidence is Evidence.ERROR)
    assert (entry.wire_sent, entry.wasted_sent) == (1, 1)


def test_interruption_is_told_as_cancelled_at_any_moment() -> None:
    assert push(image("app")).told == ["app failed cancelled"]
    assert under_way().told[:5] == [
        "all failed blocked",
        "one failed blocked",
        "config transferred upload",
        "a failed cancelled",
        "b failed cancelled",
    ]


def test_manifest_whose_parts_are_all_in_place_is_cancelled_and_not_blocked() -> None:
    hand = push(image("app", blob("windows", FOREIGN)))
    hand.answer_all(until="put app")
    assert hand.told[0] == "app failed cancelled"


def test_later_reference_to_a_blocked_manifest_is_blocked_as_well() -> None:
    app = image("app", "base")
    hand = push(index("all", app, app))
    hand.answer_all(until="upload base")
    hand.fail("upload base")
    assert [line for line in hand.told if line.startswith("app")] == ["app failed blocked"] * 2


def test_reference_that_was_not_reached_follows_the_one_before_it() -> None:
    base = blob("base")
    hand = push(index("all", image("one", base), image("two"), base))
    hand.answer_all(["base"], until="read two")
    assert hand.asked == ["read two"]
    assert [line for line in hand.told if line.startswith("base")] == ["base exists head"] * 2


def test_failed_check_of_a_manifest_that_was_read_fails_it() -> None:
    hand = push(image("app"))
    hand.answer("read app")
    hand.fail("ask app")
    assert hand.told == ["app failed error"]


def test_manifest_that_exists_stays_so_though_reading_it_fails() -> None:
    hand = push(image("app"), tag="v1")
    hand.answer("ask tag v1", hand.root.descriptor.digest)
    hand.fail("read app")
    assert hand.told == ["app exists head"]
    assert hand.decisions.done


def test_entry_says_what_its_descriptor_says() -> None:
    app = image("app", blob("base", media_types.DOCKER_LAYER_GZIP))
    hand = pull(app)
    hand.answer_all()
    labels = Labels({Digest.of(b"base"): "RUN make"}, {Digest.of(b"base"): Digest.of(b"the real one")})
    entry = entries(hand.decisions.graph(), hand.decisions.work, hand.decisions.rules, labels)[2]
    assert entry == Entry(
        digest=Digest.of(b"base"),
        size=4,
        media_type=media_types.DOCKER_LAYER_GZIP,
        role=entry.role,
        direction=Direction.PULL,
        outcome=Outcome.TRANSFERRED,
        evidence=Evidence.DOWNLOAD,
        wire_received=4,
        useful_received=4,
        created_by="RUN make",
        recorded_digest=Digest.of(b"the real one"),
    )


# A manifest that is refused because blobs are missing.


@pytest.mark.parametrize("code", ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"])
def test_refused_manifest_has_its_blobs_looked_at_and_is_put_again_once(code: str) -> None:
    hand = push(image("app", "base"))
    hand.answer_all(["base"], until="put app")
    refused = RegistryError("blobs are missing", codes=(code,))
    put = hand.pending.pop("put app")
    assert hand.note(hand.decisions.fail(put, refused)) == ["ask config", "ask base"]
    assert hand.answer("ask config", Evidence.HEAD) == []
    assert hand.answer("ask base", None) == ["upload base"]
    assert hand.answer("upload base") == ["put app"]
    again = hand.pending.pop("put app")
    assert isinstance(again, act.PutManifest)
    assert again.patiently
    assert hand.decisions.fail(again, refused) == []
    assert hand.decisions.error is refused
    assert hand.told == ["app failed error", "config transferred upload", "base transferred upload"]


def test_manifest_that_is_refused_for_another_reason_is_not_put_again() -> None:
    hand = push(image("app"))
    hand.answer_all(until="put app")
    refused = RegistryError("not so", codes=("MANIFEST_INVALID",))
    assert hand.decisions.fail(hand.pending.pop("put app"), refused) == []
    assert hand.decisions.error is refused
