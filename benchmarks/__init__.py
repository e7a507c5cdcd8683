"""Side-by-side measurements of quantized GEMM kernels; see README.md beside this file."""
