// Causal attention over a key and value cache in half precision, with rotary embedding.
//
// Keys lie in blocks of 16 tokens, [blocks, dim, 16], so that the scores of 16 tokens are one sum
// over dim without any sum across a register; values lie as they come, [tokens, dim]. A prefix of
// whole blocks is contiguous in both. Products are in float, each row's in one order whatever rows
// are beside it: a token's result depends neither on the batch nor on how its prompt was cut.
#pragma once

#include <cstddef>
#include <cstdint>

namespace attention {

constexpr long BLOCK = 16;  // tokens of a block of keys
constexpr long ROWS = 6;    // query rows of a tile

using half = uint16_t;

struct Shape {
  long batch, tokens;  // rows, and new tokens of each
  long heads, kv_heads, dim, capacity;
  long rotary;  // rotated dimensions, rotary / 2 columns in the tables
  float scale;

  long group() const { return heads / kv_heads; }
  long tiles() const { return (tokens * group() + ROWS - 1) / ROWS; }
  long packed() const { return (heads + 2 * kv_heads) * dim; }
};

// Rotates token `token` of row `row`, qkv [packed], at `position`: queries times scale to q [heads,
// dim], key and value to the cache of the row, [kv_heads, capacity, dim] each. cos, sin
// [rotary / 2] belong to the position. `room` [dim] is scratch.
void append(const Shape& shape, const float* qkv, long position, const float* cos, const float* sin,
            float* q, half* keys, half* values, float* room);

// Floats of scratch that `attend` needs for rows of at most `length` tokens.
size_t room(const Shape& shape, long length);

// Tile `tile` of the queries of one row and kv head: q [tokens, heads, dim] of the row (rotated and
// scaled), keys and values [capacity, dim] of the head, `past` tokens before the new ones; to
// y [tokens, heads * dim] of the row.
void attend(const Shape& shape, long kv_head, long tile, long past, const float* q,
            const half* keys, const half* values, float* scratch, float* y);

}  // namespace attention
