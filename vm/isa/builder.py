"""Programs written in Python: the same syntax tree that the text has.

    b = Builder()
    BM = b.const(64)

    @b.program(grid=..., threads=128)
    def scale(X: b.global_(b.f16)[M, N], Y: b.out(b.global_(b.f16))[M, N]):
        i = b.block_index()
        x = b.load(X[i * BM : +BM, :])
        b.store(Y[i * BM : +BM, :], x + x)

The function runs once, when it is decorated, and what it calls is written down; so Python's own
`if` and `for` choose and repeat at that moment, and `b.if_` and `b.range` are those of the program.
Instructions, dtypes, layouts and functions of constants are attributes of the builder, taken from
their registries (with a `_` behind where Python has the word: `b.global_`, `b.and_`). A binding is
called as the Python variable that its value goes to. `str(b.module())` is the text.
"""

from __future__ import annotations
import __future__

import inspect
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from vm.errors import Origin, Source, fail
from vm.isa import control, syntax
from vm.isa.bind_arguments import signature
from vm.isa.builder_blocks import Block, Turns, else_block, else_if_block, if_block
from vm.isa.builder_expressions import Expression, TileIndex, Variable, node_of
from vm.isa.builder_frames import DEFERRED, author_frame, origin_of, origin_of_line, target_of
from vm.isa.builder_recording import Recording, Statement, settle
from vm.isa.builder_writer import Writer, is_runtime, language_word, python_word
from vm.isa.instruction import INSTRUCTIONS, Attribute, Instruction, Operand, nearest
from vm.isa.parse import LANGUAGE_VERSION, RESERVED, parse_expression
from vm.isa.program import Module
from vm.isa.static import FUNCTIONS, known_dtype
from vm.isa.type_expressions import TYPE_WORDS
from vm.layouts import NAMES


class Builder:
    """A module under construction."""

    def __init__(self) -> None:
        self._items: list[syntax.Item] = []
        self._writer = Writer()

    def module(self) -> Module:
        """What has been built so far."""
        return Module(syntax.Text(LANGUAGE_VERSION, tuple(self._items)))

    def _node(self, value: Any, origin: Origin) -> syntax.Expression:
        return node_of(self._writer, value, origin)

    # --- items ---
    def const(self, value: Any, name: str | None = None) -> Expression:
        """`const NAME = value`: a number, truth value or dtype that `instantiate` may change."""
        return self._constant("const", value, name)

    def layout(self, value: Any, name: str | None = None) -> Expression:
        """`layout NAME = value`: a layout with a name."""
        return self._constant("layout", value, name)

    def _constant(self, kind: str, value: Any, name: str | None) -> Expression:
        frame = author_frame()
        origin = origin_of(frame)
        self._writer.require_outside(kind, origin)
        name = name or target_of(frame).names[0]
        if name is None:
            raise fail("E0209", f"a {kind} needs a name", origin, "here",
                       fix=f"assign it, N = b.{kind}(...), or write name=")  # fmt: skip
        self._writer.check_name(name, origin)
        self._items.append(syntax.Constant(kind, name, self._node(value, origin), origin))
        return Expression(self._writer, syntax.Name(name, origin), runtime=False)

    def sizes(self, names: str) -> Any:
        """The names of sizes and scalar parameters, separated by blanks: M, N = b.sizes("M N").

        They get their meaning from the shapes and parameters of the program that uses them.
        """
        origin = origin_of(author_frame())
        for name in names.split():
            self._writer.check_name(name, origin)
        found = tuple(
            Expression(self._writer, syntax.Name(name, origin), runtime=True)
            for name in names.split()
        )
        return found if len(found) > 1 else found[0]

    def program(
        self, *, grid: Any, threads: Any, where: Any = (), name: str | None = None
    ) -> Callable[[Callable[..., Any]], Definition]:
        """Makes a program of the decorated function, whose annotations are the parameters' types.

        `grid` is an extent or several, `threads` those of a block, `where` a fact or several. A
        parameter whose annotation is None is left out: the function gets None for it.
        """
        origin = origin_of(author_frame())
        extents = grid if isinstance(grid, (tuple, list)) else (grid,)
        header = (
            tuple(self._node(extent, origin) for extent in extents),
            self._node(threads, origin),
            self._facts(where, origin),
        )
        return lambda function: self._definition("program", function, name, header)

    def reference(
        self, *, where: Any = (), name: str | None = None
    ) -> Callable[[Callable[..., Any]], Definition]:
        """Makes a reference (in f64, on whole tensors) of the decorated function."""
        header = ((), None, self._facts(where, origin_of(author_frame())))
        return lambda function: self._definition("reference", function, name, header)

    def case(self, name: str | None = None, **sizes: Any) -> Callable[[Callable[..., Any]], None]:
        """Makes a case of the decorated function, whose parameters are among the `sizes`.

        Inside, any attribute of the builder is a function, and programs are called directly.
        """
        origin = origin_of(author_frame())
        keywords = self._writer.arguments((), sizes, origin)[1]

        def make(function: Callable[..., Any]) -> None:
            origin = _origin_of_function(function)
            arguments = [
                Expression(self._writer, syntax.Name(parameter, origin), runtime=True)
                for parameter in inspect.signature(function).parameters
            ]
            self._writer.in_case = True
            body = self._body(function, arguments, set(sizes), origin)
            self._writer.in_case = False
            called = name or function.__name__
            self._items.append(
                syntax.Case(called, keywords, body, origin, _trivia_of_function(function))
            )

        return make

    def _facts(self, where: Any, origin: Origin) -> tuple[syntax.Expression, ...]:
        facts = where if isinstance(where, (tuple, list)) else (where,)
        return tuple(self._node(fact, origin) for fact in facts)

    def _definition(
        self, kind: str, function: Callable[..., Any], name: str | None, header: tuple
    ) -> Definition:
        origin = _origin_of_function(function)
        frame = author_frame()
        self._writer.require_outside(kind, origin)
        parameters, arguments = [], []
        for parameter in inspect.signature(function).parameters.values():
            node = self._parameter_type(parameter, function, frame, origin)
            if node is None:
                arguments.append(None)
                continue
            parameters.append(syntax.Parameter(parameter.name, node, node.origin))
            place = syntax.Name(parameter.name, node.origin)
            arguments.append(Expression(self._writer, place, runtime=True))
        grid, threads, facts = header
        named = {node.text for part in (*parameters, *grid, *facts)
                 for node in syntax.walk(part) if isinstance(node, syntax.Name)}  # fmt: skip
        named |= {parameter.name for parameter in parameters}
        body = self._body(function, arguments, named, origin)
        called = name or function.__name__
        self._writer.check_name(called, origin)
        item = syntax.Definition(
            kind, called, tuple(parameters), grid, threads, facts, body, origin,
            _trivia_of_function(function),
        )  # fmt: skip
        self._items.append(item)
        return Definition(self, called)

    def _parameter_type(
        self, parameter: inspect.Parameter, function: Any, frame: FrameType, origin: Origin
    ) -> syntax.Expression | None:
        """The type of a parameter; None where its annotation is None: then there is none."""
        annotation = parameter.annotation
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise fail(
                "E0209", f"`{parameter}` is any number of parameters", origin, "here",
                fix="name every parameter of a program",
            )  # fmt: skip
        if annotation is inspect.Parameter.empty:
            raise fail(
                "E0209", f"the parameter `{parameter.name}` has no type", origin, "here",
                fix=f"annotate it: {parameter.name}: b.global_(b.f16)[M, N]",
            )  # fmt: skip
        deferred = __future__.annotations.compiler_flag
        if isinstance(annotation, str) and function.__code__.co_flags & deferred:
            try:
                code = compile(annotation, DEFERRED, "eval")
                annotation = eval(code, frame.f_globals, frame.f_locals)
            except NameError as error:
                raise fail(
                    "E0201", f"the type of `{parameter.name}` uses {error.name!r}", origin,
                    "not known where the program is decorated",
                    fix="assign it before, or write the type as a string: \"global(f16)[M, K]\"",
                ) from None  # fmt: skip
        if isinstance(annotation, str):  # a type as the text writes it
            return parse_expression(Source(f"the annotation of {parameter.name}", annotation))
        return None if annotation is None else self._node(annotation, origin)

    def _body(
        self, function: Callable[..., Any], arguments: list[Expression], taken: set[str],
        origin: Origin,
    ) -> syntax.Block:  # fmt: skip
        """Runs the function and gives what it wrote."""
        recording = self._writer.recording = Recording(None, origin)
        recording.names |= taken | {item.name for item in self._items}
        try:
            result = function(*arguments)
            left_open = self._writer.recording
            if left_open is not recording:
                raise fail(
                    "E0102", "this block is never closed", left_open.origin, "opened here",
                    fix="leave no `for ... in b.range(...)` by Python's break: use b.break_()",
                )  # fmt: skip
            if result is not None:
                value = self._node(result, origin)
                recording.events.append(Statement(syntax.Return(value, value.origin)))
        finally:
            self._writer.recording = None
        return settle(recording, taken | {item.name for item in self._items})

    # --- statements ---
    def var(self, type: Any = None, value: Any = None, name: str | None = None) -> Variable:
        """`var NAME: type = value`: storage with one type, which `assign` gives new values."""
        frame = author_frame()
        origin = origin_of(frame)
        writer = self._writer
        recording = writer.require_inside("a variable", origin)
        name = writer.fresh(name or target_of(frame).names[0]) or writer.fresh("variable")
        recording.names.add(name)
        nodes = [None if part is None else self._node(part, origin) for part in (type, value)]
        self._writer.add(syntax.Declare(name, *nodes, origin))
        node = syntax.Name(name, origin)
        return Variable(self._writer, node, runtime=True, home=recording)

    def range(self, *bounds: Any, unroll: Any = None) -> Iterator[Expression]:
        """`for NAME in range(...) unroll hint { ... }`, with bounds as in Python's range.

        The body of the Python loop runs once and becomes the block.
        """
        origin = origin_of(author_frame())
        self._writer.require_inside("a loop", origin)
        if not 1 <= len(bounds) <= 3:
            raise fail("E0102", "range takes one to three bounds", origin, f"{len(bounds)} bounds",
                       fix="write b.range(stop), b.range(start, stop) or add a step")  # fmt: skip
        hint = syntax.Name(unroll, origin) if isinstance(unroll, str) else unroll
        if unroll is not None and not isinstance(unroll, str):
            hint = self._node(unroll, origin)
        nodes = tuple(self._node(bound, origin) for bound in bounds)
        return Turns(self._writer, nodes, hint, origin)

    def while_(self, condition: Any) -> Block:
        """`while condition { ... }`; write the condition in place, it is computed in each turn."""
        origin = origin_of(author_frame())
        node = self._node(condition, origin)
        return Block(
            self._writer,
            origin,
            lambda block: self._writer.add(syntax.While(node, block, origin)),
        )

    def group(self, name: str, **keywords: Any) -> Block:
        """`group NAME(warps=n) { ... }`: threads of the block with statements of their own."""
        origin = origin_of(author_frame())
        named = self._writer.arguments((), keywords, origin)[1]
        return Block(
            self._writer,
            origin,
            lambda block: self._writer.add(syntax.Group(name, named, block, origin)),
        )

    def if_(self, condition: Any) -> Block:
        """`if condition { ... }`"""
        origin = origin_of(author_frame())
        return if_block(self._writer, self._node(condition, origin), origin)

    def elif_(self, condition: Any) -> Block:
        """`else if condition { ... }`, directly behind the block of an `if_` or `elif_`."""
        origin = origin_of(author_frame())
        return else_if_block(self._writer, self._node(condition, origin), origin)

    def else_(self) -> Block:
        """`else { ... }`, directly behind the block of an `if_` or `elif_`."""
        return else_block(self._writer, origin_of(author_frame()))

    def break_(self) -> None:
        """Leaves the innermost loop."""
        self._jump("break")

    def continue_(self) -> None:
        """Goes on with the innermost loop's next turn."""
        self._jump("continue")

    def _jump(self, kind: str) -> None:
        origin = origin_of(author_frame())
        self._writer.require_inside(f"a {kind}", origin)
        self._writer.add(syntax.Jump(kind, origin))

    def tile(self, offset: Any, extent: Any) -> TileIndex:
        """`offset +: extent` in a subscript."""
        return TileIndex(offset, extent)

    # --- names from the registries ---
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        word = language_word(name)
        kind = INSTRUCTIONS.get(word)
        if kind is not None and not issubclass(kind, control.Control):
            return self._instruction(kind)
        if word in TYPE_WORDS or word in FUNCTIONS or callable(NAMES.get(word)):
            return self._function(word)
        origin = origin_of(author_frame())
        if word in syntax.HINTS:
            return self._hint(word)
        if any(opcode.startswith(f"{word}.") for opcode in INSTRUCTIONS):
            return _Namespace(self, word)
        if word in NAMES or known_dtype(word) is not None:
            return Expression(self._writer, syntax.Name(word, origin), runtime=False)
        if self._writer.in_case:
            return self._function(word)
        close = nearest(word, [known for known in dir(self) if not known.startswith("_")])
        raise fail(
            "E0201", f"there is no instruction, dtype or layout `{word}`", origin, "unknown name",
            fix=f"did you mean b.{close}?" if close else "see dir(b)",
        )  # fmt: skip

    def __dir__(self) -> list[str]:
        words = [o for o, k in INSTRUCTIONS.items() if not issubclass(k, control.Control)]
        words += [*TYPE_WORDS, *FUNCTIONS, *NAMES, *syntax.HINTS]
        words = [word.split(".")[0] for word in words]
        return sorted({*object.__dir__(self), *(python_word(word) for word in words)})

    def _instruction(self, kind: type[Instruction]) -> Callable[..., Expression]:
        def call(*arguments: Any, **keywords: Any) -> Expression:
            return self._execute(kind, arguments, keywords)

        call.__name__ = call.__qualname__ = python_word(kind.opcode)
        call.__doc__ = f"{signature(kind)}\n\n{inspect.getdoc(kind)}"
        call.__signature__ = _python_signature(kind)  # type: ignore[attr-defined]
        return call

    def _execute(self, kind: type[Instruction], arguments: tuple, keywords: dict) -> Expression:
        origin = origin_of(author_frame())
        if kind.opcode in RESERVED:  # a word of the language, written as an operator
            return self._writer.operation(kind.operator, arguments, origin)
        inputs = (*arguments, *keywords.values())
        if kind.opcode in FUNCTIONS and not any(map(is_runtime, inputs)):
            return self._call(kind.opcode, arguments, keywords, origin)
        if self._writer.recording is None and kind.opcode not in FUNCTIONS:
            self._writer.require_inside(f"the instruction `{kind.opcode}`", origin)
        positional, named = self._writer.arguments(arguments, keywords, origin)
        base, _, name = kind.opcode.rpartition(".")
        if base:
            node = syntax.Member(syntax.Name(base, origin), name, positional, named, origin)
        else:
            node = syntax.Call(name, positional, named, origin)
        return self._writer.compute(node, inputs, always=True, effect=not kind.pure)

    def _hint(self, name: str) -> Callable[..., Expression]:
        def call(*arguments: Any) -> Expression:
            """A fact about a launch; parameters are given by their names: b.aligned("A", 16)."""
            origin = origin_of(author_frame())
            nodes = tuple(
                syntax.Name(argument, origin) if isinstance(argument, str)
                else self._node(argument, origin)
                for argument in arguments
            )  # fmt: skip
            return Expression(self._writer, syntax.Call(name, nodes, (), origin), runtime=True)

        call.__name__ = call.__qualname__ = name
        return call

    def _function(self, name: str) -> Callable[..., Expression]:
        def call(*arguments: Any, **keywords: Any) -> Expression:
            return self._call(name, arguments, keywords, origin_of(author_frame()))

        call.__name__ = call.__qualname__ = name
        call.__doc__ = inspect.getdoc(NAMES.get(name, FUNCTIONS.get(name)))
        return call

    def _call(self, name: str, arguments: tuple, keywords: dict, origin: Origin) -> Expression:
        positional, named = self._writer.arguments(arguments, keywords, origin)
        node = syntax.Call(name, positional, named, origin)
        inputs = (*arguments, *keywords.values())
        in_case = self._writer.in_case and name not in NAMES and name not in FUNCTIONS
        return self._writer.compute(node, inputs, always=in_case, effect=in_case)

class _Namespace:
    """Instructions whose names share what stands before their dot: b.nv.mma."""

    def __init__(self, builder: Builder, prefix: str):
        self._builder = builder
        self._prefix = prefix

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._builder, f"{self._prefix}.{name}")

    def __dir__(self) -> list[str]:
        start = f"{self._prefix}."
        return [opcode.removeprefix(start) for opcode in INSTRUCTIONS if opcode.startswith(start)]


class Definition:
    """A program or reference that has been built; cases call it, with the sizes that no argument's
    shape tells by their names."""

    def __init__(self, builder: Builder, name: str):
        self._builder = builder
        self.name = name

    def __call__(self, *arguments: Any, **sizes: Any) -> Expression:
        origin = origin_of(author_frame())
        return self._builder._call(self.name, arguments, sizes, origin)


def _python_signature(kind: type[Instruction]) -> inspect.Signature:
    parameters = []
    for name, item in kind.fields.items():
        if isinstance(item, Operand) and item.repeated:
            parameters.append(inspect.Parameter(name, inspect.Parameter.VAR_POSITIONAL))
            continue
        default = inspect.Parameter.empty
        if isinstance(item, Operand) and item.optional:
            default = None
        elif isinstance(item, Attribute) and not item.required:
            default = item.default
        place = inspect.Parameter.POSITIONAL_OR_KEYWORD
        if any(p.default is not inspect.Parameter.empty for p in parameters):
            place = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(name, place, default=default))
    order = {inspect.Parameter.POSITIONAL_OR_KEYWORD: 0, inspect.Parameter.VAR_POSITIONAL: 1,
             inspect.Parameter.KEYWORD_ONLY: 2}  # fmt: skip
    return inspect.Signature(sorted(parameters, key=lambda p: order[p.kind]))


def _origin_of_function(function: Callable[..., Any]) -> Origin:
    code = function.__code__
    return origin_of_line(code.co_filename, code.co_firstlineno)


def _trivia_of_function(function: Callable[..., Any]) -> syntax.Trivia:
    """A docstring becomes the comment above the item."""
    text = inspect.getdoc(function)
    return syntax.Trivia(tuple(f"# {line}".rstrip() for line in (text or "").splitlines()))
