"""The editor files are what the registries make them, and read every program without an error."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pygments.token import Error, Token

from editors.vm_lexer import VmLexer
from editors.write import FILES, FOLDER, grammar_words, tokens
from vm.isa.instruction import INSTRUCTIONS
from vm.isa.parse import RESERVED

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted([*ROOT.glob("programs/*.vm"), *ROOT.glob("docs/wrong_programs/*.vm"),
                   ROOT / "spec" / "conformance" / "text.vm"])  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_are_fresh(name):
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == FILES[name](), "run python -m editors.write"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_the_lexer_knows_every_character(path):
    text = path.read_text(encoding="utf-8")
    found = list(VmLexer().get_tokens(text))
    assert [value for kind, value in found if kind in Error] == []
    assert "".join(value for _, value in found) == text


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_the_grammar_knows_every_character(path):
    """As editors do it: of all patterns the one that matches first, of those the first."""
    grammar = json.loads((FOLDER / "vm.tmLanguage.json").read_text(encoding="utf-8"))
    patterns = [(re.compile(p.get("match") or p["begin"]), p.get("end"))
                for p in grammar["patterns"]]  # fmt: skip
    text, at = path.read_text(encoding="utf-8"), 0
    coming = {number: match for number, (pattern, _) in enumerate(patterns)
              if (match := pattern.search(text))}  # fmt: skip
    while at < len(text):
        for number in [number for number, match in coming.items() if match.start() < at]:
            match = patterns[number][0].search(text, at)
            if match:
                coming[number] = match
            else:
                del coming[number]
        if not coming:
            break
        start, number = min((match.start(), number) for number, match in coming.items())
        match = coming[number]
        assert text[at:start].strip() == "", f"no pattern for {text[at:start]!r}"
        at, end = match.end(), patterns[number][1]
        if end:
            at = re.compile(end).search(text, at).end()
    assert text[at:].strip() == ""


def kinds(line: str) -> dict[str, str]:
    """The kind of each word of a line, as the lexer has it."""
    return {value: str(kind).removeprefix("Token.") for kind, value in VmLexer().get_tokens(line)
            if kind not in Token.Text}  # fmt: skip


def test_words_are_told_apart():
    found = kinds("for i in range(3) { x = load(A[0 +: 4], layout=local(4)) } # load")
    assert found["for"] == "Keyword" and found["range"] == "Keyword.Declaration"
    assert found["load"] == "Name.Builtin" and found["layout"] == found["x"] == "Name"
    assert found["local"] == "Name.Class" and found["# load"] == "Comment.Single"
    assert found["3"] == "Literal.Number.Integer" and found["+:"] == "Operator"
    found = kinds('nv.mma(c) f6e3m2 u3 nf4 0x1.8p3 true load assert_race(p, "E0601")')
    assert found["nv.mma"] == "Name.Builtin" and found["load"] == "Name"
    assert {found["f6e3m2"], found["u3"], found["nf4"]} == {"Keyword.Type"}
    assert found["0x1.8p3"] == "Literal.Number.Float" and found["true"] == "Keyword.Constant"
    assert found["assert_race"] == "Name.Builtin.Pseudo"


def test_every_word_and_instruction_is_known():
    expressions = dict(tokens())
    assert RESERVED - {"inf", "nan"} <= grammar_words()
    for opcode in INSTRUCTIONS:
        kind = "machine" if "." in opcode else "keyword" if opcode in RESERVED else "instruction"
        assert re.match(expressions[kind], f"{opcode}(")
