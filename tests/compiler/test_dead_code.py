"""What nobody reads goes; what has an effect stays."""

from __future__ import annotations

from vm.compiler.dead_code import remove_dead_code
from vm.isa import control
from vm.isa.kernel import Kernel
from vm.isa.program import parse


def kept(body: str) -> list[str]:
    parameters = "A: global(f32)[N], C: inout(global(f32))[N], n: i32"
    text = f"vm 1\nprogram p({parameters}) grid (1) threads 32\n{{\n{body}\n}}\n"
    kernel: Kernel = remove_dead_code(parse(text)["p"].instantiate())
    return [instruction.opcode for instruction in control.walk(kernel.body)]


def test_chains_of_unread_values_go():
    assert kept("  x = n + 1\n  y = x * 2\n  z = fill(y, i32, [32])\n  synchronize()") == [
        "synchronize"
    ]


def test_what_is_read_stays():
    assert kept("  x = n + 1\n  y = x * 2\n  print(x)") == ["add", "print"]


def test_effects_stay_with_what_they_read():
    assert kept("  x = load(A[0 +: 32])\n  store(C[0 +: 32], x)") == ["load", "store"]
    body = "  y = atomic(C[0], 1.0)\n  assert(n < 3)\n  s = shared_alloc(f32, [4])\n  store(s, 0.0)"
    assert {"atomic", "assert", "store", "shared_alloc"} <= set(kept(body))


def test_variables_that_are_read_in_the_next_turn_stay():
    body = "  var x = 0\n  for k in range(n) {\n    print(x)\n    x := k\n  }"
    assert kept(body).count("copy") == 2


def test_blocks_are_looked_into():
    body = "  if n < 3 {\n    x = n * 5\n    print(n)\n  } else {\n    y = n * 7\n  }\n"
    assert kept(body) == ["lt", "if", "print"]
    assert kept("  group one(warps=1) {\n    x = n * 5\n    synchronize()\n  }") == [
        "group", "synchronize",
    ]  # fmt: skip
