"""Running emitted C++ on the host: each GPU thread a fiber, the prelude's emulator bodies beneath.

`compile_host` makes a shared object of the very text that goes to a GPU, and `run` launches a
kernel in it on NumPy arrays. What cannot be right on a GPU is an `EmulatorFault` with the places of
both sides: barriers that threads reach at different places, deadlocks, accesses outside of the
arguments or of shared memory, misaligned ones, division by zero. Shared memory begins as NaN, and
asynchronous copies arrive at the wait that completes them (emulator_host.cpp says more).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vm.errors import Diagnostic, InternalError, Label, Origin, Source, VmError, fail
from vm.runtime.files import write_file

PRELUDE = Path(__file__).parent.parent / "compiler" / "prelude"
"""The folder of the headers that emitted text includes as `vm.h`."""

_KERNEL = re.compile(r"^\s*VM_KERNEL\(\s*(\w+)\s*,", re.MULTILINE)
_FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-fwrapv",  # the integers of programs wrap
    "-ffp-contract=off",  # and their fma is an instruction of its own
    "-fno-strict-aliasing",  # words are seen as other types
    "-fvisibility=hidden",
    "-w",
)


@dataclass(frozen=True)
class HostOptions:
    """How text is compiled for the host.

    `compiler` is a path or a name to look for (the first of g++ and clang++ where empty);
    `warp_width` is 32, or 64 as on CDNA; `address_sanitizer` makes an object that `run` executes in
    a process of its own, where any access outside of an array ends the launch.
    """

    compiler: str = ""
    optimization: int = 1
    warp_width: int = 32
    address_sanitizer: bool = False


@dataclass(frozen=True)
class HostObject:
    """A compiled text: its kernels, and the shared object (with the address sanitizer, the program)
    that has them, as the text of that number."""

    path: Path
    number: int
    kernels: tuple[str, ...]
    options: HostOptions
    source: Source

    def symbol(self, kernel: str) -> str:
        """What a kernel of this text is called in the object."""
        return f"{kernel}_{self.number}"


@dataclass(frozen=True)
class HostRun:
    """What a launch that ended well did: what it printed, and how often threads took turns."""

    printed: str
    switches: int


@dataclass(frozen=True)
class Site:
    """A place in the text where `count` threads of `block` were, `thread` the first of them.

    `name` is what they waited for or did there; of threads that had ended it is "exited".
    """

    name: str
    file: str
    line: int
    count: int
    thread: int
    block: tuple[int, int, int]

    def __str__(self) -> str:
        block = ", ".join(map(str, self.block))
        who = f"{self.count} threads" if self.count > 1 else "1 thread"
        return f"{self.name}: {who} of block ({block}), the first is thread {self.thread}"


class EmulatorFault(VmError):
    """A launch that cannot go on; `kind` says why in a word or two, `sites` where.

    The kinds: "deadlock", "divergent barrier", "divergent warp", "partial warp", "barrier",
    "mbarrier", "bulk copy", "access", "misaligned", "division", "assert", "launch", "sanitizer".
    """

    def __init__(
        self, kind: str, message: str, sites: tuple[Site, ...], source: Source, printed: str = ""
    ):
        self.kind = kind
        self.sites = sites
        self.printed = printed
        labels = [Label(_origin(site, source), str(site)) for site in sites if site.line > 0]
        notes = tuple(str(site) for site in sites if site.line <= 0)
        fix = "run it on the reference machine, which names the line of the program"
        super().__init__(Diagnostic(
            "E0840", f"{kind}: {message}", tuple(labels), notes,
            fix if kind == "deadlock" else None,
        ))  # fmt: skip


def _origin(site: Site, source: Source) -> Origin:
    """The line of the site from its first word to its end, where the text is known."""
    if site.file != source.name:
        return Origin(site.file, site.line, 1, site.line, 1)
    text = source.line(site.line)
    begin = len(text) - len(text.lstrip()) + 1
    return Origin(site.file, site.line, begin, site.line, len(text) + 1, source)


def compile_host(
    source: str, cache: Path, options: HostOptions = HostOptions(), name: str = "kernel.cpp"
) -> HostObject:
    """Compile emitted text; faults name lines of `name`, or those that `#line` gives.

    The object is in the folder `cache`, found by a hash of all that the text's part of it comes
    from; it is made once. Raises `VmError` E0841 where there is no compiler, `InternalError` where
    it refuses the text.
    """
    return compile_together([(name, source)], cache, options)[0]


def compile_together(
    texts: Sequence[tuple[str, str]], cache: Path, options: HostOptions = HostOptions()
) -> list[HostObject]:
    """As `compile_host` for each (name, source); those that are not there yet share one object.

    Reading the headers and linking take most of the time of a small kernel, and two kernels use
    much of the same of them. Texts that are compiled together define nothing but kernels.
    """
    if options.warp_width not in (32, 64):
        raise fail("E0842", f"a warp has 32 or 64 lanes, not {options.warp_width}", None)
    compiler, version = _find_compiler(options.compiler)
    headers = _headers(_newest(PRELUDE))
    keys = {
        text: _hash(*text, headers, version, repr(options)) for text in texts
    }
    places = {text: _place_of(cache, key) for text, key in keys.items()}
    missing = [text for text, place in places.items() if place is None]
    if missing:
        suffix = ".run" if options.address_sanitizer else ".so"
        path = cache / (_hash(*(keys[text] for text in missing)) + suffix)
        host = _host_object(cache, compiler, version, headers, options.address_sanitizer)
        command = [compiler, *_FLAGS, f"-O{options.optimization}", f"-I{PRELUDE}"]
        command += [f"-DVM_WARP_WIDTH={options.warp_width}"]
        command += ["-fsanitize=address", "-g1"] if options.address_sanitizer else ["-shared"]
        command += ["-x", "c++", "-", "-x", "none", str(host)]
        _compile(command, path, "".join(_numbered(n, *text) for n, text in enumerate(missing)))
        for number, text in enumerate(missing):
            write_file(cache / f"{keys[text]}.json", json.dumps([path.name, number]))
            places[text] = path, number
    return [
        HostObject(*places[name, source], tuple(_KERNEL.findall(source)), options,
                   Source(name, source))
        for name, source in texts
    ]  # fmt: skip


def _place_of(cache: Path, key: str) -> tuple[Path, int] | None:
    """The object that has the text of this key, and its number there; None where it is not made."""
    try:
        name, number = json.loads((cache / f"{key}.json").read_text())
    except FileNotFoundError:
        return None
    return (cache / name, number) if (cache / name).exists() else None


def _numbered(number: int, name: str, source: str) -> str:
    """A text whose kernels end in its number, as no other's do, and what the host finds them by."""
    text = _KERNEL.sub(lambda found: f"{found[0].removesuffix(',')}_{number},", source)
    exports = "".join(f"\nVM_EMULATOR_EXPORT({k}_{number})" for k in _KERNEL.findall(source))
    return f'#line 1 "{name}"\n{text}\n#line 1 "exports"{exports}\n'


def run(
    target: HostObject,
    kernel: str,
    grid: Sequence[int],
    threads: int,
    shared_bytes: int,
    arguments: Sequence[np.ndarray | int | float],
    order: str = "forward",
) -> HostRun:
    """Launch `kernel` of `target` and wait for it; arrays are read and written in place.

    `grid` has 1 to 3 numbers of blocks. An argument is a C-contiguous array for a pointer, a number
    for anything else. `order` is the order in which threads and blocks take turns: "forward",
    "reverse" or "random:SEED". Raises `EmulatorFault` where the launch cannot go on, and `VmError`
    E0842 where the arguments do not fit the kernel.
    """
    launch = _Launch()
    launch.kernel = target.symbol(kernel).encode()
    launch.grid = (ctypes.c_int * 3)(*_three(grid))
    launch.threads = threads
    launch.shared_bytes = shared_bytes
    launch.warp_width = target.options.warp_width
    launch.order, launch.seed = _order(order)
    if kernel not in target.kernels:
        raise fail("E0842", f"the text has no kernel {kernel}", None)
    if not 1 <= threads <= 1024:
        raise fail("E0842", f"a block has 1 to 1024 threads, not {threads}", None)
    if target.options.address_sanitizer:
        result, printed = _run_in_process(target, launch, arguments)
    else:
        result, printed = _run_here(target, launch, arguments)
    if result.kind:
        raise EmulatorFault(
            result.kind.decode(),
            result.message.decode(),
            result.all_sites(),
            target.source,
            printed,
        )
    return HostRun(printed, result.switches)


def _newest(folder: Path) -> tuple[tuple[str, int], ...]:
    return tuple(
        (file.name, file.stat().st_mtime_ns)
        for file in sorted(folder.iterdir())
        if file.suffix in (".h", ".cpp")
    )


@functools.lru_cache(maxsize=4)
def _headers(files: tuple[tuple[str, int], ...]) -> str:
    return _hash(*(name + (PRELUDE / name).read_text() for name, _ in files))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@functools.lru_cache(maxsize=8)
def _find_compiler(asked: str) -> tuple[str, str]:
    """The path and version of the host compiler."""
    for name in (asked,) if asked else ("g++", "clang++"):
        found = shutil.which(name)
        if found:
            output = subprocess.run(
                [found, "--version"], capture_output=True, text=True, check=False
            ).stdout
            return found, output.partition("\n")[0]
    raise fail(
        "E0841",
        f"no C++ compiler for the emulator: {asked or 'g++ or clang++'} was not found",
        None,
        fix="install g++ (apt-get install g++)",
    )


def _host_object(cache: Path, compiler: str, version: str, headers: str, sanitized: bool) -> Path:
    """emulator_host.cpp, compiled; the same for all kernels."""
    path = cache / f"{_hash(headers, version, str(sanitized))}.o"
    if not path.exists():
        command = [compiler, *_FLAGS, "-O2", f"-I{PRELUDE}", "-c", "-x", "c++", "-"]
        if sanitized:
            command += ["-fsanitize=address", "-g1", "-DVM_EMULATOR_MAIN"]
        _compile(command, path, (PRELUDE / "emulator_host.cpp").read_text())
    return path


def _compile(command: list[str], path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    os.close(handle)
    done = subprocess.run(
        [*command, "-o", temporary], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        os.unlink(temporary)
        refused = path.with_suffix(".refused.cpp")
        refused.write_text(text)
        raise InternalError(
            f"the host compiler refuses emitted text ({refused}):\n{done.stderr[:4000]}"
        )
    os.replace(temporary, path)


class _Site(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 32),
        ("file", ctypes.c_char * 224),
        ("line", ctypes.c_int),
        ("count", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("block", ctypes.c_int * 3),
    )


class _Result(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_char * 32),
        ("message", ctypes.c_char * 512),
        ("site_count", ctypes.c_int),
        ("sites", _Site * 16),
        ("switches", ctypes.c_ulonglong),
    )

    def all_sites(self) -> tuple[Site, ...]:
        return tuple(
            Site(
                site.name.decode(),
                site.file.decode(),
                site.line,
                site.count,
                site.thread,
                tuple(site.block),
            )
            for site in self.sites[: self.site_count]
        )


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("begin", ctypes.c_void_p),
        ("end", ctypes.c_void_p),
        ("writable", ctypes.c_bool),
    )


class _Launch(ctypes.Structure):
    _fields_ = (
        ("kernel", ctypes.c_char_p),
        ("grid", ctypes.c_int * 3),
        ("threads", ctypes.c_int),
        ("shared_bytes", ctypes.c_uint),
        ("warp_width", ctypes.c_int),
        ("order", ctypes.c_int),
        ("seed", ctypes.c_ulonglong),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("buffers", ctypes.POINTER(_Buffer)),
        ("buffer_count", ctypes.c_int),
    )


def _three(grid: Sequence[int]) -> tuple[int, int, int]:
    numbers = (*grid, 1, 1, 1)[:3]
    if not 1 <= len(grid) <= 3 or min(numbers) < 1:
        raise fail("E0842", f"a grid is 1 to 3 positive numbers, not {tuple(grid)}", None)
    return numbers


def _order(order: str) -> tuple[int, int]:
    if order in ("forward", "reverse"):
        return (0 if order == "forward" else 1), 0
    found = re.fullmatch(r"random:(\d+)", order)
    if not found:
        raise fail("E0842", f"no such order: {order}", None, fix="forward, reverse or random:SEED")
    return 2, int(found.group(1))


def _pack(letters: str, arguments: Sequence[np.ndarray | int | float]) -> list[bytes | np.ndarray]:
    """Each argument as its bytes, or the array where the parameter is a pointer."""
    if len(arguments) != len(letters):
        raise fail("E0842", f"the kernel has {len(letters)} parameters, not {len(arguments)}", None)
    packed: list[bytes | np.ndarray] = []
    for position, (letter, argument) in enumerate(zip(letters, arguments, strict=True)):
        if isinstance(argument, np.ndarray) != (letter == "P"):
            what = "an array" if letter == "P" else "a number"
            raise fail("E0842", f"argument {position} must be {what}", None)
        if isinstance(argument, np.ndarray):
            if not argument.flags.c_contiguous:
                raise fail("E0842", f"argument {position} is an array that is not contiguous", None)
            packed.append(argument)
        elif letter in "fd":
            packed.append(struct.pack(f"<{letter}", float(argument)))
        else:
            size = struct.calcsize(f"<{letter}")
            packed.append((int(argument) & ((1 << 8 * size) - 1)).to_bytes(size, "little"))
    return packed


def _run_here(
    target: HostObject, launch: _Launch, arguments: Sequence[np.ndarray | int | float]
) -> tuple[_Result, str]:
    library = _load(target.path)
    packed = _pack(library.vm_emulator_parameters_of(launch.kernel).decode(), arguments)
    held = [
        ctypes.c_void_p(each.ctypes.data)
        if isinstance(each, np.ndarray)
        else ctypes.create_string_buffer(each, 8)
        for each in packed
    ]
    pointers = (ctypes.c_void_p * max(len(held), 1))(*(ctypes.addressof(each) for each in held))
    arrays = [each for each in packed if isinstance(each, np.ndarray)]
    buffers = (_Buffer * max(len(arrays), 1))(
        *(
            _Buffer(each.ctypes.data, each.ctypes.data + each.nbytes, each.flags.writeable)
            for each in arrays
        )
    )
    launch.arguments = pointers
    launch.buffers = buffers
    launch.buffer_count = len(arrays)
    result = _Result()
    printed = ctypes.c_char_p()
    library.vm_emulator_run(ctypes.byref(launch), ctypes.byref(result), ctypes.byref(printed))
    return result, (printed.value or b"").decode()


@functools.cache
def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.vm_emulator_parameters_of.restype = ctypes.c_char_p
    return library


def _run_in_process(
    target: HostObject, launch: _Launch, arguments: Sequence[np.ndarray | int | float]
) -> tuple[_Result, str]:
    """As `_run_here`, in the program that a sanitized object is; files carry the arguments."""
    kernel: bytes = launch.kernel
    with tempfile.TemporaryDirectory() as folder:
        job, answer = Path(folder, "job"), Path(folder, "answer")
        letters = subprocess.run(
            [target.path, "parameters", kernel.decode()], capture_output=True, text=True, check=True
        ).stdout
        packed = _pack(letters, arguments)
        fields = [*launch.grid, launch.threads, launch.shared_bytes, launch.warp_width]
        fields += [launch.order, launch.seed, len(kernel), len(packed)]
        parts = [struct.pack("<10Q", *fields), kernel]
        for each in packed:
            if isinstance(each, np.ndarray):
                parts += [struct.pack("<3Q", 1, each.nbytes, each.flags.writeable), each.tobytes()]
            else:
                parts += [struct.pack("<3Q", 0, len(each), 0), each]
        job.write_bytes(b"".join(parts))
        done = subprocess.run(
            [target.path, "run", job, answer],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0"},
        )
        if done.returncode != 0:
            raise _sanitizer_fault(done.stderr, target.source)
        data = answer.read_bytes()
    result = _Result.from_buffer_copy(data)
    at = ctypes.sizeof(_Result)
    (length,) = struct.unpack_from("<Q", data, at)
    printed = data[at + 8 : at + 8 + length].decode()
    at += 8 + length
    for each in packed:
        if isinstance(each, np.ndarray):
            if each.flags.writeable:
                flat = np.frombuffer(data, np.uint8, each.nbytes, at)
                each.reshape(-1).view(np.uint8)[:] = flat
            at += each.nbytes
    return result, printed


def _sanitizer_fault(log: str, source: Source) -> EmulatorFault:
    found = re.search(r"ERROR: AddressSanitizer: ([^\n]*)", log)
    if not found:
        raise InternalError(f"the emulator's process ended:\n{log[:4000]}")
    frames = re.findall(r"#\d+ \S+ in (\S+).* (\S+):(\d+)", log)
    sites = tuple(
        Site(name, source.name, int(line), 1, 0, (0, 0, 0))
        for name, file, line in frames
        if file == source.name or file.endswith(f"/{source.name}")
    )
    return EmulatorFault("sanitizer", found.group(1), sites, source, log)
