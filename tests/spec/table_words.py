"""Machine instructions of NVIDIA GPUs on words: by bits, bytes and exact numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

from tests.spec.exact_arithmetic import (
    NAN,
    Number,
    add,
    code_of,
    multiply,
    multiply_add,
    number_of,
)

PROGRAMS = """
const TABLE = 0
const SELECTOR = 0
const BITS = 0
const KIND = f16
const MODE = "saturate"

program logic(A: global(u32)[64], n: u32, C: out(global(u32))[64]) grid (1) threads 32 {
  x = load(A, layout=spatial(32).local(2))
  store(C, nv.lop3(x, n, 0x00FF00FF, TABLE))
}

program bytes_named(A: global(u32)[64], B: global(u32)[64], S: global(u32)[64],
                    C: out(global(u32))[64])
  grid (1) threads 32
{
  x = load(A, layout=spatial(32).local(2))
  y = load(B, layout=spatial(32).local(2))
  store(C, nv.prmt(x, y, load(S, layout=spatial(32).local(2))))
}

program bytes_of_a_thread(n: u32, C: out(global(u32))[32]) grid (1) threads 32 {
  x = cast(thread_index(), u32) * 0x01020408
  store(C, nv.prmt(x, n, SELECTOR))
}

program shifted(A: global(u32)[64], n: u32, B: out(global(u32))[64], C: out(global(u32))[64],
                D: out(global(u32))[64], E: out(global(u32))[64])
  grid (1) threads 32
{
  x = load(A, layout=spatial(32).local(2))
  store(B, nv.shift_left(x, BITS))
  store(C, nv.shift_right(x, BITS))
  store(D, nv.shift_right(x, BITS, signed=true))
  store(E, nv.funnel_shift(x, n, BITS))
}

program shifted_alone(A: global(u32)[32], C: out(global(u32))[32]) grid (1) threads 32 {
  x = load(A, layout=spatial(32))
  high = nv.shift_right(nv.shift_left(x, 4), BITS, signed=true)
  store(C, nv.funnel_shift(0x80000001, high, BITS))
}

program calculated(A: global(u32)[64], B: global(u32)[64], C: global(u32)[64],
                   D: out(global(u32))[64], E: out(global(u32))[64], F: out(global(u32))[64],
                   G: out(global(u32))[64])
  grid (1) threads 32
{
  x = load(A, layout=spatial(32).local(2))
  y = load(B, layout=spatial(32).local(2))
  z = load(C, layout=spatial(32).local(2))
  store(D, nv.half2_add(x, y, KIND))
  store(E, nv.half2_mul(x, y, KIND))
  store(F, nv.half2_fma(x, y, z, KIND))
  store(G, nv.half2_fma(x, y, z, KIND, negated=true))
}

program compared(A: global(u32)[64], y: u32, C: out(global(u32))[64]) grid (1) threads 32 {
  store(C, nv.half2_exceeds(load(A, layout=spatial(32).local(2)), y, f16))
}

program found_in_a_table(T: global(u32)[4, 32], X: global(u32)[64], C: out(global(u32))[64])
  grid (1) threads 32
{
  at = thread_index() * 4
  entries = load(T, layout=local(4, 1).spatial(1, 32))
  nv.store_shared(at, entries, at=0, plus=128)
  nv.store_shared(at, entries, at=4, plus=256)
  nv.store_shared(at, entries, at=8, plus=384)
  nv.store_shared(at, entries, at=12, plus=512)
  synchronize()
  store(C, nv.look_up(load(X, layout=spatial(32).local(2)), address=128, entries=4))
}

program found_too_early(X: global(u32)[32], C: out(global(u32))[32]) grid (1) threads 32 {
  t = thread_index()
  x = load(X, layout=spatial(32))
  nv.store_shared((31 - t) * 4, x)
  store(C, nv.look_up(x, address=0, entries=1))
}

program calculated_alone(A: global(u32)[32], n: u32, C: out(global(u32))[32])
  grid (1) threads 32
{
  x = load(A, layout=spatial(32))
  store(C, nv.half2_fma(nv.half2_add(x, n, f16), n, nv.half2_mul(x, 0x40004000, f16), f16))
}

program packed_pairs(X: global(f32)[64], y: f32, C: out(global(u32))[64]) grid (1) threads 32 {
  x = load(X, layout=spatial(32).local(2))
  store(C, nv.cvt_pack(x, y, KIND, overflow=MODE))
}

program packed_alone(X: global(f32)[32], C: out(global(u32))[32]) grid (1) threads 32 {
  store(C, nv.cvt_pack(1.5, load(X, layout=spatial(32)), KIND))
}

program widened(A: global(u32)[128], C: out(global(u32))[128]) grid (1) threads 32 {
  store(C, nv.cvt_f8x2_to_half2(load(A, layout=spatial(32).local(4)), KIND))
}

program narrowed(A: global(u32)[128], C: out(global(u32))[128]) grid (1) threads 32 {
  store(C, nv.cvt_half2_to_f8x2(load(A, layout=spatial(32).local(4)), KIND))
}
"""

Test = tuple[str, tuple[str, ...], list[str]]


def scattered(count: int, seed: int, bits: int = 32) -> list[int]:
    """Numbers of some bits without a pattern, the same at all times."""
    return [(k * 0x9E3779B1 + seed * 0x85EBCA77 + 0x3C6EF372) * 0xC2B2AE3D % 2**40 >> 40 - bits
            for k in range(count)]  # fmt: skip


def listed(words: Iterable[int]) -> str:
    return "tensor(u32, [" + ", ".join(f"{word:#x}" for word in words) + "])"


def looked_up(table: int, *words: int) -> int:
    """Each bit of the result is the bit of the table that bits of the words number."""
    digits = [[word >> place & 1 for word in words] for place in range(32)]
    return sum((table >> (4 * a + 2 * b + c) & 1) << place
               for place, (a, b, c) in enumerate(digits))  # fmt: skip


def permuted(x: int, y: int, selector: int) -> int:
    held = [*x.to_bytes(4, "little"), *y.to_bytes(4, "little")]
    digits = [int(digit, 16) for digit in f"{selector:08x}"[:3:-1]]
    named = [held[d % 8] if d < 8 else 0xFF * (held[d % 8] >= 0x80) for d in digits]
    return int.from_bytes(named, "little")


def signed_shift(word: int, bits: int) -> int:
    signed = word - 2**32 if word >= 2**31 else word
    return signed // 2**bits % 2**32


def funnelled(low: int, high: int, bits: int) -> int:
    return (high * 2**32 + low) // 2**bits % 2**32


def pair(name: str, bits: int, function: Callable[..., Number], *words: int) -> int:
    """A function of the numbers in each place of two of the words."""
    result = 0
    for place in (0, bits):
        numbers = (number_of(name, word >> place & 2**bits - 1) for word in words)
        result |= code_of(name, function(*numbers)) << place
    return result


def multiply_subtract(x: Number, y: Number, z: Number) -> Number:
    return multiply_add(x, y, (not z[0], z[1]))


def exceeding(word: int, other: int) -> int:
    """All ones in each half that is of greater magnitude; codes of magnitudes are in their order,
    and those of NaN are last."""
    result = 0
    for place in (0, 16):
        code, least = word >> place & 0x7FFF, other >> place & 0xFFFF
        if 0x7C00 >= code > (least if least < 0x8000 else 0x8000 - least):
            result |= 0xFFFF << place
    return result


def small_floats(name: str) -> dict[int, Fraction]:
    """The finite numbers of an f8 that are not negative, by their codes."""
    found = {code: number_of(name, code)[1] for code in range(128)}
    return {code: number for code, number in found.items() if isinstance(number, Fraction)}


def nearest(name: str, sign: bool, magnitude: Fraction) -> int:
    """The code of the f8 that is nearest, the even one of two; the largest where it is beyond."""
    numbers = small_floats(name)
    code = min(numbers, key=lambda c: (abs(numbers[c] - magnitude), c % 2))
    return code | sign << 7


def bits_and_bytes() -> list[Test]:
    x, y = scattered(64, 1), scattered(64, 2)
    selectors = scattered(64, 3)
    tables = (0, 0xC0, 0xEA, 0x6A, 0xE4, 0x96, 0x01, 0xFF)
    amounts = (0, 1, 7, 16, 31)
    mine = [lane * 0x01020408 for lane in range(32)]

    def high(word: int, bits: int) -> int:
        return signed_shift(word * 16 % 2**32, bits)

    return [
        ("any function of three bits", ("lop3",), [
            f"x = {listed(x)}",
            *(f"assert_return(logic(x, 0x3C5A9669, TABLE={table:#x}), "
              f"{listed(looked_up(table, word, 0x3C5A9669, 0x00FF00FF) for word in x)})"
              for table in tables),
        ]),
        ("bytes by their numbers", ("prmt",), [
            f"assert_return(bytes_named({listed(x)}, {listed(y)}, {listed(selectors)}), "
            f"{listed(map(permuted, x, y, selectors))})",
            *(f"assert_return(bytes_of_a_thread(0x807F01FE, SELECTOR={selector:#x}), "
              f"{listed(permuted(word, 0x807F01FE, selector) for word in mine)})"
              for selector in (0x3210, 0x7654, 0xFEDC, 0xB8A9)),
        ]),
        ("words move up and down", ("shift_left", "shift_right", "funnel_shift"), [
            f"x = {listed(x)}",
            *(f"assert_return(shifted(x, 0xDEADBEEF, BITS={bits}), "
              f"{listed(word * 2**bits % 2**32 for word in x)}, "
              f"{listed(word // 2**bits for word in x)}, "
              f"{listed(signed_shift(word, bits) for word in x)}, "
              f"{listed(funnelled(word, 0xDEADBEEF, bits) for word in x)})"
              for bits in amounts),
            *(f"assert_return(shifted_alone({listed(x[:32])}, BITS={bits}), "
              f"{listed(funnelled(0x80000001, high(word, bits), bits) for word in x[:32])})"
              for bits in amounts),
        ]),
    ]  # fmt: skip


def arithmetic() -> list[Test]:
    found = []
    for name in ("f16", "bf16"):
        middle = {"f16": 0x3C00, "bf16": 0x3F80}[name]
        # Numbers near 1, where bits meet, and a few far away, some of whose products overflow.
        far = (0, 0x8000, 1, middle * 2 - 0x400, 0x7BFF if name == "f16" else 0x7F7F)
        codes = [middle - 0x200 + code % 0x400 | code & 0x8000 for code in scattered(384, 4, 16)]
        codes = [far[k // 9 % 5] if k % 9 == 0 else code for k, code in enumerate(codes)]
        words = [low | high << 16 for low, high in zip(codes[::2], codes[1::2], strict=True)]
        x, y, z = words[:64], words[64:128], words[128:]
        results = [
            listed(pair(name, 16, function, *each) for each in zip(*operands, strict=True))
            for function, operands in ((add, (x, y)), (multiply, (x, y)), (multiply_add, (x, y, z)),
                                       (multiply_subtract, (x, y, z)))
        ]
        found.append((f"pairs of {name}", ("half2_add", "half2_mul", "half2_fma"), [
            f"assert_return(calculated({listed(x)}, {listed(y)}, {listed(z)}, KIND={name}), "
            f"{', '.join(results)})",
        ]))  # fmt: skip
    y, twice = 0x3C01BC02, 0x40004000
    x = [low | (low + 77) << 16 for low in range(0x3800, 0x4000, 64)]
    sums = [
        pair("f16", 16, multiply_add, pair("f16", 16, add, word, y), y,
             pair("f16", 16, multiply, word, twice)) for word in x
    ]  # fmt: skip
    found.append(("a pair in each thread", ("half2_add", "half2_mul", "half2_fma"), [
        f"assert_return(calculated_alone({listed(x)}, {y:#x}), {listed(sums)})",
    ]))  # fmt: skip
    # Infinity, NaN and zeros, beside plain numbers and those next to the second.
    x = [low | high << 16 for low, high in zip(
        (*range(0x5B00, 0x5B20), 0x7C00, 0xFC00, 0x7E00, 0xFC01, 0, 0x8000, 1, 0x8001),
        (*range(0xDAF8, 0xDB18), 0xDB07, 0x5B08, 0xDB08, 0x5B07, 0x7FFF, 0x7C00, 0xDB09, 0),
        strict=True)]  # fmt: skip
    x += scattered(64 - len(x), 7)
    found.append(("magnitudes compared", ("half2_exceeds",), [
        *(f"assert_return(compared({listed(x)}, {y:#x}), {listed(exceeding(w, y) for w in x)})"
          for y in (0x5B075B0F, 0, 0xBC007BFF)),
    ]))  # fmt: skip
    return found


def tables() -> list[Test]:
    table, numbers = scattered(128, 8), scattered(64, 9)
    # A thread holds two words.
    entries = [table[32 * (word // 128 % 4) + k // 2] for k, word in enumerate(numbers)]
    rows = ", ".join("[" + ", ".join(f"{word:#x}" for word in table[k : k + 32]) + "]"
                     for k in range(0, 128, 32))  # fmt: skip
    return [("each lane's copy of a table", ("look_up",), [
        f"assert_return(found_in_a_table(tensor(u32, [{rows}]), {listed(numbers)}), "
        f"{listed(entries)})",
        f'assert_race(found_too_early({listed(numbers[:32])}), "E0601", '
        'at="nv.look_up(x, address=0, entries=1)", other="nv.store_shared((31 - t) * 4, x)")',
    ])]  # fmt: skip


def conversions() -> list[Test]:
    # Numbers of f32 with more bits than the results keep, ties, and some beyond the range of f16.
    numbers = [Fraction(k * 37 - 900, 2 ** (k % 23)) for k in range(58)]
    numbers += [Fraction(2049), Fraction(2051), Fraction(65519), Fraction(65520), Fraction(-65520),
                Fraction(2) ** 100]  # fmt: skip
    plain = [n for n in numbers if abs(n) <= 65519][:32]
    largest = {"f16": 0x7BFF, "bf16": 0x7F7F}

    def code(name: str, number: Fraction, mode: str = "saturate") -> int:
        found = code_of(name, (number < 0, abs(number)))
        beyond = number_of(name, found)[1] not in (NAN,) and found & 0x7FFF > largest[name]
        return largest[name] | found & 0x8000 if beyond and mode == "saturate" else found

    def floats(some: list[Fraction]) -> str:
        return "tensor(f32, [" + ", ".join(float(n).hex() for n in some) + "])"

    body = [f"x = {floats(numbers)}"]
    for name in ("f16", "bf16"):
        for mode in ("saturate", "ieee"):
            words = [code(name, n, mode) | code(name, Fraction(-3, 8)) << 16 for n in numbers]
            body.append(f'assert_return(packed_pairs(x, -0.375, KIND={name}, MODE="{mode}"), '
                        f"{listed(words)})")  # fmt: skip
        words = [code(name, Fraction(3, 2)) | code(name, n) << 16 for n in plain]
        body.append(f"assert_return(packed_alone({floats(plain)}, KIND={name}), {listed(words)})")
    small, halves = [], []
    for name in ("f8e4m3", "f8e5m2"):
        small_words = [nearest(name, n < 0, abs(n)) | nearest(name, True, Fraction(3, 8)) << 8
                       for n in numbers]  # fmt: skip
        small.append(f"assert_return(packed_pairs(x, -0.375, KIND={name}), {listed(small_words)})")
        codes = [c if c & 0x7F in small_floats(name) else 0 for c in range(256)]
        wide = [code_of("f16", number_of(name, c)) for c in codes]
        pairs = [c | d << 8 for c, d in zip(codes[::2], codes[1::2], strict=True)]
        words = [c | d << 16 for c, d in zip(wide[::2], wide[1::2], strict=True)]
        halves.append(f"assert_return(widened({listed(pairs)}, KIND={name}), {listed(words)})")
        # The numbers themselves, and those between one and the next.
        given = [(c + (k * 61) % 256) % 0x7800 | c & 0x8000 for k, c in enumerate(wide)]
        back = [nearest(name, c >= 0x8000, number_of("f16", c)[1]) for c in given]
        words = [c | d << 16 for c, d in zip(given[::2], given[1::2], strict=True)]
        pairs = [c | d << 8 for c, d in zip(back[::2], back[1::2], strict=True)]
        halves.append(f"assert_return(narrowed({listed(words)}, KIND={name}), {listed(pairs)})")
    return [
        ("two numbers in a word", ("cvt_pack",), body + small),
        ("pairs of small floats", ("cvt_f8x2_to_half2", "cvt_half2_to_f8x2"), halves),
    ]


def tests() -> list[Test]:
    """(name, opcodes, assertions)."""
    return [*bits_and_bytes(), *arithmetic(), *tables(), *conversions()]
