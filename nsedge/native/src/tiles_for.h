// The tiles for one kind of processor. It is included once for each, with
//   NSEDGE_KIND    the namespace, and NSEDGE_TARGET the attribute that functions are compiled with;
//   NSEDGE_DOT_16  (sums, a, b): int32 sums and products of int16, two and two;
//   NSEDGE_DOT_8   (sums, a, b): the same of uint8 and int8, four and four; where there is none, sums
//                  are made in 16 bits.
// What they compute is the same to the bit: a block's sum is an integer.

namespace matmul {
namespace NSEDGE_KIND {
namespace {

// A tile of R rows by 16 columns of 8-bit weights.
template <int R, bool HALVES, bool SHIFTED>
NSEDGE_TARGET void tile_8(const Weights& t, const Operands& o, float y[ROWS][COLUMNS]) {
  constexpr bool DOTS = R >= 4;  // of fewer rows, a sum waits longer for itself than for its parts
  const long stride = t.width();
  const auto* x = static_cast<const int16_t*>(o.x);
  const int8_t* data = o.data;
  const __m256 middle = _mm256_set1_ps(t.middle);
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
          if constexpr (DOTS) {
            sums[r][0] = NSEDGE_DOT_16(sums[r][0], both, left);
            sums[r][1] = NSEDGE_DOT_16(sums[r][1], both, right);
          } else {
            sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(both, left));
            sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(both, right));
          }
          NSEDGE_PIN(sums[r][0], sums[r][1]);
        }
      }
    }
    const Sides<HALVES, SHIFTED> sides(data, t.relative, middle);
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

#ifdef NSEDGE_DOT_8
// The same of weights of 4, 5 or 6 bits. Sums begin with what a weight's middle takes from them. A sum
// waits for itself longer than for its parts, so that few rows have several.
template <int BITS, int R, bool HALVES, bool SHIFTED>
NSEDGE_TARGET void tile_few(const Weights& t, const Operands& o, float y[ROWS][COLUMNS]) {
  constexpr int BLOCK = BITS == 6 ? BLOCK_6 : BITS == 5 ? BLOCK_5 : BLOCK_4;
  constexpr int GROUPS = BLOCK / 4, PARTS = R == 1 ? 4 : R < 4 ? 2 : 1;
  constexpr long BYTES = Q_BYTES<BITS, BLOCK> + SIDES<HALVES, SHIFTED>;
  const long blocks = t.blocks, stride = t.width();
  const bool relative = t.relative;
  const __m256 middle = _mm256_set1_ps(t.middle);
  const auto* x = static_cast<const int8_t*>(o.x);
  const float *x_scales = o.x_scales, *x_sums = o.x_sums;
  const int8_t* data = o.data;
  __m256 totals[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) totals[r][0] = totals[r][1] = _mm256_setzero_ps();
  for (long b = 0; b < blocks; b++, x += BLOCK, x_scales++, x_sums += 2, data += BYTES) {
    fetch(data, BYTES);
    __m256i sums[R][2][PARTS];
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      sums[r][0][0] = sums[r][1][0] =
          _mm256_castps_si256(_mm256_broadcast_ss(x_sums + 2 * r * blocks + 1));
#pragma GCC unroll 4
      for (int p = 1; p < PARTS; p++) sums[r][0][p] = sums[r][1][p] = _mm256_setzero_si256();
    }
#pragma GCC unroll 8
    for (int group = 0; group < GROUPS; group++) {
      const __m256i left = few<BITS, BLOCK>(data, group, 0);
      const __m256i right = few<BITS, BLOCK>(data, group, 1);
#pragma GCC unroll 6
      for (int r = 0; r < R; r++) {
        const __m256i all = four(x + r * stride + 4 * group);
        auto &one = sums[r][0][group % PARTS], &other = sums[r][1][group % PARTS];
        one = NSEDGE_DOT_8(one, left, all);
        other = NSEDGE_DOT_8(other, right, all);
        NSEDGE_PIN(one, other);
      }
    }
    const Sides<HALVES, SHIFTED> sides(data + Q_BYTES<BITS, BLOCK>, relative, middle);
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const __m256 scale = _mm256_broadcast_ss(x_scales + r * blocks);
#pragma GCC unroll 4
      for (int p = 1; p < PARTS; p++) {
        sums[r][0][0] = _mm256_add_epi32(sums[r][0][0], sums[r][0][p]);
        sums[r][1][0] = _mm256_add_epi32(sums[r][1][0], sums[r][1][p]);
      }
      sides.add(_mm256_mul_ps(scale, _mm256_cvtepi32_ps(sums[r][0][0])),
                _mm256_mul_ps(scale, _mm256_cvtepi32_ps(sums[r][1][0])), x_sums + 2 * r * blocks,
                totals[r][0], totals[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) {
    _mm256_store_ps(y[r], totals[r][0]);
    _mm256_store_ps(y[r] + 8, totals[r][1]);
  }
}
#endif

template <bool H, bool S>
constexpr Tile TILES_8[ROWS] = {tile_8<1, H, S>, tile_8<2, H, S>, tile_8<3, H, S>,
                                tile_8<4, H, S>, tile_8<5, H, S>, tile_8<6, H, S>};
template <int B, bool H, bool S>
constexpr Tile TILES_FEW[ROWS] = {tile_few<B, 1, H, S>, tile_few<B, 2, H, S>, tile_few<B, 3, H, S>,
                                  tile_few<B, 4, H, S>, tile_few<B, 5, H, S>, tile_few<B, 6, H, S>};

template <bool H, bool S>
const Tile* tiles_in(long bits) {
  switch (bits) {
    case 4: return TILES_FEW<4, H, S>;
    case 5: return TILES_FEW<5, H, S>;
    case 6: return TILES_FEW<6, H, S>;
    default: return TILES_8<H, S>;
  }
}

// The tiles of 1 to ROWS rows.
const Tile* tiles_of(const Weights& t) {
  if (t.halves) return t.shifted ? tiles_in<true, true>(t.bits) : tiles_in<true, false>(t.bits);
  return t.shifted ? tiles_in<false, true>(t.bits) : tiles_in<false, false>(t.bits);
}

}  // namespace
}  // namespace NSEDGE_KIND
}  // namespace matmul

#undef NSEDGE_KIND
#undef NSEDGE_TARGET
#undef NSEDGE_DOT_16
#undef NSEDGE_DOT_8
