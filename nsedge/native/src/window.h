// Attention of every position of a window to all positions of it, as encoders have it.
//
// Scores and weights are bfloat16 where the processor multiplies tiles of these (AMX), with sums in
// float, and float otherwise; softmax is in float everywhere. A position's result does not depend on
// how the work is divided among threads.
#pragma once

#include <cstddef>

namespace window {

constexpr long MULTIPLE = 32;  // of a head's dimensions
constexpr long WIDEST = 256;   // dimensions of a head

// Rows of queries, keys and values lie `stride` numbers apart.
struct Shape {
  long heads, dim, length, stride;
  float scale;

  long width() const { return heads * dim; }
};

// A way to do it. Work is on one head: its keys and values are packed first, block by block, and then
// its queries attend, up to `rows` of them at a time.
struct Kernel {
  long block, rows;
  size_t (*packed_bytes)(const Shape& shape);
  // Block `index` of keys and values, which are given from the first position on.
  void (*pack)(const Shape& shape, const float* keys, const float* values, long index, void* packed);
  size_t (*room_bytes)(const Shape& shape);
  // `count` queries, to y with rows of `width` numbers. `room` is scratch, aligned to 64 bytes.
  void (*attend)(const Shape& shape, const float* queries, long count, const void* packed, void* room,
                 float* y);

  long blocks(const Shape& shape) const { return (shape.length + block - 1) / block; }
  long tiles(const Shape& shape) const { return (shape.length + rows - 1) / rows; }
};

// The fastest here.
const Kernel& best();

namespace amx {
extern const Kernel KERNEL;
// Whether this processor has the instructions and the kernel lets this process use them.
bool here();
}  // namespace amx

namespace lanes_512 {
extern const Kernel KERNEL;
}

}  // namespace window
