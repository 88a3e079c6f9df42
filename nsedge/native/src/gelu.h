// Gelu, x / 2 * (1 + erf(x / sqrt 2)), within 2e-7 of itself for each unit of x, and rows of it as bytes.
#pragma once

#include <cstdint>

namespace gelu {

constexpr long MULTIPLE = 16;  // of what is given at once

// A row's numbers become value / size * levels + zero, size being the row's greatest, and no less than
// `least`.
struct Rounding {
  float least, levels, zero;
};

struct Kernel {
  // y [count] of x [count].
  void (*apply)(const float* x, long count, float* y);
  // A row of x [count] as bytes; its size. `room` [count] is scratch.
  float (*round)(const Rounding& how, const float* x, long count, uint8_t* y, float* room);
};

// The faster one here.
const Kernel& best();

namespace lanes_512 {
extern const Kernel KERNEL;
}

}  // namespace gelu
