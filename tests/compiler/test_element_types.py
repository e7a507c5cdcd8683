"""What compiled kernels do with elements that C++ has no type for: codebooks, any number of bits,
roundings, random bits, tables, atomic halves."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler import translation
from vm.compiler import pipeline
from vm.compiler.emit import codebook_type
from vm.compiler.facts import NONE
from vm.errors import VmError
from vm.isa.dtypes import codebook, dtype
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime import nvrtc, reference
from vm.runtime.compiled import run_on_emulator
from vm.runtime.emulator import PRELUDE
from vm.runtime.reference_arguments import empty_tensor

# 64 threads, so that it is a program of both vendors; extents leave a part of a tile outside.
TEXT = """vm 1
const THREE = codebook([-2.0, 0.5, 3.0], f16)
program everything(Q: global(nf4)[N], B: global(THREE)[N], W: global(u40)[N], X: global(f32)[N],
                   I: global(i32)[N], U: global(u5)[N], T: global(f6e3m2)[8], seed: u16, z: bf16,
                   half: inout(global(f16))[N], brain: inout(global(bf16))[N],
                   q: out(global(nf4))[N], b: out(global(THREE))[N], w: out(global(u40))[N],
                   e: out(global(f8e5m2))[N], t: out(global(f16))[N], g: out(global(u5))[N],
                   l: out(global(f6e3m2))[N], r: out(global(u32))[N], s: out(global(f16))[N])
  grid (1) threads 64
{
  x = load(X[0 +: 128])
  store(q[0 +: 128], load(Q[0 +: 128]))
  store(b[0 +: 128], cast(x * 4.0, THREE, rounding="nearest_entry"))
  store(w[0 +: 128], relayout(load(W[0 +: 128]), spatial(64).local(2)))
  random = philox(seed, iota(i32, [128]) - 3, 5)
  store(r[0 +: 128], random)
  store(e[0 +: 128], cast(x, f8e5m2, rounding="stochastic", random=random))
  store(t[0 +: 128], cast(x, f16, rounding="toward_zero"))
  index = load(I[0 +: 128])
  store(g[0 +: 128], gather(U[0 +: 100], index))
  codes = cast(index & 7, u8)
  store(l[0 +: 128], lookup(codes, T))
  m = shared_alloc(f16, [128])
  store(m, cast(load(Q[0 +: 128]), f16))
  synchronize()
  before = atomic(m, cast(x, f16), op="max")
  synchronize()
  scatter(m, index, fill(1.0, f16, [128]), op="add")
  synchronize()
  store(s[0 +: 128], load(m) + before)
  first = atomic(half[0 +: 128], cast(x, f16), op="add")
  second = atomic(brain[0 +: 128], fill(z, bf16, [128]), op="exchange")
}
"""
COUNT = 101
FAMILIES = {"sm_80": 32, "gfx942": 64}


def arguments() -> dict[str, object]:
    random = np.random.default_rng(3)

    def drawn(name: str, count: int = COUNT) -> Tensor:
        kind = dtype(name)
        tensor = empty_tensor(kind, (count,))
        tensor.storage.view(np.uint8)[...] = random.integers(0, 256, tensor.storage.nbytes)
        return tensor

    three = codebook("codebook3_f16", [-2.0, 0.5, 3.0], "f16")
    return {
        "Q": drawn("nf4"), "B": empty_tensor(three, (COUNT,)), "W": drawn("u40"),
        "X": random.normal(size=COUNT).astype("f4"),
        "I": random.permutation(COUNT).astype("i4") % 100, "U": drawn("u5"),
        "T": drawn("f6e3m2", 8), "seed": 4711, "z": -0.15625,
        "half": random.normal(size=COUNT).astype("f2"),
        "brain": Tensor.from_values(dtype("bf16"), random.integers(0, 99, COUNT).astype("f4")),
    }  # fmt: skip


def outputs() -> dict[str, Tensor]:
    three = codebook("codebook3_f16", [-2.0, 0.5, 3.0], "f16")
    kinds = {"q": dtype("nf4"), "b": three, "w": dtype("u40"), "e": dtype("f8e5m2"),
             "t": dtype("f16"), "g": dtype("u5"), "l": dtype("f6e3m2"), "r": dtype("u32"),
             "s": dtype("f16")}  # fmt: skip
    return {name: empty_tensor(kind, (COUNT,)) for name, kind in kinds.items()}


@pytest.mark.parametrize(("target", "width"), FAMILIES.items())
def test_every_target_gives_the_bits_of_the_reference_machine(target, width):
    kernel = parse(TEXT)["everything"].instantiate(warp_width=width)
    given = {**arguments(), **outputs()}
    expected = reference.run(kernel, translation.copied(given)).outputs
    lowered = pipeline.lower(kernel, pipeline.target(target), NONE).kernel
    translation.assert_text(target, lowered)
    translation.assert_same(
        f"lowered for {target}", expected, reference.run(lowered, translation.copied(given)).outputs
    )
    emulated = run_on_emulator(
        kernel, translation.copied(given), target_name=target, optimization=0
    ).outputs
    translation.assert_same(f"emitted for {target}", expected, emulated)


def test_halves_are_added_by_an_instruction():
    kernel = parse(TEXT)["everything"].instantiate()
    made = pipeline.compile_source(kernel, pipeline.target("sm_90a"), NONE)
    compiled = nvrtc.compile_cubin(made.source, "sm_90a", made.manifest.kernel, (f"-I{PRELUDE}",))
    assert "red.relaxed.gpu.global.add.noftz.f16 " in compiled.ptx
    assert "red.relaxed.cta.shared.add.noftz.f16 " in compiled.ptx
    assert "atom.relaxed.cta.shared.cas.b16 " in compiled.ptx  # the maximum, whose result is read


def test_a_large_table_lies_in_memory():
    entries = ", ".join(str(float(3 * i % 256)) for i in range(256))
    kernel = parse(f"""vm 1
const LARGE = codebook([{entries}], f16)
program p(Q: global(LARGE)[N], C: out(global(f32))[N]) grid (1) threads 64 {{
  store(C[0 +: 256], cast(load(Q[0 +: 256]), f32))
}}
""")["p"].instantiate()
    made = pipeline.compile_source(kernel, pipeline.target("sm_80"))
    compiled = nvrtc.compile_cubin(made.source, "sm_80", made.manifest.kernel, (f"-I{PRELUDE}",))
    assert compiled.local_bytes == 0
    assert compiled.registers < 40
    codes = np.random.default_rng(1).permutation(256).astype("u1")
    given = {"Q": Tensor(kernel.parameters[0].type.dtype, (256,), codes)}
    got = run_on_emulator(kernel, {**given, "C": np.zeros(256, "f4")}).outputs["C"]
    assert np.array_equal(got.values(), (3 * codes.astype(int) % 256).astype("f4"))


def test_a_codebook_is_its_table_in_order():
    kind = codebook("codebook3_f16", [3.0, -2.0, 0.5], "f16")
    text = codebook_type(kind)
    assert "vm_codebook<2, vm_entries<0x40400000, 0xc0000000, 0x3f000000, 0x7fc00000>" in text
    # -0.75, the middle of -2 and 0.5, belongs to the lower code; 1.75 to code 0, which is 3.0.
    assert "vm_limits<0xbfe8000000000000ull, 0x3ffbffffffffffffull>, vm_ordered<1, 2, 0>" in text


def test_codebooks_without_a_name_are_no_scalar_parameters():
    text = """vm 1
const THREE = codebook([-2.0, 0.5, 3.0], f16)
program p(x: THREE, C: out(global(THREE))[N]) grid (1) threads 32 { store(C[0 +: 32], x) }
"""
    with pytest.raises(VmError) as caught:
        pipeline.compile_source(parse(text)["p"].instantiate(), pipeline.target("sm_80"))
    assert caught.value.code == "E0901"
    assert caught.value.origin.line == 3
