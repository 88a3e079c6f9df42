// Gelu with registers of 512 bits.
#include "gelu.h"
#include "lanes_512.h"

#define NSEDGE_LANES lanes_512
#define NSEDGE_TARGET NSEDGE_FLOATS_512
#include "gelu_for.h"
