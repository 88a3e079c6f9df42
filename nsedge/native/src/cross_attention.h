// The operators CrossAttention, CrossWeights and CrossAppend: attention to what an encoder left in a
// cache.
#pragma once

#include "attention_call.h"

namespace op {

// Heads and scale of a node that attends to all of a row.
inline Status* read_shape(const ort::Api& api, const ort::KernelInfo* info, attention::Shape* shape) {
  int64_t heads;
  TRY(api.attribute(info, "num_heads", &heads));
  TRY(api.attribute(info, "scale", &shape->scale));
  shape->heads = shape->kv_heads = heads;
  shape->causal = false;
  return nullptr;
}

// Attention of tokens of several sequences, each to all that a row of a cache holds:
//   q float [1, T, heads dim]; keys, values int8 [rows, heads, capacity, dim + 2], of which a row's bytes
//   lie as attention.h says; segments int32 [segments, 3], each a row, how many places of it are
//   attended to, and how many of the T tokens, in order, attend; rows may come more than once; y float
//   [1, T, heads dim].
class CrossAttention {
 public:
  static constexpr const char* NAME = "CrossAttention";
  static constexpr size_t INPUTS = 4, OUTPUTS = 1;
  static ort::Element input_type(size_t index) {
    if (index == 3) return ort::Element::INT32;
    return index == 0 ? ort::Element::FLOAT : ort::Element::INT8;
  }
  static ort::Element output_type(size_t) { return ort::Element::FLOAT; }
  static ort::Presence presence(size_t) { return ort::Presence::REQUIRED; }

  explicit CrossAttention(const ort::Api& api) : api_(api) {}

  Status* prepare(const ort::KernelInfo* info) { return read_shape(api_, info, &shape_); }

  Status* compute(ort::KernelContext* context) {
    AttentionCall call(api_, NAME);
    call.shape = shape_;
    Tensor q;
    TRY(input(api_, context, 0, &q));
    TRY(call.read(context, 1, 3));
    const attention::Shape& t = call.shape;
    if (q.rank != 3) return call.refuse("an input has the wrong rank");
    if (q.dims[0] != 1 || q.dims[2] != t.heads * t.dim)
      return call.refuse("the inputs' shapes do not agree");
    call.tokens = q.dims[1];
    TRY(call.check(t.capacity));
    TRY(call.open(context));
    if (rehearsing) {
      call.clear();
      return nullptr;
    }
    const auto* from = static_cast<float*>(q.data);
    const long width = t.heads * t.dim;
    const auto take = [&](const attention::Segment&, long, long token, float* room) {
      attention::take_queries(t, from + token * width, nullptr, nullptr, call.queries(token), room);
    };
    TRY(call.each_token(context, width, take));
    return call.attend(context);
  }

 private:
  const ort::Api& api_;
  attention::Shape shape_{};
};

// How the tokens of one sequence divide their attention over what a row of a cache holds:
//   q float [1, T, heads dim]; keys, values int8 as CrossAttention has them; segments int32 [1, 3]; chosen
//   int32 [K], the heads that are told of; weights float [K, T, places], each row of them 1 together.
class CrossWeights {
 public:
  static constexpr const char* NAME = "CrossWeights";
  static constexpr size_t INPUTS = 5, OUTPUTS = 1;
  static ort::Element input_type(size_t index) {
    if (index >= 3) return ort::Element::INT32;
    return index == 0 ? ort::Element::FLOAT : ort::Element::INT8;
  }
  static ort::Element output_type(size_t) { return ort::Element::FLOAT; }
  static ort::Presence presence(size_t) { return ort::Presence::REQUIRED; }

  explicit CrossWeights(const ort::Api& api) : api_(api) {}

  Status* prepare(const ort::KernelInfo* info) { return read_shape(api_, info, &shape_); }

  Status* compute(ort::KernelContext* context) {
    AttentionCall call(api_, NAME);
    call.shape = shape_;
    Tensor q, chosen;
    TRY(input(api_, context, 0, &q));
    TRY(input(api_, context, 4, &chosen));
    TRY(call.read(context, 1, 3));
    const attention::Shape& t = call.shape;
    const long width = t.heads * t.dim;
    if (q.rank != 3 || chosen.rank != 1) return call.refuse("an input has the wrong rank");
    if (q.dims[0] != 1 || q.dims[2] != width || call.count != 1)
      return call.refuse("the inputs' shapes do not agree");
    const auto* heads = static_cast<int32_t*>(chosen.data);
    for (long i = 0; i < chosen.dims[0]; i++)
      if (heads[i] < 0 || heads[i] >= t.heads) return call.refuse("a chosen head is none");
    call.tokens = q.dims[1];
    TRY(call.check(t.capacity));
    TRY(call.take_room());
    const attention::Segment& segment = call.segments[0];
    const long places = segment.past, tokens = call.tokens;
    const int64_t dims[] = {chosen.dims[0], tokens, places};
    ort::Value* value;
    void* data;
    TRY(api_.output(context, 0, dims, 3, &value));
    TRY(api_.data(value, &data));
    auto* out = static_cast<float*>(data);
    const auto* from = static_cast<float*>(q.data);
    const auto take = [&](const attention::Segment&, long, long token, float* room) {
      attention::take_queries(t, from + token * width, nullptr, nullptr, call.queries(token), room);
    };
    TRY(call.each_token(context, width, take));
    return call.in_parts(context, chosen.dims[0] * tokens, places, [&](long at, void* room) {
      const long token = at % tokens;
      attention::weights(t, segment, heads[at / tokens], call.queries(token), call.keys_of(segment), room,
                         out + at * places);
    });
  }

 private:
  const ort::Api& api_;
  attention::Shape shape_{};
};

// Writes what an encoder gives to rows of a cache:
//   key, value float [1, T, heads dim]; past_key, past_value int8 [rows, heads, capacity, dim + 2];
//   segments int32 [segments, 3], each a row, the place in it from which on is written, and how many of
//   the T are; present_key, present_value: the past's own memory.
class CrossAppend {
 public:
  static constexpr const char* NAME = "CrossAppend";
  static constexpr size_t INPUTS = 5, OUTPUTS = 2;
  static ort::Element input_type(size_t index) {
    if (index == 4) return ort::Element::INT32;
    return index < 2 ? ort::Element::FLOAT : ort::Element::INT8;
  }
  static ort::Element output_type(size_t) { return ort::Element::INT8; }
  static ort::Presence presence(size_t) { return ort::Presence::REQUIRED; }

  explicit CrossAppend(const ort::Api& api) : api_(api) {}

  Status* prepare(const ort::KernelInfo* info) {
    int64_t heads;
    TRY(api_.attribute(info, "num_heads", &heads));
    shape_.heads = shape_.kv_heads = heads;
    return nullptr;
  }

  Status* compute(ort::KernelContext* context) {
    AttentionCall call(api_, NAME);
    call.shape = shape_;
    Tensor key, value;
    TRY(input(api_, context, 0, &key));
    TRY(input(api_, context, 1, &value));
    TRY(call.read(context, 2, 4));
    const attention::Shape& t = call.shape;
    const long width = t.heads * t.dim;
    if (key.rank != 3 || value.rank != 3) return call.refuse("an input has the wrong rank");
    if (key.dims[0] != 1 || key.dims[2] != width || value.elements() != key.elements())
      return call.refuse("the inputs' shapes do not agree");
    call.tokens = key.dims[1];
    TRY(call.check(t.capacity));
    TRY(call.keep(context, 0));
    if (rehearsing) return nullptr;
    rest();
    const auto *keys = static_cast<float*>(key.data), *values = static_cast<float*>(value.data);
    const auto write = [&](const attention::Segment& s, long position, long token, float* room) {
      attention::append(t, keys + token * width, values + token * width, position, nullptr, nullptr,
                        call.keys_of(s), call.values_of(s), room);
    };
    return call.each_token(context, width, write);
  }

 private:
  const ort::Api& api_;
  attention::Shape shape_{};
};

}  // namespace op
