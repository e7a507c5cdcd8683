"""What lanes and threads do together: matrices, shuffles, barriers, atomics, signals, reports."""

from __future__ import annotations

import numpy as np

from tests.compiler.prelude import oracle
from tests.compiler.prelude.battery import Text, tag

EVERY_ORDER = ("forward", "reverse", "random:1")


def matrices() -> Text:
    """ldmatrix and stmatrix against the matrix itself, movmatrix against its transpose."""
    text = Text("matrices")
    rng = np.random.default_rng(1)
    lanes = np.arange(32)
    for count in (1, 2, 4):
        for transposed in (False, True):
            data = rng.integers(0, 2**16, (count, 8, 8), dtype=np.uint16)
            shown = data.transpose(0, 2, 1) if transposed else data
            row, column = lanes // 4, 2 * (lanes % 4)
            wanted = np.stack([shown[:, row, column], shown[:, row, column + 1]], -1).transpose(
                1, 0, 2
            )
            name = f"ldmatrix_{count}_{str(transposed).lower()}"
            body = f"""
VM_KERNEL({name}, 32, 1)(unsigned char* in, unsigned char* out) {{
  VM_SHARED(1024);
  unsigned words[4];
  if (VM_THREAD < {8 * count}) {{
    vm_load_global<16>(words, 0, in + VM_THREAD * 16);
    vm_store_shared<16>(VM_THREAD * 32, words, 0);
  }}
  vm_synchronize();
  const unsigned row = VM_THREAD < {8 * count} ? VM_THREAD * 32 : 0;
  vm_ldmatrix<{count}, {str(transposed).lower()}>(words, row);
  VM_UNROLL for (int i = 0; i < {count}; i++)
    vm_store_global<4>(out + (VM_THREAD * {count} + i) * 4, words, 4 * i);
}}"""

            def arguments(data=data):
                return [data.copy(), np.zeros((32, data.shape[0], 2), np.uint16)]

            def check(after, wanted=wanted):
                np.testing.assert_array_equal(after[1], wanted)

            text.kernel(body, name, arguments, check, threads=32, shared_bytes=1024)
    data = rng.integers(0, 2**16, (8, 8), dtype=np.uint16)
    body = """
VM_KERNEL(movmatrix, 32, 1)(unsigned char* in, unsigned char* out) {
  unsigned word;
  vm_load_global<4>(&word, 0, in + VM_THREAD * 4);
  word = vm_movmatrix(word);
  vm_store_global<4>(out + VM_THREAD * 4, &word, 0);
}"""

    def transposes(after):
        np.testing.assert_array_equal(after[1], data.T)

    text.kernel(
        body, "movmatrix", lambda: [data.copy(), np.zeros_like(data)], transposes, threads=32
    )
    return text


def stored_matrices() -> Text:
    text = Text("stored_matrices", least=90)
    rng = np.random.default_rng(2)
    for count in (1, 2, 4):
        for transposed in (False, True):
            words = rng.integers(0, 2**16, (32, count, 2), dtype=np.uint16)
            wanted = np.zeros((count, 8, 8), np.uint16)
            for lane in range(32):
                for i in range(count):
                    for j in range(2):
                        row, column = lane // 4, 2 * (lane % 4) + j
                        at = (column, row) if transposed else (row, column)
                        wanted[i][at] = words[lane, i, j]
            name = f"stmatrix_{count}_{str(transposed).lower()}"
            body = f"""
VM_KERNEL({name}, 32, 1)(unsigned char* in, unsigned char* out) {{
  VM_SHARED(1024);
  unsigned words[4];
  VM_UNROLL for (int i = 0; i < {count}; i++)
    vm_load_global<4>(words, 4 * i, in + (VM_THREAD * {count} + i) * 4);
  const unsigned row = VM_THREAD < {8 * count} ? VM_THREAD * 32 : 0;
  vm_stmatrix<{count}, {str(transposed).lower()}>(row, words);
  vm_synchronize();
  if (VM_THREAD < {8 * count}) {{
    vm_load_shared<16>(words, 0, VM_THREAD * 32);
    vm_store_global<16>(out + VM_THREAD * 16, words, 0);
  }}
}}"""

            def arguments(words=words, wanted=wanted):
                return [words.copy(), np.zeros_like(wanted)]

            def check(after, wanted=wanted):
                np.testing.assert_array_equal(after[1], wanted)

            text.kernel(body, name, arguments, check, threads=32, shared_bytes=1024)
    return text


def fragment(matrix: np.ndarray, bits: int, operand: str) -> np.ndarray:
    """The words of each lane, by the tables of PTX ISA 9.0, section 9.7.15.5."""
    size = 32 // bits
    lanes = []
    for lane in range(32):
        g, t = lane // 4, lane % 4
        elements = []
        if operand == "a":
            for half in range(matrix.shape[1] // (4 * size)):
                for row in range(g, matrix.shape[0], 8):
                    begin = 4 * size * half + size * t
                    elements += matrix[row, begin : begin + size].tolist()
        elif operand == "b":
            for part in range(matrix.shape[0] // (4 * size)):
                begin = 4 * size * part + size * t
                elements += matrix[begin : begin + size, g].tolist()
        else:
            for row in range(g, matrix.shape[0], 8):
                elements += matrix[row, 2 * t : 2 * t + 2].tolist()
        lanes.append(elements)
    return oracle.pack(np.array(lanes, np.uint64), bits)


SHAPES = [
    *[(k, "f16", "f16", c) for k in (8, 16) for c in ("f32", "f16")],
    *[(k, "bf16", "bf16", "f32") for k in (8, 16)],
    *[(k, "tf32", "tf32", "f32") for k in (4, 8)],
    *[(k, a, b, "i32") for k in (16, 32) for a in ("u8", "i8") for b in ("u8", "i8")],
]
F8_SHAPES = [
    (k, a, b, "f32") for k in (16, 32) for a in ("f8e4m3", "f8e5m2") for b in ("f8e4m3", "f8e5m2")
]
EIGHT_ROWS = [(16, a, b, "i32") for a in ("u8", "i8") for b in ("u8", "i8")]


def products(name: str, shapes: list, least: int, m: int = 16) -> Text:
    """Small whole numbers, which any order of summation adds exactly; a wrapping sum too."""
    text = Text(name, least=least)
    rng = np.random.default_rng(3)
    for k, a, b, c in shapes:
        low = 0 if a[0] == "u" else -4
        high = 120 if c == "i32" else 5
        x = rng.integers(low * (30 if c == "i32" else 1), high, (m, k))
        y = rng.integers(0 if b[0] == "u" else (-128 if c == "i32" else -4), high, (k, 8))
        z = rng.integers(-(2**31), 2**31, (m, 8)) if c == "i32" else rng.integers(-50, 50, (m, 8))
        total = x @ y + z

        def coded(type_, numbers):
            if oracle.is_integer(type_):
                return oracle.encode_integer(type_, numbers.reshape(-1), "wrap").reshape(
                    numbers.shape
                )
            if type_ == "f32":
                return numbers.astype(np.float32).view(np.uint32)
            return oracle.encode_float(type_, numbers.astype(np.float64), "saturate", False)

        words = [
            fragment(coded(a, x), oracle.bits_of(a), "a"),
            fragment(coded(b, y), oracle.bits_of(b), "b"),
            fragment(coded(c, z), oracle.bits_of(c), "c"),
        ]
        wanted = fragment(coded(c, total), oracle.bits_of(c), "c")
        sizes = [each.shape[1] for each in words]
        kernel = f"mma_{k}_{a}_{b}_{c}"
        loads = "\n".join(
            f"  unsigned {n}[{s}];\n  VM_UNROLL for (int i = 0; i < {s}; i++)\n"
            f"    vm_load_global<4>({n}, 4 * i, in_{n} + (VM_THREAD * {s} + i) * 4);"
            for n, s in zip("abc", sizes, strict=True)
        )
        body = f"""
VM_KERNEL({kernel}, 32, 1)(unsigned char* in_a, unsigned char* in_b, unsigned char* in_c) {{
{loads}
  vm_mma_m{m}n8k{k}<{tag(a)}, {tag(b)}, {tag(c)}>(c, a, b);
  VM_UNROLL for (int i = 0; i < {sizes[2]}; i++)
    vm_store_global<4>(in_c + (VM_THREAD * {sizes[2]} + i) * 4, c, 4 * i);
}}"""

        def arguments(words=words):
            return [each.copy() for each in words]

        def check(after, wanted=wanted, kernel=kernel):
            np.testing.assert_array_equal(after[2], wanted, kernel)

        text.kernel(body, kernel, arguments, check, threads=32)
    return text


def exchange(width: int) -> Text:
    """Shuffles and votes, for warps of `width` lanes."""
    text = Text(f"exchange_{width}", orders=EVERY_ORDER)
    threads = 2 * width
    x = np.random.default_rng(4).integers(0, 2**32, (threads, 3), dtype=np.uint32)
    lanes, base = np.arange(threads) % width, np.arange(threads) // width * width
    sources = {
        "vm_shuffle(y, x, 5)": base + 5,
        "vm_shuffle(y, x, VM_LANE + 3)": base + (lanes + 3) % width,
        "vm_shuffle_xor(y, x, 6)": base + (lanes ^ 6),
        "vm_shuffle_up(y, x, 3)": base + np.where(lanes < 3, lanes, lanes - 3),
        "vm_shuffle_down(y, x, 7)": base + np.where(lanes + 7 < width, lanes + 7, lanes),
    }
    for number, (call, source) in enumerate(sources.items()):
        body = f"""
VM_KERNEL(shuffle_{number}, {threads}, 1)(unsigned char* in, unsigned char* out) {{
  vm_register<vm_f16, 6> x;
  vm_register<vm_f16, 6> y;
  VM_UNROLL for (int i = 0; i < 3; i++)
    vm_load_global<4>(x.words, 4 * i, in + VM_THREAD * 12 + 4 * i);
  {call};
  VM_UNROLL for (int i = 0; i < 3; i++)
    vm_store_global<4>(out + VM_THREAD * 12 + 4 * i, y.words, 4 * i);
}}"""

        def check(after, source=source):
            np.testing.assert_array_equal(after[1], x[source])

        text.kernel(
            body, f"shuffle_{number}", lambda: [x.copy(), np.zeros_like(x)], check, threads=threads
        )
    body = f"""
VM_KERNEL(votes, {threads}, 1)(unsigned char* in, unsigned char* out) {{
  vm_register<vm_u32, 1> x;
  vm_load_global<4>(x.words, 0, in + VM_THREAD * 12);
  const unsigned value = vm_get<0>(x);
  const unsigned long long ballot = vm_ballot(value % 3 == 0);
  const bool any = vm_any(value == 0);
  const bool every = vm_all(value > 0);
  const unsigned words[3] = {{(unsigned)ballot, (unsigned)(ballot >> 32), any * 2u + every}};
  VM_UNROLL for (int i = 0; i < 3; i++)
    vm_store_global<4>(out + VM_THREAD * 12 + 4 * i, words, 4 * i);
}}"""
    x[width + 3, 0] = 0
    bits = (x[:, 0] % 3 == 0).reshape(2, width) << np.arange(width, dtype=np.uint64)
    ballots = np.repeat(bits.sum(axis=1, dtype=np.uint64), width)
    flags = np.repeat([1, 2], width)

    def voted(after):
        np.testing.assert_array_equal(after[1][:, 0], (ballots & 0xFFFFFFFF).astype(np.uint32))
        np.testing.assert_array_equal(after[1][:, 1], (ballots >> np.uint64(32)).astype(np.uint32))
        np.testing.assert_array_equal(after[1][:, 2], flags)

    text.kernel(body, "votes", lambda: [x.copy(), np.zeros_like(x)], voted, threads=threads)
    return text


def atomics() -> Text:
    """Each thread combines into one place; totals, and that what was there before forms a chain."""
    text = Text("atomics", orders=EVERY_ORDER)
    combine = {
        "add": np.add.reduce, "min": np.minimum.reduce, "max": np.maximum.reduce,
        "and": np.bitwise_and.reduce, "or": np.bitwise_or.reduce, "xor": np.bitwise_xor.reduce,
    }  # fmt: skip
    numpy_types = {
        "i32": np.int32,
        "u32": np.uint32,
        "i64": np.int64,
        "u64": np.uint64,
        "f32": np.float32,
        "f64": np.float64,
        "f16": np.float16,
    }
    rng = np.random.default_rng(5)
    for type_, kind in numpy_types.items():
        operations = list(combine) if type_[0] in "iu" else ["add", "min", "max"]
        for operation in operations:
            if type_[0] in "iu":
                info = np.iinfo(kind)
                data = rng.integers(info.min, info.max, 64, dtype=kind, endpoint=True)
            else:
                data = rng.integers(-8, 8, 64).astype(kind)
            start = data[:1].copy()
            with np.errstate(over="ignore"):
                wanted = combine[operation](np.concatenate([start, data]), dtype=kind)
            size, kernel = kind().itemsize, f"{operation}_{type_}"
            body = f"""
VM_KERNEL({kernel}, 64, 1)(unsigned char* in, unsigned char* out, unsigned char* before) {{
  VM_SHARED(64);
  unsigned words[2];
  unsigned old[2];
  vm_load_global<{size}>(words, 0, in);
  if (VM_THREAD == 0) vm_store_shared<{size}>(16, words, 0);
  vm_synchronize();
  vm_load_global<{size}>(words, 0, in + VM_THREAD * {size});
  vm_atomic_global<vm_atomic_{operation}, vm_{type_}, vm_acquire_release>(old, out, words);
  vm_store_global<{size}>(before + VM_THREAD * {size}, old, 0);
  vm_reduce_global<vm_atomic_{operation}, vm_{type_}, vm_release>(out + 8, words, VM_THREAD != 0);
  vm_reduce_shared<vm_atomic_{operation}, vm_{type_}>(16, words);
  vm_atomic_shared<vm_atomic_{operation}, vm_{type_}>(old, 16, words, false);
  vm_synchronize();
  vm_load_shared<{size}>(words, 0, 16);
  if (VM_THREAD == 0) vm_store_global<{size}>(out + 16, words, 0);
}}"""

            def arguments(data=data, start=start, size=size):
                out = np.zeros(24, np.uint8)
                out[:size] = out[8 : 8 + size] = start.view(np.uint8)
                return [data.copy(), out, np.zeros_like(data)]

            def check(after, wanted=wanted, data=data, start=start, kind=kind, operation=operation):
                results = [after[1][i : i + kind().itemsize].view(kind)[0] for i in (0, 8, 16)]
                with np.errstate(over="ignore"):
                    without = combine[operation](np.concatenate([start, data[1:]]), dtype=kind)
                assert results == [wanted, without, wanted], (operation, results, wanted)
                if operation == "add" and kind in (np.int32, np.uint32):
                    with np.errstate(over="ignore"):
                        afterwards = np.append(after[2] + data, start)
                        chain = np.append(after[2], results[0])
                    np.testing.assert_array_equal(np.sort(afterwards), np.sort(chain))

            text.kernel(body, kernel, arguments, check, threads=64, shared_bytes=64)
    pair_bodies(text)
    return text


def pair_bodies(text: Text) -> None:
    """Pairs of halves; exchange, and compare and swap as a lock-free maximum."""
    data = np.random.default_rng(6).integers(-8, 8, (64, 2)).astype(np.float16)
    body = """
VM_KERNEL(pairs, 64, 1)(unsigned char* in, unsigned char* out, unsigned char* before) {
  unsigned words[2];
  unsigned old[1];
  vm_load_global<4>(words, 0, in + VM_THREAD * 4);
  vm_reduce_global<vm_atomic_add, vm_pair<vm_f16>>(out, words);
  words[0] = VM_THREAD + 1;
  vm_atomic_global<vm_atomic_exchange, vm_u32>(old, out + 4, words);
  vm_store_global<4>(before + VM_THREAD * 4, old, 0);
  old[0] = 0;
  do {
    words[0] = old[0];
    words[1] = words[0] > 7u * VM_THREAD ? words[0] : 7u * VM_THREAD;
    vm_atomic_global<vm_atomic_cas, vm_u32>(old, out + 8, words);
  } while (old[0] != words[0]);
}"""

    def check(after):
        np.testing.assert_array_equal(after[1][:2].view(np.float16)[:2], data.sum(axis=0))
        seen = [*after[2].tolist(), int(after[1].view(np.uint32)[1])]
        assert sorted(seen) == list(range(65))
        assert after[1].view(np.uint32)[2] == 63 * 7

    text.kernel(
        body, "pairs", lambda: [data.copy(), np.zeros(8, np.uint16), np.zeros(64, np.uint32)],
        check, threads=64,
    )  # fmt: skip


def waiting() -> Text:
    """Named barriers between two halves of a block; blocks that hand over in turn; checks."""
    text = Text("waiting", orders=EVERY_ORDER)
    body = """
VM_KERNEL(handover, 128, 1)(unsigned char* out, int rounds) {
  VM_SHARED(1024);
  vm_register<vm_i32, 1> x;
  for (int round = 0; round < rounds; round++) {
    if (VM_THREAD < 64) {
      if (round > 0) vm_barrier(2, 128);
      vm_set<0>(x, VM_THREAD * 3 + round);
      vm_store_shared<4>(VM_THREAD * 4, x.words, 0);
      vm_fence_block();
      vm_barrier_arrive(1, 128);
    } else {
      vm_barrier(1, 128);
      vm_load_shared<4>(x.words, 0, (127 - VM_THREAD) * 4);
      vm_synchronize_warp();
      vm_store_global<4>(out + (round * 64 + VM_THREAD - 64) * 4, x.words, 0);
      if (round + 1 < rounds) vm_barrier_arrive(2, 128);
    }
  }
}"""
    wanted = np.arange(64)[None, ::-1] * 3 + np.arange(5)[:, None]

    def handed(after):
        np.testing.assert_array_equal(after[0], wanted)

    text.kernel(
        body, "handover", lambda: [np.zeros((5, 64), np.int32), 5], handed, shared_bytes=1024
    )
    body = """
VM_KERNEL(turns, 32, 1)(unsigned char* turn, unsigned char* log) {
  const int block = VM_BLOCK_INDEX(0) + VM_GRID_SIZE(0) * VM_BLOCK_INDEX(1);
  const int last = VM_GRID_SIZE(0) * VM_GRID_SIZE(1) - 1;
  if (VM_THREAD == 0) vm_wait_for((const unsigned*)turn, block);
  vm_synchronize();
  vm_register<vm_i32, 1> x;
  vm_load_global<4>(x.words, 0, log + (block - 1) * 128 + VM_THREAD * 4, block > 0);
  vm_set<0>(x, vm_get<0>(x) + block + VM_THREAD);
  vm_store_global<4>(log + block * 128 + VM_THREAD * 4, x.words, 0);
  vm_fence_device();
  vm_synchronize();
  if (VM_THREAD == 0) vm_signal((unsigned*)turn, block == last ? 0 : block + 1);
}"""
    sums = np.cumsum(np.arange(6)[:, None] + np.arange(32)[None, :], axis=0)

    def in_turn(after):
        np.testing.assert_array_equal(after[1], sums)
        assert after[0][0] == 0

    text.kernel(
        body, "turns", lambda: [np.zeros(1, np.uint32), np.zeros((6, 32), np.int32)], in_turn,
        grid=(3, 2), threads=32,
    )  # fmt: skip
    body = """
VM_KERNEL(checks, 64, 1)(unsigned char* record, unsigned char* out) {
  vm_check(VM_THREAD < 100, (unsigned*)record, 7);
  vm_check(VM_THREAD != 40, (unsigned*)record, 9);
  vm_check(true, (unsigned*)record, 11);
  const unsigned one[1] = {1u};
  vm_store_global<4>(out + VM_THREAD * 4, one, 0);
}"""

    def recorded(after):
        assert after[0].tolist() == [9, 0, 0, 0, 40, 0, 0, 0]
        assert after[1].sum() == 64

    text.kernel(
        body, "checks", lambda: [np.zeros(8, np.uint32), np.zeros(64, np.uint32)], recorded,
        threads=64,
    )  # fmt: skip
    return text


BATTERIES = {
    "matrices": matrices,
    "stored_matrices": stored_matrices,
    "products": lambda: products("products", SHAPES, 80),
    "products_of_8_rows": lambda: products("products_of_8_rows", EIGHT_ROWS, 80, m=8),
    "f8_products": lambda: products("f8_products", F8_SHAPES, 89),
    "exchange_32": lambda: exchange(32),
    "atomics": atomics,
    "waiting": waiting,
}
