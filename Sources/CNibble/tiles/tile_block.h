#ifndef NIBBLE_TILE_BLOCK_H
#define NIBBLE_TILE_BLOCK_H

/// Shared by all tile products. A tile is 16 rows of 64 bytes.

#include <stddef.h>
#include <stdint.h>

#define TILE_ROWS 16
#define TILE_BYTES 64
#define TILE (TILE_ROWS * TILE_BYTES)

static inline size_t up_to(size_t value, size_t unit) { return (value + unit - 1) / unit; }

#if defined(__x86_64__) && defined(__linux__)

#include <immintrin.h>

#include "../loops/lanes.h"

#define WIDE                                                                                       \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"), min_vector_width(512)))
#define INLINE WIDE static inline __attribute__((always_inline, unused))

INLINE __mmask16 lanes(size_t count) {
  return count >= 16 ? 0xFFFF : (__mmask16)((1u << count) - 1);
}

/// Rounds floats to bfloat16, half to even, in the lower halves; NaN stays NaN.
INLINE __m512i bfloats(__m512 x) {
  __m512i bits = _mm512_castps_si512(x);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_srli_epi32(rounded, 16);
}

INLINE __m512 widened(__m512i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(halves, 16));
}

/// Writes the used part of one 16 x 16 block of sums, scaled.
INLINE void write_block(const void *sums, int is_integer, float *y, size_t m, size_t n,
                        size_t y_stride, const float *row_scale, const float *column_scale) {
  __mmask16 mask = lanes(n);
  __m512 columns =
      column_scale ? _mm512_maskz_loadu_ps(mask, column_scale) : _mm512_set1_ps(1.0f);
  for (size_t i = 0; i < (m < 16 ? m : 16); i++) {
    const char *row = (const char *)sums + i * TILE_BYTES;
    __m512 value = is_integer ? _mm512_cvtepi32_ps(_mm512_load_si512(row)) : _mm512_load_ps(row);
    if (row_scale) value = _mm512_mul_ps(value, _mm512_set1_ps(row_scale[i]));
    _mm512_mask_storeu_ps(y + i * y_stride, mask, _mm512_mul_ps(value, columns));
  }
}

/// Writes silu(gate) * up of one 16 x 16 block, split into parts, to one half of the lines of a
/// tile.
INLINE void write_gated(const float *gate, const float *up, char *out, int parts) {
  _Alignas(64) float values[TILE / 4];
  for (int i = 0; i < TILE / 4; i++) values[i] = gate[i] / (1.0f + exp_lane(-gate[i])) * up[i];
  for (int i = 0; i < TILE_ROWS; i++) {
    __m512 rest = _mm512_load_ps(values + 16 * i);
    for (int part = 0; part < parts; part++) {
      __m512i halves = bfloats(rest);
      rest = _mm512_sub_ps(rest, widened(halves));
      _mm256_storeu_si256((__m256i *)(out + part * TILE + i * TILE_BYTES),
                          _mm512_cvtepi32_epi16(halves));
    }
  }
}

/// Adds one 16 x 16 block of a group's sums, scaled, to a panel of 32 columns; the first group
/// overwrites. Rows beyond m are not written; columns beyond n get zeros.
INLINE void add_block(const float *sums, float *panel, size_t m, size_t n, const float *row_scale,
                      const float *column_scale, int is_first) {
  const __m512 columns = _mm512_maskz_loadu_ps(lanes(n), column_scale);
  for (size_t i = 0; i < (m < 16 ? m : 16); i++) {
    __m512 value = _mm512_load_ps(sums + i * TILE_ROWS);
    value = _mm512_mul_ps(_mm512_mul_ps(value, _mm512_set1_ps(row_scale[i])), columns);
    if (!is_first) value = _mm512_add_ps(_mm512_load_ps(panel + i * 32), value);
    _mm512_store_ps(panel + i * 32, value);
  }
}

#endif

#endif
