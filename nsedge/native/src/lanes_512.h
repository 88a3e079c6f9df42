// Floats in registers of 512 bits, by the names of lanes_256.h.
#pragma once

#include <cstdint>

#include "vector_512.h"

#define NSEDGE_INLINE NSEDGE_FLOATS_512 inline

namespace lanes_512 {

using Lanes = __m512;
constexpr long LANES = 16;
constexpr int TILE_ROWS = 12;

NSEDGE_INLINE Lanes load(const float* from) { return _mm512_loadu_ps(from); }
NSEDGE_INLINE void store(float* to, Lanes x) { _mm512_storeu_ps(to, x); }
NSEDGE_INLINE Lanes zero() { return _mm512_setzero_ps(); }
NSEDGE_INLINE Lanes splat(float x) { return _mm512_set1_ps(x); }
NSEDGE_INLINE Lanes add(Lanes a, Lanes b) { return _mm512_add_ps(a, b); }
NSEDGE_INLINE Lanes times(Lanes a, Lanes b) { return _mm512_mul_ps(a, b); }
NSEDGE_INLINE Lanes over(Lanes a, Lanes b) { return _mm512_div_ps(a, b); }
NSEDGE_INLINE Lanes fused(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
NSEDGE_INLINE Lanes greater(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
NSEDGE_INLINE Lanes absolute(Lanes x) { return _mm512_abs_ps(x); }
NSEDGE_INLINE float total(Lanes x) { return vec512::sum(x); }
NSEDGE_INLINE float greatest(Lanes x) { return vec512::greatest(x); }
NSEDGE_INLINE Lanes power(Lanes x) {
  return vec512::power_of_two<5>(times(x, splat(vec512::LOG2E)));
}
NSEDGE_INLINE void store_bytes(uint8_t* to, Lanes x) {
  const __m512i whole = _mm512_max_epi32(_mm512_cvtps_epi32(x), _mm512_setzero_si512());
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(whole));
}

}  // namespace lanes_512

#undef NSEDGE_INLINE
