"""The decisions of push, pull and copy, without any I/O (DESIGN 1).

The machine says what to do next (`actions`), is told what came of it, and can write the ledger at any
moment, also of a transfer that failed or was interrupted half-way. It never waits, reads or sends.

Its order: children before parents, an existence check before every upload, a mount before an upload, the
manifest and then its tag last. Work starts in the order of references, depth first, so that which of two
references to one digest does the work never depends on what answered first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsim.core import Role, manifest
from regsim.core import actions as act
from regsim.core.account import Loss, Reason
from regsim.core.graph import MAX_REFERENCES
from regsim.core.ledger import Direction, Evidence, Outcome, Tally
from regsim.core.tasks import Reference, Task
from regsim.errors import ContentError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from regsim.core import Descriptor, Digest, Document
    from regsim.core.account import Account
    from regsim.errors import RegsimError


# What registries say of a manifest that names what they do not hold (end-7; GAR, GHCR and others).
_MISSING = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})


def keep_all(document: Document) -> Document:
    """Leave nothing out of a manifest or index."""
    return document


def mounts_worth_trying(size: int) -> int:
    """Return how many candidates are tried for a blob of `size` bytes: as many as docker tries.

    Each costs requests, which a small blob is not worth.
    """
    if size < 100 * 1024:
        return 1
    return 3 if size < 10 * 1024 * 1024 else 4


def no_candidates(_digest: Digest) -> tuple[str, ...]:
    """Know of no repository to mount from."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a transfer's two ends can do, as far as decisions depend on it.

    Attributes:
        direction: what the entries are labelled with.
        to_registry: the destination is a registry: it can mount, and answers for what its manifests name.
        from_registry: the source is a registry: reading a manifest costs wire bytes.
        tag: what the root is to be called at the destination; None leaves it untagged.
        candidates: repositories of the destination's registry that may hold a digest, best first.
        keeps: returns a manifest or index without those of its successors that are left out.
    """

    direction: Direction
    to_registry: bool
    from_registry: bool
    tag: str | None = None
    candidates: Callable[[Digest], tuple[str, ...]] = no_candidates
    keeps: Callable[[Document], Document] = keep_all


@dataclass(slots=True)
class Machine:
    """Decides one transfer of everything that `root` refers to.

    Feed it: `start`, then for every action handed out either `succeed` or `fail`, until `done`. `referenced`
    counts references where manifests name them.
    """

    root: Reference
    rules: Rules
    error: RegsimError | None = None
    _manifests: dict[Digest, Task] = field(default_factory=dict)
    _blobs: dict[Digest, Task] = field(default_factory=dict)
    _walk: list[Reference] = field(default_factory=list)
    _ready: list[Reference] = field(default_factory=list)
    referenced: Tally = field(default_factory=Tally)
    _unfinished: int = 0

    @classmethod
    def of(cls, descriptor: Descriptor, rules: Rules, account: Account) -> Machine:
        """Return a machine for one root; `account` already carries what resolving it has cost."""
        role = manifest.role_of(descriptor.media_type)
        root = Reference(role=role, descriptor=descriptor)
        root.task = Task(descriptor, accounts=[account])
        return cls(root, rules, referenced=Tally(1, descriptor.size))

    def start(self) -> list[act.Action]:
        """Return the first actions."""
        self._walk = [self.root]
        return self._admit_manifest(self.root)

    @property
    def done(self) -> bool:
        """Tell whether nothing is left to do, because all went well or because something failed."""
        return self.error is not None or not (self._walk or self._unfinished)

    def succeed(self, action: act.Action, answer: object = None) -> list[act.Action]:
        """Take the answer to an action and return what can be done now.

        A document that cannot be used fails the transfer, as `fail` does. After a failure nothing more is
        started, but what came to its end all the same is in the ledger as done.
        """
        try:
            self._task(action).running.discard(id(action.account))
            found = self._answered(action, answer)
            return [*found, *self._advance()] if self.error is None else []
        except ContentError as error:
            return self.fail(action, error)

    def fail(self, action: act.Action, error: RegsimError, *, over: bool = False) -> list[act.Action]:
        """Take note that an action failed: the transfer ends here, and starts nothing more.

        But for a manifest that is refused for want of blobs: what these need is returned, once, unless all is
        `over` anyway.
        """
        task = self._task(action)
        task.running.discard(id(action.account))
        if isinstance(action, act.PutManifest) and self.error is None and not over:
            found = self._mend(task, error, action.account)
            if found:
                action.account.lose()
                return found
        action.account.lose(Loss.FAILED)
        if not task.done:
            task.outcome, task.evidence = Outcome.FAILED, Evidence.ERROR
        self.error = self.error or error
        return []

    def _mend(self, task: Task, error: RegsimError, account: Account) -> list[act.Action]:
        """Look at all blobs of a manifest once more that was refused because some are missing.

        The registry has lied about them, or collected them meanwhile, or does not see them yet.
        """
        missing = isinstance(error, RegistryError) and not _MISSING.isdisjoint(error.codes)
        reference = task.put_as
        if not missing or task.mended or reference is None:
            return []
        task.mended = True
        account.retried(Reason.BLOBS_MISSING)
        found: list[act.Action] = []
        for child in reference.children:
            blob = child.task
            if child.is_manifest or child.stays or blob is None or reference in blob.waiting:
                continue
            if blob.complete and blob.outcome is not None:
                blob.before, blob.outcome, blob.complete = (blob.outcome, blob.evidence), None, False
                self._unfinished += 1
                found.append(act.CheckBlob(descriptor=blob.descriptor, account=blob.begin(), closely=True))
            blob.waiting.append(reference)
            reference.unfinished += 1
        if not reference.unfinished:
            self._ready.append(reference)
        return [*found, *self._put_manifests()]

    # What an answer means.

    def _answered(self, action: act.Action, answer: object) -> list[act.Action]:
        match action:
            case act.CheckManifest():
                return self._manifest_checked(action, answer)
            case act.FetchManifest():
                assert isinstance(answer, bytes)  # noqa: S101  (the driver's duty)
                document = manifest.parse(action.descriptor, answer)
                self._task(action).document = self.rules.keeps(document)
            case act.CheckBlob():
                assert answer is None or isinstance(answer, Evidence)  # noqa: S101  (the driver's duty)
                return self._blob_checked(action, answer)
            case act.Mount():
                assert isinstance(answer, act.MountAnswer)  # noqa: S101  (the driver's duty)
                return self._mount_answered(action, answer)
            case _:
                self._moved(action, answer)
        return []

    def _manifest_checked(self, action: act.CheckManifest, found: object) -> list[act.Action]:
        task = self._task(action)
        digest = action.descriptor.digest
        if found == digest:
            task.known = True
            if action.reference == self._asked_for(digest):
                self._end(task, Outcome.EXISTS, Evidence.MANIFEST if task.vouched else self._present_by)
        elif action.reference != digest:
            # The tag names something else or nothing; its manifest may still be there.
            return [act.CheckManifest(descriptor=task.descriptor, account=task.begin(), reference=digest)]
        task.checked = True
        return self._fetch(task) if self._pulls else []

    def _blob_checked(self, action: act.CheckBlob, evidence: Evidence | None) -> list[act.Action]:
        task = self._task(action)
        if evidence is not None and task.before is not None:
            self._finish(task, *task.before)
            return []
        if evidence is not None:
            self._finish(task, Outcome.EXISTS, Evidence.MANIFEST if task.vouched else evidence)
            return []
        if not self.rules.to_registry:
            return [act.Download(descriptor=task.descriptor, account=task.begin())]
        if task.before is not None:
            # Where it was linked from it may be missing as well.
            task.mounted_from, task.mount_refused = None, False
            sent, received = task.revoke()
            action.account.retried(Reason.BLOBS_MISSING, sent=sent, received=received)
        else:
            most = mounts_worth_trying(task.descriptor.size)
            task.candidates = self.rules.candidates(action.descriptor.digest)[:most]
        return self._next(task, None)

    def _next(self, task: Task, session: object | None) -> list[act.Action]:
        """Try the next candidate for a mount, or upload where there is none."""
        descriptor, account = task.descriptor, task.begin()
        if not task.candidates:
            return [act.Upload(descriptor=descriptor, account=account, session=session)]
        repository, *others = task.candidates
        task.candidates = tuple(others)
        return [act.Mount(descriptor=descriptor, account=account, repository=repository, session=session)]

    def _mount_answered(self, action: act.Mount, answer: act.MountAnswer) -> list[act.Action]:
        task = self._task(action)
        if answer.mounted:
            task.mounted_from = action.repository
            self._finish(task, Outcome.MOUNTED, Evidence.ASSUMED if answer.assumed else Evidence.CREATED)
            return []
        task.mount_refused |= answer.refused
        return self._next(task, answer.session)

    def _moved(self, action: act.Action, answer: object) -> None:
        task = self._task(action)
        if isinstance(answer, Evidence):
            action.account.lose(Loss.RACED)
            self._finish(task, Outcome.EXISTS, answer)
            return
        if isinstance(action, act.PutManifest):
            task.accept_read()
        # Between two local stores nothing is spared: only a pull has a way to go.
        pulled = isinstance(action, act.Download) and self.rules.from_registry
        if pulled and action.descriptor.data is not None:
            self._finish(task, Outcome.INLINED, None)
        else:
            evidence = Evidence.MOUNT_REFUSED if task.mount_refused else self._moved_by
            self._finish(task, Outcome.TRANSFERRED, evidence)

    def _finish(self, task: Task, outcome: Outcome, evidence: Evidence | None) -> None:
        self._end(task, outcome, evidence)
        self._release(task)

    def _end(self, task: Task, outcome: Outcome, evidence: Evidence | None) -> None:
        """Set the outcome. Of a manifest that exists, what it names may still be on its way."""
        task.outcome, task.evidence = outcome, evidence
        self._unfinished -= 1

    def _release(self, task: Task) -> None:
        """Let the manifests that name this be put: it is in place, and so is all that it names."""
        task.complete = True
        for parent in task.waiting:
            self._child_done(parent)
        task.waiting.clear()

    def _child_done(self, parent: Reference) -> None:
        parent.unfinished -= 1
        if not parent.unfinished:
            self._ready.append(parent)

    # What can start now.

    def _advance(self) -> list[act.Action]:
        found: list[act.Action] = []
        while self._walk:
            reference = self._walk[-1]
            if reference.is_manifest:
                found += self._admit_certain(reference)
                if reference.leads and not self._settled(reference):
                    break
            self._walk.pop()
            found += self._list(reference) if reference.is_manifest else self._admit_blob(reference)
        return [*found, *self._put_manifests()]

    def _settled(self, reference: Reference) -> bool:
        """Tell whether it is certain what a manifest names and whether the destination holds it."""
        task = reference.task
        return task is not None and task.document is not None and (task.done or task.checked)

    def _list(self, reference: Reference) -> list[act.Action]:
        """Open a settled manifest: what it names is next on the walk."""
        document = reference.task.document if reference.task else None
        if document is None or not reference.leads:
            return []
        reference.expand(document)
        sizes = [each.descriptor.size for each in document.successors]
        self.referenced += Tally(len(sizes), sum(sizes))
        if self.referenced.count > MAX_REFERENCES:
            raise ContentError(f"an image with more than {MAX_REFERENCES:,} references")
        if not reference.unfinished:
            self._ready.append(reference)
        self._walk.extend(reversed(reference.children))
        return []

    def _admit_certain(self, reference: Reference) -> list[act.Action]:
        """Admit a manifest, and its next neighbours as far as their first reference can only be this one.

        A manifest names no manifests, so neighbours can start together; what follows a nested index
        might be named inside it first, and waits.
        """
        if reference.task is not None:
            return []
        siblings = reference.parent.children if reference.parent else (reference,)
        found: list[act.Action] = []
        for sibling in siblings[reference.position :]:
            if sibling.is_manifest:
                found += self._admit_manifest(sibling)
            if sibling.role is Role.INDEX:
                break
        return found

    def _admit_manifest(self, reference: Reference) -> list[act.Action]:
        task = self._join(reference, self._manifests)
        if not reference.leads:
            return []
        if self._answered_by_parent(reference):
            task.known = True
            self._end(task, Outcome.EXISTS, Evidence.MANIFEST)
            return self._fetch(task)
        check = act.CheckManifest(
            descriptor=task.descriptor,
            account=task.begin(),
            reference=self._asked_for(task.descriptor.digest),
        )
        # A pull looks into its own store first; a push or copy reads and checks at the same time.
        return [check] if self._pulls else [check, *self._fetch(task)]

    def _admit_blob(self, reference: Reference) -> list[act.Action]:
        if reference.stays:
            return []
        task = self._join(reference, self._blobs)
        if not reference.leads:
            return []
        if self._answered_by_parent(reference):
            self._finish(task, Outcome.EXISTS, Evidence.MANIFEST)
            return []
        # A local store is asked for each blob even so: looking is free, and a hole is mended.
        layers, layer = reference.parent.layers if reference.parent else (), None
        if reference.role is Role.LAYER and layers:
            layer = reference.position - 1  # the config stands before them
        return [act.CheckBlob(descriptor=task.descriptor, account=task.begin(), layers=layers, layer=layer)]

    def _join(self, reference: Reference, tasks: dict[Digest, Task]) -> Task:
        """Give a reference the task of its digest; the first reference to a digest leads."""
        digest = reference.descriptor.digest
        reference.leads = digest not in tasks
        if reference.leads:
            tasks[digest] = reference.task or Task(reference.descriptor)
            self._unfinished += 1
        task = reference.task = tasks[digest]
        if reference.descriptor.size != task.descriptor.size:
            raise ContentError(
                f"{digest} is named with two sizes: "
                f"{task.descriptor.size:,} and {reference.descriptor.size:,} bytes"
            )
        parent = reference.parent
        if reference.leads:
            # A destination that holds an index of which a part is kept may hold another part of it.
            whole = parent is None or parent.role is not Role.INDEX or self.rules.keeps is keep_all
            task.vouched = whole and parent is not None and parent.task is not None and parent.task.known
        if parent is not None:
            if task.complete:
                self._child_done(parent)
            else:
                task.waiting.append(parent)
        return task

    def _fetch(self, task: Task) -> list[act.Action]:
        from_destination = task.done and not self.rules.to_registry
        return [
            act.FetchManifest(
                descriptor=task.descriptor, account=task.begin(), from_destination=from_destination
            )
        ]

    def _put_manifests(self) -> list[act.Action]:
        found: list[act.Action] = []
        while self._ready:
            reference = self._ready.pop()
            task = reference.task
            if task is not None and task.done:
                self._release(task)
            elif task is not None and task.document is not None:
                task.put_as = reference
                found.append(
                    act.PutManifest(
                        descriptor=task.descriptor,
                        account=task.begin(),
                        document=task.document,
                        tag=self.rules.tag if reference is self.root else None,
                        patiently=task.mended,
                    )
                )
        return found

    # Small questions.

    @property
    def _pulls(self) -> bool:
        return not self.rules.to_registry

    def _asked_for(self, digest: Digest) -> str:
        if digest == self.root.descriptor.digest and self.rules.tag is not None:
            return self.rules.tag
        return digest

    def _answered_by_parent(self, reference: Reference) -> bool:
        """A registry that holds a manifest answers for all that the manifest names."""
        return self.rules.to_registry and reference.task is not None and reference.task.vouched

    def _task(self, action: act.Action) -> Task:
        kind = (act.CheckBlob, act.Mount, act.Upload, act.Download)
        tasks = self._blobs if isinstance(action, kind) else self._manifests
        return tasks[action.descriptor.digest]

    @property
    def _present_by(self) -> Evidence:
        return Evidence.HEAD if self.rules.to_registry else Evidence.LOCAL

    @property
    def _moved_by(self) -> Evidence:
        if self.rules.to_registry:
            return Evidence.UPLOAD
        return Evidence.DOWNLOAD if self.rules.from_registry else Evidence.STORED
