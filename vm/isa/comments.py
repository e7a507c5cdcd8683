"""Gives each comment of a file to the statement or item it belongs to, for `vm fmt`.

A comment behind a statement belongs to the statement that ends on its line; one on a line of its
own to the statement that follows in the same block, or to the end of the block.
"""

from __future__ import annotations

from dataclasses import replace

from vm.isa import syntax

Comment = tuple[int, bool, str]  # line, alone on its line, text


def attach_comments(text: syntax.Text, comments: list[Comment]) -> syntax.Text:
    """`text` with every comment in the trivia of a node, and blank lines noted."""
    source = text.origin.source
    lines = source.text.split("\n") if source else []
    remaining = sorted(comments)
    version_line = next(
        (n for n, line in enumerate(lines, 1) if line.split("#")[0].strip()), 1
    )
    leading = _take(remaining, version_line - 1)
    trailing = _take(remaining, version_line)
    items = _attach(text.items, remaining, lines)
    closing = tuple(comment[2] for comment in remaining)
    trivia = syntax.Trivia(leading, " ".join(trailing) or None, False)
    return replace(text, items=items, closing=closing, trivia=trivia)


def _take(comments: list[Comment], last_line: int) -> tuple[str, ...]:
    """Removes and returns the comments up to and including `last_line`."""
    taken = []
    while comments and comments[0][0] <= last_line:
        taken.append(comments.pop(0)[2])
    return tuple(taken)


def _attach(
    nodes: tuple, comments: list[Comment], lines: list[str], has_braces: bool = True
) -> tuple:
    """A block without braces is the `if` of an `else if`: what stands behind it stands behind the
    whole."""
    result = []
    for position, node in enumerate(nodes):
        first, last = node.origin.line, node.origin.end_line
        leading_start = comments[0][0] if comments and comments[0][0] < first else first
        leading = _take(comments, first - 1)
        node = _attach_blocks(node, comments, lines)
        shares_line = position + 1 < len(nodes) and nodes[position + 1].origin.line == last
        inner = [comment for comment in comments if comment[0] < last]
        del comments[: len(inner)]
        leading += tuple(comment[2] for comment in inner)
        trailing = () if shares_line or not has_braces else _take(comments, last)
        above = lines[leading_start - 2].strip() if leading_start >= 2 else ""
        blank = position > 0 and leading_start >= 2 and not above
        result.append(
            replace(node, trivia=syntax.Trivia(leading, " ".join(trailing) or None, blank))
        )
    return tuple(result)


def _attach_blocks(node: object, comments: list[Comment], lines: list[str]) -> object:
    """`node` with the comments inside its blocks attached there."""
    changes = {}
    for field in ("then", "otherwise", "body"):
        block = getattr(node, field, None)
        if isinstance(block, syntax.Block):
            # Comments of the header, up to the line of the brace, stay for the node itself.
            header = [c for c in comments if c[0] <= block.origin.line]
            del comments[: len(header)]
            has_braces = [each.origin for each in block.statements] != [block.origin]
            statements = _attach(block.statements, comments, lines, has_braces)
            closing = _take(comments, block.origin.end_line - 1)
            comments[:0] = header
            changes[field] = replace(block, statements=statements, closing=closing)
    return replace(node, **changes) if changes else node
