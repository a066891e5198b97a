#include "nibble.h"
#include "tile_block.h"

#if defined(__x86_64__) && defined(__linux__)

#define TARGET                                                                                     \
  __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,fma"),      \
                 min_vector_width(512)))
#define NAMED(name) nibble_amx_##name

struct tile_config {
  uint8_t palette, start_row, reserved[14];
  uint16_t column_bytes[16];
  uint8_t rows[16];
};

TARGET static void begin(void) {
  struct tile_config config;
  __builtin_memset(&config, 0, sizeof config);
  config.palette = 1;
  for (int i = 0; i < 8; i++) {
    config.column_bytes[i] = TILE_BYTES;
    config.rows[i] = TILE_ROWS;
  }
  _tile_loadconfig(&config);
}

TARGET static inline void end(void) { _tile_release(); }

#define LOAD_A(PART)                                                                               \
  _tile_loadd(4, a0 + (PART)*TILE, TILE_BYTES);                                                    \
  _tile_loadd(5, a1 + (PART)*TILE, TILE_BYTES);
#define LOAD_B(PART)                                                                               \
  _tile_loadd(6, b0 + (PART)*TILE, TILE_BYTES);                                                    \
  _tile_loadd(7, b1 + (PART)*TILE, TILE_BYTES);
#define MULTIPLY(PRODUCT)                                                                          \
  PRODUCT(0, 4, 6);                                                                                \
  PRODUCT(1, 4, 7);                                                                                \
  PRODUCT(2, 5, 6);                                                                                \
  PRODUCT(3, 5, 7);

/// For floats in parts, takes the products of parts i and j with i + j <= 2; the others are below
/// 2^-24 of the first. Larger ones come first, so that a value times 1 is exact.
TARGET static inline __attribute__((always_inline)) void block_sums(
    const char *a0, const char *a1, const char *b0, const char *b1, size_t depth, int a_parts,
    int b_parts, int is_integer, void *s0, void *s1, void *s2, void *s3, size_t stride) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (size_t k = 0; k < depth; k++) {
    LOAD_B(0) LOAD_A(0)
    if (is_integer) {
      MULTIPLY(_tile_dpbssd)
    } else {
      MULTIPLY(_tile_dpbf16ps)
      if (b_parts > 1) {
        LOAD_B(1) MULTIPLY(_tile_dpbf16ps)
      }
      if (b_parts > 2) {
        LOAD_B(2) MULTIPLY(_tile_dpbf16ps)
      }
      if (a_parts > 1) {
        LOAD_A(1)
        if (b_parts > 1) {
          LOAD_B(1) MULTIPLY(_tile_dpbf16ps)
          LOAD_B(0)
        }
        MULTIPLY(_tile_dpbf16ps)
        LOAD_A(2) MULTIPLY(_tile_dpbf16ps)
      }
    }
    a0 += TILE * a_parts, a1 += TILE * a_parts, b0 += TILE * b_parts, b1 += TILE * b_parts;
  }
  _tile_stored(0, s0, stride);
  _tile_stored(1, s1, stride);
  _tile_stored(2, s2, stride);
  _tile_stored(3, s3, stride);
}

#include "tile_products.h"

TARGET void nibble_amx_s8(const void *a, const void *b, float *y, size_t m, size_t n, size_t depth,
                          size_t b_step, size_t y_stride, const float *row_scale,
                          const float *column_scale) {
  multiply_tiles(a, b, y, m, n, up_to(depth, 64), 1, 1, 1, b_step, y_stride, row_scale,
                 column_scale);
}

// MARK: limits of this machine

/// Uses four tiles of sums, as many as two input and two weight tiles leave free, with `rounds`
/// products each.
#define PEAK(NAME, DOT, products)                                                                  \
  TARGET double NAME(size_t rounds) {                                                              \
    begin();                                                                                       \
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);                                    \
    _tile_zero(4), _tile_zero(5), _tile_zero(6), _tile_zero(7);                                    \
    for (size_t r = 0; r < rounds; r++) {                                                          \
      MULTIPLY(DOT)                                                                                \
    }                                                                                              \
    end();                                                                                         \
    return 2.0 * 4 * 16 * 16 * (products) * (double)rounds;                                        \
  }

PEAK(nibble_amx_peak_bf16, _tile_dpbf16ps, 32)
PEAK(nibble_amx_peak_int8, _tile_dpbssd, 64)

#endif
