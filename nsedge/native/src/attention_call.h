// What the operators of attention share: a call over segments of tokens, each of a row of a cache.
#pragma once

#include <cstring>
#include <string>

#include "attention.h"
#include "operator.h"

namespace op {

class AttentionCall {
 public:
  attention::Shape shape;
  Tensor keys, values;  // int8 [rows, kv_heads, capacity, dim + 2], as attention.h has a row's bytes
  const attention::Segment* segments = nullptr;
  long count = 0, tokens = 0;  // segments, and new tokens of all of them
  attention::Queries q{};
  float* y = nullptr;

  AttentionCall(const ort::Api& api, const char* name) : api_(api), name_(name) {}

  Status* refuse(const char* why) const {
    return api_.status(ort::Error::INVALID_ARGUMENT, (name_ + std::string(": ") + why).c_str());
  }

  // The cache's sizes, and the segments that the call is of.
  Status* read(const ort::KernelContext* context, size_t keys_at, size_t segments_at) {
    Tensor given;
    TRY(input(api_, context, keys_at, &keys));
    TRY(input(api_, context, keys_at + 1, &values));
    TRY(input(api_, context, segments_at, &given));
    if (keys.rank != 4 || given.rank != 2) return refuse("an input has the wrong rank");
    shape.capacity = keys.dims[2];
    shape.dim = keys.dims[3] - 2;
    if (shape.dim < 1 || shape.dim % attention::BLOCK != 0 || shape.capacity % attention::BLOCK != 0)
      return refuse("head size and capacity must be multiples of 16");
    if (shape.dim > attention::WIDEST) return refuse("heads wider than 512");
    if (keys.dims[1] != shape.kv_heads || values.elements() != keys.elements() || given.dims[1] != 3)
      return refuse("the inputs' shapes do not agree");
    segments = static_cast<const attention::Segment*>(given.data);
    count = given.dims[0];
    return nullptr;
  }

  // Whether every segment is of a row, holds what a row of `longest` tokens can, and all of them have
  // the call's tokens.
  Status* check(long longest) const {
    long all = 0;
    for (long i = 0; i < count; i++) {
      const attention::Segment& s = segments[i];
      if (s.row < 0 || s.row >= keys.dims[0]) return refuse("a segment is of no row of the cache");
      if (s.past < (shape.causal ? 0 : 1) || s.tokens < 1 ||
          s.past > longest - (shape.causal ? s.tokens : 0))
        return refuse("a row would be longer than the cache or the rotary table");
      all += s.tokens;
    }
    return all == tokens ? nullptr : refuse("the segments are not all of the tokens");
  }

  // The output [1, tokens, heads dim], and room for the queries.
  Status* open(ort::KernelContext* context) {
    const int64_t dims[] = {1, tokens, shape.heads * shape.dim};
    ort::Value* value;
    void* data;
    TRY(api_.output(context, 0, dims, 3, &value));
    TRY(api_.data(value, &data));
    y = static_cast<float*>(data);
    return take_room();
  }

  // Room for the queries alone.
  Status* take_room() {
    const long heads = tokens * shape.heads;
    void* room = shared_scratch.reserve(heads * (shape.dim * sizeof(int16_t) + sizeof(float)));
    q = {static_cast<int16_t*>(room),
         reinterpret_cast<float*>(static_cast<int16_t*>(room) + heads * shape.dim)};
    return room == nullptr ? no_memory() : nullptr;
  }

  // The cache as outputs from `first` on, which have to be bound to the memory of the inputs.
  Status* keep(ort::KernelContext* context, size_t first) const {
    const Tensor* const caches[] = {&keys, &values};
    for (size_t i = 0; i < 2; i++) {
      ort::Value* value;
      void* data;
      TRY(api_.output(context, first + i, caches[i]->dims, 4, &value));
      TRY(api_.data(value, &data));
      if (data != caches[i]->data)
        return refuse("past and present must be bound to the same memory");
    }
    return nullptr;
  }

  void clear() const { std::memset(y, 0, tokens * shape.heads * shape.dim * sizeof(float)); }

  int8_t* keys_of(const attention::Segment& s) const { return of(keys, s); }
  int8_t* values_of(const attention::Segment& s) const { return of(values, s); }
  attention::Queries queries(long token) const {
    return {q.values + token * shape.heads * shape.dim, q.scales + token * shape.heads};
  }

  // Calls work(segment, position in its row, token, room [dim]) for every token, `width` numbers each.
  template <typename Work>
  Status* each_token(const ort::KernelContext* context, long width, const Work& work) const {
    std::atomic<bool> short_of_memory{false};
    const auto part = [&](long begin, long end) {
      auto* room = static_cast<float*>(own_scratch.reserve(shape.dim * sizeof(float)));
      if (room == nullptr) {
        short_of_memory = true;
        return;
      }
      long first = 0;  // the segment's first token
      for (long i = 0; i < count && first < end; first += segments[i++].tokens) {
        const attention::Segment& s = segments[i];
        const long last = std::min<long>(end, first + s.tokens);
        for (long token = std::max(begin, first); token < last; token++)
          work(s, s.past + token - first, token, room);
      }
    };
    TRY(share(api_, context, tokens, tokens * width < ALONE ? tokens : 4, part));
    return short_of_memory ? no_memory() : nullptr;
  }

  // Calls work(i, scratch) for every i < parts on the session's threads, with scratch for rows of `length`.
  template <typename Work>
  Status* in_parts(const ort::KernelContext* context, long parts, long length, const Work& work) const {
    std::atomic<bool> short_of_memory{false};
    const auto part = [&](long begin, long end) {
      void* room = own_scratch.reserve(attention::room(shape, length));
      if (room == nullptr) {
        short_of_memory = true;
        return;
      }
      for (long at = begin; at < end; at++) work(at, room);
    };
    TRY(share(api_, context, parts, 1, part));
    return short_of_memory ? no_memory() : nullptr;
  }

  // Works through the tiles of every segment and kv head, whose queries are taken.
  Status* attend(const ort::KernelContext* context) const {
    const attention::Shape& t = shape;
    long longest = 0, products = 0, tiles_in_all = 0;
    for (long i = 0; i < count; i++) {
      const attention::Segment& s = segments[i];
      const long length = t.seen(s, s.tokens - 1);
      longest = std::max(longest, length);
      products += length * s.tokens * t.heads * t.dim;
      tiles_in_all += t.tiles(s) * t.kv_heads;
    }
    std::atomic<bool> short_of_memory{false};
    const auto work = [&](long begin, long end) {
      void* room = own_scratch.reserve(attention::room(t, longest));
      if (room == nullptr) {
        short_of_memory = true;
        return;
      }
      long first = 0, token = 0;  // the segment's first tile and token
      for (long i = 0; i < count && first < end; i++) {
        const attention::Segment& s = segments[i];
        const long tiles = t.tiles(s), last = std::min(end, first + tiles * t.kv_heads);
        for (long at = std::max(begin, first); at < last; at++) {
          attention::attend(t, s, (at - first) / tiles, (at - first) % tiles, queries(token),
                            keys_of(s), values_of(s), room, y + token * t.heads * t.dim);
        }
        first += tiles * t.kv_heads;
        token += s.tokens;
      }
    };
    TRY(share(api_, context, tiles_in_all, products < 4 * ALONE ? tiles_in_all : 1, work));
    return short_of_memory ? no_memory() : nullptr;
  }

 private:
  int8_t* of(const Tensor& cache, const attention::Segment& s) const {
    return static_cast<int8_t*>(cache.data) + s.row * shape.row_bytes();
  }
  Status* no_memory() const {
    return api_.status(ort::Error::FAIL, (name_ + std::string(": no memory")).c_str());
  }

  const ort::Api& api_;
  const char* name_;
};

}  // namespace op
