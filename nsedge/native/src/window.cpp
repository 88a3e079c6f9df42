#include "window.h"

#include "matmul.h"
#include "vector.h"

#define NSEDGE_INLINE NSEDGE_AVX2 inline

namespace window {
namespace avx2 {
namespace {

using Lanes = __m256;
constexpr long LANES = 8;
constexpr int ROWS = 6;
constexpr float LEAST = -60.0f;  // what is e to this counts as nothing, and its products are normal numbers

NSEDGE_INLINE Lanes load(const float* from) { return _mm256_loadu_ps(from); }
NSEDGE_INLINE void store(float* to, Lanes x) { _mm256_storeu_ps(to, x); }
NSEDGE_INLINE Lanes zero() { return _mm256_setzero_ps(); }
NSEDGE_INLINE Lanes splat(float x) { return _mm256_set1_ps(x); }
NSEDGE_INLINE Lanes add(Lanes a, Lanes b) { return _mm256_add_ps(a, b); }
NSEDGE_INLINE Lanes times(Lanes a, Lanes b) { return _mm256_mul_ps(a, b); }
NSEDGE_INLINE Lanes fused(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }
NSEDGE_INLINE Lanes greater(Lanes a, Lanes b) { return _mm256_max_ps(a, b); }
NSEDGE_INLINE Lanes power(Lanes x) { return vec::exp(_mm256_max_ps(_mm256_set1_ps(LEAST), x)); }
NSEDGE_INLINE float total(Lanes x) { return vec::sum(x); }
NSEDGE_INLINE float greatest(Lanes x) { return vec::greatest(x); }

}  // namespace
}  // namespace avx2
}  // namespace window

#define NSEDGE_KIND avx2
#define NSEDGE_TARGET NSEDGE_AVX2
#include "window_for.h"

namespace window {
namespace {

const Kernel& kernel_here() {
  if (amx::here()) return amx::KERNEL;
  return __builtin_cpu_supports("avx512f") ? avx512::KERNEL : avx2::KERNEL;
}

}  // namespace

const Kernel& best() {
  static const Kernel& here = kernel_here();
  return matmul::plain ? avx2::KERNEL : here;
}

}  // namespace window
