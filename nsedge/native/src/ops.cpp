// The operators of domain "nsedge", for ONNX Runtime to load: BlockMatMul, BlockRows, CachedAttention,
// CrossAttention, CrossWeights, CrossAppend, WindowAttention, Gelu and GeluRows.
#include <cstdlib>
#include <new>

#include "activation.h"
#include "block_matmul.h"
#include "block_rows.h"
#include "cached_attention.h"
#include "cross_attention.h"
#include "ort.h"
#include "window_attention.h"

namespace {

using ort::Status;

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

const ort::Op OPS[] = {describe_op<op::BlockMatMul>(), describe_op<op::BlockRows>(),
                       describe_op<op::CachedAttention>(), describe_op<op::CrossAttention>(),
                       describe_op<op::CrossWeights>(), describe_op<op::CrossAppend>(),
                       describe_op<op::WindowAttention>(), describe_op<op::Gelu>(),
                       describe_op<op::GeluRows>()};

}  // namespace

extern "C" {

// Whether this processor can run the operators.
__attribute__((visibility("default"))) int nsedge_supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

// A digest of the source that this was built from, by setup.py.
__attribute__((visibility("default"))) const char* nsedge_source() { return NSEDGE_SOURCE; }

// What products are made with on this processor.
__attribute__((visibility("default"))) const char* nsedge_instructions() {
  return matmul::instructions();
}

// From now on, sessions that this thread opens share packed weights with those of the same group.
__attribute__((visibility("default"))) void nsedge_share(size_t group) {
  matmul::own_group = group;
}

// Whether products use no instruction that not every processor with AVX2 has, from now on.
__attribute__((visibility("default"))) void nsedge_plain(int on) { matmul::plain = on != 0; }

// Whether runs of this thread only take their memory from now on.
__attribute__((visibility("default"))) void nsedge_rehearse(int on) { op::rehearsing = on != 0; }

// What runs of this thread call from now on where they may stop for a while; null for nothing.
__attribute__((visibility("default"))) void nsedge_pause(void (*call)()) { op::pause = call; }

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
