"""NVRTC with no GPU: five targets, what the log says, what a wrong source becomes."""

import re
import subprocess
import sys

import pytest

from vm.errors import InternalError, VmError
from vm.runtime import nvrtc
from vm.runtime.nvrtc import TARGETS, CompileError, compile_cubin, resource_usage

SCALE = """
__device__ float twice(float x) { return x + x; }
float unmarked(float x) { return twice(x) * 0.5f; }
extern "C" __global__ void __launch_bounds__(128) scale(const float *x, float *y, int n) {
  __shared__ float tile[96];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (threadIdx.x < 96) tile[threadIdx.x] = x[i];
  __syncthreads();
  if (i < n) y[i] = unmarked(tile[95 - threadIdx.x % 96]);
}
"""

SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, 2) spilling(float *x, int n) {
  float a[64];
  for (int i = 0; i < 64; ++i) a[i] = x[i * n];
  for (int j = 0; j < n; ++j)
    for (int i = 0; i < 64; ++i) a[i] = a[i] * a[(i * 7 + 1) & 63] + x[i + j];
  for (int i = 0; i < 64; ++i) x[i * n] = a[i];
}
extern "C" __global__ void light(float *x) { x[0] = 1.0f; }
"""


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_compiles_without_a_gpu(target):
    compiled = compile_cubin(SCALE, target, "scale")
    assert compiled.cubin.startswith(b"\x7fELF")
    assert f".target {target}" in compiled.ptx
    assert 4 <= compiled.registers <= 64
    assert compiled.shared_bytes in (384, 384 + 1024)  # from sm_90 on the system may take 1 KB
    assert (compiled.local_bytes, compiled.spill_bytes, compiled.warnings) == (0, 0, ())
    assert compiled.toolchain.startswith("nvrtc 13.")
    assert compiled.seconds > 0


def test_products_and_sums_are_not_contracted():
    source = 'extern "C" __global__ void k(float *x) { x[0] = x[1] * x[2] + x[3] / x[4]; }'
    ptx = compile_cubin(source, "sm_80", "k").ptx
    assert "mul.rn.f32" in ptx and "add.rn.f32" in ptx and "div.rn.f32" in ptx
    assert "fma" not in ptx


def test_resources_are_those_of_the_named_kernel():
    spilling = compile_cubin(SPILLING, "sm_90a", "spilling")
    light = compile_cubin(SPILLING, "sm_90a", "light")
    assert spilling.registers <= 32 and spilling.spill_bytes > 0
    assert spilling.local_bytes >= 256  # the array a is indexed at run time
    assert light.registers < spilling.registers
    assert (light.local_bytes, light.spill_bytes) == (0, 0)


def test_a_second_compilation_states_its_resources_too():
    first, second = (compile_cubin(SCALE, "sm_80", "scale") for _ in range(2))
    assert first.cubin == second.cubin
    assert (first.registers, first.shared_bytes) == (second.registers, second.shared_bytes)


def test_performance_warnings_are_collected():
    source = """extern "C" __global__ void k(float *x) {
      asm volatile("setmaxnreg.inc.sync.aligned.u32 240;"); x[0] = 1.0f; }"""
    (warning,) = compile_cubin(source, "sm_90a", "k").warnings
    assert "C7508" in warning and "setmaxnreg" in warning


def test_options_reach_the_compiler():
    source = 'extern "C" __global__ void k(int *x) { x[0] = WIDTH; }'
    assert "64" in compile_cubin(source, "sm_80", "k", ["-DWIDTH=64"]).ptx


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("int x = ;", "expected an expression"),
        (  # accepted by the front end, refused by ptxas
            'extern "C" __global__ void k() { asm("setmaxnreg.inc.sync.aligned.u32 240;"); }',
            "not supported on .target 'sm_80'",
        ),
    ],
)
def test_refused_source_is_an_internal_error_that_holds_it(source, said):
    with pytest.raises(CompileError) as caught:
        compile_cubin(source, "sm_80", "k")
    error = caught.value
    assert isinstance(error, InternalError)
    assert error.source == source and error.name == "k" and error.target == "sm_80"
    assert said in error.log and said in str(error)
    assert "--fmad=false" in error.options


def test_a_kernel_that_is_not_there():
    with pytest.raises(InternalError, match="does not mention"):
        compile_cubin(SCALE, "sm_80", "scales")


def test_resources_need_a_statement_of_registers():
    with pytest.raises(InternalError, match="no registers"):
        resource_usage("ptxas info : Compiling entry function 'k' for 'sm_80'", "k")


def test_unknown_target():
    with pytest.raises(VmError) as caught:
        compile_cubin(SCALE, "sm_91", "scale")
    assert caught.value.code == "E0822"
    assert "sm_90a" in str(caught.value)


def test_missing_bindings_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    with pytest.raises(VmError) as caught:
        compile_cubin(SCALE, "sm_80", "scale")
    assert caught.value.code == "E0820"
    assert "cuda-bindings" in str(caught.value) and "pip install -e '.[cuda]'" in str(caught.value)


def test_missing_library_says_what_to_install(monkeypatch):
    def absent(*arguments):
        raise RuntimeError("Failed to dlopen libnvrtc.so.13")

    monkeypatch.setattr(nvrtc.import_bindings("nvrtc"), "nvrtcCreateProgram", absent)
    with pytest.raises(VmError) as caught:
        compile_cubin(SCALE, "sm_80", "scale")
    assert caught.value.code == "E0820"
    assert "nvidia-cuda-nvrtc" in str(caught.value)


def test_version_does_not_load_the_library():
    code = (
        "import sys; from vm.runtime.nvrtc import toolchain; print(toolchain()); "
        "print([name for name in sys.modules if name.startswith(('cuda', 'torch'))])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    version, loaded = output.stdout.splitlines()
    assert re.fullmatch(r"nvrtc \d+(\.\d+)+", version)
    assert loaded == "[]"
