// AVX2 building blocks. Every function compiled for AVX2 is marked so; nothing else may call it
// before `supported()` in ops.cpp has looked at the processor.
#pragma once

#include <immintrin.h>

#define NSEDGE_AVX2 __attribute__((target("avx2,fma,f16c")))

// Keeps two accumulators in registers: without it GCC moves the sums of a whole tile about and
// spills most of them (measured: 1.6 times slower from four rows on).
#define NSEDGE_PIN(a, b) __asm__("" : "+x"(a), "+x"(b))

namespace vec {

// e^x, relative error below 2e-7 for x in [-87, 88]; 0 below, no overflow above.
// Range reduction by ln 2 in two parts, then a polynomial of degree 5 (Cephes' expf).
NSEDGE_AVX2 inline __m256 exp(__m256 x) {
  const __m256 low = _mm256_set1_ps(-87.3365478515625f);
  const __m256 none = _mm256_cmp_ps(x, low, _CMP_LT_OQ);
  x = _mm256_min_ps(_mm256_max_ps(x, low), _mm256_set1_ps(88.3762626647949f));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  x = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  x = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), x);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(p, _mm256_mul_ps(x, x), _mm256_add_ps(x, _mm256_set1_ps(1.0f)));
  const __m256i power = _mm256_slli_epi32(
      _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_andnot_ps(none, _mm256_mul_ps(p, _mm256_castsi256_ps(power)));
}

// x * sigmoid(x).
NSEDGE_AVX2 inline __m256 silu(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(x, _mm256_add_ps(one, exp(_mm256_sub_ps(_mm256_setzero_ps(), x))));
}

// The greatest of eight.
NSEDGE_AVX2 inline float greatest(__m256 x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// The greatest absolute of x [count], a multiple of 8; NaN where there is one. Absolutes are compared
// as integers, which has the order of floats, and NaN above infinity: max_ps would drop it.
NSEDGE_AVX2 inline float largest(const float* x, long count) {
  const __m256i absolute = _mm256_set1_epi32(0x7fffffff);
  __m256i most = _mm256_setzero_si256();
  for (long i = 0; i < count; i += 8) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    most = _mm256_max_epi32(_mm256_and_si256(bits, absolute), most);
  }
  __m128i half = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(half));
}

// Sixteen floats times inverse, to the nearest integers, as int16 in order.
NSEDGE_AVX2 inline __m256i nearest_16(const float* x, __m256 inverse) {
  const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
  const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), inverse));
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

// The sum of eight, always in the same order.
NSEDGE_AVX2 inline float sum(__m256 x) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

}  // namespace vec
