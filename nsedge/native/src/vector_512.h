// Building blocks in registers of 512 bits.
#pragma once

#include "vector.h"

#define NSEDGE_FLOATS_512 __attribute__((target("avx2,fma,f16c,avx512f")))

namespace vec512 {

constexpr float LOG2E = 1.44269504088896341f;

// 2^x within 8e-5 of itself by a polynomial of degree 3, within 1e-7 by one of degree 5; no less than
// 2^LEAST, so that no product with it is too small for a normal number, which takes a hundred times as
// long; NaN of NaN. The coefficients are those of the least relative error from -1/2 to 1/2.
constexpr float LEAST = -87.0f;
template <int DEGREE>
NSEDGE_FLOATS_512 inline __m512 power_of_two(__m512 x) {
  static_assert(DEGREE == 3 || DEGREE == 5);
  x = _mm512_max_ps(_mm512_set1_ps(LEAST), x);
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(x, whole);
  __m512 p;
  if constexpr (DEGREE == 3) {
    p = _mm512_fmadd_ps(_mm512_set1_ps(0.0551716672f), part, _mm512_set1_ps(0.242611122f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0.693260986f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0.999928074f));
  } else {
    p = _mm512_fmadd_ps(_mm512_set1_ps(0.00132764718f), part, _mm512_set1_ps(0.00967554133f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0.0555071327f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0.240221197f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(0.693146967f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(1.00000007f));
  }
  return _mm512_scalef_ps(p, whole);
}

// The sum of sixteen, and the greatest. GCC 12 warns of its own reductions.
NSEDGE_FLOATS_512 inline float sum(__m512 x) {
  alignas(64) float all[16];
  _mm512_store_ps(all, x);
  return vec::sum(_mm256_add_ps(_mm256_load_ps(all), _mm256_load_ps(all + 8)));
}

NSEDGE_FLOATS_512 inline float greatest(__m512 x) {
  alignas(64) float all[16];
  _mm512_store_ps(all, x);
  return vec::greatest(_mm256_max_ps(_mm256_load_ps(all), _mm256_load_ps(all + 8)));
}

}  // namespace vec512
