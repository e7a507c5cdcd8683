"""A small program for every instruction: it shows a use, and seeds the mutation tests."""

from __future__ import annotations

HEADER = """vm 1
program f(A: inout(global(f32))[M, 64], I: inout(global(i32))[M, 64], H: global(f16)[M, 64],
          n: i32, x: f32, c: bool) grid (M, 2) threads 32
{
"""

# What most bodies begin with; `t` is a tensor of 32 elements with one in each thread.
PER_THREAD = """  lane = thread_index()
  at = cast(lane * 4, i64)
"""
WORDS = """  y = iota(u32, [64], layout=spatial(32).local(2))
"""
TENSORS = """  r = load(A[0 +: 16, 0 +: 16])
  s = load(A[16 +: 16, 0 +: 16])
  i = load(I[0 +: 16, 0 +: 16])
"""

_BINARY = ("add", "sub", "mul", "div", "min", "max")
_COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
_INTEGER = ("mod", "ceil_div", "bit_and", "bit_or", "bit_xor", "shl", "shr")
_FUNCTIONS = (
    "neg", "abs", "exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "sin", "cos", "floor",
    "ceil", "round",
)  # fmt: skip

# The statements of a program for each opcode; those of the compiler's level need words and bytes.
BODIES: dict[str, str] = {
    **{o: f"{TENSORS}  y = {o}(r, s); z = {o}(x, 2.5); print(y + z)" for o in _BINARY},
    **{o: f"{TENSORS}  y = {o}(r, s); z = {o}(n, 3); print(where(y, z, c))" for o in _COMPARE},
    **{o: f"{TENSORS}  y = {o}(i, 3); z = {o}(n, 2); print(y + z)" for o in _INTEGER},
    **{o: f"{TENSORS}  y = {o}(r); z = {o}(x); print(y * z)" for o in _FUNCTIONS},
    "and": "  y = c and n < 3; assert(y)",
    "or": "  y = n < 3 or c; assert(y)",
    "not": f"{TENSORS}  y = not (r < s); assert(y)\n  assert(not c)",
    "bit_not": f"{TENSORS}  y = ~i; print(y + ~n)",
    "fma": f"{TENSORS}  y = fma(r, s, x); print(y)",
    "where": f"{TENSORS}  y = where(r < s, r, 0.0); z = where(c, x, 1.0); print(y * z)",
    "fill": "  y = fill(0.0, f16, [4, 8], layout=spatial(4, 8)); print(y)\n"
    "  var acc: register(f32)[8, 8] = fill(-inf)\n  print(acc)",
    "iota": "  y = iota(i32, [4, 8], axis=1); print(y)",
    "cast": f"{TENSORS}  y = cast(r, f8e4m3, overflow=\"ieee\"); z = cast(n, f32); print(z)\n"
    "  print(cast(y, f16)); print(cast(r, i8, rounding=\"toward_zero\"))",
    "view": "  y = load(H[0 +: 4, 0 +: 16], layout=spatial(4, 8).local(1, 2))\n"
    "  print(view(y, u32, layout=spatial(4, 8)))",
    "relayout": f"{TENSORS}  y = relayout(r, layout=spatial(4, 8).local(4, 2)); print(y)",
    "transpose": f"{TENSORS}  y = transpose(r); z = transpose(s, order=[0, 1]); print(y + z)",
    "reshape": f"{TENSORS}  y = reshape(r, [256]); print(y)",
    "broadcast": "  y = load(A[0 +: 1, 0 +: 16]); print(broadcast(y, [16, 16]))",
    "repeat": f"{TENSORS}  y = repeat(r, 2, axis=1); print(y)",
    "reduce": f"{TENSORS}  y = reduce(r, 1, op=\"max\"); z = reduce(i, axis=0, keep=false)\n"
    "  print(y); print(z); print(reduce(r < s, 0, op=\"any\"))",
    "item": "  y = load(A[0 +: 1, 0 +: 1]); print(item(y))",
    "shared_alloc": "  m = shared_alloc(f32, [2, 16, 16]); store(m[1, :, :], 0.0)",
    "global_view": "  v = global_view(A, u16, n, 4, offset=n, strides=[4, 1])\n"
    "  print(load(v[n +: 8, :]))",
    "load": "  y = load(A[n +: 8, 0 +: 4], layout=spatial(8, 4)); z = load(A[n, :], inside=true)\n"
    "  print(y); print(z)",
    "store": f"{TENSORS}  store(A[n +: 16, 16 +: 16], r); store(A[n, :], 1.5, inside=true)",
    "load_scalar": "  y = load_scalar(A[n, 3]); print(y + x)",
    "gather": "  y = gather(A[0 +: 32, 0 +: 8], iota(i32, [4]), axis=0); print(y)",
    "scatter": "  y = fill(1.0, f32, [4, 8])\n"
    "  scatter(A[0 +: 32, 0 +: 8], iota(i32, [4]), y, axis=0, op=\"add\")",
    "atomic": "  y = atomic(A[0, 0], x, op=\"max\"); print(y)\n"
    "  atomic(I[0 +: 4, 0 +: 8], iota(i32, [4, 8]), scope_of=\"block\")",
    "lookup": "  codes = iota(u8, [4, 8]) ; y = lookup(codes, A[n, 0 +: 32])\n"
    "  t = shared_alloc(f16, [32]); store(t, 1.0); synchronize(); print(lookup(codes, t))\n"
    "  print(y + lookup(codes, load(A[0, 0 +: 32])))",
    "philox": "  y = philox(7, iota(i32, [4, 8])); z = philox(n, n, stream=3); print(y + z)\n"
    "  print(cast(fill(0.3, f32, [4, 8]), f6e2m3, rounding=\"stochastic\", random=y))",
    "copy_async": "  m = shared_alloc(f32, [16, 16])\n  copy_async(m, A[n +: 16, 0 +: 16])\n"
    "  commit_async(); wait_async(); synchronize(); print(load(m))",
    "commit_async": "  m = shared_alloc(f16, [2, 8, 64]); copy_async(m[0, :, :], H[0 +: 8])\n"
    "  commit_async(); copy_async(m[1], H[8 +: 8]); commit_async()\n"
    "  wait_async(pending=1); synchronize(); print(load(m[0])); wait_async(0)",
    "mbarrier_alloc": "  full = mbarrier_alloc([2, 3], warps=4); mbarrier_wait(full[1, n], 1)",
    "mbarrier_arrive": "  full = mbarrier_alloc([2]); mbarrier_arrive(full[0])",
    "mbarrier_expect": "  full = mbarrier_alloc([2]); mbarrier_expect(full[1], 64 * n)",
    "mbarrier_wait": "  full = mbarrier_alloc([2]); mbarrier_arrive(full[0])\n"
    "  for i in range(2) { mbarrier_wait(full[0], i) }",
    "global_alloc": "  w = global_alloc(f16, [M, 2 * ceil_div(M, 8), 64]); b, k = block_index()\n"
    "  store(w[b, k, :], load(H[b, :])); synchronize(); print(load(w[b, k, :]))",
    "semaphore_alloc": "  turn = semaphore_alloc([M, 2]); b, k = block_index()\n"
    "  semaphore_release(turn[b, k], 0)",
    "semaphore_wait": "  turn = semaphore_alloc([M]); b, k = block_index()\n"
    "  semaphore_wait(turn[b], k); semaphore_release(turn[b], 1 - k)",
    "semaphore_release": "  turn = semaphore_alloc([3]); semaphore_wait(turn[2], 0)\n"
    "  semaphore_release(turn[2], n); semaphore_release(turn[2], 0)",
    "copy_bulk": "  full = mbarrier_alloc([1]); m = shared_alloc(f16, [2, 8, 64])\n"
    "  mbarrier_expect(full[0], 1024); copy_bulk(m[n], H[0 +: 8], full[0])\n"
    "  mbarrier_wait(full[0], 0); print(load(m[n]))",
    "wait_async": "  wait_async(pending=2); wait_async()",
    "if": "  if c { synchronize() } else if n == 2 { print(n) } else { print(x) }",
    "for": "  for k in range(0, n, 2) { print(k) }\n  for k in range(3) unroll full { print(k) }\n"
    "  for k in range(n) unroll 4 { if k == 3 { continue }\n print(k) }",
    "while": "  var k = 0\n  while k < n { k := k + 1\n if k == 7 { break } }",
    "group": "  group one(warps=1) { synchronize() }",
    "var": "  var y: f32\n  if c { y := x } else { y := 1.0 }\n  print(y)",
    "jump": "  for k in range(n) { if c { break } else { continue } }",
    "copy": f"{TENSORS}  var y: register(f32)[16, 16] = r\n  z = y\n  y := s\n  print(z)",
    "print": f"{TENSORS}  print(r, label=\"all \\\"of\\\" it\"); print(3); print(true)",
    "assert": f"{TENSORS}  assert(r < 1.0, message=\"small\"); assert(c)",
    "dot": "  a = load(H[0 +: 16, 0 +: 16]); b = load(H[16 +: 16, 0 +: 8])\n"
    "  var acc: register(f32)[16, 8] = fill(0.0)\n  acc := dot(a, b, acc)\n"
    "  print(dot(a, b, c=acc))",
    "block_index": "  bm, bn = block_index(); print(bm + bn)",
    "grid_size": "  gm, gn = grid_size(); print(gm * gn)",
    "group_index": "  group all(warps=1, copies=1) { print(group_index()) }",
    "synchronize": "  if c { synchronize() }\n  synchronize()",
    "barrier": "  barrier(1, 1); barrier(id=2, warps=1, arrive=true)",
    "grid_wait": "  if c { grid_wait() } else { grid_wait() }\n"
    "  print(load(A[0 +: 8]))",
    "grid_launch_dependents": "  grid_launch_dependents(); synchronize()",
    "exit": "  if n < 0 { exit() }\n  print(n)",
    "thread_index": "  print(thread_index())",
    "undefined": "  y = undefined(f16, [4, 8], spatial(4, 8)); print(y)",
    "pick": "  y = iota(i32, [64], layout=spatial(32).local(2))\n"
    "  print(pick(y, [1, 0, 1], layout=spatial(32).local(3)))",
    "pad": "  y = iota(i32, [64], layout=spatial(32).local(2))\n"
    "  print(pad(y, layout=spatial(32).local(3)))",
    "interleave": "  y = iota(i32, [64], layout=spatial(32).local(2))\n"
    "  print(interleave(spatial(32).local(4), y, -y))",
    "spread": "  print(spread(n))",
    "uniform": "  print(uniform(spread(n)))",
    "slot_constants": "  print(slot_constants([1, 2], i32, spatial(32).local(2)))",
    "nv.load_global": f"{PER_THREAD}  y = undefined(f32, [32], spatial(32))\n"
    "  print(nv.load_global(y, A, at, predicate=lane < n, bytes=4, cache=\"streaming\"))",
    "nv.store_global": f"{PER_THREAD}  nv.store_global(A, at, cast(lane, f32), bytes=4)",
    "nv.load_shared": "  y = undefined(f32, [32], spatial(32))\n"
    "  print(nv.load_shared(y, thread_index() * 4))",
    "nv.store_shared": "  nv.store_shared(thread_index() * 4, thread_index(), plus=16)",
    **{f"{family}.{o}": f"{PER_THREAD}  turn = semaphore_alloc([M, 32])\n"
       f"  {family}.{o}(turn, at, lane * 0, predicate=lane == 1)"
       for family in ("nv", "amd") for o in ("wait_for", "signal")},
    "amd.fence": "  amd.fence()",
    "nv.mbarrier_init": f"{PER_THREAD}  nv.mbarrier_init(lane * 8, 1, predicate=lane < 4)",
    "nv.mbarrier_arrive": f"{PER_THREAD}  nv.mbarrier_arrive(lane * 0, predicate=lane == 0)",
    "nv.mbarrier_expect": f"{PER_THREAD}  nv.mbarrier_expect(lane * 0, lane, predicate=lane == 0)",
    "nv.mbarrier_wait": f"{PER_THREAD}  nv.mbarrier_wait(lane * 0, lane * 0)",
    "nv.copy_bulk": f"{PER_THREAD}  nv.copy_bulk(lane * 16, A, cast(n, i64), lane * 0, bytes=16)",
    "nv.fence": "  nv.fence(\"async_shared\"); nv.fence(of=\"mbarrier_init\")",
    "nv.sync_warp": "  nv.sync_warp()",
    "nv.elect": "  one = nv.elect()",
    "nv.copy_async": f"{PER_THREAD}  nv.copy_async(lane * 16, A, at * 4, bytes=16)",
    "nv.stmatrix": "  y = fill(1.0, f16, [256], spatial(32).local(8))\n"
    "  s = shared_alloc(f16, [256], address=0)\n"
    "  nv.stmatrix(thread_index() * 16, y, count=4, transposed=true)",
    "nv.ldmatrix": "  y = undefined(f16, [256], spatial(32).local(8))\n"
    "  print(nv.ldmatrix(y, thread_index() * 16, count=4, transposed=true))",
    "nv.mma": "  a = fill(1.0, f16, [16, 16], layout=mma_m16n8k16.a)\n"
    "  b = fill(1.0, f16, [16, 8], layout=mma_m16n8k16.b)\n"
    "  acc = fill(0.0, f32, [16, 8], layout=mma_m16n8k16.c)\n"
    "  print(nv.mma(acc, a, b, \"mma_m16n8k16\", [0, 1, 2, 3], [0, 1, 2, 3], "
    "[0, 1]))",
    "nv.dequantize": "  y = fill(3, u4, [64], layout=spatial(32).local(2))\n"
    "  print(nv.dequantize(y, f16, [1, 0], spatial(32).local(2), offset=8))",
    "nv.lop3": f"{WORDS}  print(nv.lop3(y, 0xF0F0, cast(n, u32), 0xEA))",
    "nv.prmt": f"{WORDS}  print(nv.prmt(y, 0, 0x8140))",
    "nv.shift_left": f"{WORDS}  print(nv.shift_left(y, 31))",
    "nv.shift_right": f"{WORDS}  print(nv.shift_right(y, 3, signed=true))",
    "nv.funnel_shift": f"{WORDS}  print(nv.funnel_shift(y, 0b101, 31))",
    "nv.half2_add": f"{WORDS}  print(nv.half2_add(y, 0x3C003C00, f16))",
    "nv.half2_mul": f"{WORDS}  print(nv.half2_mul(y, y, bf16))",
    "nv.half2_fma": f"{WORDS}  print(nv.half2_fma(y, y, y, f16, negated=true))",
    "nv.half2_exceeds": f"{WORDS}  print(nv.half2_exceeds(y, 0x3C003C00, f16))",
    "nv.look_up": f"{WORDS}  print(nv.look_up(y, address=1024, entries=4))",
    "nv.cvt_pack": "  y = cast(thread_index(), f32)\n"
    "  print(nv.cvt_pack(y, 1.5, bf16, overflow=\"ieee\"))",
    "nv.cvt_f8x2_to_half2": f"{WORDS}  print(nv.cvt_f8x2_to_half2(y, f8e4m3))",
    "nv.cvt_half2_to_f8x2": f"{WORDS}  print(nv.cvt_half2_to_f8x2(y, f8e5m2))",
    "nv.vote": "  print(nv.vote(thread_index() < n, op=\"all\"))",
    "nv.fields": "  y = fill(3, u4, [64], layout=spatial(32).local(2))\n"
    "  print(nv.fields(y, [1, 0], [7]))",
    "nv.shuffle_xor": "  print(nv.shuffle_xor(thread_index(), 16))",
    "nv.load_global_bits": f"{PER_THREAD}  y = undefined(u4, [32], spatial(32))\n"
    "  z = nv.load_global_bits(y, A, at); print(cast(z, i32))",
    "nv.store_global_bits": f"{PER_THREAD}"
    "  nv.store_global_bits(A, at, fill(3, u4, [32], layout=spatial(32)))",
    "nv.load_shared_bits": f"{PER_THREAD}  y = undefined(u4, [32], spatial(32))\n"
    "  z = nv.load_shared_bits(y, at); print(cast(z, i32))",
    "nv.store_shared_bits": f"{PER_THREAD}"
    "  nv.store_shared_bits(at, fill(3, u4, [32], layout=spatial(32)))",
    "nv.atomic_global": f"{PER_THREAD}  print(nv.atomic_global(lane, I, at, lane, op=\"max\"))",
    "nv.reduce_global": f"{PER_THREAD}  nv.reduce_global(I, at, lane, predicate=lane < n)",
    "nv.atomic_shared": "  lane = thread_index(); print(nv.atomic_shared(lane, lane * 4, lane))",
    "nv.reduce_shared": "  lane = thread_index(); nv.reduce_shared(lane * 4, lane, op=\"add\")",
}  # fmt: skip

# What other families have too is written as for NVIDIA GPUs, but for the matrix product.
_SHARED = (
    "load_global", "store_global", "load_shared", "store_shared", "shuffle_xor", "vote",
    "load_global_bits", "store_global_bits", "load_shared_bits", "store_shared_bits",
    "atomic_global", "reduce_global", "atomic_shared", "reduce_shared",
)  # fmt: skip
BODIES |= {f"amd.{name}": BODIES[f"nv.{name}"].replace("nv.", "amd.") for name in _SHARED}
MFMA = """  a = fill(1.0, f16, [16, 16], layout=mfma_16x16x16.a)
  b = fill(1.0, f16, [16, 16], layout=mfma_16x16x16.b)
  acc = fill(0.0, f32, [16, 16], layout=mfma_16x16x16.c)
  print(amd.mfma(acc, a, b, "mfma_16x16x16", [0, 1, 2, 3], [0, 1], [0, 1]))"""

# `return` is an instruction of references only.
PROGRAMS: dict[str, str] = {
    **{opcode: f"{HEADER}{body}\n}}\n" for opcode, body in BODIES.items()},
    "amd.mfma": f"{HEADER.replace('threads 32', 'threads 64')}{MFMA}\n}}\n",
    "return": "vm 1\nconst M = 4\nreference f(X: f32[M, 8], Y: f32[8, M]) { return dot(X, Y) }\n",
}
