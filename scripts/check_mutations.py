"""Break lines of the source one by one, and count how many of these mutations the tests catch.

    python -m pytest -n 2 --cov=farfield --cov-branch --cov-context=test    # about twice the time of the tests
    python scripts/check_mutations.py mutations.json                        # chooses 40, tests each, prints a table

Mutations are spread over all packages of src/farfield and over five operators: comparison, sign, index, constant,
dropped call. Each runs only the tests that cover its line, as .coverage says, and stops at the first that fails. That
test then has to pass on the unbroken source, so that a flaky one catches nothing. mutations.json keeps the choice: to
compare two states of the tests, give both the same file. Exit status 1 if fewer than 90% are caught.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

from coverage import CoverageData
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
PACKAGE = Path("src/farfield")
COMPARISONS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is",
}  # fmt: skip
SIGNS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}


@dataclass(frozen=True)
class Mutation:
    """One change of the source.

    Attributes:
        file: relative to the repository.
        line: its first line, counted from 1.
        operator: comparison, sign, index, constant or dropped call.
        before: text of that line, by which the place is found again.
        column: where in the line the change begins, in bytes.
        old: text that is replaced; it may go on over several lines.
        new: text in its place.
    """

    file: str
    line: int
    operator: str
    before: str
    column: int
    old: str
    new: str

    def apply(self, text: str) -> str:
        """Return the source with the change.

        Raises:
            ValueError: if the source has changed and the place is not found, or found more than once.
        """
        lines = text.splitlines(keepends=True)
        places = [i for i, line in enumerate(lines) if line.rstrip("\n") == self.before]
        if self.line - 1 in places:
            places = [self.line - 1]
        if len(places) != 1:
            raise ValueError(f"{self.file} has no longer one line {self.before.strip()!r}. Choose mutations anew.")
        rest = "".join(lines[places[0] :]).encode()
        old = self.old.encode()
        if not rest[self.column :].startswith(old):
            raise ValueError(f"{self.file}:{places[0] + 1} no longer holds {self.old!r}. Choose mutations anew.")
        changed = rest[: self.column] + self.new.encode() + rest[self.column + len(old) :]
        return "".join(lines[: places[0]]) + changed.decode()


@dataclass
class Outcome:
    """Result of one mutation.

    Attributes:
        mutation: the change.
        covering: number of tests that cover its line.
        caught_by: first test that failed with it and passes without; None if none did.
        why: "caught", "survived", "no test covers it", or why it could not be decided, which counts as not caught.
        seconds: wall time.
    """

    mutation: Mutation
    covering: int
    caught_by: str | None
    why: str
    seconds: float


def mutations_of(file: Path) -> Iterator[Mutation]:
    """Find every possible mutation in the function bodies of a file, annotations and docstrings left out."""
    text = file.read_text()
    lines = text.splitlines()
    encoded = [line.encode() for line in text.splitlines(keepends=True)]

    def source(start: tuple[int, int], end: tuple[int, int]) -> str:
        parts = encoded[start[0] - 1 : end[0]]
        parts[-1] = parts[-1][: end[1]]
        parts[0] = parts[0][start[1] :]
        return b"".join(parts).decode()

    def change(operator: str, start: tuple[int, int], end: tuple[int, int], new: str) -> Mutation:
        name = file.relative_to(ROOT).as_posix()
        return Mutation(name, start[0], operator, lines[start[0] - 1], start[1], source(start, end), new)

    for node in _in_functions(ast.parse(text)):
        match node:
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                if "(" not in (between := source(_end(left), _start(right))) and ")" not in between:
                    yield change("comparison", _end(left), _start(right), f" {COMPARISONS[type(op)]} ")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in SIGNS:
                if re.fullmatch(r"\s*[-+*/]\s*", source(_end(left), _start(right))):  # without parentheses
                    yield change("sign", _end(left), _start(right), f" {SIGNS[type(op)]} ")
            case ast.UnaryOp(op=ast.USub(), operand=operand) if source(_start(node), _start(operand)) == "-":
                yield change("sign", _start(node), _start(operand), "")
            case ast.Subscript(slice=index):
                for bound in [index.lower, index.upper] if isinstance(index, ast.Slice) else [index]:
                    if isinstance(bound, ast.Constant) and type(bound.value) is int:
                        yield change("index", _start(bound), _end(bound), str(bound.value + 1))
            case ast.Constant(value=bool() as value):
                yield change("constant", _start(node), _end(node), str(not value))
            case ast.Constant(value=int() | float() as value):
                yield change("constant", _start(node), _end(node), str(value + 1))
            case ast.Expr(value=ast.Call()):
                yield change("dropped call", _start(node), _end(node), "pass")


def _start(node: ast.expr | ast.stmt) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr | ast.stmt) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def _in_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk the bodies of functions, each node once: no annotations, defaults or indices of subscripts."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                yield from _walk(statement)
        else:
            yield from _in_functions(node)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.JoinedStr):  # their positions are not those of the source before Python 3.12
        return
    yield node
    for name, child in ast.iter_fields(node):
        if name in ("annotation", "returns", "args") and not isinstance(node, ast.Call):
            continue
        index = isinstance(node, ast.Subscript) and name == "slice"
        for part in child if isinstance(child, list) else [child]:
            if isinstance(part, ast.AST) and not (index and isinstance(part, ast.Constant | ast.Slice)):
                yield from _walk(part)


def choose(count: int, seed: int) -> list[Mutation]:
    """Choose mutations: packages in turn, operators in turn, places at random."""
    generator = random.Random(seed)
    by_room: dict[str, list[Mutation]] = defaultdict(list)
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = file.relative_to(ROOT / PACKAGE).parts
        by_room[parts[0] if len(parts) > 1 else ""].extend(mutations_of(file))
    rooms = sorted(by_room)
    generator.shuffle(rooms)
    operators = ["comparison", "sign", "index", "constant", "dropped call"]
    chosen: list[Mutation] = []
    while len(chosen) < count:
        room = by_room[rooms[len(chosen) % len(rooms)]]
        wanted = generator.sample(operators, len(operators))  # the first of these that the package has
        left = next(left for name in wanted if (left := [m for m in room if m.operator == name and m not in chosen]))
        chosen.append(generator.choice(left))
    return chosen


def covering_tests(data: CoverageData, mutation: Mutation) -> list[str]:
    """Return the tests that cover the line; those of a test file named for the module come first."""
    paths = [path for path in data.measured_files() if Path(path).as_posix().endswith(mutation.file)]
    contexts = [data.contexts_by_lineno(path).get(mutation.line, []) for path in paths]
    tests = {context.rsplit("|", 1)[0] for found in contexts for context in found if context}
    stem = Path(mutation.file).stem
    return sorted(tests, key=lambda test: (f"test_{stem}" not in test, test))


class Checkout:
    """A copy of the repository's files whose source can be broken."""

    def __init__(self, folder: Path) -> None:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        self.folder = folder
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        self.environment = os.environ | {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"}

    def first_failure(self, tests: list[str], limit_s: float) -> str | None:
        """Run tests until one fails; return its name.

        Raises:
            subprocess.TimeoutExpired: after `limit_s` seconds.
        """
        arguments = self.folder / "tests.txt"
        arguments.write_text("\n".join(tests))
        command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-rfE", f"@{arguments}"]
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=limit_s
        )
        if ran.returncode == 0:
            return None
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", ran.stdout, flags=re.MULTILINE)
        return failed[1] if failed else "collection"

    def run(self, mutation: Mutation, tests: list[str], limit_s: float) -> Outcome:
        """Break the source, run the tests, and mend it again."""
        started = time.monotonic()

        def outcome(caught_by: str | None, why: str) -> Outcome:
            return Outcome(mutation, len(tests), caught_by, why, round(time.monotonic() - started, 1))

        if not tests:
            return outcome(None, "no test covers it")
        file = self.folder / mutation.file
        text = file.read_text()
        try:
            file.write_text(mutation.apply(text))
            failed = self.first_failure(tests, limit_s)
        except subprocess.TimeoutExpired:
            return outcome(None, f"undecided after {limit_s:g} s")
        finally:
            file.write_text(text)
        if failed is None:
            return outcome(None, "survived")
        if failed != "collection" and self.first_failure([failed], limit_s) is not None:
            return outcome(None, f"{failed} fails without it, too")
        return outcome(failed, "caught")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mutations", type=Path, help="JSON file of the mutations; chosen and written if there is none")
    parser.add_argument("--coverage", type=Path, default=ROOT / ".coverage", help="with contexts, of this source")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit_s", type=float, default=900, help="time for the tests of one mutation")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print outcomes as JSON")
    options = parser.parse_args()
    if not options.mutations.exists():
        chosen = choose(options.count, options.seed)
        options.mutations.write_text(json.dumps([asdict(each) for each in chosen], indent=1) + "\n")
    mutations = [Mutation(**each) for each in json.loads(options.mutations.read_text())]
    for each in mutations:
        each.apply((ROOT / each.file).read_text())
    data = CoverageData(str(options.coverage))
    data.read()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = check_all(mutations, data, Path(folder), options.processes, options.limit_s)
    caught = sum(each.caught_by is not None for each in outcomes)
    if options.json:
        print(json.dumps([asdict(each) for each in outcomes], indent=1))
    else:
        print_table(outcomes)
    print(f"{caught} of {len(outcomes)} caught ({caught / len(outcomes):.0%})", file=sys.stderr)
    return int(caught < 0.9 * len(outcomes))


def check_all(
    mutations: list[Mutation], data: CoverageData, folder: Path, processes: int, limit_s: float
) -> list[Outcome]:
    """Check mutations in parallel, each process with a checkout of its own."""
    idle: SimpleQueue[Checkout] = SimpleQueue()
    for number in range(processes):
        idle.put(Checkout(folder / str(number)))
    tests = [covering_tests(data, mutation) for mutation in mutations]

    def check(mutation: Mutation, covering: list[str]) -> Outcome:
        checkout = idle.get()
        try:
            return checkout.run(mutation, covering, limit_s)
        finally:
            idle.put(checkout)

    with ThreadPoolExecutor(processes) as pool:
        return list(tqdm(pool.map(check, mutations, tests), total=len(mutations), desc="mutations"))


def print_table(outcomes: list[Outcome]) -> None:
    """Print a line per mutation."""
    for each in outcomes:
        m = each.mutation
        print(f"{m.file.removeprefix('src/farfield/')}:{m.line}  {m.operator}: {m.old!r} -> {m.new!r}")
        print(f"    {each.caught_by or each.why}  ({each.covering} tests cover it; {each.seconds:g} s)")


if __name__ == "__main__":
    sys.exit(main())
