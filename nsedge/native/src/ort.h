// The part of ONNX Runtime's C interface that a custom operator needs.
//
// The interface is a table of functions that is only ever appended to, so the place of each entry
// holds for every release since the one that brought it. Places and signatures are those of
// onnxruntime_c_api.h; asking for VERSION makes an older library refuse instead of misreading.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ort {

constexpr uint32_t VERSION = 17;  // KernelContext_ParallelFor, the newest entry used, came with it

struct Status;
struct KernelInfo;
struct KernelContext;
struct Value;
struct ShapeInfo;
struct Domain;
struct SessionOptions;

enum class Element : int { FLOAT = 1, UINT8 = 2, INT8 = 3, INT32 = 6, INT64 = 7 };
enum class Presence : int { REQUIRED = 0, OPTIONAL = 1 };
enum class Error : int { FAIL = 1, INVALID_ARGUMENT = 2, NOT_IMPLEMENTED = 9 };

using Task = void (*)(void* data, size_t index);

struct Api {
  void* entries[512];

  template <typename F>
  F at(size_t place) const {
    return reinterpret_cast<F>(entries[place]);
  }

  Status* status(Error code, const char* message) const {
    return at<Status* (*)(Error, const char*)>(0)(code, message);
  }
  Status* create_domain(const char* name, Domain** out) const {
    return at<Status* (*)(const char*, Domain**)>(26)(name, out);
  }
  Status* domain_add(Domain* domain, const void* op) const {
    return at<Status* (*)(Domain*, const void*)>(27)(domain, op);
  }
  Status* options_add(SessionOptions* options, Domain* domain) const {
    return at<Status* (*)(SessionOptions*, Domain*)>(28)(options, domain);
  }
  Status* data(Value* value, void** out) const {
    return at<Status* (*)(Value*, void**)>(51)(value, out);
  }
  Status* rank(const ShapeInfo* info, size_t* out) const {
    return at<Status* (*)(const ShapeInfo*, size_t*)>(61)(info, out);
  }
  Status* dimensions(const ShapeInfo* info, int64_t* out, size_t count) const {
    return at<Status* (*)(const ShapeInfo*, int64_t*, size_t)>(62)(info, out, count);
  }
  Status* shape(const Value* value, ShapeInfo** out) const {
    return at<Status* (*)(const Value*, ShapeInfo**)>(65)(value, out);
  }
  Status* attribute(const KernelInfo* info, const char* name, float* out) const {
    return at<Status* (*)(const KernelInfo*, const char*, float*)>(85)(info, name, out);
  }
  Status* attribute(const KernelInfo* info, const char* name, int64_t* out) const {
    return at<Status* (*)(const KernelInfo*, const char*, int64_t*)>(86)(info, name, out);
  }
  Status* input(const KernelContext* context, size_t index, const Value** out) const {
    return at<Status* (*)(const KernelContext*, size_t, const Value**)>(90)(context, index, out);
  }
  Status* output(KernelContext* context, size_t index, const int64_t* dims, size_t rank,
                 Value** out) const {
    return at<Status* (*)(KernelContext*, size_t, const int64_t*, size_t, Value**)>(91)(
        context, index, dims, rank, out);
  }
  void release(Status* status) const { at<void (*)(Status*)>(93)(status); }
  void release(ShapeInfo* info) const { at<void (*)(ShapeInfo*)>(99)(info); }
  Status* constant(const KernelInfo* info, size_t index, int* is_constant,
                   const Value** out) const {
    return at<Status* (*)(const KernelInfo*, size_t, int*, const Value**)>(249)(info, index,
                                                                                 is_constant, out);
  }
  // Calls task(data, i) for every i < total on the session's threads, and returns when all are done.
  Status* parallel(const KernelContext* context, Task task, size_t total, void* data) const {
    return at<Status* (*)(const KernelContext*, Task, size_t, size_t, void*)>(274)(
        context, task, total, 0, data);
  }
};

struct ApiBase {
  const Api* (*get)(uint32_t version);
  const char* (*version)();
};

// A description of an operator, as the runtime reads it. Unused entries stay null.
struct Op {
  uint32_t version = VERSION;
  void* (*create)(const Op*, const Api*, const KernelInfo*) = nullptr;
  const char* (*name)(const Op*) = nullptr;
  const char* (*provider)(const Op*) = nullptr;
  Element (*input_type)(const Op*, size_t) = nullptr;
  size_t (*input_count)(const Op*) = nullptr;
  Element (*output_type)(const Op*, size_t) = nullptr;
  size_t (*output_count)(const Op*) = nullptr;
  void (*compute)(void*, KernelContext*) = nullptr;
  void (*destroy)(void*) = nullptr;
  Presence (*input_presence)(const Op*, size_t) = nullptr;
  Presence (*output_presence)(const Op*, size_t) = nullptr;
  int (*input_memory)(const Op*, size_t) = nullptr;
  int (*variadic_input_min)(const Op*) = nullptr;
  int (*variadic_input_same)(const Op*) = nullptr;
  int (*variadic_output_min)(const Op*) = nullptr;
  int (*variadic_output_same)(const Op*) = nullptr;
  Status* (*create_v2)(const Op*, const Api*, const KernelInfo*, void**) = nullptr;
  Status* (*compute_v2)(void*, KernelContext*) = nullptr;
  Status* (*infer_shape)(const Op*, void*) = nullptr;
  int (*first_version)(const Op*) = nullptr;
  int (*last_version)(const Op*) = nullptr;
  size_t (*may_inplace)(int**, int**) = nullptr;
  void (*release_may_inplace)(int*, int*) = nullptr;
  size_t (*alias_map)(int**, int**) = nullptr;
  void (*release_alias_map)(int*, int*) = nullptr;
};

}  // namespace ort
