// Products by AMX, of 4 and 5-bit weights and sixteen rows of x at a time.
#pragma once

#include "tiles.h"

namespace matmul {
namespace amx {

// Whether this processor has the instructions and the kernel lets this process use them.
bool here();

// Whether such weights can be multiplied so.
bool fits(const Weights& weights);

// Bytes of a panel's memory, aligned to 64.
size_t room_bytes(const Weights& weights);

// A tile's 16 columns of weights, unpacked. One at a time on a thread.
class Panel {
 public:
  Panel(const Weights& weights, void* room);
  ~Panel();

  // Unpacks the tile at `data`.
  void open(const int8_t* data);

  // y [GROUP, 16] of the rows that begin at x.
  void multiply(const Operands& x, float (*y)[COLUMNS]) const;

 private:
  const Weights& weights_;
  int8_t* q_;
  float* sides_;
};

}  // namespace amx
}  // namespace matmul
