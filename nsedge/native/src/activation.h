// The operators Gelu and GeluRows.
#pragma once

#include <cstring>

#include "gelu.h"
#include "operator.h"

namespace op {

// y = Gelu of x, float of any shape.
class Gelu {
 public:
  static constexpr const char* NAME = "Gelu";
  static constexpr size_t INPUTS = 1, OUTPUTS = 1;
  static ort::Element input_type(size_t) { return ort::Element::FLOAT; }
  static ort::Element output_type(size_t) { return ort::Element::FLOAT; }
  static ort::Presence presence(size_t) { return ort::Presence::REQUIRED; }

  explicit Gelu(const ort::Api& api) : api_(api) {}

  Status* prepare(const ort::KernelInfo*) { return nullptr; }

  Status* compute(ort::KernelContext* context) {
    Tensor x;
    TRY(input(api_, context, 0, &x));
    ort::Value* output;
    void* data;
    TRY(api_.output(context, 0, x.dims, x.rank, &output));
    TRY(api_.data(output, &data));
    const long count = x.elements(), pieces = count / gelu::MULTIPLE;
    auto *from = static_cast<float*>(x.data), *to = static_cast<float*>(data);
    rest();
    const auto work = [&](long begin, long end) {
      gelu::best().apply(from + begin * gelu::MULTIPLE, (end - begin) * gelu::MULTIPLE,
                         to + begin * gelu::MULTIPLE);
    };
    if (pieces > 0) TRY(share(api_, context, pieces, count < ALONE ? pieces : 256, work));
    if (const long done = pieces * gelu::MULTIPLE; done < count) {
      float last[gelu::MULTIPLE] = {};
      std::memcpy(last, from + done, (count - done) * sizeof(float));
      gelu::best().apply(last, gelu::MULTIPLE, last);
      std::memcpy(to + done, last, (count - done) * sizeof(float));
    }
    return nullptr;
  }

 private:
  const ort::Api& api_;
};

// Rows of Gelu as bytes, each with a scale by its greatest number:
//   x float [.., K], K a multiple of 16; y uint8 [.., K]; size float [.., 1]. Gelu of x is about
//   (y - zero) / levels * size.
class GeluRows {
 public:
  static constexpr const char* NAME = "GeluRows";
  static constexpr size_t INPUTS = 1, OUTPUTS = 2;
  static ort::Element input_type(size_t) { return ort::Element::FLOAT; }
  static ort::Element output_type(size_t index) {
    return index == 0 ? ort::Element::UINT8 : ort::Element::FLOAT;
  }
  static ort::Presence presence(size_t) { return ort::Presence::REQUIRED; }

  explicit GeluRows(const ort::Api& api) : api_(api) {}

  Status* prepare(const ort::KernelInfo* info) {
    TRY(api_.attribute(info, "least", &how_.least));
    TRY(api_.attribute(info, "levels", &how_.levels));
    return api_.attribute(info, "zero", &how_.zero);
  }

  Status* compute(ort::KernelContext* context) {
    Tensor x;
    TRY(input(api_, context, 0, &x));
    const long width = x.last(), rows = x.rows();
    if (x.rank == 0 || width % gelu::MULTIPLE != 0)
      return api_.status(ort::Error::INVALID_ARGUMENT, "GeluRows: a row is a multiple of 16 wide");
    ort::Value* output;
    void *bytes, *sizes;
    TRY(api_.output(context, 0, x.dims, x.rank, &output));
    TRY(api_.data(output, &bytes));
    x.dims[x.rank - 1] = 1;
    TRY(api_.output(context, 1, x.dims, x.rank, &output));
    TRY(api_.data(output, &sizes));
    if (rows == 0 || width == 0) return nullptr;
    const auto* from = static_cast<float*>(x.data);
    std::atomic<bool> short_of_memory{false};
    rest();
    const auto work = [&](long begin, long end) {
      auto* room = static_cast<float*>(own_scratch.reserve(width * sizeof(float)));
      if (room == nullptr) short_of_memory = true;
      for (long r = begin; r < end && room != nullptr; r++)
        static_cast<float*>(sizes)[r] = gelu::best().round(
            how_, from + r * width, width, static_cast<uint8_t*>(bytes) + r * width, room);
    };
    TRY(share(api_, context, rows, rows * width < ALONE ? rows : 8, work));
    return short_of_memory ? api_.status(ort::Error::FAIL, "GeluRows: no memory") : nullptr;
  }

 private:
  const ort::Api& api_;
  gelu::Rounding how_{};
};

}  // namespace op
