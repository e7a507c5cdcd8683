"""What makes a kernel fast is in its machine code: judged without a GPU."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache, lru_cache
from pathlib import Path

import pytest

from tests.compiler import machine_code
from tests.compiler.machine_code import GOLDEN, LOOPS, ROOT
from tests.compiler.targets import first_target, has_rules
from vm.compiler import pipeline
from vm.compiler.facts import ALIGNED, VARIANTS
from vm.compiler.registers import ALLOWANCE, check_registers, estimate, pressure
from vm.errors import VmError
from vm.isa.kernel import Kernel
from vm.isa.program import load, parse
from vm.runtime import nvrtc
from vm.runtime.compiled import cubin_of
from vm.runtime.nvrtc import TARGETS

machine_code_of = lru_cache(maxsize=None)(machine_code.machine_code)
PROGRAMS = [
    (path.stem, program.name)
    for path in sorted((ROOT / "programs").glob("*.vm"))
    for program in load(path)
    if program.definition.kind == "program"
]


@cache
def kernel_of(module: str, program: str) -> Kernel:
    """The program as a user has it, but packing of 64 rows, one by one, which takes the toolchain
    five seconds: 16 rows are packed by the same instructions."""
    smaller = {"ROWS": 16, "STAGE": 1056} if program == "pack" else {}
    return load(ROOT / "programs" / f"{module}.vm")[program].instantiate(**smaller)


BUILDS = [
    (*each, name) for each in PROGRAMS for name in TARGETS if has_rules(name, kernel_of(*each))
]
MATMULS = [(name, target) for name in ("matmul_w4a16", "matmul_f16")
           for target in machine_code.TARGETS]  # fmt: skip


# --- the matmuls ---
@pytest.mark.parametrize(("name", "target"), MATMULS)
def test_tiles_are_copied_by_16_bytes(name, target):
    code = machine_code_of(name, "matmul", target)
    copies = code.count_in_loop(r"LDGSTS")
    assert copies >= 4
    assert code.count_in_loop(r"LDGSTS.*\.128") == copies


@pytest.mark.parametrize(("name", "target"), MATMULS)
def test_fragments_are_loaded_and_multiplied_by_their_instructions(name, target):
    code = machine_code_of(name, "matmul", target)
    m, n, k = {"matmul_w4a16": (64, 128, 64), "matmul_f16": (64, 128, 32)}[name]
    # Four warps share the tile; an instruction does 16 x 8 x 16 of it.
    assert code.count_in_loop(r"HMMA\.16816\.F32") == m * n * k // (16 * 8 * 16) // 4
    assert code.count_in_loop(r"LDSM.*\.4") >= 8
    assert code.count_in_loop(r"LDSM") == code.count_in_loop(r"LDSM.*\.4")
    # Nothing comes from shared memory by elements.
    assert code.count_in_loop(r"LDS\.U|LDS\.64") == 0


@pytest.mark.parametrize("target", machine_code.TARGETS)
def test_packed_weights_are_loaded_by_16_bytes(target):
    code = machine_code_of("matmul_w4a16", "matmul", target)
    # 64 x 128 codes of 4 bits over 128 threads are 32 bytes for each.
    assert code.count_in_loop(r"LDS\.128") == 2


@pytest.mark.parametrize(("name", "target"), MATMULS)
def test_registers_hold_everything(name, target):
    code = machine_code_of(name, "matmul", target)
    assert code.count(r"LDL|STL") == 0
    assert code.entry.metadata["spill_bytes"] == 0


@pytest.mark.parametrize(("name", "target"), MATMULS)
def test_the_toolchain_warns_of_nothing(name, target):
    log = machine_code_of(name, "matmul", target).entry.metadata["log"]
    assert re.findall(r"C75\d\d", log) == []


@pytest.mark.parametrize(("name", "target"), MATMULS)
def test_one_barrier_in_a_step(name, target):
    assert machine_code_of(name, "matmul", target).count_in_loop(r"BAR\.SYNC") == 1


@pytest.mark.parametrize("target", machine_code.TARGETS)
@pytest.mark.parametrize(("module", "program"), LOOPS)
def test_a_step_takes_no_more_instructions_than_before(module, program, target):
    """Up to the golden number, and not a tenth below it: then the number is to be made new."""
    golden = json.loads(GOLDEN.read_text())
    now = len(machine_code_of(module, program, target).loop)
    before = golden[f"{module} {target}"]
    if golden["toolchain"] == nvrtc.toolchain():
        assert 0.9 * before <= now <= before, "python -m tests.compiler.machine_code"
    else:
        assert 0 < now <= 1.25 * before


# --- every program ---
@pytest.mark.parametrize(("module", "program", "target"), BUILDS)
def test_every_program_compiles_for_every_target_that_can_do_it(module, program, target):
    kernel = kernel_of(module, program)
    entry = cubin_of(kernel, target, ALIGNED)
    assert entry.payload[:4] == b"\x7fELF"
    assert re.findall(r"C75\d\d", entry.metadata["log"]) == []


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("module", "program"), PROGRAMS)
def test_registers_are_within_the_estimate(module, program, variant):
    kernel = kernel_of(module, program)
    target = first_target(kernel)
    entry = cubin_of(kernel, target, variant)
    lowered = pipeline.lower(kernel, pipeline.target(target), variant).kernel
    assert entry.metadata["registers"] <= estimate(lowered)
    check_registers(lowered, entry.metadata["registers"], entry.metadata["spill_bytes"])


# --- registers ---
def selected(*body: str) -> Kernel:
    header = "program p(A: global(f32)[N], C: out(global(f32))[N]) grid (1) threads 32"
    return parse("\n".join(["vm 1", header, "{", *body, "}", ""]))["p"].instantiate()


PER_THREAD = "layout=spatial(32)"


def test_what_is_alive_at_once_is_counted():
    # x and y of one word each live together, and the two words of the address; z when x is gone.
    kernel = selected(
        "at = cast(thread_index() * 4, i64)",
        f"x = fill(1.0, f32, [32], {PER_THREAD})",
        f"y = fill(2.0, f32, [32], {PER_THREAD})",
        "z = x + y",
        "nv.store_global(C, at, z)",
    )
    assert pressure(kernel).words == 2 + 1 + 1 + 1


def test_wide_and_narrow_elements_are_counted_in_words():
    layout = "layout=spatial(32).local(8)"
    for kind, words in (("f32", 8), ("f16", 4), ("u4", 1), ("i64", 16), ("u3", 1), ("bool", 0)):
        value = "true" if kind == "bool" else "1"
        kernel = selected(f"x = fill({value}, {kind}, [256], {layout})", "print(x)")
        assert pressure(kernel).words == words, kind


def test_a_variable_is_alive_around_its_loop_only_where_it_is_read_again():
    def loop(last: str) -> int:
        return pressure(selected(
            f"var x: register(f32, {PER_THREAD})[32] = fill(0.0)",
            "for k in range(N) {",
            "  print(x)",
            "  wide = fill(1.0, f32, [512], layout=spatial(32).local(16))",
            "  print(wide)",
            f"  x := {last}",
            "}",
        )).words  # fmt: skip

    assert loop("fill(2.0)") == 16 + 1  # the counter
    assert loop("x + 1.0") == 16 + 1 + 1


def test_values_of_two_branches_do_not_add_up():
    layout = "layout=spatial(32).local(16)"
    branch = [f"x = fill(1.0, f32, [512], {layout})", "print(x)"]
    one = pressure(selected("c = N < 3", "if c {", *branch, "}"))
    other = [line.replace("x", "y") for line in branch]
    two = pressure(selected("c = N < 3", "if c {", *branch, "} else {", *other, "}"))
    assert one.words == two.words == 16


def test_spills_in_a_loop_fail():
    path = ROOT / "programs" / "matmul_f16.vm"
    kernel = load(path)["matmul"].instantiate(BM=128, BN=256)
    with pytest.raises(VmError) as raised:
        cubin_of(kernel, "sm_80", ALIGNED)
    assert raised.value.code == "E0904"
    assert Path(raised.value.origin.file).name == "matmul_f16.vm"


def test_more_registers_than_estimated_fail():
    kernel = selected("for k in range(N) {", "  print(k)", "}")
    expected = estimate(kernel)
    assert expected == pressure(kernel).words + ALLOWANCE
    check_registers(kernel, expected, 0)
    with pytest.raises(VmError) as raised:
        check_registers(kernel, expected + 1, 0)
    assert raised.value.code == "E0905"


# --- time ---
NVRTC_SECONDS = {"matmul_w4a16": 0.26, "matmul_f16": 0.17}
"""What NVRTC alone takes for each on the machine where the second was measured."""

TIMED = """
import sys, tempfile, time
from pathlib import Path
import vm.compiler.pipeline, vm.runtime.nvrtc
from vm.runtime.cache import Cache
from vm.runtime.compiled import cubin_of, emitted, package_version
from vm.runtime import nvrtc
from vm.runtime.emulator import PRELUDE
from vm.isa.program import load
cache = Cache(Path(sys.argv[1]))
def timed(clock):
    started = clock()
    kernel = load(sys.argv[2])["matmul"].instantiate()
    middle = clock()
    cubin_of(kernel, "sm_80", "aligned", cache)
    return clock() - started, clock() - middle
whole, _ = timed(time.process_time)
made = emitted(load(sys.argv[2])["matmul"].instantiate(), "sm_80", "aligned")
started = time.process_time()
nvrtc.compile_cubin(made.source, "sm_80", made.manifest.kernel, (f"-I{PRELUDE}",))
alone = time.process_time() - started
print(whole, alone, min(timed(time.perf_counter)[1] for _ in range(20)))
"""


@pytest.mark.parametrize("name", NVRTC_SECONDS)
def test_a_matmul_compiles_within_a_second_and_is_found_again_in_5_milliseconds(name, tmp_path):
    """Time of this process, from the text to machine code, in a process of its own; then a look
    into the cache, the best of twenty since others use this machine too.

    The second is that of a machine on which NVRTC alone takes `NVRTC_SECONDS`: at other hours the
    same machine has taken half as long again for everything."""
    path = ROOT / "programs" / f"{name}.vm"
    command = [sys.executable, "-c", TIMED, str(tmp_path), str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    whole, alone, warm = map(float, run.stdout.split())
    slower = max(1.0, alone / NVRTC_SECONDS[name])
    assert whole < 1.0 * slower
    assert warm < 0.005 * slower
