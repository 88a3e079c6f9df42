#include "window.h"

#include "lanes_256.h"
#include "matmul.h"

#define NSEDGE_LANES lanes_256
#define NSEDGE_TARGET NSEDGE_AVX2
#include "window_for.h"

namespace window {
namespace {

const Kernel& kernel_here() {
  if (amx::here()) return amx::KERNEL;
  return __builtin_cpu_supports("avx512f") ? lanes_512::KERNEL : lanes_256::KERNEL;
}

}  // namespace

const Kernel& best() {
  static const Kernel& here = kernel_here();
  return matmul::plain ? lanes_256::KERNEL : here;
}

}  // namespace window
