"""Syntax to text: the one way a program is written, used by `print` and by `vm fmt`.

`parse_text(format_text(t)) == t` for every tree, and formatting twice changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from vm.isa import syntax

WIDTH = 100
INDENT = "  "

# How tightly each operator binds; all infix operators associate to the left.
_PRECEDENCE = {
    "or": 1, "and": 2, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4,
    "|": 5, "^": 6, "&": 7, "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10,
}  # fmt: skip
_NOT, _COMPARISON, _PREFIX, _POSTFIX = 3, 4, 11, 12


def format_text(text: syntax.Text) -> str:
    """The whole file, ending in a newline."""
    lines = [*text.trivia.leading, _with_trailing(f"vm {text.version}", text.trivia)]
    previous: syntax.Item | None = None
    for item in text.items:
        apart = not isinstance(item, syntax.Constant) or not isinstance(previous, syntax.Constant)
        if item.trivia.blank_before or (apart and previous is not None):
            lines.append("")
        lines += _item(item)
        previous = item
    return "\n".join([*lines, *text.closing]) + "\n"


def format_definition(definition: syntax.Definition) -> str:
    """One program or reference."""
    return "\n".join(_item(definition)) + "\n"


def format_expression(expression: syntax.Expression) -> str:
    """One expression on one line."""
    return _expression(expression, 0)


def format_literal(value: int | float | bool | str, base: int = 10) -> str:
    """A literal that reads back as exactly this value; a whole number in base 2, 10 or 16."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return format(value, {2: "#b", 10: "d", 16: "#x"}[base])
    if isinstance(value, str):
        if "\n" in value and '"""' not in value and not value.endswith('"'):
            return f'"""{value}"""'
        return _quoted(value)
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    text = repr(float(value))
    return text if "." in text or "e" in text else text + ".0"


def _quoted(text: str) -> str:
    """A string on one line."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'


def _with_trailing(line: str, trivia: syntax.Trivia) -> str:
    return f"{line}  {trivia.trailing}" if trivia.trailing else line


def _item(item: syntax.Item) -> list[str]:
    if isinstance(item, syntax.Constant):
        head = f"{item.kind} {item.name} = "
        lines = _wrapped(head, item.value, "")
    elif isinstance(item, syntax.Case):
        sizes = ", ".join(_keyword(size) for size in item.sizes)
        lines = [f"case {item.name}({sizes}) {{", *_body(item.body, INDENT), "}"]
    elif isinstance(item, syntax.Test):
        lines = [*_test_header(item), *_body(item.body, INDENT), "}"]
    else:
        lines = _definition(item)
    lines[-1] = _with_trailing(lines[-1], item.trivia)
    return [*item.trivia.leading, *lines]


def _test_header(item: syntax.Test) -> list[str]:
    clauses = [
        f"{word} {', '.join(map(_quoted, texts))}"
        for word, texts in (("needs", item.needs), ("rules", item.rules))
        if texts
    ]
    head = f"test {_quoted(item.name)}"
    one_line = " ".join([head, *clauses, "{"])
    if len(one_line) <= WIDTH:
        return [one_line]
    return [head, *(INDENT + clause for clause in clauses), "{"]


def _definition(item: syntax.Definition) -> list[str]:
    head = f"{item.kind} {item.name}("
    parameters = [f"{p.name}: {_expression(p.type, 0)}" for p in item.parameters]
    one_line = head + ", ".join(parameters) + ")"
    if len(one_line) <= WIDTH:
        lines = [one_line]
    else:
        lines = _filled(head, parameters, ")")
    where = ", ".join(_expression(fact, 0) for fact in item.where)
    clauses = []
    if item.kind == "program":
        grid = ", ".join(_expression(extent, 0) for extent in item.grid)
        clauses.append(f"grid ({grid}) threads {_expression(item.threads, 0)}")
    if where:
        clauses.append(f"where {where}")
    if clauses:
        lines.append(INDENT + " ".join(clauses))
        return [*lines, "{", *_body(item.body, INDENT), "}"]
    lines[-1] += " {"
    return [*lines, *_body(item.body, INDENT), "}"]


def _filled(head: str, parts: list[str], tail: str) -> list[str]:
    """`head` and the parts, as many to a line as fit, aligned behind `head`."""
    lines, line = [], head
    for position, part in enumerate(parts):
        piece = part + ("," if position + 1 < len(parts) else tail)
        if line.strip() and line != head and len(line) + 1 + len(piece) > WIDTH:
            lines.append(line.rstrip())
            line = " " * len(head)
        line += piece + " "
    return [*lines, line.rstrip()]


def _body(block: syntax.Block, indent: str) -> Iterator[str]:
    for position, statement in enumerate(block.statements):
        if statement.trivia.blank_before and position > 0:
            yield ""
        for comment in statement.trivia.leading:
            yield indent + comment
        lines = list(_statement(statement, indent))
        lines[-1] = _with_trailing(lines[-1], statement.trivia)
        yield from lines
    for comment in block.closing:
        yield indent + comment


def _statement(statement: syntax.Statement, indent: str) -> Iterator[str]:
    match statement:
        case syntax.Bind(names, value):
            yield from _wrapped(f"{indent}{', '.join(names)} = ", value, indent)
        case syntax.Declare(name, type_, value):
            head = f"{indent}var {name}"
            if type_ is not None:
                head += f": {_expression(type_, 0)}"
            yield from [head] if value is None else _wrapped(head + " = ", value, indent)
        case syntax.Assign(name, value):
            yield from _wrapped(f"{indent}{name} := ", value, indent)
        case syntax.Execute(call):
            yield from _wrapped(indent, call, indent)
        case syntax.If(condition, then, otherwise):
            yield f"{indent}if {_expression(condition, 0)} {{"
            yield from _body(then, indent + INDENT)
            yield from _else(otherwise, indent)
        case syntax.For(name, bounds, unroll, body):
            inner = ", ".join(_expression(bound, 0) for bound in bounds)
            hint = f" unroll {_expression(unroll, 0)}" if unroll is not None else ""
            yield f"{indent}for {name} in range({inner}){hint} {{"
            yield from _body(body, indent + INDENT)
            yield indent + "}"
        case syntax.While(condition, body):
            yield f"{indent}while {_expression(condition, 0)} {{"
            yield from _body(body, indent + INDENT)
            yield indent + "}"
        case syntax.Group(name, keywords, body):
            inner = ", ".join(_keyword(keyword) for keyword in keywords)
            yield f"{indent}group {name}({inner}) {{"
            yield from _body(body, indent + INDENT)
            yield indent + "}"
        case syntax.Jump(kind):
            yield indent + kind
        case syntax.Return(value):
            yield from _wrapped(f"{indent}return ", value, indent)


def _else(otherwise: syntax.Block | None, indent: str) -> Iterator[str]:
    if otherwise is None:
        yield indent + "}"
        return
    only = otherwise.statements[0] if len(otherwise.statements) == 1 else None
    plain = isinstance(only, syntax.If) and only.trivia == syntax.Trivia()
    if plain and not otherwise.closing:
        first, *rest = _statement(only, indent)
        yield f"{indent}}} else {first.strip()}"
        yield from rest
        return
    yield indent + "} else {"
    yield from _body(otherwise, indent + INDENT)
    yield indent + "}"


def _wrapped(head: str, value: syntax.Expression, indent: str) -> list[str]:
    """`head` and the expression: on one line where it fits, else a call's arguments filled in."""
    line = head + _expression(value, 0)
    # A quoted text has lines of its own, which no other way of writing the call would change.
    if len(line) <= WIDTH or '"""' in line or not isinstance(value, syntax.Call):
        return [line]
    parts = [_expression(argument, 0) for argument in value.arguments]
    parts += [_keyword(keyword) for keyword in value.keywords]
    opening = f"{head}{value.function}("
    if not parts:
        return [line]
    if len(opening) > WIDTH // 2:
        deeper = indent + 2 * INDENT
        return [opening, *_filled(deeper, parts, ")")]
    return _filled(opening, parts, ")")


def _keyword(keyword: syntax.Keyword) -> str:
    return f"{keyword.name}={_expression(keyword.value, 0)}"


def _index(index: syntax.Index) -> str:
    if index.offset is None:
        return ":"
    offset = _expression(index.offset, 0)
    return offset if index.extent is None else f"{offset} +: {_expression(index.extent, 0)}"


def _expression(expression: syntax.Expression, outer: int) -> str:
    """The expression, in parentheses where it binds less tightly than `outer`."""
    match expression:
        case syntax.Literal(value, _, base):
            text = format_literal(value, base)
            number = not isinstance(value, (bool, str))
            return f"({text})" if number and outer > _PREFIX else text
        case syntax.Name(text):
            return text
        case syntax.Call(function, arguments, keywords):
            return f"{function}({_arguments(arguments, keywords)})"
        case syntax.Member(base, name, arguments, keywords):
            call = "" if arguments is None else f"({_arguments(arguments, keywords)})"
            return f"{_expression(base, _POSTFIX)}.{name}{call}"
        case syntax.Subscript(base, indices):
            inner = ", ".join(_index(index) for index in indices)
            return f"{_expression(base, _POSTFIX)}[{inner}]"
        case syntax.Sequence(items):
            return "[" + ", ".join(_expression(item, 0) for item in items) + "]"
        case syntax.Operation("not", (operand,)):
            text, level = f"not {_expression(operand, _NOT)}", _NOT
        case syntax.Operation(operator, (operand,)):
            inner = _expression(operand, _PREFIX)
            # `-5` is a literal, so the negation of the literal 5 needs its parentheses.
            if isinstance(operand, syntax.Literal) and operator == "-":
                inner = f"({inner})"
            text, level = f"{operator}{inner}", _PREFIX
        case syntax.Operation(operator, (left, right)):
            level = _PRECEDENCE[operator]
            # Comparisons do not chain, so both sides of one must bind more tightly.
            left_level = level + 1 if level == _COMPARISON else level
            text = f"{_expression(left, left_level)} {operator} {_expression(right, level + 1)}"
    return f"({text})" if level < outer else text


def _arguments(
    arguments: tuple[syntax.Expression, ...], keywords: tuple[syntax.Keyword, ...]
) -> str:
    parts = [_expression(argument, 0) for argument in arguments]
    return ", ".join(parts + [_keyword(keyword) for keyword in keywords])
