"""Reading text: newlines, words that are keywords only in places, comments, and limits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.isa import generators
from tests.isa.instruction_cases import PROGRAMS
from vm.errors import Source, VmError
from vm.isa import syntax
from vm.isa.parse import MAXIMUM_NESTING, parse_expression, parse_text
from vm.isa.printer import format_text
from vm.isa.program import load, parse

PROGRAM_FILES = sorted((Path(__file__).parents[2] / "programs").glob("*.vm"))
SEEDS = [*PROGRAMS.values(), *(path.read_text() for path in PROGRAM_FILES)]
VOCABULARY = sorted(
    {token for seed in SEEDS for token in generators.tokens(seed) if not token.startswith("#")}
)


def read(text: str) -> syntax.Text:
    return parse_text(Source("<test>", text))


def body(text: str) -> syntax.Block:
    (definition,) = read(f"vm 1\nprogram f(n: i32) grid (1) threads 32 {{\n{text}\n}}\n").items
    return definition.body


# --- newlines ---
def test_newlines_that_separate_nothing():
    loose = """vm 1
const A =
  1 +
    2
program f(
    n: i32,
  )
  grid (
    1
  )
  threads 32

  where n == 1,
        A == 3

{

  x =
    n
  if n == 0
  {
    y = min(
      n,
      1)
  }
  else

  {
    z := n
  }
  for k in range(3)
  {
    exit()
  }


}
"""
    tight = (
        "vm 1\nconst A = 1 + 2\nprogram f(n: i32) grid (1) threads 32 where n == 1, A == 3 "
        "{ x = n; if n == 0 { y = min(n, 1) } else { z := n }; for k in range(3) { exit() } }"
    )
    assert read(loose) == read(tight)


def test_semicolons_separate_statements():
    assert body("x = 1; y = 2;; z = 3;") == body("x = 1\ny = 2\n\nz = 3")


def test_a_line_that_could_go_on_does_not():
    first, second = body("x = n\nf(n)").statements
    assert isinstance(first, syntax.Bind)
    assert isinstance(second, syntax.Execute)
    with pytest.raises(VmError):
        body("x = n\n+ 1")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\r\n\t"])
def test_line_ends(end):
    text = "vm 1\nprogram f(n: i32) grid (1) threads 32 {\n\tx = n # one\n\ty = x\n}\n"
    assert read(text.replace("\n", end)) == read(text)


# --- words ---
@pytest.mark.parametrize("word", [*generators.SOFT_WORDS, "layouts", "format", "information"])
def test_header_words_are_names_elsewhere(word):
    text = (
        f"vm 1\nconst {word} = 1\nprogram {word}({word}: i32) grid ({word}, {word}) "
        f"threads {word} where {word} == 1, {word}\n"
        f"{{\n{word} = load({word}={word})\n{word} := {word}({word})\n{word}()\n"
        f"for {word} in range({word}) unroll {word} {{ {word} = {word}.{word} }}\n"
        f"group {word}({word}={word}) {{ x = {word}[{word} +: {word}] }}\n}}\n"
        f"case {word}({word}={word}) {{ {word} = {word} }}\n"
    )
    tree = read(text)
    assert [item.name for item in tree.items] == [word, word, word]
    assert read(format_text(tree)) == tree


@pytest.mark.parametrize("word", ["if", "else", "for", "while", "return", "and", "or", "not",
                                  "true", "false", "inf", "nan", "break", "continue", "var",
                                  "group"])  # fmt: skip
def test_words_of_the_language_are_never_names(word):
    with pytest.raises(VmError) as caught:
        body(f"{word} = 3")
    assert caught.value.code in ("E0102", "E0104")
    assert caught.value.origin.line == 3


# --- expressions ---
@pytest.mark.parametrize(
    ("text", "value"),
    [("0x1F", 31), ("0b101", 5), ("1_000", 1000), ("1e3", 1000.0), ("0x1.8p3", 12.0), ("-5", -5),
     ("-0.0", -0.0), ("inf", float("inf")), ("-inf", float("-inf")), ("1.", 1.0), ("0x.8p0", 0.5),
     ("true", True), ('"a\\n\\t\\"\\\\#"', 'a\n\t"\\#'), ('""', "")],
)  # fmt: skip
def test_literals(text, value):
    assert parse_expression(Source("<test>", text)) == syntax.Literal(value)


@pytest.mark.parametrize(
    ("text", "grouped"),
    [("1 - 2 - 3", "(1 - 2) - 3"), ("1 + 2 * 3", "1 + (2 * 3)"), ("-a * b", "(-a) * b"),
     ("a << 1 + b", "a << (1 + b)"), ("a & b | c ^ d", "(a & b) | (c ^ d)"),
     ("a < b & c", "a < (b & c)"), ("not a == b", "not (a == b)"),
     ("not a and b or c", "((not a) and b) or c"), ("~a.b(c)[d]", "~((a.b(c))[d])")],
)  # fmt: skip
def test_precedence(text, grouped):
    assert parse_expression(Source("<test>", text)) == parse_expression(Source("<test>", grouped))


def test_the_negation_of_a_number_is_not_the_negative_number():
    minus = parse_expression(Source("<test>", "-(5)"))
    assert minus == syntax.Operation("-", (syntax.Literal(5),))
    assert minus != parse_expression(Source("<test>", "-5"))


# --- comments ---
def comments(text: str) -> Counter[str]:
    return Counter(t.rstrip() for t in generators.tokens(text) if t.startswith("#"))


@settings(deadline=None, max_examples=150)
@given(st.randoms(use_true_random=False))
def test_formatting_keeps_every_comment_and_settles(random: Random):
    """Comments are put anywhere between two tokens; where they break a statement it is refused."""
    parts = generators.tokens(random.choice(SEEDS))
    for number in range(random.randint(1, 4)):
        place = random.randrange(len(parts))
        parts[place] += random.choice([f" # c{number}\n", f"\n  # c{number}\n", f"# c{number}\n"])
    text = "".join(parts)
    try:
        tree = read(text)
    except VmError:
        return
    once = format_text(tree)
    assert read(once) == tree
    assert comments(once) == comments(text)
    assert format_text(read(once)) == once


def test_a_comment_behind_a_chain_of_else_if_stays_behind_it():
    text = """vm 1
program f(n: i32) grid (1) threads 32 {
  if n == 1 { print(n) } else if n == 2 { print(1) } else { print(2) } # c0

}
"""
    once = format_text(read(text))
    assert once.endswith("  } else {\n    print(2)\n  }  # c0\n}\n")
    assert format_text(read(once)) == once


def test_comments_in_odd_places_stay_near_theirs():
    text = """# top
vm 1  # version
const A = 1  # a

# before f
# first
# brace
program f(n: i32, m: i32)
  grid (1) threads 32
{
  # opening
  # after then
  # between
  if n == 0 {
    synchronize()  # inner
    # closing
  } else {
    # only
  }  # behind
  # argument
  x = min(n, m)  # call
  # last
}  # end of f
# very end
"""
    loose = """# top
vm 1 # version
const A = 1 # a
# before f
program f(n: i32, # first
   m: i32) grid (1) threads 32 # brace
{ # opening
  if n == 0 {
    synchronize() # inner
    # closing
  } # after then
  # between
  else {
    # only
  } # behind
  x = min(n, # argument
    m) # call
  # last
} # end of f
# very end"""
    assert format_text(read(loose)) == text.replace("  # opening\n", "", 1).replace(
        "# brace\n", "# brace\n# opening\n", 1
    )


def test_a_sharp_in_a_string_is_no_comment():
    tree = body('print(n, label="# no") # yes')
    assert tree.statements[0].trivia.trailing == "# yes"


# --- limits ---
def nested(kind: str, depth: int) -> str:
    """A statement that nests `depth` levels in one way."""
    return {
        "parentheses": "x = " + "(" * depth + "n" + ")" * depth,
        "sums in parentheses": "x = " + "(" * depth + "n" + " + 1)" * depth,
        "calls": "x = " + "abs(" * depth + "n" + ")" * depth,
        "prefix": "x = " + "- " * depth + "n",
        "not": "x = " + "not " * depth + "(n == 1)",
        "sum": "x = " + " + ".join(["n"] * depth),
        "constants": "x = " + " + ".join(["1"] * depth),
        "members": "x = n" + ".a" * depth,
        "lists": "f(" + "[" * depth + "]" * depth + ")",
        "blocks": "if n == 0 {\n" * depth + "exit()\n" + "}\n" * depth,
        "else if": "if n == 0 { exit() }" + " else if n == 1 { exit() }" * depth,
    }[kind]


KINDS = ["parentheses", "sums in parentheses", "calls", "prefix", "not", "sum", "constants",
         "members", "lists", "blocks", "else if"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_deep_nesting_works_or_is_refused(kind):
    """Whatever is read can be printed, compared, hashed and instantiated."""
    accepted = []
    for depth in (100, MAXIMUM_NESTING // 2 - 6, MAXIMUM_NESTING - 4, MAXIMUM_NESTING + 1, 4000):
        text = f"vm 1\nprogram f(n: i32) grid (1) threads 32 {{\n{nested(kind, depth)}\n}}\n"
        try:
            module = parse(text)
        except VmError as error:
            assert error.code == "E0105"
            assert error.origin.line > 0
            continue
        accepted.append(depth)
        assert parse(str(module)) == module
        assert isinstance(hash(module), int)
        try:
            assert module["f"].instantiate().text
        except VmError as error:
            assert kind in ("members", "lists")
            assert error.code != "E0105"
    assert accepted
    assert 100 in accepted
    assert MAXIMUM_NESTING + 1 not in accepted


def test_constants_in_a_long_chain():
    links = "".join(f"const c{i} = c{i + 1} + 1\n" for i in range(20_000 // 4))
    text = f"vm 1\n{links}const c5000 = 1\nprogram f() grid (c0) threads 32 {{\n}}\n"
    with pytest.raises(VmError) as caught:
        parse(text)["f"].instantiate()
    assert caught.value.code == "E0105"


def test_source_of_a_megabyte():
    line = "# 0123456789 0123456789 0123456789\n"
    text = "vm 1\n" + line * (1_000_000 // len(line) - 1)
    assert len(read(text).closing) + len(read(text).trivia.leading) > 0
    with pytest.raises(VmError) as caught:
        read(text + line * 2)
    assert caught.value.code == "E0105"


@pytest.mark.parametrize(
    ("code", "text"),
    [("E0105", "9" * 5000), ("E0105", "9" * 1300), ("E0105", "0x" + "f" * 1025),
     ("E0101", "09"), ("E0101", "0x_"), ("E0101", "\0"), ("E0101", "1 \f"),
     ("E0101", "é"), ("E0101", "\ufeff1"), ("E0101", '"a'), ("E0101", "'a'"),
     ("E0101", "0x1p99999"), ("E0102", "0b2"), ("E0102", ""), ("E0102", "# nothing"),
     ("E0102", "1 +")],
)  # fmt: skip
def test_malformed_expressions(code, text):
    with pytest.raises(VmError) as caught:
        parse_expression(Source("<test>", text))
    assert caught.value.code == code
    assert caught.value.diagnostics[0].fix
    assert str(caught.value)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "a.vm"
    path.write_bytes(b"vm 1\n\xff\xfe")
    with pytest.raises(VmError) as caught:
        load(path)
    assert caught.value.code == "E0801"
    with pytest.raises(VmError):
        load(tmp_path / "none.vm")


# --- whatever the text ---
@settings(deadline=None, max_examples=400)
@given(st.randoms(use_true_random=False))
def test_only_vm_errors_escape_from_mutants(random: Random):
    text = generators.mutate(random.choice(SEEDS), random, VOCABULARY)
    try:
        tree = read(text)
    except VmError as error:
        assert error.origin.line > 0
        assert str(error)
        return
    assert read(format_text(tree)) == tree


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(codec="utf-8"), max_size=40) | st.text('vm 1\n{}()[]"#+:='))
def test_only_vm_errors_escape_from_any_text(text):
    for start in ("", "vm 1\n"):
        try:
            read(start + text)
        except VmError as error:
            assert str(error)
