"""Mutation testing: breaks the code in one place at a time and sees whether a test notices.

    python tests/project/mutants.py [--sample N] [--seed S] [--jobs J] [--limit SHARE] [MODULE ...]

Without modules, those of `TARGETS`: the decisions of a transfer, the ledger and the reconciliation. Each
mutant is one small change; the tests run on it in a copy of the checkout, in a process with limits on time
and memory. One that no test notices is alive, and is printed with its place. Those that behave like the
original stand with a reason in `equivalent_mutants.toml`. Exit code 1: too many of the others are alive.

Our own, since the code is full of what ready-made tools leave alone (fields' defaults, cases of a match,
members of sets and lists, keyword arguments), and since a sample of the same few mutants is to be run on
every change.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

CHECKOUT = Path(__file__).parents[2]
COPIED = ("regsim", "mock_registry", "scenarios", "tests", "pyproject.toml")
TARGETS = (
    *(f"regsim/core/{name}.py" for name in ("decide", "predict", "work", "graph", "holdings", "schedule")),
    *(f"regsim/core/{name}.py" for name in ("selection", "account", "ledger")),
    "regsim/transfer",
    "regsim/scenario/reconcile.py",
)
TESTS = ("tests/core", "tests/transfer", "tests/scenario")
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")

MEMORY = 2 * 2**30  # a mutant may collect things for ever
PATIENCE = 4.0  # times what the tests take on the original
QUICK = 0.5  # seconds of a test
SHOWN = 70
OUTPUT = "pytest.out"

RUN_TESTS = f"""
import importlib.util, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
import pytest
# Looked for and not imported: pytest wants to be the first to import its plugins, of which regsim has one.
origin = importlib.util.find_spec("regsim").origin
if not origin.startswith(sys.argv[1]):
    sys.exit(f"the tests would not see the mutants: regsim comes from {{origin}}")
sys.exit(pytest.main(sys.argv[2:]))
"""
OPTIONS = (
    "-x",
    "-q",
    "--no-header",
    "--tb=line",
    "-p",
    "no:cacheprovider",
    "-n",
    "0",
    "-p",
    "no:randomly",
)


# What can be changed.


@dataclass(frozen=True, slots=True)
class Edit:
    """One change to a tree: a field of a node, or one item of a list in it, becomes something else or goes.

    `told` says it for people, where the node's text before and after would not.
    """

    node: ast.AST
    field: str
    index: int | None
    new: ast.AST | None
    told: str = ""

    def apply(self, tree: ast.Module) -> tuple[str, str]:
        """Return the changed source and what was changed; leave the tree as it was."""
        before, whole = _text(self.node), getattr(self.node, self.field)
        if self.index is None:
            changed: object = self.new
        else:
            middle = [] if self.new is None else [self.new]
            changed = [*whole[: self.index], *middle, *whole[self.index + 1 :]]
        setattr(self.node, self.field, changed)
        try:
            return ast.unparse(tree) + "\n", self.told or f"{before} → {_text(self.node)}"
        finally:
            setattr(self.node, self.field, whole)


_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


def swap_operator(node: ast.AST) -> Iterator[Edit]:
    """Compare, combine or compute otherwise."""
    match node:
        case ast.Compare(ops=ops):
            for index, op in enumerate(ops):
                yield Edit(node, "ops", index, _COMPARISONS[type(op)]())
        case ast.BoolOp(op=op):
            yield Edit(node, "op", None, ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _ARITHMETIC:
            yield Edit(node, "op", None, _ARITHMETIC[type(op)]())


def turn_condition(node: ast.AST) -> Iterator[Edit]:
    """Do one thing where the other is to be done; a comparison is turned by `swap_operator`."""
    conditions: list[tuple[str, int | None, ast.expr]] = []
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            conditions = [("test", None, test)]
        case ast.comprehension(ifs=ifs):
            conditions = [("ifs", index, test) for index, test in enumerate(ifs)]
    for field, index, test in conditions:
        if not isinstance(test, ast.Compare) and not _is_not(test):
            turned = ast.UnaryOp(ast.Not(), test)
            yield Edit(node, field, index, turned, f"{_text(test)} → {_text(turned)}")


def leave_out(node: ast.AST) -> Iterator[Edit]:
    """Lack a case of a match, or a member of a list or set."""
    match node:
        case ast.Match(cases=cases) if len(cases) > 1:
            for index, case in enumerate(cases):
                yield Edit(node, "cases", index, None, f"without case {_text(case.pattern)}")
        case ast.List(elts=members, ctx=ast.Load()) | ast.Set(elts=members):
            yield from _leave_out_members(node, members)
        case ast.Tuple(elts=members) if any(isinstance(member, ast.Starred) for member in members):
            yield from _leave_out_members(node, members)


def _leave_out_members(node: ast.AST, members: list[ast.expr]) -> Iterator[Edit]:
    for index, member in enumerate(members):
        yield Edit(node, "elts", index, None, f"{_text(node)} without {_text(member)}")


def return_nothing(node: ast.AST) -> Iterator[Edit]:
    """Return None."""
    match node:
        case ast.Return(value=ast.Constant(value=None)):
            return
        case ast.Return(value=ast.expr()):
            yield Edit(node, "value", None, ast.Constant(None))


OPERATORS = (swap_operator, turn_condition, leave_out, return_nothing)


def _replacement(node: ast.AST) -> ast.AST | None:
    """Return what can stand in a node's place."""
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case ast.Constant(value=value):
            return _other_constant(value)
        case ast.stmt():
            return _other_statement(node)
        case _:
            return None


def _other_constant(value: object) -> ast.Constant | None:
    match value:
        case bool():
            return ast.Constant(not value)
        case int() | float():
            return ast.Constant(value + 1)
        case str():
            return ast.Constant(f"{value}!")
        case _:
            return None


def _other_statement(statement: ast.stmt) -> ast.stmt | None:
    match statement:
        case ast.Break():
            return ast.Continue()
        case ast.Continue():
            return ast.Break()
        case ast.Expr(value=ast.Call() | ast.Await() | ast.Yield() | ast.YieldFrom()):
            return ast.Pass()
        case ast.AugAssign() | ast.Raise():
            return ast.Pass()
        case ast.Assign(targets=targets) if not any(isinstance(target, ast.Name) for target in targets):
            return ast.Pass()
        case _:
            return None


def _is_not(test: ast.expr) -> bool:
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _text(node: ast.AST) -> str:
    """Return a node's source on one line, shortened."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


class Optional:
    """Which keyword arguments can be left out of a call. To leave out another breaks everything at once."""

    def __init__(self, trees: Iterable[ast.Module]) -> None:
        self._required: set[tuple[str, str]] = set()
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self._required |= {
                        (node.name, parameter) for parameter in _required_parameters(node.args)
                    }
                elif isinstance(node, ast.ClassDef):
                    self._required |= {(node.name, field) for field in _required_fields(node)}

    def leave_out(self, node: ast.AST) -> Iterator[Edit]:
        """Call without one of the keyword arguments that have a default."""
        if not isinstance(node, ast.Call):
            return
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        for index, keyword in enumerate(node.keywords):
            if keyword.arg is not None and (name, keyword.arg) not in self._required:
                yield Edit(node, "keywords", index, None, f"{_text(function)}(…) without {keyword.arg}")


def _required_parameters(parameters: ast.arguments) -> Iterator[str]:
    named = [*parameters.posonlyargs, *parameters.args]
    for parameter in named[: len(named) - len(parameters.defaults)]:
        yield parameter.arg
    for parameter, default in zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True):
        if default is None:
            yield parameter.arg


def _required_fields(node: ast.ClassDef) -> Iterator[str]:
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.value is None:
            yield field.target.id


# Where to look for it.


class _Walk:
    """Finds every edit of a module, with its line and the function or class that it is in."""

    def __init__(self, optional: Optional) -> None:
        self.found: list[tuple[Edit, str, int]] = []
        self._optional = optional
        self._names: list[str] = []
        self._line = 1

    def visit(self, node: ast.AST, *, refusing: bool = False) -> None:
        """Look at `node` and below; `refusing`: it is an error's text and advice, which are free."""
        operators = OPERATORS if refusing else (*OPERATORS, self._optional.leave_out)
        for operator in operators:
            for edit in operator(node):
                self._add(edit)
        for field, index, child in _children(node):
            if _is_left_alone(field, child):
                continue
            line, self._line = self._line, getattr(child, "lineno", self._line)
            name = getattr(child, "name", "") if isinstance(child, _NAMED) else ""
            self._names += [name] if name else []
            new = _replacement(child)
            if new is not None and not (refusing and isinstance(child, ast.Constant)):
                after = "nothing" if isinstance(new, ast.Pass) else _text(new)
                alone = isinstance(child, ast.stmt) or isinstance(node, ast.stmt | ast.Module)
                self._add(Edit(node, field, index, new, f"{_text(child)} → {after}" if alone else ""))
            self.visit(child, refusing=refusing or isinstance(child, ast.Raise))
            if name:
                self._names.pop()
            self._line = line

    def _add(self, edit: Edit) -> None:
        self.found.append((edit, ".".join(self._names), self._line))


_NAMED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _children(node: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            yield field, None, value
        elif isinstance(value, list):
            yield from ((field, index, item) for index, item in enumerate(value) if isinstance(item, ast.AST))


def _is_left_alone(field: str, child: ast.AST) -> bool:
    """Tell whether nothing below `child` decides anything: annotations, docstrings, texts, imports."""
    if field in ("annotation", "returns", "decorator_list"):
        return True
    match child:
        case (
            ast.Expr(value=ast.Constant()) | ast.JoinedStr() | ast.Assert() | ast.Import() | ast.ImportFrom()
        ):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.ClassDef(bases=bases):
            return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in bases)
        case _:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One module with one change. `number` tells apart those that look the same."""

    path: str
    place: str
    line: int
    change: str
    source: str
    number: int = 1

    @property
    def name(self) -> str:
        """What it is called in `equivalent_mutants.toml`: without its line, since lines move."""
        again = f" ({self.number})" if self.number > 1 else ""
        return f"{self.place}: {self.change}{again}" if self.place else f"{self.change}{again}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name}"

    def rank(self, seed: int) -> str:
        """Return its place in a random order that changes elsewhere do not change."""
        return hashlib.sha256(f"{seed} {self.path} {self.name}".encode()).hexdigest()


def mutants_of(path: str, source: str, optional: Optional) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    walk = _Walk(optional)
    walk.visit(tree)
    seen: Counter[str] = Counter()
    mutants: list[Mutant] = []
    for edit, place, line in walk.found:
        changed, change = edit.apply(tree)
        mutant = Mutant(path=path, place=place, line=line, change=change, source=changed)
        seen[mutant.name] += 1
        mutants.append(replace(mutant, number=seen[mutant.name]))
    return sorted(mutants, key=lambda mutant: mutant.line)


def all_mutants(targets: Sequence[str]) -> list[Mutant]:
    """Return the mutants of every module that `targets` name."""
    files: list[Path] = []
    for target in targets:
        path = CHECKOUT / target
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    optional = Optional(ast.parse(file.read_bytes()) for file in (CHECKOUT / "regsim").rglob("*.py"))
    return [
        mutant
        for file in files
        for mutant in mutants_of(
            file.relative_to(CHECKOUT).as_posix(), file.read_text(encoding="utf-8"), optional
        )
    ]


# Whether anybody notices.


class BaselineError(Exception):
    """The tests fail on the original: they would prove nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tests:
    """Test files to run, and how many seconds one test, or all of them, may take."""

    files: tuple[str, ...]
    one: float
    all: float

    def run(self, copy: Path, *options: str) -> int | None:
        """Return pytest's exit code, None if the time was up."""
        one = f"faulthandler_timeout={self.one:.1f}"
        with (
            (copy / OUTPUT).open("wb") as output,
            subprocess.Popen(
                [sys.executable, "-c", RUN_TESTS, str(copy), *OPTIONS, "-o", one, *options, *self.files],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy), "HYPOTHESIS_PROFILE": "mutants"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            try:
                return process.wait(self.all)
            except subprocess.TimeoutExpired:
                return None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def quick_and_slow(copy: Path, files: Sequence[str]) -> list[Tests]:
    """Run the tests on the original, and return those whose each test is quick, then the others.

    A mutant that waits for ever is soon found by the quick ones.

    Raises:
        BaselineError: the tests do not pass.
    """
    times = copy / "times.xml"
    every = Tests(files=tuple(file for file in files if (copy / file).exists()), one=300, all=1200)
    if every.run(copy, f"--junitxml={times}", "-o", "junit_family=xunit1") != 0:
        raise BaselineError((copy / OUTPUT).read_text(encoding="utf-8", errors="replace"))
    seconds: dict[str, list[float]] = {}
    for case in ET.parse(times).iter("testcase"):  # noqa: S314  (pytest has just written it)
        seconds.setdefault(case.get("file", ""), []).append(float(case.get("time", 0)))
    parts: tuple[list[str], list[str]] = ([], [])
    for file in sorted(seconds, key=lambda file: sum(seconds[file])):
        parts[max(seconds[file]) > QUICK].append(file)
    return [
        Tests(
            files=tuple(part),
            one=PATIENCE * (1 + max(max(seconds[file]) for file in part)),
            all=PATIENCE * (5 + sum(sum(seconds[file]) for file in part)),
        )
        for part in parts
        if part
    ]


def is_noticed(mutant: Mutant, copy: Path, tests: Sequence[Tests]) -> bool:
    """Tell whether some test fails, or does not end in time, on a mutant."""
    file = copy / mutant.path
    original = file.read_bytes()
    try:
        _write(file, mutant.source.encode())
        return any(part.run(copy) != 0 for part in tests)
    finally:
        _write(file, original)


def _write(module: Path, source: bytes) -> None:
    """Write a module; what is compiled of it goes by size and whole seconds, and might seem to be of this."""
    for compiled in module.parent.glob(f"__pycache__/{module.stem}.*"):
        compiled.unlink()
    module.write_bytes(source)


def survivors(mutants: Sequence[Mutant], files: Sequence[str], jobs: int) -> list[Mutant]:
    """Return the mutants that no test notices.

    Raises:
        BaselineError: the tests fail on the original.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            copies.put(_copy(Path(folder) / str(number)))
        original = copies.get()
        tests = quick_and_slow(original, files)
        copies.put(original)
        print(f"{len(mutants)} mutants", flush=True)

        def judge(number: int, mutant: Mutant) -> bool:
            copy = copies.get()
            try:
                noticed = is_noticed(mutant, copy, tests)
            finally:
                copies.put(copy)
            if not noticed:
                print(f"alive: {mutant}", flush=True)
            if number % 100 == 0:
                print(f"{number} of {len(mutants)}", flush=True)
            return noticed

        noticed = list(pool.map(judge, range(1, len(mutants) + 1), mutants))
    return [mutant for mutant, seen in zip(mutants, noticed, strict=True) if not seen]


def _copy(place: Path) -> Path:
    place.mkdir()
    for name in COPIED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)
    return place


# What is said of it.


def report(
    mutants: Sequence[Mutant], alive: Sequence[Mutant], reasons: Mapping[str, Mapping[str, str]]
) -> float:
    """Print who is alive, and return their share, without those that cannot be told from the original."""
    equivalent = [mutant for mutant in alive if mutant.name in reasons.get(mutant.path, {})]
    wrong = [mutant for mutant in alive if mutant not in equivalent]
    judged = len(mutants) - len(equivalent)
    share = len(wrong) / judged if judged else 0.0
    print()
    for mutant in wrong:
        print(f"alive: {mutant}")
    print(
        f"{len(mutants)} mutants: {judged - len(wrong)} noticed, {len(equivalent)} equivalent, "
        f"{len(wrong)} alive: {share:.1%}"
    )
    return share


def unknown_reasons(reasons: Mapping[str, Mapping[str, str]], mutants: Sequence[Mutant]) -> list[str]:
    """Return the entries of `equivalent_mutants.toml` that name no mutant."""
    known = {(mutant.path, mutant.name) for mutant in mutants}
    return [
        f"{path}: {name}" for path, names in reasons.items() for name in names if (path, name) not in known
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description="Mutation testing.")
    parser.add_argument("modules", nargs="*", default=TARGETS, help="files or folders (default: %(default)s)")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="files or folders (default: %(default)s)")
    parser.add_argument("--sample", type=int, help="only so many, chosen by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="at the same time (default: %(default)s)")
    parser.add_argument(
        "--limit", type=float, default=0.10, help="largest share alive (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    options = parser.parse_args(arguments)
    reasons = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))
    mutants = all_mutants(options.modules)
    if options.sample is not None:
        mutants = sorted(mutants, key=lambda mutant: mutant.rank(options.seed))[: options.sample]
    if options.list:
        print(*mutants, f"{len(mutants)} mutants", sep="\n")
        return 0
    try:
        alive = survivors(mutants, options.tests, options.jobs)
    except BaselineError as error:
        print(f"{error}\nError: the tests fail on the original", file=sys.stderr)
        return 2
    return int(report(mutants, alive, reasons) > options.limit)


if __name__ == "__main__":
    sys.exit(main())
