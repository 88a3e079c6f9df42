// What an operator is made of: its inputs and outputs, scratch memory, and work shared among threads.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "ort.h"

#define TRY(call)                               \
  do {                                          \
    if (ort::Status* status = (call)) return status; \
  } while (0)

namespace op {


using ort::Status;

constexpr size_t MOST_DIMENSIONS = 8;
constexpr long ALONE = 1 << 14;  // elements below which handing work out costs more than it spares

inline size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

struct Tensor {
  int64_t dims[MOST_DIMENSIONS] = {};
  size_t rank = 0;
  void* data = nullptr;

  int64_t last() const { return rank == 0 ? 1 : dims[rank - 1]; }
  int64_t elements() const { return rows() * last(); }
  // The product of all dimensions but the last.
  int64_t rows() const {
    int64_t product = 1;
    for (size_t i = 0; i + 1 < rank; i++) product *= dims[i];
    return product;
  }
};

inline Status* describe(const ort::Api& api, const ort::Value* value, Tensor* out) {
  ort::ShapeInfo* info;
  TRY(api.shape(value, &info));
  Status* status = api.rank(info, &out->rank);
  if (status == nullptr)
    status = out->rank > MOST_DIMENSIONS
                 ? api.status(ort::Error::INVALID_ARGUMENT, "nsedge: too many dimensions")
                 : api.dimensions(info, out->dims, out->rank);
  api.release(info);
  return status != nullptr ? status : api.data(const_cast<ort::Value*>(value), &out->data);
}

inline Status* input(const ort::Api& api, const ort::KernelContext* context, size_t index, Tensor* out) {
  const ort::Value* value = nullptr;
  TRY(api.input(context, index, &value));
  return value == nullptr ? nullptr : describe(api, value, out);
}

// A constant input; `data` stays null where the node leaves it out.
inline Status* constant(const ort::Api& api, const ort::KernelInfo* info, size_t index, Tensor* out) {
  int is_constant = 0;
  const ort::Value* value = nullptr;
  TRY(api.constant(info, index, &is_constant, &value));
  return is_constant == 0 || value == nullptr ? nullptr : describe(api, value, out);
}

// While it is set, this thread's runs take the memory that they would take, and compute nothing:
// outputs are zeros.
inline thread_local bool rehearsing = false;

// What this thread calls at places where a run may stop for a while: its other threads have nothing to do
// there, and nothing of the run is lost. Null where nobody wants to know.
inline thread_local void (*pause)() = nullptr;

inline void rest() {
  if (pause != nullptr) pause();
}

// Memory that a thread keeps between calls, and grows.
class Scratch {
 public:
  ~Scratch() { std::free(data_); }
  void* reserve(size_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = (bytes + 4095) / 4096 * 4096;
      data_ = std::aligned_alloc(64, size_);
      if (data_ == nullptr) size_ = 0;
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

inline thread_local Scratch shared_scratch;  // of the thread that runs the session: read by all its helpers
inline thread_local Scratch own_scratch;     // of each thread that works on a task

// Work divided into one range a core. A thread takes its own range from the start, `grain` at a time,
// then what is left of the others': a core reads memory twice as fast in one run as in pieces here
// and there, and a thread that lost its core holds up nobody.
class Ranges {
 public:
  Ranges(long count, long grain) : count_(count), grain_(grain) {
    const long pieces = (count + grain - 1) / grain, cores = CORES < MOST ? CORES : MOST;
    ranges_ = pieces < cores ? pieces : cores;
    for (long r = 0; r < ranges_; r++) next_[r].at.store(begin(r), std::memory_order_relaxed);
  }

  long ranges() const { return ranges_; }

  template <typename Work>
  void take(const Work& work) {
    const long own = arrived_.fetch_add(1, std::memory_order_relaxed);
    for (long i = 0; i < ranges_; i++) {
      const long r = (own + i) % ranges_, end = begin(r + 1);
      for (;;) {
        const long at = next_[r].at.fetch_add(grain_, std::memory_order_relaxed);
        if (at >= end) break;
        work(at, at + grain_ < end ? at + grain_ : end);
      }
    }
  }

 private:
  static constexpr long MOST = 64;
  static inline const long CORES = std::max(1L, sysconf(_SC_NPROCESSORS_ONLN));

  long begin(long range) const { return count_ * range / ranges_; }

  const long count_, grain_;
  long ranges_;
  std::atomic<long> arrived_{0};
  struct alignas(64) Next {
    std::atomic<long> at;
  };
  Next next_[MOST];
};

// Calls work(begin, end) for parts of 0 .. count - 1 on the session's threads.
template <typename Work>
Status* share(const ort::Api& api, const ort::KernelContext* context, long count, long grain,
              const Work& work) {
  struct Shared {
    const Work& work;
    Ranges ranges;
  } shared{work, Ranges(count, grain)};
  if (shared.ranges.ranges() <= 1) {
    work(0, count);
    return nullptr;
  }
  const ort::Task task = [](void* data, size_t) {
    auto& all = *static_cast<Shared*>(data);
    all.ranges.take(all.work);
  };
  return api.parallel(context, task, static_cast<size_t>(shared.ranges.ranges()), &shared);
}

// The kernel keeps a packed copy, so the pages of the file that it was made from can go; they come
// back from the file if anybody reads them.
inline void let_go(const void* data, size_t bytes) {
#ifdef MADV_PAGEOUT
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_PAGEOUT);
#endif
}

}  // namespace op
