"""From a call with arrays to a launch on a GPU.

The first call of a `Kernel` with arrays of some shapes checks everything against its manifest and
makes a `PreparedLaunch`; later calls with such arrays find it again and exchange the addresses.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import operator
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vm.errors import VmError, fail
from vm.isa.dtypes import dtype
from vm.runtime import cuda, scalars
from vm.runtime.arrays import Array, describe
from vm.runtime.manifest import Manifest, bind_sizes, check_addresses, conflicts, evaluate

_GRID_LIMIT = (2**31 - 1, 65535, 65535)
"""Blocks in x, y, z: CUDA C++ Programming Guide, "Technical Specifications per Compute
Capability"."""

_REMEMBERED = 1024
"""Prepared launches, and addresses of tensors, that a kernel keeps; then it starts anew."""


class Parameters:
    """The packed arguments of one kernel, at addresses that never change."""

    def __init__(
        self, manifest: Manifest, sizes: Mapping[str, int], trailing: Sequence[int]
    ) -> None:
        formats = ["Q"] * len(manifest.pointers)
        formats += [
            scalars.letter(dtype(each.dtype)) for each in (*manifest.sizes, *manifest.scalars)
        ]
        formats += ["Q"] * len(trailing)
        offsets, end = [], 0
        for letter in formats:
            size = struct.calcsize(letter)
            offsets.append(-(-end // size) * size)
            end = offsets[-1] + size
        self.buffer = ctypes.create_string_buffer(max(8, end))
        base = ctypes.addressof(self.buffer)
        self.addresses = (ctypes.c_void_p * len(offsets))(*(base + each for each in offsets))
        self._manifest = manifest
        self._pointers = struct.Struct(f"<{len(manifest.pointers)}Q")
        places = iter(zip(formats[len(manifest.pointers) :], offsets[len(manifest.pointers) :],
                          strict=True))  # fmt: skip
        for argument, (letter, offset) in zip(manifest.sizes, places, strict=False):
            value = evaluate(argument.value, sizes)
            try:
                struct.pack_into("<" + letter, self.buffer, offset, value)
            except struct.error as error:
                problem = f"{argument.value} = {value} does not fit {argument.dtype}"
                raise fail("E0837", f"{manifest.program}: {problem}", None) from error
        self._scalars = [
            (struct.Struct("<" + letter).pack_into, offset, scalars.travelling(dtype(each.dtype)))
            for each, (letter, offset) in zip(manifest.scalars, places, strict=False)
        ]
        for value, offset in zip(trailing, offsets[len(offsets) - len(trailing) :], strict=True):
            struct.pack_into("<Q", self.buffer, offset, value)

    def set_pointers(self, pointers: Sequence[int]) -> None:
        self._pointers.pack_into(self.buffer, 0, *pointers)

    def set_scalars(self, values: Sequence[Any]) -> None:
        """Raises `VmError` E0837 for a value that its dtype does not have."""
        for index, (pack, offset, convert) in enumerate(self._scalars):
            try:
                value = values[index]
                pack(self.buffer, offset, value if convert is None else convert(value))
            except _MISFITS as error:
                raise _misfit(self._manifest, index, values[index], error) from error


_MISFITS = (struct.error, OverflowError, TypeError)


def _misfit(manifest: Manifest, index: int, value: Any, error: Exception) -> VmError:
    scalar = manifest.scalars[index]
    problem = f"{scalar.name} is {scalar.dtype}, not {value!r}: {error}"
    return fail("E0837", f"{manifest.program}: {problem}", None)


def _launch_nothing() -> None:
    """The launch of a grid without blocks, which the driver refuses."""


class PreparedLaunch:
    """A kernel with its arguments on a stream: `launch()` does nothing but launch.

    It keeps the arrays that it was prepared with. `pointers` are the addresses it launches with.
    """

    def __init__(
        self, kernel: Kernel, device: cuda.Device, sizes: Mapping[str, int], stream: int
    ) -> None:
        manifest = kernel.manifest
        function = kernel.function(device)
        workspace = evaluate(manifest.workspace_bytes, sizes)
        semaphores = evaluate(manifest.semaphores, sizes)
        trailing = []
        if manifest.workspace_bytes != "0":
            trailing.append(device.workspace(stream, workspace))
        if manifest.semaphores != "0":
            trailing.append(device.semaphores(stream, semaphores))
        self.sizes = dict(sizes)
        self.arrays: tuple[object, ...] = ()
        self.pointers: list[int] = []
        self.lock = threading.Lock()
        self.parameters = Parameters(manifest, sizes, trailing)
        grid = kernel.grid(sizes)
        if any(blocks > limit for blocks, limit in zip(grid, _GRID_LIMIT, strict=True)):
            problem = f"a grid of {grid} blocks for {dict(sizes)} is over the limit {_GRID_LIMIT}"
            raise fail("E0827", f"{manifest.program}: {problem}", None)
        self.launch: Callable[[], None] = _launch_nothing
        if all(grid):
            self.launch = cuda.make_launch(
                device,
                function,
                grid,
                manifest.threads,
                manifest.shared_bytes,
                self.parameters.addresses,
                stream,
                manifest.pdl,
                manifest.cluster,
            )
        self._manifest = manifest

    def set_arrays(self, arrays: Sequence[Array]) -> None:
        """Launch with these from now on, which must be of the shapes it was prepared for."""
        check_addresses(self._manifest, arrays)
        self.set_pointers([array.pointer for array in arrays])

    def set_pointers(self, pointers: list[int]) -> None:
        """As `set_arrays`, for addresses that were checked."""
        self.pointers = pointers
        self.parameters.set_pointers(pointers)


class _Known:
    """What a kernel remembers of torch tensors of some shapes and dtypes, all checked once: their
    prepared launches by `Kernel._launch_key`, and what to check when they come at other
    addresses."""

    def __init__(
        self,
        manifest: Manifest,
        arrays: Sequence[Array],
        tensors: Sequence[Any],
        sizes: Mapping[str, int],
        device: int,
    ) -> None:
        self.sizes = sizes
        self.device = device
        self.same = _sameness(tensors)
        self.current_stream = functools.partial(_raw_stream(), device)
        self.launches: dict[Any, PreparedLaunch] = {}
        self.checked: set[tuple[int, ...]] = set()  # addresses at which they may be
        self._alignments = [pointer.alignment for pointer in manifest.pointers]
        self._bytes = [array.span[1] - array.pointer for array in arrays]
        self._conflicts = conflicts(manifest)

    def may_move(
        self, tensors: Sequence[Any], pointers: list[int], old: list[int]
    ) -> bool:
        """Whether the tensors, otherwise as before, may be at `pointers`. Those that have not moved
        are on their device still: addresses are unique over all of them."""
        met = tuple(pointers)
        if met in self.checked:
            return True
        for index, pointer in enumerate(pointers):
            if pointer != old[index] and (
                not pointer  # empty, or a tensor of a kind that has no memory
                or tensors[index].get_device() != self.device
                or pointer % self._alignments[index]
            ):
                return False
        sizes = self._bytes
        for one, other in self._conflicts:
            first, second = pointers[one], pointers[other]
            if first < second + sizes[other] and second < first + sizes[one]:
                return False
        if len(self.checked) >= _REMEMBERED:
            self.checked.clear()
        self.checked.add(met)
        return True


class Kernel:
    """A compiled kernel to be called with arrays: `kernel(a, b, c)`.

    `grid` gives the blocks in x, y, z from the sizes. A call takes the arrays in the manifest's
    order, then the scalars; keyword `stream` is a CUDA stream's address. Without it the launch goes
    to torch's current stream, or that of the first array that names one, or the default stream.
    Device arrays are used in place; host arrays are copied in and, where written, out again.
    """

    def __init__(
        self,
        manifest: Manifest,
        cubin: bytes,
        grid: Callable[[Mapping[str, int]], tuple[int, int, int]],
    ) -> None:
        self.manifest = manifest
        self.cubin = cubin
        self.grid = grid
        self._functions: dict[int, cuda.Function] = {}
        self._count = len(manifest.pointers)
        self._total = self._count + len(manifest.scalars)
        self._shaping = [
            self._count + index for index, each in enumerate(manifest.scalars) if each.shapes
        ]
        self._strided = any(pointer.strides is not None for pointer in manifest.pointers)
        self._owns_memory = (manifest.workspace_bytes, manifest.semaphores) != ("0", "0")
        self._known: dict[tuple[object, ...], _Known] = {}
        self._latest: _Known | None = None

    def function(self, device: cuda.Device) -> cuda.Function:
        """The kernel loaded on a device, once."""
        function = self._functions.get(device.ordinal)
        if function is None:
            manifest = self.manifest
            blocks = math.prod(manifest.cluster or (1,))
            name, program, shared = manifest.kernel, manifest.program, manifest.shared_bytes
            function = device.load(self.cubin, name, program, manifest.threads, shared, blocks)
            self._functions[device.ordinal] = function
        return function

    def __call__(self, *values: Any, stream: int | None = None) -> None:
        """Launch; raises `VmError` E0828 to E0838 for arguments that do not fit, E0821 to E0827 for
        a device that does not, E0824 and E0825 for what the driver says."""
        if not self.launch_known(values, stream):
            self._call(values, stream)

    def launch_known(self, values: tuple[Any, ...], stream: int | None) -> bool:
        """Launches for torch tensors of shapes and dtypes met before; says whether it did. All else
        goes through the checks of a call, which can refuse it."""
        count = self._count
        if len(values) != self._total:
            return False
        tensors = values if self._total == count else values[:count]
        known = self._latest
        if known is None or not known.same(*tensors):
            known = self._find(tensors)
            if known is None:
                return False
        # Not by `map`, where each call makes its arguments first: half a microsecond for five.
        pointers = [tensor.data_ptr() for tensor in tensors]
        if stream is None:
            stream = known.current_stream()
        key = self._launch_key(stream, values) if self._shaping else stream
        prepared = known.launches.get(key)
        if prepared is None or (self._owns_memory and cuda.device(known.device).capture(stream)):
            return False
        with prepared.lock:
            if pointers != prepared.pointers:
                if not known.may_move(tensors, pointers, prepared.pointers):
                    return False
                prepared.set_pointers(pointers)
            if tensors is not values:
                prepared.parameters.set_scalars(values[count:])
            prepared.launch()
        return True

    def _find(self, tensors: Sequence[Any]) -> _Known | None:
        """What is known of tensors other than the latest."""
        try:
            known = self._known.get(self._key(tensors))
            if known is None or not (self._strided or all(map(_is_contiguous, tensors))):
                return None
        except (AttributeError, TypeError):  # no tensors
            return None
        if known is self._latest:  # they differ in something that does not matter to us
            known.same = _sameness(tensors)
        self._latest = known
        return known

    def _key(self, tensors: Sequence[Any]) -> tuple[object, ...]:
        """What decides whether tensors fit, their addresses apart; a torch dtype equals no other
        library's."""
        key = (*map(_device, tensors[:1]), *map(_shape, tensors), *map(_dtype, tensors))
        return (*key, *(tensor.stride() for tensor in tensors)) if self._strided else key

    def prepare(self, *values: Any, stream: int | None = None) -> PreparedLaunch:
        """Everything but the launch: for device arrays, whose contents may change between launches.
        Raises as a call does, and E0838 for host arrays."""
        arrays, device, stream = self._describe(values, stream)
        if device is None:
            raise self._host_refused("prepared for launches")
        sizes = self._sizes(arrays, values)
        prepared = PreparedLaunch(self, device, sizes, stream)
        prepared.arrays = values[: self._count]
        prepared.set_arrays(arrays)
        prepared.parameters.set_scalars(values[self._count :])
        return prepared

    def _call(self, values: Sequence[Any], stream: int | None) -> None:
        arrays, device, stream = self._describe(values, stream)
        if device is None:
            self._call_on_host(arrays, values, stream)
            return
        for other in {each.stream for each in arrays} - {None, stream}:
            device.order(other, stream)
        sizes = self._sizes(arrays, values)
        prepared = PreparedLaunch(self, device, sizes, stream)
        prepared.set_arrays(arrays)
        prepared.parameters.set_scalars(values[self._count :])
        prepared.launch()
        torch_only = all(each.library == "torch" and each.packed is None for each in arrays)
        if arrays and torch_only and not (self._owns_memory and device.capture(stream)):
            if sum(len(known.launches) for known in self._known.values()) >= _REMEMBERED:
                self._known.clear()
            given = values[: self._count]
            fresh = _Known(self.manifest, arrays, given, sizes, device.ordinal)
            self._latest = known = self._known.setdefault(self._key(given), fresh)
            known.launches[self._launch_key(stream, values)] = prepared

    def _launch_key(self, stream: int, values: Sequence[Any]) -> Any:
        """What prepared launches for the same shapes differ in: the stream, and the codes of
        scalars on which the grid or a fact depends."""
        if not self._shaping:
            return stream
        return stream, *(self._shaping_code(index, values[index]) for index in self._shaping)

    def _shaping_code(self, index: int, value: Any) -> int:
        number = index - self._count
        try:
            return scalars.code(dtype(self.manifest.scalars[number].dtype), value)
        except _MISFITS as error:
            raise _misfit(self.manifest, number, value, error) from error

    def _sizes(self, arrays: Sequence[Array], values: Sequence[Any]) -> dict[str, Any]:
        for index in self._shaping:  # a number, before it is computed with
            self._shaping_code(index, values[index])
        return bind_sizes(self.manifest, arrays, values[self._count :])

    def _describe(
        self, values: Sequence[Any], stream: int | None
    ) -> tuple[list[Array], cuda.Device | None, int]:
        """The arrays, their device (none for the host) and the stream to use."""
        manifest = self.manifest
        if len(values) != self._total:
            names = [each.name for each in (*manifest.pointers, *manifest.scalars)]
            problem = f"takes {self._total} arguments ({', '.join(names)}), not {len(values)}"
            raise fail("E0837", f"{manifest.program} {problem}", None)
        given = values[: self._count]
        if stream is None and "torch" in sys.modules:
            tensor = sys.modules["torch"].Tensor
            on_device = (each for each in given if isinstance(each, tensor) and each.is_cuda)
            first = next(on_device, None)
            stream = None if first is None else _raw_stream()(first.get_device())
        arrays = [describe(each, stream or 0) for each in given]
        if stream is None:
            named = (each.stream for each in arrays if each.stream is not None)
            stream = next(named, 0)
        named_arrays = zip(manifest.pointers, arrays, strict=True)
        places = {array.device: pointer.name for pointer, array in named_arrays}
        if len(places) > 1:
            shown = ", ".join(f"{name} on {place}" for place, name in places.items())
            raise fail(
                "E0833",
                f"{manifest.program}: the arrays are on different devices: {shown}",
                None,
                fix="move them to one device",
            )
        place = next(iter(places), "cuda:0")
        kind, _, ordinal = place.partition(":")
        if kind == "cpu":
            return arrays, None, stream
        if kind != "cuda":
            raise fail("E0833", f"{manifest.program} is compiled for CUDA, not for {place}", None)
        return arrays, cuda.device(int(ordinal)), stream

    def _call_on_host(self, arrays: list[Array], values: Sequence[Any], stream: int) -> None:
        device = cuda.device(0)
        sizes = self._sizes(arrays, values)
        check_addresses(self.manifest, arrays)
        if device.capture(stream):
            raise self._host_refused("captured into a graph")
        copies: dict[tuple[int, int], int] = {}
        try:
            moved = []
            for array in arrays:
                first, last = array.span
                if (first, last) not in copies:  # the same memory given twice stays the same
                    copies[first, last] = device.allocate(last - first)
                    device.copy_in(copies[first, last], first, last - first, stream)
                address = copies[first, last] + array.pointer - first
                moved.append(replace(array, pointer=address, owner=None))
            prepared = PreparedLaunch(self, device, sizes, stream)
            prepared.set_arrays(moved)
            prepared.parameters.set_scalars(values[self._count :])
            prepared.launch()
            program = self.manifest.program
            for pointer, array in zip(self.manifest.pointers, arrays, strict=True):
                first, last = array.span
                if pointer.access != "in":
                    source = copies[first, last]
                    device.copy_out(first, source, last - first, stream, program)
            device.synchronize(program, stream)
        finally:
            for copy in copies.values():
                with contextlib.suppress(VmError):  # after a fault: that one is to be told
                    device.free(copy)

    def _host_refused(self, what: str) -> VmError:
        return fail(
            "E0838",
            f"{self.manifest.program}: host arrays are copied at every call and cannot be {what}",
            None,
            fix="pass device arrays",
        )


_shape = operator.attrgetter("shape")
_dtype = operator.attrgetter("dtype")
_device = operator.attrgetter("device")
_is_contiguous = operator.methodcaller("is_contiguous")


def _raw_stream() -> Callable[[int], int]:
    """What gives the address of torch's current stream on a device, without making an object."""
    return sys.modules["torch"]._C._cuda_getCurrentRawStream


def _sameness(tensors: Sequence[Any]) -> Callable[..., bool]:
    """Whether other tensors have the shapes, strides, dtypes and devices of these: torch's own
    check, which compiled functions make before each call, takes a third of the time of asking each
    for its attributes. Where a version of torch lacks it, no tensors are taken for the same."""
    try:
        guards = sys.modules["torch"]._C._dynamo.guards.TensorGuards
        sizes = [list(tensor.shape) for tensor in tensors]
        strides = [list(tensor.stride()) for tensor in tensors]
        made = guards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
    except (AttributeError, TypeError):
        return _never
    return made.check


def _never(*tensors: object) -> bool:
    return False
