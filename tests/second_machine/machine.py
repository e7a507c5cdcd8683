"""A second machine: runs exported kernels element by element. Written from spec/ alone.

It imports nothing from vm. It finds the traps of chapter 5, and neither races nor deadlocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product as indices
from typing import Any

from tests.second_machine.numbers import Type, arithmetic, cast, philox_word, to_float, type_of


class Trap(Exception):
    """A fault: its code and place."""

    def __init__(self, code: str, place: list[int]):
        super().__init__(code)
        self.code, self.place = code, place


class Leave(Exception):
    """`exit()`."""


class Register:
    """A register tensor: its elements in row-major order."""

    def __init__(self, kind: Type, shape: list[int], items: list):
        self.kind, self.shape, self.items = kind, list(shape), items


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
        first, last = at // 8, -(-(at + self.kind.bits) // 8)
        whole = int.from_bytes(self.data[first:last], "little")
        return whole >> (at % 8) & ((1 << self.kind.bits) - 1)

    def put(self, index, code: int) -> None:
        at = self.at(index)
        first, last = at // 8, -(-(at + self.kind.bits) // 8)
        whole = int.from_bytes(self.data[first:last], "little")
        mask = (1 << self.kind.bits) - 1 << (at % 8)
        whole = whole & ~mask | code << (at % 8)
        self.data[first:last] = whole.to_bytes(last - first, "little")
        if self.known is not None:
            self.known.add(at)

    def has(self, index) -> bool:
        return self.known is None or self.at(index) in self.known


def size_of(shape) -> int:
    return math.prod(shape)


def row_strides(kind: Type, shape) -> list[int]:
    """Row-major, rows beginning at whole bytes (rule Type/rows)."""
    strides, step = [], kind.bits
    for place, extent in enumerate(reversed(shape)):
        strides.append(step)
        step *= extent
        if place == 0:
            step = -(-step // 8) * 8
    return strides[::-1]


def plain_strides(kind: Type, shape) -> list[int]:
    strides, step = [], kind.bits
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return strides[::-1]


def number(x):
    return float(x) if isinstance(x, str) else x


STATIC = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "/": lambda a, b: a // b, "%": lambda a, b: a % b, "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "and": lambda a, b: a and b,
    "or": lambda a, b: a or b, "ceil_div": lambda a, b: -(-a // b), "min": min, "max": max,
}  # fmt: skip


class Launch:
    """One kernel with its arguments; `run` gives the written tensors in order."""

    def __init__(self, kernel: dict, arguments: dict[str, Any]):
        self.kernel, self.sizes, self.values = kernel, {}, {}
        known = {size["name"] for size in kernel["sizes"]}
        for name, value in arguments.items():
            if name in known:
                self.sizes[name] = value
        for parameter in kernel["parameters"]:
            given = arguments[parameter["name"]]
            if isinstance(given, Memory):
                for extent, actual in zip(parameter["shape"], given.shape, strict=True):
                    if isinstance(extent, dict) and "size" in extent:
                        self.sizes.setdefault(extent["size"], actual)
        self.names = dict(self.sizes)
        for parameter in kernel["parameters"]:
            self._bind(parameter, arguments[parameter["name"]])
        for size in kernel["sizes"]:
            self.values[size["id"]] = self.sizes[size["name"]]
        self.grid = [self.expression(e) for e in kernel["grid"]]

    def _bind(self, parameter: dict, given) -> None:
        kind = type_of(parameter["dtype"])
        if parameter["space"] == "scalar":
            value = given if kind.integer or kind.kind == "bool" else to_float(float(given), kind)
            self.values[parameter["id"]] = self.names[parameter["name"]] = value
            return
        shape = [self.expression(e) for e in parameter["shape"]]
        strides = row_strides(kind, shape)
        if given is None:
            bits = strides[0] * shape[0] if shape else kind.bits
            given = Memory(bytearray(-(-bits // 8)), kind, shape, strides)
        known = set() if parameter["access"] == "out" else None
        self.values[parameter["id"]] = Memory(given.data, kind, shape, strides, 0, known)

    def expression(self, node) -> Any:
        if isinstance(node, dict) and "size" in node:
            return self.names[node["size"]]
        if isinstance(node, dict) and "apply" in node:
            return STATIC[node["apply"]](*(self.expression(part) for part in node["to"]))
        return node

    def run(self) -> list[Memory]:
        for position in range(size_of(self.grid)):
            index, rest = [], position
            for extent in self.grid:
                index.append(rest % extent)
                rest //= extent
            Block(self, index).run()
        return [self.values[p["id"]] for p in self.kernel["parameters"]
                if p["access"] in ("out", "inout")]  # fmt: skip


class Block:
    """One block: its groups are generators that yield while they wait."""

    def __init__(self, launch: Launch, index: list[int]):
        self.launch, self.index = launch, index
        self.meetings: dict[int, list[int]] = {}

    def run(self) -> None:
        actor = Actor(self, dict(self.launch.values), self.launch.kernel["threads"], 0)
        for _ in actor.run(self.launch.kernel["body"]):
            raise RuntimeError("a block waits alone")


class Actor:
    """Performs statements for a block or a group."""

    def __init__(self, block: Block, values: dict, threads: int, copy: int):
        self.block, self.values, self.threads, self.copy = block, values, threads, copy

    def run(self, body: list[dict]) -> Iterator[None]:
        try:
            yield from self.statements(body)
        except Leave:
            return

    def statements(self, body: list[dict]) -> Iterator[None]:
        groups: list[dict] = []
        for place, statement in enumerate(body):
            if statement["op"] == "group":
                groups.append(statement)
                if place + 1 == len(body) or body[place + 1]["op"] != "group":
                    self.side_by_side(groups)
                    groups = []
                continue
            jump = yield from self.statement(statement)
            if jump:
                return jump
        return None

    def side_by_side(self, groups: list[dict]) -> None:
        width = self.block.launch.kernel["warp_width"]
        running = []
        for group in groups:
            fields = group["fields"]
            for copy in range(fields.get("copies", {"attribute": 1})["attribute"]):
                threads = fields["warps"]["attribute"] * width
                actor = Actor(self.block, dict(self.values), threads, copy)
                running.append(actor.run(group["blocks"]["body"]))
        while running:
            for actor in list(running):
                for _ in actor:
                    break
                else:
                    running.remove(actor)

    def statement(self, s: dict) -> Iterator[None]:
        match s["op"]:
            case "if":
                taken = self.scalar(s["fields"]["condition"])
                return (yield from self.statements(s["blocks"]["then" if taken else "otherwise"]))
            case "for":
                bounds = [self.scalar(s["fields"][n]) for n in ("start", "stop", "step")]
                if bounds[2] == 0:
                    raise Trap("E0503", s["places"]["step"])
                for i in range(*bounds):
                    self.values[s["variable"]["id"]] = i
                    if (yield from self.statements(s["blocks"]["body"])) == "break":
                        break
                return None
            case "while":
                while (yield from self.statements(s["blocks"]["body"])) != "break":
                    pass
                return None
            case "jump":
                return s["fields"]["kind"]["attribute"]
            case "var":
                return None
            case "barrier":
                yield from self.barrier(s)
                return None
        results = getattr(self, "do_" + s["op"], self.elementwise)(s)
        results = results if isinstance(results, tuple) else (results,)
        for result, value in zip(s["results"], results, strict=False):
            self.values[result.get("assign", result.get("id"))] = value
        return None

    def barrier(self, s: dict) -> Iterator[None]:
        number, wanted = s["fields"]["id"]["attribute"], s["fields"]["warps"]["attribute"]
        meeting = self.block.meetings.setdefault(number, [0])
        meeting[0] += self.threads // self.block.launch.kernel["warp_width"]
        if meeting[0] == wanted:
            del self.block.meetings[number]
        elif not s["fields"]["arrive"]["attribute"]:
            while meeting[0] < wanted:
                yield

    # --- operands ---
    def operand(self, field: dict):
        """A scalar, a Register, or a Memory."""
        if "value" in field:
            return self.values[field["value"]]
        x, kind = number(field["number"]), field["dtype"]
        if kind is None or isinstance(x, bool) or type_of(kind).integer:
            return x
        return cast(float(x), type_of("f64"), type_of(kind), "ieee", "nearest_even")

    scalar = operand

    def attribute(self, s: dict, name: str):
        return s["fields"][name]["attribute"]

    def kind_of(self, s: dict, field: dict) -> Type:
        if "number" in field:
            return type_of(field["dtype"])
        value = self.values[field["value"]]
        return value.kind if isinstance(value, Register) else self.scalar_kinds()[field["value"]]

    def scalar_kinds(self) -> dict[int, Type]:
        launch = self.block.launch
        if not hasattr(launch, "kinds"):
            launch.kinds = {}
            for p in launch.kernel["parameters"]:
                launch.kinds[p["id"]] = type_of(p["dtype"])
            for size in launch.kernel["sizes"]:
                launch.kinds[size["id"]] = type_of("i32")
            collect_kinds(launch.kernel["body"], launch.kinds)
        return launch.kinds

    def tile(self, s: dict, name: str):
        """The tensor, and for each element of the tile its index; the tile's shape."""
        field = s["fields"][name]
        memory: Memory = self.values[field["tile"]]
        offsets = [self.scalar(offset) for offset in field["offsets"]]
        extents = [memory.shape[n] if e == "all" else e for n, e in enumerate(field["extents"])]
        lines = [range(o, o + (1 if e is None else e))
                 for o, e in zip(offsets, extents, strict=True)]  # fmt: skip
        return memory, [list(i) for i in indices(*lines)], [e for e in extents if e is not None]

    def result_kind(self, s: dict) -> Type:
        found = s["results"][0]
        return type_of(found["type"]["dtype"]) if "type" in found else (
            self.scalar_kinds()[found["assign"]]
        )

    # --- elementwise ---
    def elementwise(self, s: dict):
        names = list(s["fields"])
        operands = [self.operand(s["fields"][n]) for n in names]
        values = [n for n in names if n != "condition"]
        kind = next(self.kind_of(s, s["fields"][n]) for n in values)
        shape = broadcast([o.shape for o in operands if isinstance(o, Register)])
        rule, place = RULES[s["op"]], s["places"].get("y", s["place"])
        if not any(isinstance(o, Register) for o in operands):
            return finish(s["op"], rule(kind, *operands, place), kind)
        lines = [spread(o, shape) if isinstance(o, Register) else [o] * size_of(shape)
                 for o in operands]  # fmt: skip
        if s["op"] in CHECKED:  # faults come before results
            for y in lines[1]:
                CHECKED[s["op"]](kind, y, place)
        items = [finish(s["op"], rule(kind, *each, place), kind)
                 for each in zip(*lines, strict=True)]  # fmt: skip
        return Register(type_of("bool") if s["op"] in COMPARE else kind, shape, items)

    def do_copy(self, s: dict):
        return self.operand(s["fields"]["x"])

    def do_cast(self, s: dict):
        x = self.operand(s["fields"]["x"])
        source, target = self.kind_of(s, s["fields"]["x"]), type_of(self.attribute(s, "dtype"))
        modes = self.attribute(s, "overflow"), self.attribute(s, "rounding")
        if not isinstance(x, Register):
            return cast(x, source, target, *modes)
        return Register(target, x.shape, [cast(i, source, target, *modes) for i in x.items])

    def do_fill(self, s: dict):
        kind, shape = type_of(self.attribute(s, "dtype")), self.attribute(s, "shape")
        return Register(kind, shape, [self.operand(s["fields"]["value"])] * size_of(shape))

    def do_iota(self, s: dict):
        shape, axis = self.attribute(s, "shape"), self.attribute(s, "axis")
        items = [i[axis] for i in indices(*map(range, shape))]
        return Register(type_of(self.attribute(s, "dtype")), shape, items)

    def do_relayout(self, s: dict):
        return self.operand(s["fields"]["x"])

    def do_transpose(self, s: dict):
        x, order = self.operand(s["fields"]["x"]), self.attribute(s, "order")
        shape = [x.shape[a] for a in order]
        strides = plain_strides(type_of("u1"), x.shape)
        items = [x.items[sum(i * strides[a] for i, a in zip(index, order, strict=True))]
                 for index in indices(*map(range, shape))]  # fmt: skip
        return Register(x.kind, shape, items)

    def do_reshape(self, s: dict):
        x = self.operand(s["fields"]["x"])
        return Register(x.kind, self.attribute(s, "shape"), x.items)

    def do_broadcast(self, s: dict):
        x, shape = self.operand(s["fields"]["x"]), self.attribute(s, "shape")
        return Register(x.kind, shape, spread(x, shape))

    def do_repeat(self, s: dict):
        x, axis = self.operand(s["fields"]["x"]), self.attribute(s, "axis")
        count, strides = self.attribute(s, "count"), plain_strides(type_of("u1"), x.shape)
        shape = [n * count if a == axis else n for a, n in enumerate(x.shape)]
        items = [x.items[sum((i // count if a == axis else i) * strides[a]
                             for a, i in enumerate(index))]
                 for index in indices(*map(range, shape))]  # fmt: skip
        return Register(x.kind, shape, items)

    def do_reduce(self, s: dict):
        x, axis, op = self.operand(s["fields"]["x"]), self.attribute(s, "axis"), None
        op, keep = self.attribute(s, "op"), self.attribute(s, "keep")
        strides = plain_strides(type_of("u1"), x.shape)
        outer = [range(1 if a == axis else n) for a, n in enumerate(x.shape)]
        items = []
        for index in indices(*outer):
            first = sum(i * t for i, t in zip(index, strides, strict=True))
            line = [x.items[first + k * strides[axis]] for k in range(x.shape[axis])]
            items.append(reduced(op, line, x.kind))
        shape = [1 if a == axis else n for a, n in enumerate(x.shape)]
        if not keep:
            del shape[axis]
        return Register(x.kind, shape, items)

    def do_item(self, s: dict):
        return self.operand(s["fields"]["x"]).items[0]

    def do_view(self, s: dict):
        x, new = self.operand(s["fields"]["x"]), self.attribute(s, "layout")
        kind, old = type_of(self.attribute(s, "dtype")), self.layout_of(s["fields"]["x"])
        items = [None] * size_of(new["shape"])
        for thread in range(new["threads"]):
            bits = 0
            for slot, element in enumerate(old["table"][thread]):
                bits |= x.kind.code(x.items[element]) << (slot * x.kind.bits)
            for slot, element in enumerate(new["table"][thread]):
                code = bits >> (slot * kind.bits) & ((1 << kind.bits) - 1)
                items[element] = kind.value(code)
        return Register(kind, new["shape"], items)

    def layout_of(self, field: dict) -> dict:
        launch = self.block.launch
        if not hasattr(launch, "layouts"):
            launch.layouts = {}
            collect_layouts(launch.kernel["body"], launch.layouts)
        return launch.layouts[field["value"]]

    def do_lookup(self, s: dict):
        codes = self.operand(s["fields"]["codes"])
        if "tile" in s["fields"]["table"]:
            memory, where, _ = self.tile(s, "table")
            table, kind = [memory.kind.value(memory.code(i)) for i in where], memory.kind
        else:
            held = self.operand(s["fields"]["table"])
            table, kind = held.items, held.kind
        if any(code >= len(table) for code in codes.items):
            raise Trap("E0508", s["places"]["codes"])
        return Register(kind, codes.shape, [table[code] for code in codes.items])

    def do_philox(self, s: dict):
        seed, counter = self.operand(s["fields"]["seed"]), self.operand(s["fields"]["counter"])
        given = s["fields"]["stream"]
        stream = 0 if given is None else self.operand(given)
        wide = (1 << 64) - 1
        if not isinstance(counter, Register):
            return philox_word(seed & wide, stream & wide, counter & wide)
        items = [philox_word(seed & wide, stream & wide, c & wide) for c in counter.items]
        return Register(type_of("u32"), counter.shape, items)

    def do_dot(self, s: dict):
        a, b = self.operand(s["fields"]["a"]), self.operand(s["fields"]["b"])
        c = s["fields"]["c"] and self.operand(s["fields"]["c"])
        kind, (m, depth), n = self.result_kind(s), a.shape, b.shape[1]
        finite = kind.integer or all(map(math.isfinite, a.items + b.items))
        # Whole numbers are summed much faster than fractions.
        (left, one), (right, other) = (
            over_one_divisor(x.items) if finite else (list(map(exact, x.items)), 1) for x in (a, b)
        )
        items = []
        for i, j in indices(range(m), range(n)):
            row, column = left[i * depth : (i + 1) * depth], right[j::n]
            total = sum(x * y for x, y in zip(row, column, strict=True))
            if finite:
                total = Fraction(total, one * other)
            if c:
                total += exact(c.items[i * n + j])
            items.append(arithmetic(int(total) if kind.integer else total, kind))
        return Register(kind, [m, n], items)

    # --- memory ---
    def reach(self, s: dict, name: str, inside: bool) -> tuple[Memory, list, list]:
        memory, where, shape = self.tile(s, name)
        if (inside or memory.shared) and not all(memory.inside(i) for i in where):
            raise Trap("E0501", s["places"][name])
        return memory, where, shape

    def read(self, s: dict, name: str, memory: Memory, where: list) -> list:
        for index in where:
            if memory.inside(index) and not memory.has(index):
                raise Trap("E0507", s["places"][name])
        return [memory.kind.value(memory.code(i) if memory.inside(i) else 0) for i in where]

    def write(self, memory: Memory, where: list, items: list) -> None:
        for index, item in zip(where, items, strict=True):
            if memory.inside(index):
                memory.put(index, memory.kind.code(item))

    def do_load(self, s: dict):
        memory, where, shape = self.reach(s, "source", self.attribute(s, "inside"))
        return Register(memory.kind, shape, self.read(s, "source", memory, where))

    def do_load_scalar(self, s: dict):
        memory, where, _ = self.reach(s, "source", True)
        return self.read(s, "source", memory, where)[0]

    def do_store(self, s: dict) -> None:
        value = self.operand(s["fields"]["value"])
        memory, where, _ = self.reach(s, "target", self.attribute(s, "inside"))
        items = value.items if isinstance(value, Register) else [value]
        self.write(memory, where, items * (len(where) if len(items) == 1 else 1))

    def do_shared_alloc(self, s: dict) -> Memory:
        kind, shape = type_of(self.attribute(s, "dtype")), self.attribute(s, "shape")
        data = bytearray(-(-size_of(shape) * kind.bits // 8))
        return Memory(data, kind, shape, plain_strides(kind, shape), 0, set(), True)

    def do_global_view(self, s: dict) -> Memory:
        memory, where, _ = self.tile(s, "base")
        kind = type_of(self.attribute(s, "dtype"))
        shape = [self.scalar(e) for e in s["fields"]["extents"]]
        offset = self.scalar(s["fields"]["offset"]) if s["fields"]["offset"] else 0
        strides = row_strides(kind, shape)
        if (given := self.attribute(s, "strides")) is not None:
            strides = [n * kind.bits for n in given]
        start = memory.at(where[0]) + offset * kind.bits
        end = start + sum((n - 1) * t for n, t in zip(shape, strides, strict=True)) + kind.bits
        if start < 0 or end > 8 * len(memory.data):
            raise Trap("E0506", s["place"])
        return Memory(memory.data, kind, shape, strides, start)

    def slices(self, s: dict, name: str) -> tuple[Memory, list, list]:
        """The tile with positions along an axis replaced by those that indices name."""
        memory, where, shape = self.tile(s, name)
        axis, chosen = self.attribute(s, "axis"), self.operand(s["fields"]["indices"]).items
        if any(not 0 <= i < shape[axis] for i in chosen):
            raise Trap("E0508", s["places"]["indices"])
        field = s["fields"][name]
        dimension = [n for n, e in enumerate(field["extents"]) if e is not None][axis]
        lines = [sorted({index[n] for index in where}) for n in range(len(memory.shape))]
        lines[dimension] = [self.scalar(field["offsets"][dimension]) + i for i in chosen]
        shape = [len(chosen) if a == axis else n for a, n in enumerate(shape)]
        where = [list(i) for i in indices(*lines)]
        if memory.shared and not all(memory.inside(i) for i in where):
            raise Trap("E0501", s["places"][name])
        return memory, where, shape

    def do_gather(self, s: dict):
        memory, where, shape = self.slices(s, "source")
        return Register(memory.kind, shape, self.read(s, "source", memory, where))

    def do_scatter(self, s: dict) -> None:
        memory, where, _ = self.slices(s, "target")
        self.combine(memory, where, self.operand(s["fields"]["value"]).items,
                     self.attribute(s, "op"))  # fmt: skip

    def combine(self, memory: Memory, where: list, items: list, op: str) -> None:
        for index, item in zip(where, items, strict=True):
            if memory.inside(index):
                old = memory.kind.value(memory.code(index))
                new = arithmetic(COMBINE[op](memory.kind, old, item), memory.kind)
                memory.put(index, memory.kind.code(new))

    def do_atomic(self, s: dict):
        value = self.operand(s["fields"]["value"])
        memory, where, shape = self.reach(s, "target", False)
        before = self.read(s, "target", memory, where)
        items = value.items if isinstance(value, Register) else [value] * len(where)
        self.combine(memory, where, items, self.attribute(s, "op"))
        return Register(memory.kind, shape, before) if shape else before[0]

    def do_copy_async(self, s: dict) -> None:
        target, to, _ = self.reach(s, "target", True)
        source, where, _ = self.reach(s, "source", self.attribute(s, "inside"))
        self.write(target, to, self.read(s, "source", source, where))

    # --- the rest ---
    def nothing(self, s: dict) -> None:
        return None

    do_synchronize = do_commit_async = do_wait_async = do_print = nothing
    do_grid_wait = do_grid_launch_dependents = nothing

    def do_exit(self, s: dict) -> None:
        raise Leave

    def do_assert(self, s: dict) -> None:
        x = self.operand(s["fields"]["condition"])
        if not all(x.items if isinstance(x, Register) else [x]):
            raise Trap("E0505", s["places"]["condition"])

    def do_block_index(self, s: dict):
        return tuple(self.block.index)

    def do_grid_size(self, s: dict):
        return tuple(self.block.launch.grid)

    def do_group_index(self, s: dict) -> int:
        return self.copy

    def do_thread_index(self, s: dict):
        return Register(type_of("i32"), [self.threads], list(range(self.threads)))

    def do_spread(self, s: dict):
        field = s["fields"]["x"]
        items = [self.operand(field)] * self.threads
        return Register(self.kind_of(s, field), [self.threads], items)

    def do_uniform(self, s: dict):
        x = self.operand(s["fields"]["x"])
        if len({x.kind.code(item) for item in x.items}) > 1:
            raise Trap("E0510", s["places"]["x"])
        return x.items[0]

    def do_undefined(self, s: dict):
        kind, shape = type_of(self.attribute(s, "dtype")), self.attribute(s, "shape")
        return Register(kind, shape, [kind.value(0)] * size_of(shape))

    def do_pick(self, s: dict):
        x, new = self.operand(s["fields"]["x"]), self.attribute(s, "layout")
        old, items = self.layout_of(s["fields"]["x"])["table"], [None] * size_of(new["shape"])
        for thread, line in enumerate(new["table"]):
            for slot, element in enumerate(line):
                items[element] = x.items[old[thread][self.attribute(s, "slots")[slot]]]
        return Register(x.kind, new["shape"], items)

    def do_slot_constants(self, s: dict):
        new, kind = self.attribute(s, "layout"), type_of(self.attribute(s, "dtype"))
        items = [None] * size_of(new["shape"])
        for line in new["table"]:
            for slot, element in enumerate(line):
                items[element] = number(self.attribute(s, "values")[slot])
        return Register(kind, new["shape"], items)


def collect_kinds(body: list[dict], found: dict[int, Type]) -> None:
    """The dtype of every value that statements define."""
    for s in body:
        for result in [*s["results"], *([s["variable"]] if "variable" in s else [])]:
            if "type" in result:
                found[result["id"]] = type_of(result["type"]["dtype"])
        for block in s.get("blocks", {}).values():
            collect_kinds(block, found)


def collect_layouts(body: list[dict], found: dict[int, dict]) -> None:
    """The layout of every register value that has one."""
    for s in body:
        for result in s["results"]:
            layout = result.get("type", {}).get("layout")
            if layout:
                found[result["id"]] = layout
        for block in s.get("blocks", {}).values():
            collect_layouts(block, found)


def broadcast(shapes: list[list[int]]) -> list[int]:
    rank = max((len(shape) for shape in shapes), default=0)
    full = [[1] * (rank - len(shape)) + shape for shape in shapes]
    return [next((n for n in axis if n != 1), 1) for axis in zip(*full, strict=True)]


def spread(x: Register, shape: list[int]) -> list:
    if x.shape == list(shape):
        return x.items
    old = [1] * (len(shape) - len(x.shape)) + x.shape
    strides = plain_strides(type_of("u1"), old)
    steps = [0 if n == 1 else t for n, t in zip(old, strides, strict=True)]
    return [x.items[sum(i * t for i, t in zip(index, steps, strict=True))]
            for index in indices(*map(range, shape))]  # fmt: skip


def exact(x) -> Any:
    """A number that sums and products keep exact."""
    return Fraction(x) if isinstance(x, int) or math.isfinite(x) else x


def over_one_divisor(numbers: list) -> tuple[list[int], int]:
    """Integers and the one divisor that makes them these finite numbers."""
    ratios = [x.as_integer_ratio() for x in numbers]
    below = math.lcm(*(divisor for _, divisor in ratios))
    return [x * (below // divisor) for x, divisor in ratios], below


def reduced(op: str, line: list, kind: Type):
    if op in ("any", "all"):
        return {"any": any, "all": all}[op](line)
    if op in ("max", "min"):
        kept = [x for x in line if x == x]
        return {"max": max, "min": min}[op](kept) if kept else line[0]
    if kind.integer:
        return arithmetic(sum(line), kind)
    finite = all(math.isfinite(x) for x in line)
    return arithmetic(sum(map(Fraction, line)) if finite else sum(line), kind)


# --- rules of elementwise instructions ---
def plus(kind, x, y, place=None):
    return x + y


def divide(kind, x, y, place):
    if kind.integer:
        check_divisor(kind, y, place)
        return x // y
    if y == 0 or math.isnan(y):
        if math.isnan(x) or math.isnan(y) or x == 0:
            return math.nan
        return math.copysign(math.inf, math.copysign(1, x) * math.copysign(1, y))
    return x / y


def modulo(kind, x, y, place):
    check_divisor(kind, y, place)
    return x - y * (x // y)


def ceil_divide(kind, x, y, place):
    check_divisor(kind, y, place)
    return -(-x // y)


def check_divisor(kind, y, place) -> None:
    if kind.integer and y == 0:
        raise Trap("E0502", place)


def check_shift(kind, y, place) -> None:
    if y < 0:
        raise Trap("E0504", place)


def shift_left(kind, x, y, place):
    check_shift(kind, y, place)
    return 0 if y >= kind.bits else x << y


def shift_right(kind, x, y, place):
    check_shift(kind, y, place)
    return x >> min(y, kind.bits)


def least(kind, x, y, place=None):
    return y if x != x else x if y != y else min(x, y)


def most(kind, x, y, place=None):
    return y if x != x else x if y != y else max(x, y)


def fused(kind, x, y, z, place):
    if all(map(math.isfinite, (x, y, z))):
        total = Fraction(x) * Fraction(y) + Fraction(z)
        return total if total else x * y + z  # floats know the sign of a zero
    return x * y + z


def function(rule):
    """A function of floats with its values at the edges of its domain."""
    def apply(kind, x, place):
        try:
            return rule(x)
        except (ValueError, OverflowError, ZeroDivisionError):
            return math.inf if rule in (math.exp, two_to) else edge(rule, x)
    return apply


def two_to(x):
    return 2.0**x


def inverse_root(x):
    return 1.0 / math.sqrt(x)


def edge(rule, x):
    if x == 0:
        return math.inf if rule is inverse_root else -math.inf
    return math.nan


def whole(rule):
    return lambda kind, x, place: math.copysign(rule(x), x) if math.isfinite(x) else x


RULES = {
    "add": plus, "sub": lambda k, x, y, p: x - y, "mul": lambda k, x, y, p: x * y, "div": divide,
    "mod": modulo, "ceil_div": ceil_divide, "min": least, "max": most,
    "neg": lambda k, x, p: -x, "abs": lambda k, x, p: abs(x), "fma": fused,
    "eq": lambda k, x, y, p: x == y, "ne": lambda k, x, y, p: x != y,
    "lt": lambda k, x, y, p: x < y, "le": lambda k, x, y, p: x <= y,
    "gt": lambda k, x, y, p: x > y, "ge": lambda k, x, y, p: x >= y,
    "and": lambda k, x, y, p: x and y, "or": lambda k, x, y, p: x or y,
    "not": lambda k, x, p: not x, "bit_and": lambda k, x, y, p: x & y,
    "bit_or": lambda k, x, y, p: x | y, "bit_xor": lambda k, x, y, p: x ^ y,
    "bit_not": lambda k, x, p: ~x, "shl": shift_left, "shr": shift_right,
    "where": lambda k, c, x, y, p: x if c else y,
    "exp": function(math.exp), "exp2": function(two_to), "log": function(math.log),
    "log2": function(math.log2), "sqrt": function(math.sqrt), "rsqrt": function(inverse_root),
    "tanh": function(math.tanh), "sin": function(math.sin), "cos": function(math.cos),
    "floor": whole(math.floor), "ceil": whole(math.ceil), "round": whole(round),
}  # fmt: skip
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
CHECKED = {"div": check_divisor, "mod": check_divisor, "ceil_div": check_divisor,
           "shl": check_shift, "shr": check_shift}  # fmt: skip
COMBINE = {
    "add": plus, "max": most, "min": least, "exchange": lambda k, x, y: y,
    "store": lambda k, x, y: y, "and": lambda k, x, y: x & y, "or": lambda k, x, y: x | y,
    "xor": lambda k, x, y: x ^ y,
}  # fmt: skip


def finish(op: str, x, kind: Type):
    """The result as a value of its type."""
    return bool(x) if op in COMPARE else arithmetic(x, kind)
