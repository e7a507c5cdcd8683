"""What a manifest expects, and which arrays are that."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import InternalError, VmError
from vm.runtime.arrays import Array, describe
from vm.runtime.manifest import (
    Manifest,
    PointerArgument,
    ScalarArgument,
    SizeArgument,
    bind_sizes,
    bits_of,
    check_addresses,
    evaluate,
)

MATMUL = Manifest(
    program="matmul",
    kernel="matmul_kernel",
    pointers=(
        PointerArgument("A", "f16", ("M", "K"), alignment=16),
        PointerArgument("B", "u4", ("K", "N")),
        PointerArgument("S", "f16", ("K / 64", "N")),
        PointerArgument("C", "f16", ("M", "N"), access="out"),
    ),
    sizes=(SizeArgument("M"), SizeArgument("K * N", "i64")),
    scalars=(ScalarArgument("alpha", "f32"),),
    threads=128,
    workspace_bytes="ceil_div(M, 64) * N * 4",
    facts=("K % 64 == 0", "N >= 8"),
    cluster=(2, 1, 1),
)


class Packed:
    def __init__(self, dtype, shape, storage):
        self.dtype, self.shape, self.storage = dtype, shape, storage


def arrays(M=3, K=128, N=24, **changes):
    given_arrays = {
        "A": np.zeros((M, K), "f2"),
        "B": np.zeros((K, N // 2), "u1"),
        "S": np.zeros((K // 64, N), "f2"),
        "C": np.zeros((M, N), "f2"),
    } | changes
    return [describe(given_arrays[name]) for name in "ABSC"]


def refused(code, manifest=MATMUL, **changes):
    with pytest.raises(VmError) as caught:
        bind_sizes(manifest, arrays(**changes))
    assert caught.value.code == code
    assert "matmul" in str(caught.value)
    return str(caught.value)


def test_json_gives_the_manifest_back():
    assert Manifest.from_json(json.loads(json.dumps(MATMUL.as_json()))) == MATMUL
    strided = replace(MATMUL, pointers=(PointerArgument("A", "f16", ("M",), strides=("s",)),))
    plain = replace(strided, cluster=None)
    assert Manifest.from_json(json.loads(json.dumps(plain.as_json()))) == plain


def test_sizes_are_bound_where_they_stand_alone():
    assert bind_sizes(MATMUL, arrays()) == {"M": 3, "K": 128, "N": 24}


def test_wrong_arrays():
    text = refused("E0830", C=np.zeros((3, 25), "f2"))
    assert "C has shape [M, N] = [3, 24], not [3, 25]" in text
    assert "M = 3 from axis 0 of A" in text and "N = 24 from axis 1 of S" in text
    refused("E0830", S=np.zeros((3, 24), "f2"))
    refused("E0830", A=np.zeros(128, "f2"))
    text = refused("E0830", B=np.zeros((128, 11), "u1"))
    assert "[128, 11]" in text and "4-bit" in text
    text = refused("E0829", A=np.zeros((3, 128), "f4"))
    assert "A is f16, the array is f32" in text
    refused("E0832", A=np.zeros((3, 256), "f2")[:, ::2])
    frozen = np.zeros((3, 24), "f2")
    frozen.flags.writeable = False
    refused("E0834", C=frozen)
    assert bind_sizes(MATMUL, arrays(S=np.broadcast_to(np.zeros((2, 24), "f2"), (2, 24))))


def test_facts():
    text = refused("E0836", K=96, S=np.zeros((1, 24), "f2"))
    assert "K % 64 == 0: K = 96" in text
    assert "K = 64 or 128 would fit" in text
    assert "N >= 8" in refused("E0836", N=4)


def test_a_fact_that_divides_by_a_size_of_0():
    manifest = replace(MATMUL, facts=("K % N == 0",))
    with pytest.raises(VmError, match="K % N == 0 divides by 0: M = 3, K = 128, N = 0") as caught:
        bind_sizes(manifest, arrays(N=0))
    assert caught.value.code == "E0836"


def test_a_packed_array_states_its_elements():
    manifest = replace(
        MATMUL, pointers=(PointerArgument("B", "u3", ("K", "N")),), facts=(), workspace_bytes="0"
    )
    storage = np.zeros((4, 3), "u1")
    assert bind_sizes(manifest, [describe(Packed("u3", (4, 7), storage))]) == {"K": 4, "N": 7}
    # bytes alone say only how many fit
    assert bind_sizes(manifest, [describe(storage)]) == {"K": 4, "N": 8}
    with pytest.raises(VmError) as caught:
        bind_sizes(manifest, [describe(Packed("u3", (4, 9), storage))])
    assert caught.value.code == "E0830"
    with pytest.raises(VmError) as caught:
        bind_sizes(manifest, [describe(Packed("u4", (4, 6), storage))])
    assert caught.value.code == "E0829"


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(["u1", "u3", "i5", "f6e3m2"]), st.integers(1, 9), st.integers(0, 40))
def test_rows_of_bytes_agree_with_a_size_known_elsewhere(dtype, rows, columns):
    manifest = replace(
        MATMUL,
        pointers=(
            PointerArgument("B", dtype, ("K", "N")),
            PointerArgument("S", "f32", ("N",)),
        ),
        facts=(),
    )
    bits = int(dtype[1])
    row_bytes = len(np.packbits(np.zeros(columns * bits, "u1")))
    scales = describe(np.zeros(columns, "f4"))
    storage = describe(np.zeros((rows, row_bytes), "u1"))
    assert bind_sizes(manifest, [storage, scales]) == {"K": rows, "N": columns}
    with pytest.raises(VmError) as caught:
        bind_sizes(manifest, [describe(np.zeros((rows, row_bytes + 1), "u1")), scales])
    assert caught.value.code == "E0830"


def test_bytes_may_stand_for_eight_bit_floats_but_not_for_truth():
    pointer = PointerArgument("A", "f8e4m3", ("N",))
    manifest = replace(MATMUL, pointers=(pointer,), facts=())
    codes = [describe(np.zeros(5, "u1"))]
    assert bind_sizes(manifest, codes) == {"N": 5}
    with pytest.raises(VmError):
        bind_sizes(replace(manifest, pointers=(replace(pointer, dtype="bool"),)), codes)


def test_strides_bind_and_are_checked():
    pointers = (
        PointerArgument("A", "f32", ("M", "N"), strides=("row", "1")),
        PointerArgument("B", "f32", ("M", "N"), strides=("row", "1")),
    )
    manifest = replace(MATMUL, pointers=pointers, facts=())
    base = np.zeros((8, 10), "f4")
    padded = describe(base[:, :7])
    assert bind_sizes(manifest, [padded, padded]) == {"M": 8, "row": 10, "N": 7}
    for wrong in (np.zeros((8, 7), "f4"), np.zeros((16, 20), "f4")[::2, :14:2]):
        with pytest.raises(VmError) as caught:
            bind_sizes(manifest, [padded, describe(wrong)])
        assert caught.value.code == "E0832"
    row = describe(np.zeros((1, 7), "f4")), describe(base[:1, :7])
    assert bind_sizes(manifest, row)["N"] == 7  # the stride of one row does not matter


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("u4", 4), ("i64", 64), ("bf16", 16), ("tf32", 32), ("f8e8m0", 8), ("f6e3m2", 6), ("nf4", 4)],
)
def test_bits(dtype, bits):
    assert bits_of(dtype) == bits
    assert bits_of("bool") == 8


def test_addresses():
    def at(pointer, elements=64, device="cuda:0"):
        return Array(pointer, (elements,), (1,), "f16", device, False, "torch", 2)

    apart = [at(0x1000), at(0x2000), at(0x3000), at(0x4000)]
    check_addresses(MATMUL, apart)
    with pytest.raises(VmError) as caught:
        check_addresses(MATMUL, [at(0x1008), *apart[1:]])
    assert caught.value.code == "E0831" and "0x1008" in str(caught.value)
    check_addresses(MATMUL, [apart[0], apart[0], apart[0], apart[3]])  # all of them only read
    check_addresses(MATMUL, [*apart[:3], at(0x3000 + 128)])
    for place in (0x3000 - 126, 0x3000, 0x3000 + 126):
        with pytest.raises(VmError) as caught:
            check_addresses(MATMUL, [*apart[:3], at(place)])
        assert caught.value.code == "E0835" and "S" in str(caught.value)
    *others, written = MATMUL.pointers
    aliased = replace(MATMUL, pointers=(*others, replace(written, alias=True)))
    check_addresses(aliased, [*apart[:3], at(0x3000)])


NAMES = {"a": 7, "b": -3, "c": 2}
leaves = st.sampled_from([*NAMES]) | st.integers(0, 9).map(str)
expressions = st.recursive(
    leaves,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"({' '.join(t)})")
        | st.tuples(inner, st.sampled_from(["//", "%", "/"]), st.integers(1, 5)).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        )
        | st.tuples(inner, inner).map(lambda t: f"min({t[0]}, {t[1]})")
        | inner.map(lambda text: f"(-{text})")
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(expressions)
def test_expressions_mean_what_python_says(text):
    assert evaluate(text, NAMES) == eval(text.replace(" / ", " // "), dict(NAMES))


@pytest.mark.parametrize(
    ("text", "value"),
    [("ceil_div(7, 2)", 4), ("ceil_div(-7, 2)", -3), ("max(a, 9) == 9 and not c > 2", True)],
)
def test_functions_and_facts(text, value):
    assert evaluate(text, NAMES) == value


@pytest.mark.parametrize(
    "text", ["__import__('os')", "a.real", "[a]", "a ** 2", "lambda: 1", "a if b else c", "'a'"]
)
def test_what_is_no_expression_is_not_evaluated(text):
    with pytest.raises(InternalError):
        evaluate(text, NAMES)


def test_unknown_names_are_our_fault():
    with pytest.raises(InternalError, match="Q"):
        evaluate("Q + 1", NAMES)
