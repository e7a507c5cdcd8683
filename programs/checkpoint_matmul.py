"""C = A W with weights as a checkpoint stores them: nothing repacks them first.

Each tile is loaded from the checkpoint's own tensors, taken apart by the format's views and
restored as its rule says (programs/checkpoints.py), and rounded to the type of the activations;
the compiler moves it to where the matrix instruction wants it.
"""

from __future__ import annotations

from programs.checkpoints import THREADS, Format, with_parameters, write_dequantize
from programs.staged_product import staged_product
from vm.isa.builder import Builder
from vm.isa.dtypes import DTypeError, dtype
from vm.isa.program import Module

LARGEST_RANDOM = 4.0
"""Values of `random` lie within this: philox.py's largest is 3.46 standard deviations."""


def checkpoint_matmul(
    form: Format, activation: str | None = None, rows: int = 64, stages: int = 4
) -> Module:
    """The module of a format: `matmul`, `dequantize` and cases that compare the two.

    A is [M, K] and C [M, N] whichever way the weight lies. `activation` is f16 or bf16: that of the
    restored weights, or f16 where they are f32. `rows` are those of a block's tile of C, `stages`
    the tiles of A in flight.
    """
    b = Builder()
    stored = form(b)
    element = stored.element
    activation = activation or ("f16" if element == "f32" else element)
    if activation not in ("f16", "bf16"):
        raise DTypeError(f"activations are f16 or bf16, not {activation}")
    if element == "bf16" and activation == "f16":
        raise DTypeError("bf16 has values that f16 has not; write activation='bf16'")
    M, N, K = b.sizes("M N K")
    ELEMENT = b.const(dtype(element))  # of the restored weights
    ACTIVATION = b.const(dtype(activation))
    BM = b.const(rows)
    STAGES = b.const(stages)
    (BK, BN), (depth, columns) = stored.tile, stored.shape
    if stored.transposed:
        (BN, BK), (columns, depth) = stored.tile, stored.shape

    dequantize = write_dequantize(b, stored)

    def body(A, *tensors):
        *tensors, C = tensors
        bm, bn = b.block_index()
        read = stored.reader(*tensors)

        def weights(k):
            tile = b.transpose(read(bn, k)) if stored.transposed else read(k, bn)
            return tile if element == activation else b.cast(tile, ACTIVATION)

        acc = staged_product(b, A, bm * BM, (BM, BN, BK), STAGES, depth, ACTIVATION, weights)
        b.store(C[bm * BM : +BM, bn * BN : +BN], b.cast(acc, ACTIVATION))

    parameters = {
        "A": b.global_(ACTIVATION)[M, depth],
        **stored.parameters,
        "C": b.out(b.global_(ACTIVATION))[M, columns],
    }
    matmul = b.program(
        grid=(b.ceil_div(M, BM), b.ceil_div(columns, BN)),
        threads=THREADS,
        where=[*stored.facts, b.aligned("A", 16)],
        name="matmul",
    )(with_parameters(body, parameters, "C = A W, with W as the checkpoint has it."))

    extents = (N, K) if stored.transposed else (K, N)

    @b.reference()
    def product(A: ACTIVATION[M, K], W: ELEMENT[extents]):
        return b.dot(A, b.transpose(W) if stored.transposed else W)

    example = stored.example()
    rounded = {"operand_roundings": 1, "largest_factor": LARGEST_RANDOM}
    bound = rounded if element != activation else {}

    def compared(M, N, K):
        sizes = {"N": N, "K": K}
        of_weight = {name: sizes[name] for name in stored.unbound}
        of_matmul = {name: size for name, size in of_weight.items() if name != "K"}  # A tells it
        A = b.random(ACTIVATION, [M, K], seed=1)
        tensors = example(N, K)
        W = dequantize(*tensors, **of_weight)
        C = matmul(A, *tensors, **of_matmul)
        b.expect(C, product(A, W), bound=b.dot_error(ACTIVATION, b.f32, K, **bound))

    unit_n, unit_k = stored.multiple if stored.transposed else reversed(stored.multiple)
    for name, m, n, k in (("main", 64, 256, 512), ("odd", 77, 131, 65), ("one_row", 1, 1, 1)):
        b.case(name, M=m, N=multiple(n, unit_n), K=multiple(k, unit_k))(compared)
    return b.module()


def multiple(size: int, unit: int) -> int:
    """The least multiple of `unit` from `size` on."""
    return -(-size // unit) * unit
