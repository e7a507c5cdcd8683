"""Copying a kernel folds, shares and hoists, and changes nothing that can be seen."""

from __future__ import annotations

import numpy as np

from tests.compiler.translation import machine_run
from vm.compiler import pipeline
from vm.compiler.dead_code import remove_dead_code
from vm.compiler.rewrite import Rewriter
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime import reference


def copy_of(body: str, parameters: str = "C: out(global(i32))[N], n: i32, m: i32") -> Kernel:
    text = f"vm 1\nprogram p({parameters}) grid (1) threads 32\n{{\n{body}\n}}\n"
    return Rewriter(parse(text)["p"].instantiate()).run()


def opcodes(statements: list[Instruction]) -> list[str]:
    return [instruction.opcode for instruction in statements]


def test_arithmetic_leaves_loops():
    kernel = copy_of(
        "  for k in range(n) {\n    x = m * 4 + n\n"
        "    store(C[x + k +: 32], fill(x, i32, [32]))\n  }"
    )
    assert opcodes(kernel.body)[:2] == ["mul", "add"]
    (loop,) = [i for i in kernel.body if isinstance(i, control.For)]
    assert opcodes(loop.body) == ["add", "fill", "store"]


def test_the_same_is_computed_once():
    kernel = copy_of(
        "  x = m * 4\n  y = m * 4\n  print(x + y)\n  if n < 3 {\n    print(m * 4)\n  }"
    )
    assert opcodes(list(control.walk(kernel.body))).count("mul") == 1


def test_what_is_computed_in_a_branch_is_not_known_behind_it():
    """Of `k * 2` only what stands in the branch can be shared there."""
    body = "  if n < 3 {\n    k = load_scalar(A[n])\n    print(k * 2)\n    print(k * 2)\n  }\n"
    kernel = copy_of(body + "  print(load_scalar(A[n]) * 2)", "A: global(i32)[N], n: i32")
    (branch,) = [i for i in kernel.body if isinstance(i, control.If)]
    assert opcodes(branch.then).count("mul") == 1
    assert opcodes(kernel.body).count("mul") == 1


def test_variables_are_not_hoisted_or_shared():
    kernel = copy_of("  var k = 0\n  while k < n {\n    k := k + 1\n    print(k * 2)\n  }\n"
                     "  print(k * 2)")  # fmt: skip
    everything = opcodes(list(control.walk(kernel.body)))
    assert everything.count("mul") == 2
    assert "mul" not in opcodes(kernel.body)[:2]


def test_a_division_that_may_fail_stays_where_it_is():
    kernel = copy_of("  if n > 0 {\n    print(m / n)\n  }\n  if n > 1 {\n    print(m / 2)\n  }")
    assert opcodes(kernel.body).count("div") == 1  # by 2


def test_neutral_operands_and_constants_vanish():
    kernel = copy_of(
        "  x = (m + 0) * 1\n  y = x + 3 - 5\n  z = y * 2 * 8\n  print(z + m * 0)"
    )
    total, product, _ = control.walk(remove_dead_code(kernel).body)
    sign = {"add": 1, "sub": -1}[total.opcode]
    assert sign * total.y.value == -2
    assert (product.opcode, product.y.value) == ("mul", 16)


def test_a_copy_means_the_same():
    body = (
        "  var total = 0\n"
        "  for k in range(n) {\n"
        "    x = (m + 7) * 3 - k\n"
        "    if x % 5 < 2 {\n"
        "      total := total + x / 3\n"
        "    } else {\n"
        "      total := total - (m + 7) * 3\n"
        "    }\n"
        "  }\n"
        "  store(C[0 +: 32], fill(total, i32, [32]))\n"
    )
    header = "vm 1\nprogram p(C: out(global(i32))[N], n: i32, m: i32) grid (1) threads 32\n"
    kernel = parse(f"{header}{{\n{body}}}\n")["p"].instantiate()
    copied = Rewriter(kernel).run()
    for n, m in ((0, 1), (5, -4), (9, 2**31 - 3)):
        values = {"C": Tensor.from_values("i32", np.zeros(32, np.int32)), "n": n, "m": m}
        before, after = machine_run(kernel, values), machine_run(copied, values)
        assert np.array_equal(before["C"].codes(), after["C"].codes())


def test_what_a_group_needs_does_not_come_between_it_and_the_one_beside_it():
    """Statements between groups would end the first before the second begins."""
    text = """vm 1
program p(A: global(f32)[M, N], C: out(global(f32))[M, N]) grid (1) threads 64 {
  go = mbarrier_alloc([1])
  group one(warps=1) { mbarrier_wait(go[0], 0) }
  group two(warps=1) {
    for i in range(N / 7) { store(C[i, 0 +: 32], load(A[i, 0 +: 32])) }
    mbarrier_arrive(go[0])
  }
}
"""
    lowered = pipeline.lower(parse(text)["p"].instantiate(), pipeline.target("sm_90a")).kernel
    kinds = [isinstance(each, control.Group) for each in lowered.body]
    assert kinds[-2:] == [True, True] and sum(kinds) == 2
    a = np.ones((5, 63), np.float32)
    reference.run(lowered, {"A": a, "C": None})
