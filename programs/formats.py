"""Weights as checkpoints store them, read where they lie: no loop repacks them first.

Each format is a small module with one program, `dequantize`, that takes the tensors of the
checkpoint under their own names and writes the weight. What a format is stands in three places of
it: the dtype of its codes, the layouts of the views that take codes out of words and bytes, and the
rule by which an element finds its scale and zero point. A matmul that reads such weights takes over
the loads and views as they stand.

    python -m programs.formats                  the formats
    python -m programs.formats gptq --bits 3    the module of one
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial

from programs.formats_blocks import mxfp4, nf4
from programs.formats_gguf import TEXTS, gguf
from programs.formats_words import awq, compressed_tensors, gptq
from vm.isa.program import Module

FORMATS: dict[str, Callable[..., Module]] = {
    "gptq": gptq,
    "awq": awq,
    "compressed_tensors": compressed_tensors,
    "mxfp4": mxfp4,
    "nf4": nf4,
    **{f"gguf_{name.lower()}": partial(gguf, name) for name in TEXTS},
}
"""Each format's module, by its name; what it can vary are the function's parameters."""


def options_of(name: str) -> dict[str, int | bool]:
    """The parameters of a format and their defaults."""
    parameters = inspect.signature(FORMATS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: lists the formats, or prints the module of one."""
    parser = argparse.ArgumentParser(
        prog="python -m programs.formats", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("format", nargs="?", choices=FORMATS, help="none lists all of them")
    parser.add_argument("--bits", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("--version", type=int)
    parser.add_argument("--nested", action="store_true", default=None)
    parser.add_argument("--asymmetric", dest="symmetric", action="store_false", default=None)
    given = vars(parser.parse_args(arguments))
    name = given.pop("format")
    if name is None:
        for each in FORMATS:
            shown = ", ".join(f"{key}={value}" for key, value in options_of(each).items())
            print(f"{each:20} {shown}")
        return 0
    options = {key: value for key, value in given.items() if value is not None}
    unknown = [key for key in options if key not in options_of(name)]
    if unknown:
        print(f"error: {name} does not vary in {', '.join(unknown)}", file=sys.stderr)
        return 1
    try:
        print(FORMATS[name](**options))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
