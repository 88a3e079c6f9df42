#include "matmul.h"

#include <cmath>
#include <cstring>

#include "vector.h"

namespace matmul {
namespace {

constexpr float LARGEST_16 = 32767.0f, LARGEST_8 = 127.0f;
constexpr long LINE = 64;
constexpr long AHEAD = 4096;     // bytes of weights that are fetched ahead
constexpr long SPAN = 4;         // tiles at most that a group of rows goes through in one go
constexpr long NEAR = 20 << 10;  // bytes of weights that stay in the first-level cache meanwhile
constexpr long STEP_8 = 8;       // of k, of 8-bit weights

// Eight floats, from halves or floats.
template <bool HALVES>
NSEDGE_AVX2 inline __m256 eight(const int8_t* from) {
  if constexpr (HALVES)
    return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
  else
    return _mm256_load_ps(reinterpret_cast<const float*>(from));
}

// Bytes of a block's scales and offsets.
template <bool HALVES, bool SHIFTED>
constexpr long SIDES = COLUMNS * (HALVES ? 2 : 4) * (SHIFTED ? 2 : 1);

// Scales and offsets of a block's 16 columns.
template <bool HALVES, bool SHIFTED>
struct Sides {
  __m256 s0, s1, o0, o1;

  NSEDGE_AVX2 Sides(const int8_t* at, bool relative) {
    constexpr long EIGHT = HALVES ? 16 : 32;
    s0 = eight<HALVES>(at), s1 = eight<HALVES>(at + EIGHT);
    if constexpr (SHIFTED) {
      o0 = eight<HALVES>(at + 2 * EIGHT), o1 = eight<HALVES>(at + 3 * EIGHT);
      if (relative) o0 = _mm256_mul_ps(o0, s0), o1 = _mm256_mul_ps(o1, s1);
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

// What a tile is made of, at its first block.
struct Operands {
  const void* x;  // the first row's rounded values
  const float* x_scales;
  const float* x_sums;
  const int8_t* data;
};

// A tile of R rows by 16 columns of 8-bit weights.
template <int R, bool HALVES, bool SHIFTED>
NSEDGE_AVX2 void tile_8(const Weights& t, const Operands& o, float y[ROWS][COLUMNS]) {
  const long stride = t.width();
  const auto* x = static_cast<const int16_t*>(o.x);
  const int8_t* data = o.data;
  __m256 totals[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) totals[r][0] = totals[r][1] = _mm256_setzero_ps();
  for (long b = 0; b < t.blocks; b++, data += SIDES<HALVES, SHIFTED>) {
    __m256i sums[R][2];
    for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    for (long rest = t.block; rest > 0; rest -= STEP_8, x += STEP_8, data += STEP_8 * COLUMNS) {
      fetch(data, STEP_8 * COLUMNS);
#pragma GCC unroll 4
      for (long k = 0; k < STEP_8; k += 2) {
        const auto* at = reinterpret_cast<const __m128i*>(data + k * COLUMNS);
        const __m256i left = _mm256_cvtepi8_epi16(_mm_load_si128(at));
        const __m256i right = _mm256_cvtepi8_epi16(_mm_load_si128(at + 1));
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
          int32_t pair;
          std::memcpy(&pair, x + r * stride + k, sizeof pair);
          const __m256i both = _mm256_set1_epi32(pair);
          sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(both, left));
          sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(both, right));
          NSEDGE_PIN(sums[r][0], sums[r][1]);
        }
      }
    }
    const Sides<HALVES, SHIFTED> sides(data, t.relative);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
      sides.add(_mm256_cvtepi32_ps(sums[r][0]), _mm256_cvtepi32_ps(sums[r][1]),
                o.x_sums + r * t.blocks + b, totals[r][0], totals[r][1]);
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) {
    const __m256 scale = _mm256_broadcast_ss(o.x_scales + r);
    _mm256_store_ps(y[r], _mm256_mul_ps(totals[r][0], scale));
    _mm256_store_ps(y[r] + 8, _mm256_mul_ps(totals[r][1], scale));
  }
}

// The same of 4-bit weights. Taking 8 from each of them costs nothing: a row's sums begin with it.
template <int R, bool HALVES, bool SHIFTED>
NSEDGE_AVX2 void tile_4(const Weights& t, const Operands& o, float y[ROWS][COLUMNS]) {
  constexpr long Q = BLOCK_4 * COLUMNS / 2, BYTES = Q + SIDES<HALVES, SHIFTED>;
  const long blocks = t.blocks, stride = t.width();
  const bool relative = t.relative;
  const auto* x = static_cast<const int8_t*>(o.x);
  const float *x_scales = o.x_scales, *x_sums = o.x_sums;
  const int8_t* data = o.data;
  const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
  __m256 totals[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) totals[r][0] = totals[r][1] = _mm256_setzero_ps();
  for (long b = 0; b < blocks; b++, x += BLOCK_4, x_scales++, x_sums += 2, data += BYTES) {
    fetch(data, BYTES);
    __m256i sums[R][2];
    for (int r = 0; r < R; r++)
      sums[r][0] = sums[r][1] =
          _mm256_castps_si256(_mm256_broadcast_ss(x_sums + 2 * r * blocks + 1));
#pragma GCC unroll 4
    for (long k = 0; k < BLOCK_4; k += 8) {
      const auto* at = reinterpret_cast<const __m256i*>(data + k * COLUMNS / 2);
#pragma GCC unroll 2
      for (int high = 0; high < 2; high++) {
        __m256i left = _mm256_load_si256(at), right = _mm256_load_si256(at + 1);
        if (high) left = _mm256_srli_epi16(left, 4), right = _mm256_srli_epi16(right, 4);
        left = _mm256_and_si256(left, low), right = _mm256_and_si256(right, low);
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
          int32_t four;
          std::memcpy(&four, x + r * stride + k + 4 * high, sizeof four);
          const __m256i all = _mm256_set1_epi32(four);
          sums[r][0] = _mm256_add_epi16(sums[r][0], _mm256_maddubs_epi16(left, all));
          sums[r][1] = _mm256_add_epi16(sums[r][1], _mm256_maddubs_epi16(right, all));
          NSEDGE_PIN(sums[r][0], sums[r][1]);
        }
      }
    }
    const Sides<HALVES, SHIFTED> sides(data + Q, relative);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const __m256 scale = _mm256_broadcast_ss(x_scales + r * blocks);
      sides.add(_mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_madd_epi16(sums[r][0], ones))),
                _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_madd_epi16(sums[r][1], ones))),
                x_sums + 2 * r * blocks, totals[r][0], totals[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) {
    _mm256_store_ps(y[r], totals[r][0]);
    _mm256_store_ps(y[r] + 8, totals[r][1]);
  }
}

using Tile = void (*)(const Weights&, const Operands&, float[ROWS][COLUMNS]);
template <bool H, bool S>
constexpr Tile TILES_8[ROWS] = {tile_8<1, H, S>, tile_8<2, H, S>, tile_8<3, H, S>,
                                tile_8<4, H, S>, tile_8<5, H, S>, tile_8<6, H, S>};
template <bool H, bool S>
constexpr Tile TILES_4[ROWS] = {tile_4<1, H, S>, tile_4<2, H, S>, tile_4<3, H, S>,
                                tile_4<4, H, S>, tile_4<5, H, S>, tile_4<6, H, S>};

template <bool H, bool S>
const Tile* tiles_of(long bits) {
  return bits == 8 ? TILES_8<H, S> : TILES_4<H, S>;
}

const Tile* tiles_of(const Weights& t) {
  if (t.halves) return t.shifted ? tiles_of<true, true>(t.bits) : tiles_of<true, false>(t.bits);
  return t.shifted ? tiles_of<false, true>(t.bits) : tiles_of<false, false>(t.bits);
}

// Eight int32 added up.
NSEDGE_AVX2 inline float total(__m256i x) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return static_cast<float>(_mm_cvtsi128_si32(half));
}

// What a block's products with nibbles are added to, as tile_4 adds them: -8 times the values of which
// k % 4 is 0 or 1, and of the others. x: sixteen sums of values, of k % 16.
NSEDGE_AVX2 inline int32_t start_of(__m256i x) {
  __m128i sums = _mm_add_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  sums = _mm_add_epi16(sums, _mm_srli_si128(sums, 8));
  sums = _mm_madd_epi16(sums, _mm_set1_epi16(-8));
  return _mm_cvtsi128_si32(_mm_packs_epi32(sums, sums));
}

// The row's values, zero past its end.
NSEDGE_AVX2 void read_row(const float* x, bool gated, const Weights& t, float* out) {
  const long whole = t.k / 8 * 8;
  for (long k = t.k; k < t.width(); k++) out[k] = 0.0f;
  for (long k = whole; k < t.k; k++)
    out[k] = gated ? x[k] / (1.0f + std::exp(-x[k])) * x[t.k + k] : x[k];
  for (long k = 0; k < whole; k += 8) {
    const __m256 value = _mm256_loadu_ps(x + k);
    _mm256_store_ps(out + k, gated ? _mm256_mul_ps(vec::silu(value), _mm256_loadu_ps(x + t.k + k))
                                   : value);
  }
}

NSEDGE_AVX2 void round_16(const float* x, const Weights& t, int16_t* values, float* scale,
                          float* sums) {
  const float largest = vec::largest(x, t.width());
  const __m256 inverse = _mm256_set1_ps(largest > 0.0f ? LARGEST_16 / largest : 0.0f);
  *scale = largest / LARGEST_16;
  for (long b = 0; b < t.blocks; b++) {
    __m256i sum = _mm256_setzero_si256();
    for (long k = b * t.block; k < (b + 1) * t.block; k += 16) {
      const __m256i rounded = vec::nearest_16(x + k, inverse);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + k), rounded);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(rounded, _mm256_set1_epi16(1)));
    }
    sums[b] = total(sum);
  }
}

NSEDGE_AVX2 void round_8(const float* x, const Weights& t, int8_t* values, float* scales,
                         float* sums) {
  for (long b = 0; b < t.blocks; b++, x += BLOCK_4, values += BLOCK_4) {
    const float largest = vec::largest(x, BLOCK_4);
    const __m256 inverse = _mm256_set1_ps(largest > 0.0f ? LARGEST_8 / largest : 0.0f);
    const __m256i low = vec::nearest_16(x, inverse), high = vec::nearest_16(x + 16, inverse);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values),
                        _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8));
    scales[b] = largest / LARGEST_8;
    const __m256i both = _mm256_add_epi16(low, high);
    sums[2 * b] = scales[b] * total(_mm256_madd_epi16(both, _mm256_set1_epi16(1)));
    const int32_t start = start_of(both);
    std::memcpy(sums + 2 * b + 1, &start, sizeof start);
  }
}

// Rows of a tile's sums, to y [rows, n] from `column` on.
void store(const Weights& t, const float sums[ROWS][COLUMNS], long rows, long column,
           const float* bias, float* y) {
  const long columns = t.n - column < COLUMNS ? t.n - column : COLUMNS;
  for (long r = 0; r < rows; r++) {
    float* to = y + r * t.n + column;
    if (bias == nullptr && columns == COLUMNS)
      std::memcpy(to, sums[r], sizeof sums[r]);
    else
      for (long c = 0; c < columns; c++)
        to[c] = sums[r][c] + (bias == nullptr ? 0.0f : bias[column + c]);
  }
}

}  // namespace

size_t value_bytes(const Weights& t) { return t.width() * (t.bits == 8 ? 2 : 1); }
size_t scale_bytes(const Weights& t) { return (t.bits == 8 ? 1 : t.blocks) * sizeof(float); }
size_t sum_bytes(const Weights& t) { return t.blocks * (t.bits == 8 ? 1 : 2) * sizeof(float); }

void round_row(const float* x, bool gated, const Weights& t, long row, const Rounded& out,
               float* room) {
  read_row(x, gated, t, room);
  char* values = static_cast<char*>(out.values) + row * value_bytes(t);
  float* sums = out.sums + row * sum_bytes(t) / sizeof(float);
  if (t.bits == 8)
    round_16(room, t, reinterpret_cast<int16_t*>(values), out.scales + row, sums);
  else
    round_8(room, t, reinterpret_cast<int8_t*>(values), out.scales + row * t.blocks, sums);
}

long span(const Weights& t) {
  const long fitting = NEAR / t.tile_bytes();
  return fitting < 1 ? 1 : fitting < SPAN ? fitting : SPAN;
}

void multiply(const Weights& t, const Rounded& x, long begin, long end, long first, long last,
              const float* bias, float* y) {
  alignas(32) float sums[ROWS][COLUMNS];
  const Tile* const tiles = tiles_of(t);
  const long rows = end - begin, groups = (rows + ROWS - 1) / ROWS;
  const long step = groups > 1 ? span(t) : 1;
  for (long from = first; from < last; from += step) {
    const long to = from + step < last ? from + step : last;
    for (long group = 0; group < groups; group++) {
      // Groups of equal size, give or take a row: a last one of one row would waste the weights.
      const long row = begin + rows * group / groups;
      const long count = begin + rows * (group + 1) / groups - row;
      Operands operands{static_cast<const char*>(x.values) + row * value_bytes(t),
                        x.scales + row * scale_bytes(t) / sizeof(float),
                        x.sums + row * sum_bytes(t) / sizeof(float), nullptr};
      for (long tile = from; tile < to; tile++) {
        operands.data = t.data + tile * t.tile_bytes();
        tiles[count - 1](t, operands, sums);
        store(t, sums, count, tile * COLUMNS, bias, y + row * t.n);
      }
    }
  }
}

}  // namespace matmul
