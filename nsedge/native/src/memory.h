// Memory for weights: in huge pages where the system gives them. A core here reads twice as fast from
// those as from pages of 4 KiB, whose table walks stall it.
#pragma once

#include <cstddef>

namespace memory {

// Zeroed bytes, aligned to 64; null where there are none. From any thread.
void* take(size_t bytes);
void give_back(void* data);

}  // namespace memory
