// Attention within a window in floats, with registers of 512 bits.
#include "lanes_512.h"
#include "window.h"

#define NSEDGE_LANES lanes_512
#define NSEDGE_TARGET NSEDGE_FLOATS_512
#include "window_for.h"
