"""Reading tensors: what safetensors and NumPy write is read back exactly, and no file, however
broken, raises anything but VmError or is believed about its size."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from vm.errors import VmError
from vm.isa.dtypes import dtype
from vm.isa.tensor import Tensor
from vm.runtime.inputs import (
    FileInput,
    RandomInput,
    fit_dtype,
    parse_input,
    read_tensor,
    write_npy,
)

PLAIN = ["bool", *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64))]
FLOATS = ["float16", "float32", "float64"]


def read(path: Path, key: str | None = None) -> Tensor:
    return read_tensor(FileInput(path, key))


def refused(path: Path, key: str | None = None) -> str:
    """The code with which reading fails."""
    with pytest.raises(VmError) as raised:
        read(path, key)
    return raised.value.code


# --- what is written on the command line ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("random:7", RandomInput(7)),
        ("a.npy", FileInput(Path("a.npy"), None)),
        ("a.npz:w", FileInput(Path("a.npz"), "w")),
        ("d/m.safetensors:layer.0.dense:x", FileInput(Path("d/m.safetensors"), "layer.0.dense:x")),
        ("m.safetensors", FileInput(Path("m.safetensors"), None)),
        ("c:/m.npz:a.npz:b", FileInput(Path("c:/m.npz"), "a.npz:b")),
    ],
)
def test_inputs_are_parsed(text, expected):
    assert parse_input(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "a.txt", "random", "random:", "random:x", f"random:{1 << 64}", "a.npz:", ":", "a.npy:w"],
)
def test_malformed_inputs_are_refused(text):
    with pytest.raises(VmError) as raised:
        parse_input(text)
    assert raised.value.code == "E0804"


# --- files that others wrote ---


@pytest.mark.parametrize("name", [*PLAIN, *FLOATS])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 0, 3)])
def test_npy_files_are_read_exactly(name, shape, tmp_path):
    array = np.random.default_rng(1).integers(0, 2, shape).astype(name)
    np.save(tmp_path / "a.npy", array)
    tensor = read(tmp_path / "a.npy")
    assert tensor.dtype == dtype(name)
    np.testing.assert_array_equal(tensor.values(), array)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_npy_files_of_any_order_are_read(order, byte_order, tmp_path):
    array = np.asarray(np.arange(24).reshape(4, 6), f"{byte_order}i4", order=order)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read(tmp_path / "a.npy").values(), array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_members_are_read_by_name(save, tmp_path):
    arrays = {"first": np.arange(5.0), "second": np.eye(3, dtype=np.float16)}
    save(tmp_path / "a.npz", **arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read(tmp_path / "a.npz", name).values(), array)
    assert refused(tmp_path / "a.npz", "frist") == "E0806"
    assert refused(tmp_path / "a.npz") == "E0806"


@pytest.mark.parametrize(
    "name",
    [*PLAIN, *FLOATS, "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"],
)
def test_safetensors_of_every_dtype_are_read_exactly(name, tmp_path):
    kind = np.dtype(getattr(ml_dtypes, name, name))
    array = np.arange(24).astype(np.float32).astype(kind).reshape(4, 6)
    other = np.ones((3, 5), np.float32)
    if name == "float8_e8m0fnu":  # the writer's NumPy half has no name for it
        raw = array.tobytes()
        entry = {"dtype": "F8_E8M0", "shape": [4, 6], "data_offsets": [0, 24]}
        (tmp_path / "m.safetensors").write_bytes(framed({"weight": entry}, raw))
    else:
        save_file({"weight": array, "other": other}, tmp_path / "m.safetensors")
    tensor = read(tmp_path / "m.safetensors", "weight")
    assert tensor.dtype == dtype(kind)
    np.testing.assert_array_equal(tensor.codes().tobytes(), array.tobytes())


def test_a_wrong_tensor_name_is_answered_with_the_nearest(tmp_path):
    names = ["encoder.layer.0.dense.weight", "encoder.layer.1.dense.bias"]
    save_file({name: np.ones(2, np.float32) for name in names}, tmp_path / "m.safetensors")
    with pytest.raises(VmError, match=r"did you mean `encoder.layer.0.dense.weight`") as raised:
        read(tmp_path / "m.safetensors", "encoder.layer.0.dense.wieght")
    assert raised.value.code == "E0806"


# --- hostile files ---


def framed(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "empty": b"",
    "short": b"\x01\x02",
    "length of 2^63": (1 << 63).to_bytes(8, "little") + b"{}",
    "length over the file": (100).to_bytes(8, "little") + b"{}",
    "no JSON": framed(b"{"),
    "no UTF-8": framed(b'{"\xff": 1}'),
    "deep": framed(b"[" * 100_000 + b"]" * 100_000),
    "huge number": framed(b'{"w": ' + b"9" * 100_000 + b"}"),
    "a list": framed([]),
    "a name twice": framed(b'{"w": {}, "w": {}}'),
    "entry of a number": framed({"w": 7}),
    "no offsets": framed({"w": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "one offset": framed({"w": {**F32, "data_offsets": [0]}}, bytes(8)),
    "offsets of floats": framed({"w": {**F32, "data_offsets": [0.0, 8.0]}}, bytes(8)),
    "offsets of truth": framed({"w": {**F32, "data_offsets": [False, 8]}}, bytes(8)),
    "offsets turned": framed({"w": {**F32, "data_offsets": [8, 0]}}, bytes(8)),
    "offsets behind the end": framed({"w": {**F32, "data_offsets": [0, 1 << 40]}}, bytes(8)),
    "offsets below 0": framed({"w": {**F32, "data_offsets": [-8, 0]}}, bytes(8)),
    "shape below 0": framed({"w": {**F32, "shape": [-2]}}, bytes(8)),
    "shape of text": framed({"w": {**F32, "shape": "22"}}, bytes(8)),
    "shape too large": framed({"w": {**F32, "shape": [1 << 40, 1 << 40]}}, bytes(8)),
    "rank of 1000": framed({"w": {**F32, "shape": [1] * 1000}}, bytes(8)),
    "shape of other bytes": framed({"w": {**F32, "shape": [3]}}, bytes(8)),
    "a hole": framed({"w": {**F32, "data_offsets": [4, 12]}}, bytes(12)),
    "overlap": framed({"w": F32, "v": {**F32, "data_offsets": [4, 12]}}, bytes(12)),
    "unknown dtype": framed({"w": {**F32, "dtype": "C64"}}, bytes(8)),
    "dtype of a list": framed({"w": {**F32, "dtype": ["F32"]}}, bytes(8)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_safetensors_are_refused(name, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(HOSTILE[name])
    tracemalloc.start()
    try:
        assert refused(path, "w") == "E0805"
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


HOSTILE_NPY = {
    "empty": b"",
    "no magic": b"hello, world",
    "unknown version": b"\x93NUMPY\x09\x00\x00\x00",
    "pickle": None,
    "huge shape": npy(
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,)}", bytes(8)
    ),
    "overflowing shape": npy(
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", b""
    ),
    "negative shape": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", bytes(8)),
    "code in the header": npy(b"__import__('os').abort()"),
    "deep header": npy(b"(" * 9000),
    "no dict": npy(b"7"),
    "records": npy(b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", bytes(8)),
    "complex": npy(b"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
    "too much": npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(9)),
}


@pytest.mark.parametrize("name", HOSTILE_NPY)
@pytest.mark.parametrize("packed", [False, True])
def test_hostile_npy_files_are_refused(name, packed, tmp_path):
    content = HOSTILE_NPY[name]
    if content is None:
        buffer = io.BytesIO()
        np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
        content = buffer.getvalue()
    path, key = tmp_path / "a.npy", None
    if packed:
        path, key = tmp_path / "a.npz", "a"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", content)
    else:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        assert refused(path, key) == "E0805"
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def valid_safetensors() -> bytes:
    entries = {"w": F32, "v": {"dtype": "U8", "shape": [3, 1], "data_offsets": [8, 11]}}
    return framed(entries, bytes(range(11)))


def valid_npz() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, w=np.arange(6.0).reshape(2, 3))
    return buffer.getvalue()


def valid_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6.0).reshape(2, 3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("suffix", "content"),
    [(".safetensors", valid_safetensors()), (".npz", valid_npz()), (".npy", valid_npy())],
)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_read_or_refused(suffix, content, data, tmp_path_factory):
    """Bytes changed, cut off or inserted: a tensor or a VmError, nothing else."""
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1)) if damaged else 0
        match data.draw(st.integers(0, 2)):
            case 0 if damaged:
                damaged[place] = data.draw(st.integers(0, 255))
            case 1:
                del damaged[place:]
            case _:
                damaged[place:place] = data.draw(st.binary(max_size=4))
    path = tmp_path_factory.mktemp("damaged") / f"a{suffix}"
    path.write_bytes(bytes(damaged))
    try:
        tensor = read(path, None if suffix == ".npy" else "w")
    except VmError as error:
        assert error.code in ("E0805", "E0806")
    else:
        assert isinstance(tensor, Tensor)


def test_a_file_that_is_not_there(tmp_path):
    for name in ("a.npy", "a.npz", "a.safetensors"):
        assert refused(tmp_path / name, "w") == "E0801"
    (tmp_path / "folder.npy").mkdir()
    assert refused(tmp_path / "folder.npy") == "E0801"


# --- becoming what a case wants ---


@pytest.mark.parametrize(
    ("given_dtype", "values", "wanted"),
    [
        ("f32", [0.1, -2.5, 65504.0], "f16"),
        ("f64", [0.1, np.nan, np.inf], "bf16"),
        ("f16", [0.5, -1.0], "f64"),
        ("i64", [0, 15], "u4"),
        ("u8", [0, 255], "i32"),
        ("i32", [-4, 1 << 20], "f32"),
    ],
)
def test_dtypes_that_fit_are_cast(given_dtype, values, wanted):
    source, target = Tensor.from_values(given_dtype, values), dtype(wanted)
    fitted = fit_dtype(source, target, "x")
    assert fitted.dtype == target
    np.testing.assert_array_equal(
        fitted.codes(), target.encode(np.asarray(values, source.dtype.array))
    )


@pytest.mark.parametrize(
    ("given_dtype", "values", "wanted"),
    [
        ("f32", [65520.0], "f16"),
        ("f32", [1.0], "u4"),
        ("f32", [1.0], "f6e3m2"),
        ("i64", [16], "u4"),
        ("i64", [-1], "u4"),
        ("i32", [(1 << 24) + 1], "f32"),
    ],
)
def test_dtypes_that_do_not_fit_are_refused(given_dtype, values, wanted):
    with pytest.raises(VmError) as raised:
        fit_dtype(Tensor.from_values(given_dtype, values), dtype(wanted), "x")
    assert raised.value.code == "E0807"
    assert raised.value.diagnostics[0].fix


# --- writing ---


def test_what_is_written_is_read_back(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_npy(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_npy(tmp_path / "a.npy", np.zeros(3))

    def broken(*_):
        raise OSError("no space")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(VmError) as raised:
        write_npy(tmp_path / "a.npy", np.ones(3))
    assert raised.value.code == "E0802"
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.zeros(3))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
