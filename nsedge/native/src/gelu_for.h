// The kernel of gelu.h for one size of register. Who includes it defines NSEDGE_LANES, the namespace of its
// lanes, and NSEDGE_TARGET.

namespace gelu {
namespace NSEDGE_LANES {
namespace {

using namespace ::NSEDGE_LANES;

// erf by a rational polynomial times e^-x^2, within 1.5e-7 (Abramowitz and Stegun, 7.1.26).
NSEDGE_TARGET inline Lanes one(Lanes x) {
  const Lanes size = absolute(x), z = times(size, splat(0.70710678118654752f));
  const Lanes t = over(splat(1.0f), fused(z, splat(0.3275911f), splat(1.0f)));
  Lanes p = fused(t, splat(1.061405429f), splat(-1.453152027f));
  p = fused(p, t, splat(1.421413741f));
  p = fused(p, t, splat(-0.284496736f));
  p = fused(p, t, splat(0.254829592f));
  const Lanes rest = times(times(p, t), power(times(times(z, z), splat(-1.0f))));  // 1 - erf(z)
  return fused(times(size, splat(-0.5f)), rest, greater(zero(), x));
}

NSEDGE_TARGET void apply(const float* x, long count, float* y) {
  for (long i = 0; i < count; i += LANES) store(y + i, one(load(x + i)));
}

NSEDGE_TARGET float round(const Rounding& how, const float* x, long count, uint8_t* y, float* room) {
  Lanes most = splat(how.least);
  for (long i = 0; i < count; i += LANES) {
    const Lanes value = one(load(x + i));
    store(room + i, value);
    most = greater(most, value);
  }
  const float size = greatest(most);
  const Lanes factor = splat(how.levels / size), middle = splat(how.zero);
  for (long i = 0; i < count; i += LANES) store_bytes(y + i, fused(load(room + i), factor, middle));
  return size;
}

}  // namespace

extern const Kernel KERNEL;
const Kernel KERNEL = {apply, round};

}  // namespace NSEDGE_LANES
}  // namespace gelu

#undef NSEDGE_LANES
#undef NSEDGE_TARGET
