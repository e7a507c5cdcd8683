"""Registers and memory: slots, views, accesses of every size, elements of a few bits, copies."""

from __future__ import annotations

import numpy as np

from tests.compiler.prelude import oracle
from tests.compiler.prelude.battery import Register, Text, tag

ODD_TYPES = ("u1", "i3", "f4e2m1", "u5", "f6e3m2", "u7", "i12", "f16", "u33", "i48", "f64", "bool")


def codes(type_: str, rows: int, count: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    bits = oracle.bits_of(type_)
    wide = rng.integers(0, 2**64, (rows, count), dtype=np.uint64) >> np.uint64(64 - bits)
    return (wide % 2 if type_ == "bool" else wide).astype(oracle.code_type(type_))


def registers() -> Text:
    """What moves bits within a thread."""
    text = Text("registers")
    for type_ in ODD_TYPES:
        x = codes(type_, 40, 7)
        name, constant = type_, int(codes(type_, 1, 1, 9)[0, 0])
        text.map(
            f"pick_{name}", [Register(type_, 7, x)], [(type_, 5), (type_, 7)],
            "vm_pick<6, 0, 0, 3, 5>(y0, x0); y1 = x0; vm_pick<6, 5, 4, 3, 2, 1, 0>(y1, y1);",
            [x[:, [6, 0, 0, 3, 5]], x[:, ::-1]],
        )  # fmt: skip
        placed = x.copy()
        placed[:, [4, 1]] = x[:, [0, 1]]
        text.map(
            f"place_{name}", [Register(type_, 7, x), Register(type_, 2, x[:, :2])], [(type_, 7)],
            "y0 = x0; vm_place_slots<4, 1>(y0, x1);", [placed],
        )  # fmt: skip
        filled = np.full((40, 7), constant, x.dtype)
        text.map(
            f"fill_{name}", [Register(type_, 1, x[:, :1])], [(type_, 7), (type_, 7), (type_, 7)],
            f"vm_fill(y0, x0); vm_fill(y1, {constant:#x}ull); "
            f"vm_fill(y2, vm_constant<{tag(type_)}>({constant:#x}ull));",
            [np.repeat(x[:, :1], 7, axis=1), filled, filled],
        )  # fmt: skip
        set_two = x.copy()
        set_two[:, 6] = x[:, 2]
        text.map(
            f"get_set_{name}", [Register(type_, 7, x)], [(type_, 7)],
            "y0 = x0; vm_set_code(y0, 6, vm_get_code(x0, 2)); vm_set<3>(y0, vm_get<3>(x0));",
            [set_two],
        )  # fmt: skip
    for source, count, target, other in (
        ("f6e3m2", 16, "u8", 12),
        ("u4", 8, "f16", 2),
        ("u3", 32, "u1", 96),
        ("f64", 3, "u12", 16),
        ("i5", 32, "u32", 5),
    ):
        x = codes(source, 20, count)
        words = oracle.pack(x, oracle.bits_of(source))
        text.map(
            f"view_{source}_{target}", [Register(source, count, x)], [(target, other)],
            "vm_view(y0, x0);", [oracle.unpack(words, oracle.bits_of(target), other)],
        )  # fmt: skip
    return text


def accesses() -> Text:
    """Loads and stores of 1 to 16 bytes, with predicates and cache hints, through shared memory."""
    text = Text("accesses")
    rng = np.random.default_rng(2)
    caches = ("default", "streaming", "no_allocate", "constant", "constant_stream")
    for size in (1, 2, 4, 8, 16):
        first = 4 if size >= 4 else 4 + size
        second = {1: 9, 2: 10}.get(size, 8)
        for number, cache in enumerate(caches):
            store = cache if number < 3 else "default"
            data = rng.integers(0, 256, (64, size), dtype=np.uint8)
            body = f"""
VM_KERNEL(move_{size}_{cache}, 64, 1)(unsigned char* in, unsigned char* out, int limit) {{
  VM_SHARED(2048);
  unsigned words[8];
  VM_UNROLL for (int i = 0; i < 8; i++) words[i] = 0x01010101u;
  vm_load_global<{size}, vm_cache_{cache}>(words, {first}, in + VM_THREAD * {size},
                                           VM_THREAD < limit);
  vm_store_shared<{size}>(64 + (63 - VM_THREAD) * {size}, words, {first});
  vm_synchronize();
  vm_load_shared<{size}>(words, {second}, 64 + VM_THREAD * {size}, VM_THREAD != 5);
  vm_store_global<{size}, vm_cache_{store}>(out + VM_THREAD * {size}, words, {second},
                                            VM_THREAD != 7);
}}"""
            wanted = np.where(np.arange(64)[:, None] < 50, data, 0)[::-1].copy()
            wanted[5] = 0
            wanted[7] = 0xEE

            def arguments(data=data):
                return [data.copy(), np.full_like(data, 0xEE), 50]

            def check(after, wanted=wanted):
                np.testing.assert_array_equal(after[1], wanted)

            text.kernel(
                body, f"move_{size}_{cache}", arguments, check, threads=64, shared_bytes=2048
            )
    return text


def small_elements() -> Text:
    """Elements of any bits at any bit: threads store neighbours of one word and lose nothing."""
    text = Text("small_elements")
    for type_ in ("u1", "i3", "u4", "f5e2m2", "f6e3m2", "u7", "u8", "i12", "f16", "u23", "i32"):
        bits = oracle.bits_of(type_)
        begin = 5
        total = begin + 128 * bits
        x = codes(type_, 1, 128)
        before = np.random.default_rng(3).integers(0, 256, -(-total // 8) + 2, dtype=np.uint8)
        digits = np.unpackbits(before, bitorder="little")
        digits[begin:total] = np.unpackbits(
            oracle.pack(x, bits).view(np.uint8).reshape(-1), bitorder="little"
        )[: 128 * bits]
        wanted = np.packbits(digits, bitorder="little")
        body = f"""
VM_KERNEL(bits_{type_}, 128, 1)(unsigned char* in, unsigned char* out, int count) {{
  VM_SHARED(1024);
  vm_register<{tag(type_)}, 3> x;
  vm_fill(x, 0);
  vm_load_bits_global(x, 1, in, (long long)VM_THREAD * {bits});
  vm_store_bits_shared(8, (long long)(127 - VM_THREAD) * {bits} + 3, x, 1);
  vm_synchronize();
  vm_load_bits_shared(x, 2, 8, (long long)(127 - VM_THREAD) * {bits} + 3);
  vm_load_bits_shared(x, 0, 8, 1000000000ll, false);
  if (vm_get_code(x, 0) == 0)
    vm_store_bits_global(out, (long long)VM_THREAD * {bits} + {begin}, x, 2, VM_THREAD < count);
}}"""

        def arguments(x=x, before=before, bits=bits):
            return [oracle.pack(x, bits), before.copy(), 128]

        def check(after, wanted=wanted):
            np.testing.assert_array_equal(after[1], wanted)

        text.kernel(body, f"bits_{type_}", arguments, check, shared_bytes=1024)
    return text


def copies() -> Text:
    """cp.async: groups in flight, zeros where the predicate is false."""
    text = Text("copies", orders=("forward", "reverse", "random:1", "random:2"))
    rng = np.random.default_rng(4)
    for size in (4, 8, 16):
        data = rng.integers(0, 256, (4, 64, size), dtype=np.uint8)
        body = f"""
VM_KERNEL(copy_{size}, 64, 1)(unsigned char* in, unsigned char* out, int limit) {{
  VM_SHARED(4096);
  for (int stage = 0; stage < 3; stage++) {{
    vm_copy_async<{size}>(stage * 1024 + VM_THREAD * {size},
                          in + (stage * 64 + VM_THREAD) * {size}, VM_THREAD < limit);
    vm_commit_async();
  }}
  for (int stage = 0; stage < 4; stage++) {{
    vm_wait_async<2>();
    vm_synchronize();
    unsigned words[4];
    vm_load_shared<{size}>(words, 0, stage % 3 * 1024 + (63 - VM_THREAD) * {size});
    vm_store_global<{size}>(out + (stage * 64 + VM_THREAD) * {size}, words, 0);
    vm_synchronize();
    vm_copy_async<{size}>(stage % 3 * 1024 + VM_THREAD * {size},
                          in + (3 * 64 + VM_THREAD) * {size}, VM_THREAD < limit && stage == 0);
    vm_commit_async();
  }}
}}"""
        wanted = np.where(np.arange(64)[None, :, None] < 50, data, 0)[:, ::-1]

        def arguments(data=data):
            return [data.copy(), np.zeros_like(data), 50]

        def check(after, wanted=wanted):
            np.testing.assert_array_equal(after[1], wanted)

        text.kernel(body, f"copy_{size}", arguments, check, threads=64, shared_bytes=4096)
    return text


def bulk_copies() -> Text:
    """A ring of bulk copies with full and empty mbarriers: one warp copies, three consume."""
    text = Text("bulk_copies", least=90, orders=("forward", "reverse", "random:1", "random:2"))
    data = np.random.default_rng(5).integers(0, 2**32, (7, 384), dtype=np.uint32)
    body = """
VM_KERNEL(ring, 128, 1)(unsigned char* in, unsigned char* out, int steps) {
  VM_SHARED(8192);
  const unsigned full = 6144;
  const unsigned empty = 6176;
  if (VM_THREAD == 0) {
    for (int s = 0; s < 3; s++) {
      vm_mbarrier_init(full + 8 * s, 1);
      vm_mbarrier_init(empty + 8 * s, 96);
    }
    vm_fence_mbarrier_init();
  }
  vm_synchronize();
  if (VM_WARP == 3) {
    if (VM_LANE == 0)
      for (int step = 0; step < steps; step++) {
        const int s = step % 3;
        vm_mbarrier_wait(empty + 8 * s, (step / 3 + 1) % 2);
        vm_mbarrier_arrive_expect(full + 8 * s, 1536);
        vm_copy_bulk(s * 1536, in + step * 1536, 1536, full + 8 * s);
      }
  } else {
    for (int step = 0; step < steps; step++) {
      const int s = step % 3;
      vm_mbarrier_wait(full + 8 * s, step / 3 % 2);
      unsigned words[4];
      vm_load_shared<16>(words, 0, s * 1536 + (95 - VM_THREAD) * 16);
      vm_mbarrier_arrive(empty + 8 * s);
      vm_store_global<16>(out + step * 1536 + VM_THREAD * 16, words, 0);
    }
  }
}"""

    def check(after):
        np.testing.assert_array_equal(after[1].reshape(7, 96, 4), data.reshape(7, 96, 4)[:, ::-1])

    text.kernel(
        body, "ring", lambda: [data.copy(), np.zeros_like(data), 7], check, shared_bytes=8192
    )
    return text


BATTERIES = {
    "registers": registers,
    "accesses": accesses,
    "small_elements": small_elements,
    "copies": copies,
    "bulk_copies": bulk_copies,
}
