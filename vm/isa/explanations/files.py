"""E0801 to E0819: files and the command line."""

from __future__ import annotations

from vm.isa.explanations.explanation import COMMAND, Explanation


def _command(code: str, title: str, cause: str, example: str, fix: str) -> Explanation:
    return Explanation(code, title, cause, example, "", fix, COMMAND)


EXPLANATIONS = (
    _command(
        "E0801", "a file that cannot be read",
        "It is not there, may not be read, or is no UTF-8 text.",
        "vm check missing.vm", "Check the path. Programs are text files in UTF-8.",
    ),
    _command(
        "E0802", "a file that cannot be written",
        "Its folder is not there or may not be written to. What stood in the file is unchanged: "
        "files are replaced as a whole.",
        "vm layout \"spatial(8, 4)\" --svg missing/picture.svg", "Choose another place.",
    ),
    _command(
        "E0803", "a setting that means nothing",
        "`--set` takes NAME=VALUE with a constant of the module or a size of the case, and a value "
        "that is a number, truth value, dtype or layout.",
        "vm run programs/vector_add.vm --set TIEL=512", "Name one that the message lists.",
    ),
    _command(
        "E0804", "an input that the case does not have",
        "`--input NAME=...` replaces what the case binds to a call of random, arange, full or "
        "zeros; what it computes cannot be replaced.",
        "vm run programs/vector_add.vm --input X=random:7",
        "Name an input of the case: file.npy, file.npz:key, file.safetensors:tensor or "
        "random:SEED.",
    ),
    _command(
        "E0805", "a file of tensors that cannot be understood",
        "What the file says of itself does not fit the bytes that are in it, it holds objects that "
        "are no numbers, or its dtype has no counterpart here.",
        "vm run programs/vector_add.vm --input A=broken.npy", "Write the file again.",
    ),
    _command(
        "E0806", "a tensor that is not in the file",
        "Archives hold tensors by name.",
        "vm run programs/vector_add.vm --input A=weights.npz:mising",
        "Name one of those that the message lists.",
    ),
    _command(
        "E0807", "an input that does not fit the case",
        "The file's tensor has another rank or shape than the case's, or a dtype that cannot "
        "become the case's without a choice: a float becomes a narrow type by scales, which is "
        "for the case to say.",
        "vm run programs/vector_add.vm --input A=matrix.npy",
        "Give a tensor of the shape that the case writes. A weight [out, in] is turned with "
        "transpose(W), a float weight is quantized with quantize(W, u4, group_size=128).",
    ),
    _command(
        "E0808", "an output that cannot be",
        "`--output` writes a tensor of the case to a .npy file, never over a file that the same "
        "command reads.",
        "vm run programs/vector_add.vm --output C=c.txt", "Write NAME=file.npy with another name.",
    ),
    _command(
        "E0809", "a choice that is not there, or not made",
        "The case or program named does not exist, or there are several and one is needed.",
        "vm run programs/vector_add.vm --case mian", "Choose one that the message lists.",
    ),
    _command(
        "E0810", "a pass that does not exist",
        "`vm compile --after` takes the name of a pass of the compiler.",
        "vm compile programs/vector_add.vm --after slection", "Name one that the message lists.",
    ),
)  # fmt: skip
