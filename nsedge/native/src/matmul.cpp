#include "matmul.h"

#include <cmath>
#include <cstring>

#include "memory.h"
#include "vector.h"

namespace matmul {
namespace {

constexpr float LARGEST_16 = 32767.0f, LARGEST_8 = 127.0f;
constexpr long LINE = 64;
constexpr long AHEAD = 4;      // row groups of a tile among which fetching the next tile is divided
constexpr long SPAN = 4;       // tiles at most that a group of rows goes through in one go
constexpr long NEAR = 20 << 10;  // bytes of weights that stay in the first-level cache meanwhile
constexpr long BLOCK_4 = 32;   // of 4-bit weights: 8 vectors * 2 * 15 * 127 stays below 2^15
constexpr long HALF_TILE = COLUMNS / 2 * 4;  // bytes of 8 columns, four of k each

// Eight floats, from halves or floats.
template <bool HALVES>
NSEDGE_AVX2 inline __m256 eight(const void* from, long at) {
  if constexpr (HALVES)
    return _mm256_cvtph_ps(
        _mm_load_si128(reinterpret_cast<const __m128i*>(static_cast<const uint16_t*>(from) + at)));
  else
    return _mm256_load_ps(static_cast<const float*>(from) + at);
}

// What a tile is made of, at its first block.
struct Operands {
  const void* x;        // the first row's rounded values
  const float* x_scales;
  const float* x_sums;
  const int8_t* q;
  const void* scales;
  const void* offsets;
  const int8_t* ahead;  // where the next tile lies
  long lines;           // of it to fetch in each block
};

NSEDGE_AVX2 inline void fetch(const Operands& o, long b) {
  const int8_t* line = o.ahead + b * o.lines * LINE;
  for (long i = 0; i < o.lines; i++, line += LINE)
    _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T0);
}

// Scales and offsets of a block's 16 columns.
struct Sides16 {
  __m256 s0, s1, o0, o1;
};

template <bool HALVES>
NSEDGE_AVX2 inline Sides16 sides_at(const Weights& t, const Operands& o, long at) {
  Sides16 sides{eight<HALVES>(o.scales, at), eight<HALVES>(o.scales, at + 8), _mm256_setzero_ps(),
                _mm256_setzero_ps()};
  if (o.offsets != nullptr) {
    sides.o0 = eight<HALVES>(o.offsets, at), sides.o1 = eight<HALVES>(o.offsets, at + 8);
    if (t.relative) {
      sides.o0 = _mm256_mul_ps(sides.o0, sides.s0);
      sides.o1 = _mm256_mul_ps(sides.o1, sides.s1);
    }
  }
  return sides;
}

// y += scale * (scales * sums), and offsets times the row's sum of values.
NSEDGE_AVX2 inline void add_block(const Sides16& sides, bool shifted, __m256 scale, __m256 left,
                                  __m256 right, const float* x_sum, __m256& y0, __m256& y1) {
  y0 = _mm256_fmadd_ps(_mm256_mul_ps(left, scale), sides.s0, y0);
  y1 = _mm256_fmadd_ps(_mm256_mul_ps(right, scale), sides.s1, y1);
  if (shifted) {
    const __m256 sum = _mm256_broadcast_ss(x_sum);
    y0 = _mm256_fmadd_ps(sum, sides.o0, y0);
    y1 = _mm256_fmadd_ps(sum, sides.o1, y1);
  }
}

// A tile of R rows by 16 columns of 8-bit weights.
template <int R, bool HALVES>
NSEDGE_AVX2 void tile_8(const Weights& t, const Operands& o, float y[ROWS][COLUMNS]) {
  const long stride = t.width();
  const auto* x = static_cast<const int16_t*>(o.x);
  const int8_t* q = o.q;
  __m256 totals[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) totals[r][0] = totals[r][1] = _mm256_setzero_ps();
  for (long b = 0; b < t.blocks; b++, x += t.block, q += t.block * COLUMNS) {
    fetch(o, b);
    __m256i sums[R][2];
    for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (long k = 0; k < t.block; k += 2) {
      const auto* at = reinterpret_cast<const __m128i*>(q + k * COLUMNS);
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
    const Sides16 sides = sides_at<HALVES>(t, o, b * COLUMNS);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
      add_block(sides, o.offsets != nullptr, _mm256_set1_ps(1.0f), _mm256_cvtepi32_ps(sums[r][0]),
                _mm256_cvtepi32_ps(sums[r][1]), o.x_sums + r * t.blocks + b, totals[r][0], totals[r][1]);
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) {
    const __m256 scale = _mm256_broadcast_ss(o.x_scales + r);
    _mm256_store_ps(y[r], _mm256_mul_ps(totals[r][0], scale));
    _mm256_store_ps(y[r] + 8, _mm256_mul_ps(totals[r][1], scale));
  }
}

// The same of 4-bit weights.
template <int R, bool HALVES>
NSEDGE_AVX2 void tile_4(const Weights& t, const Operands& o, float y[ROWS][COLUMNS]) {
  const long stride = t.width();
  const auto* x = static_cast<const int8_t*>(o.x);
  const int8_t* q = o.q;
  const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
  __m256 totals[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) totals[r][0] = totals[r][1] = _mm256_setzero_ps();
  for (long b = 0; b < t.blocks; b++, x += BLOCK_4, q += BLOCK_4 * COLUMNS / 2) {
    fetch(o, b);
    __m256i sums[R][2];
    for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (long k = 0; k < BLOCK_4; k += 8) {
      const auto* at = reinterpret_cast<const __m256i*>(q + k * COLUMNS / 2);
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
    const Sides16 sides = sides_at<HALVES>(t, o, b * COLUMNS);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++)
      add_block(sides, o.offsets != nullptr, _mm256_broadcast_ss(o.x_scales + r * t.blocks + b),
                _mm256_cvtepi32_ps(_mm256_madd_epi16(sums[r][0], ones)),
                _mm256_cvtepi32_ps(_mm256_madd_epi16(sums[r][1], ones)),
                o.x_sums + r * t.blocks + b, totals[r][0], totals[r][1]);
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) {
    _mm256_store_ps(y[r], totals[r][0]);
    _mm256_store_ps(y[r] + 8, totals[r][1]);
  }
}

using Tile = void (*)(const Weights&, const Operands&, float[ROWS][COLUMNS]);
template <bool H>
constexpr Tile TILES_8[ROWS] = {tile_8<1, H>, tile_8<2, H>, tile_8<3, H>,
                                tile_8<4, H>, tile_8<5, H>, tile_8<6, H>};
template <bool H>
constexpr Tile TILES_4[ROWS] = {tile_4<1, H>, tile_4<2, H>, tile_4<3, H>,
                                tile_4<4, H>, tile_4<5, H>, tile_4<6, H>};

const Tile* tiles_of(const Weights& t) {
  if (t.bits == 8) return t.halves ? TILES_8<true> : TILES_8<false>;
  return t.halves ? TILES_4<true> : TILES_4<false>;
}

// Eight int32 added up.
NSEDGE_AVX2 inline float total(__m256i x) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return static_cast<float>(_mm_cvtsi128_si32(half));
}

NSEDGE_AVX2 inline __m256i nearest(const float* x, __m256 inverse) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_load_ps(x), inverse));
}

// Sixteen floats, times inverse, as int16.
NSEDGE_AVX2 inline __m256i nearest_16(const float* x, __m256 inverse) {
  return _mm256_permute4x64_epi64(
      _mm256_packs_epi32(nearest(x, inverse), nearest(x + 8, inverse)), 0xd8);
}

// The greatest absolute of x [count], a multiple of 8.
NSEDGE_AVX2 float largest_of(const float* x, long count) {
  const __m256 absolute = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 greatest = _mm256_setzero_ps();
  for (long k = 0; k < count; k += 8)
    greatest = _mm256_max_ps(_mm256_and_ps(_mm256_load_ps(x + k), absolute), greatest);
  return vec::greatest(greatest);
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
  const float largest = largest_of(x, t.width());
  const __m256 inverse = _mm256_set1_ps(largest > 0.0f ? LARGEST_16 / largest : 0.0f);
  *scale = largest / LARGEST_16;
  for (long b = 0; b < t.blocks; b++) {
    __m256i sum = _mm256_setzero_si256();
    for (long k = b * t.block; k < (b + 1) * t.block; k += 16) {
      const __m256i rounded = nearest_16(x + k, inverse);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + k), rounded);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(rounded, _mm256_set1_epi16(1)));
    }
    sums[b] = total(sum);
  }
}

NSEDGE_AVX2 void round_8(const float* x, const Weights& t, int8_t* values, float* scales,
                         float* sums) {
  for (long b = 0; b < t.blocks; b++, x += BLOCK_4, values += BLOCK_4) {
    const float largest = largest_of(x, BLOCK_4);
    const __m256 inverse = _mm256_set1_ps(largest > 0.0f ? LARGEST_8 / largest : 0.0f);
    const __m256i low = nearest_16(x, inverse), high = nearest_16(x + 16, inverse);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values),
                        _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8));
    scales[b] = largest / LARGEST_8;
    sums[b] = scales[b] * total(_mm256_madd_epi16(_mm256_add_epi16(low, high),
                                                  _mm256_set1_epi16(1)));
  }
}

// Column c of an 8-bit tile: q [width] two by two, its zero moved from 128 to 0.
void place_8(const uint8_t* q, long width, long c, int8_t* tile) {
  for (long k = 0; k < width; k += 2) {
    uint16_t pair;
    std::memcpy(&pair, q + k, sizeof pair);
    pair ^= 0x8080;
    std::memcpy(tile + k * COLUMNS + 2 * c, &pair, sizeof pair);
  }
}

// Column c of a 4-bit tile: q [width / 2], eight of k at a time.
void place_4(const uint8_t* q, long width, long c, int8_t* tile) {
  for (long k = 0; k < width; k += 8, q += 4) {
    auto* to = reinterpret_cast<uint8_t*>(tile) + k * COLUMNS / 2 + c / 8 * HALF_TILE + c % 8 * 4;
    to[0] = static_cast<uint8_t>((q[0] & 15) | (q[2] & 15) << 4);
    to[1] = static_cast<uint8_t>(q[0] >> 4 | (q[2] & 240));
    to[2] = static_cast<uint8_t>((q[1] & 15) | (q[3] & 15) << 4);
    to[3] = static_cast<uint8_t>(q[1] >> 4 | (q[3] & 240));
  }
}

// The side of a matrix: scales and offsets of its blocks, as the source has them.
struct Sides {
  const Source& source;
  long bits, blocks;

  float scale(long column, long b) const { return source.scales[column * blocks + b]; }

  // What remains to add once 8-bit values are taken less 128; `relative`: as a multiple of the scale.
  float offset(long column, long b, bool relative) const {
    const float zero_moved = (bits == 8 ? 128.0f : 0.0f) - zero(column, b);
    if (relative) return zero_moved;
    const float given = source.offsets == nullptr ? 0.0f : source.offsets[column * blocks + b];
    return given + scale(column, b) * zero_moved;
  }

  float zero(long column, long b) const {
    if (source.zeros == nullptr) return bits == 4 ? 8.0f : 128.0f;
    if (bits == 8) return source.zeros[column * blocks + b];
    const uint8_t pair = source.zeros[column * ((blocks + 1) / 2) + b / 2];
    return static_cast<float>(b % 2 == 0 ? pair & 15 : pair >> 4);
  }
};

NSEDGE_AVX2 uint16_t half(float x) {
  return static_cast<uint16_t>(
      _mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT), 0));
}

NSEDGE_AVX2 bool is_half(float x) {
  const __m128 back = _mm_cvtph_ps(_mm_cvtsi32_si128(half(x)));
  return _mm_cvtss_f32(back) == x;
}

// Whether no scale, and no offset in that form, loses anything as a half.
bool all_halves(const Sides& sides, long n, bool shifted, bool relative) {
  for (long column = 0; column < n; column++)
    for (long b = 0; b < sides.blocks; b++)
      if (!is_half(sides.scale(column, b)) ||
          (shifted && !is_half(sides.offset(column, b, relative))))
        return false;
  return true;
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

void put(void* side, bool halves, long at, float value) {
  if (halves)
    static_cast<uint16_t*>(side)[at] = half(value);
  else
    static_cast<float*>(side)[at] = value;
}

}  // namespace

bool pack(const Source& source, long n, long k, long bits, long block, Weights* out) {
  const long source_blocks = (k + block - 1) / block, parts = bits == 4 ? block / BLOCK_4 : 1;
  const Sides sides{source, bits, source_blocks};
  const bool shifted = bits == 4 || source.zeros != nullptr || source.offsets != nullptr;
  Weights t{};
  t.n = n, t.k = k, t.bits = bits, t.block = block / parts, t.blocks = source_blocks * parts;
  t.tiles = (n + COLUMNS - 1) / COLUMNS;
  t.relative = shifted && source.offsets == nullptr;
  t.halves = all_halves(sides, n, shifted, t.relative);
  const size_t side = t.tiles * t.blocks * COLUMNS * (t.halves ? 2 : 4);
  t.q = static_cast<int8_t*>(memory::take(t.tiles * t.tile_bytes()));
  t.scales = memory::take(side);
  t.offsets = shifted ? memory::take(side) : nullptr;
  *out = t;
  if (t.q == nullptr || t.scales == nullptr || (shifted && t.offsets == nullptr)) {
    release(out);
    return false;
  }
  for (long column = 0; column < n; column++) {
    const long tile = column / COLUMNS, c = column % COLUMNS;
    (bits == 4 ? place_4 : place_8)(source.q + column * t.width() * bits / 8, t.width(), c,
                                    t.q + tile * t.tile_bytes());
    for (long b = 0; b < t.blocks; b++) {
      const long at = (tile * t.blocks + b) * COLUMNS + c;
      put(t.scales, t.halves, at, sides.scale(column, b / parts));
      if (shifted) put(t.offsets, t.halves, at, sides.offset(column, b / parts, t.relative));
    }
  }
  return true;
}

void release(Weights* weights) {
  memory::give_back(weights->q);
  memory::give_back(weights->scales);
  memory::give_back(weights->offsets);
  weights->q = nullptr;
  weights->scales = weights->offsets = nullptr;
}

size_t value_bytes(const Weights& t) { return t.width() * (t.bits == 8 ? 2 : 1); }
size_t scale_bytes(const Weights& t) { return (t.bits == 8 ? 1 : t.blocks) * sizeof(float); }
size_t sum_bytes(const Weights& t) { return t.blocks * sizeof(float); }

void round_row(const float* x, bool gated, const Weights& t, long row, const Rounded& out,
               float* room) {
  read_row(x, gated, t, room);
  char* values = static_cast<char*>(out.values) + row * value_bytes(t);
  float* sums = out.sums + row * t.blocks;
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
  const long fetching = groups < AHEAD ? groups : AHEAD;
  const long lines = t.block * COLUMNS * t.bits / 8 / LINE / fetching;
  const long side = t.blocks * COLUMNS * (t.halves ? 2 : 4), step = groups > 1 ? span(t) : 1;
  for (long from = first; from < last; from += step) {
    const long to = from + step < last ? from + step : last;
    for (long group = 0; group < groups; group++) {
      // Groups of equal size, give or take a row: a last one of one row would waste the weights.
      const long row = begin + rows * group / groups;
      const long count = begin + rows * (group + 1) / groups - row;
      for (long tile = from; tile < to; tile++) {
        const int8_t* q = t.q + tile * t.tile_bytes();
        const Operands operands{
            static_cast<const char*>(x.values) + row * value_bytes(t),
            x.scales + row * (t.bits == 8 ? 1 : t.blocks),
            x.sums + row * t.blocks,
            q,
            static_cast<const char*>(t.scales) + tile * side,
            t.offsets == nullptr ? nullptr : static_cast<const char*>(t.offsets) + tile * side,
            q + (to - from) * t.tile_bytes() + group * lines * t.blocks * LINE,
            group < fetching ? lines : 0};
        tiles[count - 1](t, operands, sums);
        store(t, sums, count, tile * COLUMNS, bias, y + row * t.n);
      }
    }
  }
}

}  // namespace matmul
