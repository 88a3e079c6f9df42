// The operator WindowAttention.
#pragma once

#include <cstring>

#include "operator.h"
#include "window.h"

namespace op {

// Attention of all positions of a window to each other, without a mask:
//   qkv float [B, T, 3 heads dim], a position's queries, keys and values one behind the other; y float
//   [B, T, heads dim]. dim is a multiple of 32.
class WindowAttention {
 public:
  static constexpr const char* NAME = "WindowAttention";
  static constexpr size_t INPUTS = 1, OUTPUTS = 1;
  static ort::Element input_type(size_t) { return ort::Element::FLOAT; }
  static ort::Element output_type(size_t) { return ort::Element::FLOAT; }
  static ort::Presence presence(size_t) { return ort::Presence::REQUIRED; }

  explicit WindowAttention(const ort::Api& api) : api_(api) {}

  Status* prepare(const ort::KernelInfo* info) {
    TRY(api_.attribute(info, "num_heads", &heads_));
    TRY(api_.attribute(info, "scale", &scale_));
    return heads_ < 1 ? refuse("WindowAttention: no heads") : nullptr;
  }

  Status* compute(ort::KernelContext* context) {
    Tensor qkv;
    TRY(input(api_, context, 0, &qkv));
    if (qkv.rank != 3) return refuse("WindowAttention: the input has the wrong rank");
    const int64_t dim = qkv.dims[2] / 3 / heads_;
    if (qkv.dims[2] != 3 * heads_ * dim || dim < 1 || dim % window::MULTIPLE != 0 ||
        dim > window::WIDEST)
      return refuse("WindowAttention: heads must be a multiple of 32 wide, and no wider than 256");
    const int64_t dims[] = {qkv.dims[0], qkv.dims[1], heads_ * dim};
    ort::Value* output;
    void* y;
    TRY(api_.output(context, 0, dims, 3, &output));
    TRY(api_.data(output, &y));
    const window::Shape shape{heads_, dim, dims[1], qkv.dims[2], scale_};
    if (shape.length == 0) return nullptr;
    for (long b = 0; b < dims[0]; b++) {
      const long before = b * shape.length;
      TRY(attend(context, shape, static_cast<float*>(qkv.data) + before * shape.stride,
                 static_cast<float*>(y) + before * shape.width()));
    }
    return nullptr;
  }

 private:
  Status* refuse(const char* why) const { return api_.status(ort::Error::INVALID_ARGUMENT, why); }
  Status* no_memory() const { return api_.status(ort::Error::FAIL, "WindowAttention: no memory"); }

  // One window.
  Status* attend(const ort::KernelContext* context, const window::Shape& t, const float* x,
                 float* y) const {
    const window::Kernel& kernel = window::best();
    const size_t each = lines(kernel.packed_bytes(t));
    auto* packed = static_cast<char*>(shared_scratch.reserve(t.heads * each));
    if (packed == nullptr) return no_memory();
    if (rehearsing) {
      std::memset(y, 0, t.length * t.width() * sizeof(float));
      return nullptr;
    }
    const long blocks = kernel.blocks(t), tiles = kernel.tiles(t);
    const auto pack = [&](long begin, long end) {
      for (long at = begin; at < end; at++) {
        const long head = at / blocks;
        const float* keys = x + t.width() + head * t.dim;
        kernel.pack(t, keys, keys + t.width(), at % blocks, packed + head * each);
      }
    };
    TRY(share(api_, context, t.heads * blocks, 4, pack));
    std::atomic<bool> short_of_memory{false};
    long head = 0;
    const auto work = [&](long begin, long end) {
      void* room = own_scratch.reserve(kernel.room_bytes(t));
      if (room == nullptr) short_of_memory = true;
      for (long at = begin; at < end && room != nullptr; at++) {
        const long of = head + at / tiles, first = at % tiles * kernel.rows;
        kernel.attend(t, x + first * t.stride + of * t.dim, std::min(kernel.rows, t.length - first),
                      packed + of * each, room, y + first * t.width() + of * t.dim);
      }
    };
    const long heads = pause != nullptr ? 1 : t.heads;  // at once
    for (; head < t.heads; head += heads) {
      rest();
      TRY(share(api_, context, heads * tiles, 1, work));
    }
    return short_of_memory ? no_memory() : nullptr;
  }

  const ort::Api& api_;
  int64_t heads_ = 0;
  float scale_ = 0;
};

}  // namespace op
