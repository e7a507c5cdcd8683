"""A driver without a GPU: device memory is host memory, and a kernel is a Python function.

It stands where `cuda.bindings.driver` does. Launches come in through a C function pointer with the
structures of cuda.h, so what is tested includes how they are laid out and packed.
"""

import ctypes

from cuda.bindings import driver as real

CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
CAPTURING = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))
CONTEXT = 0xC0


class FakeDriver:
    CUresult = real.CUresult
    CUdevice_attribute = real.CUdevice_attribute
    CUfunction_attribute = real.CUfunction_attribute
    CUstreamCaptureMode = real.CUstreamCaptureMode

    def __init__(self, capability=(9, 0), devices=1):
        self.capability, self.devices = capability, devices
        self.context = 0
        self.memory = {}
        self.freed = []
        self.launches = []
        self.calls = []
        self.captured = {}
        self.results = {}
        self.kernel = None
        self.static_shared = 0
        self._launch = CALLBACK(self.launch)
        self._capturing = CAPTURING(self.capturing)

    def __getattr__(self, name):
        """Any other function of the driver: noted down, and a success with one value."""
        if not name.startswith("cu"):
            raise AttributeError(name)
        return lambda *arguments: self.answer(name, arguments, 0)

    def answer(self, name, arguments, *values):
        self.calls.append((name, *arguments))
        return (real.CUresult(self.results.get(name, 0)), *values)

    def launch(self, configuration, function, parameters, extra):
        words = (ctypes.c_uint32 * 7).from_address(configuration)
        stream, attributes = (ctypes.c_uint64 * 2).from_address(configuration + 32)
        count = ctypes.c_uint32.from_address(configuration + 48).value
        listed = {}
        for index in range(count):
            attribute = (ctypes.c_uint32 * 18).from_address(attributes + 72 * index)
            listed[attribute[0]] = tuple(attribute[2:5])
        code = self.results.get("cuLaunchKernelEx", 0)
        if self.context != CONTEXT:
            return 201
        if code == 0:
            self.launches.append((tuple(words[:3]), tuple(words[3:6]), words[6], stream, listed))
            if self.kernel is not None:
                self.kernel(tuple(words[:3]), parameters)
        return code

    def capturing(self, stream, status):
        status[0] = int((stream or 0) in self.captured)
        return 0

    def cuInit(self, flags):
        return self.answer("cuInit", (flags,))

    def cuGetErrorName(self, code):
        return (0, real.CUresult(code).name.encode())

    def cuGetErrorString(self, code):
        return (0, real.CUresult(code).name.removeprefix("CUDA_ERROR_").lower().encode())

    def cuDeviceGetCount(self):
        return self.answer("cuDeviceGetCount", (), self.devices)

    def cuDeviceGet(self, ordinal):
        return self.answer("cuDeviceGet", (ordinal,), ordinal)

    def cuDevicePrimaryCtxRetain(self, handle):
        return self.answer("cuDevicePrimaryCtxRetain", (handle,), CONTEXT)

    def cuDeviceGetName(self, length, handle):
        return self.answer("cuDeviceGetName", (length,), b"Fake\0\0")

    def cuDeviceGetAttribute(self, kind, handle):
        values = {
            "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR": self.capability[0],
            "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR": self.capability[1],
            "CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT": 132,
            "CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 227 << 10,
        }
        return self.answer("cuDeviceGetAttribute", (kind,), values[kind.name])

    def cuFuncGetAttribute(self, kind, handle):
        values = {
            "CU_FUNC_ATTRIBUTE_NUM_REGS": 40,
            "CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES": self.static_shared,
            "CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES": 0,
            "CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK": 1024,
        }
        return self.answer("cuFuncGetAttribute", (kind,), values[kind.name])

    def cuFuncSetAttribute(self, handle, kind, value):
        return self.answer("cuFuncSetAttribute", (kind.name, value))

    def cuModuleGetFunction(self, module, name):
        return self.answer("cuModuleGetFunction", (name,), 0xF0)

    def cuFuncLoad(self, handle):
        return self.answer("cuFuncLoad", (handle,))

    def cuGetProcAddress(self, name, version, flags):
        callback = {b"cuLaunchKernelEx": self._launch, b"cuStreamIsCapturing": self._capturing}
        address = ctypes.cast(callback[name], ctypes.c_void_p).value
        return self.answer("cuGetProcAddress", (name,), address, 0)

    def cuStreamCreate(self, flags):
        return self.answer("cuStreamCreate", (flags,), 0x51)

    def cuStreamGetCaptureInfo(self, stream):
        values = (1, self.captured[stream], None, None, None, 0)
        return self.answer("cuStreamGetCaptureInfo", (stream,), *values)

    def cuStreamSynchronize(self, stream):
        return self.answer("cuStreamSynchronize", (stream,))

    def cuCtxSynchronize(self):
        return self.answer("cuCtxSynchronize", ())

    def cuCtxGetCurrent(self):
        return (real.CUresult(0), self.context)

    def cuCtxSetCurrent(self, context):
        self.context = context
        return self.answer("cuCtxSetCurrent", (context,))

    def cuCtxPushCurrent(self, context):
        self.pushed, self.context = self.context, context
        return self.answer("cuCtxPushCurrent", (context,))

    def cuCtxPopCurrent(self):
        self.context = self.pushed
        return self.answer("cuCtxPopCurrent", (), CONTEXT)

    def cuMemAlloc(self, size):
        buffer = ctypes.create_string_buffer(b"\xaa" * size, size)
        pointer = ctypes.addressof(buffer)
        self.memory[pointer] = buffer
        return self.answer("cuMemAlloc", (size,), pointer)

    def cuMemFree(self, pointer):
        self.freed.append(pointer)
        return self.answer("cuMemFree", (pointer,))

    def cuMemsetD8Async(self, pointer, value, size, stream):
        ctypes.memset(pointer, value, size)
        return self.answer("cuMemsetD8Async", (pointer, value, size, stream))

    def cuMemcpyHtoDAsync(self, pointer, host, size, stream):
        ctypes.memmove(pointer, host, size)
        return self.answer("cuMemcpyHtoDAsync", (pointer, host, size, stream))

    def cuMemcpyDtoHAsync(self, host, pointer, size, stream):
        ctypes.memmove(host, pointer, size)
        return self.answer("cuMemcpyDtoHAsync", (host, pointer, size, stream))
