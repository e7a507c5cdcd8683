"""From emitted CUDA C++ to a cubin, through NVRTC: no `nvcc`, no driver, no GPU.

The raw bindings are used because they load nothing but libnvrtc; `cuda.core` asks the driver for
its version on the way. NVRTC keeps a cache of its own: it is turned off, since an answer from it
need not be the answer of the toolchain named in our cache key.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from vm.errors import InternalError, VmError, fail

TARGETS = ("sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120")
"""The architectures that `compile_cubin` takes, each its own cubin: no PTX is compiled at load."""

OPTIONS = (
    "--std=c++17",
    "--fmad=false",  # a * b + c is two roundings; fma is an instruction of ours
    "--device-as-default-execution-space",
    "--no-cache",
    "--ptxas-options=-v",  # the log then states registers, shared memory and spills
)
"""Given to every compilation. Fast-math options are absent: IEEE division, roots and subnormals."""

INSTALL = "pip install -e '.[cuda]'"


@dataclass(frozen=True)
class Compiled:
    """A cubin and what the toolchain said of one kernel in it.

    `registers` are per thread; `shared_bytes` is the static shared memory of a block;
    `local_bytes` is the stack of a thread, spilled registers included; `spill_bytes` counts the
    bytes that its spill stores and loads move. `warnings` are the performance warnings of ptxas,
    codes C7500 to C7599 (a serialized wgmma, an ignored setmaxnreg). `seconds` is wall time.
    """

    cubin: bytes
    ptx: str
    log: str
    registers: int
    shared_bytes: int
    local_bytes: int
    spill_bytes: int
    warnings: tuple[str, ...]
    seconds: float
    toolchain: str


class CompileError(InternalError):
    """NVRTC refused source that we emitted; holds all that is needed to see why."""

    def __init__(self, name: str, target: str, options: Sequence[str], source: str, log: str):
        super().__init__(name, target, options, source, log)
        self.name = name
        self.target = target
        self.options = tuple(options)
        self.source = source
        self.log = log

    def __str__(self) -> str:
        faults = [line for line in self.log.splitlines() if "error" in line]
        return (
            f"the CUDA C++ emitted for {self.name} does not compile for {self.target}: "
            f"{'; '.join(faults[:3]) or self.log.strip()} (source and log are on this exception)"
        )


def import_bindings(name: str) -> ModuleType:
    """`cuda.bindings.<name>`; raises `VmError` E0820 where the package is not installed."""
    try:
        return importlib.import_module(f"cuda.bindings.{name}")
    except ImportError as error:
        raise _missing(f"cuda-bindings ({error})") from error


def _missing(what: str) -> VmError:
    return fail("E0820", f"a package that CUDA needs is missing: {what}", None, fix=INSTALL)


@lru_cache(maxsize=1)
def toolchain() -> str:
    """The name and version of NVRTC, as it stands in cache keys; loads the library only where
    the version of its package is unknown."""
    try:
        return f"nvrtc {importlib.metadata.version('nvidia-cuda-nvrtc')}"
    except importlib.metadata.PackageNotFoundError:
        major, minor = _Library().call("nvrtcVersion")
        return f"nvrtc {major}.{minor}"


def compile_cubin(source: str, target: str, name: str, options: Sequence[str] = ()) -> Compiled:
    """Compile C++ `source` for `target`; `name` is a kernel in it, declared `extern "C"`.

    `options` follow `OPTIONS`. Raises `VmError` E0820 (package missing) or E0822 (target unknown),
    and `CompileError` where the source is refused.
    """
    if target not in TARGETS:
        raise fail("E0822", f"no such CUDA target: {target}", None, fix=f"use {', '.join(TARGETS)}")
    library = _Library()
    flags = (f"--gpu-architecture={target}", *OPTIONS, *options)
    start = time.perf_counter()
    program = library.call("nvrtcCreateProgram", source.encode(), f"{name}.cu".encode(), 0, [], [])
    try:
        result = library.run(
            "nvrtcCompileProgram", program, len(flags), [f.encode() for f in flags]
        )
        log = library.text("ProgramLog", program).decode(errors="replace").strip("\0 \n")
        if result != library.success:
            raise CompileError(name, target, flags, source, log or library.explain(result))
        cubin = library.text("CUBIN", program)
        ptx = library.text("PTX", program).decode().strip("\0")
    finally:
        library.call("nvrtcDestroyProgram", program)
    seconds = time.perf_counter() - start
    warnings = tuple(line for line in log.splitlines() if re.search(r"\(C75\d\d\)", line))
    usage = resource_usage(log, name)
    return Compiled(cubin, ptx, log, *usage, warnings, seconds, toolchain())


def resource_usage(log: str, name: str) -> tuple[int, int, int, int]:
    """Registers, static shared bytes, local bytes and spill bytes of kernel `name`, from the log
    of `ptxas -v`; raises `InternalError` where the log does not have them."""
    begin = re.search(rf"Compiling entry function '{re.escape(name)}'", log)
    if begin is None:
        raise InternalError(f"the log of ptxas does not mention the kernel {name}:\n{log}")
    section = log[begin.end() :].partition("Compiling entry function")[0]

    def number(pattern: str) -> int:
        found = re.search(pattern, section)
        return int(found.group(1)) if found else 0

    if "registers" not in section:
        raise InternalError(f"the log of ptxas states no registers for {name}:\n{log}")
    frame = re.search(rf"Function properties for {re.escape(name)}\n(.*)", section)
    line = frame.group(1) if frame else ""
    spills = sum(int(count) for count in re.findall(r"(\d+) bytes spill", line))
    stack = re.search(r"(\d+) bytes stack frame", line)
    local = max(int(stack.group(1)) if stack else 0, number(r"(\d+) bytes cumulative stack size"))
    return number(r"Used (\d+) registers"), number(r"(\d+) bytes smem"), local, spills


class _Library:
    """libnvrtc behind the bindings, whose functions return (result, values...)."""

    def __init__(self) -> None:
        self.module: Any = import_bindings("nvrtc")
        self.success = self.module.nvrtcResult.NVRTC_SUCCESS

    def run(self, function: str, *arguments: object) -> object:
        """Call and return only the result code."""
        return self._invoke(function, arguments)[0]

    def call(self, function: str, *arguments: object) -> Any:
        """Call and return the value, a tuple where there are several."""
        result, *values = self._invoke(function, arguments)
        if result != self.success:
            raise InternalError(f"{function} failed: {self.explain(result)}")
        return values[0] if len(values) == 1 else tuple(values)

    def text(self, what: str, program: object) -> bytes:
        """What `nvrtcGet<what>` writes into a buffer of the size that it asks for."""
        size = self.call(f"nvrtcGet{what}Size", program)
        buffer = bytes(size + 1)  # the bindings write into it, and bytes of length 1 are shared
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer[:size]

    def explain(self, result: object) -> str:
        return self.module.nvrtcGetErrorString(result)[1].decode()

    def _invoke(self, function: str, arguments: tuple[object, ...]) -> tuple[Any, ...]:
        try:
            return getattr(self.module, function)(*arguments)
        except RuntimeError as error:  # what the bindings raise where no libnvrtc can be loaded
            raise _missing(f"nvidia-cuda-nvrtc ({error})") from error
