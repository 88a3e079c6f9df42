// Products of sixteen rows at a time by tiles of AMX. A block's sums are integers, and are scaled and
// added as tiles_512.cpp does it, so that a row's result is the same to the bit.
#include "amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wide.h"

#define NSEDGE_AMX                                                                              \
  __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni,amx-tile,amx-int8")))

namespace matmul {
namespace amx {
namespace {

constexpr long PANEL = BLOCK_4 * COLUMNS;  // bytes of a block's weights, a byte each

struct alignas(64) Configuration {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// Registers 0 to 3 are sums [GROUP, COLUMNS], 4 and 5 x [GROUP, block], 6 and 7 weights [block / 4,
// COLUMNS, 4].
NSEDGE_AMX void configure() {
  Configuration all;
  for (int i = 0; i < 8; i++) {
    all.bytes[i] = i < 4 || i > 5 ? 64 : BLOCK_4;
    all.rows[i] = i < 6 ? GROUP : BLOCK_4 / 4;
  }
  // GCC 12 takes the instruction to read eight bytes alone, and drops what is stored to the others.
  __asm__ volatile("" : : "r"(&all) : "memory");
  _tile_loadconfig(&all);
}

NSEDGE_AMX void release() { _tile_release(); }

// A tile's weights, a signed byte each: [blocks, 8, 16, 4], and its scales and offsets [blocks, 16].
template <int BITS, bool HALVES, bool SHIFTED>
NSEDGE_AVX512 void unpack(const Weights& t, const int8_t* data, int8_t* q, float* sides) {
  const __m512 middle = _mm512_set1_ps(t.middle);
  const __m512i zero = _mm512_set1_epi8(1 << (BITS - 1));
  for (long b = 0; b < t.blocks; b++, data += t.block_bytes(), q += PANEL) {
    fetch(data, t.block_bytes());
#pragma GCC unroll 8
    for (int group = 0; group < 8; group++) {
      const __m512i weights = wide_few<BITS, BLOCK_4>(data, group);
      _mm512_store_si512(q + 64 * group, _mm512_sub_epi8(weights, zero));
    }
    const WideSides<HALVES, SHIFTED> read(data + Q_BYTES<BITS, BLOCK_4>, t.relative, middle);
    _mm512_store_ps(sides, read.scales);
    sides += COLUMNS;
    if constexpr (SHIFTED) {
      _mm512_store_ps(sides, read.offsets);
      sides += COLUMNS;
    }
  }
}

// Adds a block's sums [GROUP, COLUMNS] to the rows' totals. side: its scales, then its offsets.
template <bool SHIFTED>
NSEDGE_AVX512 inline void add(const int32_t* sums, const float* x_scales, const float* x_sums,
                              const float* side, __m512* totals) {
  const __m512 scales = _mm512_load_ps(side);
  const __m512 offsets = SHIFTED ? _mm512_load_ps(side + COLUMNS) : scales;
#pragma GCC unroll 16
  for (int r = 0; r < GROUP; r++) {
    const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums + r * COLUMNS));
    const __m512 scale = _mm512_set1_ps(x_scales[r]);
    totals[r] = _mm512_fmadd_ps(_mm512_mul_ps(scale, sum), scales, totals[r]);
    if constexpr (SHIFTED)
      totals[r] = _mm512_fmadd_ps(_mm512_set1_ps(x_sums[r]), offsets, totals[r]);
  }
}

// Block b = from + i: its sums are made by registers i, x and w, which are named by digits, and those
// made LATER blocks before are added: sums wait for their products, and are read back from memory.
#define NSEDGE_STEP(i, x, w)                                                                 \
  if (const long b = from + i; b < blocks) {                                                 \
    _tile_zero(i);                                                                           \
    _tile_loadd(x, values + b * BLOCK_4, stride);                                            \
    _tile_loadd(w, q + b * PANEL, 64);                                                       \
    _tile_dpbssd(i, x, w);                                                                   \
    _tile_stored(i, sums[b % KEPT], 64);                                                     \
  }                                                                                          \
  if (const long b = from + i - LATER; b >= 0 && b < blocks)                                 \
    add<SHIFTED>(sums[b % KEPT], o.x_scales + b * GROUP, o.x_sums + b * GROUP, sides + b * SIDE,   \
                 totals)

// y [GROUP, COLUMNS] of one group of rows.
template <bool SHIFTED>
NSEDGE_AMX void group(const Weights& t, const Operands& o, const int8_t* q, const float* sides,
                      float (*y)[COLUMNS]) {
  constexpr long LATER = 4, KEPT = 2 * LATER, SIDE = COLUMNS * (SHIFTED ? 2 : 1);
  alignas(64) int32_t sums[KEPT][GROUP * COLUMNS];
  const long blocks = t.blocks, stride = t.width();
  const auto* values = static_cast<const int8_t*>(o.x);
  __m512 totals[GROUP];
#pragma GCC unroll 16
  for (int r = 0; r < GROUP; r++) totals[r] = _mm512_setzero_ps();
  for (long from = 0; from < blocks + LATER; from += 4) {
    NSEDGE_STEP(0, 4, 6);
    NSEDGE_STEP(1, 5, 7);
    NSEDGE_STEP(2, 4, 6);
    NSEDGE_STEP(3, 5, 7);
  }
#pragma GCC unroll 16
  for (int r = 0; r < GROUP; r++) _mm512_store_ps(y[r], totals[r]);
}

template <int BITS>
void unpack(const Weights& t, const int8_t* data, int8_t* q, float* sides) {
  const auto work = t.halves ? (t.shifted ? unpack<BITS, true, true> : unpack<BITS, true, false>)
                             : (t.shifted ? unpack<BITS, false, true> : unpack<BITS, false, false>);
  work(t, data, q, sides);
}

}  // namespace

bool here() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> 25 & 1)) return false;
  constexpr int ASK = 0x1023, TILES = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, ASK, TILES) == 0;
}

bool fits(const Weights& t) { return t.block == BLOCK_4 && (t.bits == 4 || t.bits == 5); }

size_t room_bytes(const Weights& t) {
  return t.blocks * (PANEL + COLUMNS * sizeof(float) * (t.shifted ? 2 : 1));
}

Panel::Panel(const Weights& weights, void* room)
    : weights_(weights),
      q_(static_cast<int8_t*>(room)),
      sides_(reinterpret_cast<float*>(q_ + weights.blocks * PANEL)) {
  configure();
}

Panel::~Panel() { release(); }

void Panel::open(const int8_t* data) {
  weights_.bits == 4 ? unpack<4>(weights_, data, q_, sides_) : unpack<5>(weights_, data, q_, sides_);
}

void Panel::multiply(const Operands& x, float (*y)[COLUMNS]) const {
  weights_.shifted ? group<true>(weights_, x, q_, sides_, y)
                   : group<false>(weights_, x, q_, sides_, y);
}

}  // namespace amx
}  // namespace matmul
