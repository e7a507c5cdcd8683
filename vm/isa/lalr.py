"""Runs the LALR(1) tables that Lark makes of the grammar.

Lark's own loop asks at every reduction for the hash of a rule, and builds and measures a tree for
each level of precedence that an operand goes up through. Here a rule `?a: b` changes the state and
nothing else, and the tables hold what is to be done: a parse takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedToken
from lark.grammar import Rule
from lark.parsers.lalr_analysis import Shift

_END = "$END"

Reduction = tuple[int, "Callable[[list], object] | None", str]
"""How many values become one, what makes it (None: the one is the other), the name of the rule."""


@dataclass(frozen=True)
class Parser:
    """`actions` of a state and the type of a token: the next state, or what is to be reduced
    first; `following` of a state and the name of a rule: the state behind it; `ends` of a start of
    the grammar: the first state and the last."""

    lark: Lark
    actions: dict[int, dict[str, int | Reduction]]
    following: dict[int, dict[str, int]]
    ends: dict[str, tuple[int, int]]

    def parse(self, text: str, start: str) -> Tree:
        """The tree; raises `UnexpectedCharacters` or `UnexpectedToken` where the text has none."""
        first, last = self.ends[start]
        states, values = [first], []
        for token in self._tokens(text, start):
            kind = token.type
            while True:
                possible = self.actions[states[-1]]
                action = possible.get(kind)
                if action is None:
                    raise UnexpectedToken(token, set(possible))
                if action.__class__ is int:
                    states.append(action)
                    values.append(token)
                    break
                size, build, rule = action
                if build is None:
                    states[-1] = self.following[states[-2]][rule]
                else:
                    below = len(values) - size
                    values[below:] = [build(values[below:])]
                    states[below + 1 :] = [self.following[states[below]][rule]]
                if kind == _END and states[-1] == last:
                    return values[-1]
        raise AssertionError("the last token ends the text")

    def _tokens(self, text: str, start: str) -> Iterator[Token]:
        reader = self.lark.parse_interactive(text, start)
        token = Token(_END, "", 0, 1, 1)
        for token in reader.lexer_thread.lex(reader.parser_state):
            yield token
        yield Token.new_borrow_pos(_END, "", token)


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
                actions[state][str(name)] = _reduction(argument, tables.callbacks)
            elif name.isupper():
                actions[state][str(name)] = argument
            else:
                following[state][str(name)] = argument
    ends = {start: (each.start_state, each.end_state) for start, each in of_starts.items()}
    return Parser(lark, actions, following, ends)


def _reduction(rule: Rule, callbacks: dict) -> Reduction:
    hands_on = len(rule.expansion) == 1 and rule.options.expand1 and not rule.alias
    return len(rule.expansion), None if hands_on else callbacks[rule], str(rule.origin.name)
