"""Conformance tests: `test` items of `.vm` files, run on any executor.

A test binds names to tensors and makes assertions about programs of its file, about quoted texts
and about layouts. spec/08-text-format.md says what each directive means. An assertion passes or
fails; a test that needs what the executor does not have is skipped, and one that a waiver names may
fail. `conformance_directives` has the directives themselves.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vm.compiler.pipeline import TARGETS
from vm.errors import Origin, VmError, fail, read_source
from vm.isa import syntax
from vm.isa.instruction import INSTRUCTIONS
from vm.isa.kernel import Kernel
from vm.isa.program import load
from vm.runtime.conformance_directives import (
    CAPABILITIES_OF,
    OPTIONS,
    Failure,
    Instances,
    Runner,
    Unsupported,
    Walk,
)

PASS, FAIL, SKIP, WAIVED = "pass", "fail", "skip", "waived"

COMPILED_FOR = frozenset(TARGETS)
CAPABILITIES: Mapping[str, frozenset[str]] = {
    "reference": COMPILED_FOR | {"traps", "races", "deadlocks", "semaphores", "nvidia", "amd"},
    "emulator": COMPILED_FOR | {"semaphores"},
    "cuda": COMPILED_FOR | {"semaphores"},
}
"""What each executor declares."""

WAIVERS = "waivers.txt"
"""The file beside the tests that says who may fail what: `executor | file | test | reason`."""


@dataclass(frozen=True)
class Result:
    """One assertion on one executor; `reason` says why it did not pass."""

    file: str
    test: str
    line: int
    directive: str
    status: str
    reason: str = ""
    rules: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        return {
            "file": self.file, "test": self.test, "line": self.line, "directive": self.directive,
            "status": self.status, "reason": self.reason, "rules": list(self.rules),
        }  # fmt: skip


@dataclass
class Report:
    """All results of a run."""

    executor: str
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not any(each.status == FAIL for each in self.results)

    def counts(self) -> dict[str, int]:
        """How many assertions passed, failed, were skipped and waived."""
        found = Counter(each.status for each in self.results)
        return {status: found[status] for status in (PASS, FAIL, SKIP, WAIVED)}

    def by_directive(self) -> dict[str, int]:
        return dict(sorted(Counter(each.directive for each in self.results).items()))

    def by_instruction(self) -> dict[str, dict[str, int]]:
        """For each instruction the assertions of tests that cite a rule of it (`Exec/load`,
        `Valid/load`), by directive."""
        found: dict[str, Counter[str]] = {name: Counter() for name in INSTRUCTIONS}
        for each in self.results:
            for name in {rule.partition("/")[2] for rule in each.rules} & set(INSTRUCTIONS):
                found[name][each.directive] += 1
        return {name: dict(sorted(found[name].items())) for name in sorted(found)}

    def as_json(self) -> dict[str, object]:
        return {
            "executor": self.executor, "counts": self.counts(),
            "by_directive": self.by_directive(), "by_instruction": self.by_instruction(),
            "seconds": round(self.seconds, 3),
            "results": [each.as_json() for each in self.results],
        }  # fmt: skip


@dataclass(frozen=True)
class Waiver:
    """A test that may fail on an executor, and why."""

    executor: str
    file: str
    test: str
    reason: str


def test_files(path: str | Path) -> list[Path]:
    """The `.vm` files at a path: itself, or all below a folder. E0801 where there are none."""
    path = Path(path)
    found = sorted(path.rglob("*.vm")) if path.is_dir() else [path]
    if not found:
        raise fail("E0801", f"there is no .vm file in {path}", None, fix="name a file or a folder")
    return found


def waivers(folder: Path) -> list[Waiver]:
    """The waivers beside some tests; none where the file is not there."""
    path = folder / WAIVERS
    if not path.exists():
        return []
    lines = [line.split("#")[0].strip() for line in read_source(path).text.split("\n")]
    found = []
    for line in filter(None, lines):
        parts = [part.strip() for part in line.split("|")]
        if len(parts) != 4 or not all(parts):
            raise fail(
                "E0801", f"{path}: `{line}` is no waiver", None,
                fix="write executor | file | test | reason",
            )  # fmt: skip
        found.append(Waiver(*parts))
    return found


def run_path(path: str | Path, executor: str) -> Report:
    """Runs every test of the files at a path."""
    report = Report(executor)
    started = time.perf_counter()
    for file in test_files(path):
        report.results += run_tests(Instances(load(file)), executor, waivers(file.parent))
    report.seconds = time.perf_counter() - started
    return report


def run_tests(
    instances: Instances, executor: str, waived: Sequence[Waiver] = ()
) -> list[Result]:
    """The results of every test of a file."""
    if executor in PREPARE:
        PREPARE[executor](launches(instances, executor))
    return [
        each for test in instances.module.tests.values()
        for each in run_test(instances, test, executor, waived)
    ]  # fmt: skip


def _prepare_emulator(rehearsed: Iterable[tuple[Kernel, Mapping[str, Any]]]) -> None:
    from vm.runtime.compiled import compile_for_emulator

    compile_for_emulator(rehearsed, **OPTIONS["emulator"])


PREPARE: Mapping[str, Callable[[Iterable[tuple[Kernel, Mapping[str, Any]]]], None]] = {
    "emulator": _prepare_emulator
}
"""What makes executors ready for the launches of a file, all at once."""


class Rehearsal:
    """Runs kernels on the reference machine, and remembers each with its arguments."""

    def __init__(self) -> None:
        self.launches: list[tuple[Kernel, Mapping[str, Any]]] = []

    def perform(self, kernel: Kernel, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        self.launches.append((kernel, arguments))
        return Runner("reference").perform(kernel, arguments)


def launches(instances: Instances, executor: str) -> list[tuple[Kernel, Mapping[str, Any]]]:
    """The kernels that an executor will run for the tests of a module, with their arguments."""
    rehearsal = Rehearsal()
    for test in instances.module.tests.values():
        walk = Walk(instances, test, rehearsal)
        with suppress(VmError):  # the run itself says what is wrong
            for call in walk.assertions():
                if not lacking(test, call, executor):
                    with suppress(Failure):
                        walk.check(call)
    return rehearsal.launches


def lacking(test: syntax.Test, call: syntax.Call, executor: str) -> list[str]:
    """The capabilities that an assertion needs and an executor does not declare."""
    needed = {*test.needs, *CAPABILITIES_OF.get(call.function, ())}
    return sorted(needed - CAPABILITIES[executor])


def run_test(
    instances: Instances, test: syntax.Test, executor: str, waived: Sequence[Waiver] = ()
) -> list[Result]:
    """The results of one test's assertions, in order; a fault outside an assertion is one too."""
    file = Path(instances.module.text.origin.file).name
    waiver = next(
        (w for w in waived if (w.executor, w.file, w.test) == (executor, file, test.name)), None
    )

    def result(call: syntax.Call, status: str, reason: str = "") -> Result:
        return Result(file, test.name, call.origin.line, call.function, status, reason, test.rules)

    def whole(place: Origin) -> syntax.Call:
        """What stands for a test that ends before its assertions."""
        return syntax.Call("test", (), (), place)

    results: list[Result] = []
    walk = Walk(instances, test, Runner(executor))
    try:
        for call in walk.assertions():
            if missing := lacking(test, call, executor):
                results.append(result(call, SKIP, f"{executor} lacks {', '.join(missing)}"))
                continue
            try:
                walk.check(call)
            except Failure as failure:
                results.append(result(call, FAIL, str(failure)))
            except Unsupported as unsupported:
                results.append(result(call, SKIP, f"{executor}: {unsupported}"))
            else:
                results.append(result(call, PASS))
    except Unsupported as unsupported:
        results.append(result(whole(test.origin), SKIP, f"{executor}: {unsupported}"))
    except VmError as error:
        place = error.origin if error.origin.line else test.origin
        results.append(result(whole(place), FAIL, str(error)))
    if waiver is None:
        return results
    return list(_waived(results, waiver))


def _waived(results: list[Result], waiver: Waiver) -> Iterator[Result]:
    """What a waiver makes of the results: failures are waived, and there must be one."""
    if all(each.status == PASS for each in results):
        yield from results[:-1]
        why = f"the waiver ({waiver.reason}) is not needed: it passes"
        yield replace(results[-1], status=FAIL, reason=why)
        return
    for each in results:
        failed = each.status == FAIL
        yield replace(each, status=WAIVED, reason=waiver.reason) if failed else each
