"""Compiled kernels: made on demand for the arguments at hand, kept in the cache, run.

A kernel is compiled in at most two variants: for arrays that begin and have rows at multiples of 16
bytes, and for any. The emulator and the GPU run the very same text.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from vm.compiler.facts import ALIGNED, NONE, VARIANT_BYTES, VARIANTS
from vm.compiler.launch_memory import ALIGNMENT
from vm.compiler.pipeline import Emitted, compile_source
from vm.compiler.pipeline import target as find_target
from vm.compiler.registers import check_registers
from vm.errors import VmError, fail
from vm.isa import syntax
from vm.isa.dtypes import dtype
from vm.isa.kernel import Kernel
from vm.isa.program import Program, parse
from vm.isa.static import Environment, evaluate
from vm.isa.tensor import Tensor
from vm.isa.types import GlobalType
from vm.runtime import emulator, scalars
from vm.runtime.cache import Cache, Entry, default_directory, entry_key
from vm.runtime.emulator import PRELUDE
from vm.runtime.manifest import Manifest
from vm.runtime.manifest import evaluate as manifest_value
from vm.runtime.reference import Report
from vm.runtime.reference_arguments import Arguments, bind

EMULATED_TARGETS = ("sm_80", "sm_90a")
"""Where none is named the emulator runs the text for the first of these that can do the program:
what every NVIDIA GPU from that one on understands."""


def variant_for(kernel: Kernel, tensors: Mapping[str, Tensor]) -> str:
    """The variant whose assumptions the arguments meet."""
    for parameter in kernel.parameters:
        type_ = parameter.type
        if not isinstance(type_, GlobalType):
            continue
        storage = tensors[parameter.name].storage
        address = storage.__array_interface__["data"][0]
        # Only a size that stands alone as the last extent is assumed to make whole rows.
        named = len(type_.shape) > 1 and isinstance(type_.shape[-1], syntax.Name)
        row = storage.shape[-1] * storage.itemsize if named else 0
        bits = tensors[parameter.name].shape[-1] * type_.dtype.bits if named else 0
        if address % VARIANT_BYTES or row % VARIANT_BYTES or bits % (8 * VARIANT_BYTES):
            return NONE
    return ALIGNED


def emitted(kernel: Kernel, target_name: str, variant: str) -> Emitted:
    """The C++ of a kernel, made or refused once in a process."""
    made = _emitted_or_refused(kernel, target_name, variant)
    if isinstance(made, VmError):
        raise made
    return made


@lru_cache(maxsize=1024)
def _emitted_or_refused(kernel: Kernel, target_name: str, variant: str) -> Emitted | VmError:
    try:
        return compile_source(kernel, find_target(target_name), variant)
    except VmError as refusal:
        return refusal


def emulated(kernel: Kernel, variant: str) -> Emitted:
    """The C++ of a kernel for the first of EMULATED_TARGETS that can do it; raises what the last
    has to say where none can."""
    *others, last = EMULATED_TARGETS
    for name in others:
        try:
            return emitted(kernel, name, variant)
        except VmError as error:
            if error.code != "E0901":
                raise
    return emitted(kernel, last, variant)


def run_on_emulator(
    kernel: Kernel,
    arguments: Mapping[str, Any],
    *,
    target_name: str | None = None,
    output: Callable[[str], None] = print,
    order: str = "forward",
    optimization: int = 1,
    address_sanitizer: bool = False,
) -> Report:
    """Runs the C++ that is emitted for a target (see `emulated` where none is named) on the host;
    the arguments are those of `reference.run`."""
    bound = bind(kernel, arguments, checks=False)
    variant = variant_for(kernel, bound.tensors)
    made = emitted(kernel, target_name, variant) if target_name else emulated(kernel, variant)
    options = emulator.HostOptions(
        optimization=optimization, warp_width=kernel.warp_width,
        address_sanitizer=address_sanitizer,
    )  # fmt: skip
    folder = _emulator_folder()
    started = time.perf_counter()
    library = emulator.compile_host(made.source, folder, options, f"{kernel.name}.cpp")
    workspace, semaphores = _launch_memory(made.manifest, bound)
    if all(bound.grid):
        result = emulator.run(
            library, made.manifest.kernel, bound.grid, kernel.threads, made.manifest.shared_bytes,
            [*_host_arguments(made, bound), *workspace, *semaphores], order,
        )  # fmt: skip
        if result.printed:
            output(result.printed.rstrip("\n"))
    for words in semaphores:
        _require_zero(words, kernel)
    return _report(kernel, bound, time.perf_counter() - started)


def compile_for_emulator(
    launches: Iterable[tuple[Kernel, Mapping[str, Any]]], *, optimization: int = 1
) -> None:
    """Compiles what `run_on_emulator` needs for these kernels and arguments, all at once: many
    small kernels take a tenth of the time so. Those that no target can do are left out."""
    texts: dict[int, dict[tuple[str, str], None]] = {}
    for kernel, arguments in launches:
        try:
            bound = bind(kernel, arguments, checks=False)
            made = emulated(kernel, variant_for(kernel, bound.tensors))
        except VmError:
            continue  # running it says why
        texts.setdefault(kernel.warp_width, {})[f"{kernel.name}.cpp", made.source] = None
    for warp_width, together in texts.items():
        options = emulator.HostOptions(optimization=optimization, warp_width=warp_width)
        emulator.compile_together(list(together), _emulator_folder(), options)


def _emulator_folder() -> Path:
    folder = default_directory() / "emulator"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _host_arguments(made: Emitted, bound: Arguments) -> list[Any]:
    """The arguments of the emitted function, in its order."""
    manifest = made.manifest
    arrays = [bound.tensors[p.name].storage for p in manifest.pointers]
    sizes = [bound.sizes[size.value] for size in manifest.sizes]
    numbers = [
        scalars.code(dtype(scalar.dtype), bound.sizes[scalar.name]) for scalar in manifest.scalars
    ]
    return [*arrays, *sizes, *numbers]


def _launch_memory(
    manifest: Manifest, bound: Arguments
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The scratch of a launch, whose contents mean nothing, and its semaphores; each at most one
    array, where the program declares some."""
    facts = [fact for fact in manifest.facts if not manifest_value(fact, bound.sizes)]
    if facts:
        raise fail("E0836", f"{manifest.program} needs {facts[0]}", None)
    workspace, semaphores = manifest.workspace_bytes, manifest.semaphores
    scratch, words = [], []
    if workspace != "0":
        count = manifest_value(workspace, bound.sizes)
        whole = np.full(count + ALIGNMENT, 0xFF, np.uint8)
        begin = -whole.__array_interface__["data"][0] % ALIGNMENT
        scratch.append(whole[begin : begin + count])
    if semaphores != "0":
        words.append(np.zeros(manifest_value(semaphores, bound.sizes), np.int32))
    return scratch, words


def _require_zero(words: np.ndarray, kernel: Kernel) -> None:
    """Raises E0512 for semaphores that a grid leaves behind."""
    left = np.flatnonzero(words)
    if left.size:
        raise fail(
            "E0512", f"{left.size} of {words.size} semaphores are not 0 when the grid has ended: "
            f"the first is number {left[0]}, {words[left[0]]}", kernel.origin, "left by this",
            fix="run it on the reference machine, which names the release",
        )  # fmt: skip


def _report(kernel: Kernel, bound: Arguments, seconds: float) -> Report:
    outputs = {
        p.name: bound.tensors[p.name]
        for p in kernel.parameters
        if isinstance(p.type, GlobalType) and p.type.is_written
    }
    return Report(outputs, prod(bound.grid), 0, seconds)


def cubin_of(kernel: Kernel, target_name: str, variant: str, cache: Cache | None = None) -> Entry:
    """The machine code of a kernel, from the cache or compiled by NVRTC.

    The metadata holds the manifest, the registers of a thread, bytes spilled and the log. Raises
    E0904 and E0905 as `check_registers`.
    """
    from vm.runtime import nvrtc

    cache = cache or Cache()
    versions = {"vm": package_version(), "nvrtc": nvrtc.toolchain()}
    key = entry_key(kernel.text, target_name, (variant,), versions)

    def compile_it() -> Entry:
        made = emitted(kernel, target_name, variant)
        options = (f"-I{PRELUDE}",)
        compiled = nvrtc.compile_cubin(made.source, target_name, made.manifest.kernel, options)
        check_registers(made.lowered.kernel, compiled.registers, compiled.spill_bytes)
        return Entry(compiled.cubin, {
            "manifest": made.manifest.as_json(), "registers": compiled.registers,
            "spill_bytes": compiled.spill_bytes, "log": compiled.log,
        })  # fmt: skip

    return cache.get_or_compile(key, compile_it)


def compile_together(kernels: Iterable[Kernel], target_name: str) -> None:
    """Puts the machine code of kernels, for arrays that are aligned, into the cache, compiled side
    by side in as many processes as there are processors. What does not compile is not there."""
    texts = {kernel.text: kernel.name for kernel in kernels}
    workers = min(os.cpu_count() or 1, len(texts))
    if workers < 2:
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(_compile_text, target_name), texts.items()))


def _compile_text(target_name: str, text_and_name: tuple[str, str]) -> None:
    text, name = text_and_name
    with contextlib.suppress(VmError):
        cubin_of(parse(f"vm 1\n{text}")[name].instantiate(), target_name, ALIGNED)


def code_object_of(
    kernel: Kernel, target_name: str, variant: str, cache: Cache | None = None
) -> Entry:
    """The machine code of a kernel for an AMD GPU, from the cache or compiled by clang.

    The metadata holds the manifest, the registers of a thread and how many were spilled.
    """
    from vm.runtime import hip

    cache = cache or Cache()
    versions = {"vm": package_version(), "clang": hip.toolchain().version}
    key = entry_key(kernel.text, target_name, (variant,), versions)

    def compile_it() -> Entry:
        made = emitted(kernel, target_name, variant)
        compiled = hip.compile_code_object(
            made.source, target_name, made.manifest.kernel, (f"-I{PRELUDE}",)
        )
        return Entry(compiled.code_object, {
            "manifest": made.manifest.as_json(), "registers": compiled.registers,
            "spills": compiled.spills,
        })  # fmt: skip

    return cache.get_or_compile(key, compile_it)


@lru_cache(maxsize=1)
def package_version() -> str:
    """What tells this installation from one that compiles otherwise: its files, their sizes and
    times. A release number would not change while someone works on the compiler."""
    root = Path(__file__).parent.parent
    files = (p for p in sorted(root.rglob("*")) if p.suffix in (".py", ".h", ".lark"))
    stamps = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()


def grid_of(kernel: Kernel) -> Callable[[Mapping[str, int]], tuple[int, int, int]]:
    """The grid in x, y and z as a function of the sizes."""

    def grid(sizes: Mapping[str, int]) -> tuple[int, int, int]:
        environment = Environment(dict(sizes))
        extents = [e if isinstance(e, int) else evaluate(e, environment) for e in kernel.grid]
        x, y, z = ([*extents, 1, 1])[:3]
        return (x, y, z)

    return grid


class CompiledProgram:
    """A program compiled for a GPU, to be called with arrays in the order of its text.

    Each call takes the variant that its arrays allow, which is compiled when it is first needed.
    """

    def __init__(self, kernel: Kernel, target_name: str):
        self.kernel = kernel
        self.target = target_name
        self._variants: dict[str, Any] = {}
        self._known: tuple[Any, ...] = ()
        self._tensors = [p for p in kernel.parameters if isinstance(p.type, GlobalType)]

    def variant(self, name: str) -> Any:
        """The launcher of a variant; compiles it where that has not been done."""
        from vm.runtime import launch

        if name not in self._variants:
            entry = cubin_of(self.kernel, self.target, name)
            manifest = Manifest.from_json(entry.metadata["manifest"])
            self._variants[name] = launch.Kernel(manifest, entry.payload, grid_of(self.kernel))
            # Arrays that allow more are tried first: those of the other variant are never refused.
            self._known = tuple(self._variants[n] for n in VARIANTS if n in self._variants)
        return self._variants[name]

    def __call__(self, *values: Any, stream: int | None = None) -> None:
        """Launches on `stream`, or on torch's current one."""
        for kernel in self._known:
            if kernel.launch_known(values, stream):
                return
        self.variant(self._variant_for(values))(*values, stream=stream)

    def prepare(self, *values: Any, stream: int | None = None) -> Any:
        """A launch with its arguments bound: see `launch.Kernel.prepare`."""
        return self.variant(self._variant_for(values)).prepare(*values, stream=stream)

    def _variant_for(self, values: tuple[Any, ...]) -> str:
        from vm.runtime.arrays import describe

        for parameter, value in zip(self._tensors, values, strict=False):
            array = describe(value)
            shape = parameter.type.shape
            named = len(shape) > 1 and isinstance(shape[-1], syntax.Name)
            row = array.shape[-1] * array.item_bytes if named and array.shape else 0
            if array.pointer % VARIANT_BYTES or row % VARIANT_BYTES:
                return NONE
        return ALIGNED


def compile(
    program: Program, target: str | None = None, **constants: Any
) -> CompiledProgram:
    """A program with these constants, compiled for a target (that of the first GPU if none).

    Raises `VmError` for whatever is wrong with the program, E0821 where no target is named and
    there is no GPU, E0844 for a target that nothing can be launched on yet.
    """
    if target is None:
        from vm.runtime import cuda

        target = cuda.device(0).target
    found = find_target(target)
    if found.family != "nvidia":
        raise fail(
            "E0844", f"programs cannot be launched on {target} yet", None,
            fix="get its code object with vm compile --emit hsaco, or run it on "
            f"emulator:{target}",
        )  # fmt: skip
    return CompiledProgram(program.instantiate(warp_width=found.warp_width, **constants), target)


def run_on_cuda(
    kernel: Kernel, arguments: Mapping[str, Any], *, output: Callable[[str], None] = print
) -> Report:
    """Runs a program on the first GPU; the arguments, on the host, are those of `reference.run`."""
    from vm.runtime import cuda, launch

    bound = bind(kernel, arguments, checks=False)
    device = cuda.device(0)
    entry = cubin_of(kernel, device.target, variant_for(kernel, bound.tensors))
    manifest = Manifest.from_json(entry.metadata["manifest"])
    callable_kernel = launch.Kernel(manifest, entry.payload, grid_of(kernel))
    started = time.perf_counter()
    arrays = [bound.tensors[p.name] for p in manifest.pointers]
    numbers = [bound.sizes[s.name] for s in manifest.scalars]
    callable_kernel(*arrays, *numbers)
    device.synchronize(kernel.name)
    return _report(kernel, bound, time.perf_counter() - started)


