"""Tensors from files and to files: NumPy's `.npy` and `.npz`, and safetensors.

A file is not trusted: what its header claims is checked against the bytes that are there before
anything is allocated, and nothing in it is ever executed (no pickle). Every fault is a `VmError`.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vm.errors import VmError, fail, unreadable
from vm.isa.dtypes import DType, DTypeError
from vm.isa.dtypes import dtype as named_dtype
from vm.isa.instruction import instead
from vm.isa.tensor import Tensor
from vm.isa.types import MAXIMUM_ELEMENTS
from vm.runtime.files import write_file

# Names of dtypes in safetensors. Its types below 8 bits are left out: files disagree about which
# nibble comes first.
SAFETENSORS_DTYPES = {
    "BOOL": "bool", "U8": "u8", "U16": "u16", "U32": "u32", "U64": "u64", "I8": "i8", "I16": "i16",
    "I32": "i32", "I64": "i64", "F16": "f16", "BF16": "bf16", "F32": "f32", "F64": "f64",
    "F8_E4M3": "f8e4m3", "F8_E5M2": "f8e5m2", "F8_E8M0": "f8e8m0",
}  # fmt: skip

# The largest header that the format allows.
MAXIMUM_HEADER_BYTES = 100_000_000

# What NumPy's own readers raise for a file that is none of theirs.
_MALFORMED = (
    ValueError, OSError, EOFError, SyntaxError, TypeError, KeyError, OverflowError, RuntimeError,
    MemoryError, struct.error, tokenize.TokenError, zlib.error, zipfile.BadZipFile,
    zipfile.LargeZipFile,
)  # fmt: skip


@dataclass(frozen=True)
class RandomInput:
    """`random:SEED`: the case's own distribution with another seed."""

    seed: int


@dataclass(frozen=True)
class FileInput:
    """`file.npy`, `file.npz:key` or `file.safetensors:tensor`."""

    path: Path
    key: str | None

    def __str__(self) -> str:
        return f"{self.path}:{self.key}" if self.key is not None else str(self.path)


def parse_input(text: str) -> RandomInput | FileInput:
    """What stands behind `--input NAME=`; raises `VmError` E0804."""
    if found := re.fullmatch(r"random:([0-9]{1,20})", text):
        if int(found[1]) < 1 << 64:
            return RandomInput(int(found[1]))
    elif found := re.fullmatch(r"(.+?\.(?:npz|safetensors)):(.+)", text, re.DOTALL):
        return FileInput(Path(found[1]), found[2])
    elif text.endswith((".npy", ".npz", ".safetensors")):
        return FileInput(Path(text), None)
    raise fail(
        "E0804", f"`{text}` is no input", None,
        fix="write file.npy, file.npz:key, file.safetensors:tensor or random:SEED",
    )  # fmt: skip


def read_tensor(source: FileInput) -> Tensor:
    """The tensor in a file.

    Raises `VmError`: E0801 where the file cannot be read, E0805 where it is not what its name says,
    E0806 where it has no tensor of that name.
    """
    if source.path.suffix == ".safetensors":
        return _read_safetensors(source)
    if source.path.suffix == ".npz":
        return _read_npz(source)
    size = _size(source.path)
    with _open(source.path) as file:
        return _tensor(_read_npy(file, size, source), source)


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise unreadable(path, error) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error


def _malformed(source: FileInput, what: str) -> VmError:
    return fail("E0805", f"{source}: {what}", None, fix="is the file complete? write it again")


def _read_npy(file: BinaryIO, size: int, source: FileInput) -> NDArray[Any]:
    """The array in an open `.npy` file of `size` bytes."""
    try:
        version = npy.read_magic(file)
        read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, column_major, kind = read_header[version](file)
    except _MALFORMED as error:
        raise _malformed(source, f"not a .npy file ({error})") from None
    if kind.hasobject or kind.names is not None or kind.subdtype is not None:
        raise _malformed(source, f"elements of NumPy dtype {kind} are no numbers")
    count, left = math.prod(shape), size - file.tell()
    if min(shape, default=0) < 0 or count * kind.itemsize != left:
        raise _malformed(
            source, f"{kind}{list(shape)} is {count * kind.itemsize} bytes, there are {left}"
        )
    if count > MAXIMUM_ELEMENTS:
        raise _malformed(source, f"{count} elements; the limit is 2^31")
    try:
        data = file.read(left)
    except _MALFORMED as error:
        raise _malformed(source, str(error)) from None
    if len(data) != left:
        raise _malformed(source, f"it ends after {len(data)} of {left} bytes")
    array = np.frombuffer(data, kind)
    array = array.reshape(shape[::-1]).T if column_major else array.reshape(shape)
    return np.ascontiguousarray(array, kind.newbyteorder("="))


def _read_npz(source: FileInput) -> Tensor:
    with _open(source.path) as file:
        try:
            archive = zipfile.ZipFile(file)
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            name = _chosen(source, source.key, list(members))
            size = archive.getinfo(members[name]).file_size
            with archive.open(members[name]) as member:
                return _tensor(_read_npy(member, size, source), source)
        except _MALFORMED as error:
            raise _malformed(source, f"not an .npz file ({error})") from None


def _chosen(source: FileInput, key: str | None, names: list[str]) -> str:
    """The tensor that is meant; raises `VmError` E0806 where none or several could be."""
    if key is None and len(names) == 1:
        return names[0]
    if key in names:
        return key
    shown = ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "")
    raise fail(
        "E0806",
        f"{source.path} has no tensor `{key}`" if key is not None
        else f"{source.path} has {len(names)} tensors: say which",
        None, notes=(f"it has: {shown}",) if names else ("it is empty",),
        fix=instead(key or "", names, f"write {source.path}:NAME"),
    )  # fmt: skip


def _tensor(array: NDArray[Any], source: FileInput) -> Tensor:
    try:
        element = named_dtype(array.dtype)
    except DTypeError:
        raise fail(
            "E0805", f"{source}: no dtype here is NumPy's {array.dtype}", None,
            fix="NumPy's files cannot name bf16 and smaller floats: save them as float32",
        ) from None  # fmt: skip
    return Tensor(element, array.shape, array)


# --- safetensors: 8 bytes with the length of the header, the header (JSON), the bytes ---


@dataclass(frozen=True)
class _Entry:
    """A tensor's line in the header; `begin` and `end` count from behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _read_safetensors(source: FileInput) -> Tensor:
    size = _size(source.path)
    with _open(source.path) as file:
        start, entries = _read_header(file, size, source)
        entry = entries[_chosen(source, source.key, list(entries))]
        if entry.dtype not in SAFETENSORS_DTYPES:
            raise fail(
                "E0805", f"{source} has elements of {entry.dtype}, which cannot be read", None,
                fix=f"known are {', '.join(SAFETENSORS_DTYPES)}",
            )  # fmt: skip
        element = named_dtype(SAFETENSORS_DTYPES[entry.dtype])
        bytes_needed = math.prod(entry.shape) * element.bits // 8
        if bytes_needed != entry.end - entry.begin:
            raise _malformed(
                source, f"{entry.dtype}{list(entry.shape)} is {bytes_needed} bytes, "
                f"the header gives it {entry.end - entry.begin}",
            )  # fmt: skip
        if math.prod(entry.shape) > MAXIMUM_ELEMENTS:
            raise _malformed(source, f"{math.prod(entry.shape)} elements; the limit is 2^31")
        file.seek(start + entry.begin)
        data = file.read(bytes_needed)
    if len(data) != bytes_needed:
        raise _malformed(source, "the file became shorter while it was read")
    codes = np.frombuffer(data, element.storage.newbyteorder("<"))
    return Tensor.from_codes(element, codes.astype(element.storage).reshape(entry.shape))


def _read_header(file: BinaryIO, size: int, source: FileInput) -> tuple[int, dict[str, _Entry]]:
    """Where the bytes begin, and the tensors by name, each checked to lie within the file."""
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > min(size - 8, MAXIMUM_HEADER_BYTES):
        raise _malformed(
            source, f"not a safetensors file: a header of {length} bytes in a file of {size}"
        )
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise _malformed(source, f"the header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise _malformed(source, "the header is no table of tensors")
    header.pop("__metadata__", None)
    start = 8 + length
    entries = {name: _entry(name, value, size - start, source) for name, value in header.items()}
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position:
            raise _malformed(
                source, f"tensor `{name}` begins at byte {entry.begin}, the one before it ends "
                f"at {position}",
            )  # fmt: skip
        position = entry.end
    return start, entries


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands twice")
    return table


def _entry(name: str, value: Any, available: int, source: FileInput) -> _Entry:
    def whole(numbers: Any) -> bool:
        return isinstance(numbers, list) and all(
            type(n) is int and 0 <= n < 1 << 63 for n in numbers
        )

    fields = value if isinstance(value, dict) else {}
    kind, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not (isinstance(kind, str) and whole(shape) and whole(offsets) and len(offsets) == 2):
        raise _malformed(source, f"the header's line of `{name}` cannot be read")
    if len(shape) > 32 or not offsets[0] <= offsets[1] <= available:
        raise _malformed(
            source, f"tensor `{name}` is said to be bytes {offsets[0]} to {offsets[1]} "
            f"of {available}",
        )  # fmt: skip
    return _Entry(kind, tuple(shape), *offsets)


# --- what a case wants ---


def fit_dtype(tensor: Tensor, wanted: DType, what: str) -> Tensor:
    """The tensor with elements of `wanted`, as the case declares its variable.

    Floats of 16 bits and more are cast to each other (rounded to nearest even); whole numbers to
    whatever holds them exactly. Raises `VmError` E0807 for anything else: making a narrow type of
    a float takes scales, which is for the case to say.
    """
    given = tensor.dtype
    if given == wanted:
        return tensor
    values = tensor.values()
    exact = not given.is_float
    if given.is_float and (wanted.kind != "float" or wanted.bits < 16):
        names, zero_point = ("Q, S, Z", ", zero_point=true") if wanted.kind == "unsigned" else (
            "Q, S", ""
        )  # fmt: skip
        raise fail(
            "E0807", f"{what} is {given.name}, the case wants {wanted.name}", None,
            fix=f"quantize it in the case: `{names} = quantize(W, {wanted.name}, group_size=128"
            f"{zero_point})`, W being an input of f32",
        )  # fmt: skip
    fitted = Tensor.from_values(wanted, values)
    with np.errstate(all="ignore"):
        if exact:
            lost = fitted.values() != values
        else:
            lost = np.isfinite(values) & (np.abs(values.astype(np.float64)) > wanted.max)
    if lost.any():
        first = tuple(int(i) for i in np.argwhere(lost)[0])
        raise fail(
            "E0807", f"{what} has values that {wanted.name} does not hold: {values[first]} at "
            f"{list(first)}", None, fix=f"{wanted.name} goes from {wanted.min} to {wanted.max}",
        )  # fmt: skip
    return fitted


def write_npy(path: str | Path, values: NDArray[Any]) -> None:
    """Writes an array as `.npy`, in one step: a reader sees the old file or the whole new one."""
    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    write_file(os.fspath(path), buffer.getvalue())
