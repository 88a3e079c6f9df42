// What tiles of 512 bits read: a block's sides, and its weights unpacked.
#pragma once

#include "tiles.h"

#define NSEDGE_AVX512 \
  __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")))

namespace matmul {
namespace {

// Sixteen floats, from halves or floats.
template <bool HALVES>
NSEDGE_AVX512 inline __m512 sixteen(const int8_t* from) {
  if constexpr (HALVES)
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  else
    return _mm512_loadu_ps(reinterpret_cast<const float*>(from));
}

// Scales and offsets of a block's 16 columns; as Sides, to the bit.
template <bool HALVES, bool SHIFTED>
struct WideSides {
  __m512 scales, offsets;

  NSEDGE_AVX512 WideSides(const int8_t* at, bool relative, __m512 middle) {
    scales = sixteen<HALVES>(at);
    if constexpr (SHIFTED) {
      offsets = sixteen<HALVES>(at + COLUMNS * (HALVES ? 2 : 4));
      offsets = relative ? _mm512_mul_ps(offsets, scales) : _mm512_fmadd_ps(middle, scales, offsets);
    }
  }

  NSEDGE_AVX512 void add(__m512 products, const float* x_sum, __m512& y) const {
    y = _mm512_fmadd_ps(products, scales, y);
    if constexpr (SHIFTED) y = _mm512_fmadd_ps(_mm512_set1_ps(*x_sum), offsets, y);
  }
};

// Weights of 4, 5 or 6 bits, of the four k from 4 * `group` on, of all columns.
template <int BITS, int BLOCK>
NSEDGE_AVX512 inline __m512i wide_few(const int8_t* data, int group) {
  constexpr int HIGH = BITS - 4;
  __m512i nibbles = _mm512_loadu_si512(data + group / 2 * COLUMNS * 4);
  if (group % 2) nibbles = _mm512_srli_epi16(nibbles, 4);
  nibbles = _mm512_and_si512(nibbles, _mm512_set1_epi8(15));
  if constexpr (HIGH > 0) {
    const __m512i bits = _mm512_loadu_si512(data + BLOCK * COLUMNS / 2);
    const int up = 4 - HIGH * group;
    const __m512i moved = up >= 0 ? _mm512_slli_epi16(bits, up) : _mm512_srli_epi16(bits, -up);
    const __m512i mask = _mm512_set1_epi8(((1 << HIGH) - 1) << 4);
    return _mm512_or_si512(nibbles, _mm512_and_si512(moved, mask));
  }
  return nibbles;
}

}  // namespace
}  // namespace matmul
