"""Runs the LALR(1) tables that Lark makes of the grammar.

Lark's own lexer and loop make a tree of the text with a position at each node, and what the text
stands for is made of that tree. Here words are found by one regular expression, what a rule stands
for is made where the rule is reduced, and a rule `?a: b` changes the state and nothing else: a
parse takes a fifth of the time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lark import Lark
from lark.exceptions import UnexpectedCharacters, UnexpectedToken
from lark.grammar import Rule
from lark.lexer import TerminalDef
from lark.parsers.lalr_analysis import Shift

_END = "$END"


class Token(str):
    """A word of the text: its type, and where it begins and ends (lines and columns count from 1,
    the end is exclusive)."""

    __slots__ = ("column", "end_column", "end_line", "line", "type")

    type: str
    line: int
    column: int
    end_line: int
    end_column: int


Span = tuple[Token, Token]
"""The first and the last word of what a rule is reduced from."""


@dataclass(frozen=True)
class Reduction:
    """What is done where a rule has been read: `size` values become one.

    `method` makes it of the span and of `parts`: the values at these places, all those of a list
    where the second says so, None for what was left out in brackets. Without a method it is the
    list of the parts; a rule that hands on the one value it has leaves it where it is.
    """

    size: int
    rule: str
    hands_on: bool
    method: str | None
    parts: tuple[tuple[int, bool] | None, ...]


@dataclass(frozen=True)
class Words:
    """The words of a grammar: `pattern` has a group for each type, those in `ignored` count for
    nothing; `reserved` of a type and a word is the type that the word has by itself."""

    pattern: re.Pattern[str]
    ignored: frozenset[str]
    reserved: dict[str, dict[str, str]]

    def of(self, text: str) -> Iterator[Token]:
        """The words in order; raises `UnexpectedCharacters` where there is none."""
        place, line, begin = 0, 1, 0  # the line and where it begins
        match, ignored, reserved = self.pattern.match, self.ignored, self.reserved
        while place < len(text):
            found = match(text, place)
            if found is None:
                raise UnexpectedCharacters(text, place, line, place - begin + 1)
            kind, end = found.lastgroup, found.end()
            if kind not in ignored:
                token = Token(found[0])
                known = reserved.get(kind)
                token.type = known.get(token, kind) if known else kind
                token.line, token.column = line, place - begin + 1
            if "\n" in found[0]:
                line += found[0].count("\n")
                begin = text.rindex("\n", place, end) + 1
            if kind not in ignored:
                token.end_line, token.end_column = line, end - begin + 1
                yield token
            place = end


@dataclass(frozen=True)
class Parser:
    """`actions` of a state and the type of a token: the next state, or what is to be reduced
    first; `following` of a state and the name of a rule: the state behind it; `ends` of a start of
    the grammar: the first state and the last. `handed_on` keeps where rules that hand on have led,
    an operand through all levels of precedence: from the state below, the state and the type of
    the token."""

    words: Words
    actions: dict[int, dict[str, int | Reduction]]
    following: dict[int, dict[str, int]]
    ends: dict[str, tuple[int, int]]
    handed_on: dict[tuple[int, int, str], int] = field(default_factory=dict)

    def parse(
        self,
        text: str,
        start: str,
        keep: Callable[[Iterator[Token]], Iterator[Token]],
        build: object,
    ) -> Any:
        """What the text stands for: of the words that `keep` leaves of it, by the methods of
        `build`, each of a span and of its parts. Raises `UnexpectedCharacters` or `UnexpectedToken`
        where the text does not fit, else the first that `build` raises, and what `keep` does."""
        first, last = self.ends[start]
        states, values = [first], []
        begins, ends = [], []  # the words that each value begins and ends with
        fault: Exception | None = None  # of `build`: all of the text has to fit the grammar first
        for token in self._kept(text, keep):
            kind = token.type
            while True:
                possible = self.actions[states[-1]]
                action = possible.get(kind)
                if action is None:
                    raise UnexpectedToken(token, set(possible))
                if action.__class__ is int:
                    states.append(action)
                    values.append(token)
                    begins.append(token)
                    ends.append(token)
                    break
                if action.hands_on:
                    key = states[-2], states[-1], kind
                    if key not in self.handed_on:
                        self.handed_on[key] = self._handed_on(*key)
                    states[-1] = self.handed_on[key]
                else:
                    below = len(values) - action.size
                    made = _parts(action, values, below)
                    if action.method is not None and fault is None:
                        try:
                            made = getattr(build, action.method)((begins[below], ends[-1]), made)
                        except Exception as error:
                            fault = error
                    values[below:] = [made]
                    del begins[below + 1 :]
                    ends[below:] = ends[-1:]
                    states[below + 1 :] = [self.following[states[below]][action.rule]]
                if kind == _END and states[-1] == last:
                    if fault is not None:
                        raise fault
                    return values[-1]
        raise AssertionError("the last token ends the text")

    def _handed_on(self, below: int, state: int, kind: str) -> int:
        while True:
            action = self.actions[state].get(kind)
            if not isinstance(action, Reduction) or not action.hands_on:
                return state
            state = self.following[below][action.rule]

    def _kept(
        self, text: str, keep: Callable[[Iterator[Token]], Iterator[Token]]
    ) -> Iterator[Token]:
        yield from keep(self.words.of(text))
        end = Token()
        end.type = _END
        yield end


def _parts(reduction: Reduction, values: list, below: int) -> list:
    parts: list = []
    for part in reduction.parts:
        if part is None:
            parts.append(None)
        elif part[1]:
            parts += values[below + part[0]]
        else:
            parts.append(values[below + part[0]])
    return parts


def parser(lark: Lark) -> Parser:
    """The parser of a grammar that Lark has read, from any of its starts: they share the tables."""
    of_starts = {
        start: lark.parse_interactive("", start).parser_state.parse_conf
        for start in lark.options.start
    }
    tables = next(iter(of_starts.values()))
    actions, following = {}, {}
    for state, entries in tables.states.items():
        actions[state], following[state] = {}, {}
        for name, (action, argument) in entries.items():
            if action is not Shift:
                actions[state][str(name)] = _reduction(argument)
            elif name.isupper():
                actions[state][str(name)] = argument
            else:
                following[state][str(name)] = argument
    ends = {start: (each.start_state, each.end_state) for start, each in of_starts.items()}
    words = _words(lark.terminals, frozenset(lark.ignore_tokens))
    return Parser(words, actions, following, ends)


def _words(terminals: list[TerminalDef], ignored: frozenset[str]) -> Words:
    """Of two types that fit, Lark takes that of the higher priority, then the one that can be
    longer; but a word that is written in the grammar is of its own type."""
    order = sorted(
        terminals,
        key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name),
    )
    pattern = re.compile("|".join(f"(?P<{t.name}>{t.pattern.to_regexp()})" for t in order))
    reserved: dict[str, dict[str, str]] = {}
    for terminal in terminals:
        if terminal.pattern.type == "str":
            kind = pattern.fullmatch(terminal.pattern.value).lastgroup
            if kind != terminal.name:
                reserved.setdefault(kind, {})[terminal.pattern.value] = terminal.name
    return Words(pattern, ignored, reserved)


def _reduction(rule: Rule) -> Reduction:
    """A rule of brackets or repetition has a name with an underscore first: it is a list of parts
    of the rule in which it stands."""
    name, size = str(rule.origin.name), len(rule.expansion)
    hands_on = size == 1 and rule.options.expand1 and not rule.alias
    left_out = rule.options.empty_indices or [False] * size
    parts: list[tuple[int, bool] | None] = []
    at = 0
    for nothing in left_out:
        if nothing:
            parts.append(None)
            continue
        symbol = rule.expansion[at]
        if not symbol.is_term:
            parts.append((at, symbol.name.startswith("_")))
        elif rule.options.keep_all_tokens or not symbol.filter_out:
            parts.append((at, False))
        at += 1
    method = None if name.startswith("_") else str(rule.alias or name)
    return Reduction(size, name, hands_on, method, tuple(parts))
