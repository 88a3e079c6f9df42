// The operator BlockMatMul.
#pragma once

#include <cstring>

#include "matmul.h"
#include "operator.h"

namespace op {

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
  ~BlockMatMul() { matmul::give_back(weights_); }

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
    if (!matmul::can_be(bits, block) || n < 1 || k < 1)
      return refuse(
          "BlockMatMul: bits must be 4 and block_size a multiple of 32, or 8 and one of 16");
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
    weights_ = matmul::take(source, n, k, bits, block);
    if (weights_ == nullptr)
      return api_.status(ort::Error::FAIL, "BlockMatMul: no memory for the packed weights");
    let_go(q.data, static_cast<size_t>(n * row));
    return nullptr;
  }

  Status* compute(ort::KernelContext* context) {
    Tensor x, y;
    TRY(input(api_, context, 0, &x));
    if (x.rank == 0 || x.last() != (gated_ ? 2 : 1) * weights_->k)
      return refuse("BlockMatMul: x has not K columns");
    int64_t dims[MOST_DIMENSIONS];
    for (size_t i = 0; i < x.rank; i++) dims[i] = x.dims[i];
    dims[x.rank - 1] = weights_->n;
    ort::Value* output;
    TRY(api_.output(context, 0, dims, x.rank, &output));
    TRY(api_.data(output, &y.data));
    const long rows = x.rows();
    if (rows == 0) return nullptr;  // a piece of a prompt that nobody wants logits of
    matmul::Rounded rounded;
    if (!reserve(rows, &rounded)) return api_.status(ort::Error::FAIL, "BlockMatMul: no memory");
    if (rehearsing) {
      std::memset(y.data, 0, rows * weights_->n * sizeof(float));
      return nullptr;
    }
    TRY(round(context, static_cast<float*>(x.data), rows, rounded));
    return multiply(context, rounded, rows, static_cast<float*>(y.data));
  }

 private:
  Status* refuse(const char* why) const { return api_.status(ort::Error::INVALID_ARGUMENT, why); }

  bool reserve(long rows, matmul::Rounded* out) const {
    const size_t values = lines(rows * matmul::value_bytes(*weights_));
    const size_t scales = lines(rows * matmul::scale_bytes(*weights_));
    auto* room = static_cast<char*>(
        shared_scratch.reserve(values + scales + rows * matmul::sum_bytes(*weights_)));
    *out = {room, reinterpret_cast<float*>(room + values),
            reinterpret_cast<float*>(room + values + scales)};
    return room != nullptr;
  }

  Status* round(const ort::KernelContext* context, const float* x, long rows,
                const matmul::Rounded& rounded) const {
    std::atomic<bool> short_of_memory{false};
    const auto work = [&](long begin, long end) {
      auto* room = static_cast<float*>(own_scratch.reserve(weights_->width() * sizeof(float)));
      if (room == nullptr) short_of_memory = true;
      for (long r = begin; r < end && room != nullptr; r++)
        matmul::round_row(x + r * (gated_ ? 2 : 1) * weights_->k, gated_, *weights_, r, rows, rounded,
                          room);
    };
    TRY(share(api_, context, rows, rows * weights_->width() < ALONE ? rows : 4, work));
    return short_of_memory ? api_.status(ort::Error::FAIL, "BlockMatMul: no memory") : nullptr;
  }

  Status* multiply(const ort::KernelContext* context, const matmul::Rounded& x, long rows,
                   float* y) const {
    // Bands of rows whose rounded values stay in a core's second-level cache beside a tile.
    constexpr long BAND = 32 * matmul::ROWS;
    constexpr long RUN = 96 << 10;  // bytes of weights
    const long tiles = weights_->tiles, grouped = matmul::grouped_rows(*weights_, rows);
    const long grouped_bands = (grouped + BAND - 1) / BAND, rest = rows - grouped;
    const long rest_bands = (rest + BAND - 1) / BAND, bands = grouped_bands + rest_bands;
    const auto first_row = [&](long band) {
      if (band < grouped_bands)
        return grouped / matmul::GROUP * band / grouped_bands * matmul::GROUP;
      return grouped + (rest_bands == 0 ? 0 : rest * (band - grouped_bands) / rest_bands);
    };
    const long products = rows * weights_->width() * matmul::COLUMNS;
    // A row alone is soon done with a tile; to take the next one holds up what was being read ahead.
    const long run = rows > 1 ? 0 : RUN / weights_->tile_bytes();
    const long grain = std::max({matmul::span(*weights_), 2 * ALONE / products, run});
    std::atomic<bool> short_of_memory{false};
    const auto work = [&](long begin, long end) {
      void* room = nullptr;
      if (grouped > 0) room = own_scratch.reserve(matmul::room_bytes(*weights_));
      if (grouped > 0 && room == nullptr) short_of_memory = true;
      while (begin < end && !short_of_memory) {
        const long band = begin / tiles, first = begin % tiles;
        const long last = first + end - begin < tiles ? first + end - begin : tiles;
        const long from = first_row(band), to = first_row(band + 1);
        if (band < grouped_bands)
          matmul::multiply_groups(*weights_, x, from, to, first, last, bias_, y, room);
        else
          matmul::multiply(*weights_, x, from, to, first, last, bias_, y);
        begin += last - first;
      }
    };
    TRY(share(api_, context, bands * tiles, grain, work));
    return short_of_memory ? api_.status(ort::Error::FAIL, "BlockMatMul: no memory") : nullptr;
  }

  const ort::Api& api_;
  const matmul::Weights* weights_ = nullptr;
  const float* bias_ = nullptr;
  bool gated_ = false;
};

}  // namespace op
