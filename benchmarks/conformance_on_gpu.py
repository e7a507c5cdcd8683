"""The conformance suite on a GPU, fast: all kernels are compiled first, in as many processes as
there are cores; then each file runs in a process of its own, so that a GPU fault loses that file.

    python -m benchmarks.conformance_on_gpu --date 2026-11-21 --out benchmarks/results/x.json
    python -m benchmarks.conformance_on_gpu --compile-only --target sm_80 --target sm_90a

The second needs no GPU. Exit status 0 only if all compiled and nothing failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, command_of, first_gpu, without_root
from vm.errors import VmError
from vm.isa.kernel import Kernel
from vm.isa.program import load
from vm.runtime.compiled import cubin_of, variant_for
from vm.runtime.conformance import FAIL, test_files
from vm.runtime.conformance_directives import Failure, Instances, Walk, outputs
from vm.runtime.reference_arguments import bind

SUITE = ROOT / "spec" / "conformance"
RUNNING = ("assert_return", "assert_same")
"""The directives that run programs; others need no GPU, or what a GPU does not have."""
FILE_SECONDS = 240.0
SHOWN = 3
"""Failures of each file that are printed."""


@dataclass
class Compiled:
    """What became of the kernels of a test: how many there were, by target those refused (what the
    target cannot do, with the reason) and those that did not compile, which is a fault of ours."""

    kernels: int = 0
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass
class Compiler:
    """Compiles the kernels that a test runs into the cache, and gives blank results for them."""

    targets: Sequence[str]
    report: Compiled = field(default_factory=Compiled)
    seen: set[tuple[str, str]] = field(default_factory=set)

    def perform(self, kernel: Kernel, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        bound = bind(kernel, arguments, checks=False)
        variant = variant_for(kernel, bound.tensors)
        if (kernel.text, variant) not in self.seen:
            self.seen.add((kernel.text, variant))
            self.report.kernels += 1
            for target in self.targets:
                self.compile(kernel, target, variant)
        return tuple(bound.tensors[name] for name in outputs(kernel))

    def compile(self, kernel: Kernel, target: str, variant: str) -> None:
        where = f"{target} {kernel.name} ({kernel.origin.file}:{kernel.origin.line})"
        try:
            cubin_of(kernel, target, variant)
        except VmError as error:
            refused = error.code == "E0901"
            (self.report.refused if refused else self.report.failed).append(f"{where}: {error}")
        except Exception as error:  # a fault of ours: the others are compiled all the same
            self.report.failed.append(f"{where}: {error}")


@lru_cache(maxsize=32)
def module_of(file: Path) -> Instances:
    return Instances(load(file))


def compile_test(targets: Sequence[str], file: Path, name: str) -> Compiled:
    """Compiles every kernel that a test runs."""
    instances = module_of(file)
    compiler = Compiler(targets)
    walk = Walk(instances, instances.module.tests[name], compiler)
    with suppress(VmError):  # the run tells what is wrong with a test
        for call in walk.assertions():
            if call.function in RUNNING:
                with suppress(VmError, Failure):  # results are blank
                    walk.check(call)
    return compiler.report


def compile_all(files: Sequence[Path], targets: Sequence[str], jobs: int) -> Compiled:
    """Compiles the kernels of all tests, test by test in parallel processes."""
    work = [(file, name) for file in files for name in module_of(file).module.tests]
    total = Compiled()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        run = partial(compile_test, targets)
        for each in pool.map(run, *zip(*work, strict=True)):
            total.kernels += each.kernels
            total.refused += each.refused
            total.failed += each.failed
    return total


def run_file(executor: str, file: Path) -> dict[str, Any]:
    """The report of a file as `vm test` writes it; of one that ended early, why."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "report.json")
        command = [sys.executable, "-m", "vm", "test", str(file), "--on", executor,
                   "--json", str(written)]  # fmt: skip
        ended = ""
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT,
                                  timeout=FILE_SECONDS)  # fmt: skip
            ended = done.stderr.strip()[-400:]
        except subprocess.TimeoutExpired:
            ended = f"no end after {FILE_SECONDS:.0f} s"
        seconds = round(time.perf_counter() - started, 1)
        if written.exists():
            report = json.loads(written.read_text(encoding="utf-8"))
            return {"file": file.name, "wall_seconds": seconds, **report}
    return {"file": file.name, "wall_seconds": seconds, "counts": {}, "results": [],
            "ended": ended or "no report"}  # fmt: skip


def failures(report: Mapping[str, Any]) -> list[str]:
    """What failed in a file, one line each."""
    lost = [f"{report['file']}: ended early: {report['ended']}"] if "ended" in report else []
    return lost + [
        f"{each['file']}:{each['line']} \"{each['test']}\" {each['reason']}"
        for each in report["results"]
        if each["status"] == FAIL
    ]


def table(reports: Sequence[Mapping[str, Any]]) -> str:
    """Counts by file and in all, then the first failures of each file."""
    lines = [f"{'file':28} {'pass':>6} {'fail':>6} {'skip':>6} {'seconds':>8}"]
    total: Counter[str] = Counter()
    for report in reports:
        counts = Counter(report["counts"])
        total += counts
        lines.append(
            f"{report['file']:28} {counts['pass']:6} {counts['fail']:6} {counts['skip']:6} "
            f"{report['wall_seconds']:8.1f}" + ("  ended early" if "ended" in report else "")
        )
    lines.append(f"{'all':28} {total['pass']:6} {total['fail']:6} {total['skip']:6}")
    for report in reports:
        lines += [f"  {' '.join(line.split())[:300]}" for line in failures(report)[:SHOWN]]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--date", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--on", default="cuda", help="the executor")
    parser.add_argument("--compile-only", action="store_true")
    parser.add_argument("--target", action="append", help="compile for it; that of the GPU if none")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    files = arguments.files or test_files(SUITE)
    written: dict[str, Any] = {"date": arguments.date, "executor": arguments.on,
                               "command": command_of(
                                   "-m benchmarks.conformance_on_gpu", sys.argv[1:])}  # fmt: skip
    targets = arguments.target or []
    if arguments.on == "cuda" and not arguments.compile_only:
        gpu = first_gpu()
        written["device"] = asdict(gpu)
        targets = targets or [gpu.target]
    compiled, reports = Compiled(), []
    if targets:
        started = time.perf_counter()
        compiled = compile_all(files, targets, arguments.jobs)
        seconds = time.perf_counter() - started
        written["compiled"] = {"targets": targets, "seconds": round(seconds, 1), **asdict(compiled)}
        print(f"{compiled.kernels} kernels for {', '.join(targets)} in {seconds:.1f} s: "
              f"{len(compiled.refused)} refused, {len(compiled.failed)} failed")  # fmt: skip
        for line in [*compiled.failed, *compiled.refused]:
            print(" ", " ".join(line.split())[:300])
    if not arguments.compile_only:
        started = time.perf_counter()
        with ThreadPoolExecutor(arguments.jobs) as pool:
            reports = list(pool.map(partial(run_file, arguments.on), files))
        written |= {"seconds": round(time.perf_counter() - started, 1), "files": reports}
        print(table(reports))
    if arguments.out is not None:
        text = without_root(json.dumps(written, indent=1))
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 1 if compiled.failed or any(map(failures, reports)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
