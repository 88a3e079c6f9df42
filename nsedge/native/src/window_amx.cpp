// Attention within a window by tiles of AMX, in bfloat16 with sums in float.
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "vector_512.h"
#include "window.h"

#define NSEDGE_BFLOAT __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512bf16")))
#define NSEDGE_AMX                                                                       \
  __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16")))

namespace window {
namespace amx {
namespace {

using Bfloat = uint16_t;

constexpr long GROUP = 16;        // rows of a tile
constexpr long STEP = 32;         // numbers that a tile sums over
constexpr long TILE = 512;        // numbers in one
constexpr long ROWS = 2 * GROUP;  // queries at once
constexpr float NEVER = -1e30f;

struct alignas(64) Configuration {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

long blocks_of(const Shape& t) { return (t.length + STEP - 1) / STEP; }
long padded(const Shape& t) { return blocks_of(t) * STEP; }

// A head's keys in tiles [2 blocks, dim / 32], each [16 pairs of dimensions, 16 positions, 2]; then its
// values in tiles [dim / 16, blocks], each [16 pairs of positions, 16 dimensions, 2].
size_t packed_bytes(const Shape& t) { return 2 * padded(t) * t.dim * sizeof(Bfloat); }

// Sixteen numbers, a bfloat16 in the low half of each lane.
NSEDGE_BFLOAT __m512i rounded(const float* from) {
  const __m256bh sixteen = _mm512_cvtneps_pbh(_mm512_loadu_ps(from));
  return _mm512_cvtepu16_epi32((__m256i)sixteen);
}

// Thirty-two numbers as bfloat16, in order.
NSEDGE_BFLOAT __m512i both(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

NSEDGE_BFLOAT void pack(const Shape& t, const float* keys, const float* values, long index, void* packed) {
  const long steps = t.dim / STEP, first = index * STEP;
  auto* k = static_cast<Bfloat*>(packed) + 2 * index * steps * TILE;
  auto* v = static_cast<Bfloat*>(packed) + padded(t) * t.dim + index * TILE;
  const __m512i none = _mm512_setzero_si512();
  const __m512i rows = _mm512_mullo_epi32(_mm512_set1_epi32(GROUP), _mm512_set_epi32(
      15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
  for (long i = 0; i < STEP; i++) {
    const float* key = keys + (first + i) * t.stride;
    for (long s = 0; s < steps; s++) {
      __m512i pairs = none;
      if (first + i < t.length)
        pairs = both(_mm512_loadu_ps(key + s * STEP), _mm512_loadu_ps(key + s * STEP + GROUP));
      Bfloat* tile = k + (i / GROUP * steps + s) * TILE + 2 * (i % GROUP);
      _mm512_i32scatter_epi32(tile, rows, pairs, 4);
    }
  }
  for (long i = 0; i < GROUP; i++) {
    const long at = first + 2 * i;
    const float* value = values + at * t.stride;
    for (long d = 0; d < t.dim; d += GROUP) {
      const __m512i even = at < t.length ? rounded(value + d) : none;
      const __m512i odd = at + 1 < t.length ? rounded(value + t.stride + d) : none;
      _mm512_storeu_si512(v + d / GROUP * blocks_of(t) * TILE + 2 * GROUP * i,
                          _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
  }
}

// Registers 0 to 3 are sums [16, 16], 4 and 5 hold rows [16, 32], 6 and 7 columns [16, 16, 2].
NSEDGE_AMX void configure() {
  Configuration all;
  for (int i = 0; i < 8; i++) all.bytes[i] = 64, all.rows[i] = GROUP;
  // GCC 12 takes the instruction to read eight bytes alone, and drops what is stored to the others.
  __asm__ volatile("" : : "r"(&all) : "memory");
  _tile_loadconfig(&all);
}

// c [32, 32] = a [32, 32 steps] b, whose tiles lie one behind the other, those of the right half
// `right` numbers after those of the left; strides in bytes.
NSEDGE_AMX void product(const Bfloat* a, long a_stride, const Bfloat* b, long right, long steps, float* c,
                        long c_stride) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const Bfloat* lower = a + GROUP * a_stride / static_cast<long>(sizeof(Bfloat));
  for (long s = 0; s < steps; s++, a += STEP, lower += STEP, b += TILE) {
    _tile_loadd(4, a, a_stride);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + right, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, lower, a_stride);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  float* below = c + GROUP * c_stride / static_cast<long>(sizeof(float));
  _tile_stored(0, c, c_stride);
  _tile_stored(1, c + GROUP, c_stride);
  _tile_stored(2, below, c_stride);
  _tile_stored(3, below + GROUP, c_stride);
}

// Scores x [padded] to weights, the softmax of the first `length` without its division; the sum to
// divide by. factor: the scale, times log2(e).
NSEDGE_BFLOAT float weigh(float* x, long length, long padded, float factor, Bfloat* weights) {
  for (long i = length; i < padded; i++) x[i] = NEVER;
  __m512 left = _mm512_loadu_ps(x), right = _mm512_loadu_ps(x + GROUP);
  for (long i = STEP; i < padded; i += STEP) {
    left = _mm512_max_ps(left, _mm512_loadu_ps(x + i));
    right = _mm512_max_ps(right, _mm512_loadu_ps(x + i + GROUP));
  }
  const __m512 factors = _mm512_set1_ps(factor);
  const __m512 shift = _mm512_set1_ps(-factor * vec512::greatest(_mm512_max_ps(left, right)));
  __m512 sums = _mm512_setzero_ps(), others = sums;
  for (long i = 0; i < padded; i += STEP) {
    left = vec512::power_of_two<3>(_mm512_fmadd_ps(_mm512_loadu_ps(x + i), factors, shift));
    right = vec512::power_of_two<3>(_mm512_fmadd_ps(_mm512_loadu_ps(x + i + GROUP), factors, shift));
    sums = _mm512_add_ps(sums, left);
    others = _mm512_add_ps(others, right);
    _mm512_storeu_si512(weights + i, both(left, right));
  }
  return vec512::sum(_mm512_add_ps(sums, others));
}

// Scores [ROWS, padded], weights [ROWS, padded], queries and mixed values [ROWS, dim].
size_t room_bytes(const Shape& t) {
  return ROWS * (padded(t) + t.dim) * (sizeof(float) + sizeof(Bfloat));
}

NSEDGE_BFLOAT void take_queries(const Shape& t, const float* from, long count, Bfloat* to) {
  for (long r = 0; r < ROWS; r++, from += t.stride)
    for (long d = 0; d < t.dim; d += STEP, to += STEP)
      _mm512_storeu_si512(to, r < count ? both(_mm512_loadu_ps(from + d), _mm512_loadu_ps(from + d + GROUP))
                                        : _mm512_setzero_si512());
}

NSEDGE_BFLOAT void give(const Shape& t, const float* mixed, const float* sums, long count, float* y) {
  for (long r = 0; r < count; r++, y += t.width(), mixed += t.dim) {
    const __m512 inverse = _mm512_set1_ps(1.0f / sums[r]);
    for (long d = 0; d < t.dim; d += GROUP)
      _mm512_storeu_ps(y + d, _mm512_mul_ps(_mm512_loadu_ps(mixed + d), inverse));
  }
}

NSEDGE_AMX void attend(const Shape& t, const float* from, long count, const void* packed, void* room,
                       float* y) {
  const long stride = padded(t), blocks = blocks_of(t), steps = t.dim / STEP;
  const auto* keys = static_cast<const Bfloat*>(packed);
  const Bfloat* values = keys + stride * t.dim;
  auto* scores = static_cast<float*>(room);
  float *mixed = scores + ROWS * stride, sums[ROWS];
  auto* weights = reinterpret_cast<Bfloat*>(mixed + ROWS * t.dim);
  Bfloat* queries = weights + ROWS * stride;
  constexpr long NUMBER = sizeof(float), HALF = sizeof(Bfloat);
  take_queries(t, from, count, queries);
  configure();
  for (long b = 0; b < blocks; b++)
    product(queries, t.dim * HALF, keys + 2 * b * steps * TILE, steps * TILE, steps, scores + b * STEP,
            stride * NUMBER);
  const float factor = t.scale * vec512::LOG2E;
  for (long r = 0; r < ROWS; r++)
    sums[r] = weigh(scores + r * stride, t.length, stride, factor, weights + r * stride);
  for (long d = 0; d < t.dim; d += STEP)
    product(weights, stride * HALF, values + d / GROUP * blocks * TILE, blocks * TILE, blocks, mixed + d,
            t.dim * NUMBER);
  _tile_release();
  give(t, mixed, sums, count, y);
}

}  // namespace

const Kernel KERNEL = {STEP, ROWS, packed_bytes, pack, room_bytes, attend};

bool here() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> 22 & 1)) return false;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return false;  // AVX-512 BF16
  constexpr int ASK = 0x1023, TILES = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, ASK, TILES) == 0;
}

}  // namespace amx
}  // namespace window
