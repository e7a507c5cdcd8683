"""Every case of programs/ on a GPU, with several seeds; the result is a file of data.

    python benchmarks/cases_on_gpu.py --date 2026-11-21 --out benchmarks/results/h100-cases.json

Outputs are poisoned before each run and every element is held to the bound that the case states.
With `--sanitize` each case runs once more under compute-sanitizer's memcheck, racecheck and
synccheck. Exit status 0 only if all passed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vm.isa import syntax
from vm.isa.program import load
from vm.runtime import cuda
from vm.runtime.cases import run_case
from vm.runtime.inputs import RandomInput

ROOT = Path(__file__).parents[1]
SEEDS = (11, 12, 13)
TOOLS = ("memcheck", "racecheck", "synccheck")


def random_names(case: syntax.Case) -> list[str]:
    """The variables of a case that are drawn at random."""
    return [
        statement.names[0]
        for statement in case.body.statements
        if isinstance(statement, syntax.Bind)
        and isinstance(statement.value, syntax.Call)
        and statement.value.function == "random"
    ]


def rows(path: Path) -> list[dict[str, Any]]:
    """Each case of a module under each seed."""
    module = load(path)
    found = []
    for case in module.cases.values():
        for seed in SEEDS:
            inputs = {name: RandomInput(seed + i) for i, name in enumerate(random_names(case))}
            result = run_case(module, case, executor="cuda", inputs=inputs)
            worst = max((e.error / e.bound for e in result.expectations if e.bound), default=0.0)
            found.append(
                {"program": path.stem, "case": case.name, "seed": seed, "passed": result.passed,
                 "worst_share_of_bound": worst, "fault": str(result.fault or "")}
            )  # fmt: skip
    return found


def sanitized(path: Path, tool: str) -> dict[str, Any]:
    """All cases of a file under a tool of compute-sanitizer."""
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-m",
               "vm", "run", str(path), "--on", "cuda"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    summary = [line for line in done.stdout.splitlines() if "SUMMARY" in line]
    return {"program": path.stem, "tool": tool, "passed": done.returncode == 0,
            "summary": " ".join(summary)[-200:]}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--date", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--sanitize", action="store_true")
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    files = arguments.files or sorted((ROOT / "programs").glob("*.vm"))
    cases = [row for path in files for row in rows(path)]
    tools = [sanitized(p, tool) for p in files for tool in TOOLS] if arguments.sanitize else []
    failed = [row for row in cases + tools if not row["passed"]]
    written = {
        "device": str(cuda.device(0)), "date": arguments.date,
        "command": " ".join(["python", *sys.argv]), "cases": cases, "sanitizer": tools,
    }  # fmt: skip
    Path(arguments.out).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"{len(cases)} runs of cases, {len(tools)} under a sanitizer, {len(failed)} failed")
    for row in failed:
        print(row)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
