"""Calls of every instruction that rules Valid/call, Valid/space and Valid/attribute refuse.

The fields of the instructions are those of appendix A; which fault each way of getting a call wrong
has, and where, is said here by the rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vm.isa import control, program  # noqa: F401  (the program module registers all instructions)
from vm.isa.elementwise import Elementwise
from vm.isa.instruction import INSTRUCTIONS, Attribute, Instruction, Operand

# What stands before each call: values of every kind.
SETUP = {
    "f": "f = load(A[0 +: 64], layout=spatial(64))\n",
    "i": "i = load(I[0 +: 64], layout=spatial(64))\n",
    "c": "c = load(I[0 +: 64]) == 0\n",
    "h": "h = fill(1.0, f16, [16, 16])\n",
    "one": "one = fill(1.0, f32, [1])\n",
    "s": "s = shared_alloc(f32, [64])\n",
    "m": "m = mbarrier_alloc([2])\n",
    "turn": "turn = semaphore_alloc([2])\n",
}

# The required arguments of a right call, in order.
ARGUMENTS = {
    "fma": "f, f, f", "where": "c, f, f", "fill": "1.0, f32, [64]", "iota": "i32, [64]",
    "cast": "i, f32", "view": "f, u32, spatial(64)", "relayout": "f, local(64).replicated(64)",
    "transpose": "h", "reshape": "f, [8, 8]", "broadcast": "f, [2, 64]", "repeat": "f, 2",
    "reduce": "f, 0", "item": "one", "shared_alloc": "f32, [64]", "global_view": "A, f32, 8",
    "load": "A[0 +: 64]", "store": "C[0 +: 64], f", "load_scalar": "I[0]",
    "gather": "A[0 +: 64], i", "scatter": "C[0 +: 64], i, f", "atomic": "D[0 +: 64], i",
    "copy_async": "s, A[0 +: 64]", "barrier": "1, 2", "dot": "h, h", "print": "f",
    "assert": "c", "copy": "f", "undefined": "f32, [64], spatial(64)",
    "pick": "f, [0], spatial(64)", "pad": "f, spatial(64).local(2)",
    "interleave": "spatial(64), f", "spread": "x", "uniform": "i",
    "slot_constants": "[1.0], f32, spatial(64)", "mbarrier_alloc": "[2]", "mbarrier_arrive": "m[0]",
    "mbarrier_expect": "m[0], 256", "mbarrier_wait": "m[0], 0", "copy_bulk": "s, A[0 +: 64], m[0]",
    "global_alloc": "f32, [N, 64]", "semaphore_alloc": "[2]", "semaphore_wait": "turn[0], 1",
    "semaphore_release": "turn[0], 1",
}  # fmt: skip

WRONG_ATTRIBUTES = {
    "integer": "true", "number": "true", "boolean": "7", "string": "7", "dtype": "7", "layout": "7",
    "shape": "7", "extents": "7", "table": "7",
}  # fmt: skip


def arguments(kind: type[Instruction]) -> list[str] | None:
    """The arguments of a right call, one for each required field (and for fill two more); None
    for an instruction that is not known here."""
    text = ARGUMENTS.get(kind.opcode)
    if text is None and kind.fields and not issubclass(kind, Elementwise):
        return None
    if text is None:
        kinds = getattr(kind, "kinds", ())
        name = "f" if "float" in kinds else "i" if "integer" in kinds else "c"
        text = ", ".join(name for item in kind.fields.values() if isinstance(item, Operand))
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def assertion(directive: str, before: str, call: str, code: str, place: str) -> list[str]:
    """One assertion about a call behind what makes its operands."""
    return [f'{directive}("""', *(before + call).split("\n"), f'""", "{code}", at="{place}")']


def setup(call: str) -> str:
    """The statements that make the operands named in a call."""
    words = set(re.findall(r"\w+", call))
    return "".join(statement for name, statement in SETUP.items() if name in words)


def malformed(kind: type[Instruction], given: list[str]) -> Iterator[list[str]]:
    """Two calls that do not even read: a comma too many, and no parentheses."""
    call = kind.opcode
    first = given[0] if given else ""
    doubled = f"{call}({first}{',' if first else ''}, 1)"
    place = f"{call}({first}{',' if first else ''}«,»"
    yield assertion("assert_malformed", "", f"y = {doubled}", "E0102", place)
    yield assertion("assert_malformed", "", f"y = {call} 7", "E0102", f"{call} «7»")


def wrong_calls(kind: type[Instruction], given: list[str]) -> Iterator[list[str]]:
    """Rule Valid/call: unknown, given twice, missing, too many."""
    call, names = kind.opcode, list(kind.fields)
    repeated = any(isinstance(f, Operand) and f.repeated for f in kind.fields.values())
    inside = ", ".join(given)
    more = f"{inside}, " if inside else ""

    def invalid(text: str, place: str) -> list[str]:
        return assertion("assert_invalid", "", text, "E0209", place)

    yield invalid(f"y = {call}({more}nonsense=7)", "«nonsense=7»")
    if not repeated:
        filled = [*given, *("0" for _ in names[len(given) :])]
        text = ", ".join([*filled, "77777"])
        yield invalid(f"y = {call}({text})", "77777")
    required = [
        name for name, item in kind.fields.items()
        if (isinstance(item, Attribute) and item.required)
        or (isinstance(item, Operand) and not item.optional and not item.repeated)
    ]  # fmt: skip
    if required:
        yield invalid(f"y = {call}()", f"{call}()")
        if given:
            again = f"{names[0]}={given[0]}"
            yield invalid(f"y = {call}({inside}, {again})", f", «{again}»)")


def wrong_spaces(kind: type[Instruction], given: list[str]) -> Iterator[list[str]]:
    """Rule Valid/space: memory where values are taken, a value where memory is."""
    for position, item in enumerate(kind.fields.values()):
        if not isinstance(item, Operand) or item.repeated or position >= len(given):
            continue
        memory = {"global", "shared"} & set(item.spaces)
        wrong = "f" if memory else "A"
        others = [*given[:position], wrong, *given[position + 1 :]]
        before = ", ".join(given[:position])
        place = f"{kind.opcode}({before}{', ' if before else ''}«{wrong}»"
        text = f"y = {kind.opcode}({', '.join(others)})"
        yield assertion("assert_invalid", setup(text), text, "E0203", place)


def wrong_attributes(kind: type[Instruction], given: list[str]) -> Iterator[list[str]]:
    """Rule Valid/attribute: of another kind, not among the choices, known only at run time."""
    if any(isinstance(item, Operand) and item.repeated for item in kind.fields.values()):
        return  # by position they would come behind the attributes
    operands = [g for g, item in zip(given, kind.fields.values(), strict=False)
                if isinstance(item, Operand)]  # fmt: skip
    attributes = {n: item for n, item in kind.fields.items() if isinstance(item, Attribute)}
    right = dict(zip(kind.fields, given, strict=False))
    for name, item in attributes.items():
        others = [f"{n}={right[n]}" for n in attributes if n in right and n != name]
        tries = [(WRONG_ATTRIBUTES[item.kind], "E0205")]
        if item.choices:
            tries = [('"nonsense"', "E0209")]
        elif item.kind == "integer":
            tries.append(("n", "E0303"))
        for value, code in tries:
            text = f"y = {kind.opcode}({', '.join([*operands, *others, f'{name}={value}'])})"
            shown = value.replace('"', '\\"')
            yield assertion("assert_invalid", setup(text), text, code, f"{name}=«{shown}»)")


def results(kind: type[Instruction], given: list[str]) -> Iterator[list[str]]:
    """Rules Valid/results and Syntax/execute."""
    if kind.opcode == "group_index":
        return  # it stands in groups alone
    call = f"{kind.opcode}({', '.join(given)})"
    if kind.opcode in WITHOUT_RESULT:
        yield assertion("assert_invalid", setup(call), f"y = {call}", "E0209", f"y = «{call}»")
        yield assertion("assert_invalid", setup(call), f"y = 1 + {call}", "E0209", f"1 + «{call}»")
        return
    more = f"y, z, v, w = {call}"
    yield assertion("assert_invalid", setup(call), more, "E0209", more.replace('"', '\\"'))
    if kind.pure:
        before = "nothing = 0\n"
        yield assertion("assert_invalid", setup(call) + before, call, "E0106", f"0\\n«{call}»")


FAMILIES = {"nv": "nvidia", "amd": "amd"}

WITHOUT_RESULT = (
    "store", "scatter", "copy_async", "commit_async", "wait_async", "synchronize", "barrier",
    "exit", "print", "assert", "grid_wait", "grid_launch_dependents", "mbarrier_arrive",
    "mbarrier_expect", "mbarrier_wait", "copy_bulk", "semaphore_wait",
    "semaphore_release",
)  # fmt: skip


def lines() -> Iterator[str]:
    for _, kind in sorted(INSTRUCTIONS.items()):
        if issubclass(kind, control.Control) or kind.opcode in ("and", "or", "not"):
            continue
        machine = "." in kind.opcode
        given = None if machine else arguments(kind)
        groups = [("malformed", "Text/malformed", malformed), ("calls", "Valid/call", wrong_calls)]
        if given is not None:
            groups += [("spaces", "Valid/space", wrong_spaces),
                       ("attributes", "Valid/attribute", wrong_attributes),
                       ("results", "Valid/results", results)]  # fmt: skip
        for title, rule, make in groups:
            made = list(make(kind, given or []))
            if made:
                prefix = kind.opcode.split(".")[0]
                needs = f' needs "{FAMILIES[prefix]}"' if machine else ""
                yield ""
                yield (f'test "{kind.opcode}: {title}"{needs} rules "{rule}", '
                       f'"Valid/{kind.opcode}" {{')  # fmt: skip
                for each in made:
                    yield "  " + each[0]
                    yield from each[1:]
                yield "}"
