"""The generated pages of the specification: `python -m vm.isa.document` writes them.

Appendix A has a section for each instruction, made from its class: how it is written, what its
fields take, its docstring as its meaning (rule `Exec/<name>`), the faults that its `check` refuses
(rule `Valid/<name>`) and those that it can end a run with. Appendix B has every error code. With
`--check` nothing is written and the exit status says whether a page is stale.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

from vm.isa import control, program  # noqa: F401  (the program module registers all instructions)
from vm.isa.bind_arguments import signature
from vm.isa.error_codes import CODES, FAMILIES
from vm.isa.instruction import INSTRUCTIONS, Attribute, Field, Instruction, Operand

SPECIFICATION = Path(__file__).parents[2] / "spec"

_CODE = re.compile(r"E0[0-9]{3}")
_WRITTEN_BY = "<!-- Written by `python -m vm.isa.document`: change the classes, not this page. -->"

_TAKES = {
    "integer": "a whole number", "number": "a number", "boolean": "true or false",
    "string": "a string", "dtype": "a dtype", "layout": "a layout",
    "shape": "a list of whole numbers", "table": "a list of numbers",
    "extents": "a list of whole numbers and expressions over sizes",
}  # fmt: skip

# The statements with a form of their own in the text.
_FORMS = {
    "if": "if condition { ... } else { ... }",
    "for": "for variable in range(start, stop, step) unroll hint { ... }",
    "while": "while condition { ... }",
    "group": "group name(warps=1) { ... }",
    "var": "var name: type = value",
    "jump": "break    # or: continue",
    "return": "return value",
}


def families() -> dict[str, list[type[Instruction]]]:
    """The instructions by the file that defines them, each file's in the order of its text."""
    found: dict[str, list[type[Instruction]]] = {}
    for kind in INSTRUCTIONS.values():
        found.setdefault(kind.__module__.rsplit(".", 1)[-1], []).append(kind)
    # Not in the order of imports, which depends on who comes first.
    return dict(sorted(found.items()))


# --- what can go wrong, from the source ---
def faults(functions: Iterable[Callable], cls: type) -> dict[str, list[str]]:
    """The codes that stand in some functions and in what they call, with their messages.

    `self.x` is looked up in `cls`, `machine.x` in the actors of the reference machine. Functions
    outside this package are not followed.
    """
    from vm.runtime.reference_actor import Actor

    found: dict[str, list[str]] = {}
    seen: set[Callable] = set()
    waiting = [(function, cls) for function in functions]
    while waiting:
        function, owner = waiting.pop(0)
        function = getattr(function, "__wrapped__", function)
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        if not function.__module__.startswith("vm.") or function.__qualname__ == "fail":
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                code, message = _raised(node)
                if code and message not in found.setdefault(code, []):
                    found[code].append(message)
            called = _called(node, function, owner, Actor)
            if called is not None:
                waiting.append(called)
    return dict(sorted(found.items()))


def _raised(call: ast.Call) -> tuple[str | None, str]:
    """The code and message of `refuse("E0205", "...")` and its like."""
    if len(call.args) < 2 or not isinstance(call.args[0], ast.Constant):
        return None, ""
    code = call.args[0].value
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return None, ""
    return code, "".join(_pieces(call.args[1]))


def _pieces(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        yield str(node.value)
    elif isinstance(node, ast.JoinedStr):
        for part in node.values:
            yield from _pieces(part)
    elif isinstance(node, ast.BinOp):
        yield from _pieces(node.left)
        yield from _pieces(node.right)
    else:
        yield "…"


def _called(node: ast.AST, function: FunctionType, owner: type, actor: type) -> Any:
    """What a name or attribute in a function stands for, with the class `self` is of there."""
    if isinstance(node, ast.Name):
        return function.__globals__.get(node.id), owner
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        looked_up = {"self": owner, "machine": actor, "instruction": owner}.get(node.value.id)
        found = inspect.getattr_static(looked_up, node.attr, None) if looked_up else None
        if isinstance(found, FunctionType) and found.__name__ != "refuse":
            return found, looked_up
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):  # super().check()
        for base in owner.__mro__[1:]:
            if node.attr in vars(base) and base is not Instruction:
                return vars(base)[node.attr], owner
    return None


# --- appendix A ---
def instructions_page() -> str:
    """Appendix A."""
    lines = [
        "# Appendix A: instructions", "", _WRITTEN_BY, "",
        "Every instruction: how it is written, what its fields take, its meaning (`Exec/...`), "
        "what is refused before it runs (`Valid/...`), and the faults that end a run. Fields with "
        "a default may be left out, and any field may be given by name. The types that fields "
        "take are explained in [chapter 2](02-types.md), the rules that hold for all of them in "
        "[chapter 4](04-validation.md) and [chapter 5](05-execution.md).", "",
        "A mark in \"compiled for\" says that a back end of this repository has a rule for the "
        "instruction; control is compiled everywhere.", "",
    ]  # fmt: skip
    for machine, title in ((False, "Core instructions"), (True, "Machine instructions")):
        lines += [f"## {title}", ""]
        for family, kinds in families().items():
            chosen = [kind for kind in kinds if ("." in kind.opcode) == machine]
            if chosen:
                lines += [f"### {family.replace('_', ' ').capitalize()}", ""]
                for kind in chosen:
                    lines += [*section(kind), ""]
    return "\n".join(lines).rstrip() + "\n"


def section(kind: type[Instruction]) -> Iterator[str]:
    """The lines about one instruction."""
    yield f"#### `{kind.opcode}`"
    yield ""
    for form in _written(kind):
        yield f"    {form}"
    yield ""
    if kind.fields:
        yield "| field | takes | default |"
        yield "|---|---|---|"
        for name, item in kind.fields.items():
            yield f"| `{name}` | {_takes(kind, name, item)} | {_default(item)} |"
        yield ""
    yield f"**Exec/{kind.opcode}.** {_one_line(inspect.getdoc(kind) or '')}"
    yield ""
    refused = faults([kind.check], kind)
    if not issubclass(kind, control.Control):
        refused = {**refused, "E0209": [*refused.get("E0209", []), "fields that do not fit"]}
        if any(isinstance(item, Operand) for item in kind.fields.values()):
            refused["E0203"] = [*refused.get("E0203", []), "an operand in another space"]
    if refused:
        yield f"**Valid/{kind.opcode}.** Refused: {_listed(refused)}."
        yield ""
    if faults_of_runs := faults([kind.run], kind):
        yield f"Ends a run with: {_listed(faults_of_runs)}."
        yield ""
    yield f"Compiled for: {compiled_for(kind)}."


def _written(kind: type[Instruction]) -> list[str]:
    if kind.opcode in _FORMS:
        return [_FORMS[kind.opcode]]
    forms = [signature(kind)] if kind.opcode not in ("and", "or", "not") else []
    if kind.operator is not None:
        operands = list(kind.fields)
        word = f"{kind.operator} " if kind.operator.isalpha() else kind.operator
        prefixed = f"{word}{operands[0]}"
        forms.append(prefixed if len(operands) == 1 else f" {kind.operator} ".join(operands))
    return forms


def _takes(kind: type[Instruction], name: str, item: Field) -> str:
    if isinstance(item, Attribute):
        if item.choices and len(item.choices) > 12:
            return "the name of a fragment of chapter 3"
        return " or ".join(f'`"{c}"`' for c in item.choices) or _TAKES[item.kind]
    named = {"scalar": "scalar", "register": "register tensor", "shared": "shared tile",
             "global": "global tile", "mbarrier": "mbarrier", "semaphore": "semaphore"}  # fmt: skip
    text = " or ".join(named[space] for space in item.spaces)
    kinds = getattr(kind, "kinds", None)
    if kinds is not None and name in getattr(kind, "conditions", ()):
        text += " of `bool`"
    elif kinds is not None:
        text += f" of {' or '.join('`bool`' if k == 'bool' else k + 's' for k in kinds)}"
    return text + (", any number of them" if item.repeated else "")


def _default(item: Field) -> str:
    if isinstance(item, Operand):
        return "may be left out" if item.optional else ""
    if item.required:
        return ""
    if item.default is None:
        return "none"
    shown = f'"{item.default}"' if isinstance(item.default, str) else str(item.default).lower()
    return f"`{shown}`"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _listed(found: dict[str, list[str]]) -> str:
    parts = []
    for code, messages in sorted(found.items()):
        shown = "; ".join(message for message in messages if message.strip("… "))
        parts.append(f"[{code}](B-errors.md#{code.lower()})" + (f" ({shown})" if shown else ""))
    return ", ".join(parts)


def compiled_for(kind: type[Instruction]) -> str:
    """The targets that have a rule for the instruction, or take it as it is."""
    from vm.compiler.pipeline import TARGETS
    from vm.compiler.selection import SLOTWISE, UNCHANGED

    everywhere = issubclass(kind, (*SLOTWISE, *UNCHANGED))
    names = [
        name for name, target in TARGETS.items()
        if not target.rules.lacks(kind, target.capability)
        and (everywhere or kind.opcode.startswith(target.prefix)
             or ("." not in kind.opcode
                 and any(r.capability <= target.capability for r in target.rules.of(kind))))
    ]  # fmt: skip
    if everywhere and len(names) == len(TARGETS):
        return "every target"
    return ", ".join(names) or "none"


# --- appendix B ---
def errors_page() -> str:
    """Appendix B."""
    lines = [
        "# Appendix B: errors", "", _WRITTEN_BY, "",
        "Every code with its cause, an example that has it, the part of the example that the "
        "message points at, and what to do. `vm explain CODE` prints the same.", "",
        "| codes | family |", "|---|---|",
        *(f"| {family}xx | {meaning} |" for family, meaning in FAMILIES.items()), "",
    ]  # fmt: skip
    for code, each in sorted(CODES.items()):
        lines += [f"### {code}", "", f"**Error/{code}.** {each.title}. {each.cause}", ""]
        lines += ["```", *each.example.strip("\n").split("\n"), "```", ""]
        if each.at:
            lines += [f"It points at `{_one_line(each.at)}`.", ""]
        lines += [f"Fix: {each.fix}", ""]
    return "\n".join(lines).rstrip() + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "A-instructions.md": instructions_page,
    "B-errors.md": errors_page,
}


def stale_pages() -> list[str]:
    """The generated pages that are not what the classes say now."""
    return [
        name for name, page in PAGES.items()
        if not (SPECIFICATION / name).exists()
        or (SPECIFICATION / name).read_text(encoding="utf-8") != page()
    ]  # fmt: skip


def main(arguments: list[str]) -> int:
    stale = stale_pages()
    if "--check" in arguments:
        for name in stale:
            print(f"spec/{name} is stale: run python -m vm.isa.document")
        return 1 if stale else 0
    SPECIFICATION.mkdir(exist_ok=True)
    for name in stale:
        (SPECIFICATION / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"spec/{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
