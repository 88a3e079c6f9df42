// The kernel of window.h in floats, for one size of register. Who includes it defines NSEDGE_LANES, the
// namespace of its lanes, and NSEDGE_TARGET.

namespace window {
namespace NSEDGE_LANES {
namespace {

using namespace ::NSEDGE_LANES;

constexpr int ROWS = TILE_ROWS;
constexpr long COLUMNS = 2 * LANES;  // of a tile
constexpr long AT_ONCE = 24;         // queries; their scores stay in the second-level cache
constexpr float NEVER = -1e30f;

long blocks_of(const Shape& t) { return (t.length + COLUMNS - 1) / COLUMNS; }
long padded(const Shape& t) { return blocks_of(t) * COLUMNS; }

// A head's keys [blocks, dim, COLUMNS], then its values [dim / COLUMNS, padded, COLUMNS].
size_t packed_bytes(const Shape& t) { return 2 * padded(t) * t.dim * sizeof(float); }

void pack(const Shape& t, const float* keys, const float* values, long index, void* packed) {
  auto* k = static_cast<float*>(packed) + index * t.dim * COLUMNS;
  auto* v = static_cast<float*>(packed) + padded(t) * t.dim + index * COLUMNS * COLUMNS;
  for (long i = 0; i < COLUMNS; i++) {
    const long at = index * COLUMNS + i;
    const bool some = at < t.length;
    for (long d = 0; d < t.dim; d++) {
      k[d * COLUMNS + i] = some ? keys[at * t.stride + d] : 0.0f;
      v[d / COLUMNS * padded(t) * COLUMNS + i * COLUMNS + d % COLUMNS] =
          some ? values[at * t.stride + d] : 0.0f;
    }
  }
}

// c [R, COLUMNS] = a [R, steps] b [steps, COLUMNS].
template <int R>
NSEDGE_TARGET void product(const float* a, long a_stride, const float* b, long steps, float* c,
                           long c_stride) {
  Lanes sums[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = zero();
  for (long k = 0; k < steps; k++, b += COLUMNS) {
    const Lanes left = load(b), right = load(b + LANES);
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
      const Lanes one = splat(a[r * a_stride + k]);
      sums[r][0] = fused(one, left, sums[r][0]);
      sums[r][1] = fused(one, right, sums[r][1]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; r++) {
    store(c + r * c_stride, sums[r][0]);
    store(c + r * c_stride + LANES, sums[r][1]);
  }
}

// The same of `count` rows: whole tiles, and the rest row by row.
NSEDGE_TARGET void rows(const float* a, long a_stride, long count, const float* b, long steps, float* c,
                        long c_stride) {
  long r = 0;
  for (; r + ROWS <= count; r += ROWS)
    product<ROWS>(a + r * a_stride, a_stride, b, steps, c + r * c_stride, c_stride);
  for (; r < count; r++) product<1>(a + r * a_stride, a_stride, b, steps, c + r * c_stride, c_stride);
}

// x [padded] to the softmax of its first `length`, without its division; the sum to divide by.
NSEDGE_TARGET float weigh(float* x, long length, long padded, float scale) {
  for (long i = length; i < padded; i++) x[i] = NEVER;
  Lanes most = load(x);
  for (long i = LANES; i < padded; i += LANES) most = greater(most, load(x + i));
  const Lanes factor = splat(scale), shift = splat(-greatest(most) * scale);
  Lanes sums = zero();
  for (long i = 0; i < padded; i += LANES) {
    const Lanes e = power(fused(load(x + i), factor, shift));
    store(x + i, e);
    sums = add(sums, e);
  }
  return total(sums);
}

size_t room_bytes(const Shape& t) { return (AT_ONCE * (padded(t) + COLUMNS)) * sizeof(float); }

NSEDGE_TARGET void attend(const Shape& t, const float* queries, long count, const void* packed,
                          void* room, float* y) {
  const long stride = padded(t);
  const auto* keys = static_cast<const float*>(packed);
  const float* values = keys + stride * t.dim;
  auto* scores = static_cast<float*>(room);
  float *mixed = scores + AT_ONCE * stride, inverses[AT_ONCE];
  for (long b = 0; b < blocks_of(t); b++)
    rows(queries, t.stride, count, keys + b * t.dim * COLUMNS, t.dim, scores + b * COLUMNS, stride);
  for (long r = 0; r < count; r++)
    inverses[r] = 1.0f / weigh(scores + r * stride, t.length, stride, t.scale);
  for (long d = 0; d < t.dim; d += COLUMNS, values += stride * COLUMNS) {
    rows(scores, stride, count, values, t.length, mixed, COLUMNS);
    for (long r = 0; r < count; r++)
      for (long c = 0; c < COLUMNS; c += LANES)
        store(y + r * t.width() + d + c, times(load(mixed + r * COLUMNS + c), splat(inverses[r])));
  }
}

}  // namespace

extern const Kernel KERNEL;
const Kernel KERNEL = {COLUMNS, AT_ONCE, packed_bytes, pack, room_bytes, attend};

}  // namespace NSEDGE_LANES
}  // namespace window

#undef NSEDGE_LANES
#undef NSEDGE_TARGET
