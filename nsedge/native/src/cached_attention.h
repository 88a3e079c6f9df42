// The operator CachedAttention.
#pragma once

#include <cstring>

#include "attention.h"
#include "operator.h"

namespace op {

// Causal grouped-query attention of tokens of several sequences, which extends the cache it reads:
//   qkv float [1, T, (heads + 2 kv_heads) dim]; past_key, past_value int8 [rows, kv_heads, capacity,
//   dim + 2], of which a row's bytes lie as attention.h says; segments int32 [segments, 3], each a row of the cache, how
//   many tokens it holds, and how many of the T tokens, in order, are new to it; no row twice; cos, sin
//   float [positions, rotary / 2]; y float [1, T, heads dim]; present_key, present_value: the past's
//   own memory.
class CachedAttention {
 public:
  static constexpr const char* NAME = "CachedAttention";
  static constexpr size_t INPUTS = 6, OUTPUTS = 3;
  static ort::Element input_type(size_t index) {
    if (index == 3) return ort::Element::INT32;
    return index == 1 || index == 2 ? ort::Element::INT8 : ort::Element::FLOAT;
  }
  static ort::Element output_type(size_t index) {
    return index == 0 ? ort::Element::FLOAT : ort::Element::INT8;
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
    if (rehearsing) {
      std::memset(call.y, 0, call.tokens * call.shape.heads * call.shape.dim * sizeof(float));
      return nullptr;
    }
    TRY(append(context, call));
    return attend(context, call);
  }

 private:
  struct Call {
    attention::Shape shape;
    Tensor qkv, keys, values, cos, sin;
    const attention::Segment* segments;
    long count, tokens;
    attention::Queries q;
    float* y;

    int8_t* of(const Tensor& cache, const attention::Segment& segment) const {
      return static_cast<int8_t*>(cache.data) + segment.row * shape.row_bytes();
    }
    attention::Queries queries(long token) const {
      return {q.values + token * shape.heads * shape.dim, q.scales + token * shape.heads};
    }
  };

  Status* refuse(const char* why) const { return api_.status(ort::Error::INVALID_ARGUMENT, why); }

  Status* read(const ort::KernelContext* context, Call* call) const {
    Tensor segments;
    Tensor* const tensors[] = {&call->qkv, &call->keys, &call->values,
                               &segments,  &call->cos,  &call->sin};
    for (size_t i = 0; i < INPUTS; i++) TRY(input(api_, context, i, tensors[i]));
    const Tensor &qkv = call->qkv, &keys = call->keys;
    if (qkv.rank != 3 || keys.rank != 4 || call->cos.rank != 2 || segments.rank != 2)
      return refuse("CachedAttention: an input has the wrong rank");
    attention::Shape& t = call->shape = shape_;
    t.capacity = keys.dims[2];
    t.dim = keys.dims[3] - 2;
    t.rotary = 2 * call->cos.dims[1];
    if (t.dim < 1 || t.dim % attention::BLOCK != 0 || t.capacity % attention::BLOCK != 0)
      return refuse("CachedAttention: head size and capacity must be multiples of 16");
    if (t.dim > attention::WIDEST) return refuse("CachedAttention: heads wider than 512");
    if (qkv.dims[0] != 1 || qkv.dims[2] != t.packed() || keys.dims[1] != t.kv_heads ||
        call->values.elements() != keys.elements() || segments.dims[1] != 3 || t.rotary > t.dim)
      return refuse("CachedAttention: the inputs' shapes do not agree");
    call->segments = static_cast<const attention::Segment*>(segments.data);
    call->count = segments.dims[0];
    call->tokens = qkv.dims[1];
    return check(*call);
  }

  Status* check(const Call& call) const {
    const long longest = std::min(call.shape.capacity, static_cast<long>(call.cos.dims[0]));
    long tokens = 0;
    for (long i = 0; i < call.count; i++) {
      const attention::Segment& s = call.segments[i];
      if (s.row < 0 || s.row >= call.keys.dims[0])
        return refuse("CachedAttention: a segment is of no row of the cache");
      if (s.past < 0 || s.tokens < 1 || s.past > longest - s.tokens)
        return refuse("CachedAttention: a row would be longer than the cache or the rotary table");
      tokens += s.tokens;
    }
    return tokens == call.tokens ? nullptr
                                 : refuse("CachedAttention: the segments are not all of the tokens");
  }

  Status* open(ort::KernelContext* context, Call* call) const {
    const attention::Shape& t = call->shape;
    const int64_t dims[] = {1, call->tokens, t.heads * t.dim};
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
    const long heads = call->tokens * t.heads;
    void* room = shared_scratch.reserve(heads * (t.dim * sizeof(int16_t) + sizeof(float)));
    call->q = {static_cast<int16_t*>(room),
               reinterpret_cast<float*>(static_cast<int16_t*>(room) + heads * t.dim)};
    return room == nullptr ? api_.status(ort::Error::FAIL, "CachedAttention: no memory") : nullptr;
  }

  // Rounds queries, keys and values, token by token.
  Status* append(const ort::KernelContext* context, const Call& call) const {
    const attention::Shape& t = call.shape;
    std::atomic<bool> short_of_memory{false};
    const auto work = [&](long begin, long end) {
      auto* room = static_cast<float*>(own_scratch.reserve(t.dim * sizeof(float)));
      if (room == nullptr) {
        short_of_memory = true;
        return;
      }
      long first = 0;  // the segment's first token
      for (long i = 0; i < call.count && first < end; first += call.segments[i++].tokens) {
        const attention::Segment& s = call.segments[i];
        const long last = std::min<long>(end, first + s.tokens);
        for (long token = std::max(begin, first); token < last; token++) {
          const long position = s.past + token - first, angle = position * t.rotary / 2;
          attention::append(t, static_cast<float*>(call.qkv.data) + token * t.packed(), position,
                            static_cast<float*>(call.cos.data) + angle,
                            static_cast<float*>(call.sin.data) + angle, call.queries(token),
                            call.of(call.keys, s), call.of(call.values, s), room);
        }
      }
    };
    const long tokens = call.tokens;
    TRY(share(api_, context, tokens, tokens * t.packed() < ALONE ? tokens : 4, work));
    return short_of_memory ? api_.status(ort::Error::FAIL, "CachedAttention: no memory") : nullptr;
  }

  // Works through the tiles of every segment and kv head.
  Status* attend(const ort::KernelContext* context, const Call& call) const {
    const attention::Shape& t = call.shape;
    long longest = 0, products = 0, count = 0;
    for (long i = 0; i < call.count; i++) {
      const attention::Segment& s = call.segments[i];
      const long length = s.past + s.tokens;
      longest = std::max(longest, length);
      products += length * s.tokens * t.heads * t.dim;
      count += t.tiles(s) * t.kv_heads;
    }
    std::atomic<bool> short_of_memory{false};
    const auto work = [&](long begin, long end) {
      void* room = own_scratch.reserve(attention::room(t, longest));
      if (room == nullptr) {
        short_of_memory = true;
        return;
      }
      long first = 0, token = 0;  // the segment's first tile and token
      for (long i = 0; i < call.count && first < end; i++) {
        const attention::Segment& s = call.segments[i];
        const long tiles = t.tiles(s), last = std::min(end, first + tiles * t.kv_heads);
        for (long at = std::max(begin, first); at < last; at++) {
          attention::attend(t, s, (at - first) / tiles, (at - first) % tiles, call.queries(token),
                            call.of(call.keys, s), call.of(call.values, s), room,
                            call.y + token * t.heads * t.dim);
        }
        first += tiles * t.kv_heads;
        token += s.tokens;
      }
    };
    TRY(share(api_, context, count, products < 4 * ALONE ? count : 1, work));
    return short_of_memory ? api_.status(ort::Error::FAIL, "CachedAttention: no memory") : nullptr;
  }

  const ort::Api& api_;
  attention::Shape shape_{};
};

}  // namespace op
