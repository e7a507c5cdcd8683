"""Text to syntax.

`parse_text` makes the tree of a whole file, `parse_expression` that of one expression. Only
`VmError` leaves this file: malformed text has a code of E01xx and the place of the first token
that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from importlib.resources import files

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from vm.errors import Origin, Source, VmError, fail
from vm.isa import lalr, syntax
from vm.isa.comments import attach_comments
from vm.isa.lalr import Span, Token

LANGUAGE_VERSION = 1
MAXIMUM_SOURCE_BYTES = 1_000_000
MAXIMUM_NESTING = 256
MAXIMUM_DIGITS = 4_000
MAXIMUM_BITS = 4_096

RESERVED = frozenset(
    (
        "if", "else", "for", "while", "group", "var", "break", "continue", "return",
        "and", "or", "not", "true", "false", "inf", "nan",
    )
)  # fmt: skip

# A newline before one of these continues the item or statement that is being written.
_CONTINUES_BEFORE = {"GRID", "THREADS", "WHERE", "NEEDS", "RULES", "LBRACE", "ELSE"}
# A newline after one of these cannot end anything.
_CONTINUES_AFTER = {
    "COMMA", "EQUAL", "SIGN", "FACTOR", "SHIFT", "COMPARE", "BITS_OR", "BITS_XOR", "BITS_AND",
    "TILDE", "RANGE", "AND", "OR", "NOT", "__ANON_0", "WHERE", "GRID", "THREADS", "ELSE",
    "NEEDS", "RULES",
}  # fmt: skip
_CLOSING = {"RPAR": "LPAR", "RSQB": "LSQB", "RBRACE": "LBRACE"}


# Words that are keywords only at one place each, and names everywhere else.
_ITEM_WORDS = {"PROGRAM", "REFERENCE", "CASE", "TEST", "CONSTANT_KIND"}
_CLAUSE_WORDS = {"GRID", "THREADS", "WHERE"}
_TEST_WORDS = {"NEEDS", "RULES"}
_SOFT_WORDS = _ITEM_WORDS | _CLAUSE_WORDS | _TEST_WORDS | {"VM", "IN", "UNROLL", "_RANGE_WORD"}
# Tokens that can end an operand: a clause of a header can begin only behind one.
_ENDS_OPERAND = {"NAME", "INT", "FLOAT", "STRING", "QUOTATION", "TRUTH", "RPAR", "RSQB"}


def _kept(words: Iterable[Token], of_file: bool) -> Iterator[Token]:
    """Keeps the newlines that end a statement, and gives soft keywords back as names; `of_file`
    says whether what is read is a whole file, which begins with `vm`."""
    open_brackets: list[Token] = []
    previous: Token | None = None
    held: Token | None = None
    header: set[str] = set()  # clauses of the item, between its first word and its brace
    loop = None  # tokens since `for`, up to its brace
    for token in words:
        inside = bool(open_brackets) and open_brackets[-1].type != "LBRACE"
        if token.type == "_SEPARATOR":
            if not inside or ";" in token:
                held = held or token
            continue
        if token.type in _SOFT_WORDS:
            behind_operand = previous is not None and previous.type in _ENDS_OPERAND
            if token.type == "VM":
                keyword = previous is None and of_file
            elif token.type in _ITEM_WORDS:
                keyword = not open_brackets and held is not None and _can_end(previous)
            elif token.type in _CLAUSE_WORDS | _TEST_WORDS:
                keyword = token.type in header and not open_brackets and behind_operand
            elif token.type == "UNROLL":
                keyword = loop is not None and not inside and previous.type == "RPAR"
            else:
                keyword = loop == {"IN": 1, "_RANGE_WORD": 2}[token.type]
            if not keyword:
                token.type = "NAME"
        if token.type in ("PROGRAM", "REFERENCE"):
            header = _CLAUSE_WORDS
        elif token.type == "TEST":
            header = _TEST_WORDS
        elif token.type == "FOR":
            loop = -1
        elif token.type == "LBRACE":
            header, loop = set(), None
        if loop is not None:
            loop += 1
        if held is not None:
            continues = token.type in _CONTINUES_BEFORE or not _can_end(previous)
            if ";" in held or not continues:
                yield held
            held = None
        if token.type in ("LPAR", "LSQB", "LBRACE"):
            open_brackets.append(token)
            if len(open_brackets) > MAXIMUM_NESTING:
                raise _TooDeep(token)
        elif token.type in _CLOSING and open_brackets:
            open_brackets.pop()
        previous = token
        yield token
    if held is not None:
        yield held


def _can_end(previous: Token | None) -> bool:
    """Whether a newline behind this token can end a statement or item."""
    return previous is not None and previous.type not in _CONTINUES_AFTER


class _TooDeep(Exception):
    def __init__(self, place: object):
        self.place = place


class _Build:
    """Builds the tree from the bottom: each method is the grammar rule it is named for."""

    def __init__(self, source: Source):
        self._source = source
        # Depth of every node made so far: deep chains need no bracket (`- - - x`, `a + b + ...`).
        self._depth: dict[int, int] = {}
        self._made: list[object] = []

    def origin(self, span: Span) -> Origin:
        first, last = span
        return Origin(
            self._source.name, first.line, first.column, last.end_line, last.end_column,
            self._source,
        )  # fmt: skip

    def _node(self, kind: type, origin: Origin, *values: object, **more: object):
        node = kind(*values, origin=origin, **more)
        depth = self._depth
        below = 0
        for value in values:
            for part in value if value.__class__ is tuple else (value,):
                below = max(below, depth.get(id(part), 0))
        if below >= MAXIMUM_NESTING:
            raise _TooDeep(origin)
        depth[id(node)] = below + 1
        self._made.append(node)  # keeps the id from being used again
        return node

    def _fault(self, code: str, message: str, origin: Origin, label: str, fix: str) -> VmError:
        return fail(code, message, origin, label, fix=fix)

    # --- items ---
    def start(self, span, parts):
        version, *items = parts
        return self._node(syntax.Text, self.origin(span), version, tuple(items))

    def version(self, span, parts):
        if str(parts[0]) != str(LANGUAGE_VERSION):
            raise fail(
                "E0103",
                f"this file is written in version {parts[0]:.20} of the language",
                self.origin(span),
                f"version {LANGUAGE_VERSION} is the one this machine knows",
                fix=f"write `vm {LANGUAGE_VERSION}`, or use a machine that knows that version",
            )
        return LANGUAGE_VERSION

    def constant(self, span, parts):
        kind, name, value = parts
        return self._node(
            syntax.Constant, self.origin(span), str(kind), self._defined(name), value
        )

    def program(self, span, parts):
        name, parameters, grid, threads, facts, block = parts
        return self._node(
            syntax.Definition, self.origin(span), "program", self._defined(name),
            parameters or (), grid, threads, facts or (), block,
        )  # fmt: skip

    def reference(self, span, parts):
        name, parameters, facts, block = parts
        return self._node(
            syntax.Definition, self.origin(span), "reference", self._defined(name),
            parameters or (), (), None, facts or (), block,
        )  # fmt: skip

    def case(self, span, parts):
        name, sizes, block = parts
        return self._node(
            syntax.Case, self.origin(span), self._defined(name), sizes or (), block
        )

    def test(self, span, parts):
        name, needs, rules, block = parts
        return self._node(
            syntax.Test, self.origin(span), unquote(str(name)), needs or (), rules or (), block
        )

    def strings(self, span, parts):
        return tuple(unquote(str(part)) for part in parts)

    def parameter(self, span, parts):
        name, type_ = parts
        return self._node(syntax.Parameter, self.origin(span), self._defined(name), type_)

    def _list(self, span, parts):
        return tuple(part for part in parts if part is not None)

    parameters = facts = expressions = indices = arguments = keywords = _list

    # --- statements ---
    def block(self, span, parts):
        return self._node(
            syntax.Block, self.origin(span), tuple(part for part in parts if part is not None), ()
        )

    def bind(self, span, parts):
        *names, value = parts
        names = tuple(self._defined(name) for name in names)
        return self._node(syntax.Bind, self.origin(span), names, value)

    def declare(self, span, parts):
        name, type_, value = parts
        return self._node(syntax.Declare, self.origin(span), self._defined(name), type_, value)

    def assign(self, span, parts):
        name, value = parts
        return self._node(syntax.Assign, self.origin(span), str(name), value)

    def execute(self, span, parts):
        (call,) = parts
        dotted = isinstance(call, syntax.Member) and call.arguments is not None
        if not isinstance(call, syntax.Call) and not dotted:
            raise self._fault(
                "E0106", "this expression is computed and thrown away", self.origin(span),
                "only an instruction can stand alone", "bind it: `name = ...`",
            )  # fmt: skip
        return self._node(syntax.Execute, self.origin(span), call)

    def _if(self, span, parts):
        condition, then, otherwise = parts
        if isinstance(otherwise, syntax.If):
            otherwise = self._node(syntax.Block, otherwise.origin, (otherwise,), ())
        return self._node(syntax.If, self.origin(span), condition, then, otherwise)

    def _for(self, span, parts):
        name, bounds, unroll, body = parts
        if len(bounds) > 3:
            raise self._fault(
                "E0102", "range takes at most start, stop and step", self.origin(span),
                f"{len(bounds)} bounds", "write range(stop), range(start, stop) or add a step",
            )  # fmt: skip
        return self._node(
            syntax.For, self.origin(span), self._defined(name), bounds, unroll, body
        )

    def _while(self, span, parts):
        return self._node(syntax.While, self.origin(span), *parts)

    def group(self, span, parts):
        name, keywords, body = parts
        return self._node(
            syntax.Group, self.origin(span), self._defined(name), keywords or (), body
        )

    def jump(self, span, parts):
        return self._node(syntax.Jump, self.origin(span), str(parts[0]))

    def _return(self, span, parts):
        return self._node(syntax.Return, self.origin(span), parts[0])

    # --- expressions ---
    def _chain(self, span, parts):
        value = parts[0]
        for operator, operand in zip(parts[1::2], parts[2::2], strict=True):
            value = self._operation(str(operator), value, operand)
        return value

    bits_or = bits_xor = bits_and = shift = sum = product = _chain

    def _words(word):
        def build(self, span, parts):
            value = parts[0]
            for operand in parts[1:]:
                value = self._operation(word, value, operand)
            return value

        return build

    either = _words("or")
    both = _words("and")

    def comparison(self, span, parts):
        left, operator, right = parts
        return left if operator is None else self._operation(str(operator), left, right)

    def _operation(self, operator, left, right):
        return self._node(
            syntax.Operation, left.origin.to(right.origin), operator, (left, right)
        )

    def prefix(self, span, parts):
        operator, operand = parts
        # `-5` is one literal; `-(5)` and `- 5` negate one.
        at = operand.origin
        adjacent = (at.line, at.column) == (operator.line, operator.column + 1)
        if operator == "-" and adjacent and isinstance(operand, syntax.Literal):
            value = operand.value
            alone = at.text_line()[at.column - 1] != "("
            if alone and not isinstance(value, (bool, str)):
                return self._node(syntax.Literal, self.origin(span), -value, base=operand.base)
        return self._node(syntax.Operation, self.origin(span), str(operator), (operand,))

    def prefix_not(self, span, parts):
        return self._node(syntax.Operation, self.origin(span), "not", (parts[0],))

    def name(self, span, parts):
        return self._node(syntax.Name, self.origin(span), self._used(parts[0]))

    def call(self, span, parts):
        name, arguments = parts
        positional, keywords = self._split(arguments)
        return self._node(
            syntax.Call, self.origin(span), self._used(name), positional, keywords
        )

    def member(self, span, parts):
        base, name = parts
        return self._node(syntax.Member, self.origin(span), base, str(name), None, ())

    def method(self, span, parts):
        base, name, arguments = parts
        positional, keywords = self._split(arguments)
        return self._node(
            syntax.Member, self.origin(span), base, str(name), positional, keywords
        )

    def subscript(self, span, parts):
        base, indices = parts
        return self._node(syntax.Subscript, self.origin(span), base, indices)

    def index(self, span, parts):
        return self._node(syntax.Index, self.origin(span), parts[0], None)

    def tile(self, span, parts):
        offset, _, extent = parts
        return self._node(syntax.Index, self.origin(span), offset, extent)

    def whole(self, span, parts):
        return self._node(syntax.Index, self.origin(span), None, None)

    def sequence(self, span, parts):
        return self._node(syntax.Sequence, self.origin(span), parts[0] or ())

    def parenthesized(self, span, parts):
        (inner,) = parts
        node = replace(inner, origin=self.origin(span))
        self._depth[id(node)] = self._depth.get(id(inner), 0)
        self._made.append(node)
        return node

    def keyword(self, span, parts):
        name, value = parts
        return self._node(syntax.Keyword, self.origin(span), str(name), value)

    def number(self, span, parts):
        (token,) = parts
        text = str(token)
        if len(text) > MAXIMUM_DIGITS:
            raise self._fault(
                "E0105", f"a number of {len(text)} digits", self.origin(span),
                f"the limit is {MAXIMUM_DIGITS}", "no type here needs that many digits",
            )  # fmt: skip
        try:
            value = _float(text) if token.type == "FLOAT" else int(text, 0)
        except (ValueError, OverflowError):
            raise self._fault(
                "E0101", f"`{text}` is not a number", self.origin(span), "cannot be read",
                "write 12, 0x1F, 0b101, 1.5, 1e-3, 0x1.8p3, inf or nan",
            ) from None  # fmt: skip
        if isinstance(value, int) and value.bit_length() > MAXIMUM_BITS:
            raise self._fault(
                "E0105", f"a number of {value.bit_length()} bits", self.origin(span),
                f"the limit is {MAXIMUM_BITS}", "no type here needs that many bits",
            )  # fmt: skip
        base = {"0x": 16, "0b": 2}.get(text[:2].lower(), 10)
        return self._node(syntax.Literal, self.origin(span), value, base=base)

    def string(self, span, parts):
        return self._node(syntax.Literal, self.origin(span), unquote(str(parts[0])))

    def quotation(self, span, parts):
        return self._node(syntax.Literal, self.origin(span), str(parts[0])[3:-3])

    def truth(self, span, parts):
        return self._node(syntax.Literal, self.origin(span), str(parts[0]) == "true")

    # --- names ---
    def _used(self, token: Token) -> str:
        if token in RESERVED:
            raise self._fault(
                "E0104", f"`{token}` is a word of the language", self.origin(token),
                "and cannot be a name", "choose another name",
            )  # fmt: skip
        return str(token)

    _defined = _used

    def _split(self, arguments):
        arguments = arguments or ()
        positional = tuple(a for a in arguments if not isinstance(a, syntax.Keyword))
        keywords = tuple(a for a in arguments if isinstance(a, syntax.Keyword))
        if any(isinstance(argument, syntax.Keyword) for argument in arguments[: len(positional)]):
            late = positional[-1]
            raise self._fault(
                "E0102", "an argument without a name follows one with a name", late.origin,
                "this one", "put the named arguments last",
            )  # fmt: skip
        return positional, keywords


# `if`, `for`, `while` and `return` are rules of the grammar but words of Python.
for _word in ("if", "for", "while", "return"):
    setattr(_Build, _word, getattr(_Build, f"_{_word}"))


def unquote(text: str) -> str:
    """The characters that a quoted string stands for; escapes are \\n, \\t, \\" and \\\\."""
    return re.sub(
        r"\\(.)", lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text[1:-1]
    )


def _float(text: str) -> float:
    return float.fromhex(text) if text[:2] in ("0x", "0X") else float(text)


@lru_cache(maxsize=1)
def _grammar() -> lalr.Parser:
    text = files("vm.isa").joinpath("grammar.lark").read_text(encoding="utf-8")
    grammar = Lark(
        text,
        start=["start", "expression"],
        parser="lalr",
        lexer="basic",
        maybe_placeholders=True,
    )
    return lalr.parser(grammar)


def parse_text(source: Source) -> syntax.Text:
    """The tree of a whole file; raises `VmError` E01xx at the first thing that does not fit."""
    comments = _scan_comments(source)
    text = _parse(source, "start")
    return attach_comments(text, comments)


def parse_expression(source: Source) -> syntax.Expression:
    """The tree of one expression, such as a layout at the prompt."""
    return _parse(source, "expression")


STRINGS_AND_COMMENTS = re.compile(
    r'"""(?:(?!""")[\s\S])*"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*'
)


def _scan_comments(source: Source) -> list[tuple[int, bool, str]]:
    """(line, whether it stands alone on the line, text) of each comment."""
    found = []
    line, counted, text = 1, 0, source.text
    for match in STRINGS_AND_COMMENTS.finditer(text):
        if match[0].startswith("#"):
            line += text.count("\n", counted, match.start())
            counted = match.start()
            before = text[text.rfind("\n", 0, counted) + 1 : counted]
            found.append((line, not before.strip(), match[0].rstrip()))
    return found


def _parse(source: Source, start: str):
    size = len(source.text.encode("utf-8", errors="replace"))
    if size > MAXIMUM_SOURCE_BYTES:
        raise fail(
            "E0105",
            f"{source.name} is {size} bytes long",
            None,
            notes=(f"the limit is {MAXIMUM_SOURCE_BYTES} bytes",),
            fix="split the module",
        )
    build = _Build(source)
    keep = partial(_kept, of_file=start == "start")
    try:
        return _grammar().parse(source.text, start, keep, build)
    except UnexpectedCharacters as error:
        raise _malformed_character(source, error) from None
    except UnexpectedToken as error:
        raise _malformed_token(source, error) from None
    except _TooDeep as error:
        raise _too_deep(build, error.place) from None
    except RecursionError:
        raise _too_deep(build, None) from None


def _too_deep(build: _Build, place: object) -> VmError:
    origin = place if isinstance(place, Origin) else build.origin((place, place)) if place else None
    return fail(
        "E0105",
        f"nested more than {MAXIMUM_NESTING} deep",
        origin,
        "here",
        fix="name the inner parts: `part = ...`",
    )


def _malformed_character(source: Source, error: UnexpectedCharacters) -> VmError:
    origin = Origin(
        source.name, error.line, error.column, error.line, error.column + 1, source
    )
    character = source.text[error.pos_in_stream]
    shown = f"`{character}`" if character.isprintable() else f"the character U+{ord(character):04X}"
    hints = {
        "'": 'strings are written "like this"',
        "!": "write `not x`, or `a != b`",
        "@": "names have no sigil here",
        "%": "names have no sigil here",
        '"': "the string has no closing quote on its line",
    }
    return fail(
        "E0101",
        f"{shown} cannot stand here",
        origin,
        "unexpected character",
        fix=hints.get(character, "remove it"),
    )


def _malformed_token(source: Source, error: UnexpectedToken) -> VmError:
    token = error.token
    if token.type == "$END":
        lines = source.text.split("\n")
        last = max((n for n, line in enumerate(lines, 1) if line.strip()), default=1)
        column = len(lines[last - 1]) + 1
        origin = Origin(source.name, last, column, last, column + 1, source)
        return fail(
            "E0102", "the text ends in the middle of something", origin, "ends here",
            fix=_expected(error.expected),
        )  # fmt: skip
    if token.type == "_SEPARATOR":
        origin = Origin(
            source.name, token.line, token.column, token.line, token.column + 1, source
        )
        shown = "the end of the line"
    else:
        origin = Origin(
            source.name, token.line, token.column, token.end_line, token.end_column, source
        )
        shown = f"`{token}`"
    fix = _expected(error.expected)
    if str(token) == "/":
        fix = "write `a / b`: the division of integers floors"
    return fail("E0102", f"{shown} does not fit here", origin, "unexpected", fix=fix)


_SHOWN = {
    "LPAR": "`(`", "RPAR": "`)`", "LSQB": "`[`", "RSQB": "`]`", "LBRACE": "`{`", "RBRACE": "`}`",
    "COMMA": "`,`", "EQUAL": "`=`", "COLON": "`:`", "DOT": "`.`", "NAME": "a name",
    "INT": "a number", "FLOAT": "a number", "STRING": "a string", "QUOTATION": "a quoted text",
    "_SEPARATOR": "a new line",
    "SIGN": "`+` or `-`", "FACTOR": "`*`, `/` or `%`", "$END": "the end", "__ANON_0": "`:=`",
    "RANGE": "`+:`", "_RANGE_WORD": "`range`",
    "CONSTANT_KIND": "`const`, `layout`", "TRUTH": "`true` or `false`",
    "COMPARE": "a comparison", "BITS_OR": "`|`", "BITS_XOR": "`^`", "BITS_AND": "`&`",
    "SHIFT": "`<<` or `>>`", "VM": "`vm 1` on the first line", "TILDE": "`~`",
    "JUMP": "`break` or `continue`",
}  # fmt: skip


def _expected(names: Iterable[str] | None) -> str:
    if not names:
        return "remove it"
    shown = sorted({_SHOWN.get(name, f"`{name.lower()}`") for name in names})
    return "expected " + (", ".join(shown[:-1]) + " or " + shown[-1] if shown[1:] else shown[0])
