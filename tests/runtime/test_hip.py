"""Code objects for AMD GPUs: clang with no ROCm and no GPU."""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

import pytest

from vm.__main__ import run as command
from vm.compiler.pipeline import compile_source, target
from vm.errors import InternalError, VmError
from vm.isa.program import load, parse
from vm.layouts import FRAGMENTS
from vm.runtime import compiled, hip
from vm.runtime.cache import Cache
from vm.runtime.emulator import PRELUDE

FOLDER = Path(__file__).parents[2] / "programs"
PROGRAMS = ("vector_add", "softmax", "layer_norm", "transpose", "matmul_f16", "matmul_w4a16")
ARCHITECTURES = {"gfx90a": 0x3F, "gfx942": 0x4C}
"""The low byte of an ELF header's flags: LLVM, "User Guide for AMDGPU Backend", EF_AMDGPU_MACH."""

# What the assembler says at its end, as clang writes it; two kernels, one after the other.
METADATA = """
	.amdgpu_metadata
---
amdhsa.kernels:
  - .agpr_count:     4
    .args:
      - .actual_access:  read_only
        .size:           8
    .group_segment_fixed_size: 0
    .name:           first
    .private_segment_fixed_size: 16
    .sgpr_count:     27
    .sgpr_spill_count: 1
    .vgpr_count:     34
    .vgpr_spill_count: 2
  - .agpr_count:     0
    .args:           []
    .group_segment_fixed_size: 0
    .name:           first_of_all
    .private_segment_fixed_size: 0
    .sgpr_count:     8
    .sgpr_spill_count: 0
    .vgpr_count:     5
    .vgpr_spill_count: 0
amdhsa.target:   amdgcn-amd-amdhsa--gfx942
"""


def test_resources_are_those_of_the_named_kernel():
    assert hip.resource_usage(METADATA, "first") == (34, 27, 16, 3)
    assert hip.resource_usage(METADATA, "first_of_all") == (5, 8, 0, 0)
    with pytest.raises(InternalError):
        hip.resource_usage(METADATA, "of_all")


def test_an_unknown_target_is_refused_before_anything_is_looked_for(monkeypatch):
    monkeypatch.setattr(hip, "toolchain", None)
    with pytest.raises(VmError) as caught:
        hip.compile_code_object("", "sm_80", "k")
    assert caught.value.code == "E0822"


@pytest.fixture
def fresh_toolchain():
    hip.toolchain.cache_clear()
    yield
    hip.toolchain.cache_clear()


def executable(folder: Path, name: str, line: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{line}'\n")
    path.chmod(0o755)


def test_the_newest_clang_with_a_linker_is_taken(tmp_path, monkeypatch, fresh_toolchain):
    monkeypatch.setattr(hip.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VmError) as caught:
        hip.toolchain()
    assert caught.value.code == "E0843"
    assert hip.INSTALL in str(caught.value)
    for name in ("clang", "clang-18", "clang-19", "clang-21"):
        executable(tmp_path, name, f"{name} version")
    for name in ("ld.lld", "ld.lld-18", "ld.lld-19"):
        executable(tmp_path, name, name)
    found = hip.toolchain()  # clang-21 has no linker
    assert found.clang == (str(tmp_path / "clang-19"),)
    assert found.linker == (str(tmp_path / "ld.lld-19"),)
    assert found.version == "clang-19 version"


def test_the_package_comes_before_the_path(monkeypatch, fresh_toolchain):
    monkeypatch.setattr(hip.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(hip.importlib.metadata, "version", lambda name: "0.99")
    found = hip.toolchain()
    assert found.version == "ziglang 0.99"
    assert found.clang[0] == found.linker[0] == sys.executable


def test_nothing_is_launched_yet():
    with pytest.raises(VmError) as caught:
        compiled.compile(load(FOLDER / "vector_add.vm")["vector_add"], "gfx942")
    assert caught.value.code == "E0844"


# --- with a compiler ---
def compiled_program(name: str, architecture: str) -> hip.Compiled:
    (program, *_) = (p for p in load(FOLDER / f"{name}.vm") if p.name in (name, "matmul"))
    made = compile_source(program.instantiate(warp_width=64), target(architecture))
    return hip.compile_code_object(
        made.source, architecture, made.manifest.kernel, (f"-I{PRELUDE}",)
    )


def assert_code_object(data: bytes, architecture: str) -> None:
    """A shared object of 64 bits for AMD GPUs and that architecture."""
    assert data[:5] == b"\x7fELF\x02"
    kind, machine = struct.unpack_from("<HH", data, 16)
    (flags,) = struct.unpack_from("<I", data, 48)
    assert (kind, machine, flags & 0xFF) == (3, 224, ARCHITECTURES[architecture])


# Instructions that have to be there, whatever the architecture calls them.
WANTED = {
    "vector_add": [r"global_load_(dword|b32)\b", r"global_store_(dword|b32)\b"],
    "softmax": [r"global_load_(dwordx4|b128)", r"ds_bpermute_b32", r"v_exp_f32"],
    "layer_norm": [r"global_load_(dwordx4|b128)", r"ds_bpermute_b32", r"v_(sqrt|rsq)_f32"],
    "transpose": [r"ds_(write|store)\w*_b", r"ds_(read|load)\w*_b", r"s_barrier"],
    "matmul_f16": [
        r"v_mfma_f32_16x16x16_?f16", r"global_load_(dwordx4|b128)", r"ds_(write|store)_b128",
    ],
    "matmul_w4a16": [r"v_mfma_f32_16x16x16_?f16", r"ds_(read|load)_b128"],
}  # fmt: skip


@pytest.mark.parametrize("architecture", hip.TARGETS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_become_code_objects(name, architecture):
    made = compiled_program(name, architecture)
    assert_code_object(made.code_object, architecture)
    for pattern in WANTED[name]:
        assert re.search(pattern, made.isa), pattern
    assert not re.search(r"^\s+(scratch|flat)_", made.isa, re.MULTILINE)
    assert made.spills == made.local_bytes == 0
    assert 4 <= made.registers <= 256 and made.scalar_registers <= 104


@pytest.mark.parametrize("architecture", hip.TARGETS)
def test_every_fragment_is_one_instruction(architecture):
    calls = []
    for row in target(architecture).fragments:
        kinds = ", ".join(f"vm_{kind}" for kind in row.dtypes[0][:3])
        calls.append(f"vm_{'_'.join(row.name.split('_')[:2])}<{kinds}>(c, a, b);")
    source = (
        '#include "vm.h"\nVM_KERNEL(k, 64, 1)(unsigned* x) {\n  unsigned a[2], b[2], c[16];\n'
        "  for (int i = 0; i < 2; i++) a[i] = x[i], b[i] = x[2 + i];\n"
        "  for (int i = 0; i < 16; i++) c[i] = x[4 + i];\n"
        + "".join(f"  {call}\n" for call in calls)
        + "  for (int i = 0; i < 16; i++) x[4 + i] = c[i];\n}\n"
    )
    isa = hip.compile_code_object(source, architecture, "k", (f"-I{PRELUDE}",)).isa
    found = {re.sub(r"_?(f16|bf16|i8)(_1k)?$", r" \1", name)
             for name in re.findall(r"^\s+(v_mfma_\w+)", isa, re.MULTILINE)}  # fmt: skip
    wanted = {
        f"v_mfma_{row.dtypes[0][3]}_{row.name.split('_')[1]} {row.dtypes[0][0]}"
        for row in FRAGMENTS.values()
        if row.name.startswith("mfma_") and (architecture == "gfx942" or row.dtypes[0][0] != "i8")
    }
    assert found == wanted


def test_products_and_sums_are_not_contracted():
    source = (
        'extern "C" __attribute__((global)) void k(float *x) '
        "{ x[0] = x[1] * x[2] + x[3]; }"
    )
    isa = hip.compile_code_object(source, "gfx942", "k").isa
    assert re.search(r"v_mul_f32|s_mul_f32", isa) and "fma" not in isa and "v_mac" not in isa


def test_source_that_is_refused_is_shown():
    with pytest.raises(InternalError) as caught:
        hip.compile_code_object("wrong_type x;", "gfx942", "k")
    assert "unknown type name 'wrong_type'" in str(caught.value)


def test_code_objects_are_kept(tmp_path, monkeypatch):
    text = ("vm 1\nprogram p(A: out(global(f32))[64]) grid (1) threads 64\n"
            "{ store(A[:], 1.0) }\n")  # fmt: skip
    kernel = parse(text)["p"].instantiate(warp_width=64)
    cache = Cache(tmp_path)
    first = compiled.code_object_of(kernel, "gfx942", "none", cache)
    assert_code_object(first.payload, "gfx942")
    assert first.metadata["spills"] == 0 and first.metadata["registers"] > 0
    monkeypatch.setattr(hip, "compile_code_object", None)
    assert compiled.code_object_of(kernel, "gfx942", "none", cache).payload == first.payload


def test_the_command_line_gives_each_form(tmp_path, capsys):
    asked = ["compile", str(FOLDER / "vector_add.vm"), "--target", "gfx90a", "--emit"]
    assert command([*asked, "source"]) == 0
    assert "VM_KERNEL(vm_kernel_vector_add, 128, 1)" in capsys.readouterr().out
    assert command([*asked, "isa"]) == 0
    assert '.amdgcn_target "amdgcn-amd-amdhsa--gfx90a"' in capsys.readouterr().out
    assert command([*asked, "hsaco", "-o", str(tmp_path / "k.hsaco")]) == 0
    assert_code_object((tmp_path / "k.hsaco").read_bytes(), "gfx90a")
