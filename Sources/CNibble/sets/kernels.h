#ifndef NIBBLE_SETS_KERNELS_H
#define NIBBLE_SETS_KERNELS_H

/// Included first by the file of each set: headers whose functions must not be compiled for that
/// set.
#include <float.h>
#include <math.h>
#include <string.h>

#include "../loops/lanes.h"
#include "../loops/pages.h"
#include "nibble_kernels.h"
#include "panels.h"

// Independent chains of sums: more than latency times units of any processor, and no more than
// sixteen registers hold beside the factors.
#define CHAINS 12

static inline int no_tiles(void) { return 0; }
static inline double no_peak(size_t rounds) { return (void)rounds, 0; }

#if defined(__x86_64__)

#include <immintrin.h>

/// Keeps the compiler from computing the products at compile time.
#define KEEP(value) __asm__ volatile("" : "+v"(value))

/// Defines a peak measurement: `rounds` steps of each chain. STEP is `sum[c] += a * b` and computes
/// `products` products.
#define PEAK(NAME, VECTOR, ZERO, STEP, products)                                                   \
  static double NAME(size_t rounds) {                                                              \
    VECTOR sum[CHAINS], a = ZERO, b = ZERO;                                                        \
    KEEP(a);                                                                                       \
    KEEP(b);                                                                                       \
    for (int c = 0; c < CHAINS; c++) sum[c] = ZERO;                                                \
    for (size_t r = 0; r < rounds; r++)                                                            \
      _Pragma("clang loop unroll(full)") for (int c = 0; c < CHAINS; c++) {                        \
        KEEP(a);                                                                                   \
        sum[c] = STEP;                                                                             \
        KEEP(sum[c]);                                                                              \
      }                                                                                            \
    return 2.0 * CHAINS * (products) * (double)rounds;                                             \
  }

#endif

#endif
