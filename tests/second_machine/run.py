"""Runs an exported suite on the second machine: `python -m tests.second_machine.run DIR`."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from tests.second_machine.machine import Launch, Memory, Trap, number, strides_of
from tests.second_machine.numbers import type_of

LACKS = {"nvidia", "amd", "races", "deadlocks", "semaphores"}
NO_RUN = {"assert_malformed", "assert_invalid", "assert_text", "assert_layout",
          "assert_race", "assert_deadlock", "assert_unsupported"}  # fmt: skip


def memory_of(folder: Path, found: dict) -> Memory:
    """A tensor of the export in memory."""
    codes = np.load(folder / found["array"]).reshape(-1).tolist()
    kind, shape = type_of(found["dtype"]), found["shape"]
    strides = strides_of(kind, shape, True)
    bits = strides[0] * shape[0] if shape else kind.bits
    memory = Memory(bytearray(-(-bits // 8)), kind, shape, strides)
    for code, index in zip(codes, np.ndindex(*shape), strict=True):
        memory.put(index, code)
    return memory


def codes_of(memory: Memory) -> list[int]:
    return [memory.code(index) for index in np.ndindex(*memory.shape)]


def ulp(kind, value: float) -> float:
    exponent = max(math.frexp(value)[1] - 1, 1 - kind.bias) if value else 1 - kind.bias
    return math.ldexp(1.0, exponent - kind.m)


def allowed(bound: dict, kind, value: float, magnitude: float) -> float:
    """Rule Num/bound, as far as the suite uses it."""
    if bound["name"] == "ulp":
        return bound["arguments"][0] * ulp(kind, value)
    operand, accumulator, terms = bound["arguments"]
    wide = type_of(accumulator)
    epsilon = math.ldexp(1.0, -13 if type_of(operand).bits == 8 else -wide.m)
    gamma = terms * epsilon / (1 - terms * epsilon)
    return gamma * magnitude + terms * wide.magnitude(1) + ulp(kind, abs(value)) / 2


def wrong(got: Memory, want: Memory, magnitudes: list | None, bound: dict | None) -> str:
    """What differs (rule Text/equal); empty where nothing does. What a reference gives, which is
    what has magnitudes, is compared by value."""
    by_value = bound is not None or magnitudes is not None
    if got.shape != want.shape or not (by_value or got.kind.name == want.kind.name):
        return f"{got.kind.name}{got.shape} instead of {want.kind.name}{want.shape}"
    for at, (g, w) in enumerate(zip(codes_of(got), codes_of(want), strict=True)):
        x, y = got.kind.value(g), want.kind.value(w)
        same = x == y if by_value else g == w
        nan = isinstance(x, float) and math.isnan(x) and math.isnan(y)
        if same or nan:
            continue
        magnitude = abs(y) if magnitudes is None else magnitudes[at]
        if bound is None or not abs(x - y) <= allowed(bound, got.kind, y, magnitude):
            return f"element {at} is {x} (code {g:#x}) instead of {y}"
    return ""


class Suite:
    """One file of the export."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.document = folder, json.loads((folder / name).read_text())

    def argument(self, given, results: list):
        if given is None:
            return None
        if "result" in given:
            step, place = given["result"]
            return results[step][place]
        if "number" in given:
            return number(given["number"])
        return memory_of(self.folder, given)

    def check(self, assertion: dict) -> str:
        """What is wrong with an assertion; empty if it holds."""
        results: list = []
        try:
            for step in assertion["steps"]:
                kernel = self.document["kernels"][step["kernel"]]
                given = {n: self.argument(a, results) for n, a in step["arguments"].items()}
                copies = {n: Memory(bytearray(a.data), a.kind, a.shape, a.strides)
                          if isinstance(a, Memory) else a for n, a in given.items()}  # fmt: skip
                results.append(Launch(kernel, copies).run())
        except Trap as trap:
            code, place = trap.args
            if assertion.get("code") != code:
                return f"{code} at {place}"
            wanted = assertion["place"]
            return "" if place[: len(wanted)] == wanted else f"at {place}"
        if "results" not in assertion:
            return f"no fault instead of {assertion['code']}"
        for each in assertion["results"]:
            got, want = (self.argument(each[side], results) for side in ("got", "want"))
            magnitudes = None
            if "magnitude" in each["want"]:
                file = self.folder / each["want"]["magnitude"]
                magnitudes = np.load(file).view(np.float64).reshape(-1).tolist()
            if found := wrong(got, want, magnitudes, assertion["bound"]):
                return found
        return ""


def run(folder: Path) -> tuple[Counter, list[str]]:
    """Counts of pass, fail and skip, and what failed."""
    counts, failures = Counter(), []
    for name in json.loads((folder / "index.json").read_text())["files"]:
        suite = Suite(folder, name)
        for test in suite.document["tests"]:
            for assertion in test["assertions"]:
                code = assertion.get("code") or ""
                if assertion["directive"] in NO_RUN or set(test["needs"]) & LACKS or code in (
                    "E0306", "E0509"
                ):  # fmt: skip
                    counts["skip"] += 1
                    continue
                found = suite.check(assertion)
                counts["fail" if found else "pass"] += 1
                if found:
                    failures.append(f"{name}:{assertion['line']} {test['name']}: {found}")
    return counts, failures


if __name__ == "__main__":
    counts, failures = run(Path(sys.argv[1]))
    print("\n".join(failures))
    print(dict(counts))
