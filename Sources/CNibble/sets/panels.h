#ifndef NIBBLE_PANELS_H
#define NIBBLE_PANELS_H

#include "nibble.h"

/// Layout of a panel, for the kernels of each instruction set.
///
/// A unit is 4 neighbouring inputs of 16 outputs: 64 codes, the 4 of one output side by side. A
/// line is 64 bytes: one unit of int8 or E4M3 codes, or two units of int4, the first in the low
/// nibbles.

#define PANEL 16
#define UNIT 4
#define UNITS_A_TILE 16

static inline size_t panel_tiles(size_t columns) { return (columns + 63) / 64; }

/// Bytes per panel.
static inline size_t panel_step(const nibble_panels *w) {
  return panel_tiles(w->columns) * (w->format == NIBBLE_INT4 ? 512 : 1024);
}

static inline size_t panel_groups(const nibble_panels *w) {
  return (w->columns + w->group - 1) / w->group;
}

/// Scales per output for `groups` groups.
static inline size_t panel_scales(const nibble_panels *w, size_t groups) {
  return (groups + w->scale_span - 1) / w->scale_span;
}

/// Iterates over the groups of a row without a division per group, which would take as long as the
/// group's products.
typedef struct {
  /// The group, its range of units, and the indices of its scales for weight and inputs.
  size_t group, from, to, weight_scale, input_scale;
  size_t units, end, weight_left, input_left;
} group_walk;

static inline group_walk first_group(const nibble_inputs *x, const nibble_panels *w) {
  group_walk walk = {.units = w->group / UNIT,
                     .end = (w->columns + 7) / 8 * 2,
                     .weight_left = w->scale_span,
                     .input_left = x->scale_span};
  walk.to = w->group >= w->columns || walk.units > walk.end ? walk.end : walk.units;
  return walk;
}

static inline void next_group(group_walk *walk, const nibble_inputs *x, const nibble_panels *w) {
  walk->group++;
  walk->from = walk->to;
  walk->to = walk->end - walk->to < walk->units ? walk->end : walk->to + walk->units;
  if (--walk->weight_left == 0) {
    walk->weight_scale++;
    walk->weight_left = w->scale_span;
  }
  if (--walk->input_left == 0) {
    walk->input_scale++;
    walk->input_left = x->scale_span;
  }
}

/// Offset that each code of a format has when it is read as an unsigned byte.
static inline int code_offset(const nibble_panels *w) { return w->format == NIBBLE_INT4 ? 8 : 128; }

/// Kernels of avx512, which amx uses too, and of avx2, whose float kernel avx_vnni uses.
void nibble_avx512_integers(const nibble_inputs *x, const nibble_panels *w, size_t first,
                            size_t count, float *y, size_t y_stride, void *scratch);
void nibble_avx512_floats(const nibble_inputs *x, const nibble_panels *w, size_t first,
                          size_t count, float *y, size_t y_stride);
size_t nibble_avx512_scratch(size_t columns);
void nibble_avx2_floats(const nibble_inputs *x, const nibble_panels *w, size_t first, size_t count,
                        float *y, size_t y_stride);

#endif
