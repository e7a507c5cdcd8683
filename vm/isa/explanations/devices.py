"""E0820 and up: devices, compilers, launches and the emulator."""

from __future__ import annotations

from vm.isa.explanations.explanation import PYTHON, Explanation


def _launch(code: str, title: str, cause: str, example: str, fix: str) -> Explanation:
    return Explanation(code, title, cause, example, "", fix, PYTHON)


EXPLANATIONS = (
    _launch(
        "E0820", "a package that CUDA needs is missing",
        "Compiling for NVIDIA GPUs uses NVRTC, and launching the driver's bindings; both are "
        "packages of Python.",
        "import vm.runtime.nvrtc\nvm.runtime.nvrtc.version()  # without the package",
        "Install what the message names; `vm doctor` lists everything that is missing.",
    ),
    _launch(
        "E0821", "no GPU can be used",
        "There is no NVIDIA driver, no device, or no device of the number asked for.",
        "import vm.runtime.cuda\nvm.runtime.cuda.device(0)  # on a machine without a GPU",
        "Run on the reference machine or the emulator, which need none.",
    ),
    _launch(
        "E0822", "a target that is not known",
        "Targets are named as NVIDIA and AMD name their architectures: sm_80, sm_90a, gfx942. Each "
        "toolchain knows those of one of them.",
        "from vm.runtime.nvrtc import compile_cubin\ncompile_cubin('', 'sm_42', 'p')",
        "Use one that the message lists.",
    ),
    _launch(
        "E0823", "no disassembler",
        "Showing SASS needs nvdisasm, a package of its own.",
        "from vm.runtime.sass import disassemble\ndisassemble(cubin)  # without the package",
        "Install what the message names.",
    ),
    _launch(
        "E0824", "the driver refused",
        "A call of the CUDA driver failed; the message has its name and the driver's reason.",
        "k(a, b, c)  # with no memory left on the device",
        "The driver's reason says what to do: free memory, choose another device.",
    ),
    _launch(
        "E0825", "a device that is lost",
        "A kernel of this process did what the hardware forbids, such as an access outside of all "
        "memory. The device can do nothing more in this process.",
        "k(a, b, c)  # after a fault of any kernel in this process",
        "Run the program on the reference machine, which finds the access; then start a new "
        "process.",
    ),
    _launch(
        "E0826", "compiled for another device",
        "A compiled kernel runs on the architecture that it was compiled for.",
        "k = vm.compile(m['matmul'], target='sm_80')\nk(a, b, c)  # arrays on an sm_120 device",
        "Compile for the target that the message names.",
    ),
    _launch(
        "E0827", "a block or grid that the device cannot hold",
        "A block needs more shared memory or registers than there are, or the grid has too many "
        "blocks.",
        "k = vm.compile(m['matmul'], target='sm_89', STAGES=12)\nk(a, b, c)",
        "Use smaller tiles, fewer stages or fewer threads.",
    ),
    _launch(
        "E0828", "a value that is no array",
        "An argument in memory is a NumPy, torch or CuPy array, a vm.Tensor, or speaks DLPack or "
        "the CUDA array interface.",
        "k([1.0, 2.0], b, c)", "Pass an array.",
    ),
    _launch(
        "E0829", "an array of another dtype",
        "The array's elements are not those of the parameter, or have no counterpart here.",
        "k(a.double(), b, c)  # for A: global(f16)[M, K]",
        "Cast the array, or pass bytes for a packed type.",
    ),
    _launch(
        "E0830", "an array of another shape",
        "The array's rank or extents are not those that the sizes of the call give the parameter.",
        "k(a, b[:-1], c)", "Pass arrays whose shapes agree.",
    ),
    _launch(
        "E0831", "an array that is not aligned",
        "The program says aligned(A, 16) and the array begins elsewhere.",
        "k(a[1:], b, c)", "Copy the array, or remove the fact.",
    ),
    _launch(
        "E0832", "an array with other strides",
        "The parameter is row-major, or has the strides that its type says; the array has others.",
        "k(a.T, b, c)", "Pass a contiguous array, such as a.contiguous().",
    ),
    _launch(
        "E0833", "an array on another device",
        "All arrays of a call are on one device, which is of the kind the kernel is compiled for.",
        "k(a.to('cuda:0'), b.to('cuda:1'), c)", "Move them to one device.",
    ),
    _launch(
        "E0834", "an array that cannot be written",
        "A parameter is out or inout and the array is read-only.",
        "c.flags.writeable = False\nk(a, b, c)", "Pass an array that can be written.",
    ),
    _launch(
        "E0835", "arrays that overlap",
        "What a program writes shares no memory with its other arguments.",
        "k(a, b, a)", "Pass another array for the result.",
    ),
    _launch(
        "E0836", "sizes that break a fact at a launch",
        "A `where` fact of the program is false for the shapes of these arrays.",
        "k(a, b, c)  # K = 100 where K % 128 == 0", "Pad the arrays to sizes that fit.",
    ),
    _launch(
        "E0837", "other arguments than the program takes",
        "There are too many or too few arguments, or a number does not fit its dtype.",
        "k(a, b)  # for (A, B, C)", "Give the arguments in the order of the program's parameters.",
    ),
    _launch(
        "E0838", "host arrays where device arrays are needed",
        "Prepared and captured launches use the arrays where they are; arrays in the host's memory "
        "would have to be copied at every call.",
        "k.prepare(numpy_array, b, c)", "Pass arrays on the device.",
    ),
    _launch(
        "E0840", "a fault on the emulator",
        "The emitted C++ did on the host what cannot be right on a GPU: a barrier that not all "
        "threads reach, an access outside of an array or misaligned, a division by zero.",
        "run(host, 'kernel', arguments, grid=(1,), threads=32)",
        "The message has the lines of both sides. Run the program on the reference machine: if "
        "that finds nothing, it is a mistake of the compiler to report.",
    ),
    _launch(
        "E0841", "no C++ compiler",
        "The emulator compiles emitted text with the host's compiler.",
        "compile_host(source, cache)  # on a machine without g++ and clang++",
        "Install g++, or run on the reference machine, which needs none.",
    ),
    _launch(
        "E0842", "an emulator launch that cannot be",
        "The text has no such kernel, or the grid, threads, order or arguments are none.",
        "run(host, 'kernel', arguments, grid=(0,), threads=32)", "Give what the message asks for.",
    ),
    _launch(
        "E0843", "no compiler for AMD GPUs",
        "Code objects are compiled by clang, which the package ziglang brings along; one on PATH "
        "with its linker (clang-19 and ld.lld-19) will do.",
        "from vm.runtime.hip import toolchain\ntoolchain()  # without either",
        "Install what the message names.",
    ),
    _launch(
        "E0844", "a target that nothing is launched on",
        "Programs are compiled for AMD GPUs, and run as emitted on the emulator, but not launched "
        "yet.",
        "vm.compile(m['vector_add'], target='gfx942')",
        "Run it on `emulator:gfx942`, or take the code object to a launcher of your own.",
    ),
    _launch(
        "E0850", "no configuration can be used",
        "Each configuration that was to be tuned does not fit the device, does not compile, or "
        "gives other results than its case expects. The notes have the reason for each.",
        "fastest(tune(configurations, work, stopwatch, store))",
        "Try others: smaller tiles, fewer stages, more threads for the same tile.",
    ),
)  # fmt: skip
