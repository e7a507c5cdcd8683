"""What this machine has, what is missing, and the command that installs it.

Nothing here raises for a thing that is missing, and nothing needs a GPU.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from vm.errors import InternalError, VmError
from vm.runtime import cuda, nvrtc, sass
from vm.runtime.cache import Cache

OK, MISSING, FAULTY = "ok", "missing", "faulty"

_DRIVER_VERSION = Path("/proc/driver/nvidia/version")


class Finding(NamedTuple):
    """One line of the report: `status` is `ok`, `missing` (something does without it) or `faulty`
    (present and unusable); `install` is the command that helps, or empty."""

    item: str
    status: str
    detail: str
    install: str


def report() -> list[Finding]:
    """Everything that running and compiling programs depends on, in the order to read it."""
    return [
        Finding("python", OK, f"{platform.python_version()} ({sys.executable})", ""),
        _package("vm", "", "pip install vm"),
        _package("numpy", "", "pip install numpy"),
        _package("cuda-bindings", "CUDA", nvrtc.INSTALL),
        _nvrtc(),
        _disassembler(),
        _driver(),
        *_devices(),
        _tool("host compiler", ("g++", "clang++"), "the emulator", "apt-get install g++"),
        _package("ziglang", "HIP without clang", "pip install -e '.[hip]'"),
        _tool("clang for HIP", ("clang-19",), "HIP without ziglang", "apt-get install clang-19"),
        _package("torch", "torch tensors", "pip install torch"),
        _cache(),
    ]


def render(findings: list[Finding]) -> str:
    """The report as text, one line for each item and one for each command."""
    width = max(len(each.item) for each in findings)
    lines = []
    for each in findings:
        lines.append(f"{each.item:<{width}}  {each.status:<7}  {each.detail}")
        if each.status != OK and each.install:
            lines.append(f"{'':<{width}}  install: {each.install}")
    return "\n".join(lines)


def _package(name: str, needed_for: str, install: str) -> Finding:
    try:
        return Finding(name, OK, importlib.metadata.version(name), "")
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, MISSING, f"needed for {needed_for or 'everything'}", install)


def _nvrtc() -> Finding:
    """By compiling something, which needs both of its libraries."""
    source = 'extern "C" __global__ void probe() {}'
    try:
        compiled = nvrtc.compile_cubin(source, nvrtc.TARGETS[0], "probe")
    except VmError as error:
        fault = error.diagnostics[0]
        return Finding("nvrtc", MISSING, fault.message, fault.fix or "")
    except InternalError as error:
        return Finding("nvrtc", FAULTY, str(error), nvrtc.INSTALL)
    return Finding("nvrtc", OK, f"{compiled.toolchain}; {', '.join(nvrtc.TARGETS)}", "")


def _disassembler() -> Finding:
    path = sass.find_disassembler()
    if path is None:
        return Finding("nvdisasm", MISSING, "needed for --emit sass", sass.INSTALL)
    version = _first_line([str(path), "--version"], "Build")
    status = OK if version else FAULTY
    return Finding("nvdisasm", status, f"{path} {version}".rstrip(), sass.INSTALL)


def _driver() -> Finding:
    try:
        text = _DRIVER_VERSION.read_text().splitlines()[0]
    except (OSError, IndexError):
        return Finding("driver", MISSING, "NVIDIA's kernel driver: needed for --on cuda", "")
    return Finding("driver", OK, text.removeprefix("NVRM version: "), "")


def _devices() -> list[Finding]:
    try:
        devices = [cuda.device(ordinal) for ordinal in range(cuda.device_count())]
    except VmError as error:
        return [Finding("device", MISSING, error.diagnostics[0].message, "")]
    return [
        Finding(
            f"cuda:{each.ordinal}",
            OK if each.target in nvrtc.TARGETS else MISSING,
            f"{each.name}, {each.target}, {each.multiprocessors} SMs, "
            f"{each.shared_limit >> 10} KB of shared memory in a block",
            "",
        )
        for each in devices
    ]


def _tool(item: str, names: tuple[str, ...], needed_for: str, install: str) -> Finding:
    for name in names:
        path = shutil.which(name)
        if path:
            version = _first_line([path, "--version"])
            status = OK if version else FAULTY
            return Finding(
                item, status, f"{path} {version}".rstrip(), install if not version else ""
            )
    return Finding(item, MISSING, f"needed for {needed_for}", install)


def _cache() -> Finding:
    cache = Cache()
    entries = cache.list()
    place = next(each for each in [cache.directory, *cache.directory.parents] if each.exists())
    detail = (
        f"{cache.directory}, {len(entries)} entries, {cache.size() / 2**20:.1f} MB "
        f"of {cache.size_limit / 2**20:.0f} MB"
    )
    if not os.access(place, os.W_OK):
        detail += "; cannot be written to"
        return Finding("cache", FAULTY, detail, "export VM_CACHE_DIR=<a directory of yours>")
    damaged = sum(each.metadata is None for each in entries)
    if damaged:
        return Finding("cache", FAULTY, f"{detail}; {damaged} damaged", "vm cache verify")
    return Finding("cache", OK, detail, "")


def _first_line(command: list[str], beginning: str = "") -> str:
    """The first line that a command prints, of those that begin so; empty where it fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = [line for line in run.stdout.splitlines() if line.startswith(beginning)]
    return lines[0] if lines else ""
