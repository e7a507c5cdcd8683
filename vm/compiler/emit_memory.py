"""How accesses of memory are written in C++."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vm.compiler.emit import Emitter, emits, is_plain, tag
from vm.isa import gpu, gpu_atomics, memory, nvidia
from vm.isa.instruction import Instruction
from vm.isa.types import Tile, Value


@emits(memory.SharedAllocate)
def _shared(e: Emitter, i: memory.SharedAllocate) -> Iterator[str]:
    yield (
        f"// {i.result.name or 'scratch'}: {i.dtype.name}{list(i.shape)} in shared memory from "
        f"byte {i.address}"
    )


@emits(memory.GlobalView)
def _global_view(e: Emitter, i: memory.GlobalView) -> Iterator[str]:
    base, value = e.name(i.base.base), i.result
    const = "const " if not value.type.is_written else ""
    offset = "0" if i.offset is None else e.plain(i.offset)
    behind = "" if i.byte_offset is None else f" + {e.plain(i.byte_offset)}"
    yield (
        f"{const}unsigned char* const {e.name(value)} = "
        f"{base} + (long long){offset} * {i.dtype.bits} / 8{behind};"
    )


def _address(e: Emitter, tile: Tile, offset: Any, plus: int) -> str:
    moved = f" + {plus}" if plus else ""
    return f"{e.name(tile.base)} + {e.plain(offset)}{moved}"


def plus(e: Emitter, address: Any, plus: int) -> str:
    moved = f" + {plus}u" if plus else ""
    return f"(unsigned){e.plain(address)}{moved}"


def begun_as(e: Emitter, i: Instruction, before: Value | None = None) -> Iterator[str]:
    """What comes before an instruction that replaces part of x, or of another operand: its result
    begins as that."""
    before = i.x if before is None else before
    if i.result is before:
        return
    declaration, target = e.target(i)
    yield from declaration
    value = e.plain(before) if is_plain(i.result.type) else e.register(before)
    yield f"{target} = {value};"


def _cache(i: Any) -> str:
    return "" if i.cache == "default" else f", vm_cache_{i.cache}"


def _words_of_load(e: Emitter, i: Any, load: Callable[[str], str]) -> Iterator[str]:
    """A load into the words of its result. A C++ bool is no word: NVRTC takes what is written to it
    as one for undefined, and codes above 1 read as true."""
    yield from begun_as(e, i)
    if not _is_plain_bool(i.result):
        yield load(e.words(i.result))
        return
    name = e.name(i.result)
    yield f"{{ unsigned {name}_word = 0; {load(f'&{name}_word')} {name} = {name}_word != 0; }}"


def _words_of_store(e: Emitter, i: Any, store: Callable[[str], str]) -> Iterator[str]:
    """A store of the words of its operand."""
    if not _is_plain_bool(i.x):
        yield store(e.words(i.x))
        return
    name = e.name(i.x)
    yield f"{{ unsigned {name}_word = {name}; {store(f'&{name}_word')} }}"


def _is_plain_bool(value: Value) -> bool:
    return is_plain(value.type) and value.type.dtype.name == "bool"


@emits(gpu.LoadGlobal)
def _load_global(e: Emitter, i: gpu.LoadGlobal) -> Iterator[str]:
    yield from _words_of_load(e, i, lambda words: (
        f"vm_load_global<{i.bytes}{_cache(i)}>({words}, {i.at}, "
        f"{_address(e, i.base, i.offset, i.plus)}{e.predicate(i.predicate)});"
    ))  # fmt: skip


@emits(gpu.StoreGlobal)
def _store_global(e: Emitter, i: gpu.StoreGlobal) -> Iterator[str]:
    yield from _words_of_store(e, i, lambda words: (
        f"vm_store_global<{i.bytes}{_cache(i)}>({_address(e, i.base, i.offset, i.plus)}, "
        f"{words}, {i.at}{e.predicate(i.predicate)});"
    ))  # fmt: skip


@emits(gpu.LoadShared)
def _load_shared(e: Emitter, i: gpu.LoadShared) -> Iterator[str]:
    yield from _words_of_load(e, i, lambda words: (
        f"vm_load_shared<{i.bytes}>({words}, {i.at}, {plus(e, i.address, i.plus)}"
        f"{e.predicate(i.predicate)});"
    ))  # fmt: skip


@emits(gpu.StoreShared)
def _store_shared(e: Emitter, i: gpu.StoreShared) -> Iterator[str]:
    yield from _words_of_store(e, i, lambda words: (
        f"vm_store_shared<{i.bytes}>({plus(e, i.address, i.plus)}, {words}, {i.at}"
        f"{e.predicate(i.predicate)});"
    ))  # fmt: skip


@emits(gpu.LoadGlobalBits)
def _load_global_bits(e: Emitter, i: gpu.LoadGlobalBits) -> Iterator[str]:
    yield from begun_as(e, i)
    yield (
        f"vm_load_bits_global({e.name(i.result)}, {i.slot}, {e.name(i.base.base)}, "
        f"{e.plain(i.bit)}{e.predicate(i.predicate)});"
    )


@emits(gpu.StoreGlobalBits)
def _store_global_bits(e: Emitter, i: gpu.StoreGlobalBits) -> Iterator[str]:
    yield (
        f"vm_store_bits_global({e.name(i.base.base)}, {e.plain(i.bit)}, {e.register(i.x)}, "
        f"{i.slot}{e.predicate(i.predicate)});"
    )


@emits(gpu.LoadSharedBits)
def _load_shared_bits(e: Emitter, i: gpu.LoadSharedBits) -> Iterator[str]:
    yield from begun_as(e, i)
    yield (
        f"vm_load_bits_shared({e.name(i.result)}, {i.slot}, 0u, {e.plain(i.bit)}"
        f"{e.predicate(i.predicate)});"
    )


@emits(gpu.StoreSharedBits)
def _store_shared_bits(e: Emitter, i: gpu.StoreSharedBits) -> Iterator[str]:
    yield (
        f"vm_store_bits_shared(0u, {e.plain(i.bit)}, {e.register(i.x)}, {i.slot}"
        f"{e.predicate(i.predicate)});"
    )


@emits(nvidia.CopyAsync)
def _copy_async(e: Emitter, i: nvidia.CopyAsync) -> Iterator[str]:
    yield (
        f"vm_copy_async<{i.bytes}>({plus(e, i.address, i.plus)}, "
        f"{_address(e, i.base, i.offset, 0)}{e.predicate(i.predicate)});"
    )


def _operation(e: Emitter, i: Any) -> str:
    return f"vm_atomic_{i.op}, {tag(i.x.type.dtype)}"


def _shares_words(i: Any) -> bool:
    """Whether elements are narrower than a word: they are handed over with their register."""
    return i.x.type.dtype.bits < 32


def _slot_words(e: Emitter, operand: Value, slot: int) -> str:
    per_slot = operand.type.dtype.bits // 32
    return f"{e.words(operand)} + {slot * per_slot}"


@emits(gpu_atomics.AtomicGlobal)
def _atomic_global(e: Emitter, i: gpu_atomics.AtomicGlobal) -> Iterator[str]:
    yield from begun_as(e, i, i.old)
    if _shares_words(i):
        yield (
            f"vm_atomic_slot_global<vm_atomic_{i.op}>({e.register(i.result)}, {i.slot}, "
            f"{_address(e, i.base, i.offset, i.plus)}, {e.register(i.x)}"
            f"{e.predicate(i.predicate)});"
        )
        return
    yield (
        f"vm_atomic_global<{_operation(e, i)}>({_slot_words(e, i.result, i.slot)}, "
        f"{_address(e, i.base, i.offset, i.plus)}, {_slot_words(e, i.x, i.slot)}"
        f"{e.predicate(i.predicate)});"
    )


@emits(gpu_atomics.ReduceGlobal)
def _reduce_global(e: Emitter, i: gpu_atomics.ReduceGlobal) -> Iterator[str]:
    if _shares_words(i):
        yield (
            f"vm_reduce_slot_global<vm_atomic_{i.op}>({_address(e, i.base, i.offset, i.plus)}, "
            f"{e.register(i.x)}, {i.slot}{e.predicate(i.predicate)});"
        )
        return
    yield (
        f"vm_reduce_global<{_operation(e, i)}>({_address(e, i.base, i.offset, i.plus)}, "
        f"{_slot_words(e, i.x, i.slot)}{e.predicate(i.predicate)});"
    )


@emits(gpu_atomics.AtomicShared)
def _atomic_shared(e: Emitter, i: gpu_atomics.AtomicShared) -> Iterator[str]:
    yield from begun_as(e, i, i.old)
    if _shares_words(i):
        yield (
            f"vm_atomic_slot_shared<vm_atomic_{i.op}>({e.register(i.result)}, {i.slot}, "
            f"{plus(e, i.address, i.plus)}, {e.register(i.x)}{e.predicate(i.predicate)});"
        )
        return
    yield (
        f"vm_atomic_shared<{_operation(e, i)}>({_slot_words(e, i.result, i.slot)}, "
        f"{plus(e, i.address, i.plus)}, {_slot_words(e, i.x, i.slot)}{e.predicate(i.predicate)});"
    )


@emits(gpu_atomics.ReduceShared)
def _reduce_shared(e: Emitter, i: gpu_atomics.ReduceShared) -> Iterator[str]:
    if _shares_words(i):
        yield (
            f"vm_reduce_slot_shared<vm_atomic_{i.op}>({plus(e, i.address, i.plus)}, "
            f"{e.register(i.x)}, {i.slot}{e.predicate(i.predicate)});"
        )
        return
    yield (
        f"vm_reduce_shared<{_operation(e, i)}>({plus(e, i.address, i.plus)}, "
        f"{_slot_words(e, i.x, i.slot)}{e.predicate(i.predicate)});"
    )
