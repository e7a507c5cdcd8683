"""The prelude on a GPU: the kernels that the emulator runs, against the same answers.

Run with `python -m pytest tests/gpu/test_prelude.py -m gpu`, or where there is no pytest with
`python tests/gpu/test_prelude.py`. sm_80 and sm_89 code reaches a newer GPU as PTX, so that the
ways without newer instructions are tried there too.
"""

from __future__ import annotations

import ctypes
import sys
import time
import traceback
from functools import lru_cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.compiler.prelude import (
    arithmetic_battery,
    cast_battery,
    matmul_battery,
    memory_battery,
    warp_battery,
)
from tests.compiler.prelude.battery import Launch, Text
from vm.runtime.emulator import PRELUDE
from vm.runtime.nvrtc import compile_cubin

BATTERIES = {
    **cast_battery.BATTERIES,
    **arithmetic_battery.BATTERIES,
    **memory_battery.BATTERIES,
    **warp_battery.BATTERIES,
    **matmul_battery.BATTERIES,
}
TARGETS = ("sm_80", "sm_89", "sm_90a")
CASES = [(name, target) for name in BATTERIES for target in TARGETS]


@lru_cache(maxsize=1)
def driver() -> ctypes.CDLL:
    """libcuda with a context."""
    library = ctypes.CDLL("libcuda.so.1")
    context = ctypes.c_void_p()
    check(library.cuInit(0))
    check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
    check(library.cuCtxSetCurrent(context))
    return library


def check(code: int) -> None:
    assert code == 0, f"the driver answers {code}"


def run_on_device(module: ctypes.c_void_p, launch: Launch) -> None:
    """One launch with arrays copied there and back, then its check."""
    library, function = driver(), ctypes.c_void_p()
    name = launch.kernel.encode()
    check(library.cuModuleGetFunction(ctypes.byref(function), module, name))
    arguments = launch.arguments()
    values, buffers = [], []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            pointer = ctypes.c_uint64()
            check(
                library.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(argument.nbytes + 64))
            )
            check(
                library.cuMemcpyHtoD_v2(
                    pointer,
                    argument.ctypes.data_as(ctypes.c_void_p),
                    ctypes.c_size_t(argument.nbytes),
                )
            )
            buffers.append((argument, pointer))
            values.append(pointer)
        else:
            values.append(ctypes.c_int(argument))
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    x, y, z = (*launch.grid, 1, 1)[:3]
    check(
        library.cuLaunchKernel(
            function, x, y, z, launch.threads, 1, 1, launch.shared_bytes, None, pointers, None
        )
    )
    check(library.cuCtxSynchronize())
    for argument, pointer in buffers:
        check(
            library.cuMemcpyDtoH_v2(
                argument.ctypes.data_as(ctypes.c_void_p), pointer, ctypes.c_size_t(argument.nbytes)
            )
        )
        check(library.cuMemFree_v2(pointer))
    launch.check(arguments)


@lru_cache(maxsize=2)
def text_of(name: str) -> Text:
    return BATTERIES[name]()


def run_battery(name: str, target: str) -> int:
    """All launches of a battery; the number of them."""
    text = text_of(name)
    if int(target[3:5]) < text.least:
        return 0
    compiled = compile_cubin(text.source, target, text.launches[0].kernel, [f"-I{PRELUDE}"])
    image = compiled.cubin if target == "sm_90a" else compiled.ptx.encode() + b"\0"
    module = ctypes.c_void_p()
    check(driver().cuModuleLoadData(ctypes.byref(module), image))
    failures = []
    for launch in text.launches:
        try:
            run_on_device(module, launch)
        except AssertionError as error:
            failures.append(str(error)[:400])
    check(driver().cuModuleUnload(module))
    assert not failures, f"{len(failures)} of {len(text.launches)} launches:\n" + "\n".join(
        failures
    )
    return len(text.launches)


try:
    import pytest
except ImportError:
    pass
else:
    pytestmark = pytest.mark.gpu

    @pytest.mark.parametrize("name,target", CASES)
    def test_prelude(name, target):
        run_battery(name, target)


def main() -> int:
    failed = 0
    for name, target in CASES:
        start = time.perf_counter()
        try:
            print(f"{name} {target}: {run_battery(name, target)} launches agree", end="")
        except Exception:
            failed += 1
            print(f"{name} {target}: FAILED\n{traceback.format_exc(limit=1)[-3000:]}", end="")
        print(f" ({time.perf_counter() - start:.1f} s)", flush=True)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
