#include "kernels.h"

#include "../loops/loops.h"
#include "specification.h"

/// Plain C for the baseline processor of the architecture: the specification of every other set.

static int runs_here(void) { return 1; }
static size_t no_scratch(size_t columns) { return (void)columns, 0; }

const nibble_kernels nibble_plain = {
    .name = "plain",
    .runs_here = runs_here,
    .tile_products = no_tiles,
    .panels_integers = specified_integers,
    .panels_floats = specified_floats,
    .panels_scratch = no_scratch,
    .peak_f32 = no_peak,
    .peak_bf16 = no_peak,
    .peak_int8 = no_peak,
    NIBBLE_LOOPS(LOOP_FIELD)
};
