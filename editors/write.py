"""Writes the editor files from the registries: `python -m editors.write`.

One list of kinds and regular expressions becomes a TextMate grammar and a Pygments lexer, so that
both colour alike. The words come from the grammar, the instructions, the dtypes, the layout
functions and the directives of tests; tests/editors holds the files to what is written here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from vm.isa import dtypes, static
from vm.isa.instruction import INSTRUCTIONS
from vm.isa.program import Module  # noqa: F401  (the program module registers all instructions)
from vm.layouts.names import NAMES
from vm.runtime.conformance_data import DATA
from vm.runtime.conformance_directives import DIRECTIVES

FOLDER = Path(__file__).parent

# What each kind of token is called: by TextMate themes, and by Pygments.
SCOPES = {
    "comment": ("comment.line.number-sign.vm", "Comment.Single"),
    "quotation": ("string.quoted.triple.vm", "String.Double"),
    "string": ("string.quoted.double.vm", "String.Double"),
    "float": ("constant.numeric.float.vm", "Number.Float"),
    "integer": ("constant.numeric.integer.vm", "Number.Integer"),
    "truth": ("constant.language.vm", "Keyword.Constant"),
    "directive": ("support.function.directive.vm", "Name.Builtin.Pseudo"),
    "machine": ("support.function.machine.vm", "Name.Builtin"),
    "keyword": ("keyword.control.vm", "Keyword"),
    "word": ("keyword.other.vm", "Keyword.Declaration"),
    "dtype": ("storage.type.vm", "Keyword.Type"),
    "instruction": ("support.function.vm", "Name.Builtin"),
    "layout": ("support.class.layout.vm", "Name.Class"),
    "name": ("variable.other.vm", "Name"),
    "operator": ("keyword.operator.vm", "Operator"),
    "punctuation": ("punctuation.vm", "Punctuation"),
}
NOT_NAMED = r"(?!\s*=(?!=))"  # `layout=x` names an argument
CALLED = r"(?=\s*\()"


def words(names: Iterable[str]) -> str:
    """An expression for these words and no others, the longest first."""
    listed = sorted(set(names), key=lambda word: (-len(word), word))
    return r"\b(?:" + "|".join(map(re.escape, listed)) + r")\b"


def grammar_words() -> set[str]:
    """Every word that stands in the grammar, in a string or an expression of its own."""
    text = files("vm.isa").joinpath("grammar.lark").read_text(encoding="utf-8")
    found = re.findall(r'"([a-z]+)"|: /\(?([a-z|]+)\)?\\b/', text)
    return {word for pair in found for part in pair for word in part.split("|") if word}


def tokens() -> list[tuple[str, str]]:
    """(kind, expression) in the order in which they are tried."""
    truth = {"true", "false", "inf", "nan"}
    contextual = {"vm", "program", "reference", "case", "test", "const", "layout", "grid",
                  "threads", "where", "needs", "rules", "in", "range", "unroll"}  # fmt: skip
    spaces = {"global", "shared", "register", "constant", "out", "inout"}
    keywords = grammar_words() - truth - contextual
    opcodes = {opcode for opcode in INSTRUCTIONS if "." not in opcode} - keywords
    machine = {opcode for opcode in INSTRUCTIONS if "." in opcode}
    return [
        ("comment", r"#[^\n]*"),
        ("quotation", r'"""(?:(?!""")[\s\S])*"""'),
        ("string", r'"(?:[^"\\\n]|\\.)*"'),
        ("float", r"0[xX][0-9a-fA-F]*\.?[0-9a-fA-F]*[pP][+-]?[0-9]+|"
                  r"[0-9]+\.[0-9]*(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+"),
        ("integer", r"0[xX][0-9a-fA-F_]+|0[bB][01_]+|[0-9][0-9_]*"),
        ("truth", words(truth)),
        ("directive", words(DIRECTIVES) + CALLED),
        ("machine", words(machine) + CALLED),
        ("keyword", words(keywords)),
        ("word", words(contextual) + NOT_NAMED),
        ("dtype", words({*spaces, *dtypes.known_names()})),
        ("instruction", words({*opcodes, *static.FUNCTIONS, *DATA}) + CALLED),
        ("layout", words(NAMES)),
        ("name", r"[A-Za-z_][A-Za-z0-9_]*"),
        ("operator", r":=|\+:|==|!=|<=|>=|<<|>>|[-+*/%&|^~<>=]"),
        ("punctuation", r"[()\[\]{},:;.]"),
    ]  # fmt: skip


def textmate() -> str:
    """The TextMate grammar, which editors read as JSON. Its patterns see one line at a time, so a
    quoted text is a beginning and an end."""
    patterns = []
    for kind, expression in tokens():
        scope = SCOPES[kind][0]
        if kind == "quotation":
            patterns.append({"name": scope, "begin": '"""', "end": '"""'})
        else:
            patterns.append({"name": scope, "match": expression})
    grammar = {"name": "vm", "scopeName": "source.vm", "fileTypes": ["vm"], "patterns": patterns}
    return json.dumps(grammar, indent=1) + "\n"


def pygments_lexer() -> str:
    """The module of the Pygments lexer, which needs nothing of vm."""
    rules = "\n".join(
        f'            (r"""{expression}""", {SCOPES[kind][1]}),'
        if '"""' not in expression and not expression.endswith('"')
        else f"            (r'''{expression}''', {SCOPES[kind][1]}),"
        for kind, expression in tokens()
    )
    return f'''"""A Pygments lexer for `.vm` files. Written by `python -m editors.write`."""

# ruff: noqa: E501  (the expressions are generated)
from pygments.lexer import RegexLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace


class VmLexer(RegexLexer):
    """Modules of the text format."""

    name = "vm"
    aliases = ("vm",)
    filenames = ("*.vm",)
    tokens = {{  # noqa: RUF012
        "root": [
            (r"\\s+", Whitespace),
{rules}
        ]
    }}
'''


FILES = {"vm.tmLanguage.json": textmate, "vm_lexer.py": pygments_lexer}


def main() -> None:
    for name, text in FILES.items():
        (FOLDER / name).write_text(text(), encoding="utf-8")
        print(f"editors/{name} written")


if __name__ == "__main__":
    main()
