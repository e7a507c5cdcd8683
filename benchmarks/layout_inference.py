"""How long layout inference takes for every program of programs/, on one core.

    python -m benchmarks.layout_inference     writes benchmarks/results/layout_inference.json

Milliseconds of processor time. `first` is the call in a fresh process after its imports, when no
layout of a product has been computed yet; `again` is the median of warm calls.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vm.compiler.layouts import infer_layouts
from vm.isa.control import walk
from vm.isa.program import load

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "layout_inference.json"
REPETITIONS = 30
PROGRAMS = {
    "vector_add": "vector_add",
    "transpose": "transpose",
    "softmax": "softmax",
    "layer_norm": "layer_norm",
    "matmul_f16": "matmul",
    "matmul_w4a16": "matmul",
    "gemm_w4a16": "gemm",
}


def times(file: str, program: str) -> dict[str, Any]:
    """Of one program, in this process."""
    kernel = load(ROOT / "programs" / f"{file}.vm")[program].instantiate()
    found = []
    for _ in range(REPETITIONS + 1):
        begin = time.process_time()
        infer_layouts(kernel)
        found.append(1000 * (time.process_time() - begin))
    return {
        "instructions": len(list(walk(kernel.body))),
        "first": round(found[0], 2),
        "again": round(statistics.median(found[1:]), 2),
    }


def measure() -> dict[str, Any]:
    """Every program in a process of its own."""
    rows = {}
    for file, program in PROGRAMS.items():
        command = [sys.executable, "-m", "benchmarks.layout_inference", file, program]
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        rows[file] = {"program": program, **json.loads(output.stdout)}
    return {
        "unit": "milliseconds of processor time",
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "repetitions": REPETITIONS,
        "programs": rows,
    }


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(times(*sys.argv[1:])))
    else:
        RESULT.write_text(json.dumps(measure(), indent=2) + "\n", encoding="utf-8")
        print(RESULT.read_text(encoding="utf-8"))
