#include "attention.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "vector.h"

namespace attention {
namespace {

constexpr long LANES = 8;
constexpr long AHEAD = 4096;  // bytes of a head: pages of 4 KiB stop the processor's own prefetching
constexpr float LARGEST_16 = 32767.0f, LARGEST_8 = 127.0f;
constexpr float LEAST = 1e-37f;  // a scale below has no reciprocal: what it belongs to counts as zero

long padded(long length) { return (length + BLOCK - 1) / BLOCK * BLOCK; }

NSEDGE_AVX2 __m256 bfloats(const void* from) {
  const __m128i halves = _mm_loadu_si128(static_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

NSEDGE_AVX2 __m256i pairs(const int8_t* from) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

NSEDGE_AVX2 __m256 floats(const int8_t* from) {
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
}

// How far behind a byte of a block the one is that is fetched along with it.
long ahead(const Shape& t) { return (AHEAD / t.head_bytes() + 1) * t.block_bytes(); }

NSEDGE_AVX2 void fetch(const int8_t* from) {
  _mm_prefetch(reinterpret_cast<const char*>(from), _MM_HINT_T0);
}

// Scores of R queries [R, dim] with blocks of keys, to [R, stride].
template <int R>
NSEDGE_AVX2 void score(const Shape& t, const Queries& q, const int8_t* keys, long blocks,
                       float* scores, long stride) {
  const long later = ahead(t);
  for (long b = 0; b < blocks; b++, keys += t.block_bytes(), scores += BLOCK) {
    __m256i sums[R][2];  // in registers, as long as every loop over it is unrolled
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (long d = 0; d < t.dim; d += 2) {
      const int8_t* at = keys + d * BLOCK;
      if (d % 4 == 0) fetch(at + later);
      const __m256i left = pairs(at), right = pairs(at + BLOCK);
#pragma GCC unroll 6
      for (int r = 0; r < R; r++) {
        int32_t pair;
        std::memcpy(&pair, q.values + r * t.dim + d, sizeof pair);
        const __m256i both = _mm256_set1_epi32(pair);
        sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(both, left));
        sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(both, right));
        NSEDGE_PIN(sums[r][0], sums[r][1]);
      }
    }
    const int8_t* scales = keys + BLOCK * t.dim;
    const __m256 left = bfloats(scales), right = bfloats(scales + BLOCK);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const __m256 scale = _mm256_broadcast_ss(q.scales + r);
      float* to = scores + r * stride;
      _mm256_storeu_ps(to, _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][0]), _mm256_mul_ps(scale, left)));
      _mm256_storeu_ps(to + LANES,
                       _mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][1]), _mm256_mul_ps(scale, right)));
    }
  }
}

// W times 8 columns of sum over `length` tokens of weights [R, stride] times values, to [R, dim].
template <int R, int W>
NSEDGE_AVX2 void mix_columns(const Shape& t, const float* weights, long stride, const int8_t* values,
                             long length, float* out) {
  __m256 sums[R][W];
#pragma GCC unroll 6
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int w = 0; w < W; w++) sums[r][w] = _mm256_setzero_ps();
  const long later = ahead(t);
  for (long begin = 0; begin < length; begin += BLOCK, values += t.block_bytes()) {
    const long end = length - begin < BLOCK ? length - begin : BLOCK;
    for (long i = 0; i < end; i++) {
      const int8_t* at = values + i * t.dim;
      fetch(at + later);
      __m256 columns[W];
#pragma GCC unroll 4
      for (int w = 0; w < W; w++) columns[w] = floats(at + w * LANES);
#pragma GCC unroll 6
      for (int r = 0; r < R; r++) {
        const __m256 weight = _mm256_broadcast_ss(weights + r * stride + begin + i);
#pragma GCC unroll 2
        for (int w = 0; w < W; w += 2) {
          sums[r][w] = _mm256_fmadd_ps(weight, columns[w], sums[r][w]);
          sums[r][w + 1] = _mm256_fmadd_ps(weight, columns[w + 1], sums[r][w + 1]);
          NSEDGE_PIN(sums[r][w], sums[r][w + 1]);
        }
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int w = 0; w < W; w++) _mm256_storeu_ps(out + r * t.dim + w * LANES, sums[r][w]);
}

// Weighted sums of `length` values, to [R, dim].
template <int R>
NSEDGE_AVX2 void mix(const Shape& t, const float* weights, long stride, const int8_t* values,
                     long length, float* out) {
  constexpr int WIDE = R <= 2 ? 4 : 2;
  long d = 0;
  for (; d + WIDE * LANES <= t.dim; d += WIDE * LANES)
    mix_columns<R, WIDE>(t, weights, stride, values + d, length, out + d);
  for (; d < t.dim; d += 2 * LANES)
    mix_columns<R, 2>(t, weights, stride, values + d, length, out + d);
}

using Score = void (*)(const Shape&, const Queries&, const int8_t*, long, float*, long);
using Mix = void (*)(const Shape&, const float*, long, const int8_t*, long, float*);
constexpr Score SCORES[ROWS] = {score<1>, score<2>, score<3>, score<4>, score<5>, score<6>};
constexpr Mix MIXES[ROWS] = {mix<1>, mix<2>, mix<3>, mix<4>, mix<5>, mix<6>};

// Scales of `length` values, zeros up to a whole block.
NSEDGE_AVX2 void read_scales(const Shape& t, const int8_t* values, long length, float* out) {
  for (long i = 0; i < length; i += BLOCK, values += t.block_bytes()) {
    const int8_t* scales = values + BLOCK * t.dim;
    _mm256_storeu_ps(out + i, bfloats(scales));
    _mm256_storeu_ps(out + i + LANES, bfloats(scales + BLOCK));
  }
  for (long i = length; i < padded(length); i++) out[i] = 0.0f;
}

// Softmax of x [length] without its division, then times scales; zeros up to `padded`. The sum to
// divide by.
NSEDGE_AVX2 float weigh(float* x, long length, long padded, const float* scales) {
  for (long i = length; i < padded; i++) x[i] = -std::numeric_limits<float>::infinity();
  __m256 greatest = _mm256_loadu_ps(x);
  for (long i = LANES; i < padded; i += LANES)
    greatest = _mm256_max_ps(greatest, _mm256_loadu_ps(x + i));
  const __m256 highest = _mm256_set1_ps(vec::greatest(greatest));
  __m256 sums = _mm256_setzero_ps();
  for (long i = 0; i < padded; i += LANES) {
    const __m256 e = vec::exp(_mm256_sub_ps(_mm256_loadu_ps(x + i), highest));
    _mm256_storeu_ps(x + i, _mm256_mul_ps(e, _mm256_loadu_ps(scales + i)));
    sums = _mm256_add_ps(sums, e);
  }
  return vec::sum(sums);
}

// x [dim] at its position, times scale: the first `rotary` dimensions turned, halves paired.
NSEDGE_AVX2 void rotate(const Shape& t, const float* x, const float* cos, const float* sin,
                        float scale, float* out) {
  const long turned = t.rotary / 2;
  for (long i = 0; i < turned; i++) {
    const float a = x[i], b = x[turned + i];
    out[i] = (a * cos[i] - b * sin[i]) * scale;
    out[turned + i] = (b * cos[i] + a * sin[i]) * scale;
  }
  for (long i = t.rotary; i < t.dim; i++) out[i] = x[i] * scale;
}

// x [dim] as int16 with one scale.
NSEDGE_AVX2 void round_query(const float* x, long dim, int16_t* out, float* scale) {
  const float largest = vec::largest(x, dim) / LARGEST_16;
  const bool some = largest >= LEAST;
  const __m256 inverse = _mm256_set1_ps(some ? 1.0f / largest : 0.0f);
  for (long d = 0; d < dim; d += BLOCK)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + d), vec::nearest_16(x + d, inverse));
  *scale = largest < LEAST ? 0.0f : largest;  // a NaN stays one
}

// The least bfloat16 that is no less than x >= 0, so that nothing exceeds 127 times it; NaN of NaN.
uint16_t bfloat_above(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if (x != x) return static_cast<uint16_t>(bits >> 16) | 0x40;  // not so far up that it wraps
  return static_cast<uint16_t>((bits + 0xffff) >> 16);
}

// x [dim] rounded to int8; the scale, a bfloat16.
NSEDGE_AVX2 uint16_t round_cached(const float* x, long dim, int8_t* out) {
  const uint16_t scale = bfloat_above(vec::largest(x, dim) / LARGEST_8);
  const uint32_t bits = static_cast<uint32_t>(scale) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  const __m256 inverse = _mm256_set1_ps(value >= LEAST ? 1.0f / value : 0.0f);
  for (long d = 0; d < dim; d += BLOCK) {
    const __m256i sixteen = vec::nearest_16(x + d, inverse);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + d),
                     _mm_packs_epi16(_mm256_castsi256_si128(sixteen),
                                     _mm256_extracti128_si256(sixteen, 1)));
  }
  return scale;
}

void put_scale(int8_t* block, const Shape& t, long token, uint16_t scale) {
  std::memcpy(block + BLOCK * t.dim + 2 * token, &scale, sizeof scale);
}

}  // namespace

NSEDGE_AVX2 void take_queries(const Shape& t, const float* x, const float* cos, const float* sin,
                              const Queries& q, float* room) {
  for (long h = 0; h < t.heads; h++) {
    rotate(t, x + h * t.dim, cos, sin, t.scale, room);
    round_query(room, t.dim, q.values + h * t.dim, q.scales + h);
  }
}

NSEDGE_AVX2 void append(const Shape& t, const float* key, const float* value, long position,
                        const float* cos, const float* sin, int8_t* keys, int8_t* values,
                        float* room) {
  int8_t rounded[WIDEST];
  const long block = position / BLOCK * t.block_bytes(), token = position % BLOCK;
  for (long h = 0; h < t.kv_heads; h++, key += t.dim, value += t.dim) {
    int8_t* to = keys + h * t.head_bytes() + block;
    rotate(t, key, cos, sin, 1.0f, room);
    put_scale(to, t, token, round_cached(room, t.dim, rounded));
    for (long d = 0; d < t.dim; d += 2) std::memcpy(to + d * BLOCK + 2 * token, rounded + d, 2);
    to = values + h * t.head_bytes() + block;
    put_scale(to, t, token, round_cached(value, t.dim, to + token * t.dim));
  }
}

size_t room(const Shape& t, long length) {
  return (ROWS + 1) * padded(length) * sizeof(float) +
         ROWS * ((t.dim + 1) * sizeof(float) + t.dim * sizeof(int16_t));
}

NSEDGE_AVX2 void attend(const Shape& t, const Segment& segment, long kv_head, long tile,
                        const Queries& q, const int8_t* keys, const int8_t* values, void* scratch,
                        float* y) {
  const long group = t.group(), first = tile * ROWS, all = segment.tokens * group;
  const long rows = all - first < ROWS ? all - first : ROWS;
  const long length = t.seen(segment, (first + rows - 1) / group), stride = padded(length);
  auto* scores = static_cast<float*>(scratch);
  float *scales = scores + ROWS * stride, *mixed = scales + stride;
  keys += kv_head * t.head_bytes(), values += kv_head * t.head_bytes();
  const Queries tiled{reinterpret_cast<int16_t*>(mixed + ROWS * (t.dim + 1)), mixed + ROWS * t.dim};
  // Query row r of the head's group is token r / group and head r % group.
  const auto place = [&](long r) {
    return (first + r) / group * t.heads + kv_head * group + (first + r) % group;
  };
  for (long r = 0; r < rows; r++) {
    std::memcpy(tiled.values + r * t.dim, q.values + place(r) * t.dim, t.dim * sizeof(int16_t));
    tiled.scales[r] = q.scales[place(r)];
  }
  SCORES[rows - 1](t, tiled, keys, stride / BLOCK, scores, stride);
  read_scales(t, values, length, scales);
  float sums[ROWS];
  for (long r = 0; r < rows; r++)
    sums[r] = weigh(scores + r * stride, t.seen(segment, (first + r) / group), stride, scales);
  MIXES[rows - 1](t, scores, stride, values, length, mixed);
  for (long r = 0; r < rows; r++)
    for (long d = 0; d < t.dim; d++) y[place(r) * t.dim + d] = mixed[r * t.dim + d] / sums[r];
}

NSEDGE_AVX2 void weights(const Shape& t, const Segment& segment, long head, const Queries& q,
                         const int8_t* keys, void* scratch, float* out) {
  const long length = t.seen(segment, 0), stride = padded(length);
  auto* scores = static_cast<float*>(scratch);
  float* ones = scores + stride;
  const Queries own{q.values + head * t.dim, q.scales + head};
  score<1>(t, own, keys + head / t.group() * t.head_bytes(), stride / BLOCK, scores, stride);
  for (long i = 0; i < stride; i++) ones[i] = 1.0f;
  const float sum = weigh(scores, length, stride, ones);
  for (long i = 0; i < length; i++) out[i] = scores[i] / sum;
}

}  // namespace attention
