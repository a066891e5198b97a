#include "nibble_kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "loops/pages.h"
#include "sets/panels.h"

extern const nibble_kernels nibble_plain;
#if defined(__x86_64__)
extern const nibble_kernels nibble_avx2, nibble_avx_vnni, nibble_avx512;
#if defined(__linux__)
extern const nibble_kernels nibble_amx;
#endif
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
extern const nibble_kernels nibble_neon;
#endif

/// Slowest first: the last one that runs here is the best.
static const nibble_kernels *const sets[] = {
    &nibble_plain,
#if defined(__x86_64__)
    &nibble_avx2,
    &nibble_avx_vnni,
    &nibble_avx512,
#if defined(__linux__)
    &nibble_amx,
#endif
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
    &nibble_neon,
#endif
};

#define SETS (sizeof sets / sizeof sets[0])

const nibble_kernels *nibble_kernels_at(size_t index) {
  for (size_t i = 0; i < SETS; i++)
    if (sets[i]->runs_here() && index-- == 0) return sets[i];
  return 0;
}

const nibble_kernels *nibble_kernels_named(const char *name) {
  for (size_t i = 0; i < SETS; i++)
    if (strcmp(sets[i]->name, name) == 0 && sets[i]->runs_here()) return sets[i];
  return 0;
}

static const nibble_kernels *choose(void) {
  const char *name = getenv("NIBBLE_ISA");
  const nibble_kernels *found = name ? nibble_kernels_named(name) : 0;
  for (size_t i = SETS; !found; i--)
    if (sets[i - 1]->runs_here()) found = sets[i - 1];
  return found;
}

const nibble_kernels *nibble_kernels_here(void) {
  // Threads that race here choose the same set.
  static _Atomic(const nibble_kernels *) chosen;
  const nibble_kernels *kernels = atomic_load_explicit(&chosen, memory_order_acquire);
  if (!kernels) {
    kernels = choose();
    atomic_store_explicit(&chosen, kernels, memory_order_release);
  }
  return kernels;
}

// MARK: the functions of nibble.h

#define CALL(result, name, parameters, arguments)                                                  \
  result nibble_##name parameters { return nibble_kernels_here()->name arguments; }
NIBBLE_LOOPS(CALL)

void nibble_panels_integers(const nibble_inputs *x, const nibble_panels *w, size_t first,
                            size_t count, float *y, size_t y_stride, void *scratch) {
  nibble_kernels_here()->panels_integers(x, w, first, count, y, y_stride, scratch);
}

void nibble_panels_floats(const nibble_inputs *x, const nibble_panels *w, size_t first,
                          size_t count, float *y, size_t y_stride) {
  nibble_kernels_here()->panels_floats(x, w, first, count, y, y_stride);
}

size_t nibble_panels_scratch(size_t columns) {
  return nibble_kernels_here()->panels_scratch(columns);
}

int nibble_tile_products(void) { return nibble_kernels_here()->tile_products(); }
double nibble_peak_f32(size_t rounds) { return nibble_kernels_here()->peak_f32(rounds); }
double nibble_peak_bf16(size_t rounds) { return nibble_kernels_here()->peak_bf16(rounds); }
double nibble_peak_int8(size_t rounds) { return nibble_kernels_here()->peak_int8(rounds); }

// MARK: data layout, the same for every set

size_t nibble_panel_bytes(size_t rows, size_t columns, int format) {
  return (rows + PANEL - 1) / PANEL * panel_tiles(columns) * (format == NIBBLE_INT4 ? 512 : 1024);
}

size_t nibble_cache_bytes(int format, size_t head) {
  const int has_scales = format == NIBBLE_CACHE_INT8 || format == NIBBLE_CACHE_E4M3;
  return code_bytes(format, head) + (has_scales ? PAGE * sizeof(float) : 0);
}
