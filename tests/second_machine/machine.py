"""A second machine: runs exported kernels element by element. Written from spec/ alone.

It imports nothing from vm. It finds the traps of chapter 5, and neither races nor deadlocks; copies
arrive when they start. A value is a NumPy array of Python objects, or an element alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from tests.second_machine.numbers import Type, arithmetic, cast, philox_word, type_of


class Trap(Exception):
    """A fault: its code and place."""

    def __init__(self, code: str, place: list[int]):
        super().__init__(code)
        self.code, self.place = code, place


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

    def code(self, index) -> int:
        at = self.at(index)
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
        self.arrived += warps
        self.bytes += count
        if self.arrived == self.warps and self.bytes == 0:
            self.phase, self.arrived = self.phase + 1, 0


def strides_of(kind: Type, shape, rows: bool) -> list[int]:
    """Row-major, rows beginning at whole bytes if `rows` (rule Type/rows)."""
    strides, step = [], kind.bits
    for place, extent in enumerate(reversed(shape)):
        strides.append(step)
        step *= extent
        if place == 0 and rows:
            step = -(-step // 8) * 8
    return strides[::-1]


def array(items, shape) -> Any:
    """Elements in row-major order as a value."""
    made = np.empty(math.prod(shape), object)
    made[:] = list(items)
    return made.reshape(shape)[()]


def flat(value, count: int = 1) -> list:
    """The elements of a value; one alone stands for `count`."""
    return list(value.ravel()) if isinstance(value, np.ndarray) else [value] * count


def number(x):
    return float(x) if isinstance(x, str) else x


STATIC = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv,
    "%": operator.mod, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge, "and": lambda a, b: a and b, "or": lambda a, b: a or b,
    "ceil_div": lambda a, b: -(-a // b), "min": min, "max": max,
}  # fmt: skip


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
            given = arguments[p["name"]]
            if isinstance(given, Memory):
                for extent, actual in zip(p["shape"], given.shape, strict=True):
                    if isinstance(extent, dict) and "size" in extent:
                        self.names.setdefault(extent["size"], actual)
        for p in kernel["parameters"]:
            self.bind(p, arguments[p["name"]])
        for size in kernel["sizes"]:
            self.values[size["id"]] = self.names[size["name"]]
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
            return STATIC[node["apply"]](*map(self.expression, node["to"]))
        return self.names[node["size"]] if isinstance(node, dict) else node

    def run(self) -> list[Memory]:
        for index in np.ndindex(*self.grid[::-1]):  # the first dimension is the fastest
            block = Actor(self, dict(self.values), self.kernel["threads"], list(index[::-1]), {}, 0)
            for _ in block.run(self.kernel["body"]):
                raise RuntimeError("a block waits alone")
        return [self.values[p["id"]] for p in self.kernel["parameters"]
                if p["access"] in ("out", "inout")]  # fmt: skip


class Actor:
    """Performs the statements of a block or a group: a generator that yields while it waits."""

    def __init__(self, launch: Launch, values: dict, threads: int, block: list, meetings, copy):
        self.launch, self.values, self.threads, self.copy = launch, values, threads, copy
        self.block, self.meetings = block, meetings
        self.warps = threads // launch.kernel["warp_width"]

    def run(self, body: list[dict]) -> Iterator[None]:
        try:
            yield from self.statements(body)
        except Leave:
            return

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
                actor = Actor(self.launch, dict(self.values), threads, self.block, self.meetings,
                              copy)  # fmt: skip
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
                if bounds[2] == 0:
                    raise Trap("E0503", s["places"]["step"])
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

    # --- operands ---
    def kind(self, s: dict, name: str) -> Type:
        """The dtype of an operand, or of an attribute that is one."""
        field = s["fields"][name]
        if "attribute" in field:
            return type_of(field["attribute"])
        return type_of(self.launch.types[field["value"]]["dtype"] if "value" in field
                       else field["dtype"])  # fmt: skip

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

    def tile(self, s: dict, name: str) -> tuple[Any, list[list[int]], list[int]]:
        """The tensor, the index of each element of the tile, and the tile's shape."""
        field = s["fields"][name]
        memory = self.values[field["tile"]]
        extents = [n if e == "all" else e
                   for n, e in zip(memory.shape, field["extents"], strict=True)]  # fmt: skip
        offsets = [self.value(offset) for offset in field["offsets"]]
        where = [[o + k for o, k in zip(offsets, index, strict=True)]
                 for index in np.ndindex(*(e or 1 for e in extents))]  # fmt: skip
        return memory, where, [e for e in extents if e is not None]

    # --- elementwise ---
    def elementwise(self, s: dict):
        op, names = s["op"], list(s["fields"])
        operands = [self.get(s, name) for name in names]
        kind = self.kind(s, next(name for name in names if name != "condition"))
        if op in FAULTS:
            code, refused = FAULTS[op]
            if kind.integer and any(refused(y) for y in flat(operands[1])):
                raise Trap(code, s["places"]["y"])
        rule, result = RULES[op], type_of("bool") if op in COMPARE else kind
        return each(lambda *given: arithmetic(rule(kind, *given), result), *operands)

    def do_cast(self, s: dict):
        source, target = self.kind(s, "x"), self.kind(s, "dtype")
        modes = self.get(s, "overflow"), self.get(s, "rounding")
        return each(lambda x, random: cast(x, source, target, *modes, random),
                    self.get(s, "x"), self.get(s, "random"))  # fmt: skip

    # --- elements moved ---
    def do_uniform(self, s: dict):
        items = flat(self.get(s, "x"))
        if len(set(map(self.kind(s, "x").code, items))) > 1:
            raise Trap("E0510", s["places"]["x"])
        return items[0]

    def table(self, s: dict) -> list[list[int]]:
        """The layout of x: for each thread the element in each of its slots."""
        return self.launch.types[s["fields"]["x"]["value"]]["layout"]["table"]

    def by_slots(self, s: dict, choose):
        """A tensor in the layout of the attribute; `choose(thread, slot)` gives its elements."""
        layout = self.get(s, "layout")
        items = [None] * math.prod(layout["shape"])
        for thread, line in enumerate(layout["table"]):
            for slot, element in enumerate(line):
                items[element] = choose(thread, slot)
        return array(items, layout["shape"])

    def do_pick(self, s: dict):
        items, old, slots = flat(self.get(s, "x")), self.table(s), self.get(s, "slots")
        return self.by_slots(s, lambda thread, slot: items[old[thread][slots[slot]]])

    def do_view(self, s: dict):
        source, kind, items = self.kind(s, "x"), self.kind(s, "dtype"), flat(self.get(s, "x"))
        bits = [sum(source.code(items[element]) << slot * source.bits
                    for slot, element in enumerate(line))
                for line in self.table(s)]  # fmt: skip
        return self.by_slots(s, lambda thread, slot: kind.value(
            bits[thread] >> slot * kind.bits & ((1 << kind.bits) - 1)))  # fmt: skip

    def do_lookup(self, s: dict):
        if "tile" in s["fields"]["table"]:
            memory, where, _ = self.tile(s, "table")
            table = [memory.kind.value(memory.code(index)) for index in where]
        else:
            table = flat(self.get(s, "table"))
        codes = self.get(s, "codes")
        if any(code >= len(table) for code in flat(codes)):
            raise Trap("E0508", s["places"]["codes"])
        return each(lambda code: table[code], codes)

    # --- sums and products ---
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
        shape = [a.shape[0], b.shape[1]]
        c = flat(c, math.prod(shape))
        return array([
            arithmetic(total([Fraction(x) * Fraction(y) if is_finite(x, y) else x * y
                              for x, y in zip(a[i], b[:, j], strict=True)], c[i * shape[1] + j]),
                       kind)
            for i, j in np.ndindex(*shape)
        ], shape)  # fmt: skip

    # --- memory ---
    def reach(self, s: dict, name: str, inside: bool) -> tuple[Memory, list, list]:
        memory, where, shape = self.tile(s, name)
        if (inside or memory.shared) and not all(map(memory.inside, where)):
            raise Trap("E0501", s["places"][name])
        return memory, where, shape

    def read(self, s: dict, name: str, memory: Memory, where: list) -> list:
        inside = [memory.inside(index) for index in where]
        if memory.known is not None and any(
            ok and memory.at(index) not in memory.known
            for ok, index in zip(inside, where, strict=True)
        ):
            raise Trap("E0507", s["places"][name])
        return [memory.kind.value(memory.code(index) if ok else 0)
                for ok, index in zip(inside, where, strict=True)]  # fmt: skip

    def write(self, memory: Memory, where: list, items: list, op: str = "store") -> None:
        for index, item in zip(where, items, strict=True):
            if memory.inside(index):
                if op not in ("store", "exchange"):
                    old = memory.kind.value(memory.code(index))
                    item = arithmetic(COMBINE[op](memory.kind, old, item), memory.kind)
                memory.put(index, memory.kind.code(item))

    def do_load(self, s: dict):
        memory, where, shape = self.reach(s, "source", self.get(s, "inside"))
        return array(self.read(s, "source", memory, where), shape)

    def do_load_scalar(self, s: dict):
        memory, where, _ = self.reach(s, "source", True)
        return self.read(s, "source", memory, where)[0]

    def do_store(self, s: dict) -> None:
        memory, where, _ = self.reach(s, "target", self.get(s, "inside"))
        items = flat(self.get(s, "value"), len(where))
        self.write(memory, where, items * (len(where) if len(items) == 1 else 1))

    def do_shared_alloc(self, s: dict) -> Memory:
        kind, shape = self.kind(s, "dtype"), self.get(s, "shape")
        data = bytearray(-(-math.prod(shape) * kind.bits // 8))
        return Memory(data, kind, shape, strides_of(kind, shape, False), 0, set(), True)

    def do_global_view(self, s: dict) -> Memory:
        memory, where, _ = self.tile(s, "base")
        kind, shape = self.kind(s, "dtype"), [self.value(e) for e in s["fields"]["extents"]]
        given = self.get(s, "strides")
        strides = [n * kind.bits for n in given] if given else strides_of(kind, shape, True)
        start = memory.at(where[0]) + self.get(s, "offset") * kind.bits
        end = start + sum((n - 1) * t for n, t in zip(shape, strides, strict=True)) + kind.bits
        if start < 0 or end > 8 * len(memory.data):
            raise Trap("E0506", s["place"])
        return Memory(memory.data, kind, shape, strides, start)

    def slices(self, s: dict, name: str) -> tuple[Memory, list, list]:
        """The tile with positions along an axis replaced by those that indices name."""
        memory, where, shape = self.tile(s, name)
        axis, chosen = self.get(s, "axis"), flat(self.get(s, "indices"))
        if any(not 0 <= i < shape[axis] for i in chosen):
            raise Trap("E0508", s["places"]["indices"])
        extents = s["fields"][name]["extents"]
        dimension = [n for n, e in enumerate(extents) if e is not None][axis]
        grid = array(where, [e if isinstance(e, int) else n if e else 1
                             for e, n in zip(extents, memory.shape, strict=True)])  # fmt: skip
        where = flat(np.take(grid, chosen, dimension))
        if memory.shared and not all(map(memory.inside, where)):
            raise Trap("E0501", s["places"][name])
        return memory, where, [len(chosen) if a == axis else n for a, n in enumerate(shape)]

    def do_gather(self, s: dict):
        memory, where, shape = self.slices(s, "source")
        return array(self.read(s, "source", memory, where), shape)

    def do_scatter(self, s: dict) -> None:
        memory, where, _ = self.slices(s, "target")
        self.write(memory, where, flat(self.get(s, "value")), self.get(s, "op"))

    def do_atomic(self, s: dict):
        memory, where, shape = self.reach(s, "target", False)
        before = self.read(s, "target", memory, where)
        items = flat(self.get(s, "value"), len(where))
        self.write(memory, where, items, self.get(s, "op"))
        return array(before, shape)

    def do_copy_async(self, s: dict) -> None:
        target, to, _ = self.reach(s, "target", True)
        source, where, _ = self.reach(s, "source", self.get(s, "inside"))
        self.write(target, to, self.read(s, "source", source, where))

    # --- mbarriers ---
    def do_mbarrier_alloc(self, s: dict):
        shape = self.get(s, "shape")
        return array([Mbarrier(self.get(s, "warps")) for _ in np.ndindex(*shape)], shape)

    def mbarrier(self, s: dict) -> Mbarrier:
        barriers, (index,), _ = self.tile(s, "barrier")
        if not all(0 <= i < n for i, n in zip(index, barriers.shape, strict=True)):
            raise Trap("E0501", s["places"]["barrier"])
        return barriers[tuple(index)]

    def do_copy_bulk(self, s: dict) -> None:
        target, to, _ = self.reach(s, "target", True)
        source, where, _ = self.reach(s, "source", True)
        for name, memory, first in (("target", target, to[0]), ("source", source, where[0])):
            if memory.at(first) % 128:
                raise Trap("E0511", s["places"][name])
        self.write(target, to, self.read(s, "source", source, where))
        self.mbarrier(s).count(0, -len(where) * source.kind.bits // 8)

    # --- the rest ---
    def do_assert(self, s: dict) -> None:
        if not all(flat(self.get(s, "condition"))):
            raise Trap("E0505", s["places"]["condition"])


def each(rule, *operands) -> Any:
    """A rule on every element of operands that are broadcast to one shape."""
    return np.frompyfunc(rule, len(operands), 1)(*operands)


def is_finite(*numbers) -> bool:
    return all(math.isfinite(x) for x in numbers)


def total(terms: list, first=0):
    """The exact sum, or what IEEE 754 says of infinities and NaN."""
    if is_finite(first, *terms):
        return sum(map(Fraction, terms), Fraction(first))
    return sum(map(float, terms), float(first))


def reduced(op: str, line: list, kind: Type):
    if op in ("any", "all"):
        return {"any": any, "all": all}[op](line)
    if op in ("max", "min"):
        kept = [x for x in line if x == x]
        return {"max": max, "min": min}[op](kept) if kept else line[0]
    return arithmetic(sum(line) if kind.integer else total(line), kind)


# --- rules of elementwise instructions: of the operands' dtype and values ---
def divide(kind, x, y):
    if kind.integer:
        return x // y
    if y == 0 or math.isnan(y):
        if math.isnan(x) or math.isnan(y) or x == 0:
            return math.nan
        return math.copysign(math.inf, math.copysign(1, x) * math.copysign(1, y))
    return x / y


def least(kind, x, y):
    return y if x != x else x if y != y else min(x, y)


def most(kind, x, y):
    return y if x != x else x if y != y else max(x, y)


def fused(kind, x, y, z):
    exact = Fraction(x) * Fraction(y) + Fraction(z) if is_finite(x, y, z) else 0
    return exact or x * y + z  # floats know the sign of a zero


def function(rule, at_zero=math.nan):
    """A function of floats; `at_zero` where it has no value at 0, NaN outside of its domain."""
    def apply(kind, x):
        try:
            return rule(x)
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return at_zero if x == 0 else math.nan
    return apply


def whole(rule):
    return lambda kind, x: math.copysign(rule(x), x) if math.isfinite(x) else x


def plain(rule):
    return lambda kind, *operands: rule(*operands)


COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
FAULTS = {op: ("E0502", lambda y: y == 0) for op in ("div", "mod", "ceil_div")}
FAULTS |= {op: ("E0504", lambda y: y < 0) for op in ("shl", "shr")}
RULES = {
    **{op: plain(getattr(operator, op)) for op in ("add", "sub", "mul", "neg", "abs", *COMPARE)},
    "div": divide, "mod": plain(lambda x, y: x - y * (x // y)), "min": least, "max": most,
    "ceil_div": plain(lambda x, y: -(-x // y)), "fma": fused,
    "and": plain(lambda x, y: x and y), "or": plain(lambda x, y: x or y),
    "not": plain(operator.not_), "bit_and": plain(operator.and_), "bit_or": plain(operator.or_),
    "bit_xor": plain(operator.xor), "bit_not": plain(operator.invert),
    "shl": lambda kind, x, y: 0 if y >= kind.bits else x << y,
    "shr": lambda kind, x, y: x >> min(y, kind.bits),
    "where": plain(lambda condition, x, y: x if condition else y),
    "exp": function(math.exp), "exp2": function(lambda x: 2.0**x),
    "log": function(math.log, -math.inf), "log2": function(math.log2, -math.inf),
    "sqrt": function(math.sqrt), "rsqrt": function(lambda x: 1.0 / math.sqrt(x), math.inf),
    "tanh": function(math.tanh), "sin": function(math.sin), "cos": function(math.cos),
    "floor": whole(math.floor), "ceil": whole(math.ceil), "round": whole(round),
}  # fmt: skip
COMBINE = {op: RULES[op] for op in ("add", "max", "min")}
COMBINE |= {op: RULES["bit_" + op] for op in ("and", "or", "xor")}
NOTHING = ("synchronize", "commit_async", "wait_async", "print", "var", "grid_wait",
           "grid_launch_dependents")  # fmt: skip
SIMPLE = {
    **dict.fromkeys(NOTHING, lambda actor, s, of: None),
    "copy": lambda actor, s, of: of("x"), "relayout": lambda actor, s, of: of("x"),
    "fill": lambda actor, s, of: array([of("value")] * math.prod(of("shape")), of("shape")),
    "undefined": lambda actor, s, of: array([0] * math.prod(of("shape")), of("shape")),
    "iota": lambda actor, s, of: array(
        [index[of("axis")] for index in np.ndindex(*of("shape"))], of("shape")),
    "thread_index": lambda actor, s, of: array(range(actor.threads), [actor.threads]),
    "spread": lambda actor, s, of: array([of("x")] * actor.threads, [actor.threads]),
    "transpose": lambda actor, s, of: np.transpose(of("x"), of("order")),
    "reshape": lambda actor, s, of: array(flat(of("x")), of("shape")),
    "broadcast": lambda actor, s, of: np.broadcast_to(of("x"), of("shape")),
    "repeat": lambda actor, s, of: np.repeat(of("x"), of("count"), of("axis")),
    "item": lambda actor, s, of: flat(of("x"))[0],
    "slot_constants": lambda actor, s, of: actor.by_slots(
        s, lambda thread, slot: number(of("values")[slot])),
    "philox": lambda actor, s, of: each(philox_word, of("seed"), of("stream"), of("counter")),
    "block_index": lambda actor, s, of: tuple(actor.block),
    "grid_size": lambda actor, s, of: tuple(actor.launch.grid),
    "group_index": lambda actor, s, of: actor.copy,
    "mbarrier_arrive": lambda actor, s, of: actor.mbarrier(s).count(actor.warps, 0),
    "mbarrier_expect": lambda actor, s, of: actor.mbarrier(s).count(actor.warps, of("bytes")),
}  # fmt: skip
