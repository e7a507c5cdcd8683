"""Arrays of NumPy itself, through DLPack, through the CUDA interface, and in the shape of torch."""

import subprocess
import sys
import types
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import VmError
from vm.runtime.arrays import Array, describe, dtype_name, row_major


class DlpackOnly:
    """An array of which nothing is known but that it speaks DLPack of a `version`."""

    def __init__(self, array, version=1):
        self.array, self.version, self.asked = array, version, None

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options):
        self.asked = options
        if self.version == 0 and "max_version" in options:
            raise TypeError("unexpected keyword argument 'max_version'")
        return self.array.__dlpack__(**options)


class CudaInterface:
    """A device array by its interface alone; the address is that of a NumPy array."""

    def __init__(self, array, device=0, **changes):
        self.device = types.SimpleNamespace(id=device)
        interface = array.__array_interface__
        self.__dict__["interface"] = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": interface["data"],
            "strides": interface["strides"],
            "version": 3,
        } | changes

    @property
    def __cuda_array_interface__(self):
        return self.interface


DTYPES = {
    "bool": "bool",
    "int8": "i8",
    "int16": "i16",
    "int32": "i32",
    "int64": "i64",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "uint64": "u64",
    "float16": "f16",
    "float32": "f32",
    "float64": "f64",
}

ML_DTYPES = {
    "bfloat16": "bf16",
    "float8_e4m3fn": "f8e4m3",
    "float8_e5m2": "f8e5m2",
    "float8_e8m0fnu": "f8e8m0",
}


@pytest.mark.parametrize(("name", "ours"), DTYPES.items())
@pytest.mark.parametrize("wrap", [lambda array: array, DlpackOnly, CudaInterface])
def test_dtypes(name, ours, wrap):
    array = np.zeros((2, 3), name)
    described = describe(wrap(array))
    assert (described.dtype, described.item_bytes) == (ours, array.itemsize)
    assert described.pointer == array.ctypes.data
    assert (described.shape, described.strides) == ((2, 3), (3, 1))
    assert described.contiguous and not described.readonly


@pytest.mark.parametrize(("name", "ours"), ML_DTYPES.items())
def test_dtypes_of_ml_dtypes(name, ours):
    described = describe(np.zeros(4, getattr(ml_dtypes, name)))
    assert (described.dtype, described.device, described.library) == (ours, "cpu", "numpy")


@pytest.mark.parametrize("name", ["float8_e4m3", "float8_e3m4", "int4", "uint4", "float4_e2m1fn"])
def test_types_that_only_look_like_ours_are_refused_with_a_hint(name):
    with pytest.raises(VmError) as caught:
        describe(np.zeros(4, getattr(ml_dtypes, name)))
    assert caught.value.code == "E0829"
    assert "float8_e4m3fn" in str(caught.value) or "vm.pack" in str(caught.value)


@pytest.mark.parametrize("name", ["complex64", "object", "datetime64[s]", "U4", "float8_e4m3fnuz"])
def test_types_without_a_counterpart_are_refused(name):
    dtype = getattr(ml_dtypes, name, None) or name
    with pytest.raises(VmError) as caught:
        describe(np.zeros(4, dtype))
    assert caught.value.code == "E0829"


def test_other_byte_order_is_refused():
    for wrap in (lambda array: array, CudaInterface):
        with pytest.raises(VmError) as caught:
            describe(wrap(np.zeros(4, ">f4")))
        assert caught.value.code == "E0829"


def elements(array):
    """Every element's address by its index, from NumPy itself."""
    places = list(np.ndindex(array.shape))
    cells = [array[(*(slice(each, each + 1) for each in place), ...)] for place in places]
    return {place: cell.ctypes.data for place, cell in zip(places, cells, strict=True)}


slices = st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.sampled_from([-2, -1, 1, 2, 3]))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(0, 4), min_size=0, max_size=3),
    st.lists(slices, min_size=3, max_size=3),
    st.permutations(range(3)),
    st.sampled_from(["i1", "i2", "f8"]),
    st.sampled_from([lambda array: array, DlpackOnly, CudaInterface]),
)
def test_pointer_and_strides_reach_every_element(shape, cuts, order, dtype, wrap):
    base = np.zeros(shape, dtype)
    array = base[(*(slice(*cut) for cut in cuts[: base.ndim]), ...)]
    array = array.transpose([axis for axis in order if axis < base.ndim])
    described = describe(wrap(array))
    assert described.shape == array.shape
    if array.size == 0:
        assert described.contiguous and described.span[0] == described.span[1]
        return
    addresses = elements(array)
    for index, address in addresses.items():
        steps = zip(index, described.strides, strict=True)
        offset = sum(place * stride for place, stride in steps)
        assert described.pointer + offset * array.itemsize == address
    first, last = min(addresses.values()), max(addresses.values()) + array.itemsize
    assert described.span == (first, last)
    assert described.contiguous == array.flags.c_contiguous


@settings(deadline=None, max_examples=100)
@given(slices, slices)
def test_overlap_is_that_of_the_address_ranges(first, second):
    base = np.zeros(6, "f4")
    one, two = base[slice(*first)], base[slice(*second)]
    expected = np.may_share_memory(one, two)  # compares bounds only, as we do
    assert describe(one).overlaps(describe(two)) == expected
    on_device = describe(CudaInterface(two))
    assert not describe(one).overlaps(on_device)  # equal addresses of two memories


def test_strides_that_are_not_whole_elements():
    records = np.zeros(4, [("a", "i1"), ("b", "<i4")])
    with pytest.raises(VmError) as caught:
        describe(records["b"])
    assert caught.value.code == "E0832"


def test_readonly_is_seen():
    array = np.zeros(3, "f4")
    array.flags.writeable = False
    assert describe(array).readonly
    assert describe(DlpackOnly(array)).readonly  # version 1 carries a flag
    assert describe(CudaInterface(array)).readonly


def test_older_dlpack_producers():
    array = np.arange(6, dtype="i4")[::2]
    described = describe(DlpackOnly(array, version=0))
    assert (described.pointer, described.strides) == (array.ctypes.data, (2,))
    assert not described.readonly


def test_the_owner_keeps_the_memory():
    array = np.arange(1000, dtype="i8")
    address = array.ctypes.data
    wrapped = DlpackOnly(array)
    before = sys.getrefcount(array)
    described = describe(wrapped)
    assert described.pointer == address
    assert sys.getrefcount(array) > before  # the capsule holds it
    del described
    assert sys.getrefcount(array) == before


def test_device_and_stream_of_the_interface():
    array = np.zeros(4, "f4")
    assert describe(CudaInterface(array, device=2)).device == "cuda:2"
    assert describe(CudaInterface(array)).stream is None
    assert describe(CudaInterface(array, stream=1)).stream == 0
    assert describe(CudaInterface(array, stream=140737)).stream == 140737
    assert describe(CudaInterface(array, strides=None)).strides == (1,)
    empty = describe(CudaInterface(np.zeros((0, 4), "f4"), data=(None, False)))
    assert (empty.pointer, empty.shape) == (0, (0, 4))
    with pytest.raises(VmError):
        describe(CudaInterface(array, mask=array))


def test_dlpack_is_told_the_stream():
    class OnDevice(DlpackOnly):
        def __dlpack_device__(self):
            return (2, 3)

        def __dlpack__(self, **options):
            self.asked = options
            return self.array.__dlpack__()

    for stream, told in [(0, 1), (99, 99)]:
        value = OnDevice(np.zeros(4, "f4"))
        assert describe(value, stream).device == "cuda:3"
        assert value.asked["stream"] == told


def test_dlpack_devices_that_are_none_of_ours():
    class Elsewhere(DlpackOnly):
        def __dlpack_device__(self):
            return (8, 0)  # Metal

    with pytest.raises(VmError) as caught:
        describe(Elsewhere(np.zeros(4, "f4")))
    assert caught.value.code == "E0833"


def test_dlpack_types_that_are_none_of_ours():
    with pytest.raises(VmError) as caught:
        describe(DlpackOnly(np.zeros(4, "c8")))
    assert caught.value.code == "E0829"


@dataclass
class Packed:
    dtype: str
    shape: tuple[int, ...]
    storage: object


def test_packed_arrays_keep_their_logical_shape():
    storage = np.zeros((4, 3), "u1")
    described = describe(Packed("u3", (4, 7), storage))
    assert described.packed == ("u3", (4, 7))
    assert (described.dtype, described.shape, described.pointer) == (
        "u8",
        (4, 3),
        storage.ctypes.data,
    )
    with pytest.raises(VmError) as caught:
        describe(Packed("u4", (4, 2), np.zeros((4, 1), "f4")))
    assert caught.value.code == "E0829"


@pytest.mark.parametrize("value", [3, 2.5, "text", None, [1, 2], object(), b"bytes"])
def test_what_is_no_array(value):
    with pytest.raises(VmError) as caught:
        describe(value)
    assert caught.value.code == "E0828"
    assert type(value).__name__ in str(caught.value)


class FakeTensor:
    """As much of torch.Tensor as is read; the real one is tested on a GPU."""

    def __init__(self, array, dtype, device="cuda:1", layout="torch.strided", negative=False):
        self.array, self.dtype, self.device, self.layout = array, dtype, device, layout
        self.shape, self.is_quantized, self.negative = array.shape, False, negative

    def is_conj(self):
        return False

    def is_neg(self):
        return self.negative

    def stride(self):
        return row_major(self.shape)

    def data_ptr(self):
        return self.array.ctypes.data

    def element_size(self):
        return self.array.itemsize


@pytest.fixture
def torch(monkeypatch):
    module = types.ModuleType("torch")
    module.Tensor = FakeTensor
    monkeypatch.setitem(sys.modules, "torch", module)


def test_torch_tensors(torch):
    array = np.zeros((4, 8), "u2")
    described = describe(FakeTensor(array, "torch.bfloat16"))
    assert (described.dtype, described.device, described.library) == ("bf16", "cuda:1", "torch")
    assert (described.pointer, described.strides) == (array.ctypes.data, (8, 1))
    pairs = describe(FakeTensor(np.zeros((4, 8), "u1"), "torch.float4_e2m1fn_x2"))
    assert (pairs.dtype, pairs.shape) == ("u8", (4, 8))
    assert pairs.packed == ("f4e2m1", (4, 16))


def test_torch_tensors_that_are_not_plain(torch):
    array = np.zeros(4, "f4")
    for wrong in ({"layout": "torch.sparse_coo"}, {"negative": True}):
        with pytest.raises(VmError) as caught:
            describe(FakeTensor(array, "torch.float32", **wrong))
        assert caught.value.code == "E0828"
    with pytest.raises(VmError) as caught:
        describe(FakeTensor(array, "torch.complex64"))
    assert caught.value.code == "E0829"


def test_alignment():
    base = np.zeros(64, "u1")
    start = -base.ctypes.data % 16
    aligned, shifted = describe(base[start : start + 16]), describe(base[start + 2 : start + 18])
    assert aligned.aligned(16) and shifted.aligned(2) and not shifted.aligned(4)


@given(st.lists(st.integers(1, 5), max_size=4))
def test_row_major_is_that_of_numpy(shape):
    array = np.zeros(shape, "i1")
    assert row_major(shape) == array.strides


def test_names_are_stated_once():
    assert {dtype_name(name, "torch") for name in [*DTYPES, *ML_DTYPES]} == {
        *DTYPES.values(),
        *ML_DTYPES.values(),
    }
    assert isinstance(describe(np.zeros(1)), Array)


def test_torch_is_not_imported():
    code = (
        "import sys, numpy, vm.runtime.arrays as arrays; arrays.describe(numpy.zeros(3)); "
        "print([name for name in ('torch', 'cupy', 'cuda') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
