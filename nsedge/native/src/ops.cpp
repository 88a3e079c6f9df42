// The operators of domain "nsedge", for ONNX Runtime to load: BlockMatMul and CachedAttention.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "attention.h"
#include "matmul.h"
#include "ort.h"

#define TRY(call)                               \
  do {                                          \
    if (ort::Status* status = (call)) return status; \
  } while (0)

namespace {

using ort::Status;

constexpr size_t MOST_DIMENSIONS = 8;
constexpr long ALONE = 1 << 14;  // elements below which handing work out costs more than it spares

size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

struct Tensor {
  int64_t dims[MOST_DIMENSIONS] = {};
  size_t rank = 0;
  void* data = nullptr;

  int64_t last() const { return rank == 0 ? 1 : dims[rank - 1]; }
  int64_t elements() const { return rows() * last(); }
  // The product of all dimensions but the last.
  int64_t rows() const {
    int64_t product = 1;
    for (size_t i = 0; i + 1 < rank; i++) product *= dims[i];
    return product;
  }
};

Status* describe(const ort::Api& api, const ort::Value* value, Tensor* out) {
  ort::ShapeInfo* info;
  TRY(api.shape(value, &info));
  Status* status = api.rank(info, &out->rank);
  if (status == nullptr)
    status = out->rank > MOST_DIMENSIONS
                 ? api.status(ort::Error::INVALID_ARGUMENT, "nsedge: too many dimensions")
                 : api.dimensions(info, out->dims, out->rank);
  api.release(info);
  return status != nullptr ? status : api.data(const_cast<ort::Value*>(value), &out->data);
}

Status* input(const ort::Api& api, const ort::KernelContext* context, size_t index, Tensor* out) {
  const ort::Value* value = nullptr;
  TRY(api.input(context, index, &value));
  return value == nullptr ? nullptr : describe(api, value, out);
}

// A constant input; `data` stays null where the node leaves it out.
Status* constant(const ort::Api& api, const ort::KernelInfo* info, size_t index, Tensor* out) {
  int is_constant = 0;
  const ort::Value* value = nullptr;
  TRY(api.constant(info, index, &is_constant, &value));
  return is_constant == 0 || value == nullptr ? nullptr : describe(api, value, out);
}

// Memory that a thread keeps between calls, and grows.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }
  void* reserve(size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = (bytes + 4095) / 4096 * 4096;
      data_ = std::aligned_alloc(64, size_);
      if (data_ == nullptr) size_ = 0;
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

thread_local Scratch shared_scratch;  // of the thread that runs the session: read by all its helpers
thread_local Scratch own_scratch;     // of each thread that works on a task

// Work divided into one range a core. A thread takes its own range from the start, `grain` at a time,
// then what is left of the others': a core reads memory twice as fast in one run as in pieces here
// and there, and a thread that lost its core holds up nobody.
class Ranges {
 public:
  Ranges(long count, long grain) : count_(count), grain_(grain) {
    const long pieces = (count + grain - 1) / grain, cores = CORES < MOST ? CORES : MOST;
    ranges_ = pieces < cores ? pieces : cores;
    for (long r = 0; r < ranges_; r++) next_[r].store(begin(r), std::memory_order_relaxed);
  }

  long ranges() const { return ranges_; }

  template <typename Work>
  void take(const Work& work) {
    const long own = arrived_.fetch_add(1, std::memory_order_relaxed);
    for (long i = 0; i < ranges_; i++) {
      const long r = (own + i) % ranges_, end = begin(r + 1);
      for (;;) {
        const long at = next_[r].fetch_add(grain_, std::memory_order_relaxed);
        if (at >= end) break;
        work(at, at + grain_ < end ? at + grain_ : end);
      }
    }
  }

 private:
  static constexpr long MOST = 64;
  static inline const long CORES = std::max(1L, sysconf(_SC_NPROCESSORS_ONLN));

  long begin(long range) const { return count_ * range / ranges_; }

  const long count_, grain_;
  long ranges_;
  std::atomic<long> arrived_{0};
  std::atomic<long> next_[MOST];
};

// Calls work(begin, end) for parts of 0 .. count - 1 on the session's threads.
template <typename Work>
Status* share(const ort::Api& api, const ort::KernelContext* context, long count, long grain,
              const Work& work) {
  struct Shared {
    const Work& work;
    Ranges ranges;
  } shared{work, Ranges(count, grain)};
  if (shared.ranges.ranges() <= 1) {
    work(0, count);
    return nullptr;
  }
  const ort::Task task = [](void* data, size_t) {
    auto& all = *static_cast<Shared*>(data);
    all.ranges.take(all.work);
  };
  return api.parallel(context, task, static_cast<size_t>(shared.ranges.ranges()), &shared);
}

// The kernel keeps a packed copy, so the pages of the file that it was made from can go; they come
// back from the file if anybody reads them.
void let_go(const void* data, size_t bytes) {
#ifdef MADV_PAGEOUT
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_PAGEOUT);
#endif
}

// y = x times weights of 4 or 8 bits in blocks, as MatMulNBits has them:
//   x float [.., K], or [.., 2 K] with gated = 1, which reads silu(x[:K]) * x[K:]; q uint8 [N, blocks,
//   block_size * bits / 8]; scales float [N, blocks]; zero points uint8, optional; offsets float [N,
//   blocks], optional, added to a block's weights; bias float [N], optional; y float [.., N].
class BlockMatMul {
 public:
  static constexpr const char* NAME = "BlockMatMul";
  static constexpr size_t INPUTS = 6, OUTPUTS = 1;
  static ort::Element input_type(size_t index) {
    return index == 1 || index == 3 ? ort::Element::UINT8 : ort::Element::FLOAT;
  }
  static ort::Element output_type(size_t) { return ort::Element::FLOAT; }
  static ort::Presence presence(size_t index) {
    return index < 3 ? ort::Presence::REQUIRED : ort::Presence::OPTIONAL;
  }

  explicit BlockMatMul(const ort::Api& api) : api_(api) {}
  ~BlockMatMul() { matmul::release(&weights_); }

  Status* prepare(const ort::KernelInfo* info) {
    int64_t n, k, bits, block, gated;
    TRY(api_.attribute(info, "N", &n));
    TRY(api_.attribute(info, "K", &k));
    TRY(api_.attribute(info, "bits", &bits));
    TRY(api_.attribute(info, "block_size", &block));
    TRY(api_.attribute(info, "gated", &gated));
    gated_ = gated != 0;
    Tensor parts[INPUTS];
    for (size_t i = 1; i < INPUTS; i++) TRY(constant(api_, info, i, &parts[i]));
    const Tensor &q = parts[1], &scales = parts[2], &zeros = parts[3], &offsets = parts[4];
    if (q.data == nullptr || scales.data == nullptr)
      return refuse("BlockMatMul: weights and scales must be constants");
    if ((bits != 4 && bits != 8) || block < 32 || block % 32 != 0 || n < 1 || k < 1)
      return refuse("BlockMatMul: bits must be 4 or 8, and block_size a multiple of 32");
    const int64_t blocks = (k + block - 1) / block, row = blocks * block * bits / 8;
    if (q.elements() != n * row || scales.elements() != n * blocks ||
        (offsets.data != nullptr && offsets.elements() != n * blocks) ||
        (zeros.data != nullptr && zeros.elements() != n * ((blocks * bits + 7) / 8)) ||
        (parts[5].data != nullptr && parts[5].elements() != n))
      return refuse("BlockMatMul: an input has not the size that N, K, bits and block_size say");
    bias_ = static_cast<const float*>(parts[5].data);
    const matmul::Source source{
        static_cast<uint8_t*>(q.data), static_cast<float*>(scales.data),
        static_cast<uint8_t*>(zeros.data), static_cast<float*>(offsets.data)};
    if (!matmul::pack(source, n, k, bits, block, &weights_))
      return api_.status(ort::Error::FAIL, "BlockMatMul: no memory for the packed weights");
    let_go(q.data, static_cast<size_t>(n * row));
    return nullptr;
  }

  Status* compute(ort::KernelContext* context) {
    Tensor x, y;
    TRY(input(api_, context, 0, &x));
    if (x.rank == 0 || x.last() != (gated_ ? 2 : 1) * weights_.k)
      return refuse("BlockMatMul: x has not K columns");
    int64_t dims[MOST_DIMENSIONS];
    for (size_t i = 0; i < x.rank; i++) dims[i] = x.dims[i];
    dims[x.rank - 1] = weights_.n;
    ort::Value* output;
    TRY(api_.output(context, 0, dims, x.rank, &output));
    TRY(api_.data(output, &y.data));
    const long rows = x.rows();
    matmul::Rounded rounded;
    if (!reserve(rows, &rounded)) return api_.status(ort::Error::FAIL, "BlockMatMul: no memory");
    TRY(round(context, static_cast<float*>(x.data), rows, rounded));
    return multiply(context, rounded, rows, static_cast<float*>(y.data));
  }

 private:
  Status* refuse(const char* why) const { return api_.status(ort::Error::INVALID_ARGUMENT, why); }

  bool reserve(long rows, matmul::Rounded* out) const {
    const size_t values = lines(rows * matmul::value_bytes(weights_));
    const size_t scales = lines(rows * matmul::scale_bytes(weights_));
    auto* room = static_cast<char*>(
        shared_scratch.reserve(values + scales + rows * matmul::sum_bytes(weights_)));
    *out = {room, reinterpret_cast<float*>(room + values),
            reinterpret_cast<float*>(room + values + scales)};
    return room != nullptr;
  }

  Status* round(const ort::KernelContext* context, const float* x, long rows,
                const matmul::Rounded& rounded) const {
    std::atomic<bool> short_of_memory{false};
    const auto work = [&](long begin, long end) {
      auto* room = static_cast<float*>(own_scratch.reserve(weights_.width() * sizeof(float)));
      if (room == nullptr) short_of_memory = true;
      for (long r = begin; r < end && room != nullptr; r++)
        matmul::round_row(x + r * (gated_ ? 2 : 1) * weights_.k, gated_, weights_, r, rounded, room);
    };
    TRY(share(api_, context, rows, rows * weights_.width() < ALONE ? rows : 4, work));
    return short_of_memory ? api_.status(ort::Error::FAIL, "BlockMatMul: no memory") : nullptr;
  }

  Status* multiply(const ort::KernelContext* context, const matmul::Rounded& x, long rows,
                   float* y) const {
    // Bands of rows whose rounded values stay in a core's second-level cache beside a tile.
    constexpr long BAND = 32 * matmul::ROWS;
    const long bands = (rows + BAND - 1) / BAND, tiles = weights_.tiles;
    const long products = rows * weights_.width() * matmul::COLUMNS;
    const long grain = std::max(matmul::span(weights_), 2 * ALONE / products);
    const auto work = [&](long begin, long end) {
      while (begin < end) {
        const long band = begin / tiles, first = begin % tiles;
        const long last = first + end - begin < tiles ? first + end - begin : tiles;
        matmul::multiply(weights_, x, rows * band / bands, rows * (band + 1) / bands, first, last,
                         bias_, y);
        begin += last - first;
      }
    };
    return share(api_, context, bands * tiles, grain, work);
  }

  const ort::Api& api_;
  matmul::Weights weights_{};
  const float* bias_ = nullptr;
  bool gated_ = false;
};

// Causal grouped-query attention that appends to the cache it reads:
//   qkv float [B, S, (heads + 2 kv_heads) D]; past_key, past_value float16 [B, kv_heads, capacity, D],
//   laid out as attention.h says; seqlens_k int32 [B], a row's length after this call, less one;
//   cos, sin float [positions, rotary / 2]; y float [B, S, heads D]; present_key, present_value: the
//   past's own memory.
class CachedAttention {
 public:
  static constexpr const char* NAME = "CachedAttention";
  static constexpr size_t INPUTS = 6, OUTPUTS = 3;
  static ort::Element input_type(size_t index) {
    if (index == 3) return ort::Element::INT32;
    return index == 1 || index == 2 ? ort::Element::FLOAT16 : ort::Element::FLOAT;
  }
  static ort::Element output_type(size_t index) {
    return index == 0 ? ort::Element::FLOAT : ort::Element::FLOAT16;
  }
  static ort::Presence presence(size_t) { return ort::Presence::REQUIRED; }

  explicit CachedAttention(const ort::Api& api) : api_(api) {}

  Status* prepare(const ort::KernelInfo* info) {
    int64_t heads, kv_heads;
    TRY(api_.attribute(info, "num_heads", &heads));
    TRY(api_.attribute(info, "kv_num_heads", &kv_heads));
    TRY(api_.attribute(info, "scale", &shape_.scale));
    if (kv_heads < 1 || heads % kv_heads != 0)
      return refuse("CachedAttention: num_heads is no multiple of kv_num_heads");
    shape_.heads = heads;
    shape_.kv_heads = kv_heads;
    return nullptr;
  }

  Status* compute(ort::KernelContext* context) {
    Call call;
    TRY(read(context, &call));
    TRY(open(context, &call));
    TRY(append(context, call));
    return attend(context, call);
  }

 private:
  struct Call {
    attention::Shape shape;
    Tensor qkv, keys, values, lengths, cos, sin;
    float* y;
    float* q;

    long past(long row) const {
      return static_cast<const int32_t*>(lengths.data)[row] + 1 - shape.tokens;
    }
    attention::half* of(const Tensor& cache, long row) const {
      return static_cast<attention::half*>(cache.data) +
             row * shape.kv_heads * shape.capacity * shape.dim;
    }
  };

  Status* refuse(const char* why) const { return api_.status(ort::Error::INVALID_ARGUMENT, why); }

  Status* read(const ort::KernelContext* context, Call* call) const {
    Tensor* const tensors[] = {&call->qkv,     &call->keys, &call->values,
                               &call->lengths, &call->cos,  &call->sin};
    for (size_t i = 0; i < INPUTS; i++) TRY(input(api_, context, i, tensors[i]));
    const Tensor &qkv = call->qkv, &keys = call->keys;
    if (qkv.rank != 3 || keys.rank != 4 || call->cos.rank != 2 || call->lengths.rank != 1)
      return refuse("CachedAttention: an input has the wrong rank");
    attention::Shape& t = call->shape = shape_;
    t.batch = qkv.dims[0];
    t.tokens = qkv.dims[1];
    t.capacity = keys.dims[2];
    t.dim = keys.dims[3];
    t.rotary = 2 * call->cos.dims[1];
    if (qkv.dims[2] != t.packed() || keys.dims[0] != t.batch || keys.dims[1] != t.kv_heads ||
        call->lengths.dims[0] != t.batch || t.rotary > t.dim)
      return refuse("CachedAttention: the inputs' shapes do not agree");
    if (t.dim % attention::BLOCK != 0 || t.capacity % attention::BLOCK != 0)
      return refuse("CachedAttention: head size and capacity must be multiples of 16");
    for (long row = 0; row < t.batch; row++)
      if (call->past(row) < 0 || call->past(row) + t.tokens > t.capacity ||
          call->past(row) + t.tokens > call->cos.dims[0])
        return refuse("CachedAttention: a row would be longer than the cache or the rotary table");
    return nullptr;
  }

  Status* open(ort::KernelContext* context, Call* call) const {
    const attention::Shape& t = call->shape;
    const int64_t dims[] = {t.batch, t.tokens, t.heads * t.dim};
    ort::Value* value;
    void* data;
    TRY(api_.output(context, 0, dims, 3, &value));
    TRY(api_.data(value, &data));
    call->y = static_cast<float*>(data);
    const Tensor* const caches[] = {&call->keys, &call->values};
    for (size_t i = 0; i < 2; i++) {
      TRY(api_.output(context, i + 1, caches[i]->dims, 4, &value));
      TRY(api_.data(value, &data));
      if (data != caches[i]->data)
        return refuse("CachedAttention: past and present must be bound to the same memory");
    }
    void* room = shared_scratch.reserve(t.batch * t.tokens * t.heads * t.dim * sizeof(float));
    call->q = static_cast<float*>(room);
    return room == nullptr ? api_.status(ort::Error::FAIL, "CachedAttention: no memory") : nullptr;
  }

  Status* append(const ort::KernelContext* context, const Call& call) const {
    const attention::Shape& t = call.shape;
    const auto work = [&](long begin, long end) {
      auto* room = static_cast<float*>(own_scratch.reserve(t.dim * sizeof(float)));
      for (long i = begin; i < end && room != nullptr; i++) {
        const long row = i / t.tokens, position = call.past(row) + i % t.tokens;
        const long angle = position * t.rotary / 2;
        attention::append(t, static_cast<float*>(call.qkv.data) + i * t.packed(), position,
                          static_cast<float*>(call.cos.data) + angle,
                          static_cast<float*>(call.sin.data) + angle, call.q + i * t.heads * t.dim,
                          call.of(call.keys, row), call.of(call.values, row), room);
      }
    };
    const long count = t.batch * t.tokens;
    return share(api_, context, count, count * t.packed() < ALONE ? count : 4, work);
  }

  Status* attend(const ort::KernelContext* context, const Call& call) const {
    const attention::Shape& t = call.shape;
    long longest = 0, products = 0;
    for (long row = 0; row < t.batch; row++) {
      const long length = call.past(row) + t.tokens;
      longest = length > longest ? length : longest;
      products += length * t.tokens * t.heads * t.dim;
    }
    const long tiles = t.tiles(), head = t.capacity * t.dim;
    std::atomic<bool> short_of_memory{false};
    const auto work = [&](long begin, long end) {
      void* room = own_scratch.reserve(attention::room(t, longest) * sizeof(float));
      if (room == nullptr) {
        short_of_memory = true;
        return;
      }
      for (long i = begin; i < end; i++) {
        const long row = i / (t.kv_heads * tiles), kv = i / tiles % t.kv_heads;
        const long at = row * t.tokens * t.heads * t.dim;
        attention::attend(t, kv, i % tiles, call.past(row), call.q + at,
                          call.of(call.keys, row) + kv * head, call.of(call.values, row) + kv * head,
                          static_cast<float*>(room), call.y + at);
      }
    };
    const long count = t.batch * t.kv_heads * tiles;
    TRY(share(api_, context, count, products < 4 * ALONE ? count : 1, work));
    return short_of_memory ? api_.status(ort::Error::FAIL, "CachedAttention: no memory") : nullptr;
  }

  const ort::Api& api_;
  attention::Shape shape_{};
};

template <typename Kernel>
ort::Op describe_op() {
  ort::Op op;
  op.name = [](const ort::Op*) { return Kernel::NAME; };
  op.provider = [](const ort::Op*) -> const char* { return nullptr; };
  op.input_type = [](const ort::Op*, size_t index) { return Kernel::input_type(index); };
  op.input_count = [](const ort::Op*) { return Kernel::INPUTS; };
  op.output_type = [](const ort::Op*, size_t index) { return Kernel::output_type(index); };
  op.output_count = [](const ort::Op*) { return Kernel::OUTPUTS; };
  op.input_presence = [](const ort::Op*, size_t index) { return Kernel::presence(index); };
  op.output_presence = [](const ort::Op*, size_t) { return ort::Presence::REQUIRED; };
  op.input_memory = [](const ort::Op*, size_t) { return 0; };
  op.first_version = [](const ort::Op*) { return 1; };
  op.last_version = [](const ort::Op*) { return 1; };
  op.create_v2 = [](const ort::Op*, const ort::Api* api, const ort::KernelInfo* info,
                    void** out) -> Status* {
    auto* kernel = new (std::nothrow) Kernel(*api);
    if (kernel == nullptr) return api->status(ort::Error::FAIL, "nsedge: no memory");
    Status* status = kernel->prepare(info);
    if (status != nullptr) delete kernel;
    *out = status == nullptr ? kernel : nullptr;
    return status;
  };
  op.compute_v2 = [](void* kernel, ort::KernelContext* context) {
    return static_cast<Kernel*>(kernel)->compute(context);
  };
  op.destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  return op;
}

const ort::Op OPS[] = {describe_op<BlockMatMul>(), describe_op<CachedAttention>()};

}  // namespace

extern "C" {

// Whether this processor can run the operators.
__attribute__((visibility("default"))) int nsedge_supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

// What ONNX Runtime calls when it is told to load this library.
__attribute__((visibility("default"))) ort::Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::ApiBase* base) {
  const ort::Api* api = base->get(ort::VERSION);
  if (api == nullptr) std::abort();  // unreachable: every release since 1.17 has this version
  if (!nsedge_supported())
    return api->status(ort::Error::NOT_IMPLEMENTED, "nsedge: this processor has no AVX2, FMA or F16C");
  ort::Domain* domain;  // lives as long as the process: the runtime keeps no copy
  TRY(api->create_domain("nsedge", &domain));
  for (const ort::Op& op : OPS) TRY(api->domain_add(domain, &op));
  return api->options_add(options, domain);
}
}
