// Attention within a window in floats, with registers of 512 bits.
#include "vector_512.h"
#include "window.h"

#define NSEDGE_INLINE NSEDGE_FLOATS_512 inline

namespace window {
namespace avx512 {
namespace {

using Lanes = __m512;
constexpr long LANES = 16;
constexpr int ROWS = 12;

NSEDGE_INLINE Lanes load(const float* from) { return _mm512_loadu_ps(from); }
NSEDGE_INLINE void store(float* to, Lanes x) { _mm512_storeu_ps(to, x); }
NSEDGE_INLINE Lanes zero() { return _mm512_setzero_ps(); }
NSEDGE_INLINE Lanes splat(float x) { return _mm512_set1_ps(x); }
NSEDGE_INLINE Lanes add(Lanes a, Lanes b) { return _mm512_add_ps(a, b); }
NSEDGE_INLINE Lanes times(Lanes a, Lanes b) { return _mm512_mul_ps(a, b); }
NSEDGE_INLINE Lanes fused(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
NSEDGE_INLINE Lanes greater(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
NSEDGE_INLINE Lanes power(Lanes x) { return vec512::power_of_two<5>(times(x, splat(vec512::LOG2E))); }
NSEDGE_INLINE float total(Lanes x) { return vec512::sum(x); }
NSEDGE_INLINE float greatest(Lanes x) { return vec512::greatest(x); }

}  // namespace
}  // namespace avx512
}  // namespace window

#define NSEDGE_KIND avx512
#define NSEDGE_TARGET NSEDGE_FLOATS_512
#include "window_for.h"
