"""From emitted C++ to a code object for AMD GPUs, through clang: no ROCm, no GPU.

clang comes with the package ziglang, or is one on PATH with its linker. It compiles the kernel to
assembler, which is kept (it is what `--emit isa` shows and says what a thread needs), assembles and
links that. Launching code objects is not there yet.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vm.errors import InternalError, fail

TARGETS = ("gfx90a", "gfx942")
"""The architectures that `compile_code_object` takes."""

OPTIONS = (
    "-x", "hip", "--cuda-device-only", "--no-gpu-bundle-output", "-nogpuinc", "-nogpulib",
    "-std=c++17", "-O3",
    "-fwrapv",  # the integers of programs wrap
    "-ffp-contract=off",  # a * b + c is two roundings; fma is an instruction of ours
    "-fno-strict-aliasing",  # words are seen as other types
)  # fmt: skip
"""Given to every compilation."""

INSTALL = "pip install -e '.[hip]'"
_OLDEST, _NEWEST = 17, 22  # versions of clang that are looked for under a name of their own


@dataclass(frozen=True)
class Toolchain:
    """The commands that start clang and the linker ld.lld, and how they stand in cache keys."""

    clang: tuple[str, ...]
    linker: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Compiled:
    """A code object and what the compiler says of one kernel in it.

    `registers` are the vector registers of a thread, accumulation registers among them, and
    `scalar_registers` those of a warp; `local_bytes` is the stack of a thread, `spills` counts the
    registers of both kinds that did not fit. `seconds` is wall time.
    """

    code_object: bytes
    isa: str
    registers: int
    scalar_registers: int
    local_bytes: int
    spills: int
    seconds: float
    toolchain: str


@lru_cache(maxsize=1)
def toolchain() -> Toolchain:
    """The clang of the package ziglang, or else the newest on PATH that has its linker beside it.

    Raises `VmError` E0843 where there is none.
    """
    if importlib.util.find_spec("ziglang") is not None:
        start = (sys.executable, "-m", "ziglang")
        version = f"ziglang {importlib.metadata.version('ziglang')}"
        return Toolchain((*start, "clang"), (*start, "ld.lld"), version)
    for suffix in (*(f"-{number}" for number in range(_NEWEST, _OLDEST - 1, -1)), ""):
        clang, linker = shutil.which(f"clang{suffix}"), shutil.which(f"ld.lld{suffix}")
        if clang and linker:
            version = _run((clang, "--version"), "").partition("\n")[0]
            return Toolchain((clang,), (linker,), version)
    raise fail("E0843", "no compiler for AMD GPUs: neither ziglang nor clang was found", None,
               fix=f"{INSTALL}, or install clang-19 and lld-19")  # fmt: skip


def compile_code_object(
    source: str, target: str, name: str, options: Sequence[str] = ()
) -> Compiled:
    """Compile C++ `source` for `target`; `name` is a kernel in it, declared `extern "C"`.

    `options` follow `OPTIONS`. Raises `VmError` E0822 (target unknown) or E0843 (no compiler), and
    `InternalError` where the source is refused.
    """
    if target not in TARGETS:
        raise fail("E0822", f"no such HIP target: {target}", None, fix=f"use {', '.join(TARGETS)}")
    tools = toolchain()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        relocatable, linked = Path(folder, "kernel.o"), Path(folder, "kernel.hsaco")
        isa = _run(
            (*tools.clang, *OPTIONS, f"--offload-arch={target}", *options, "-S", "-o", "-", "-"),
            source,
        )
        assembler = ("--target=amdgcn-amd-amdhsa", f"-mcpu={target}", "-x", "assembler")
        _run((*tools.clang, *assembler, "-c", "-o", str(relocatable), "-"), isa)
        _run((*tools.linker, "-shared", "-o", str(linked), str(relocatable)), "")
        code_object = linked.read_bytes()
    seconds = time.perf_counter() - start
    return Compiled(code_object, isa, *resource_usage(isa, name), seconds, tools.version)


def resource_usage(isa: str, name: str) -> tuple[int, int, int, int]:
    """Vector registers, scalar registers, local bytes and spilled registers of kernel `name`, from
    the metadata at the end of the assembler; raises `InternalError` where it does not have them."""
    kernels = re.split(r"^  - \.(?=\w+:)", isa.partition("amdhsa.kernels:")[2], flags=re.MULTILINE)
    for kernel in kernels:
        if not re.search(rf"\.name: +{re.escape(name)}$", kernel, re.MULTILINE):
            continue
        found = {key: int(value) for key, value in re.findall(r"\.?(\w+): +(\d+)$", kernel,
                                                              re.MULTILINE)}  # fmt: skip
        spills = found["vgpr_spill_count"] + found["sgpr_spill_count"]
        return (found["vgpr_count"], found["sgpr_count"], found["private_segment_fixed_size"],
                spills)  # fmt: skip
    raise InternalError(f"the assembler says nothing of the kernel {name}")


def _run(command: Sequence[str], text: str) -> str:
    """What a command prints; raises `InternalError` with its complaint where it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InternalError(f"{' '.join(command)} fails:\n{done.stderr[:4000]}")
    return done.stdout
