"""Writes the conformance files that are tables: `python -m tests.spec.tables`.

What is wanted comes from exact_arithmetic.py and from tests/isa/exact_types.py, which share nothing
with vm. `FILES` has the text of each file; test_tables.py holds the files to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

from tests.spec import exact_arithmetic as exact
from tests.spec import table_casts, table_forms, table_machine

SUITE = Path(__file__).parents[2] / "spec" / "conformance"
HEAD = "# Written by `python -m tests.spec.tables`: exact rationals say what is wanted.\nvm 1\n"

SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%", "eq": "==", "ne": "!=", "lt": "<",
    "le": "<=", "gt": ">", "ge": ">=", "bit_and": "&", "bit_or": "|", "bit_xor": "^", "shl": "<<",
    "shr": ">>",
}  # fmt: skip


def hexadecimal(name: str, codes: Iterable[int]) -> str:
    width = exact.bits_of(name) // 4
    return "[" + ", ".join(f"{code:#0{width + 2}x}" for code in codes) + "]"


def decimal(values: Iterable[object]) -> str:
    shown = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
    return "[" + ", ".join(shown) + "]"


def binary_program(op: str, result: str = "T", guarded: bool = False) -> list[str]:
    """Programs that do an operation on tensors and on scalars; `guarded` against what lies past
    the end of a tensor, which reads as 0, as a divisor."""
    right = "where(y == 0, 1, y)" if guarded else "y"
    call = f"x {SYMBOLS[op]} z" if op in SYMBOLS else f"{op}(x, z)"
    return [
        "", f"program {op}_of(X: global(T)[N], Y: global(T)[N], R: out(global({result}))[N])",
        "  grid (ceil_div(N, 32)) threads 32", "{",
        "  at = block_index() * 32", "  x = load(X[at +: 32])", "  y = load(Y[at +: 32])",
        f"  z = {right}", f"  store(R[at +: 32], {call})", "}", "",
        f"program {op}_uniform(x: T, y: T, R: out(global({result}))[1])",
        "  grid (1) threads 32", "{", f"  store(R, {op}(x, y))", "}",
    ]  # fmt: skip


def unary_program(op: str, result: str = "T") -> list[str]:
    return [
        "", f"program {op}_of(X: global(T)[N], R: out(global({result}))[N])",
        "  grid (ceil_div(N, 32)) threads 32", "{",
        "  at = block_index() * 32", f"  store(R[at +: 32], {op}(load(X[at +: 32])))", "}", "",
        f"program {op}_uniform(x: T, R: out(global({result}))[1])",
        "  grid (1) threads 32", "{", f"  store(R, {op}(x))", "}",
    ]  # fmt: skip


def test(name: str, rules: Iterable[str], body: Iterable[str]) -> list[str]:
    shown = ", ".join(f'"{rule}"' for rule in rules)
    return ["", f'test "{name}" rules {shown} {{', *(f"  {line}" for line in body), "}"]


def finish(lines: Iterable[str]) -> str:
    return HEAD + "\n".join(lines) + "\n"


# --- floats ---
FLOAT_OPERATIONS: dict[str, Callable] = {
    "add": exact.add, "sub": exact.subtract, "mul": exact.multiply, "div": exact.divide,
    "min": exact.smaller, "max": exact.larger,
}  # fmt: skip
FLOAT_RULES = {
    "min": ["Num/min-max"], "max": ["Num/min-max"], "div": ["Num/division", "Num/once"],
}  # fmt: skip


def float_arithmetic() -> str:
    lines = ["", "const T = f32"]
    for op in FLOAT_OPERATIONS:
        lines += binary_program(op)
    for op, rule in FLOAT_OPERATIONS.items():
        for name in exact.FLOATS:
            codes = exact.special_codes(name)
            if op in ("min", "max"):  # of two zeros of different signs either may come out
                codes = [code for code in codes if code != 1 << (exact.bits_of(name) - 1)]
            numbers = [exact.number_of(name, code) for code in codes]
            body = [f"y = codes({name}, {hexadecimal(name, codes)})"]
            step = 1 if name in ("f16", "f32") else 3
            for code, x in zip(codes[::step], numbers[::step], strict=True):
                wanted = [exact.code_of(name, rule(x, y)) for y in numbers]
                body.append(
                    f"assert_return({op}_of(cycle(codes({name}, {hexadecimal(name, [code])}), "
                    f"{len(codes)}), y, T={name}), codes({name}, {hexadecimal(name, wanted)}))"
                )
            rules = [f"Exec/{op}", "Exec/elementwise", "Num/nan"]
            rules += FLOAT_RULES.get(op, ["Num/once", "Num/overflow"])
            lines += test(f"{op} of {name}", rules, body)
    return finish(lines)


def fused() -> str:
    lines = ["", "const T = f32"]
    operands = "load(X[at +: 32])", "load(Y[at +: 32])", "load(Z[at +: 32])"
    for program, call in (
        ("fma_of", f"fma({', '.join(operands)})"), ("apart", "{} * {} + {}".format(*operands))
    ):
        lines += [
            "", f"program {program}(X: global(T)[N], Y: global(T)[N], Z: global(T)[N],",
            "  R: out(global(T))[N])", "  grid (ceil_div(N, 32)) threads 32", "{",
            "  at = block_index() * 32", f"  store(R[at +: 32], {call})", "}",
        ]  # fmt: skip
    for name in ("f16", "bf16", "f32"):
        codes = exact.special_codes(name)
        one = codes[8]
        codes = [c for c in codes if c & ~(1 << (exact.bits_of(name) - 1)) not in (one,)] + [
            one, one + 3, one + 5, (one + 9) | 1 << (exact.bits_of(name) - 1)
        ]
        numbers = [exact.number_of(name, code) for code in codes]
        body = []
        for place, y in list(enumerate(numbers))[:: 1 if name == "f32" else 3]:
            z = numbers[::-1][place:] + numbers[::-1][:place]
            shown_z = [exact.code_of(name, each) for each in z]
            fused = [exact.multiply_add(x, y, w) for x, w in zip(numbers, z, strict=True)]
            rounded = [exact.number_of(name, exact.code_of(name, exact.multiply(x, y)))
                       for x in numbers]  # fmt: skip
            apart = [exact.add(p, w) for p, w in zip(rounded, z, strict=True)]
            arguments = (
                f"codes({name}, {hexadecimal(name, codes)}), cycle(codes({name}, "
                f"{hexadecimal(name, [codes[place]])}), {len(codes)}), "
                f"codes({name}, {hexadecimal(name, shown_z)}), T={name}"
            )
            for program, result in (("fma_of", fused), ("apart", apart)):
                wanted = hexadecimal(name, [exact.code_of(name, each) for each in result])
                body.append(f"assert_return({program}({arguments}), codes({name}, {wanted}))")
        rules = ["Exec/fma", "Num/fma", "Num/once"]
        lines += test(f"fma of {name}, and a product and a sum", rules, body)
    return finish(lines)


def comparisons() -> str:
    lines = ["", "const T = f32"]
    for op in exact.COMPARISONS:
        lines += binary_program(op, "bool")
    for op, rule in exact.COMPARISONS.items():
        for name in exact.FLOATS:
            codes = exact.special_codes(name)
            numbers = [exact.number_of(name, code) for code in codes]
            body = [f"y = codes({name}, {hexadecimal(name, codes)})"]
            for code, x in zip(codes[::4], numbers[::4], strict=True):
                wanted = [exact.compare(op, x, y) for y in numbers]
                body.append(
                    f"assert_return({op}_of(cycle(codes({name}, {hexadecimal(name, [code])}), "
                    f"{len(codes)}), y, T={name}), tensor(bool, {decimal(wanted)}))"
                )
            lines += test(f"{op} of {name}", [f"Exec/{op}", "Num/compare"], body)
        for name in exact.INTEGERS:
            values = exact.special_integers(name)
            pairs = [(x, y) for x in values for y in values]
            body = all_pairs(op, name, values, [rule(*pair) for pair in pairs])
            lines += test(f"{op} of {name}", [f"Exec/{op}"], body)
    return finish(lines)


# --- integers ---
def all_pairs(op: str, name: str, values: list[int], wanted: list[object]) -> list[str]:
    result = "bool" if isinstance(wanted[0], bool) else name
    return [
        f"v = tensor({name}, {decimal(values)})",
        f"assert_return({op}_of(each(v, {len(values)}), cycle(v, {len(values)}), T={name}), "
        f"tensor({result}, {decimal(wanted)}))",
    ]


def integer_arithmetic() -> str:
    lines = ["", "const T = i32"]
    dividing = ("div", "mod", "ceil_div")
    for op in exact.WHOLE:
        lines += binary_program(op, guarded=op in dividing)
    for op, rule in exact.WHOLE.items():
        rules = [f"Exec/{op}", "Num/wrap"]
        rules += ["Num/division"] if op in dividing else []
        rules += ["Num/shift"] if op in ("shl", "shr") else []
        for name in exact.INTEGERS:
            values = exact.special_integers(name)
            right = [v for v in values if v != 0] if op in dividing else values
            if op in ("shl", "shr"):
                bits = int(name[1:])
                right = [0, 1, 3, bits - 1, bits, bits + 1, 100]
            body = [f"y = tensor({name}, {decimal(right)})"]
            for x in values[:: 1 if name in ("i8", "u32") else 3]:
                wanted = [rule(name, x, y) for y in right]
                left = f"cycle(tensor({name}, [{x}]), {len(right)})"
                body.append(f"assert_return({op}_of({left}, y, T={name}), "
                            f"tensor({name}, {decimal(wanted)}))")  # fmt: skip
            lines += test(f"{op} of {name}", rules, body)
        body = []
        for name in ("i32", "u8", "i64"):
            for x, y in ((7, 2), (exact.range_of(name)[0], 3), (exact.range_of(name)[1], 5)):
                body.append(f"assert_return({op}_uniform({x}, {y}, T={name}), "
                            f"tensor({name}, [{rule(name, x, y)}]))")  # fmt: skip
        lines += test(f"{op} of scalars", [*rules, "Type/scalar"], body)
    return finish(lines)


def unary() -> str:
    lines = ["", "const T = i32"]
    for op in ("neg", "abs", "bit_not", "not", "sqrt", "floor", "ceil", "round"):
        lines += unary_program(op)
    whole = {"neg": lambda n, x: exact.wrapped(n, -x), "abs": lambda n, x: exact.wrapped(n, abs(x)),
             "bit_not": lambda n, x: exact.wrapped(n, -1 - x)}  # fmt: skip
    for op, rule in whole.items():
        for name in exact.INTEGERS:
            values = exact.special_integers(name)
            body = [
                f"assert_return({op}_of(tensor({name}, {decimal(values)}), T={name}), "
                f"tensor({name}, {decimal(rule(name, x) for x in values)}))",
                *(
                    f"assert_return({op}_uniform({x}, T={name}), tensor({name}, [{rule(name, x)}]))"
                    for x in values[-2:]
                ),
            ]
            lines += test(f"{op} of {name}", [f"Exec/{op}", "Num/wrap"], body)
    lines += test("not of bool", ["Exec/not"], [
        "assert_return(not_of(tensor(bool, [false, true]), T=bool), tensor(bool, [true, false]))",
        "assert_return(not_of(all_codes(bool), T=bool), tensor(bool, [true, false]))",
        "assert_return(not_uniform(true, T=bool), tensor(bool, [false]))",
        "assert_return(not_uniform(false, T=bool), tensor(bool, [true]))",
    ])  # fmt: skip
    for name in exact.FLOATS:
        codes = exact.special_codes(name)
        top = 1 << (exact.bits_of(name) - 1)
        numbers = [exact.number_of(name, code) for code in codes]
        plain = [
            exact.code_of(name, (value < 0, abs(Fraction(value)))) for value in (
                Fraction(1, 2), Fraction(3, 2), Fraction(5, 2), Fraction(-1, 2), Fraction(-3, 2),
                Fraction(7, 4), Fraction(-9, 4), Fraction(2), Fraction(9), Fraction(1, 4),
            )
        ]  # fmt: skip
        codes, numbers = codes + plain, numbers + [exact.number_of(name, c) for c in plain]
        tables = {
            "neg": [code ^ top for code in codes],
            "abs": [code & ~top for code in codes],
            "sqrt": [exact.square_root(name, code) for code in codes],
            **{op: [exact.code_of(name, whole_of(op, x)) for x in numbers]
               for op in ("floor", "ceil", "round")},
        }  # fmt: skip
        for op, wanted in tables.items():
            body = []
            for first in range(0, len(codes), 4):
                part = slice(first, first + 4)
                body.append(
                    f"assert_return({op}_of(codes({name}, {hexadecimal(name, codes[part])}), "
                    f"T={name}), codes({name}, {hexadecimal(name, wanted[part])}))"
                )
            rules = ["Num/functions"] if op not in ("neg", "abs") else []
            lines += test(f"{op} of {name}", [f"Exec/{op}", *rules], body)
    return finish(lines)


def whole_of(op: str, x: exact.Number) -> exact.Number:
    """floor, ceil or round of a number; a zero keeps the number's sign."""
    sign, magnitude = x
    if isinstance(magnitude, str):
        return x
    value = -magnitude if sign else magnitude
    rule = {"floor": lambda v: v.__floor__(), "ceil": lambda v: v.__ceil__(), "round": round}[op]
    whole = rule(value)
    return sign, Fraction(abs(whole))


def logic() -> str:
    lines = [""]
    for op, table in (("and", [0, 0, 0, 1]), ("or", [0, 1, 1, 1])):
        call = f"x {op} y"
        lines += [
            "", f"program {op}_of(X: global(bool)[N], Y: global(bool)[N], "
            "R: out(global(bool))[N])", "  grid (1) threads 32", "{",
            "  x = load(X[0 +: 32])", "  y = load(Y[0 +: 32])", f"  store(R[0 +: 32], {call})", "}",
            "", f"program {op}_uniform(x: bool, y: bool, R: out(global(bool))[1])",
            "  grid (1) threads 32", "{", f"  store(R, {call})", "}",
        ]  # fmt: skip
        body = []
        for shift in range(4):
            order = [(shift + k) % 4 for k in range(4)]
            x, y, want = ([p // 2 == 1 for p in order], [p % 2 == 1 for p in order],
                          [table[p] == 1 for p in order])  # fmt: skip
            body.append(f"assert_return({op}_of(tensor(bool, {decimal(x)}), tensor(bool, "
                        f"{decimal(y)})), tensor(bool, {decimal(want)}))")  # fmt: skip
        for p in range(4):
            shown = [str(bool(v)).lower() for v in (p // 2, p % 2, table[p])]
            body.append(f"assert_return({op}_uniform({shown[0]}, {shown[1]}), "
                        f"tensor(bool, [{shown[2]}]))")  # fmt: skip
        for seed in range(8):
            body.append(
                f"assert_same({op}_of(random(bool, [32], seed={seed}), random(bool, [32], "
                f"seed={seed + 9})), {op}_of(random(bool, [32], seed={seed + 9}), "
                f"random(bool, [32], seed={seed})))"
            )
        lines += test(f"{op} of truth values", [f"Exec/{op}"], body)
    return finish(lines)


# --- functions ---
INPUTS = {
    "exp": [0.5, 1, -1, 2.75, -3.5, 8, -8, 0.015625, 10, -9.5, 4.625, 0.0009765625],
    "exp2": [0.5, 1, -1, 2.75, -3.5, 8, -8, 0.015625, 10, -9.5, 4.625, 15],
    "log": [0.5, 2, 3, 10, 0.015625, 1000, 1.0078125, 0.9921875, 7, 60000, 0.25, 1.5],
    "log2": [0.5, 2, 3, 10, 0.015625, 1000, 1.0078125, 0.9921875, 7, 60000, 0.25, 1.5],
    "rsqrt": [0.5, 2, 3, 10, 0.015625, 1000, 1.0078125, 0.9921875, 7, 60000, 0.25, 1.5],
    "tanh": [0.5, 1, -1, 2.75, -3.5, 8, -8, 0.015625, -0.25, 0.125, 4.625, 0.0009765625],
    "sin": [0.5, 1, -1, 2.75, -3.5, 8, -8, 0.015625, 10, 100, 4.625, 0.0009765625],
    "cos": [0.5, 1, -1, 2.75, -3.5, 8, -8, 0.015625, 10, 100, 4.625, 0.0009765625],
}
EXACT = {
    "exp": {"0.0": "1.0", "-0.0": "1.0", "inf": "inf", "-inf": "0.0", "nan": "nan"},
    "exp2": {"0.0": "1.0", "-0.0": "1.0", "inf": "inf", "-inf": "0.0", "nan": "nan", "1.0": "2.0",
             "-1.0": "0.5", "3.0": "8.0", "10.0": "1024.0"},
    "log": {"1.0": "0.0", "0.0": "-inf", "-0.0": "-inf", "inf": "inf", "-1.0": "nan", "-inf": "nan",
            "nan": "nan"},
    "log2": {"1.0": "0.0", "0.0": "-inf", "-0.0": "-inf", "inf": "inf", "-1.0": "nan",
             "-inf": "nan", "nan": "nan", "2.0": "1.0", "0.5": "-1.0", "1024.0": "10.0"},
    "rsqrt": {"0.0": "inf", "inf": "0.0", "1.0": "1.0", "4.0": "0.5", "0.25": "2.0", "-1.0": "nan",
              "-inf": "nan", "nan": "nan"},
    "tanh": {"0.0": "0.0", "-0.0": "-0.0", "inf": "1.0", "-inf": "-1.0", "nan": "nan"},
    "sin": {"0.0": "0.0", "-0.0": "-0.0", "inf": "nan", "-inf": "nan", "nan": "nan"},
    "cos": {"0.0": "1.0", "-0.0": "1.0", "inf": "nan", "-inf": "nan", "nan": "nan"},
}  # fmt: skip


def functions() -> str:
    lines = ["", "const T = f32"]
    for op in INPUTS:
        lines += unary_program(op)
    for op, inputs in INPUTS.items():
        for name in exact.FLOATS:
            codes = [exact.code_of(name, (v < 0, abs(Fraction(v)))) for v in inputs]
            body = []
            for first in range(0, len(codes), 2):
                part = codes[first : first + 2]
                wanted = []
                for code in part:
                    sign, magnitude = exact.number_of(name, code)
                    x = exact.Decimal(magnitude.numerator) / magnitude.denominator
                    y = exact.FUNCTIONS[op](-x if sign else x)
                    wanted.append(float(y).hex())
                body.append(
                    f"assert_return({op}_of(codes({name}, {hexadecimal(name, part)}), T={name}), "
                    f"tensor(f64, [{', '.join(wanted)}]), bound=ulp(2))"
                )
            special = EXACT[op]
            body.append(
                f"assert_return({op}_of(tensor({name}, [{', '.join(special)}]), T={name}), "
                f"tensor({name}, [{', '.join(special.values())}]))"
            )
            lines += test(f"{op} of {name}", [f"Exec/{op}", "Num/functions", "Num/ulp"], body)
    return finish(lines)


FILES: dict[str, Callable[[], str]] = {
    "table_float_arithmetic.vm": float_arithmetic,
    "table_fma.vm": fused,
    "table_comparisons.vm": comparisons,
    "table_integer_arithmetic.vm": integer_arithmetic,
    "table_unary.vm": unary,
    "table_logic.vm": logic,
    "table_functions.vm": functions,
    "table_casts.vm": lambda: finish(table_casts.lines()),
    "machine_nvidia.vm": lambda: finish(table_machine.lines("nvidia", "nv")),
    "machine_amd.vm": lambda: finish(table_machine.lines("amd", "amd")),
    "forms.vm": lambda: finish(table_forms.lines()),
}


def stale() -> Iterator[str]:
    """The files that are not what this module writes."""
    for name, text in FILES.items():
        path = SUITE / name
        if not path.exists() or path.read_text(encoding="utf-8") != text():
            yield name


if __name__ == "__main__":
    for name in list(stale()):
        (SUITE / name).write_text(FILES[name](), encoding="utf-8")
        print(f"spec/conformance/{name} written")
