"""The decisions of push, pull and copy, without any I/O (DESIGN 1).

The life of a blob and the life of a manifest each read from top to bottom: generators that yield actions and
are sent the answers. `Decisions` says what to do next, is told the answers, and can write the ledger at any
moment, also of a transfer that failed or was interrupted half-way. It never waits, reads or sends.

Its order: children before parents, an existence check before every upload, a mount before an upload, the
manifest and then its tag last. Work starts in the order of references, depth first, so which of two
references to one digest does the work never depends on what answered first.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from regsim.core import actions as act
from regsim.core import manifest
from regsim.core.account import Loss, Reason
from regsim.core.graph import Content, Walk, needs
from regsim.core.ledger import Direction, Evidence, Outcome, Tally
from regsim.core.manifest import Role
from regsim.core.work import Work, keep_all, mounts_worth_trying
from regsim.errors import ContentError, RegistryError, RegsimError

if TYPE_CHECKING:
    from regsim.core.account import Account
    from regsim.core.descriptor import Descriptor
    from regsim.core.graph import Graph, Place
    from regsim.core.manifest import Document
    from regsim.core.work import Rules

# What registries say of a manifest that names what they do not hold (end-7; GAR, GHCR and others).
_MISSING = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})


class Signal:
    """Something that happens once, and that lives wait for."""

    def __init__(self) -> None:
        self.happened = False
        self.waiting: list[_Running] = []


@dataclass(slots=True, eq=False)
class _Running:
    """A life under way, and the work that is to blame if it fails."""

    life: Life
    work: Work | None


Life = Generator[act.Action | Signal, Any, None]
"""Yields an action, and is sent its answer; or a signal, and goes on once that has happened."""


class Decisions:
    """Decides one transfer of everything that a root refers to.

    Feed it: `start`, then for every action handed out either `succeed` or `fail`, until `done`.

    Args:
        root: what is transferred.
        rules: what the two ends can do.
        account: what resolving the root has cost.

    Attributes:
        work: by content, all that was begun.
        referenced: references, counted where manifests name them.
        error: the first failure.
    """

    def __init__(self, root: Descriptor, rules: Rules, account: Account) -> None:
        self.root, self.rules = root, rules
        self.work: dict[Content, Work] = {}
        self.referenced = Tally(1, root.size)
        self.error: RegsimError | None = None
        self._walk = Walk(root)
        self._resolving = account
        self._in_place: defaultdict[Content, Signal] = defaultdict(Signal)
        self._settled: defaultdict[Content, Signal] = defaultdict(Signal)
        self._listed: defaultdict[Content, Signal] = defaultdict(Signal)
        self._alive = 0
        self._ready: deque[_Running] = deque()
        self._answered: dict[act.Action, _Running] = {}
        self._found: list[act.Action] = []

    def start(self) -> list[act.Action]:
        """Return the first actions."""
        self._live(self._all(), None)
        return self._run()

    @property
    def done(self) -> bool:
        """Tell whether nothing is left to do, because all went well or because something failed."""
        return self.error is not None or not self._alive

    def graph(self) -> Graph:
        """Return all references known so far."""
        return self._walk.graph()

    def succeed(self, action: act.Action, answer: object = None) -> list[act.Action]:
        """Take the answer to an action and return what can be done now.

        A document that cannot be used fails the transfer, as `fail` does. After a failure nothing more is
        started, but what completes nevertheless is in the ledger as done.
        """
        running = self._take(action)
        self._advance(running, partial(running.life.send, answer))
        return self._run()

    def fail(self, action: act.Action, error: RegsimError, *, over: bool = False) -> list[act.Action]:
        """Take note that an action failed: the transfer ends here, and starts nothing more.

        Unless the action is worth repeating, in another way: then return what is to be done for that, if
        nothing failed before, and the transfer is not `over` anyway.
        """
        running = self._take(action)
        if self.error is None and not over:
            self._advance(running, partial(running.life.throw, error))
        else:
            self._failed(running.work, error)
        action.account.lose(Loss.FAILED)
        return self._run()

    # The lives.

    def _all(self) -> Life:
        """Begin all work, in the order of references."""
        opened: Work | None = None
        try:
            while (place := self._walk.step()) is not None:
                if place.stays:
                    continue
                if not place.is_manifest:
                    self._begin(place, self._blob)
                    continue
                for each in (place, *self._walk.neighbours(place)):
                    self._begin(each, self._manifest)
                if place.leads:
                    work = self.work[place.content]
                    yield self._settled[place.content]
                    opened = work
                    self._open(place, work.document)
        except ContentError as error:
            self._failed(opened, error)

    def _open(self, place: Place, document: Document | None) -> None:
        assert document is not None  # noqa: S101  (it is settled)
        self._walk.open(place, document)
        sizes = [each.descriptor.size for each in document.successors]
        self.referenced += Tally(len(sizes), sum(sizes))
        self._happen(self._listed[place.content])

    def _begin(self, place: Place, life: Callable[[Place, Work], Life]) -> None:
        """Begin the work on a content, unless it is under way."""
        if place.content in self.work:
            return
        parent = self.work[place.parent.content] if place.parent is not None else None
        # A destination that holds an index of which a part is kept may hold another part of it.
        whole = place.parent is None or place.parent.role is not Role.INDEX or self.rules.keeps is keep_all
        work = Work(place.descriptor, vouched=whole and parent is not None and parent.known)
        if parent is None:
            work.accounts.append(self._resolving)
        self.work[place.content] = work
        self._live(life(place, work), work)

    def _manifest(self, place: Place, work: Work) -> Life:
        """Tell whether a manifest is there, and what it names; put it once all that is in place."""
        if work.vouched and self.rules.to_registry:
            # A registry that holds a manifest answers for all that the manifest names.
            work.known = True
            work.end(Outcome.EXISTS, Evidence.MANIFEST)
            yield from self._read(work)
        elif self.rules.to_registry:
            read = Signal()
            self._live(self._read(work, read), work)
            yield from self._ask(work)
            yield read
        else:
            # A pull looks into its own store first.
            yield from self._ask(work)
            yield from self._read(work)
        self._happen(self._settled[place.content])
        yield self._listed[place.content]
        for child in needs(work.document):
            yield self._in_place[child]
        if work.outcome is None:
            yield from self._put(work)
        self._happen(self._in_place[place.content])

    def _ask(self, work: Work) -> Life:
        """Tell whether a manifest is there, under the very name that it is to have."""
        digest = work.descriptor.digest
        is_root = digest == self.root.digest
        name = self.rules.tag if is_root and self.rules.tag is not None else digest
        found = yield act.CheckManifest(descriptor=work.descriptor, account=work.begin(), reference=name)
        if found == digest:
            work.known = True
            work.end(Outcome.EXISTS, Evidence.MANIFEST if work.vouched else self.rules.present_by)
        elif name != digest:
            # The tag names something else or nothing; its manifest may still be there.
            found = yield act.CheckManifest(
                descriptor=work.descriptor, account=work.begin(), reference=digest
            )
            work.known = found == digest

    def _read(self, work: Work, read: Signal | None = None) -> Life:
        """Read what a manifest names."""
        here = work.outcome is not None and not self.rules.to_registry
        raw = yield act.FetchManifest(descriptor=work.descriptor, account=work.begin(), from_destination=here)
        work.document = self.rules.keeps(manifest.parse(work.descriptor, raw))
        if read is not None:
            self._happen(read)

    def _put(self, work: Work) -> Life:
        """Put a manifest; once more, patiently, after what the registry lacks was sent again."""
        document = work.document
        assert document is not None  # noqa: S101  (it was read)
        tag = self.rules.tag if work.descriptor.digest == self.root.digest else None
        mended = False
        while True:
            put = act.PutManifest(
                descriptor=work.descriptor,
                account=work.begin(),
                document=document,
                tag=tag,
                patiently=mended,
            )
            try:
                yield put
            except RegistryError as error:
                if mended or _MISSING.isdisjoint(error.codes):
                    raise
                put.account.retried(Reason.BLOBS_MISSING)
                put.account.lose()
                mended = True
                yield from self._mend(work)
            else:
                work.accept_read()
                work.end(Outcome.TRANSFERRED, self.rules.moved_by)
                return

    def _mend(self, work: Work) -> Life:
        """Look at all blobs of a manifest once more that was refused because some are missing.

        The registry has lied about them, or collected them meanwhile, or does not see them yet.
        """
        blobs = [child for child in needs(work.document) if not child.is_manifest]
        for blob in blobs:
            if self._in_place[blob].happened:
                self._in_place[blob] = Signal()
                self._live(self._again(blob, self.work[blob]), self.work[blob])
        for blob in blobs:
            yield self._in_place[blob]

    def _blob(self, place: Place, work: Work) -> Life:
        """Tell whether a blob is there; if not, link it from another repository, or move it."""
        if work.vouched and self.rules.to_registry:
            work.end(Outcome.EXISTS, Evidence.MANIFEST)
        else:
            # A local store is asked for each blob: a look is free, and a hole is mended.
            check = act.CheckBlob(
                descriptor=work.descriptor,
                account=work.begin(),
                layers=self._walk.layers(place),
                layer=place.layer,
            )
            evidence = yield check
            if evidence is not None:
                work.end(Outcome.EXISTS, Evidence.MANIFEST if work.vouched else evidence)
            elif self.rules.to_registry:
                most = mounts_worth_trying(work.descriptor.size)
                work.candidates = self.rules.candidates(work.descriptor.digest)[:most]
                yield from self._send(work)
            else:
                yield from self._move(work, act.Download(descriptor=work.descriptor, account=work.begin()))
        self._happen(self._in_place[place.content])

    def _again(self, blob: Content, work: Work) -> Life:
        """Look closely at a blob that the registry has claimed to hold; send it if it is missing."""
        before = work.outcome, work.evidence
        work.outcome = None
        check = act.CheckBlob(descriptor=work.descriptor, account=work.begin(), closely=True)
        if (yield check) is not None:
            work.outcome, work.evidence = before
        else:
            sent, received = work.revoke()
            check.account.retried(Reason.BLOBS_MISSING, sent=sent, received=received)
            # Where it was linked from it may be missing as well.
            work.mounted_from = None
            yield from self._send(work)
        self._happen(self._in_place[blob])

    def _send(self, work: Work) -> Life:
        """Link a blob from the next candidate that holds it, or upload it if there is none."""
        refused, session = False, None
        while work.candidates:
            repository, *others = work.candidates
            work.candidates = tuple(others)
            # A mount that is refused costs more than a question, and opens a session.
            if not (
                yield act.CheckHolder(descriptor=work.descriptor, account=work.begin(), repository=repository)
            ):
                continue
            answer: act.MountAnswer = yield act.Mount(
                descriptor=work.descriptor, account=work.begin(), repository=repository, session=session
            )
            if answer.mounted:
                work.mounted_from = repository
                work.end(Outcome.MOUNTED, Evidence.ASSUMED if answer.assumed else Evidence.CREATED)
                return
            refused, session = True, answer.session
        upload = act.Upload(descriptor=work.descriptor, account=work.begin(), session=session)
        yield from self._move(work, upload, Evidence.MOUNT_REFUSED if refused else None)

    def _move(self, work: Work, action: act.Upload | act.Download, evidence: Evidence | None = None) -> Life:
        """Move a blob; once more, if its bytes were wrong and may be right another time."""
        try:
            found = yield action
        except ContentError:
            first = action.account
            # What came in one piece is what the registry holds. Of several, one may have been another one.
            if not (first.divided or (first.retries and not self.rules.to_registry)):
                raise
            first.retried(Reason.WRONG_BYTES)
            first.lose()
            action = type(action)(descriptor=work.descriptor, account=work.begin())
            action.account.divided = first.divided
            found = yield action
        if found is not None:
            action.account.lose(Loss.RACED)
            work.end(Outcome.EXISTS, found)
        elif self.rules.direction is Direction.PULL and work.descriptor.data is not None:
            # Between two local stores nothing is spared: only a pull has a way to go.
            work.end(Outcome.INLINED, None)
        else:
            work.end(Outcome.TRANSFERRED, evidence or self.rules.moved_by)

    # Letting them live.

    def _live(self, life: Life, work: Work | None) -> None:
        self._alive += 1
        self._ready.append(_Running(life, work))

    def _take(self, action: act.Action) -> _Running:
        running = self._answered.pop(action)
        if running.work is not None:
            running.work.running.discard(id(action.account))
        return running

    def _happen(self, signal: Signal) -> None:
        signal.happened = True
        self._ready += signal.waiting
        signal.waiting.clear()

    def _run(self) -> list[act.Action]:
        """Let all lives go on that can, and return the actions that they have come to."""
        while self._ready and self.error is None:
            running = self._ready.popleft()
            self._advance(running, partial(next, running.life))
        found, self._found = self._found, []
        return found if self.error is None else []

    def _advance(self, running: _Running, resume: Callable[[], act.Action | Signal]) -> None:
        try:
            step = resume()
            while isinstance(step, Signal) and step.happened:
                step = next(running.life)
        except StopIteration:
            self._alive -= 1
        except RegsimError as error:
            self._failed(running.work, error)
        else:
            if isinstance(step, Signal):
                step.waiting.append(running)
            else:
                self._answered[step] = running
                self._found.append(step)

    def _failed(self, work: Work | None, error: RegsimError) -> None:
        if work is not None and work.outcome is None:
            work.end(Outcome.FAILED, Evidence.ERROR)
        self.error = self.error or error
