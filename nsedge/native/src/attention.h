// Causal attention over a cache of 8-bit keys and values, with rotary embedding.
//
// Each token has a scale of its own for its key and for its value in every head, so that nothing has
// to be calibrated, and a prefix can be copied as bytes. What a head caches of a row lies in blocks
// of 16 tokens, each [16 (dim + 2)] bytes:
//   keys    int8 [dim / 2, 16, 2], then bfloat16 [16], what each token's numbers are to be multiplied by;
//   values  int8 [16, dim], then the same.
// Scores are sums of integers, queries being rounded to 16 bits; values are mixed in float, each
// row's in one order whatever rows are beside it. So a token's result depends neither on the batch
// nor on how its prompt was cut.
#pragma once

#include <cstddef>
#include <cstdint>

namespace attention {

constexpr long BLOCK = 16;   // tokens of a block
constexpr long ROWS = 6;     // query rows of a tile
constexpr long WIDEST = 512; // dimensions of a head whose score fits in 32 bits: 512 * 127 * 32767

// New tokens of one row of the cache, which holds `past` tokens already.
struct Segment {
  int32_t row, past, tokens;
};

struct Shape {
  long heads, kv_heads, dim, capacity;
  long rotary;  // rotated dimensions, rotary / 2 columns in the tables
  float scale;
  bool causal = true;  // else each query sees all that its row held before, and none is appended

  long group() const { return heads / kv_heads; }
  long packed() const { return (heads + 2 * kv_heads) * dim; }
  // How much of its row a query sees that is so many tokens behind the segment's first.
  long seen(const Segment& s, long token) const { return s.past + (causal ? token + 1 : 0); }
  long tiles(const Segment& s) const { return (s.tokens * group() + ROWS - 1) / ROWS; }
  long head_bytes() const { return BLOCK * (dim + 2); }  // of a block
  long block_bytes() const { return kv_heads * head_bytes(); }
  long row_bytes() const { return capacity / BLOCK * block_bytes(); }
};

// Queries, rotated, scaled and rounded: values int16 [tokens, heads, dim], scales [tokens, heads].
struct Queries {
  int16_t* values;
  float* scales;
};

// Rotates a token's queries, x [heads, dim], by cos, sin [rotary / 2], scales and rounds them to q.
// `room` [dim] is scratch here and below.
void take_queries(const Shape& shape, const float* x, const float* cos, const float* sin,
                  const Queries& q, float* room);

// Rotates a token's key [kv_heads, dim] by cos, sin, which belong to its `position`, and rounds key and
// value to their place in its row of the cache.
void append(const Shape& shape, const float* key, const float* value, long position, const float* cos,
            const float* sin, int8_t* keys, int8_t* values, float* room);

// Bytes of scratch that `attend` needs for rows of at most `length` tokens.
size_t room(const Shape& shape, long length);

// Tile `tile` of the queries of one segment and kv head: q at the segment's first token, keys and
// values at its row of the cache; to y [tokens, heads * dim] of the segment.
void attend(const Shape& shape, const Segment& segment, long kv_head, long tile, const Queries& q,
            const int8_t* keys, const int8_t* values, void* scratch, float* y);

// How a token's query of `head` divides its attention over what it sees, to out; q is the token's, keys
// its row of the cache. Needs scratch as `attend` does.
void weights(const Shape& shape, const Segment& segment, long head, const Queries& q,
             const int8_t* keys, void* scratch, float* out);

}  // namespace attention
