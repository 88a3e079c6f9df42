#include <cmath>
#include <cstring>
#include <mutex>
#include <new>

#include "matmul.h"
#include "memory.h"
#include "vector.h"

namespace matmul {
namespace {

constexpr long HALF_TILE = COLUMNS / 2 * 4;  // bytes of 8 columns, eight of k each

// Column c of a block of 8-bit weights: q [block] two by two, its zero moved from 128 to 0.
NSEDGE_AVX2 void place_8(const uint8_t* q, long block, long c, int8_t* data) {
  const __m128i zero = _mm_set1_epi8(-128);
  alignas(16) uint16_t pairs[8];
  for (long k = 0; k < block; k += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q + k));
    _mm_store_si128(reinterpret_cast<__m128i*>(pairs), _mm_xor_si128(bytes, zero));
#pragma GCC unroll 8
    for (long i = 0; i < 8; i++)
      std::memcpy(data + (k + 2 * i) * COLUMNS + 2 * c, pairs + i, sizeof pairs[i]);
  }
}

// Column c of a block of 4-bit weights: q [BLOCK_4 / 2].
NSEDGE_AVX2 void place_4(const uint8_t* q, long, long c, int8_t* data) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
  const __m128i low = _mm_set1_epi8(15);
  const __m128i even = _mm_and_si128(bytes, low), odd = _mm_and_si128(_mm_srli_epi16(bytes, 4), low);
  const __m128i halves[2] = {_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd)};
  int8_t* to = data + c / 8 * HALF_TILE + c % 8 * 4;
#pragma GCC unroll 2
  for (const __m128i& k : halves) {  // sixteen of k: four and four, of which the latter go high
    const __m128i both = _mm_or_si128(k, _mm_srli_epi64(k, 28));
    const int32_t first = _mm_cvtsi128_si32(both), second = _mm_extract_epi32(both, 2);
    std::memcpy(to, &first, sizeof first);
    std::memcpy(to + 2 * HALF_TILE, &second, sizeof second);
    to += 4 * HALF_TILE;
  }
}

// Column c of a block of weights of 5 or 6 bits: q [BLOCK] of 8 bits, their zero moved from 128 to the middle
// of fewer.
template <int BITS>
NSEDGE_AVX2 void place_wide(const uint8_t* q, long block, long c, int8_t* data) {
  constexpr int HIGH = BITS - 4;
  constexpr uint32_t ABOVE = ((1u << HIGH) - 1) * 0x01010101u;
  const __m128i least = _mm_set1_epi8(static_cast<char>(128 - (1 << (BITS - 1))));
  const __m128i low = _mm_set1_epi8(15);
  const long column = c / 8 * HALF_TILE + c % 8 * 4;
  uint32_t above = 0;
  for (long k = 0; k < block; k += 16) {
    const __m128i bytes = _mm_sub_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + k)), least);
    const __m128i nibbles = _mm_and_si128(bytes, low);
    const __m128i both = _mm_or_si128(nibbles, _mm_srli_epi64(nibbles, 28));
    const int32_t first = _mm_cvtsi128_si32(both), second = _mm_extract_epi32(both, 2);
    int8_t* to = data + k / 8 * 2 * HALF_TILE + column;
    std::memcpy(to, &first, sizeof first);
    std::memcpy(to + 2 * HALF_TILE, &second, sizeof second);
    alignas(16) uint32_t fours[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(fours), bytes);
    for (long i = 0; i < 4; i++) above |= (fours[i] >> 4 & ABOVE) << HIGH * (k / 4 + i);
  }
  std::memcpy(data + block * COLUMNS / 2 + column, &above, sizeof above);
}

// What offsets are written as; see Weights.
struct Form {
  bool relative;
  float middle;
};

// The side of a matrix: scales and offsets of its blocks, as the source has them.
struct Sides {
  const Source& source;
  long bits, blocks;

  float scale(long column, long b) const { return source.scales[column * blocks + b]; }

  // What remains to add once values are taken less 8 or 128.
  float offset(long column, long b, Form form) const {
    const float zero_moved = middle() - zero(column, b);
    if (form.relative) return zero_moved;
    const float given = source.offsets == nullptr ? 0.0f : source.offsets[column * blocks + b];
    return given + scale(column, b) * zero_moved - form.middle * scale(column, b);
  }

  float middle() const { return bits == 4 ? 8.0f : 128.0f; }

  float zero(long column, long b) const {
    if (source.zeros == nullptr) return middle();
    if (bits == 8) return source.zeros[column * blocks + b];
    const uint8_t pair = source.zeros[column * ((blocks + 1) / 2) + b / 2];
    return static_cast<float>(b % 2 == 0 ? pair & 15 : pair >> 4);
  }
};

NSEDGE_AVX2 uint16_t half(float x) {
  return static_cast<uint16_t>(
      _mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT), 0));
}

NSEDGE_AVX2 float from_half(uint16_t x) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(x))); }

NSEDGE_AVX2 bool is_half(float x) { return from_half(half(x)) == x; }

// Whether no scale, and no offset in that form, loses anything as a half. What has a middle to be added
// has been rounded after it was: the half that gives it again may be near.
NSEDGE_AVX2 bool all_halves(const Sides& sides, long n, bool shifted, Form form) {
  constexpr Form PLAIN{false, 0.0f};
  for (long column = 0; column < n; column++)
    for (long b = 0; b < sides.blocks; b++) {
      const float scale = sides.scale(column, b);
      if (!is_half(scale)) return false;
      if (!shifted) continue;
      const float offset = sides.offset(column, b, form);
      if (form.middle == 0.0f ? !is_half(offset)
                              : std::fmaf(form.middle, scale, from_half(half(offset))) !=
                                    sides.offset(column, b, PLAIN))
        return false;
    }
  return true;
}

NSEDGE_AVX2 void put(int8_t* side, bool halves, long column, float value) {
  const uint16_t narrow = half(value);
  if (halves)
    std::memcpy(side + column * sizeof narrow, &narrow, sizeof narrow);
  else
    std::memcpy(side + column * sizeof value, &value, sizeof value);
}

NSEDGE_AVX2 float read_side(const int8_t* side, bool halves, long column) {
  if (halves) {
    uint16_t narrow;
    std::memcpy(&narrow, side + column * sizeof narrow, sizeof narrow);
    return from_half(narrow);
  }
  float value;
  std::memcpy(&value, side + column * sizeof value, sizeof value);
  return value;
}

// The fewest bits that hold all 8-bit weights q [rows, width] around their middle, where such blocks have
// a form for them; else 8.
NSEDGE_AVX2 long fewest_bits(const uint8_t* q, long rows, long width, long block) {
  if (block != BLOCK_5 && block != BLOCK_6) return 8;
  const long bits = block == BLOCK_5 ? 5 : 6;
  const __m128i least = _mm_set1_epi8(static_cast<char>(128 - (1 << (bits - 1))));
  const __m128i above = _mm_set1_epi8(static_cast<char>(0xff << bits));
  for (long row = 0; row < rows; row++, q += width) {
    __m128i seen = _mm_setzero_si128();
    for (long k = 0; k < width; k += 16)
      seen = _mm_or_si128(
          seen, _mm_sub_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + k)), least));
    if (!_mm_testz_si128(seen, above)) return 8;
  }
  return bits;
}

using Place = void (*)(const uint8_t*, long, long, int8_t*);

Place place_of(long bits) {
  return bits == 4 ? place_4 : bits == 5 ? place_wide<5> : bits == 6 ? place_wide<6> : place_8;
}

// The form in which all sides are halves, where there is one.
Form form_of(const Sides& sides, long n, const Weights& t, bool* halves) {
  const Form plain{t.shifted && sides.source.offsets == nullptr, 0.0f};
  const Form moved{false, static_cast<float>(1 << (t.bits - 1))};
  *halves = true;
  if (all_halves(sides, n, t.shifted, plain)) return plain;
  if (sides.source.offsets != nullptr && all_halves(sides, n, true, moved)) return moved;
  *halves = false;
  return plain;
}

bool pack(const Source& source, long n, long k, long bits, long block, Weights* out) {
  const long source_blocks = (k + block - 1) / block, parts = bits == 4 ? block / BLOCK_4 : 1;
  const Sides sides{source, bits, source_blocks};
  Weights t{};
  t.n = n, t.k = k, t.block = block / parts, t.blocks = source_blocks * parts;
  t.bits = bits == 8 ? fewest_bits(source.q, n, t.width(), block) : bits;
  t.tiles = (n + COLUMNS - 1) / COLUMNS;
  t.shifted = source.zeros != nullptr || source.offsets != nullptr;
  const Form form = form_of(sides, n, t, &t.halves);
  t.relative = form.relative, t.middle = form.middle;
  t.data = static_cast<int8_t*>(memory::take(t.tiles * t.tile_bytes()));
  *out = t;
  if (t.data == nullptr) return false;
  const Place place = place_of(t.bits);
  for (long column = 0; column < n; column++) {
    const long c = column % COLUMNS;
    int8_t* data = t.data + column / COLUMNS * t.tile_bytes();
    const uint8_t* q = source.q + column * t.width() * bits / 8;
    for (long b = 0; b < t.blocks; b++, q += t.block * bits / 8, data += t.block_bytes()) {
      int8_t* side = data + t.q_bytes();
      place(q, t.block, c, data);
      put(side, t.halves, c, sides.scale(column, b / parts));
      if (t.shifted)
        put(side + t.side_bytes(), t.halves, c, sides.offset(column, b / parts, form));
    }
  }
  return true;
}

// Packed bytes, and how many weights read them: sessions of one group are opened over one file, each
// with mappings of its own.
struct Bytes {
  int8_t* data;
  size_t count, readers;
};

// What is packed now, by whom and from where.
struct Packed : Weights {
  const void *q, *scales, *zeros, *offsets;
  long given_bits, given_block;
  size_t group, users;
  Bytes* bytes;
  Packed* next;

  bool is_of(const Source& source, long n_, long k_, long bits_, long block_) const {
    return group == own_group && q == source.q && scales == source.scales &&
           zeros == source.zeros && offsets == source.offsets && n == n_ && k == k_ &&
           given_bits == bits_ && given_block == block_;
  }
};

std::mutex mutex;
Packed* all = nullptr;

// Has `packed` read what another one of its group holds, where that is the very same. Under the lock.
void share(Packed* packed) {
  Bytes* own = packed->bytes;
  for (Packed* other = all; other != nullptr && packed->group != NO_GROUP; other = other->next) {
    Bytes* theirs = other->bytes;
    if (other->group != packed->group || theirs->count != own->count ||
        std::memcmp(theirs->data, own->data, own->count) != 0)
      continue;
    memory::give_back(own->data);
    delete own;
    theirs->readers++;
    packed->bytes = theirs, packed->data = theirs->data;
    return;
  }
}

// Weight k of a block, in column c.
int weight(const Weights& t, const int8_t* data, long c, long k) {
  if (t.bits == 8) return data[k / 2 * 2 * COLUMNS + 2 * c + k % 2];
  const long column = c / 8 * HALF_TILE + c % 8 * 4 + k % 4, high = t.bits - 4;
  const auto* q = reinterpret_cast<const uint8_t*>(data);
  const int nibble = q[k / 8 * 2 * HALF_TILE + column] >> (k % 8 < 4 ? 0 : 4) & 15;
  const int above = q[t.block * COLUMNS / 2 + column] >> k / 4 * high & ((1 << high) - 1);
  return nibble + 16 * above - (1 << (t.bits - 1));
}

}  // namespace

thread_local size_t own_group = NO_GROUP;

bool can_be(long bits, long block) {
  return (bits == 4 && block >= BLOCK_4 && block % BLOCK_4 == 0) ||
         (bits == 8 && block >= BLOCK_6 && block % BLOCK_6 == 0);
}

const Weights* take(const Source& source, long n, long k, long bits, long block) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    for (Packed* packed = all; packed != nullptr; packed = packed->next) {
      if (!packed->is_of(source, n, k, bits, block)) continue;
      packed->users++;
      return packed;
    }
  }
  // Only a session's own nodes read from one place, and it makes them one after the other: nobody
  // packs the same meanwhile.
  auto* packed = new (std::nothrow) Packed{
      {}, source.q, source.scales, source.zeros, source.offsets, bits, block, own_group, 1, nullptr,
      nullptr};
  auto* bytes = new (std::nothrow) Bytes{};
  if (packed == nullptr || bytes == nullptr || !pack(source, n, k, bits, block, packed)) {
    delete packed;
    delete bytes;
    return nullptr;
  }
  *bytes = {packed->data, static_cast<size_t>(packed->tiles * packed->tile_bytes()), 1};
  packed->bytes = bytes;
  const std::lock_guard<std::mutex> lock(mutex);
  share(packed);
  packed->next = all;
  return all = packed;
}

void give_back(const Weights* weights) {
  const std::lock_guard<std::mutex> lock(mutex);
  for (Packed** link = &all; *link != nullptr; link = &(*link)->next) {
    Packed* packed = *link;
    if (packed != weights) continue;
    if (--packed->users > 0) return;
    *link = packed->next;
    if (--packed->bytes->readers == 0) {
      memory::give_back(packed->bytes->data);
      delete packed->bytes;
    }
    delete packed;
    return;
  }
}

void read_row(const Weights& weights, long n, float* out) {
  const long column = n % COLUMNS;
  const int8_t* data = weights.data + n / COLUMNS * weights.tile_bytes();
  for (long b = 0; b < weights.blocks; b++, data += weights.block_bytes()) {
    const float scale = read_side(data + weights.q_bytes(), weights.halves, column);
    const long begin = b * weights.block;
    const long count = weights.k - begin < weights.block ? weights.k - begin : weights.block;
    for (long k = 0; k < count; k++)
      out[begin + k] = scale * static_cast<float>(weight(weights, data, column, k));
  }
}

}  // namespace matmul
