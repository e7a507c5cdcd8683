"""After inference everyone agrees on who holds what; the oracle is the meaning of each instruction
on an array of element numbers, thread by thread."""

from __future__ import annotations

import time
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.isa.instruction_cases import PROGRAMS
from vm.compiler.layout_costs import reduce_cost, relayout_cost, relayout_kind
from vm.compiler.layout_explanation import explain_layouts, registers_of
from vm.compiler.layouts import has_all_layouts, infer_layouts
from vm.compiler.shared_memory import plan_shared
from vm.errors import VmError
from vm.isa import control
from vm.isa.asynchronous import CopyAsync
from vm.isa.dtypes import dtype
from vm.isa.elementwise import Elementwise
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.layout_constraints import Broadcasts, Permutes, Reduces, Repeats, Reshapes
from vm.isa.matrix import Dot
from vm.isa.memory import Atomic, Gather, Load, Scatter, Store
from vm.isa.program import load, parse
from vm.isa.registers import (
    Broadcast,
    Cast,
    Fill,
    Item,
    Reduce,
    Relayout,
    Repeat,
    Reshape,
    Transpose,
    View,
)
from vm.isa.types import RegisterType, Value
from vm.layouts import (
    RegisterLayout,
    column_spatial,
    default_layout,
    dot_layout,
    local,
    plan_relayout,
    replicated,
    spatial,
)
from vm.runtime import cases, reference

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "programs").glob("*.vm"))
HEADER = "vm 1\nprogram p({parameters}) grid (1) threads {threads}\n{{\n  {body}\n}}\n"
TENSORS = (
    "A: global(f32)[M, N], H: global(f16)[M, N], U: global(u4)[M, N], V: global(f32)[N], "
    "I: global(i32)[N], C: inout(global(f32))[M, N], D: inout(global(f16))[M, N]"
)


def kernel_of(*body: str, threads: int = 128, parameters: str = TENSORS) -> Kernel:
    text = HEADER.format(parameters=parameters, threads=threads, body="\n  ".join(body))
    return parse(text)["p"].instantiate()


def all_of(kernel: Kernel, kind: type) -> list:
    return [i for i in control.walk(kernel.body) if isinstance(i, kind)]


def value_named(kernel: Kernel, name: str) -> Value:
    for instruction in control.walk(kernel.body):
        found = [v for v in instruction.results if v.name == name]
        if isinstance(instruction, control.Declare) and instruction.variable.name == name:
            found = [instruction.variable]
        if found:
            return found[0]
    raise AssertionError(name)


# --- the oracle ---
def held(elements: np.ndarray, layout: RegisterLayout) -> list[list[int]]:
    """What each thread holds, slot after slot, of a tensor whose elements are these numbers."""
    return elements.reshape(-1)[layout.flat()].tolist()


def without_repetition(rows: list[list[int]]) -> list[list[int]]:
    return [list(dict.fromkeys(row)) for row in rows]


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(prod(shape)).reshape(shape)


def tensors(instruction: Instruction) -> dict[str, RegisterType]:
    return {
        name: getattr(instruction, name).type
        for name in instruction.fields
        if isinstance(getattr(instruction, name), Value)
        and isinstance(getattr(instruction, name).type, RegisterType)
    }


def assert_agrees(instruction: Instruction) -> None:
    """Each thread has of each operand what it needs for its elements of the result, in the order of
    its slots."""
    operands = tensors(instruction)
    result = instruction.results[0].type if instruction.results else None

    def same_elements(name: str, needed: np.ndarray, layout: RegisterLayout) -> None:
        own = operands[name]
        wanted = without_repetition(held(needed, layout))
        assert held(numbers(own.shape), own.layout) == wanted, (instruction.opcode, name)

    match instruction:
        case Elementwise() | Cast() | control.Copy() | Broadcast():
            for name, type_ in operands.items():
                needed = np.broadcast_to(numbers(type_.shape), result.shape)
                same_elements(name, needed, result.layout)
                if type_.shape == result.shape:
                    assert type_.layout == result.layout
        case Transpose():
            same_elements("x", np.transpose(numbers(operands["x"].shape), instruction.order),
                          result.layout)  # fmt: skip
        case Reshape():
            same_elements("x", numbers(result.shape), result.layout)
        case Repeat():
            x = numbers(operands["x"].shape)
            same_elements("x", np.repeat(x, instruction.count, instruction.axis), result.layout)
        case Reduce():
            x = operands["x"]
            goes_to = np.broadcast_to(
                np.expand_dims(numbers(result.shape), instruction.axis)
                if not instruction.keep else numbers(result.shape), x.shape,
            )  # fmt: skip
            got = held(numbers(result.shape), result.layout)
            assert got == without_repetition(held(goes_to, x.layout))
        case Dot():
            (m, k), (_, n) = operands["a"].shape, operands["b"].shape
            scope = instruction.scope
            fits = [
                dot_layout(m, n, k, operands["a"].dtype.bits, scope.warps, k_run=run,
                           accumulator_bits=result.dtype.bits)
                for run in (1, 2, 4) if k % (16 * run) == 0
            ]  # fmt: skip
            have = (operands["a"].layout, operands["b"].layout, result.layout)
            assert have in [(f.a, f.b, f.c) for f in fits]
            assert "c" not in operands or operands["c"].layout == result.layout
        case Gather():
            positions = np.moveaxis(
                np.broadcast_to(
                    numbers(operands["indices"].shape),
                    np.moveaxis(numbers(result.shape), instruction.axis, -1).shape,
                ), -1, instruction.axis,
            )  # fmt: skip
            same_elements("indices", positions, result.layout)
        case Scatter():
            shape = operands["value"].shape
            positions = np.moveaxis(
                np.broadcast_to(
                    numbers(operands["indices"].shape),
                    np.moveaxis(numbers(shape), instruction.axis, -1).shape,
                ), -1, instruction.axis,
            )  # fmt: skip
            same_elements("indices", positions, operands["value"].layout)
        case Atomic() if "value" in operands:
            assert operands["value"].layout == result.layout
        case View() | Relayout() | Item() | Load() | Store() | CopyAsync() | Fill():
            pass


def assert_inferred(before: Kernel, after: Kernel) -> None:
    for instruction in control.walk(after.body):
        values = [*instruction.results]
        if isinstance(instruction, control.Declare):
            values.append(instruction.variable)
        for value in values:
            if isinstance(value.type, RegisterType):
                assert value.type.layout is not None, value
                assert value.type.layout.shape == value.type.shape
                assert value.type.layout.threads == instruction.scope.threads
        assert_agrees(instruction)
    # The program says it all: it reads back with the same layouts, and nothing is left to do.
    again = parse(f"vm 1\n{after}")[after.name].instantiate()
    assert again == after
    assert layouts_of(again) == layouts_of(after)
    assert has_all_layouts(again)
    assert infer_layouts(after) is after
    # The same is chosen each time.
    assert infer_layouts(before) == after


def layouts_of(kernel: Kernel) -> list[RegisterLayout]:
    return [
        value.type.layout
        for instruction in control.walk(kernel.body)
        for value in instruction.results
        if isinstance(value.type, RegisterType)
    ]


def inferred(*body: str, **header) -> Kernel:
    before = kernel_of(*body, **header)
    after = infer_layouts(before)
    assert_inferred(before, after)
    return after


# --- the programs of the repository, and one for each instruction ---
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_programs(path):
    for program in load(path):
        if program.definition.kind == "program":
            before = program.instantiate()
            assert_inferred(before, infer_layouts(before))


@pytest.mark.parametrize("opcode", sorted(PROGRAMS))
def test_every_instruction(opcode):
    (program,) = parse(PROGRAMS[opcode])
    kernel = program.instantiate()
    if kernel.kind == "reference":
        assert infer_layouts(kernel) is kernel
    else:
        assert_inferred(kernel, infer_layouts(kernel))


def run_inferred(kernel: Kernel, arguments, **options) -> reference.Report:
    """The reference machine on what the passes make of a kernel."""
    return reference.run(plan_shared(infer_layouts(kernel), 1 << 18), arguments, **options)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_programs_compute_the_same_after_the_passes(path, monkeypatch):
    monkeypatch.setitem(cases.EXECUTORS, "inferred", f"{__name__}:run_inferred")
    module = load(path)
    for case in module.cases.values():
        if case.name == "main" and path.stem not in SMALL_MAINS:
            continue
        before = cases.run_case(module, case)
        after = cases.run_case(module, case, executor="inferred")
        assert before.fault is after.fault is None
        assert [each.executor for each in after.calls] == ["inferred"] * len(before.calls)
        for name, value in before.variables.items():
            other = after.variables[name]
            if hasattr(value, "storage"):
                assert np.array_equal(value.storage, other.storage), name


# Their main cases take less than a second.
SMALL_MAINS = ("softmax", "layer_norm", "matmul_f16", "matmul_w4a16", "transpose")


# --- what is chosen ---
def test_vector_addition_moves_16_bytes_at_a_time():
    kernel = infer_layouts(load(ROOT / "programs/vector_add.vm")["vector_add"].instantiate())
    wide = local(2).spatial(128).local(4)
    assert [each.layout for each in all_of(kernel, Load)] == [wide, wide]
    assert not all_of(kernel, Relayout)


def test_the_matrix_products_of_the_programs_move_nothing():
    for file in ("matmul_f16", "matmul_w4a16"):
        kernel = infer_layouts(load(ROOT / f"programs/{file}.vm")["matmul"].instantiate())
        assert not all_of(kernel, Relayout)


def test_softmax_moves_nothing_and_reduces_within_warps():
    kernel = infer_layouts(load(ROOT / "programs/softmax.vm")["softmax"].instantiate())
    assert not all_of(kernel, Relayout)
    reductions = all_of(kernel, Reduce)
    assert len(reductions) == 2 and all(map(stays_in_warps, reductions))


def stays_in_warps(reduction: Reduce) -> bool:
    """Whether each warp has all that its threads' results are made of."""
    x, result = reduction.x.type, reduction.result.type
    goes_to = np.broadcast_to(numbers(result.shape), x.shape).reshape(-1)
    for warp in range(x.layout.threads // 32):
        lanes = slice(32 * warp, 32 * warp + 32)
        wanted = np.isin(goes_to, result.layout.flat()[lanes])
        if not np.isin(np.flatnonzero(wanted), x.layout.flat()[lanes]).all():
            return False
    return True


def test_layer_norm_moves_its_statistics_at_most_once_and_outside_of_loops():
    kernel = infer_layouts(load(ROOT / "programs/layer_norm.vm")["layer_norm"].instantiate())
    moved = all_of(kernel, Relayout)
    assert all(each in kernel.body and each.x.type.shape == (4, 1) for each in moved)
    assert len(moved) <= 2


def test_the_product_in_the_paper_is_inferred_within_50_milliseconds():
    program = load(ROOT / "programs/matmul_w4a16.vm")["matmul"]
    times = []
    for _ in range(5):
        kernel = program.instantiate()
        start = time.process_time()
        infer_layouts(kernel)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


def test_what_the_author_wrote_is_kept():
    first = spatial(8, 16).local(4, 2)
    second = local(4, 1).spatial(8, 16).local(1, 2)
    kernel = inferred(
        f"x = load(A[0 +: 32, 0 +: 32], layout={first})",
        f"y = load(A[32 +: 32, 0 +: 32], layout={second})",
        f"var z: register(f32, layout={second})[32, 32] = x + y",
        "store(C[0 +: 32, 0 +: 32], z)",
    )
    assert value_named(kernel, "x").type.layout == first
    assert value_named(kernel, "y").type.layout == second
    assert value_named(kernel, "z").type.layout == second
    (moved,) = all_of(kernel, Relayout)
    assert moved.x.name == "x"


def test_the_narrower_tensor_is_moved():
    """f32 becomes f16 and f32 again: what lies in between is half as large."""
    kernel = inferred(
        "x = cast(load(A[0 +: 64, 0 +: 64]), f16)",
        "store(C[0 +: 64, 0 +: 64], cast(transpose(x), f32))",
    )
    (moved,) = all_of(kernel, Relayout)
    assert moved.x.type.dtype.name == "f16"


def test_the_smaller_tensor_is_moved():
    first = local(1, 4).spatial(32, 4).local(1, 4)
    kernel = inferred(
        f"x = load(A[0 +: 32, 0 +: 64], layout={first})",
        "s = load(A[0 +: 1, 0 +: 64], layout=replicated(2).spatial(1, 64))",
        "store(C[0 +: 32, 0 +: 64], x * s)",
    )
    assert [each.x.type.shape for each in all_of(kernel, Relayout)] == [(1, 64)]


def test_what_stays_the_same_is_moved_outside_of_the_loop():
    kernel = inferred(
        "s = load(V[0 +: 64], layout=replicated(2).spatial(64))",
        "var t: register(f32, layout=replicated(2).spatial(64))[64] = s",
        "for i in range(4) {",
        "  t := t + 1.0",
        "}",
        "for i in range(4) {",
        "  x = load(A[i * 32 +: 32, 0 +: 64], layout=local(1, 4).spatial(32, 4).local(1, 4))",
        "  store(C[i * 32 +: 32, 0 +: 64], x * s + t)",
        "}",
    )
    moved = all_of(kernel, Relayout)
    assert {each.x.name for each in moved} == {"s", "t"}
    assert len(moved) == 2
    assert all(each in kernel.body for each in moved)


def test_a_variable_that_a_loop_changes_is_moved_where_it_is_used():
    kernel = inferred(
        "var t: register(f32, layout=replicated(2).spatial(64))[64] = fill(0.0)",
        "for i in range(4) {",
        "  x = load(A[i * 32 +: 32, 0 +: 64], layout=local(1, 4).spatial(32, 4).local(1, 4))",
        "  store(C[i * 32 +: 32, 0 +: 64], x * t)",
        "  t := t + 1.0",
        "}",
    )
    (moved,) = all_of(kernel, Relayout)
    assert moved not in kernel.body


def test_a_column_is_loaded_along_rows_and_moved_rather_than_loaded_by_columns():
    kernel = inferred(
        "x = load(A[0 +: 64, 0 +: 64])", "store(C[0 +: 64, 0 +: 64], transpose(x))"
    )
    wide = default_layout([64, 64], 128, 4)
    assert value_named(kernel, "x").type.layout == wide
    (store,) = all_of(kernel, Store)
    assert store.value.type.layout == wide
    assert len(all_of(kernel, Relayout)) == 1


def test_a_product_takes_the_longer_runs_that_an_operand_was_packed_for():
    layout = "dot_layout(32, 32, 64, f16, warps=4, k_run=2).b"
    kernel = inferred(
        f"b = load(H[0 +: 64, 0 +: 32], layout={layout})",
        "c = dot(load(H[0 +: 32, 0 +: 64]), b)",
        "store(C[0 +: 32, 0 +: 32], c)",
    )
    assert not all_of(kernel, Relayout)
    (product,) = all_of(kernel, Dot)
    found = dot_layout(32, 32, 64, 16, 4, k_run=2)
    assert (product.a.type.layout, product.result.type.layout) == (found.a, found.c)


def test_tensors_of_which_every_axis_is_broadcast():
    inferred(
        "x = load(A[0 +: 32, 0 +: 1])", "y = load(A[0 +: 1, 0 +: 48])",
        "store(C[0 +: 32, 0 +: 48], x * y)",
    )  # fmt: skip


def test_a_scalar_is_added_to_memory():
    kernel = inferred("x = atomic(C[0 +: 8, 0 +: 8], 1.0)", "store(C[8 +: 8, 0 +: 8], x)")
    assert all_of(kernel, Atomic)[0].layout is not None


def test_groups_have_layouts_over_their_own_threads():
    kernel = inferred(
        "group one(warps=1) {", "  store(C[0 +: 8, 0 +: 8], load(A[0 +: 8, 0 +: 8]))", "}",
        "group two(warps=3) {", "  store(C[8 +: 8, 0 +: 8], load(A[0 +: 8, 0 +: 8]))", "}",
    )  # fmt: skip
    assert [each.layout.threads for each in all_of(kernel, Load)] == [32, 96]


# --- refusals ---
def refused(*body: str, relayouts: bool = True, **header) -> VmError:
    with pytest.raises(VmError) as raised:
        infer_layouts(kernel_of(*body, **header), relayouts=relayouts)
    return raised.value


CONFLICT = (
    "x = load(A[0 +: 32, 0 +: 32], layout=spatial(8, 16).local(4, 2))",
    "y = cast(x, f16)",
    "store(D[0 +: 32, 0 +: 32], y + load(H[0 +: 32, 0 +: 32], layout=spatial(16, 8).local(2, 4)))",
)


def test_where_relayouts_are_forbidden_the_chain_and_the_difference_are_told():
    error = refused(*CONFLICT, relayouts=False)
    assert error.code == "E0313"
    (diagnostic,) = error.diagnostics
    text = diagnostic.render()
    for part in (
        "spatial(8, 16).local(4, 2)", "spatial(16, 8).local(2, 4)", "first difference: thread",
        "load at 4:7 (written here)", "relayouts are forbidden",
    ):  # fmt: skip
        assert part in text


def test_a_written_relayout_is_not_forbidden():
    body = (
        CONFLICT[0], CONFLICT[1], "z = relayout(y, spatial(16, 8).local(2, 4))",
        CONFLICT[2].replace("y +", "z +"),
    )  # fmt: skip
    infer_layouts(kernel_of(*body), relayouts=False)


def test_a_tensor_of_other_threads():
    error = refused(
        "x = load(A[0 +: 8, 0 +: 8])", "group one(warps=1) {", "  store(C[0 +: 8, 0 +: 8], x)", "}"
    )
    assert error.code == "E0304"
    assert "128 threads" in str(error)


def test_a_variable_with_a_layout_of_other_threads():
    error = refused("var x: register(f32, layout=spatial(8, 8))[8, 8] = fill(0.0)", "print(x)")
    assert error.code == "E0304"


# --- why ---
def test_the_explanation_tells_the_anchor_the_registers_and_what_is_moved():
    program = load(ROOT / "programs/matmul_w4a16.vm")["matmul"]
    kernel = program.instantiate()
    told = {each.name: each for each in explain_layouts(kernel)}
    after = infer_layouts(kernel)
    for name in ("acc", "scale", "zero", "q"):
        assert told[name].type == value_named(after, name).type
    assert told["acc"].registers == 64
    assert "dot at" in told["acc"].because
    assert "matrix instruction" in told["acc"].because
    assert "view" in told["scale"].because
    assert not any(each.moved for each in told.values())
    line = (ROOT / "programs/matmul_w4a16.vm").read_text().split("\n")[told["q"].origin.line - 1]
    assert line.strip().startswith("q = view(")


def test_the_explanation_of_a_relayout():
    told = explain_layouts(kernel_of(*CONFLICT))
    (moved,) = [each for explained in told for each in explained.moved]
    source, target = spatial(8, 16).local(4, 2), spatial(16, 8).local(2, 4)
    assert (moved.means, moved.layout) == ("shuffles", target)
    pairs = zip(source.flat().tolist(), target.flat().tolist(), strict=True)
    assert moved.bytes_moved == 2 * sum(len(set(want) - set(have)) for have, want in pairs)
    assert "moved for" in "\n".join(map(str, told))


def test_what_is_inferred_is_explained_alike_before_and_after():
    program = load(ROOT / "programs/softmax.vm")["softmax"]
    before, after = program.instantiate(), infer_layouts(program.instantiate())
    assert [each.type for each in explain_layouts(before)] == [
        each.type for each in explain_layouts(after)
    ]


def test_registers_are_counted_in_words():
    assert registers_of(RegisterType(dtype("u4"), (96,), spatial(32).local(3))) == 1
    assert registers_of(RegisterType(dtype("f16"), (96,), spatial(32).local(3))) == 2


# --- costs ---
LAYOUTS = (
    spatial(8, 4).local(2, 2), local(2, 2).spatial(8, 4), column_spatial(8, 4).local(2, 2),
    local(4, 1).spatial(4, 8), replicated(2).spatial(4, 4).local(4, 2),
    replicated(4).local(2, 1).spatial(8, 1).local(1, 8), replicated(32).local(16, 8),
    spatial(4, 4).replicated(2).local(4, 2), spatial(8, 4).local(2, 2).reshape(128).reshape(16, 8),
)  # fmt: skip


@pytest.mark.parametrize("source", LAYOUTS, ids=str)
@pytest.mark.parametrize("target", LAYOUTS, ids=str)
def test_the_kind_of_a_relayout_is_that_of_its_plan(source, target):
    if source == target:
        assert relayout_cost(source, target, 32, 32) == 0
        return
    kind, moved = relayout_kind(source, target, 8)
    stays = all(
        set(target.flat()[t].tolist()) <= set(source.flat()[t].tolist()) for t in range(32)
    )
    assert (moved == 0) == stays
    plan = type(plan_relayout(source, target, 8)).__name__
    if kind == "renaming":
        assert plan == "RegisterPermutation"
    if plan == "RegisterPermutation":
        assert kind == "renaming"
    if plan == "WarpShuffles":
        assert kind in ("shuffles", "select")
    assert relayout_cost(source, target, 16, 8) > 0


def test_a_reduction_within_a_warp_costs_less_than_one_between_warps():
    inside, outside = spatial(4, 32).local(1, 4), spatial(1, 128).local(4, 1)
    assert reduce_cost(inside, 1, 32) < reduce_cost(outside, 1, 32)
    assert reduce_cost(inside, 0, 32) > reduce_cost(outside, 0, 32)


# --- relations ---
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    "relation",
    [Permutes((1, 0)), Reshapes((16, 8), (8, 16)), Reshapes((16, 8), (4, 4, 8)),
     Broadcasts((16, 8), (3, 16, 8)), Repeats(0, 3), Repeats(1, 5)],
    ids=str,
)  # fmt: skip
def test_the_working_layout_that_a_value_asks_for_gives_the_value_its_layout(layout, relation):
    assert relation.of(relation.back(layout)) == layout


@pytest.mark.parametrize("keep", [True, False])
def test_what_a_reduction_asks_for(keep):
    layout = spatial(8, 1).replicated(4) if keep else spatial(8).replicated(4)
    relation = Reduces(1, 6, keep)
    assert relation.of(relation.back(layout)) == layout


# --- random programs ---
EXTENTS = (1, 2, 3, 4, 6, 8, 16)


@st.composite
def bodies(draw) -> tuple[list[str], int]:
    """Statements on tensors of f32 that end in a store, and a number of threads."""
    threads = draw(st.sampled_from([32, 64, 96, 128]))
    shapes: dict[str, tuple[int, ...]] = {}
    lines: list[str] = []

    def bind(shape: tuple[int, ...], text: str) -> None:
        name = f"x{len(shapes)}"
        lines.append(f"{name} = {text}")
        shapes[name] = shape

    def written(shape: tuple[int, ...]) -> str:
        """Now and then the author says who holds what."""
        if draw(st.integers(0, 3)):
            return ""
        order = draw(st.sampled_from(["rows", "columns", "copies"]))
        if order == "columns" and len(shape) == 2:
            return f", layout=default_layout([{shape[1]}, {shape[0]}], {threads}).transpose()"
        if order == "copies":
            extents = ", ".join(map(str, shape))
            return f", layout=replicated({threads}).local({extents})"
        return f", layout=default_layout({list(shape)}, {threads}, 2)"

    for _ in range(draw(st.integers(1, 2))):
        rows, columns = draw(st.sampled_from(EXTENTS)), draw(st.sampled_from(EXTENTS))
        bind((rows, columns), f"load(A[0 +: {rows}, 1 +: {columns}]{written((rows, columns))})")
    for _ in range(draw(st.integers(0, 6))):
        name = draw(st.sampled_from(sorted(shapes)))
        shape = shapes[name]
        match draw(st.integers(0, 7)):
            case 0:
                other = draw(st.sampled_from(sorted(shapes)))
                try:
                    both = np.broadcast_shapes(shape, shapes[other])
                except ValueError:
                    continue
                if prod(both) <= 512:
                    bind(both, f"{name} + {other} * 2.0")
            case 1 if shape:
                axis = draw(st.integers(0, len(shape) - 1))
                keep = draw(st.booleans())
                kept = [1 if a == axis else e for a, e in enumerate(shape)]
                if not keep:
                    del kept[axis]
                text = f'reduce({name}, {axis}, op="max", keep={str(keep).lower()})'
                bind(tuple(kept), text)
            case 2:
                bind(shape[::-1], f"transpose({name})")
            case 3:
                count = prod(shape)
                rows = draw(st.sampled_from([d for d in range(1, count + 1) if count % d == 0]))
                bind((rows, count // rows), f"reshape({name}, [{rows}, {count // rows}])")
            case 4 if shape and prod(shape) <= 128:
                axis = draw(st.integers(0, len(shape) - 1))
                longer = tuple(3 * e if a == axis else e for a, e in enumerate(shape))
                bind(longer, f"repeat({name}, 3, axis={axis})")
            case 5:
                bind(shape, f"cast(cast({name}, f16), f32)")
            case 6 if prod(shape) <= 128:
                bind((2, *shape) if len(shape) < 2 else shape,
                     f"broadcast({name}, {[2, *shape] if len(shape) < 2 else list(shape)})")
            case 7:
                bind(shape, f"where(fill(0.5, f32, {list(shape)}{written(shape)}) < {name}, "
                            f"{name}, 1.0)")  # fmt: skip
    name = draw(st.sampled_from(sorted(shapes)))
    count = prod(shapes[name])
    lines.append(f"store(C[0 +: 1, 0 +: {count}], reshape({name}, [1, {count}]))")
    return lines, threads


@given(bodies())
@settings(deadline=None, max_examples=150)
def test_random_programs_agree_and_compute_the_same(drawn):
    lines, threads = drawn
    before = kernel_of(
        *lines, threads=threads,
        parameters="A: global(f32)[M, N], C: inout(global(f32))[R, L]",
    )  # fmt: skip
    after = infer_layouts(before)
    assert_inferred(before, after)
    rng = np.random.default_rng(7)
    source = rng.standard_normal((15, 13)).astype(np.float32)
    results = []
    for kernel in (before, after):
        target = np.zeros((1, 600), np.float32)
        reference.run(kernel, {"A": source, "C": target})
        results.append(target)
    assert np.array_equal(*results)
