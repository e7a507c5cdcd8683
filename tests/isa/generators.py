"""Random syntax trees, and mutants of programs, for the laws of the front end."""

from __future__ import annotations

import random
import re
from dataclasses import fields, replace

from hypothesis import strategies as st

from vm.errors import Origin
from vm.isa import syntax
from vm.isa.parse import RESERVED

INFIX = (
    "or", "and", "==", "!=", "<", "<=", ">", ">=", "|", "^", "&", "<<", ">>", "+", "-", "*", "/",
    "%",
)  # fmt: skip
PREFIX = ("-", "+", "~", "not")

# Header words are names everywhere but in a header, so they must survive as names too.
SOFT_WORDS = (
    "vm", "program", "reference", "case", "grid", "threads", "where", "const", "layout", "range",
    "in", "unroll", "full", "test", "needs", "rules",
)  # fmt: skip

_names = st.one_of(
    st.sampled_from(("x", "A", "_", "k2", "acc", "f16", "u4", "infinite", "nano", "iffy")),
    st.sampled_from(SOFT_WORDS),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True),
).filter(lambda name: name not in RESERVED)


def _short(strategy: st.SearchStrategy) -> st.SearchStrategy:
    """The same strategy under a short repr: Hypothesis prints those of nested ones in full."""
    return st.composite(lambda draw: draw(strategy))()


names = _short(_names)

integers = st.one_of(
    st.integers(-20, 300),
    st.integers(-(2**70), 2**70),
    st.integers(4_000, 4_095).map(lambda bits: -(1 << bits)),
)
floats = st.one_of(
    st.floats(),
    st.sampled_from((0.0, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324, 1e22, 1e16)),
)
strings = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from('\\"\n\t#{};,')), max_size=8
)
literals = _short(
    st.one_of(
        st.builds(syntax.Literal, st.one_of(integers, floats, strings, st.booleans())),
        st.builds(syntax.Literal, st.integers(-(2**70), 2**70), base=st.sampled_from((2, 16))),
    )
)


def expressions(leaves: int = 12) -> st.SearchStrategy[syntax.Expression]:
    """Any expression; `leaves` bounds its size."""
    return _short(
        st.recursive(
            st.one_of(literals, st.builds(syntax.Name, names)), _compound, max_leaves=leaves
        )
    )


def _tuples(of: st.SearchStrategy, least: int = 0, most: int = 3) -> st.SearchStrategy[tuple]:
    return st.lists(of, min_size=least, max_size=most).map(tuple)


def _indices(inner: st.SearchStrategy) -> st.SearchStrategy[tuple]:
    index = st.one_of(
        st.builds(syntax.Index, inner),
        st.builds(syntax.Index, inner, inner),
        st.just(syntax.Index(None, None)),
    )
    return _tuples(index, 1)


def _keywords(inner: st.SearchStrategy) -> st.SearchStrategy[tuple]:
    return _tuples(st.builds(syntax.Keyword, names, inner), 0, 2)


def _negation(operator: str, operand: syntax.Expression) -> syntax.Operation:
    return syntax.Operation(operator, (operand,))


def _compound(inner: st.SearchStrategy) -> st.SearchStrategy[syntax.Expression]:
    inner = _short(inner)
    return st.one_of(
        st.builds(_negation, st.sampled_from(PREFIX), inner),
        st.builds(syntax.Operation, st.sampled_from(INFIX), st.tuples(inner, inner)),
        st.builds(syntax.Call, names, _tuples(inner), _keywords(inner)),
        st.builds(syntax.Member, inner, names, st.none(), st.just(())),
        st.builds(syntax.Member, inner, names, _tuples(inner), _keywords(inner)),
        st.builds(syntax.Subscript, inner, _indices(inner)),
        st.builds(syntax.Sequence, _tuples(inner)),
    )


_small = expressions(5)
_calls = st.builds(syntax.Call, names, _tuples(_small), _keywords(_small))

_simple_statements = st.one_of(
    st.builds(syntax.Bind, _tuples(names, 1), _small),
    st.builds(syntax.Declare, names, st.none() | _small, st.none() | _small),
    st.builds(syntax.Assign, names, _small),
    st.builds(syntax.Execute, _calls),
    st.builds(syntax.Jump, st.sampled_from(("break", "continue"))),
    st.builds(syntax.Return, _small),
)


def _block_statements(inner: st.SearchStrategy) -> st.SearchStrategy[syntax.Statement]:
    block = _short(st.builds(syntax.Block, _tuples(inner)))
    return st.one_of(
        st.builds(syntax.If, _small, block, st.none() | block),
        st.builds(
            syntax.For, names, _tuples(_small, 1), st.none() | _small, block
        ),
        st.builds(syntax.While, _small, block),
        st.builds(syntax.Group, names, _keywords(_small), block),
    )


statements = _short(st.recursive(_simple_statements, _block_statements, max_leaves=6))
blocks = _short(st.builds(syntax.Block, _tuples(statements, 0, 4)))
_parameters = _tuples(st.builds(syntax.Parameter, names, _small))

items = st.one_of(
    st.builds(syntax.Constant, st.sampled_from(("const", "layout")), names, _small),
    st.builds(
        syntax.Definition, st.just("program"), names, _parameters, _tuples(_small, 1), _small,
        _tuples(_small, 0, 2), blocks,
    ),
    st.builds(
        syntax.Definition, st.just("reference"), names, _parameters, st.just(()), st.none(),
        _tuples(_small, 0, 2), blocks,
    ),
    st.builds(syntax.Case, names, _keywords(_small), blocks),
    st.builds(syntax.Test, strings, _tuples(strings, 0, 2), _tuples(strings, 0, 2), blocks),
)  # fmt: skip
texts = st.builds(syntax.Text, st.just(1), _tuples(items, 0, 4))


_TOKENS = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*|[A-Za-z_]\w*|[0-9][\w.]*|\+:|:=|[<>=!]=|\s+|.')


def tokens(text: str) -> list[str]:
    """The pieces of a text, blanks and comments among them; joined they are the text."""
    return _TOKENS.findall(text)


def mutate(text: str, random: random.Random, vocabulary: list[str]) -> str:
    """`text` with a few tokens deleted, doubled, exchanged or replaced by others."""
    parts = tokens(text)
    solid = [i for i, part in enumerate(parts) if part.strip()]
    for _ in range(random.randint(1, 3)):
        place, other = random.choice(solid), random.choice(solid)
        kind = random.randrange(5)
        if kind == 0:
            parts[place] = ""
        elif kind == 1:
            parts[place] += " " + parts[place]
        elif kind == 2:
            parts[place], parts[other] = parts[other], parts[place]
        elif kind == 3:
            parts[place] = random.choice(vocabulary)
        else:
            parts[place] = parts[other] + " " + random.choice(vocabulary)
    return "".join(parts)


def expressions_in(text: syntax.Text) -> list[syntax.Expression]:
    """Every expression of a file."""
    return [node for node in syntax.walk(text) if isinstance(node, syntax.Expression)]


def graft(
    text: syntax.Text, random: random.Random, pool: list[syntax.Expression]
) -> syntax.Text:
    """`text` with one to three of its expressions replaced by its own or some of `pool`."""
    own = expressions_in(text)
    chosen = {
        random.randrange(len(own)): random.choice(random.choice((own, pool)))
        for _ in range(random.randint(1, 3))
    }
    position = -1

    def rebuilt(node: object) -> object:
        nonlocal position
        if isinstance(node, tuple):
            return tuple(rebuilt(part) for part in node)
        if not hasattr(node, "__dataclass_fields__") or isinstance(node, (Origin, syntax.Trivia)):
            return node
        if isinstance(node, syntax.Expression):
            position += 1
            if position in chosen:
                return chosen[position]
        changes = {field.name: rebuilt(getattr(node, field.name)) for field in fields(node)}
        return replace(node, **changes)

    return rebuilt(text)
