"""The prelude under NVRTC, with no GPU: all compiles, and becomes the right instructions."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.compiler.prelude import (
    arithmetic_battery,
    cast_battery,
    matmul_battery,
    memory_battery,
    warp_battery,
)
from vm.runtime.emulator import PRELUDE
from vm.runtime.nvrtc import Compiled, compile_cubin, resource_usage
from vm.runtime.sass import code_of, disassemble, instruction_counts

BATTERIES = {
    **{name: cast_battery.BATTERIES[name] for name in ("half_sources", "f32_ieee", "fast_paths")},
    **{
        name: arithmetic_battery.BATTERIES[name]
        for name in (
            "indices",
            "float_f16",
            "float_bf16",
            "float_f64",
            "float_f6e3m2",
            "integer_i3",
            "functions_f32",
        )
    },
    **memory_battery.BATTERIES,
    **warp_battery.BATTERIES,
    **matmul_battery.BATTERIES,
}


@cache
def compiled(source: str, kernel: str, target: str) -> Compiled:
    return compile_cubin(source, target, kernel, [f"-I{PRELUDE}"])


@cache
def text_of(name):
    return BATTERIES[name]()


# sm_89 differs from sm_80 in its f8 instructions alone; what needs sm_90 is compiled for it alone.
CASES = [
    *((name, "sm_90a") for name in BATTERIES),
    *((name, "sm_89") for name in ("half_sources", "f8_products")),
    *(
        (name, "sm_80")
        for name in BATTERIES
        if name not in ("f8_products", "stored_matrices", "bulk_copies")
    ),
]


@pytest.mark.parametrize("name, target", CASES)
def test_compiles_without_local_memory(name, target):
    """All registers of all kernels stay registers: no kernel has a stack, nothing is warned of."""
    text = text_of(name)
    result = compiled(text.source, text.launches[0].kernel, target)
    assert "warning" not in result.log
    stacks = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill", result.log)
    assert stacks and set(stacks) == {("0", "0")}


def kernel(body: str, kind: str = "vm_f16", count: int = 8) -> str:
    """A kernel with registers x (loaded), y (stored) and `body`."""
    words = f"vm_register<{kind}, {count}>::count"
    return f"""#include "vm.h"
VM_KERNEL(k, 128, 1)(unsigned char* a, unsigned char* b, int n) {{
  VM_SHARED(4096);
  vm_register<{kind}, {count}> x;
  VM_UNROLL for (int i = 0; i < {words}; i++)
    vm_load_global<4>(x.words, 4 * i, a + VM_THREAD * 64 + 4 * i);
  {body}
  VM_UNROLL for (int i = 0; i < y.count; i++)
    vm_store_global<4>(b + VM_THREAD * 64 + 4 * i, y.words, 4 * i);
}}"""


def cast(source: str, target: str, count: int = 8) -> str:
    return kernel(f"vm_register<{target}, {count}> y;\n  vm_cast(y, x);", source, count)


def call(result: str, body: str, kind: str = "vm_f16") -> str:
    """A kernel whose registers y of type `result` come from `body`."""
    return kernel(f"vm_register<{result}> y;\n  {body}", kind)


MULTIPLY = "vm_fill(y, 0);\n  vm_mma_m16n8"
OPERANDS = "(y.words, x.words, x.words);"

# A text and a target; instructions that must be there, by the beginning of their names, and how
# often at least; and such as must not.
EXPECTED = [
    (cast("vm_u4", "vm_f16"), "sm_80", {"LOP3": 4, "HADD2": 2, "HFMA2": 2, "PRMT": 4}, "I2F|F2F"),
    (cast("vm_i8", "vm_bf16"), "sm_80", {"PRMT": 6, "FADD": 8}, "I2F"),
    (cast("vm_f8e4m3", "vm_f16"), "sm_90a", {"F2FP.*E4M3": 4}, "FMUL"),
    (cast("vm_f32", "vm_f16"), "sm_80", {"F2FP": 4}, r"FMNMX|F2F\."),
    (cast("vm_f32", "vm_bf16"), "sm_90a", {"F2FP.*BF16": 4}, r"FMNMX|F2F\."),
    (cast("vm_f32", "vm_f8e4m3"), "sm_89", {"F2FP.*E4M3": 4}, "FMNMX"),
    (cast("vm_f16", "vm_f32"), "sm_80", {r"HADD2\.F32": 8}, r"F2F\."),
    (cast("vm_f8e5m2", "vm_f16"), "sm_80", {"PRMT": 4}, r"F2F\.|HMUL|FMUL"),
    (cast("vm_float<6, 3, 2>", "vm_f16", 16), "sm_80", {"HMUL2|HFMA2": 8}, r"I2F|F2F\.|FMUL"),
    (call("vm_f16, 8", "vm_add(y, x, x);"), "sm_80", {"HADD2|HFMA2": 4}, r"HADD2\.F32"),
    (
        call("vm_f16, 8", "vm_mul(y, x, x); vm_add(y, y, x);"),
        "sm_80", {"HMUL2|HADD2|HFMA2": 8}, r"F2F\.",
    ),
    (call("vm_f16, 8", "vm_fma(y, x, x, x);"), "sm_80", {"HFMA2": 4}, r"HMUL2|F2F\."),
    (
        call("vm_bf16, 8", "vm_mul(y, x, x);", "vm_bf16"),
        "sm_90a", {r"H\w+2.*BF16": 4}, "FMUL",
    ),
    (
        call("vm_f32, 8", "vm_mul(y, x, x); vm_add(y, y, x);", "vm_f32"),
        "sm_90a", {"FMUL": 8, "FADD": 8}, "FFMA",
    ),
    (
        call("vm_f32, 4", "vm_load_global<16, vm_cache_streaming>(y.words, 0, a + n);"),
        "sm_80", {r"LDG\.E\.EF\.128": 1}, "WARPSYNC",
    ),
    (
        call("vm_f32, 4",
             "vm_load_global<16, vm_cache_constant_stream>(y.words, 0, a + n, n > 3);"),
        "sm_90a", {r"LDG\.E\.NA\.LTC256B\.128\.CONSTANT": 1}, "WARPSYNC",
    ),
    (
        call("vm_f32, 4", "vm_store_shared<16>(n, x.words, 0);\n"
             "  vm_load_shared<16>(y.words, 0, n + 64);"),
        "sm_80", {r"STS\.128": 1, r"LDS\.128": 1}, r"ST\.E",
    ),
    (
        call("vm_f32, 4", "vm_copy_async<16>(n, a, n > 0); vm_commit_async(); vm_wait_async<0>();\n"
             "  vm_load_shared<16>(y.words, 0, n);"),
        "sm_80", {r"LDGSTS\.E\.BYPASS.*128": 1, "LDGDEPBAR": 1, "DEPBAR": 1}, "WARPSYNC",
    ),
    (
        call("vm_f32, 4", "vm_mbarrier_wait(n, 1); vm_copy_bulk(n, a, 1024, 8); vm_fill(y, 0);"),
        "sm_90a", {"UBLKCP": 1, r"SYNCS\.PHASECHK": 1}, "UTMA",
    ),
    (
        call("vm_f16, 8", "y = x; vm_stmatrix<4, true>(n, x.words);"),
        "sm_90a", {r"STSM\.16\.MT88\.4": 1}, r"STS\.",
    ),
    (
        call("vm_f16, 8", "vm_ldmatrix<4, true>(y.words, n);"),
        "sm_80", {r"LDSM\.16\.MT88\.4": 1}, r"LDS\.",
    ),
    (
        call("vm_i32, 4", f"{MULTIPLY}k32<vm_u8, vm_i8, vm_i32>{OPERANDS}"),
        "sm_80", {r"IMMA\.16832\.U8\.S8": 1}, "IDP",
    ),
    (
        call("vm_f32, 4", f"{MULTIPLY}k8<vm_tf32, vm_tf32, vm_f32>{OPERANDS}"),
        "sm_80", {r"HMMA\.1688\.F32\.TF32": 1}, "FFMA",
    ),
    (
        call("vm_f32, 4", f"{MULTIPLY}k32<vm_f8e4m3, vm_f8e5m2, vm_f32>{OPERANDS}"),
        "sm_89", {r"QMMA\.16832\.F32\.E4M3\.E5M2": 1}, "HMMA",
    ),
    (
        call("vm_f16, 8", "vm_shuffle_xor(y, x, 4);"),
        "sm_90a", {r"SHFL\.BFLY": 4}, r"SHFL\.IDX",
    ),
    (
        call("vm_f16, 8", "y = x; vm_barrier(3, 64);\n"
             "  vm_reduce_global<vm_atomic_add, vm_pair<vm_f16>>(a, x.words);"),
        "sm_90a", {r"REDG?\.E\.ADD\.F16x2": 1, r"BAR\.SYNC": 1}, "CAS|ATOMG",
    ),
]  # fmt: skip


@cache
def expected_codes(target: str) -> tuple[str, dict[int, str]]:
    """What ptxas says of the texts for a target, compiled together as kernels k0, k1, ..., and the
    code of each: the disassembler takes as long for one as for all."""
    texts = {n: text for n, (text, of, *_) in enumerate(EXPECTED) if of == target}
    kernels = [text.replace("VM_KERNEL(k,", f"VM_KERNEL(k{n},") for n, text in texts.items()]
    result = compiled("\n".join(kernels), f"k{next(iter(texts))}", target)
    sass = disassemble(result.cubin)
    return result.log, {n: code_of(sass, f"k{n}") for n in texts}


@pytest.mark.parametrize("number", range(len(EXPECTED)))
def test_instructions(number):
    _, target, wanted, unwanted = EXPECTED[number]
    log, codes = expected_codes(target)
    sass = codes[number]
    assert resource_usage(log, f"k{number}")[2] == 0  # bytes of local memory
    for pattern, least in wanted.items():
        found = instruction_counts(sass, pattern).total()
        assert found >= least, f"{found} of {pattern}:\n{sass}"
    assert not instruction_counts(sass, unwanted).total(), f"{unwanted}:\n{sass}"


@pytest.mark.parametrize("target", ("sm_80", "sm_90a"))
def test_matmul_stays_in_registers(target):
    for name, least in (("matmul_f16", 16), ("matmul_w4a16", 32)):
        result = compiled(text_of(name).source, name, target)
        sass = disassemble(result.cubin, name)
        assert result.local_bytes == 0 and result.registers <= 168
        counts = {
            p: instruction_counts(sass, p).total() for p in (r"LDGSTS.*128", "LDSM.*4", "HMMA")
        }
        assert counts["HMMA"] >= least and counts[r"LDGSTS.*128"] >= 4 and counts["LDSM.*4"] >= 8
        assert not instruction_counts(sass, "LDL|STL|I2F").total()
