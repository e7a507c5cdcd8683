"""Tables that casts look up: for which kernels there are some, that they lie where nothing else
does, and that kernels with them mean the same, on the reference machine and on the emulator."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tests.compiler import translation
from vm.compiler.pipeline import lower, stages, target
from vm.compiler.table_memory import LEAST_NUMBERS, LEAST_THREADS
from vm.isa.control import walk
from vm.isa.kernel import Kernel
from vm.isa.nvidia_words import LookUp
from vm.isa.packing import pack_rows
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime import reference
from vm.runtime.compiled import run_on_emulator

emulator = partial(run_on_emulator, optimization=0)

ROUNDS = 3
LOOP = """vm 1
const SOURCE = nf4
program casts(X: global(SOURCE)[n, THREADS, 8], Y: out(global(f16))[n, THREADS, 8])
  grid (1) threads THREADS where HINTS
{
  for i in range(n) {
    x = load(X[i, 0 +: THREADS, 0 +: 8], layout=spatial(THREADS, 1).local(1, 8))
    store(Y[i, 0 +: THREADS, 0 +: 8], cast(x, f16))
  }
}
"""


def loop(threads: int = 128, source: str = "nf4", hints: str = "n >= 1", more: str = "") -> Kernel:
    """A program whose loop casts eight codes of each thread; `more` stands before the loop."""
    text = LOOP.replace("THREADS", str(threads)).replace("HINTS", hints)
    text = text.replace("SOURCE = nf4", f"SOURCE = {source}").replace("  for i", f"{more}  for i")
    return parse(text)["casts"].instantiate()


def look_ups(kernel: Kernel, name: str = "sm_80") -> list[LookUp]:
    return [i for i in walk(stages(kernel, target(name))["words"].body) if isinstance(i, LookUp)]


def assert_means_the_same(kernel: Kernel) -> None:
    """What is lowered gives what the kernel gives, and so does its C++."""
    generator = np.random.default_rng(0)
    arguments = {}
    for parameter in kernel.parameters:
        kind = parameter.type.dtype
        shape = (ROUNDS, *parameter.type.shape[1:])
        if parameter.type.access == "out":
            arguments[parameter.name] = Tensor(kind, shape, np.zeros(shape, kind.memory))
        else:
            codes = generator.integers(0, 1 << kind.bits, shape).astype(kind.storage)
            packed = pack_rows(codes.reshape(-1, shape[-1]), kind)
            arguments[parameter.name] = Tensor(kind, shape, packed.reshape(*shape[:-1], -1))
    wanted = reference.run(kernel, translation.copied(arguments)).outputs
    assert all(tensor.codes().any() for tensor in wanted.values())
    lowered = stages(kernel, target("sm_80"))["words"]
    for each, run in ((lowered, reference.run), (kernel, emulator)):
        found = run(each, translation.copied(arguments)).outputs
        translation.assert_same("tables", wanted, found)


CODEBOOK8 = "codebook([-2.0, -1.0, -0.25, 0.0, 0.5, 1.5, 3.0, 7.0], bf16)"


@pytest.mark.parametrize(("threads", "source"), [(128, "nf4"), (160, "nf4"), (288, CODEBOOK8)])
def test_tables_are_filled_by_all_threads(threads, source):
    """Also where the last stores are those of some threads alone."""
    kernel = loop(threads, source)
    assert look_ups(kernel)
    assert_means_the_same(kernel)


def test_a_table_lies_behind_what_a_kernel_has():
    more = "  s = shared_alloc(f16, [72])\n  store(s, fill(1.0, f16, [72]))\n  synchronize()\n"
    kernel = loop(more=more)
    lowered = lower(kernel, target("sm_80"))
    assert {i.address for i in look_ups(kernel)} == {256}  # of 144 bytes, to 128
    assert lowered.shared_bytes == 256 + 128 * 256
    assert lower(loop(source="f4e2m1", more=more), target("sm_80")).shared_bytes == 144


def test_one_table_for_all_casts_alike():
    kernel = parse(f"""vm 1
const SOURCE = {CODEBOOK8}
program casts(X: global(SOURCE)[n, 128, 8], Y: out(global(f16))[n, 128, 8],
              Z: out(global(f16))[n, 128, 8], W: out(global(bf16))[n, 128, 8])
  grid (1) threads 128
{{
  for i in range(n) {{
    x = load(X[i, 0 +: 128, 0 +: 8], layout=spatial(128, 1).local(1, 8))
    store(Y[i, 0 +: 128, 0 +: 8], cast(x, f16))
    y = load(X[i, 0 +: 128, 0 +: 8], layout=spatial(128, 1).local(1, 8))
    store(Z[i, 0 +: 128, 0 +: 8], cast(y, f16))
    store(W[i, 0 +: 128, 0 +: 8], cast(y, bf16))
  }}
}}
""")["casts"].instantiate()
    assert {i.address for i in look_ups(kernel)} == {0, 128 * 64}
    assert lower(kernel, target("sm_80")).shared_bytes == 2 * 128 * 64
    assert_means_the_same(kernel)


GROUPS = """vm 1
program casts(X: global(nf4)[n, 64, 8], Y: out(global(f16))[n, 2, 32, 8]) grid (1) threads 128 {
  ring = shared_alloc(nf4, [64, 8])
  group reads(warps=2) {
    for i in range(n) {
      if i > 0 { barrier(2, warps=4) }
      store(ring, load(X[i, 0 +: 64, 0 +: 8], layout=spatial(64, 1).local(1, 8)))
      barrier(1, warps=4)
    }
  }
  group casts(warps=1, copies=2) {
    k = group_index()
    for i in range(n) {
      barrier(1, warps=4)
      x = load(ring[32 * k +: 32, 0 +: 8], layout=spatial(32, 1).local(1, 8))
      store(Y[i, k, 0 +: 32, 0 +: 8], cast(x, f16))
      if i < n - 1 { barrier(2, warps=4) }
    }
  }
}
"""


def test_groups_that_wait_for_each_other():
    """Nothing comes between them."""
    kernel = parse(GROUPS)["casts"].instantiate()
    assert look_ups(kernel)
    assert_means_the_same(kernel)


ONCE = """vm 1
program casts(X: global(nf4)[1, 128, 8], Y: out(global(f16))[1, 128, 8]) grid (1) threads 128 {
  x = load(X[0, 0 +: 128, 0 +: 8], layout=spatial(128, 1).local(1, 8))
  store(Y[0, 0 +: 128, 0 +: 8], cast(x, f16))
}
"""
TURNS = """vm 1
program casts(X: global(nf4)[n, 128, 8], Y: out(global(f16))[n, 128, 8]) grid (1) threads 128 {
  for i in range(4) {
    for j in range(TURNS) {
      x = load(X[i + j, 0 +: 128, 0 +: 8], layout=spatial(128, 1).local(1, 8))
      store(Y[i, 0 +: 128, 0 +: 8], cast(x, f16))
    }
  }
}
"""
# What threads hold is the same by what they computed, and their layout does not say so.
COMPUTED = """vm 1
program casts(X: global(u8)[n, 32, 4], Y: out(global(f16))[n, 32, 8]) grid (1) threads 128 {
  for i in range(n) {
    x = load(X[i, 0 +: 32, 0 +: 4], layout=replicated(4) * spatial(32, 1) * local(1, 4))
    y = view(x, nf4, layout=spatial(128).local(8))
    z = nv.dequantize(y, f16, [0, 1, 2, 3, 4, 5, 6, 7],
                      replicated(4) * spatial(32, 1) * local(1, 8))
    store(Y[i, 0 +: 32, 0 +: 8], z)
  }
}
"""


def test_who_has_no_tables():
    assert not look_ups(parse(ONCE)["casts"].instantiate())  # no loop
    assert not look_ups(loop(threads=LEAST_THREADS - 32))
    assert not look_ups(loop(source="f4e2m1"))


def test_a_table_has_to_be_read_often_enough():
    for turns in (2, 3, 4, 5):
        kernel = parse(TURNS.replace("TURNS", str(turns)))["casts"].instantiate()
        assert bool(look_ups(kernel)) == (4 * turns * 8 >= LEAST_NUMBERS)


def test_a_cast_that_is_made_number_by_number_has_no_table():
    kernel = parse(COMPUTED)["casts"].instantiate()
    assert not look_ups(kernel)
    assert lower(kernel, target("sm_80")).shared_bytes == 0
    assert_means_the_same(kernel)


@pytest.mark.parametrize(("name", "shared"), [("sm_80", 164), ("sm_90a", 228)])
def test_room_for_the_blocks_that_are_asked_for(name, shared):
    """Of `shared` KiB a block with a table takes 32, and 1 that the system has."""
    most = shared // 33
    for resident in (most, most + 1):
        kernel = loop(hints=f"n >= 1, resident({resident})")
        assert bool(look_ups(kernel, name)) == (resident == most)


def with_shared(size: int, threads: int = 128) -> Kernel:
    """With so many KiB of its own."""
    more = f"  s = shared_alloc(u32, [{256 * size}])\n"
    more += "  store(s[0 +: 1024], fill(1, u32, [1024]))\n  synchronize()\n"
    return loop(threads, more=more)


@pytest.mark.parametrize(
    ("beside", "has"), [(8, True), (9, False), (81, False), (82, True), (131, True), (132, False)]
)
def test_tables_do_not_take_the_place_of_blocks(beside, has):
    """4 blocks of 4 warps are as good as more, and one block, beside which there is no room for a
    second, loses nothing."""
    assert bool(look_ups(with_shared(beside))) == has


@pytest.mark.parametrize(
    ("name", "threads", "has"),
    [("sm_89", 128, False), ("sm_89", 192, True), ("sm_120", 256, True), ("sm_90a", 1024, True)],
)
def test_blocks_that_are_left_have_warps_enough(name, threads, has):
    """Of 99 KiB 3 blocks with a table have room, which must have 16 warps together."""
    assert bool(look_ups(loop(threads), name)) == has
    assert bool(look_ups(with_shared(36, 1024), "sm_90a"))
