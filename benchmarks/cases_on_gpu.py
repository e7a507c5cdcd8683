"""Every case of programs/ on a GPU, under a sanitizer, and timed; the result is a file of data.

    python -m benchmarks.cases_on_gpu --date 2026-11-21 --out benchmarks/results/h100-cases.json

Three parts, each of which can be left out with --skip:

- `cases`: each case, at its own sizes and at those of `SIZES`, with three seeds. Outputs are
  poisoned before each run, and every element is held to the bound that the case states against its
  reference, which the reference machine runs in f64. Each case has a process of its own, as many
  at once as there are cores, so kernels compile in parallel and a fault loses one case.
- `sanitizer`: one case of each program under compute-sanitizer's memcheck, racecheck, synccheck.
- `timing`: matmul_w4a16 beside torch.matmul of f16, by benchmarks/gemm.py.

Exit status 0 only if all passed. `--on emulator` tries the cases without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.machine import ROOT, command_of, first_gpu
from vm.isa import syntax
from vm.isa.program import Module, load
from vm.isa.static import Environment
from vm.runtime.cases import run_case
from vm.runtime.inputs import RandomInput

SEEDS = (11, 12, 13)
TOOLS = ("memcheck", "racecheck", "synccheck")
PARTS = ("cases", "sanitizer", "timing")
POINTS = "8192x8192:u4:1,16,4096"
PEERS = "vm,torch_f16"

SIZES: dict[str, tuple[str, Callable[[SimpleNamespace], dict[str, int]]]] = {
    "gemm_w4a16": ("main", lambda c: {
        "M": 1, "N": c.ROWS + 1, "K": c.STEP * (c.WARPS * c.STAGES + 1)}),
    "gemm_w4a16_sm80": ("main", lambda c: {
        "M": 1, "N": c.ROWS + 1, "K": c.STEP * (c.WARPS * c.STAGES + 1)}),
    "layer_norm": ("main", lambda c: {"M": 1, "N": 2 * c.COLUMNS + 1}),
    "matmul_f16": ("main", lambda c: {"M": 1, "N": c.BN + 1, "K": c.STAGES * c.BK + 1}),
    "matmul_persistent": ("main", lambda c: {
        "M": 1, "N": c.BLOCKS * c.BN + 1, "K": c.STAGES * c.BK + 1}),
    "matmul_split_k": ("main", lambda c: {
        "M": 1, "N": c.BN + 1, "K": c.SPLITS * c.STAGES * c.BK + 1}),
    "matmul_w4a16": ("main", lambda c: {
        "M": 1, "N": 3 * c.BN, "K": c.GROUP * (c.STAGES * c.BK // c.GROUP + 1)}),
    "softmax": ("main", lambda c: {"M": 1, "N": 2 * c.COLUMNS + 1}),
    "transpose": ("main", lambda c: {"M": 1, "N": c.TILE + 1}),
    "vector_add": ("main", lambda c: {"N": 3 * c.TILE + 1}),
}  # fmt: skip
"""Of a program a case, and sizes of it: one row, one past a tile, one step past all stages."""

Job = tuple[Path, str, dict[str, int]]


def constants(module: Module) -> SimpleNamespace:
    """The numbers among the constants of a module; its layouts are made for a program."""
    environment = Environment({}, module.constants)
    origin = module.text.origin
    plain = [name for name, item in module.constants.items() if item.kind == "const"]
    found = {name: environment.lookup(name, origin) for name in plain}
    return SimpleNamespace(**{n: v for n, v in found.items() if isinstance(v, int)})


def jobs_of(path: Path) -> list[Job]:
    """Every case of a module at its own sizes, and one at others."""
    module = load(path)
    found: list[Job] = [(path, name, {}) for name in module.cases]
    if path.stem in SIZES:
        case, sizes = SIZES[path.stem]
        found.append((path, case, sizes(constants(module))))
    return found


def random_names(case: syntax.Case) -> list[str]:
    """The variables of a case that are drawn at random."""
    return [
        statement.names[0]
        for statement in case.body.statements
        if isinstance(statement, syntax.Bind)
        and isinstance(statement.value, syntax.Call)
        and statement.value.function == "random"
    ]


def rows(executor: str, job: Job) -> list[dict[str, Any]]:
    """A case under each seed."""
    path, name, sizes = job
    module = load(path)
    case = module.cases[name]
    found = []
    for seed in SEEDS:
        inputs = {drawn: RandomInput(seed + i) for i, drawn in enumerate(random_names(case))}
        result = run_case(module, case, executor=executor, inputs=inputs, settings=sizes)
        worst = max((e.error / e.bound for e in result.expectations if e.bound), default=0.0)
        found.append(
            {"program": path.stem, "case": name, "sizes": result.sizes, "seed": seed,
             "passed": result.passed, "worst_share_of_bound": worst,
             "fault": str(result.fault or "")}
        )  # fmt: skip
    return found


def run_cases(files: Sequence[Path], executor: str, workers: int) -> list[dict[str, Any]]:
    """All cases, each in a process of its own; a process that dies is a case that failed."""
    jobs = [job for path in files for job in jobs_of(path)]
    with ThreadPoolExecutor(workers) as pool:
        return [row for found in pool.map(partial(rows_apart, executor), jobs) for row in found]


def rows_apart(executor: str, job: Job) -> list[dict[str, Any]]:
    """As `rows`, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            return process.submit(rows, executor, job).result()
        except Exception as error:  # whatever ended the process, it is this case that failed
            path, name, sizes = job
            return [{"program": path.stem, "case": name, "sizes": sizes, "passed": False,
                     "fault": f"{type(error).__name__}: {error}"}]  # fmt: skip


def small_case(path: Path) -> str:
    """A case of several blocks that is small: one past a tile, or the last."""
    names = list(load(path).cases)
    return next((name for name in names if "past_a_tile" in name), names[-1])


def sanitized(sanitizer: str, job: tuple[Path, str]) -> dict[str, Any]:
    """A case of a file under a tool of compute-sanitizer."""
    path, tool = job
    case = small_case(path)
    command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "vm",
               "run", str(path), "--case", case, "--on", "cuda"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    summary = [line for line in done.stdout.splitlines() if "SUMMARY" in line]
    passed = done.returncode == 0 and bool(summary)
    return {"program": path.stem, "case": case, "tool": tool, "passed": passed,
            "summary": " ".join(summary)[-200:],
            "output": "" if passed else (done.stdout + done.stderr)[-2000:]}  # fmt: skip


def run_sanitizer(files: Sequence[Path], workers: int) -> list[dict[str, Any]]:
    """One case of every file under every tool."""
    found = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(found).exists():
        return [{"passed": False, "summary": "there is no compute-sanitizer on this machine"}]
    jobs = [(path, tool) for path in files for tool in TOOLS]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(partial(sanitized, found), jobs))


def run_timing(date: str) -> dict[str, Any]:
    """What benchmarks/gemm.py measures at `POINTS`; `passed` says whether all were measured."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "timing.json")
        command = [sys.executable, "benchmarks/gemm.py", "--date", date, "--out", str(out),
                   "--points", POINTS, "--peers", PEERS, "--rounds", "10"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        measured = done.returncode == 0
        return {"passed": measured, "output": "" if measured else done.stderr[-2000:], **found}


def shown(timing: dict[str, Any]) -> list[str]:
    """A line for each measurement."""
    return [
        f"  {row['peer']:10} M={row['m']:<5} N={row['n']} K={row['k']}: {row['us']:.1f} us "
        f"({row['us_low']:.1f} to {row['us_high']:.1f}), floor {row['floor_us']:.1f}"
        for row in timing.get("rows", ())
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--date", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--on", default="cuda", help="the executor of the cases")
    parser.add_argument("--skip", action="append", choices=PARTS, default=[])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    files = arguments.files or sorted((ROOT / "programs").glob("*.vm"))
    on_gpu = arguments.on == "cuda"
    written: dict[str, Any] = {
        "date": arguments.date, "command": command_of("-m benchmarks.cases_on_gpu", sys.argv[1:]),
        "device": asdict(first_gpu()) if on_gpu else arguments.on, "seconds": {},
    }  # fmt: skip
    parts: dict[str, Callable[[], Any]] = {
        "cases": lambda: run_cases(files, arguments.on, arguments.jobs)
    }
    if on_gpu:
        parts["sanitizer"] = lambda: run_sanitizer(files, arguments.jobs)
        parts["timing"] = lambda: run_timing(arguments.date)
    failed = []
    for name, run in parts.items():
        if name in arguments.skip:
            continue
        started = time.perf_counter()
        found = written[name] = run()
        written["seconds"][name] = round(time.perf_counter() - started, 1)
        listed = found if isinstance(found, list) else [found]
        wrong = [each for each in listed if not each["passed"]]
        failed += wrong
        print(f"{name}: {len(listed) - len(wrong)} passed, {len(wrong)} failed, "
              f"{written['seconds'][name]} s")  # fmt: skip
        for each in wrong:
            print(" ", json.dumps(each)[:1500])
        # After each part, so that a run that is cut off leaves what it found.
        arguments.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    for line in shown(written.get("timing", {})):
        print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
