// Floats in registers of 256 bits, by names that lanes_512.h has, too: what is written with these is
// compiled for both.
#pragma once

#include <cstdint>

#include "vector.h"

#define NSEDGE_INLINE NSEDGE_AVX2 inline

namespace lanes_256 {

using Lanes = __m256;
constexpr long LANES = 8;
constexpr int TILE_ROWS = 6;  // of a product: twelve sums, two columns and a row fill 16 registers
constexpr float LEAST = -60.0f;

NSEDGE_INLINE Lanes load(const float* from) { return _mm256_loadu_ps(from); }
NSEDGE_INLINE void store(float* to, Lanes x) { _mm256_storeu_ps(to, x); }
NSEDGE_INLINE Lanes zero() { return _mm256_setzero_ps(); }
NSEDGE_INLINE Lanes splat(float x) { return _mm256_set1_ps(x); }
NSEDGE_INLINE Lanes add(Lanes a, Lanes b) { return _mm256_add_ps(a, b); }
NSEDGE_INLINE Lanes times(Lanes a, Lanes b) { return _mm256_mul_ps(a, b); }
NSEDGE_INLINE Lanes over(Lanes a, Lanes b) { return _mm256_div_ps(a, b); }
NSEDGE_INLINE Lanes fused(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }
NSEDGE_INLINE Lanes greater(Lanes a, Lanes b) { return _mm256_max_ps(a, b); }
NSEDGE_INLINE Lanes absolute(Lanes x) { return _mm256_andnot_ps(splat(-0.0f), x); }
NSEDGE_INLINE float total(Lanes x) { return vec::sum(x); }
NSEDGE_INLINE float greatest(Lanes x) { return vec::greatest(x); }

// e^x, and no less than e^LEAST: no product with it is too small for a normal number, which takes a
// hundred times as long.
NSEDGE_INLINE Lanes power(Lanes x) { return vec::exp(greater(splat(LEAST), x)); }

// To the nearest integers, held within a byte.
NSEDGE_INLINE void store_bytes(uint8_t* to, Lanes x) {
  const __m256i whole = _mm256_cvtps_epi32(x);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
}

}  // namespace lanes_256

#undef NSEDGE_INLINE
