"""Disassembly of small kernels whose loops and instructions are known beforehand."""

import importlib.metadata
import shutil

import pytest

from vm.errors import InternalError, VmError
from vm.runtime import sass
from vm.runtime.nvrtc import TARGETS, compile_cubin
from vm.runtime.sass import (
    disassemble,
    find_disassembler,
    instruction_counts,
    instructions,
    main_loop,
)

# Four 16-byte loads and eight multiplications a step in the loop over k; a loop of one load and one
# addition before it; nothing else.
STREAM = """
extern "C" __global__ void stream(const float4 *a, const float *b, float *out, int n, int m) {
  float sum = 0;
#pragma unroll 1
  for (int j = 0; j < m; ++j) sum += b[j];
#pragma unroll 1
  for (int k = 0; k < n; ++k) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float4 v = a[(k * 4 + j) * 32 + threadIdx.x];
      sum = sum * v.x * v.y + v.z + v.w;
    }
  }
  out[threadIdx.x] = sum;
}
extern "C" __global__ void straight(float *out) { out[threadIdx.x] = 3.0f; }
"""

# A step waits for an mbarrier: a loop inside the loop, or behind the kernel, that only waits.
WAITING = """
extern "C" __global__ void waiting(const float4 *a, float *out, int n) {
  extern __shared__ float tile[];
  unsigned barrier = (unsigned)__cvta_generic_to_shared(tile);
  float sum = 0;
#pragma unroll 1
  for (int k = 0; k < n; ++k) {
    asm volatile("{ .reg .pred p; W: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;"
                 " @p bra D; bra W; D: }" ::"r"(barrier), "r"(k & 1) : "memory");
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      float4 v = a[(k * 8 + j) * 32 + threadIdx.x];
      sum = sum * v.x * v.y + v.z + v.w;
    }
    __syncthreads();
  }
  out[threadIdx.x] = sum;
}
"""


@pytest.fixture(scope="module")
def stream():
    return {target: compile_cubin(STREAM, target, "stream").cubin for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_main_loop_is_the_larger_of_two(stream, target):
    text = disassemble(stream[target], "stream")
    loop = main_loop(text)
    assert instruction_counts(loop, r"LDG\.E\.128").total() == 4
    assert instruction_counts(loop, r"FMUL").total() == 8
    assert instruction_counts(loop, r"FADD").total() == 8
    assert instruction_counts(loop, r"STG|EXIT").total() == 0
    assert instruction_counts(loop, r"BRA").total() >= 1
    assert len(loop) < 60
    # outside of it: the small loop's load and addition, however often it was peeled
    assert instruction_counts(text, r"LDG\.E$").total() >= 1
    assert instruction_counts(text, r"LDG\.E\.128").total() == 4


def test_counts_are_by_opcode(stream):
    counts = instruction_counts(disassemble(stream["sm_90a"], "stream"), r"LDG|STG")
    assert counts["LDG.E.128"] == 4
    assert counts["STG.E"] == 1
    assert not [opcode for opcode in counts if not opcode.startswith(("LDG", "STG"))]


def test_one_kernel_or_all(stream):
    both = disassemble(stream["sm_80"])
    straight = disassemble(stream["sm_80"], "straight")
    assert instruction_counts(straight, "STG").total() == 1
    assert instruction_counts(both, "STG").total() == 2
    assert main_loop(straight) == ()
    assert main_loop(both) == main_loop(disassemble(stream["sm_80"], "stream"))
    with pytest.raises(InternalError, match="no kernel other"):
        disassemble(stream["sm_80"], "other")


def test_padding_is_not_counted(stream):
    listed = instructions(disassemble(stream["sm_90a"], "straight"))
    assert listed[-1].opcode == "EXIT"
    assert [each.address for each in listed] == [16 * index for index in range(len(listed))]


@pytest.mark.parametrize("target", ["sm_90a", "sm_100a", "sm_120"])
def test_waiting_loops_are_part_of_the_main_loop(target):
    loop = main_loop(disassemble(compile_cubin(WAITING, target, "waiting").cubin, "waiting"))
    assert instruction_counts(loop, r"LDG\.E\.128").total() == 8
    assert instruction_counts(loop, r"FMUL").total() == 16
    assert instruction_counts(loop, r"SYNCS.*TRYWAIT").total() >= 1
    assert instruction_counts(loop, r"BAR\.SYNC").total() == 1


def listing(*lines):
    """A disassembly: `name:` is a label, anything else an instruction at the next address."""
    text, address = [".text.k:"], 0
    for line in lines:
        if line.endswith(":"):
            text.append(line)
        else:
            text.append(f"        /*{address:04x}*/    {line} ;")
            address += 16
    return "\n".join(text)


def test_predicates_and_operands():
    text = listing("@!UP0 UIADD3 UR4, UR4, 0x1, URZ", "EXIT")
    first, last = instructions(text)
    assert (first.address, first.predicate, first.opcode) == (0, "!UP0", "UIADD3")
    assert str(first) == "@!UP0 UIADD3 UR4, UR4, 0x1, URZ"
    assert (last.address, str(last)) == (16, "EXIT")


def test_nested_loop_counts_once():
    text = listing(
        "MOV R0, RZ",
        "outer:",
        "FADD R1, R1, R1",
        "inner:",
        "FMUL R2, R2, R2",
        "FMUL R3, R3, R3",
        "@P0 BRA `(inner)",
        "FADD R1, R1, R1",
        "BRA.U !UP1, `(outer)",
        "EXIT",
    )
    assert [each.opcode for each in main_loop(text)] == ["FMUL", "FMUL", "BRA"]


def test_two_ways_back_are_one_loop():
    text = listing(
        "head:",
        "FADD R1, R1, R1",
        "@P0 BRA `(head)",
        "FMUL R2, R2, R2",
        "@P1 BRA `(head)",
        "EXIT",
    )
    assert [each.opcode for each in main_loop(text)] == ["FADD", "BRA", "FMUL", "BRA"]


def test_code_moved_behind_the_end_belongs_to_its_loop():
    text = listing(
        "head:",
        "FADD R1, R1, R1",
        "@P0 BRA `(rare)",
        "back:",
        "FADD R2, R2, R2",
        "@P1 BRA `(head)",
        "EXIT",
        "rare:",
        "MUFU.RCP R1, R1",
        "BRA `(back)",
        "pad:",
        "BRA `(pad)",
        "NOP",
    )
    opcodes = [each.opcode for each in main_loop(text)]
    assert opcodes == ["FADD", "BRA", "FADD", "BRA", "MUFU.RCP", "BRA"]


def test_threads_that_meet_again_do_not_close_a_loop():
    text = listing(
        "BSSY B0, `(meet)",
        "@P0 BRA `(other)",
        "FADD R1, R1, R1",
        "BSYNC B0",
        "other:",
        "FADD R2, R2, R2",
        "BSYNC B0",
        "meet:",
        "EXIT",
    )
    assert main_loop(text) == ()
    assert len(instructions(text)) == 7


def test_found_in_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert find_disassembler().name == "nvdisasm"


def test_missing_disassembler_says_what_to_install(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(VmError) as caught:
        disassemble(b"")
    assert caught.value.code == "E0823"
    assert sass.INSTALL in str(caught.value)


def test_not_a_cubin():
    with pytest.raises(InternalError, match="nvdisasm"):
        disassemble(b"not an ELF file")
