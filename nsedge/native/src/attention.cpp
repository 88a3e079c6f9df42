#include "attention.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "vector.h"

namespace attention {
namespace {

constexpr long LANES = 8;
constexpr long AHEAD = 2048;  // halves, a page

NSEDGE_AVX2 __m256 widen(const half* x) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}

NSEDGE_AVX2 half narrow(float x) {
  return static_cast<half>(_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT), 0));
}

// out [R, 8 W] = a [R, count] times b [count, 8 W] in half precision. Columns past 16 lie `beyond`
// elements further.
template <int R, int W>
NSEDGE_AVX2 void product(const float* a, long a_stride, const half* b, long b_stride, long beyond,
                         long count, float* out, long out_stride) {
  __m256 sums[R][W];  // in registers, as long as every loop over it is unrolled
#pragma GCC unroll 6
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int w = 0; w < W; w++) sums[r][w] = _mm256_setzero_ps();
  for (long i = 0; i < count; i++, b += b_stride) {
    // A row of values ahead, since pages of 4 KiB stop the processor's own prefetching.
    _mm_prefetch(reinterpret_cast<const char*>(b + AHEAD), _MM_HINT_T0);
    if constexpr (R <= 3) {  // few rows: their values stay in registers, columns come one by one
      __m256 values[R];
#pragma GCC unroll 3
      for (int r = 0; r < R; r++) values[r] = _mm256_broadcast_ss(a + r * a_stride + i);
#pragma GCC unroll 4
      for (int w = 0; w < W; w++) {
        const __m256 column = widen(b + w / 2 * beyond + w % 2 * LANES);
#pragma GCC unroll 3
        for (int r = 0; r < R; r++) {
          sums[r][w] = _mm256_fmadd_ps(values[r], column, sums[r][w]);
          NSEDGE_PIN(sums[r][w], sums[r][w]);
        }
      }
    } else {
      const __m256 left = widen(b), right = widen(b + LANES);
#pragma GCC unroll 6
      for (int r = 0; r < R; r++) {
        const __m256 value = _mm256_broadcast_ss(a + r * a_stride + i);
        sums[r][0] = _mm256_fmadd_ps(value, left, sums[r][0]);
        sums[r][1] = _mm256_fmadd_ps(value, right, sums[r][1]);
        NSEDGE_PIN(sums[r][0], sums[r][1]);
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int w = 0; w < W; w++)
      _mm256_storeu_ps(out + r * out_stride + w / 2 * BLOCK + w % 2 * LANES, sums[r][w]);
}

// Scores of R queries [R, dim] with blocks of keys, to [R, stride].
template <int R>
NSEDGE_AVX2 void score(const float* q, long dim, const half* keys, long blocks, float* scores,
                       long stride) {
  const long size = dim * BLOCK;
  long b = 0;
  if (R <= 3)
    for (; b + 2 <= blocks; b += 2)
      product<R, R <= 3 ? 4 : 2>(q, dim, keys + b * size, BLOCK, size, dim, scores + b * BLOCK,
                                 stride);
  for (; b < blocks; b++)
    product<R, 2>(q, dim, keys + b * size, BLOCK, size, dim, scores + b * BLOCK, stride);
}

// Weighted sums of values [length, dim], to [R, dim].
template <int R>
NSEDGE_AVX2 void mix(const float* weights, long stride, const half* values, long dim, long length,
                     float* out) {
  long d = 0;
  if (R <= 3)
    for (; d + 2 * BLOCK <= dim; d += 2 * BLOCK)
      product<R, R <= 3 ? 4 : 2>(weights, stride, values + d, dim, BLOCK, length, out + d, dim);
  for (; d < dim; d += BLOCK)
    product<R, 2>(weights, stride, values + d, dim, BLOCK, length, out + d, dim);
}

using Score = void (*)(const float*, long, const half*, long, float*, long);
using Mix = void (*)(const float*, long, const half*, long, long, float*);
constexpr Score SCORES[ROWS] = {score<1>, score<2>, score<3>, score<4>, score<5>, score<6>};
constexpr Mix MIXES[ROWS] = {mix<1>, mix<2>, mix<3>, mix<4>, mix<5>, mix<6>};

// Softmax of x [length] without its division, zeros up to `padded`; the sum to divide by.
NSEDGE_AVX2 float weigh(float* x, long length, long padded) {
  for (long i = length; i < padded; i++) x[i] = -std::numeric_limits<float>::infinity();
  __m256 greatest = _mm256_loadu_ps(x);
  for (long i = LANES; i < padded; i += LANES)
    greatest = _mm256_max_ps(greatest, _mm256_loadu_ps(x + i));
  const __m256 highest = _mm256_set1_ps(vec::greatest(greatest));
  __m256 sums = _mm256_setzero_ps();
  for (long i = 0; i < padded; i += LANES) {
    const __m256 e = vec::exp(_mm256_sub_ps(_mm256_loadu_ps(x + i), highest));
    _mm256_storeu_ps(x + i, e);
    sums = _mm256_add_ps(sums, e);
  }
  return vec::sum(sums);
}

// x [dim] at its position, times scale: the first `rotary` dimensions turned, halves paired.
NSEDGE_AVX2 void rotate(const Shape& t, const float* x, const float* cos, const float* sin, float scale,
            float* out) {
  const long turned = t.rotary / 2;
  for (long i = 0; i < turned; i++) {
    const float a = x[i], b = x[turned + i];
    out[i] = (a * cos[i] - b * sin[i]) * scale;
    out[turned + i] = (b * cos[i] + a * sin[i]) * scale;
  }
  for (long i = t.rotary; i < t.dim; i++) out[i] = x[i] * scale;
}

long padded(long length) { return (length + BLOCK - 1) / BLOCK * BLOCK; }

}  // namespace

NSEDGE_AVX2 void append(const Shape& t, const float* qkv, long position, const float* cos,
                        const float* sin, float* q, half* keys, half* values, float* room) {
  for (long h = 0; h < t.heads; h++)
    rotate(t, qkv + h * t.dim, cos, sin, t.scale, q + h * t.dim);
  const float *key = qkv + t.heads * t.dim, *value = key + t.kv_heads * t.dim;
  for (long h = 0; h < t.kv_heads; h++, key += t.dim, value += t.dim) {
    half* block = keys + (h * t.capacity + position / BLOCK * BLOCK) * t.dim + position % BLOCK;
    half* row = values + (h * t.capacity + position) * t.dim;
    rotate(t, key, cos, sin, 1.0f, room);
    for (long d = 0; d < t.dim; d++) block[d * BLOCK] = narrow(room[d]);
    for (long d = 0; d < t.dim; d += LANES)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(row + d),
                       _mm256_cvtps_ph(_mm256_loadu_ps(value + d), _MM_FROUND_TO_NEAREST_INT));
  }
}

size_t room(const Shape& t, long length) { return ROWS * (padded(length) + 2 * t.dim); }

NSEDGE_AVX2 void attend(const Shape& t, long kv_head, long tile, long past, const float* q,
                        const half* keys, const half* values, float* scratch, float* y) {
  const long group = t.group(), first = tile * ROWS;
  const long rows = t.tokens * group - first < ROWS ? t.tokens * group - first : ROWS;
  const long length = past + (first + rows - 1) / group + 1, stride = padded(length);
  float *queries = scratch, *mixed = queries + ROWS * t.dim, *scores = mixed + ROWS * t.dim;
  // Query row r of the head's group is token r / group and head r % group.
  const auto place = [&](long r) {
    return (first + r) / group * t.heads + kv_head * group + (first + r) % group;
  };
  for (long r = 0; r < rows; r++)
    std::memcpy(queries + r * t.dim, q + place(r) * t.dim, t.dim * sizeof(float));
  SCORES[rows - 1](queries, t.dim, keys, stride / BLOCK, scores, stride);
  float sums[ROWS];
  for (long r = 0; r < rows; r++)
    sums[r] = weigh(scores + r * stride, past + (first + r) / group + 1, stride);
  MIXES[rows - 1](scores, stride, values, t.dim, length, mixed);
  for (long r = 0; r < rows; r++)
    for (long d = 0; d < t.dim; d++) y[place(r) * t.dim + d] = mixed[r * t.dim + d] / sums[r];
}

}  // namespace attention
