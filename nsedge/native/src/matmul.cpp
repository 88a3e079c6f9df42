#include "matmul.h"

#include <cpuid.h>

#include <cmath>
#include <cstring>

#include "amx.h"
#include "tiles.h"
#include "vector.h"

#define NSEDGE_KIND avx2
#define NSEDGE_TARGET NSEDGE_AVX2
#define NSEDGE_DOT_16(sums, a, b) _mm256_add_epi32(sums, _mm256_madd_epi16(a, b))
#include "tiles_for.h"

#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define NSEDGE_DOTS 1
#define NSEDGE_KIND avx_vnni
#define NSEDGE_TARGET __attribute__((target("avx2,fma,f16c,avxvnni")))
#define NSEDGE_DOT_16 _mm256_dpwssd_avx_epi32
#define NSEDGE_DOT_8 _mm256_dpbusd_avx_epi32
#include "tiles_for.h"
#endif

namespace matmul {
bool plain = false;

namespace {

constexpr float LARGEST_16 = 32767.0f, LARGEST_8 = 127.0f;
constexpr long SPAN = 4;         // tiles at most that a group of rows goes through in one go
constexpr long NEAR = 20 << 10;  // bytes of weights that stay in the first-level cache meanwhile

enum class Kind { AVX2, AVX_VNNI, AVX512, AMX };

// What this processor has instructions for.
Kind kind_here() {
#ifdef NSEDGE_DOTS
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni"))
    return amx::here() ? Kind::AMX : Kind::AVX512;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1)) return Kind::AVX_VNNI;
#endif
  return Kind::AVX2;
}

const Kind HERE = kind_here();

Kind kind() { return plain ? Kind::AVX2 : HERE; }

const Tile* tiles_of(const Weights& t) {
  switch (kind()) {
#ifdef NSEDGE_DOTS
    case Kind::AVX_VNNI: return avx_vnni::tiles_of(t);
    case Kind::AVX512:
    case Kind::AMX: return avx512::tiles_of(t);
#endif
    default: return avx2::tiles_of(t);
  }
}

// Rows of a tile at most.
long most_rows() { return kind() >= Kind::AVX512 ? avx512::ROWS : ROWS; }

// Eight int32 added up.
NSEDGE_AVX2 inline int32_t total(__m256i x) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtsi128_si32(half);
}

// What a block's products with nibbles are added to, in 16 bits: -8 times the values of which
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
    sums[b] = static_cast<float>(total(sum));
  }
}

// Blocks of 16 or 32. Scales and sums lie `step` apart; where that is 1, each sum is followed by what
// products are added to.
NSEDGE_AVX2 void round_8(const float* x, const Weights& t, int8_t* values, float* scales,
                         float* sums, long step) {
  const int32_t middle = 1 << (t.bits - 1);
  const bool in_16 = t.bits == 4 && kind() == Kind::AVX2;
  for (long b = 0; b < t.blocks; b++, x += t.block, values += t.block) {
    const float largest = vec::largest(x, t.block);
    const __m256 inverse = _mm256_set1_ps(largest > 0.0f ? LARGEST_8 / largest : 0.0f);
    const __m256i low = vec::nearest_16(x, inverse);
    const __m256i high = t.block == 16 ? _mm256_setzero_si256() : vec::nearest_16(x + 16, inverse);
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8);
    if (t.block == 16)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(values), _mm256_castsi256_si128(bytes));
    else
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), bytes);
    scales[b * step] = largest / LARGEST_8;
    const __m256i both = _mm256_add_epi16(low, high);
    const int32_t sum = total(_mm256_madd_epi16(both, _mm256_set1_epi16(1)));
    const float scaled = scales[b * step] * static_cast<float>(sum);
    if (step > 1) {
      sums[b * step] = scaled;
      continue;
    }
    sums[2 * b] = scaled;
    const int32_t start = in_16 ? start_of(both) : -middle * sum;
    std::memcpy(sums + 2 * b + 1, &start, sizeof start);
  }
}

// Rows of a tile's sums, to y [rows, n] from `column` on.
void store(const Weights& t, const float (*sums)[COLUMNS], long rows, long column,
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

// A row's operands, of a tile that is not named yet.
Operands operands_of(const Weights& t, const Rounded& x, long row) {
  return {static_cast<const char*>(x.values) + row * value_bytes(t),
          x.scales + row * scale_bytes(t) / sizeof(float),
          x.sums + row * sum_bytes(t) / sizeof(float), nullptr};
}

}  // namespace

const char* instructions() {
  switch (kind()) {
    case Kind::AMX: return "AMX and AVX-512 VNNI";
    case Kind::AVX512: return "AVX-512 VNNI";
    case Kind::AVX_VNNI: return "AVX-VNNI";
    default: return "AVX2";
  }
}

size_t value_bytes(const Weights& t) { return t.width() * (t.bits == 8 ? 2 : 1); }
size_t scale_bytes(const Weights& t) { return (t.bits == 8 ? 1 : t.blocks) * sizeof(float); }
size_t sum_bytes(const Weights& t) { return t.blocks * (t.bits == 8 ? 1 : 2) * sizeof(float); }

void round_row(const float* x, bool gated, const Weights& t, long row, long rows,
               const Rounded& out, float* room) {
  read_row(x, gated, t, room);
  char* values = static_cast<char*>(out.values) + row * value_bytes(t);
  if (t.bits == 8) {
    round_16(room, t, reinterpret_cast<int16_t*>(values), out.scales + row, out.sums + row * t.blocks);
    return;
  }
  const bool grouped = row < grouped_rows(t, rows);
  const long first = grouped ? row / GROUP * GROUP : row, within = row - first;
  round_8(room, t, reinterpret_cast<int8_t*>(values), out.scales + first * t.blocks + within,
          out.sums + 2 * first * t.blocks + within, grouped ? GROUP : 1);
}

long span(const Weights& t) {
  const long fitting = NEAR / t.tile_bytes();
  return fitting < 1 ? 1 : fitting < SPAN ? fitting : SPAN;
}

long grouped_rows(const Weights& t, long rows) {
  return kind() == Kind::AMX && amx::fits(t) ? rows / GROUP * GROUP : 0;
}

size_t room_bytes(const Weights& t) { return amx::room_bytes(t); }

void multiply(const Weights& t, const Rounded& x, long begin, long end, long first, long last,
              const float* bias, float* y) {
  alignas(64) float sums[avx512::ROWS][COLUMNS];
  const Tile* const tiles = tiles_of(t);
  const long rows = end - begin, groups = (rows + most_rows() - 1) / most_rows();
  const long step = groups > 1 ? span(t) : 1;
  for (long from = first; from < last; from += step) {
    const long to = from + step < last ? from + step : last;
    for (long group = 0; group < groups; group++) {
      // Groups of equal size, give or take a row: a last one of one row would waste the weights.
      const long row = begin + rows * group / groups;
      const long count = begin + rows * (group + 1) / groups - row;
      Operands operands = operands_of(t, x, row);
      for (long tile = from; tile < to; tile++) {
        operands.data = t.data + tile * t.tile_bytes();
        tiles[count - 1](t, operands, sums);
        store(t, sums, count, tile * COLUMNS, bias, y + row * t.n);
      }
    }
  }
}

void multiply_groups(const Weights& t, const Rounded& x, long begin, long end, long first, long last,
                     const float* bias, float* y, void* room) {
  alignas(64) float sums[GROUP][COLUMNS];
  amx::Panel panel(t, room);
  for (long tile = first; tile < last; tile++) {
    panel.open(t.data + tile * t.tile_bytes());
    for (long row = begin; row < end; row += GROUP) {
      panel.multiply(operands_of(t, x, row), sums);
      store(t, sums, GROUP, tile * COLUMNS, bias, y + row * t.n);
    }
  }
}

}  // namespace matmul
