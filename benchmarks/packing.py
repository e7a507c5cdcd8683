"""How fast `vm.pack` and `vm.unpack` are on one core, for every width.

    python -m benchmarks.packing        prints the table, writes benchmarks/results/packing.json

GB/s of codes in arrays: one byte for each of up to 8 bits, then 2, 4 and 8. The best of several
runs over 2^24 bytes of random codes, in seconds of the process and not of the clock, so that other
work on the machine counts least.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vm.isa.dtypes import dtype
from vm.isa.packing import pack, unpack

RESULT = Path(__file__).parents[1] / "benchmarks" / "results" / "packing.json"
BYTES = 1 << 24
REPETITIONS = 7
LEAST = {4: 0.4}
"""GB/s that packing is to reach, and for every other width `LEAST_OTHERWISE`."""
LEAST_OTHERWISE = 0.1


def best(action: Callable[[], Any]) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(REPETITIONS):
        begin = time.process_time()
        action()
        times.append(time.process_time() - begin)
    return min(times)


def measured(bits: int) -> dict[str, float]:
    """GB/s of both ways for one width; raises AssertionError where codes do not come back."""
    kind = dtype(f"u{bits}")
    size = BYTES // kind.storage.itemsize
    random = np.random.default_rng(bits)
    codes = random.integers(0, 1 << bits, size, dtype=np.uint64).astype(kind.storage)
    packed = pack(codes, kind)
    assert np.array_equal(unpack(packed, kind, size), codes)
    return {"bits": bits, "pack": round(BYTES / best(lambda: pack(codes, kind)) / 1e9, 3),
            "unpack": round(BYTES / best(lambda: unpack(packed, kind, size)) / 1e9, 3)}  # fmt: skip


def main() -> int:
    rows = [measured(bits) for bits in range(1, 64)]
    print("bits  pack GB/s  unpack GB/s")
    for row in rows:
        print(f"{row['bits']:4}  {row['pack']:9.2f}  {row['unpack']:11.2f}")
    slow = [
        row["bits"]
        for row in rows
        if min(row["pack"], row["unpack"]) < LEAST.get(row["bits"], LEAST_OTHERWISE)
    ]
    print(f"too slow: {slow}" if slow else "4 bits reach 0.4 GB/s, all others 0.1")
    result = {
        "command": "python -m benchmarks.packing",
        "machine": platform.processor() or platform.machine(),
        "numpy": np.__version__, "bytes": BYTES, "widths": rows,
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
