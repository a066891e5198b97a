#include "nibble.h"
#include "tile_block.h"

#if defined(__x86_64__) && defined(__linux__)

/// Tile products by AVX-512's dot product of bfloat16 pairs, for processors without AMX. Floats in
/// one part only.
#define TARGET                                                                                     \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma"),                      \
                 min_vector_width(512)))
#define NAMED(name) nibble_dots_##name

static inline void begin(void) {}
static inline void end(void) {}

/// The products of 8 rows with two columns of tiles.
TARGET static inline __attribute__((always_inline)) void eight_rows(const char *a, const char *b0,
                                                                    const char *b1, size_t depth,
                                                                    char *left, char *right,
                                                                    size_t stride) {
  __m512 sums[8][2];
  for (int r = 0; r < 8; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  for (size_t k = 0; k < depth; k++, a += TILE, b0 += TILE, b1 += TILE) {
    for (int pair = 0; pair < 16; pair++) {
      const __m512bh l = (__m512bh)_mm512_loadu_si512(b0 + pair * TILE_BYTES);
      const __m512bh h = (__m512bh)_mm512_loadu_si512(b1 + pair * TILE_BYTES);
      for (int r = 0; r < 8; r++) {
        int32_t unit;
        __builtin_memcpy(&unit, a + r * TILE_BYTES + pair * 4, 4);
        const __m512bh x = (__m512bh)_mm512_set1_epi32(unit);
        sums[r][0] = _mm512_dpbf16_ps(sums[r][0], x, l);
        sums[r][1] = _mm512_dpbf16_ps(sums[r][1], x, h);
      }
    }
  }
  for (int r = 0; r < 8; r++) {
    _mm512_storeu_ps(left + r * stride, sums[r][0]);
    _mm512_storeu_ps(right + r * stride, sums[r][1]);
  }
}

TARGET static inline __attribute__((always_inline)) void block_sums(
    const char *a0, const char *a1, const char *b0, const char *b1, size_t depth, int a_parts,
    int b_parts, int is_integer, void *s0, void *s1, void *s2, void *s3, size_t stride) {
  if (a_parts != 1 || b_parts != 1 || is_integer) __builtin_trap();
  const size_t half = 8 * TILE_BYTES;
  eight_rows(a0, b0, b1, depth, s0, s1, stride);
  eight_rows(a0 + half, b0, b1, depth, (char *)s0 + 8 * stride, (char *)s1 + 8 * stride, stride);
  eight_rows(a1, b0, b1, depth, s2, s3, stride);
  eight_rows(a1 + half, b0, b1, depth, (char *)s2 + 8 * stride, (char *)s3 + 8 * stride, stride);
}

#include "tile_products.h"

#endif
