"""What warps do together: matrices to shared memory, and votes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler import translation
from vm.compiler import pipeline
from vm.compiler.facts import ALIGNED
from vm.isa import control
from vm.isa.program import parse
from vm.runtime import reference, sass
from vm.runtime.cache import Cache
from vm.runtime.compiled import cubin_of, run_on_emulator

# Row r of matrix w is where a fragment of C has it, or its transpose, in each of two warps; the
# shared tile is stored whole and, as a stage of a ring, in parts.
TEXT = """vm 1
program both(A: global(f16)[32, 64], n: i32, C: out(global(f16))[2, 32, 64])
  grid (1) threads 64
{
  s = shared_alloc(f16, [3, 32, 64])
  for i in range(2) {
    store(s[i + n], load(A, layout=spatial(2, 1) * local(2, 8) * spatial(8, 4) * local(1, 2)))
    synchronize()
    store(C[i], load(s[i + n]))
    synchronize()
    store(s[n], load(A, layout=spatial(1, 2) * local(4, 4) * column_spatial(4, 8) * local(2, 1)))
    synchronize()
    store(C[i], load(s[n]) + load(s[i + n]))
    synchronize()
  }
}
"""


def test_fragments_are_stored_by_matrices(tmp_path):
    kernel = parse(TEXT)["both"].instantiate()
    target = pipeline.target("sm_90a")
    lowered = pipeline.lower(kernel, target, ALIGNED).kernel
    stored = [i for i in control.walk(lowered.body) if i.opcode == "nv.stmatrix"]
    assert {(i.count, i.transposed) for i in stored} == {(4, False), (4, True)}
    assert len(stored) == 2 * 4  # 16 matrices of each warp in each of the two layouts, 4 at once
    a = np.random.default_rng(5).normal(size=(32, 64)).astype("f2")
    given = {"A": a, "n": 1, "C": np.zeros((2, 32, 64), "f2")}
    expected = reference.run(kernel, translation.copied(given)).outputs
    translation.assert_same("lowered", expected, reference.run(lowered, dict(given)).outputs)
    emulated = run_on_emulator(kernel, dict(given), target_name="sm_90a", optimization=0).outputs
    translation.assert_same("emitted", expected, emulated)
    text = sass.disassemble(cubin_of(kernel, "sm_90a", ALIGNED, Cache(tmp_path)).payload)
    assert sass.instruction_counts(text, r"STSM\.16\.M88\.4").total()
    assert sass.instruction_counts(text, r"STSM\.16\.MT88\.4").total()


VOTE = """vm 1
program p(A: global(f32)[8, 256], C: out(global(bool))[8, 2]) grid (1) threads 128 {
  x = load(A, layout=spatial(2, 1) * local(4, 1) * spatial(1, 64) * local(1, 4))
  store(C[:, 0 +: 1], reduce(x > 0.0, 1, op="any"))
  store(C[:, 1 +: 1], reduce(x > -3.0, 1, op="all"))
}
"""


@pytest.mark.parametrize(("target", "width"), [("sm_80", 32), ("gfx942", 64)])
def test_whole_warps_vote(target, width):
    # Tests rule Exec/amd.vote.
    kernel = parse(VOTE)["p"].instantiate(warp_width=width)
    lowered = pipeline.lower(kernel, pipeline.target(target), ALIGNED).kernel
    opcodes = [i.opcode.partition(".")[2] for i in control.walk(lowered.body)]
    assert "vote" in opcodes and "shuffle_xor" not in opcodes
    a = np.random.default_rng(2).normal(size=(8, 256)).astype("f4")
    given = {"A": a - 2.0, "C": np.zeros((8, 2), bool)}
    expected = np.stack([(a > 2).any(axis=1), (a > -1).all(axis=1)], axis=1)
    assert expected.any() and not expected.all()
    for got in (
        reference.run(lowered, dict(given)),
        run_on_emulator(kernel, dict(given), target_name=target),
    ):
        assert np.array_equal(got.outputs["C"].values(), expected)
