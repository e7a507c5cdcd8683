"""What a kernel sees of an array, whichever library it is from: an address and how to walk it.

Nothing is copied and no library is imported: a torch tensor can only be met where torch already is.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vm.errors import VmError, fail

_PLAIN = {
    "bool": "bool",
    "float16": "f16",
    "float32": "f32",
    "float64": "f64",
    "bfloat16": "bf16",
    "float8_e4m3fn": "f8e4m3",
    "float8_e5m2": "f8e5m2",
    "float8_e8m0fnu": "f8e8m0",
    **{
        f"{kind}int{bits}": f"{kind or 'i'}{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)
    },
}
"""The dtypes that NumPy (with ml_dtypes) and torch share with us, by their names there."""

_PACKED = {"float4_e2m1fn_x2": ("f4e2m1", 2)}
"""torch dtypes of one byte that hold several elements."""

_REFUSED = {
    **dict.fromkeys(
        ("float8_e4m3", "float8_e3m4"),
        "is IEEE-like there (it has infinities), which is no type of ours; use float8_e4m3fn",
    ),
    **dict.fromkeys(
        ("int2", "uint2", "int4", "uint4", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"),
        "takes a whole byte per element there; pack it with vm.pack and pass a vm.Tensor",
    ),
}

_DLPACK_BITS = {0: "i{}", 1: "u{}", 2: "f{}", 4: "bf{}", 6: "bool"}
_DLPACK_NAMES = {10: "f8e4m3", 12: "f8e5m2", 14: "f8e8m0"}
_DLPACK_DEVICES = {1: "cpu", 2: "cuda:{}", 3: "cpu", 10: "hip:{}", 11: "cpu", 13: "cuda:{}"}
"""Device types of dlpack.h; 3 and 11 are pinned host memory, 13 is managed memory."""


@dataclass(frozen=True)
class Array:
    """A region of memory seen as elements.

    `pointer` is the address of element 0; `shape` and `strides` count elements (of a packed array:
    of its `u8` storage); `device` is `cpu`, `cuda:0` or `hip:0`; `library` names where it is from.
    `packed` is the dtype and the logical shape of elements narrower than a byte, whose last axis is
    packed into the bytes of each row. `stream` is one that work on the array was ordered on, as far
    as the library tells. `owner` keeps the memory alive.
    """

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    device: str
    readonly: bool
    library: str
    item_bytes: int
    packed: tuple[str, tuple[int, ...]] | None = None
    stream: int | None = None
    owner: object = field(default=None, compare=False, repr=False)

    @property
    def contiguous(self) -> bool:
        """Row-major without gaps; strides of axes of one element do not matter."""
        if 0 in self.shape:
            return True
        walked = [pair for pair in zip(self.shape, self.strides, strict=True) if pair[0] != 1]
        extents = [extent for extent, _ in walked]
        return tuple(stride for _, stride in walked) == row_major(extents)

    @property
    def span(self) -> tuple[int, int]:
        """The addresses of its first byte and of the one after its last."""
        if 0 in self.shape:
            return (self.pointer, self.pointer)
        reach = [(extent - 1) * each for extent, each in zip(self.shape, self.strides, strict=True)]
        first = sum(each for each in reach if each < 0)
        last = sum(each for each in reach if each > 0)
        size = self.item_bytes
        return (self.pointer + first * size, self.pointer + (last + 1) * size)

    def overlaps(self, other: Array) -> bool:
        """Whether the address ranges meet; interleaved arrays count as meeting."""
        (first, last), (other_first, other_last) = self.span, other.span
        same = self.device == other.device
        return same and max(first, other_first) < min(last, other_last)

    def aligned(self, bytes: int) -> bool:
        return self.pointer % bytes == 0


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of an array without gaps, last axis fastest."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def describe(value: object, stream: int = 0) -> Array:
    """`value` as an `Array`: from NumPy, torch, anything with `__cuda_array_interface__` (CuPy,
    Numba) or DLPack (JAX), or an object with `dtype`, `shape` and `storage` (`vm.Tensor`).

    `stream` is where the array will be used, for DLPack producers to order their work before it.
    Raises `VmError` E0828 for what is no array, E0829 for a dtype that is none of ours, E0832 for
    strides that are not whole elements.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _describe_torch(value)
    if isinstance(value, np.ndarray):
        return _describe_numpy(value)
    kind = type(value)  # looked up on the type: some arrays answer any attribute
    if hasattr(kind, "__cuda_array_interface__"):
        return _describe_interface(value)
    if hasattr(kind, "__dlpack__") and hasattr(kind, "__dlpack_device__"):
        return _describe_dlpack(value, stream)
    storage = getattr(value, "storage", None)
    if storage is not None and hasattr(value, "dtype") and hasattr(value, "shape"):
        held = describe(storage, stream)
        if getattr(value.dtype, "is_packed", True):
            return _describe_packed(value, held)
        # One element of memory for each: the tensor only says which dtype its bits are.
        return replace(held, dtype=value.dtype.name)
    raise fail(
        "E0828",
        f"a {kind.__module__}.{kind.__qualname__} is no array",
        None,
        fix="pass a NumPy, torch or CuPy array, or anything that speaks DLPack",
    )


def dtype_name(name: str, library: str) -> str:
    """Our name of what `library` calls `name`; raises `VmError` E0829 where there is none."""
    if name in _PLAIN:
        return _PLAIN[name]
    hint = _REFUSED.get(name)
    raise fail("E0829", f"{library} dtype {name} {hint or 'has no counterpart here'}", None)


def _describe_numpy(array: np.ndarray) -> Array:
    if not array.dtype.isnative:
        raise fail("E0829", f"NumPy dtype {array.dtype.str} has the other byte order", None)
    name = dtype_name(array.dtype.name, "NumPy")
    interface = array.__array_interface__
    pointer, readonly = interface["data"]
    size = array.dtype.itemsize
    strides = _in_elements(array.strides, size)
    return Array(pointer, array.shape, strides, name, "cpu", readonly, "numpy", size, owner=array)


def _describe_torch(tensor: Any) -> Array:
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized:
        raise fail("E0828", f"a torch tensor of layout {tensor.layout} is no plain array", None)
    if tensor.is_conj() or tensor.is_neg():
        raise fail(
            "E0828",
            "a torch tensor that is conjugated or negated lazily",
            None,
            fix="pass tensor.resolve_conj().resolve_neg()",
        )
    name = str(tensor.dtype).removeprefix("torch.")
    shape, strides = tuple(tensor.shape), tuple(tensor.stride())
    packed = None
    if name in _PACKED:
        element, count = _PACKED[name]
        packed = (element, (*shape[:-1], shape[-1] * count))
    device = str(tensor.device)
    return Array(
        tensor.data_ptr(),
        shape,
        strides,
        "u8" if packed else dtype_name(name, "torch"),
        device if device != "cuda" else "cuda:0",
        False,
        "torch",
        tensor.element_size(),
        packed,
        owner=tensor,
    )


def _describe_interface(value: Any) -> Array:
    """CUDA Array Interface, version 2 or 3 (numba.readthedocs.io, "CUDA Array Interface")."""
    interface = value.__cuda_array_interface__
    library = type(value).__module__.partition(".")[0]
    dtype = np.dtype(interface["typestr"])
    if dtype.kind == "V":  # how a library says bfloat16 and the like, if at all
        dtype = np.dtype(getattr(value, "dtype", dtype))
    if not dtype.isnative or interface.get("mask") is not None:
        raise fail("E0829", f"a {library} array that is masked or of the other byte order", None)
    shape = tuple(interface["shape"])
    strides = interface.get("strides")
    elements = row_major(shape) if strides is None else _in_elements(strides, dtype.itemsize)
    pointer, readonly = interface["data"]
    stream = interface.get("stream")
    return Array(
        pointer or 0,
        shape,
        elements,
        dtype_name(dtype.name, library),
        f"cuda:{_ordinal(value)}",
        bool(readonly),
        library,
        dtype.itemsize,
        stream=0 if stream == 1 else stream,  # 1 is the legacy default stream, which we call 0
        owner=value,
    )


def _ordinal(value: Any) -> int:
    """The device of an array that has an interface, which does not state it: from the DLPack
    device, the `id` of CuPy's device, or 0."""
    if hasattr(type(value), "__dlpack_device__"):
        return int(value.__dlpack_device__()[1])
    return int(getattr(getattr(value, "device", None), "id", 0))


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned of dlpack.h."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


def _describe_dlpack(value: Any, stream: int) -> Array:
    library = type(value).__module__.partition(".")[0]
    device_type, ordinal = (int(each) for each in value.__dlpack_device__())
    device = _DLPACK_DEVICES.get(device_type)
    if device is None:
        raise fail("E0833", f"a {library} array on a device of DLPack type {device_type}", None)
    # for CUDA the legacy default stream is 1, and 0 is not allowed
    order = {} if device == "cpu" else {"stream": stream or 1}
    try:
        capsule = value.__dlpack__(max_version=(1, 0), **order)
    except TypeError:  # a producer older than version 1
        capsule = value.__dlpack__(**order)
    tensor, readonly = _read_capsule(capsule)
    bits = tensor.bits
    name = _DLPACK_NAMES.get(tensor.code) or _DLPACK_BITS.get(tensor.code, "").format(bits)
    if not name or tensor.lanes != 1 or (bits % 8 and name != "bool"):
        what = f"code {tensor.code}, {bits} bits, {tensor.lanes} lanes"
        raise fail(
            "E0829", f"a {library} array of a DLPack type that is none of ours: {what}", None
        )
    shape = tuple(tensor.shape[axis] for axis in range(tensor.rank))
    given = tensor.strides
    strides = tuple(given[axis] for axis in range(tensor.rank)) if given else row_major(shape)
    return Array(
        (tensor.data or 0) + tensor.byte_offset,
        shape,
        strides,
        name,
        device.format(ordinal),
        readonly,
        library,
        max(1, bits // 8),
        owner=(value, capsule),  # the capsule, never marked as used, frees its share when it goes
    )


def _read_capsule(capsule: object) -> tuple[_Tensor, bool]:
    """The tensor in a DLPack capsule of either version, and whether it must not be written."""
    interface = ctypes.pythonapi
    is_valid, get = interface.PyCapsule_IsValid, interface.PyCapsule_GetPointer
    is_valid.argtypes = get.argtypes = [ctypes.py_object, ctypes.c_char_p]
    get.restype = ctypes.c_void_p
    if is_valid(capsule, b"dltensor_versioned"):
        managed = _Versioned.from_address(get(capsule, b"dltensor_versioned"))
        return managed.tensor, bool(managed.flags & 1)
    return _Tensor.from_address(get(capsule, b"dltensor")), False


def _describe_packed(value: Any, storage: Array) -> Array:
    name, shape = str(value.dtype), tuple(int(extent) for extent in value.shape)
    if storage.dtype != "u8":
        raise _bad_storage(name, shape, f"its storage is {storage.dtype}, not u8")
    return Array(
        storage.pointer,
        storage.shape,
        storage.strides,
        "u8",
        storage.device,
        storage.readonly,
        storage.library,
        1,
        (name, shape),
        storage.stream,
        (value, storage.owner),
    )


def _bad_storage(name: str, shape: tuple[int, ...], what: str) -> VmError:
    return fail("E0829", f"a packed array of {name}{list(shape)}: {what}", None)


def _in_elements(strides: Sequence[int], size: int) -> tuple[int, ...]:
    if any(stride % size for stride in strides):
        raise fail(
            "E0832",
            f"strides of {tuple(strides)} bytes are not whole elements of {size} bytes",
            None,
            fix="copy the array first",
        )
    return tuple(stride // size for stride in strides)
