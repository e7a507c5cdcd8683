"""NVIDIA GPUs through the driver API: contexts, code, memory that a stream owns, launches, errors.

The primary context is used, which torch, CuPy and the CUDA runtime share. All but launching goes
through `cuda.bindings`; a launch calls the driver's own function on structures made beforehand,
since turning Python objects into them takes longer than the launch.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vm.errors import VmError, fail
from vm.runtime.nvrtc import import_bindings

STICKY = frozenset({214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999})
"""Results after which a context answers nothing else (CUresult in cuda.h: "the process must be
terminated and relaunched")."""

_INVALID_CONTEXT, _INVALID_HANDLE, _NO_BINARY = 201, 400, 209
_CLUSTER_DIMENSION, _PROGRAMMATIC_SERIALIZATION = 4, 6  # CUlaunchAttributeID
_DEFAULT_DYNAMIC_SHARED = 48 << 10
_PORTABLE_CLUSTER = 8
_REMEMBERED = 16


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute of cuda.h: the value is a union of 64 bytes."""

    _fields_ = [
        ("id", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("value", ctypes.c_uint32 * 16),
    ]


class _Configuration(ctypes.Structure):
    """CUlaunchConfig of cuda.h."""

    _fields_ = [
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint32),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("attribute_count", ctypes.c_uint32),
    ]


@dataclass(frozen=True)
class Function:
    """A kernel on a device, with the resources that the driver states for it."""

    handle: int
    program: str
    registers: int
    shared_bytes: int
    local_bytes: int
    max_threads: int


def make_launch(
    device: Device,
    function: Function,
    grid: tuple[int, int, int],
    threads: int,
    shared_bytes: int,
    parameters: ctypes.Array[ctypes.c_void_p],
    stream: int = 0,
    pdl: bool = False,
    cluster: tuple[int, int, int] | None = None,
) -> Callable[[], None]:
    """A launch with everything in place: calling it costs the driver's launch and little else.

    `parameters` is the array of pointers to the kernel's arguments, kept and read at each call. A
    call allocates, waits for and compiles nothing, so it can be captured into a graph; it raises
    `VmError` E0824 or E0825 where the driver refuses.
    """
    attributes = []
    if pdl and device.capability >= (9, 0):  # before, the kernel's waits are empty
        attributes.append(_Attribute(_PROGRAMMATIC_SERIALIZATION, 0, (1,)))
    if cluster is not None:
        attributes.append(_Attribute(_CLUSTER_DIMENSION, 0, cluster))
    listed = (_Attribute * len(attributes))(*attributes)
    configuration = _Configuration(
        grid, (threads, 1, 1), shared_bytes, stream or None, listed, len(attributes)
    )
    handle = ctypes.c_void_p(function.handle)
    invoke = functools.partial(
        device.launch_function, ctypes.byref(configuration), handle, parameters, None
    )
    program, remember, waits = function.program, device.launched.append, device.waits

    def launch() -> None:  # a closure: a method would cost a tenth of a microsecond more
        code = invoke()
        remember(program)
        if code or waits:
            finish(code)

    def finish(code: int) -> None:
        if code in (_INVALID_CONTEXT, _INVALID_HANDLE):  # another thread, or another device
            with device.current():
                code = invoke()
        device.check(code, "cuLaunchKernelEx", program)
        if waits and not device.capture(stream):
            device.synchronize(program, stream)

    return launch


class Device:
    """A GPU with its primary context; `device(ordinal)` gives the one of a process."""

    def __init__(self, ordinal: int) -> None:
        self.driver = driver = _initialized()
        self.ordinal = ordinal
        self.launched: deque[str] = deque(maxlen=_REMEMBERED)
        """Programs launched since the context was last seen to be well, newest last."""
        self.waits = os.environ.get("VM_SYNCHRONIZE") == "1"
        """Wait after every launch, so that a fault is the fault of the program it is raised in."""
        self._poison: str | None = None
        self._lock = threading.Lock()
        self._workspaces: dict[tuple[int, int], tuple[int, int]] = {}
        self._semaphores: dict[tuple[int, int], tuple[int, int]] = {}
        self._handle = self.call("cuDeviceGet", ordinal)
        self.context = self.call("cuDevicePrimaryCtxRetain", self._handle)
        kinds = driver.CUdevice_attribute
        self.name = self.call("cuDeviceGetName", 256, self._handle).split(b"\0")[0].decode()
        self.capability = (
            self._attribute(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self._attribute(kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        self.multiprocessors = self._attribute(kinds.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        self.shared_limit = self._attribute(
            kinds.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        )
        self.launch_function = self._function(b"cuLaunchKernelEx")
        self._is_capturing = self._function(b"cuStreamIsCapturing")
        with self.current():
            self._own_stream = int(self.call("cuStreamCreate", 1))  # waits for no other stream

    def load(
        self, cubin: bytes, kernel: str, program: str, threads: int, shared_bytes: int, cluster: int
    ) -> Function:
        """Load `kernel` of `cubin`, now and not at its first launch, for blocks of `threads` with
        `shared_bytes` of dynamic shared memory and clusters of `cluster` blocks.

        Raises `VmError` E0826 for a cubin of another architecture, E0827 where a block does not fit
        the device.
        """
        kinds = self.driver.CUfunction_attribute
        with self.current(), self.outside_capture():
            result, module = self.driver.cuModuleLoadData(cubin)
            if int(result) == _NO_BINARY:
                raise fail(
                    "E0826",
                    f"{program} was compiled for another architecture than {self}",
                    None,
                    fix=f"compile for target {self.target}",
                )
            self.check(int(result), "cuModuleLoadData", program)
            handle = self.call("cuModuleGetFunction", module, kernel.encode(), program=program)
            self.call("cuFuncLoad", handle, program=program)

            def attribute(kind: object) -> int:
                return self.call("cuFuncGetAttribute", kind, handle, program=program)

            function = Function(
                int(handle),
                program,
                attribute(kinds.CU_FUNC_ATTRIBUTE_NUM_REGS),
                attribute(kinds.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES),
                attribute(kinds.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES),
                attribute(kinds.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
            )
            self._fit(function, threads, shared_bytes)
            if shared_bytes + function.shared_bytes > _DEFAULT_DYNAMIC_SHARED:
                kind = kinds.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                self.call("cuFuncSetAttribute", handle, kind, shared_bytes, program=program)
            if cluster > _PORTABLE_CLUSTER:
                kind = kinds.CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
                self.call("cuFuncSetAttribute", handle, kind, 1, program=program)
        return function

    def workspace(self, stream: int, bytes: int) -> int:
        """The address of at least `bytes` of scratch memory for work on `stream`.

        It grows and is never freed, since prepared launches and graphs hold its address; growing at
        least doubles it, so what was outgrown is at most as much again. A graph being captured has
        its own: it may run beside later work on the stream that it was captured from.
        """
        return self._owned(self._workspaces, stream, bytes, zeroed=False)

    def semaphores(self, stream: int, count: int) -> int:
        """The address of at least `count` 32-bit words for work on `stream`, zero at first; who
        uses them leaves them zero."""
        return self._owned(self._semaphores, stream, 4 * count, zeroed=True)

    def _owned(
        self,
        blocks: dict[tuple[int, int], tuple[int, int]],
        stream: int,
        bytes: int,
        zeroed: bool,
    ) -> int:
        key = (stream, self.capture(stream))
        with self._lock:
            pointer, size = blocks.get(key, (0, 0))
            if bytes > size:
                size = max(bytes, 2 * size, 4096)
                pointer = self.allocate(size)
                if zeroed:
                    with self.current(), self.outside_capture():
                        self.call("cuMemsetD8Async", pointer, 0, size, self._own_stream)
                        self.call("cuStreamSynchronize", self._own_stream)
                blocks[key] = (pointer, size)
        return pointer

    def capture(self, stream: int) -> int:
        """The number of the capture that `stream` is in, or 0."""
        status = ctypes.c_int()
        # may fail for the legacy default stream, which is never captured, while another one is
        if self._is_capturing(ctypes.c_void_p(stream), ctypes.byref(status)) or status.value == 0:
            return 0
        return int(self.call("cuStreamGetCaptureInfo", stream)[1])

    def allocate(self, bytes: int) -> int:
        """The address of new memory, at least one byte; a capture does not record it."""
        with self.current(), self.outside_capture():
            return int(self.call("cuMemAlloc", max(1, bytes)))

    def free(self, pointer: int) -> None:
        with self.current():
            self.call("cuMemFree", pointer)

    def copy_in(self, pointer: int, host: int, bytes: int, stream: int) -> None:
        """Copy from the host address to device memory, in order on `stream`."""
        with self.current():
            self.call("cuMemcpyHtoDAsync", pointer, host, bytes, stream)

    def copy_out(self, host: int, pointer: int, bytes: int, stream: int, program: str) -> None:
        """Copy to the host address, in order on `stream`; done once that is synchronized."""
        with self.current():
            self.call("cuMemcpyDtoHAsync", host, pointer, bytes, stream, program=program)

    def order(self, first: int, second: int) -> None:
        """What comes on stream `second` from now on waits for what is on `first` now."""
        with self.current():
            event = self.call("cuEventCreate", 2)  # CU_EVENT_DISABLE_TIMING
            self.call("cuEventRecord", event, first)
            self.call("cuStreamWaitEvent", second, event, 0)
            self.call("cuEventDestroy", event)

    def synchronize(self, program: str = "", stream: int | None = None) -> None:
        """Wait for `stream`, or for everything; raises `VmError` E0825 where a program faulted."""
        with self.current():
            if stream is None:
                self.call("cuCtxSynchronize", program=program)
                self.launched.clear()
            else:
                self.call("cuStreamSynchronize", stream, program=program)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make this the thread's context: for good where it has none, as the runtime does, else
        for the block."""
        present = self.call("cuCtxGetCurrent")
        if int(present) == 0:
            self.call("cuCtxSetCurrent", self.context)
            yield
        elif int(present) == int(self.context):
            yield
        else:
            self.call("cuCtxPushCurrent", self.context)
            try:
                yield
            finally:
                self.call("cuCtxPopCurrent")

    @contextlib.contextmanager
    def outside_capture(self) -> Iterator[None]:
        """Allow this thread to allocate, load and wait while a stream is being captured: what it
        does on streams that are not, happens now and is no part of the graph."""
        mode = self.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        previous = self.call("cuThreadExchangeStreamCaptureMode", mode)
        try:
            yield
        finally:
            self.call("cuThreadExchangeStreamCaptureMode", previous)

    def call(self, function: str, *arguments: object, program: str = "") -> Any:
        """A function of the bindings; its value, a tuple where there are several."""
        code, *values = getattr(self.driver, function)(*arguments)
        self.check(int(code), function, program)
        return values[0] if len(values) == 1 else tuple(values)

    def check(self, code: int, function: str, program: str = "") -> None:
        """Raise `VmError` where `code` is no success: E0825 where the context is lost, which is
        remembered and told with every later error, else E0824."""
        if code == 0:
            return
        name, text = self._explain(code)
        if code in STICKY or self._poison is not None:
            raise self._poisoned(name, text, function, program)
        doing = f" for {program}" if program else ""
        raise fail(
            "E0824", f"{function} failed{doing} on cuda:{self.ordinal}: {text} ({name})", None
        )

    def _poisoned(self, name: str, text: str, function: str, program: str) -> VmError:
        first = self._poison is None
        if first:
            recent = list(dict.fromkeys(reversed(self.launched)))
            if self.waits and recent:
                culprit = f"{recent[0]} faulted"
            elif len(recent) == 1:
                culprit = f"{recent[0]} is the only program launched since the last check"
            elif recent:
                culprit = f"one of these faulted, newest first: {', '.join(recent)}"
            else:
                culprit = "none of our programs was launched since the last check"
            self._poison = f"{culprit}: {text} ({name}), seen by {function}"
            message = f"a kernel faulted on {self}: {self._poison}"
        else:
            doing = f"{program} cannot run" if program else f"{function} failed"
            message = f"{doing}: {self} was lost earlier: {self._poison}"
        return fail(
            "E0825",
            message,
            None,
            notes=(
                "the fault may also be that of a kernel of another library in this process",
                "no further work is possible on this device in this process",
            ),
            fix="run the program on the reference machine; "
            "VM_SYNCHRONIZE=1 waits after every launch and names the one at fault",
        )

    def _fit(self, function: Function, threads: int, shared_bytes: int) -> None:
        wanted = shared_bytes + function.shared_bytes
        if wanted > self.shared_limit:
            raise fail(
                "E0827",
                f"{function.program} needs {wanted} bytes of shared memory in a block; "
                f"{self} has {self.shared_limit}",
                None,
                fix="use smaller tiles or fewer stages",
            )
        if threads > function.max_threads:
            raise fail(
                "E0827",
                f"{function.program} needs {function.registers} registers in each of {threads} "
                f"threads; {self} can run {function.max_threads} of them in a block",
                None,
                fix="use fewer threads, or tiles that need fewer registers",
            )

    def _explain(self, code: int) -> tuple[str, str]:
        try:
            result = self.driver.CUresult(code)
        except ValueError:  # newer than the bindings
            return f"CUresult {code}", "unknown error"
        name = self.driver.cuGetErrorName(result)[1]
        text = self.driver.cuGetErrorString(result)[1]
        return name.decode(), text.decode()

    def _function(self, name: bytes) -> Callable[..., int]:
        """A function of the driver by its address. No types are declared for its arguments, since
        checking them takes half as long as the call: they must be ctypes objects or None."""
        address = int(self.call("cuGetProcAddress", name, 12000, 0)[0])
        # the interpreter is let go meanwhile: a launch waits when the queue is full
        return ctypes.CFUNCTYPE(ctypes.c_int)(address)

    def _attribute(self, kind: object) -> int:
        return self.call("cuDeviceGetAttribute", kind, self._handle)

    @property
    def target(self) -> str:
        """The architecture to compile for."""
        major, minor = self.capability
        suffix = "a" if major in (9, 10) else ""
        return f"sm_{major}{minor}{suffix}"

    def __str__(self) -> str:
        return f"cuda:{self.ordinal} ({self.name})"


@functools.cache
def _initialized() -> Any:
    """The driver's bindings after cuInit; raises `VmError` E0820 (no package), E0821 (no GPU)."""
    driver = import_bindings("driver")
    try:
        (result,) = driver.cuInit(0)
    except RuntimeError as error:  # what the bindings raise where libcuda is not there
        raise _no_device(str(error)) from error
    if int(result) != 0:
        raise _no_device(driver.cuGetErrorString(result)[1].decode())
    return driver


def _no_device(why: str) -> VmError:
    return fail(
        "E0821",
        f"no NVIDIA GPU can be used: {why}",
        None,
        fix="run on the reference machine or the emulator; `vm doctor` says what is missing",
    )


def device_count() -> int:
    """How many GPUs there are; raises as `device` does where none can be used."""
    return int(_initialized().cuDeviceGetCount()[1])


@functools.cache
def device(ordinal: int = 0) -> Device:
    """The device of that number; raises `VmError` E0820, E0821."""
    count = device_count()
    if not 0 <= ordinal < count:
        raise _no_device(f"there is no cuda:{ordinal}, only {count} devices")
    return Device(ordinal)
