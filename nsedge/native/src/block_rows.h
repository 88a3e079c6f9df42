// The operator BlockRows.
#pragma once

#include "matmul.h"
#include "operator.h"

namespace op {

// y = rows of a matrix of 8 bits in blocks, as MatMulNBits has them, for the ids of tokens: an
// embedding that is tied to the head, packed once for both.
//   ids int64 [..]; q uint8 [N, blocks, block_size]; scales float [N, blocks]; y float [.., K].
class BlockRows {
 public:
  static constexpr const char* NAME = "BlockRows";
  static constexpr size_t INPUTS = 3, OUTPUTS = 1;
  static ort::Element input_type(size_t index) {
    return index == 0 ? ort::Element::INT64 : index == 1 ? ort::Element::UINT8 : ort::Element::FLOAT;
  }
  static ort::Element output_type(size_t) { return ort::Element::FLOAT; }
  static ort::Presence presence(size_t) { return ort::Presence::REQUIRED; }

  explicit BlockRows(const ort::Api& api) : api_(api) {}
  ~BlockRows() { matmul::give_back(weights_); }

  Status* prepare(const ort::KernelInfo* info) {
    int64_t n, k, block;
    TRY(api_.attribute(info, "N", &n));
    TRY(api_.attribute(info, "K", &k));
    TRY(api_.attribute(info, "block_size", &block));
    Tensor q, scales;
    TRY(constant(api_, info, 1, &q));
    TRY(constant(api_, info, 2, &scales));
    if (q.data == nullptr || scales.data == nullptr)
      return refuse("BlockRows: weights and scales must be constants");
    if (!matmul::can_be(8, block) || n < 1 || k < 1)
      return refuse("BlockRows: block_size must be a multiple of 16");
    const int64_t blocks = (k + block - 1) / block;
    if (q.elements() != n * blocks * block || scales.elements() != n * blocks)
      return refuse("BlockRows: an input has not the size that N, K and block_size say");
    const matmul::Source source{static_cast<uint8_t*>(q.data), static_cast<float*>(scales.data),
                                nullptr, nullptr};
    weights_ = matmul::take(source, n, k, 8, block);
    if (weights_ == nullptr)
      return api_.status(ort::Error::FAIL, "BlockRows: no memory for the packed weights");
    let_go(q.data, static_cast<size_t>(q.elements()));
    return nullptr;
  }

  Status* compute(ort::KernelContext* context) {
    Tensor ids, y;
    TRY(input(api_, context, 0, &ids));
    if (ids.rank + 1 > MOST_DIMENSIONS) return refuse("BlockRows: too many dimensions");
    int64_t dims[MOST_DIMENSIONS];
    for (size_t i = 0; i < ids.rank; i++) dims[i] = ids.dims[i];
    dims[ids.rank] = weights_->k;
    ort::Value* output;
    TRY(api_.output(context, 0, dims, ids.rank + 1, &output));
    TRY(api_.data(output, &y.data));
    const auto* id = static_cast<const int64_t*>(ids.data);
    for (int64_t i = 0; i < ids.elements(); i++) {
      if (id[i] < 0 || id[i] >= weights_->n) return refuse("BlockRows: an id is not in the vocabulary");
      matmul::read_row(*weights_, id[i], static_cast<float*>(y.data) + i * weights_->k);
    }
    return nullptr;
  }

 private:
  Status* refuse(const char* why) const { return api_.status(ort::Error::INVALID_ARGUMENT, why); }

  const ort::Api& api_;
  const matmul::Weights* weights_ = nullptr;
};

}  // namespace op
