"""Weights as checkpoints store them, read where they lie: no loop repacks them first.

The table of formats. programs/checkpoints.py says what a format is and makes the program
`dequantize` of one; `python -m programs.quantized_matmul --checkpoint NAME` makes the matmul.

    python -m programs.formats                      the formats
    python -m programs.formats gptq --set bits=3    the module that restores weights of one
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial

from programs.checkpoints import Format, dequantizer
from programs.formats_blocks import mxfp4, nf4
from programs.formats_gguf import BLOCK_TYPES, gguf
from programs.formats_words import awq, compressed_tensors, gptq

FORMATS: dict[str, Callable[..., Format]] = {
    "gptq": gptq,
    "awq": awq,
    "compressed_tensors": compressed_tensors,
    "mxfp4": mxfp4,
    "nf4": nf4,
    **{f"gguf_{name.lower()}": partial(gguf, name) for name in BLOCK_TYPES},
}
"""Each format, by its name; what it can vary are the function's parameters."""


def options_of(name: str) -> dict[str, int | bool]:
    """The parameters of a format and their defaults."""
    parameters = inspect.signature(FORMATS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def format_called(name: str, settings: Sequence[str] = ()) -> Format:
    """The format of that name, with `settings` such as "bits=3"; ValueError says what is wrong."""
    known = options_of(name)
    options: dict[str, int | bool] = {}
    for setting in settings:
        option, _, text = setting.partition("=")
        if option not in known:
            varies = f"in {', '.join(known)}" if known else "in nothing"
            raise ValueError(f"{name} does not vary in {option}; it does {varies}")
        if isinstance(known[option], bool):
            if text not in ("true", "false"):
                raise ValueError(f"{option}={text}: write {option}=true or {option}=false")
            options[option] = text == "true"
        elif text.isdecimal():
            options[option] = int(text)
        else:
            raise ValueError(f"{option}={text}: write a number, {option}={known[option]}")
    return FORMATS[name](**options)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: lists the formats, or prints the module of one."""
    parser = argparse.ArgumentParser(
        prog="python -m programs.formats", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("format", nargs="?", choices=FORMATS, help="none lists all of them")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="what it can vary in, as the list says")  # fmt: skip
    given = parser.parse_args(arguments)
    if given.format is None:
        for each in FORMATS:
            shown = ", ".join(f"{key}={value}" for key, value in options_of(each).items())
            print(f"{each:20} {shown.lower()}".rstrip())
        return 0
    try:
        print(dequantizer(format_called(given.format, given.set)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
