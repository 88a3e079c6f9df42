#include "memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <mutex>
#include <new>

namespace memory {
namespace {

constexpr size_t HUGE_PAGE = size_t{2} << 20;
constexpr size_t SLAB = 16 * HUGE_PAGE;
constexpr size_t LINE = 64;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// A mapping that many small matrices share, since each alone is smaller than a huge page. It goes
// back to the system with the last of them.
struct Slab {
  char* begin;
  size_t mapped, used, users;
  char* base;
};

struct Header {
  Slab* slab;
  char padding[LINE - sizeof(Slab*)];
};

std::mutex mutex;
Slab* current = nullptr;  // where the next small one goes

Slab* map(size_t bytes) {
  const size_t mapped = bytes + HUGE_PAGE;
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  auto* begin = reinterpret_cast<char*>(round_up(reinterpret_cast<uintptr_t>(base), HUGE_PAGE));
#ifdef MADV_HUGEPAGE
  // A wish: without it all is as before, but slower. None where most of a huge page would be empty.
  madvise(begin, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  auto* slab = new (std::nothrow) Slab{begin, mapped, 0, 0, static_cast<char*>(base)};
  if (slab == nullptr) munmap(base, mapped);
  return slab;
}

void unmap(Slab* slab) {
  munmap(slab->base, slab->mapped);
  delete slab;
}

}  // namespace

void* take(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  const size_t size = round_up(bytes, LINE) + sizeof(Header);
  Slab* slab = current;
  if (size > SLAB / 4) {
    slab = map(size);
  } else if (slab == nullptr || slab->used + size > SLAB) {
    slab = map(SLAB);
    if (slab != nullptr) {
      if (current != nullptr && current->users == 0) unmap(current);
      current = slab;
    }
  }
  if (slab == nullptr) return nullptr;
  auto* header = reinterpret_cast<Header*>(slab->begin + slab->used);
  header->slab = slab;
  slab->used += size;
  slab->users += 1;
  return header + 1;
}

void give_back(void* data) {
  if (data == nullptr) return;
  const std::lock_guard<std::mutex> lock(mutex);
  Slab* slab = (static_cast<Header*>(data) - 1)->slab;
  if (--slab->users > 0) return;
  if (slab == current) current = nullptr;
  unmap(slab);
}

}  // namespace memory
