"""How what the lanes of a warp do together is written in C++: matrices, shuffles, votes."""

from __future__ import annotations

from collections.abc import Iterator

from vm.compiler.emit import Emitter, emits, into_register, tag
from vm.compiler.emit_memory import begun_as, plus
from vm.isa import gpu, nvidia
from vm.isa.types import Value


@emits(nvidia.LoadMatrix)
def _load_matrix(e: Emitter, i: nvidia.LoadMatrix) -> Iterator[str]:
    yield from begun_as(e, i)
    transposed = "true" if i.transposed else "false"
    yield (
        f"vm_ldmatrix<{i.count}, {transposed}>({e.words(i.result)} + {i.at}, "
        f"{plus(e, i.address, i.plus)});"
    )


@emits(nvidia.StoreMatrix)
def _store_matrix(e: Emitter, i: nvidia.StoreMatrix) -> Iterator[str]:
    transposed = "true" if i.transposed else "false"
    yield (
        f"vm_stmatrix<{i.count}, {transposed}>({plus(e, i.address, i.plus)}, "
        f"{e.words(i.x)} + {i.at});"
    )


@emits(gpu.MatrixMultiply)
def _matrix_multiply(e: Emitter, i: gpu.MatrixMultiply) -> Iterator[str]:
    if i.result is not i.c:
        declaration, target = e.target(i)
        yield from declaration
        yield f"{target} = {e.register(i.c)};"
    shape = "_".join(i.fragment.split("_")[:2])
    kinds = ", ".join(tag(o.type.dtype) for o in (i.a, i.b, i.c))
    places = [_word_range(e, o, at) for o, at in ((i.result, i.at_c), (i.a, i.at_a), (i.b, i.at_b))]
    setup = [line for line, _ in places if line]
    call = f"vm_{shape}<{kinds}>({', '.join(text for _, text in places)});"
    if setup:
        yield "{ " + " ".join(setup) + f" {call} }}"
    else:
        yield call


def _word_range(e: Emitter, operand: Value, at: tuple[int, ...]) -> tuple[str, str]:
    """(what comes first, the pointer) for words that an instruction takes as neighbours."""
    words = e.words(operand)
    if at == tuple(range(at[0], at[0] + len(at))):
        return "", f"{words} + {at[0]}"
    name = f"{e.name(operand)}_words"
    listed = ", ".join(f"{words}[{w}]" for w in at)
    return f"const unsigned {name}[] = {{{listed}}};", name


@emits(gpu.ShuffleXor)
def _shuffle(e: Emitter, i: gpu.ShuffleXor) -> Iterator[str]:
    yield from into_register(e, i, "vm_shuffle_xor", f"{e.register(i.x)}, {i.mask}")


@emits(gpu.Vote)
def _vote(e: Emitter, i: gpu.Vote) -> Iterator[str]:
    yield from into_register(e, i, f"vm_vote_{i.op}", e.register(i.x))
