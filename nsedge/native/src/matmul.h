// Products with weights of 4 to 8 bits in blocks:
//
//   y[m, n] = sum over blocks b of sum over k in b of (s[n, b] * q[n, k] + o[n, b]) * x[m, k]
//
// x is rounded to integers before it is multiplied, as AVX2 likes it best:
//   - 8-bit weights: x to 16 bits, one scale a row. vpmaddwd makes half the products of vpmaddubsw,
//     but needs no second widening and no sign trick, so it is as fast, and rounding costs nothing in
//     fidelity.
//   - narrower weights: x to 8 bits, one scale a block. Sixteen products of vpmaddubsw with 4-bit
//     weights fit in 16 bits, so that a block is summed without widening: twice as fast as the other.
//     Eight with 5-bit weights do, and four with 6-bit ones.
// A block's sum is exact; blocks are added in float, in one order whatever rows are beside a row, so
// a row's result does not depend on the batch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace matmul {

constexpr long COLUMNS = 16;  // of a tile
constexpr long ROWS = 6;      // of a tile at most: twelve sums, two weights and x fill 16 registers
constexpr long BLOCK_4 = 32;  // of 4-bit weights: a sum of products stays below 2^15
constexpr long BLOCK_5 = 32;  // of 5-bit weights: a byte holds one bit of each of eight
constexpr long BLOCK_6 = 16;  // of 6-bit weights: a byte holds two bits of each of four

// Weights [n, k] as tiles of 16 columns; columns past n, and k past the last whole block, are zero.
// Each block has its scales beside it, so that a core reads one run of memory: data [tiles, blocks],
// each of them
//   q: 8 bits [block / 2, 16, 2]; fewer [block / 8, 2, 8, 4] with the nibble of k + 4 in the high half
//   of k's byte; 5 and 6 bits, then [2, 8, 4] with the bits above the nibbles of k, k + 4, ..., from
//   the lowest on;
//   scales [16], and where `shifted` offsets [16]: as halves where `halves`, else floats.
struct Weights {
  long n, k, bits, block, blocks, tiles;
  // An offset stands for itself times the scale where `relative`, else for itself plus `middle` times
  // the scale.
  bool halves, shifted, relative;
  float middle;
  int8_t* data;

  long width() const { return blocks * block; }
  long q_bytes() const { return block * COLUMNS * bits / 8; }
  long side_bytes() const { return COLUMNS * (halves ? 2 : 4); }
  long block_bytes() const { return q_bytes() + side_bytes() * (shifted ? 2 : 1); }
  long tile_bytes() const { return blocks * block_bytes(); }
};

// As ONNX Runtime's MatMulNBits has them: q [n, blocks, block * bits / 8], the earlier nibble low;
// scales [n, blocks]; zero points [n, (blocks * bits + 7) / 8] or, where null, 8 or 128. A weight is
// scale * (q - zero point), and offsets [n, blocks] besides, unless those are null.
struct Source {
  const uint8_t* q;
  const float* scales;
  const uint8_t* zeros;
  const float* offsets;
};

// Which sessions share what they pack: those that are opened by threads of the same group. NO_GROUP
// shares with none.
constexpr size_t NO_GROUP = 0;
extern thread_local size_t own_group;

// Whether weights of so many bits can come in such blocks.
bool can_be(long bits, long block);

// Packs, or takes what was packed from the same place: an embedding and a head that are tied share
// one copy, and so do sessions of one group that pack the very same. Null where memory is short.
// Blocks of 4-bit weights are divided into blocks of 32. 8-bit weights that are all within 16 of their
// middle are packed in 5 bits where blocks are of 32; within 32, in 6 bits where they are of 16.
// From any thread; each taker gives back once.
const Weights* take(const Source& source, long n, long k, long bits, long block);
void give_back(const Weights* weights);

// Row n of weights of more than 4 bits that are not shifted: out [k].
void read_row(const Weights& weights, long n, float* out);

// What products are made with on this processor.
const char* instructions();

// Use no instruction that not every processor with AVX2 has: for tests, since nothing else changes.
extern bool plain;

// Rows of x, rounded. 8-bit weights: values int16 [rows, width], scales [rows]. Others: values
// int8 [rows, width], scales [rows, blocks]. sums [rows, blocks]: a block's values added up, times
// their scale where that is the block's; where weights have fewer than 8 bits, each is followed by what
// the block's products are added to: an int32, or two int16 where 4-bit weights are summed in 16 bits.
struct Rounded {
  void* values;
  float* scales;
  float* sums;
};

// Bytes that a row takes in values, scales and sums.
size_t value_bytes(const Weights& weights);
size_t scale_bytes(const Weights& weights);
size_t sum_bytes(const Weights& weights);

// How many of so many rows, from the first on, are multiplied in groups of GROUP: all that make up whole
// ones where the processor has AMX and the weights are of 4 or 5 bits, else none. Scales and sums of a
// group are [blocks, GROUP], without what products are added to.
constexpr long GROUP = 16;
long grouped_rows(const Weights& weights, long rows);

// Rounds row `row` of `rows`, x [k]. With `gated`, x is [2 k], and what is rounded is
// silu(x[:k]) * x[k:]. `room` [width] is scratch, aligned to 32 bytes.
void round_row(const float* x, bool gated, const Weights& shape, long row, long rows,
               const Rounded& out, float* room);

// Tiles that are best multiplied in one call: neighbours, so that a row's results lie together.
long span(const Weights& weights);

// y [rows, n] of tiles first .. last - 1, of rows begin .. end - 1; bias [n] or null.
void multiply(const Weights& weights, const Rounded& x, long begin, long end, long first, long last,
              const float* bias, float* y);

// The same of whole groups. `room` is scratch of room_bytes(weights), aligned to 64 bytes.
void multiply_groups(const Weights& weights, const Rounded& x, long begin, long end, long first,
                     long last, const float* bias, float* y, void* room);
size_t room_bytes(const Weights& weights);

}  // namespace matmul
