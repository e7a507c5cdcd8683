"""Tensors: storage as designed, codes and values back, other libraries' arrays without copies."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.isa.dtypes import DTypeError, dtype
from vm.isa.packing import packed_size
from vm.isa.philox import random_codes
from vm.isa.tensor import Tensor


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(["u1", "i3", "u4", "u6", "i7", "u8", "i12", "u16", "i32", "u50", "i64", "nf4"]),
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
)
def test_codes_come_back(name, shape):
    element = dtype(name)
    codes = random_codes(element, shape, seed=len(shape))
    tensor = Tensor.from_codes(element, codes)
    assert tensor.shape == tuple(shape) and tensor.size == codes.size
    assert (tensor.codes() == codes).all()
    assert (tensor.values() == element.decode(codes)).all()
    if element.is_packed:
        assert tensor.storage.dtype == np.uint8
        assert tensor.storage.shape == (*shape[:-1], packed_size(shape[-1], element))
    else:
        assert tensor.storage.dtype == element.memory and tensor.storage.shape == tensor.shape
    again = Tensor(element, tuple(shape), tensor.storage)
    assert np.shares_memory(again.storage, tensor.storage) or not tensor.nbytes


def test_values_are_cast():
    tensor = Tensor.from_values("u3", [[1, 2.5, 9], [-4, 3.5, 6]])
    assert tensor.values().tolist() == [[1, 2, 7], [0, 4, 6]]
    assert tensor.storage.tolist() == [[1 | 2 << 3 | (7 & 3) << 6, 7 >> 2], [4 << 3 | 128, 1]]
    wrapped = Tensor.from_values("i4", np.array([9, -9]), overflow="wrap")
    assert wrapped.values().tolist() == [-7, 7]
    assert repr(tensor) == "Tensor(u3[2, 3])"


@pytest.mark.parametrize(
    "name, array, memory",
    [
        ("f16", np.array([1.5, -0.0], np.float16), np.float16),
        ("f16", np.array([0x3E00, 0x8000], np.uint16), np.float16),
        ("bf16", np.array([1.5, -2], ml_dtypes.bfloat16), np.uint16),
        ("f8e4m3", np.array([1.5, -2], ml_dtypes.float8_e4m3fn), np.uint8),
        ("f8e8m0", np.array([2.0, 4.0], ml_dtypes.float8_e8m0fnu), np.uint8),
        ("i32", np.array([-1, 5], np.int32), np.int32),
        ("tf32", np.array([1.5, -2], np.float32), np.float32),
        ("bool", np.array([True, False]), np.bool_),
    ],
)
def test_arrays_of_the_type_are_taken_as_they_are(name, array, memory):
    tensor = Tensor(name, array.shape, array)
    assert np.shares_memory(tensor.storage, array)
    assert tensor.storage.dtype == memory
    assert (tensor.codes() == array.view(f"u{array.itemsize}")).all()


def test_other_arrays_are_refused():
    with pytest.raises(DTypeError, match=r"stored as float16, not int16.*from_values"):
        Tensor("f16", (2,), np.zeros(2, np.int16))
    with pytest.raises(DTypeError, match=r"f8e4m3 is stored as uint8, not float8_e5m2"):
        Tensor("f8e4m3", (2,), np.zeros(2, ml_dtypes.float8_e5m2))
    with pytest.raises(DTypeError, match="f8e4m3 is stored as uint8, not float8_e4m3;"):
        Tensor("f8e4m3", (2,), np.zeros(2, ml_dtypes.float8_e4m3))
    with pytest.raises(DTypeError, match=r"u3\[2, 3\] is stored as uint8\[2, 2\]"):
        Tensor("u3", (2, 3), np.zeros((2, 3), np.uint8))
    with pytest.raises(DTypeError, match="rank 1"):
        Tensor("u3", (), np.zeros((), np.uint8))


def test_a_tensor_of_rank_0_holds_one_element():
    tensor = Tensor.from_values("bf16", 1.5)
    assert tensor.shape == () and tensor.values() == 1.5
