// The operator CachedAttention.
#pragma once

#include "attention_call.h"

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
      return api_.status(ort::Error::INVALID_ARGUMENT,
                         "CachedAttention: num_heads is no multiple of kv_num_heads");
    shape_.heads = heads;
    shape_.kv_heads = kv_heads;
    return nullptr;
  }

  Status* compute(ort::KernelContext* context) {
    AttentionCall call(api_, NAME);
    call.shape = shape_;
    Tensor qkv, cos, sin;
    TRY(input(api_, context, 0, &qkv));
    TRY(input(api_, context, 4, &cos));
    TRY(input(api_, context, 5, &sin));
    TRY(call.read(context, 1, 3));
    attention::Shape& t = call.shape;
    if (qkv.rank != 3 || cos.rank != 2) return call.refuse("an input has the wrong rank");
    t.rotary = 2 * cos.dims[1];
    if (qkv.dims[0] != 1 || qkv.dims[2] != t.packed() || t.rotary > t.dim)
      return call.refuse("the inputs' shapes do not agree");
    call.tokens = qkv.dims[1];
    TRY(call.check(std::min(t.capacity, static_cast<long>(cos.dims[0]))));
    TRY(call.open(context));
    TRY(call.keep(context, 1));
    if (rehearsing) {
      call.clear();
      return nullptr;
    }
    const auto* from = static_cast<float*>(qkv.data);
    const auto *cosines = static_cast<float*>(cos.data), *sines = static_cast<float*>(sin.data);
    const auto take = [&](const attention::Segment& s, long position, long token, float* room) {
      const float* x = from + token * t.packed();
      const float *key = x + t.heads * t.dim, *value = key + t.kv_heads * t.dim;
      const long angle = position * t.rotary / 2;
      attention::take_queries(t, x, cosines + angle, sines + angle, call.queries(token), room);
      attention::append(t, key, value, position, cosines + angle, sines + angle, call.keys_of(s),
                        call.values_of(s), room);
    };
    TRY(call.each_token(context, t.packed(), take));
    return call.attend(context);
  }

 private:
  const ort::Api& api_;
  attention::Shape shape_{};
};

}  // namespace op
