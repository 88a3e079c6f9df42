// Tiles whose 16 columns lie in one register of 512 bits, for processors with AVX-512 VNNI. What they
// compute is the same to the bit as what tiles_for.h does.
#include "tiles.h"
#include "wide.h"

namespace matmul {
namespace avx512 {
namespace {

// Four bytes of x, sixteen times.
template <typename T>
NSEDGE_AVX512 inline __m512i repeated(const T* x) {
  int32_t bytes;
  std::memcpy(&bytes, x, sizeof bytes);
  return _mm512_set1_epi32(bytes);
}

// How many sums a row has: one waits for itself longer than for its parts.
constexpr int parts_of(int rows) { return rows == 1 ? 4 : rows < 4 ? 2 : 1; }

template <int BITS, int R, bool HALVES, bool SHIFTED>
NSEDGE_AVX512 void tile_few(const Weights& t, const Operands& o, float (*y)[COLUMNS]) {
  constexpr int BLOCK = BITS == 6 ? BLOCK_6 : BITS == 5 ? BLOCK_5 : BLOCK_4;
  constexpr int GROUPS = BLOCK / 4, PARTS = parts_of(R);
  constexpr long BYTES = Q_BYTES<BITS, BLOCK> + SIDES<HALVES, SHIFTED>;
  const long blocks = t.blocks, stride = t.width();
  const bool relative = t.relative;
  const __m512 middle = _mm512_set1_ps(t.middle);
  const auto* x = static_cast<const int8_t*>(o.x);
  const float *x_scales = o.x_scales, *x_sums = o.x_sums;
  const int8_t* data = o.data;
  __m512 totals[R];
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) totals[r] = _mm512_setzero_ps();
  for (long b = 0; b < blocks; b++, x += BLOCK, x_scales++, x_sums += 2, data += BYTES) {
    fetch(data, BYTES);
    __m512i sums[R][PARTS];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      sums[r][0] = repeated(x_sums + 2 * r * blocks + 1);
#pragma GCC unroll 4
      for (int p = 1; p < PARTS; p++) sums[r][p] = _mm512_setzero_si512();
    }
#pragma GCC unroll 8
    for (int group = 0; group < GROUPS; group++) {
      const __m512i weights = wide_few<BITS, BLOCK>(data, group);
#pragma GCC unroll 12
      for (int r = 0; r < R; r++) {
        auto& sum = sums[r][group % PARTS];
        sum = _mm512_dpbusd_epi32(sum, weights, repeated(x + r * stride + 4 * group));
      }
    }
    const WideSides<HALVES, SHIFTED> sides(data + Q_BYTES<BITS, BLOCK>, relative, middle);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
      for (int p = 1; p < PARTS; p++) sums[r][0] = _mm512_add_epi32(sums[r][0], sums[r][p]);
      const __m512 scale = _mm512_set1_ps(x_scales[r * blocks]);
      sides.add(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(sums[r][0])), x_sums + 2 * r * blocks,
                totals[r]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) _mm512_storeu_ps(y[r], totals[r]);
}

template <int R, bool HALVES, bool SHIFTED>
NSEDGE_AVX512 void tile_8(const Weights& t, const Operands& o, float (*y)[COLUMNS]) {
  constexpr int PARTS = parts_of(R);
  const long stride = t.width();
  const auto* x = static_cast<const int16_t*>(o.x);
  const int8_t* data = o.data;
  const __m512 middle = _mm512_set1_ps(t.middle);
  __m512 totals[R];
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) totals[r] = _mm512_setzero_ps();
  for (long b = 0; b < t.blocks; b++, data += SIDES<HALVES, SHIFTED>) {
    __m512i sums[R][PARTS];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int p = 0; p < PARTS; p++) sums[r][p] = _mm512_setzero_si512();
    for (long rest = t.block; rest > 0; rest -= STEP_8, x += STEP_8, data += STEP_8 * COLUMNS) {
      fetch(data, STEP_8 * COLUMNS);
#pragma GCC unroll 4
      for (int pair = 0; pair < STEP_8 / 2; pair++) {
        const auto* at = reinterpret_cast<const __m256i*>(data + pair * 2 * COLUMNS);
        const __m512i weights = _mm512_cvtepi8_epi16(_mm256_loadu_si256(at));
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
          auto& sum = sums[r][pair % PARTS];
          sum = _mm512_dpwssd_epi32(sum, weights, repeated(x + r * stride + 2 * pair));
        }
      }
    }
    const WideSides<HALVES, SHIFTED> sides(data, t.relative, middle);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
      for (int p = 1; p < PARTS; p++) sums[r][0] = _mm512_add_epi32(sums[r][0], sums[r][p]);
      sides.add(_mm512_cvtepi32_ps(sums[r][0]), o.x_sums + r * t.blocks + b, totals[r]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++)
    _mm512_storeu_ps(y[r], _mm512_mul_ps(totals[r], _mm512_set1_ps(o.x_scales[r])));
}

template <bool H, bool S>
constexpr Tile TILES_8[ROWS] = {tile_8<1, H, S>,  tile_8<2, H, S>,  tile_8<3, H, S>,
                                tile_8<4, H, S>,  tile_8<5, H, S>,  tile_8<6, H, S>,
                                tile_8<7, H, S>,  tile_8<8, H, S>,  tile_8<9, H, S>,
                                tile_8<10, H, S>, tile_8<11, H, S>, tile_8<12, H, S>};
template <int B, bool H, bool S>
constexpr Tile TILES_FEW[ROWS] = {
    tile_few<B, 1, H, S>,  tile_few<B, 2, H, S>,  tile_few<B, 3, H, S>, tile_few<B, 4, H, S>,
    tile_few<B, 5, H, S>,  tile_few<B, 6, H, S>,  tile_few<B, 7, H, S>, tile_few<B, 8, H, S>,
    tile_few<B, 9, H, S>,  tile_few<B, 10, H, S>, tile_few<B, 11, H, S>, tile_few<B, 12, H, S>};

template <bool H, bool S>
const Tile* tiles_in(long bits) {
  switch (bits) {
    case 4: return TILES_FEW<4, H, S>;
    case 5: return TILES_FEW<5, H, S>;
    case 6: return TILES_FEW<6, H, S>;
    default: return TILES_8<H, S>;
  }
}

}  // namespace

const Tile* tiles_of(const Weights& t) {
  if (t.halves) return t.shifted ? tiles_in<true, true>(t.bits) : tiles_in<true, false>(t.bits);
  return t.shifted ? tiles_in<false, true>(t.bits) : tiles_in<false, false>(t.bits);
}

}  // namespace avx512
}  // namespace matmul
