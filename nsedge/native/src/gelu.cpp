#include "gelu.h"

#include "lanes_256.h"
#include "matmul.h"

#define NSEDGE_LANES lanes_256
#define NSEDGE_TARGET NSEDGE_AVX2
#include "gelu_for.h"

namespace gelu {

const Kernel& best() {
  static const bool wide = __builtin_cpu_supports("avx512f");
  return wide && !matmul::plain ? lanes_512::KERNEL : lanes_256::KERNEL;
}

}  // namespace gelu
