"""How long the W4A16 matmul takes without a GPU: reading, printing, checking, running.

    python -m benchmarks.front_end        writes benchmarks/results/front_end.json

Times are the median of warm repetitions in one process, in milliseconds; `first_parse` is that of
a fresh process after its imports, which builds the parser's tables. Processor time is counted, so
that what else the machine does adds little; runs are those of the reference machine with all
checks, by the sizes M x N x K of the product.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vm.isa.control import walk
from vm.isa.instantiate import instantiate
from vm.isa.kernel import Kernel
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.isa.verify import verify
from vm.runtime import reference

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "programs" / "matmul_w4a16.vm"
RESULT = ROOT / "benchmarks" / "results" / "front_end.json"
REPETITIONS = 50
RUNS = 5
SIZES = ((64, 1024, 1024), (512, 512, 512))

_FIRST = """
import sys, time
begin = time.process_time()
from vm.isa.program import parse
imported = time.process_time()
parse(open(sys.argv[1]).read())
print(imported - begin, time.process_time() - imported)
"""


def median(action: Callable[[], Any], repetitions: int = REPETITIONS) -> float:
    """Milliseconds of one warm call."""
    action()
    times = []
    for _ in range(repetitions):
        begin = time.process_time()
        action()
        times.append(time.process_time() - begin)
    return round(1000 * statistics.median(times), 3)


def run(kernel: Kernel, M: int, N: int, K: int) -> float:
    """Milliseconds of one run on the reference machine."""
    tensors = {
        name: Tensor.from_codes(of, np.zeros(shape, np.uint16))
        for name, of, shape in (
            ("A", "f16", (M, K)), ("P", "u8", (K // 64, N // 128, 4096)),
            ("S", "f16", (K // 128, N)), ("Z", "u4", (K // 128, N)), ("C", "f16", (M, N)),
        )
    }  # fmt: skip
    return median(lambda: reference.run(kernel, tensors), RUNS)


def first() -> tuple[float, float]:
    """Milliseconds of the imports and of the first parse, the median of five processes."""
    runs = []
    for _ in range(5):
        command = [sys.executable, "-c", _FIRST, str(PROGRAM)]
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        runs.append([1000 * float(part) for part in output.stdout.split()])
    imports, parses = zip(*runs, strict=True)
    return round(statistics.median(imports), 1), round(statistics.median(parses), 1)


def measure() -> dict[str, Any]:
    """Every time, with what it was measured on."""
    text = PROGRAM.read_text(encoding="utf-8")
    module = parse(text)
    program = module["matmul"]
    kernel = program.instantiate()
    imports, first_parse = first()
    return {
        "program": str(PROGRAM.relative_to(ROOT)),
        "lines": text.count("\n"),
        "instructions": len(list(walk(kernel.body))),
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "repetitions": REPETITIONS,
        "milliseconds": {
            "imports": imports,
            "first_parse": first_parse,
            "parse": median(lambda: parse(text)),
            "print": median(lambda: str(module)),
            "instantiate": median(lambda: instantiate(program.definition, program.constants, {})),
            "verify": median(lambda: verify(kernel)),
            "run": {f"{M}x{N}x{K}": run(kernel, M, N, K) for M, N, K in SIZES},
        },
    }


if __name__ == "__main__":
    found = measure()
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
