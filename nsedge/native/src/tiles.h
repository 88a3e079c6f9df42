// Tiles of a product: up to ROWS rows of rounded x by 16 columns of packed weights.
#pragma once

#include <cstring>

#include "matmul.h"
#include "vector.h"

namespace matmul {

// What a tile is made of, at its first block.
struct Operands {
  const void* x;  // the first row's rounded values
  const float* x_scales;
  const float* x_sums;
  const int8_t* data;
};

using Tile = void (*)(const Weights&, const Operands&, float (*)[COLUMNS]);

namespace avx512 {

constexpr long ROWS = 12;  // of a tile at most: 24 sums, the weights and their sides fill 32 registers

// The tiles of 1 to ROWS rows.
const Tile* tiles_of(const Weights& weights);

}  // namespace avx512

namespace {

constexpr long LINE = 64;
constexpr long AHEAD = 4096;  // bytes of weights that are fetched ahead
constexpr long STEP_8 = 8;    // of k, of 8-bit weights

// Eight floats, from halves or floats.
template <bool HALVES>
NSEDGE_AVX2 inline __m256 eight(const int8_t* from) {
  if constexpr (HALVES)
    return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
  else
    return _mm256_load_ps(reinterpret_cast<const float*>(from));
}

// Bytes of a block's weights, and of its scales and offsets.
template <int BITS, int BLOCK>
constexpr long Q_BYTES = BLOCK * COLUMNS * BITS / 8;
template <bool HALVES, bool SHIFTED>
constexpr long SIDES = COLUMNS * (HALVES ? 2 : 4) * (SHIFTED ? 2 : 1);

// Scales and offsets of a block's 16 columns.
template <bool HALVES, bool SHIFTED>
struct Sides {
  __m256 s0, s1, o0, o1;

  NSEDGE_AVX2 Sides(const int8_t* at, bool relative, __m256 middle) {
    constexpr long EIGHT = HALVES ? 16 : 32;
    s0 = eight<HALVES>(at), s1 = eight<HALVES>(at + EIGHT);
    if constexpr (SHIFTED) {
      o0 = eight<HALVES>(at + 2 * EIGHT), o1 = eight<HALVES>(at + 3 * EIGHT);
      if (relative)
        o0 = _mm256_mul_ps(o0, s0), o1 = _mm256_mul_ps(o1, s1);
      else
        o0 = _mm256_fmadd_ps(middle, s0, o0), o1 = _mm256_fmadd_ps(middle, s1, o1);
    }
  }

  // y += scales * sums, and offsets times the row's sum of values.
  NSEDGE_AVX2 void add(__m256 left, __m256 right, const float* x_sum, __m256& y0, __m256& y1) const {
    y0 = _mm256_fmadd_ps(left, s0, y0);
    y1 = _mm256_fmadd_ps(right, s1, y1);
    if constexpr (SHIFTED) {
      const __m256 sum = _mm256_broadcast_ss(x_sum);
      y0 = _mm256_fmadd_ps(sum, o0, y0);
      y1 = _mm256_fmadd_ps(sum, o1, y1);
    }
  }
};

// Fetches what follows `bytes` of weights. A prefetch past the end of memory does nothing.
NSEDGE_AVX2 inline void fetch(const int8_t* data, long bytes) {
#pragma GCC unroll 8
  for (long i = 0; i < bytes; i += LINE)
    _mm_prefetch(reinterpret_cast<const char*>(data + AHEAD + i), _MM_HINT_T0);
}

// Four int8 of x, eight times.
NSEDGE_AVX2 inline __m256i four(const int8_t* x) {
  int32_t bytes;
  std::memcpy(&bytes, x, sizeof bytes);
  return _mm256_set1_epi32(bytes);
}

// Weights of 4, 5 or 6 bits, of the four k from 4 * `group` on and one `half` of the columns.
template <int BITS, int BLOCK>
NSEDGE_AVX2 inline __m256i few(const int8_t* data, int group, int half) {
  constexpr int HIGH = BITS - 4;
  const auto* low = reinterpret_cast<const __m256i*>(data + group / 2 * COLUMNS * 4) + half;
  __m256i nibbles = _mm256_load_si256(low);
  if (group % 2) nibbles = _mm256_srli_epi16(nibbles, 4);
  nibbles = _mm256_and_si256(nibbles, _mm256_set1_epi8(15));
  if constexpr (HIGH > 0) {
    const auto* high = reinterpret_cast<const __m256i*>(data + BLOCK * COLUMNS / 2) + half;
    const __m256i bits = _mm256_load_si256(high);
    const int up = 4 - HIGH * group;
    const __m256i moved = up >= 0 ? _mm256_slli_epi16(bits, up) : _mm256_srli_epi16(bits, -up);
    const __m256i mask = _mm256_set1_epi8(((1 << HIGH) - 1) << 4);
    return _mm256_or_si256(nibbles, _mm256_and_si256(moved, mask));
  }
  return nibbles;
}

}  // namespace

namespace avx2 {
namespace {

// A tile of R rows by 16 columns of weights of 4, 5 or 6 bits, whose products are summed in 16 bits
// until those may be full. Taking a weight's middle from it costs nothing: a row's sums begin with it.
template <int BITS, int R, bool HALVES, bool SHIFTED>
NSEDGE_AVX2 void tile_few(const Weights& t, const Operands& o, float y[ROWS][COLUMNS]) {
  constexpr int BLOCK = BITS == 6 ? BLOCK_6 : BITS == 5 ? BLOCK_5 : BLOCK_4;
  constexpr int GROUPS = BLOCK / 4, FULL = BITS == 6 ? 2 : BITS == 5 ? 4 : 8;
  constexpr long BYTES = Q_BYTES<BITS, BLOCK> + SIDES<HALVES, SHIFTED>;
  const long blocks = t.blocks, stride = t.width();
  const bool relative = t.relative;
  const __m256 middle = _mm256_set1_ps(t.middle);
  const auto* x = static_cast<const int8_t*>(o.x);
  const float *x_scales = o.x_scales, *x_sums = o.x_sums;
  const int8_t* data = o.data;
  const __m256i ones = _mm256_set1_epi16(1);
  __m256 totals[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) totals[r][0] = totals[r][1] = _mm256_setzero_ps();
  for (long b = 0; b < blocks; b++, x += BLOCK, x_scales++, x_sums += 2, data += BYTES) {
    fetch(data, BYTES);
    __m256i wide[R][2], sums[R][2];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const __m256i start = _mm256_castps_si256(_mm256_broadcast_ss(x_sums + 2 * r * blocks + 1));
      if constexpr (BITS == 4)
        sums[r][0] = sums[r][1] = start;
      else
        wide[r][0] = wide[r][1] = start;
    }
#pragma GCC unroll 8
    for (int group = 0; group < GROUPS; group++) {
      const __m256i left = few<BITS, BLOCK>(data, group, 0);
      const __m256i right = few<BITS, BLOCK>(data, group, 1);
      const bool first = BITS > 4 && group % FULL == 0;
#pragma GCC unroll 6
      for (int r = 0; r < R; r++) {
        const __m256i all = four(x + r * stride + 4 * group);
        const __m256i one = _mm256_maddubs_epi16(left, all);
        const __m256i other = _mm256_maddubs_epi16(right, all);
        sums[r][0] = first ? one : _mm256_add_epi16(sums[r][0], one);
        sums[r][1] = first ? other : _mm256_add_epi16(sums[r][1], other);
        NSEDGE_PIN(sums[r][0], sums[r][1]);
      }
      if (group % FULL != FULL - 1) continue;
#pragma GCC unroll 6
      for (int r = 0; r < R; r++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
          const __m256i more = _mm256_madd_epi16(sums[r][half], ones);
          wide[r][half] = BITS == 4 ? more : _mm256_add_epi32(wide[r][half], more);
        }
    }
    const Sides<HALVES, SHIFTED> sides(data + Q_BYTES<BITS, BLOCK>, relative, middle);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const __m256 scale = _mm256_broadcast_ss(x_scales + r * blocks);
      sides.add(_mm256_mul_ps(scale, _mm256_cvtepi32_ps(wide[r][0])),
                _mm256_mul_ps(scale, _mm256_cvtepi32_ps(wide[r][1])), x_sums + 2 * r * blocks,
                totals[r][0], totals[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) {
    _mm256_store_ps(y[r], totals[r][0]);
    _mm256_store_ps(y[r] + 8, totals[r][1]);
  }
}

}  // namespace
}  // namespace avx2
}  // namespace matmul
