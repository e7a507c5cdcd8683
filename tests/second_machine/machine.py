"""A second machine: runs exported kernels element by element. Written from spec/ alone.

It imports nothing from vm. It finds the traps of chapter 5, and neither races nor deadlocks; copies
arrive when they start. A value is a NumPy array of Python objects, or an element alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np

from tests.second_machine.numbers import Type, arithmetic, cast, philox_word, type_of


class Trap(Exception):
    """A fault: its code and its place."""


class Leave(Exception):
    """`exit()`."""


class Memory:
    """Elements of a type in a bytearray, `strides` bits apart; `known` are bits with contents."""

    def __init__(self, data, kind: Type, shape, strides, start=0, known=None, shared=False):
        self.data, self.kind, self.shape, self.strides = data, kind, list(shape), strides
        self.start, self.known, self.shared = start, known, shared

    def at(self, index) -> int:
        return self.start + sum(i * s for i, s in zip(index, self.strides, strict=True))

    def inside(self, index) -> bool:
        return all(0 <= i < n for i, n in zip(index, self.shape, strict=True))

    def code(self, index) -> int | None:
        """What is at an index; None where nothing has been written."""
        at = self.at(index)
        if self.known is not None and at not in self.known:
            return None
        whole = int.from_bytes(self.data[at // 8 : -(-(at + self.kind.bits) // 8)], "little")
        return whole >> (at % 8) & ((1 << self.kind.bits) - 1)

    def put(self, index, code: int) -> None:
        at = self.at(index)
        first, last = at // 8, -(-(at + self.kind.bits) // 8)
        whole = int.from_bytes(self.data[first:last], "little")
        mask = (1 << self.kind.bits) - 1 << (at % 8)
        self.data[first:last] = (whole & ~mask | code << (at % 8)).to_bytes(last - first, "little")
        if self.known is not None:
            self.known.add(at)


class Mbarrier:
    """One mbarrier (rule Exec/phase)."""

    def __init__(self, warps: int):
        self.warps, self.phase, self.arrived, self.bytes = warps, 0, 0, 0

    def count(self, warps: int, count: int) -> None:
        """So many warps arrive, and so many bytes are expected, or have come where negative."""
        self.arrived, self.bytes = self.arrived + warps, self.bytes + count
        if self.arrived == self.warps and self.bytes == 0:
            self.phase, self.arrived = self.phase + 1, 0


def strides_of(kind: Type, shape, rows: bool) -> list[int]:
    """Row-major, rows beginning at whole bytes if `rows` (rule Type/rows)."""
    line = kind.bits * math.prod(shape[-1:])
    line = -(-line // 8) * 8 if rows else line
    return [line * math.prod(shape[n + 1 : -1]) for n in range(len(shape) - 1)] + (
        [kind.bits] if shape else [])  # fmt: skip


def boxes(items, shape) -> np.ndarray:
    """An array of objects, in row-major order."""
    made = np.empty(math.prod(shape), object)
    made[:] = list(items)
    return made.reshape(shape)


def array(items, shape) -> Any:
    """Elements as a value."""
    return boxes(items, shape)[()]


def flat(value) -> list:
    """The elements of a value."""
    return list(value.ravel()) if isinstance(value, np.ndarray) else [value]


def number(x):
    return float(x) if isinstance(x, str) else x


def collect(body: list[dict], types: dict[int, dict]) -> None:
    """The type of every value that statements define."""
    for s in body:
        for result in [*s["results"], *([s["variable"]] if "variable" in s else [])]:
            if "type" in result:
                types[result["id"]] = result["type"]
        for block in s.get("blocks", {}).values():
            collect(block, types)


class Launch:
    """One kernel with its arguments; `run` gives the written tensors in order."""

    def __init__(self, kernel: dict, arguments: dict[str, Any]):
        self.kernel, self.values = kernel, {}
        self.types = {p["id"]: p for p in kernel["parameters"]}
        self.types |= {size["id"]: {"dtype": "i32"} for size in kernel["sizes"]}
        collect(kernel["body"], self.types)
        known = {size["name"] for size in kernel["sizes"]}
        self.names = {name: value for name, value in arguments.items() if name in known}
        for p in kernel["parameters"]:
            actual_shape = getattr(arguments[p["name"]], "shape", ())
            for extent, actual in zip(p["shape"], actual_shape, strict=False):
                if isinstance(extent, dict) and "size" in extent:
                    self.names.setdefault(extent["size"], actual)
        for p in kernel["parameters"]:
            self.bind(p, arguments[p["name"]])
        self.values |= {size["id"]: self.names[size["name"]] for size in kernel["sizes"]}
        self.grid = [self.expression(e) for e in kernel["grid"]]

    def bind(self, parameter: dict, given) -> None:
        kind = type_of(parameter["dtype"])
        if parameter["space"] == "scalar":
            if not kind.integer and kind.kind != "bool":
                given = cast(float(given), type_of("f64"), kind)
            self.values[parameter["id"]] = self.names[parameter["name"]] = given
            return
        shape = [self.expression(e) for e in parameter["shape"]]
        strides = strides_of(kind, shape, True)
        bits = strides[0] * shape[0] if shape else kind.bits
        data = given.data if given else bytearray(-(-bits // 8))
        known = set() if parameter["access"] == "out" else None
        self.values[parameter["id"]] = Memory(data, kind, shape, strides, 0, known)

    def expression(self, node) -> Any:
        if isinstance(node, dict) and "apply" in node:
            rule = RULES[SYMBOLS.get(node["apply"], node["apply"])]
            return rule(*map(self.expression, node["to"]))
        return self.names[node["size"]] if isinstance(node, dict) else node

    def run(self) -> list[Memory]:
        for index in np.ndindex(*self.grid[::-1]):  # the first dimension is the fastest
            block = Actor(self, self.values, self.kernel["threads"], list(index[::-1]), {}, 0)
            for _ in block.run(self.kernel["body"]):
                raise RuntimeError("a block waits alone")
        return [self.values[p["id"]] for p in self.kernel["parameters"]
                if p["access"] in ("out", "inout")]  # fmt: skip


class Actor:
    """Performs the statements of a block or a group: a generator that yields while it waits."""

    def __init__(self, launch: Launch, values: dict, threads: int, block: list, meetings, copy):
        self.launch, self.values, self.threads, self.copy = launch, dict(values), threads, copy
        self.block, self.meetings = block, meetings
        self.warps = threads // launch.kernel["warp_width"]

    def run(self, body: list[dict]) -> Iterator[None]:
        with suppress(Leave):
            yield from self.statements(body)

    def statements(self, body: list[dict]) -> Iterator[None]:
        groups: list[dict] = []
        for s in [*body, {"op": "end"}]:
            if s["op"] == "group":
                groups.append(s)
                continue
            self.side_by_side(groups)
            groups = []
            if s["op"] == "end":
                return None
            if jump := (yield from self.statement(s)):
                return jump

    def side_by_side(self, groups: list[dict]) -> None:
        running = []
        for group in groups:
            threads = self.get(group, "warps") * self.threads // self.warps
            for copy in range(self.get(group, "copies")):
                actor = Actor(self.launch, self.values, threads, self.block, self.meetings, copy)
                running.append(actor.run(group["blocks"]["body"]))
        while running:
            running = [actor for actor in running if next(actor, self) is not self]

    def statement(self, s: dict) -> Iterator[None]:
        match s["op"]:
            case "if":
                taken = self.get(s, "condition")
                return (yield from self.statements(s["blocks"]["then" if taken else "otherwise"]))
            case "for":
                bounds = [self.get(s, name) for name in ("start", "stop", "step")]
                hold(bounds[2] != 0, "E0503", s, "step")
                for i in range(*bounds):
                    self.values[s["variable"]["id"]] = i
                    if (yield from self.statements(s["blocks"]["body"])) == "break":
                        break
            case "while":
                while (yield from self.statements(s["blocks"]["body"])) != "break":
                    pass
            case "jump":
                return self.get(s, "kind")
            case "exit":
                raise Leave
            case "barrier":
                wanted = self.get(s, "warps")
                meeting = self.meetings.setdefault(self.get(s, "id"), [0])
                meeting[0] += self.warps
                if meeting[0] == wanted:
                    del self.meetings[self.get(s, "id")]
                while meeting[0] < wanted and not self.get(s, "arrive"):
                    yield
            case "mbarrier_wait":
                barrier, parity = self.mbarrier(s), self.get(s, "parity")
                while barrier.phase % 2 == parity:
                    yield
            case _:
                if s["op"] in SIMPLE:
                    found = SIMPLE[s["op"]](self, s, lambda name: self.get(s, name))
                else:
                    found = getattr(self, "do_" + s["op"], self.elementwise)(s)
                found = found if isinstance(found, tuple) else (found,)
                for result, value in zip(s["results"], found, strict=False):
                    self.values[result.get("assign", result.get("id"))] = value
        return None

    def kind(self, s: dict, name: str) -> Type:
        """The dtype of an operand, or of an attribute that is one."""
        field = s["fields"][name]
        named = field.get("attribute") or field.get("dtype")
        return type_of(named or self.launch.types[field["value"]]["dtype"])

    def get(self, s: dict, name: str) -> Any:
        """What a field is: an attribute, or the value of an operand."""
        return self.value(s["fields"][name])

    def value(self, field: dict | None) -> Any:
        if field is None:
            return 0
        if "attribute" in field:
            return field["attribute"]
        if "value" in field:
            return self.values[field["value"]]
        x, kind = number(field["number"]), field["dtype"]
        if kind is None or isinstance(x, bool) or type_of(kind).integer:
            return x
        return cast(float(x), type_of("f64"), type_of(kind))

    def tile(self, s: dict, name: str) -> tuple[Any, np.ndarray]:
        """The tensor, and for each element of the tile its index there."""
        field = s["fields"][name]
        memory = self.values[field["tile"]]
        extents = [n if e == "all" else e
                   for n, e in zip(memory.shape, field["extents"], strict=True)]  # fmt: skip
        offsets = [self.value(offset) for offset in field["offsets"]]
        where = [tuple(map(operator.add, offsets, index))
                 for index in np.ndindex(*(e or 1 for e in extents))]  # fmt: skip
        return memory, boxes(where, [e for e in extents if e is not None])

    def elementwise(self, s: dict):
        op, names = s["op"], list(s["fields"])
        operands = [self.get(s, name) for name in names]
        kind = self.kind(s, next(name for name in names if name != "condition"))
        if op in FAULTS:
            code, refused = FAULTS[op]
            hold(not kind.integer or not any(map(refused, flat(operands[1]))), code, s, "y")
        result = type_of("bool") if op in COMPARE.values() else kind
        return each(lambda *given: arithmetic(RULES[op](*given), result), *operands)

    def do_cast(self, s: dict):
        source, target = self.kind(s, "x"), self.kind(s, "dtype")
        modes = self.get(s, "overflow"), self.get(s, "rounding")
        return each(lambda x, random: cast(x, source, target, *modes, random),
                    self.get(s, "x"), self.get(s, "random"))  # fmt: skip

    def do_uniform(self, s: dict):
        items = flat(self.get(s, "x"))
        hold(len(set(map(self.kind(s, "x").code, items))) <= 1, "E0510", s, "x")
        return items[0]

    def held(self, x: dict) -> list[list]:
        """What each thread holds of an operand, slot by slot."""
        items = flat(self.value(x))
        table = self.launch.types[x["value"]]["layout"]["table"]
        return [[items[element] for element in line] for line in table]

    def by_slots(self, s: dict, held, choose):
        """A tensor in the layout of the attribute: `choose(what a thread holds, slot)` of each."""
        layout = self.get(s, "layout")
        items = [None] * math.prod(layout["shape"])
        for mine, line in zip(held, layout["table"], strict=True):
            for slot, element in enumerate(line):
                items[element] = choose(mine, slot)
        return array(items, layout["shape"])

    def do_view(self, s: dict):
        source, kind = self.kind(s, "x"), self.kind(s, "dtype")
        bits = [sum(source.code(item) << slot * source.bits for slot, item in enumerate(mine))
                for mine in self.held(s["fields"]["x"])]  # fmt: skip
        return self.by_slots(s, bits, lambda mine, slot: kind.value(
            mine >> slot * kind.bits & ((1 << kind.bits) - 1)))  # fmt: skip

    def do_lookup(self, s: dict):
        in_memory, codes = "tile" in s["fields"]["table"], self.get(s, "codes")
        table = flat(self.read(s, "table", *self.tile(s, "table")) if in_memory
                     else self.get(s, "table"))  # fmt: skip
        hold(all(code < len(table) for code in flat(codes)), "E0508", s, "codes")
        return each(lambda code: table[code], codes)

    def do_reduce(self, s: dict):
        x, axis, kind = self.get(s, "x"), self.get(s, "axis"), self.kind(s, "x")
        shape = list(x.shape)
        shape[axis : axis + 1] = [1] if self.get(s, "keep") else []
        lines = np.moveaxis(x, axis, -1)
        lines = [list(lines[index]) for index in np.ndindex(*lines.shape[:-1])]
        found = [reduced(self.get(s, "op"), line, kind) for line in lines]
        return array(found, shape)

    def do_dot(self, s: dict):
        a, b, c = (self.get(s, name) for name in "abc")
        result = s["results"][0]
        kind = type_of(self.launch.types[result.get("id", result.get("assign"))]["dtype"])
        if all(map(math.isfinite, flat(a) + flat(b))):  # whole numbers add up faster than fractions
            a, b = (each(lambda x: int(math.ldexp(x, 160)), x) for x in (a, b))
            products = each(lambda n: Fraction(n, 1 << 320), a @ b)
        else:
            products = a @ b
        return each(lambda x, first: arithmetic(total([x], first), kind), products, c)

    def region(self, s: dict, name: str, inside=False, where=None) -> tuple[Memory, np.ndarray]:
        """A tile, or other places in its tensor, that lies inside if it has to."""
        memory, tile = self.tile(s, name)
        where = tile if where is None else where
        hold(not (inside or memory.shared) or all(map(memory.inside, where.flat)), "E0501", s, name)
        return memory, where

    def read(self, s: dict, name: str, memory: Memory, where: np.ndarray) -> Any:
        codes = [memory.code(index) if memory.inside(index) else 0 for index in where.flat]
        hold(None not in codes, "E0507", s, name)
        return array(map(memory.kind.value, codes), where.shape)

    def write(self, memory: Memory, where: np.ndarray, value, op: str = "store") -> None:
        items = flat(value) * (where.size if np.size(value) == 1 else 1)
        for index, item in zip(where.flat, items, strict=True):
            if memory.inside(index):
                old = memory.kind.value(memory.code(index) or 0)
                new = COMBINE[op](old, item)
                memory.put(index, memory.kind.code(
                    arithmetic(new, memory.kind) if op == "add" else new))  # fmt: skip

    def do_shared_alloc(self, s: dict) -> Memory:
        kind, shape = self.kind(s, "dtype"), self.get(s, "shape")
        data = bytearray(-(-math.prod(shape) * kind.bits // 8))
        return Memory(data, kind, shape, strides_of(kind, shape, False), 0, set(), True)

    def do_global_view(self, s: dict) -> Memory:
        memory, where = self.tile(s, "base")
        kind, shape = self.kind(s, "dtype"), [self.value(e) for e in s["fields"]["extents"]]
        given = self.get(s, "strides")
        strides = [n * kind.bits for n in given] if given else strides_of(kind, shape, True)
        start = memory.at(where.flat[0]) + self.get(s, "offset") * kind.bits
        end = start + sum((n - 1) * t for n, t in zip(shape, strides, strict=True)) + kind.bits
        if start < 0 or end > 8 * len(memory.data):
            raise Trap("E0506", s["place"])
        return Memory(memory.data, kind, shape, strides, start)

    def slices(self, s: dict, name: str) -> tuple[Memory, np.ndarray]:
        """The slices that indices name along an axis of a tile."""
        _, where = self.tile(s, name)
        axis, chosen = self.get(s, "axis"), flat(self.get(s, "indices"))
        hold(all(0 <= i < where.shape[axis] for i in chosen), "E0508", s, "indices")
        return self.region(s, name, where=np.take(where, chosen, axis))

    def do_atomic(self, s: dict):
        memory, where = self.region(s, "target")
        before = self.read(s, "target", memory, where)
        self.write(memory, where, self.get(s, "value"), self.get(s, "op"))
        return before

    def mbarrier(self, s: dict) -> Mbarrier:
        barriers, where = self.tile(s, "barrier")
        (index,) = where.flat
        inside = all(0 <= i < n for i, n in zip(index, barriers.shape, strict=True))
        hold(inside, "E0501", s, "barrier")
        return barriers[index]

    def do_copy_bulk(self, s: dict) -> None:
        sides = {name: self.region(s, name, True) for name in ("target", "source")}
        for name, (memory, where) in sides.items():
            hold(memory.at(where.flat[0]) % 128 == 0, "E0511", s, name)
        memory, where = sides["source"]
        self.write(*sides["target"], self.read(s, "source", memory, where))
        self.mbarrier(s).count(0, -where.size * memory.kind.bits // 8)


def hold(holds: bool, code: str, s: dict, name: str) -> None:
    """A trap at a field of an instruction, where something does not hold."""
    if not holds:
        raise Trap(code, s["places"][name])


def each(rule, *operands) -> Any:
    """A rule on every element of operands that are broadcast to one shape."""
    return np.frompyfunc(rule, len(operands), 1)(*operands)


def total(terms: list, first=0):
    """The exact sum, or what IEEE 754 says of infinities and NaN."""
    if all(map(math.isfinite, (first, *terms))):
        return sum(map(Fraction, terms), Fraction(first))
    return sum(map(float, terms), float(first))


def reduced(op: str, line: list, kind: Type):
    if op == "sum":
        return arithmetic(sum(line) if kind.integer else total(line), kind)
    kept = [x for x in line if x == x] or line[:1]
    return {"max": max, "min": min, "any": any, "all": all}[op](kept)


# --- rules of elementwise instructions, before the result is rounded or wraps ---
def divide(x, y):
    if isinstance(x, int):
        return x // y
    with np.errstate(all="ignore"):
        return float(np.divide(x, y))  # also by 0, as IEEE 754 says


def chosen(rule):
    """min or max: of a number and NaN the number."""
    return lambda x, y: y if x != x else x if y != y else rule(x, y)


def fused(x, y, z):
    exact = Fraction(x) * Fraction(y) + Fraction(z) if all(map(math.isfinite, (x, y, z))) else 0
    return exact or x * y + z  # floats know the sign of a zero


def function(rule, at_zero=math.nan):
    """A function of floats; `at_zero` where it has no value at 0, NaN outside of its domain."""
    def apply(x):
        try:
            return rule(x)
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return at_zero if x == 0 else math.nan
    return apply


def whole(rule):
    return lambda x: math.copysign(rule(x), x) if math.isfinite(x) else x


COMPARE = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
SYMBOLS = {"+": "add", "-": "sub", "*": "mul", "/": "div", "%": "mod", **COMPARE}
FAULTS = {op: ("E0502", lambda y: y == 0) for op in ("div", "mod", "ceil_div")}
FAULTS |= {op: ("E0504", lambda y: y < 0) for op in ("shl", "shr")}
PLAIN = ("add", "sub", "mul", "mod", "neg", "abs", *COMPARE.values())
RULES = {
    **{op: getattr(operator, op) for op in PLAIN}, "div": divide, "min": chosen(min),
    "max": chosen(max), "ceil_div": lambda x, y: -(-x // y), "fma": fused,
    "and": lambda x, y: x and y, "or": lambda x, y: x or y, "not": operator.not_,
    "bit_and": operator.and_, "bit_or": operator.or_, "bit_xor": operator.xor,
    "bit_not": operator.invert, "shl": lambda x, y: x << min(y, 64),
    "shr": lambda x, y: x >> min(y, 64), "where": lambda condition, x, y: x if condition else y,
    "exp": function(math.exp), "exp2": function(lambda x: 2.0**x),
    "log": function(math.log, -math.inf), "log2": function(math.log2, -math.inf),
    "sqrt": function(math.sqrt), "rsqrt": function(lambda x: 1.0 / math.sqrt(x), math.inf),
    "tanh": function(math.tanh), "sin": function(math.sin), "cos": function(math.cos),
    "floor": whole(math.floor), "ceil": whole(math.ceil), "round": whole(round),
}  # fmt: skip
COMBINE = {op: RULES[op] for op in ("add", "max", "min")}
COMBINE |= {op: RULES["bit_" + op] for op in ("and", "or", "xor")}
COMBINE |= dict.fromkeys(("store", "exchange"), lambda old, new: new)
NOTHING = ("synchronize", "commit_async", "wait_async", "print", "var", "grid_wait",
           "grid_launch_dependents")  # fmt: skip
SIMPLE = {
    **dict.fromkeys(NOTHING, lambda me, s, of: None),
    "load": lambda me, s, of: me.read(s, "source", *me.region(s, "source", of("inside"))),
    "load_scalar": lambda me, s, of: me.read(s, "source", *me.region(s, "source", True)),
    "store": lambda me, s, of: me.write(*me.region(s, "target", of("inside")), of("value")),
    "gather": lambda me, s, of: me.read(s, "source", *me.slices(s, "source")),
    "scatter": lambda me, s, of: me.write(*me.slices(s, "target"), of("value"), of("op")),
    "mbarrier_alloc": lambda me, s, of: array(
        [Mbarrier(of("warps")) for _ in np.ndindex(*of("shape"))], of("shape")),
    "copy_async": lambda me, s, of: me.write(*me.region(s, "target", True), me.read(
        s, "source", *me.region(s, "source", of("inside")))),
    "assert": lambda me, s, of: hold(all(flat(of("condition"))), "E0505", s, "condition"),
    "copy": lambda me, s, of: of("x"), "relayout": lambda me, s, of: of("x"),
    "fill": lambda me, s, of: array([of("value")] * math.prod(of("shape")), of("shape")),
    "undefined": lambda me, s, of: array([0] * math.prod(of("shape")), of("shape")),
    "iota": lambda me, s, of: array(
        [index[of("axis")] for index in np.ndindex(*of("shape"))], of("shape")),
    "thread_index": lambda me, s, of: array(range(me.threads), [me.threads]),
    "spread": lambda me, s, of: array([of("x")] * me.threads, [me.threads]),
    "transpose": lambda me, s, of: np.transpose(of("x"), of("order")),
    "reshape": lambda me, s, of: array(flat(of("x")), of("shape")),
    "broadcast": lambda me, s, of: np.broadcast_to(of("x"), of("shape")),
    "repeat": lambda me, s, of: np.repeat(of("x"), of("count"), of("axis")),
    "item": lambda me, s, of: flat(of("x"))[0],
    "slot_constants": lambda me, s, of: me.by_slots(
        s, [of("values")] * me.threads, lambda values, slot: number(values[slot])),
    "pick": lambda me, s, of: me.by_slots(
        s, me.held(s["fields"]["x"]), lambda mine, slot: mine[of("slots")[slot]]),
    "pad": lambda me, s, of: me.by_slots(
        s, me.held(s["fields"]["x"]), lambda mine, slot: mine[min(slot, len(mine) - 1)]),
    "interleave": lambda me, s, of: me.by_slots(
        s, zip(*map(me.held, s["fields"]["parts"]), strict=True),
        lambda mine, slot: mine[slot % len(mine)][slot // len(mine)]),
    "philox": lambda me, s, of: each(philox_word, of("seed"), of("stream"), of("counter")),
    "block_index": lambda me, s, of: tuple(me.block), "group_index": lambda me, s, of: me.copy,
    "grid_size": lambda me, s, of: tuple(me.launch.grid),
    "mbarrier_arrive": lambda me, s, of: me.mbarrier(s).count(me.warps, 0),
    "mbarrier_expect": lambda me, s, of: me.mbarrier(s).count(me.warps, of("bytes")),
}  # fmt: skip
