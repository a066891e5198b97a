#include "tile_block.h"
#include "nibble.h"

#include <string.h>

size_t nibble_packed_bytes(size_t rows, size_t row_bytes) {
  return up_to(rows, TILE_ROWS) * up_to(row_bytes, TILE_BYTES) * TILE;
}

void nibble_pack_a(const void *in, void *out, size_t rows, size_t row_bytes) {
  char *tile = out;
  for (size_t r = 0; r < rows; r += TILE_ROWS) {
    for (size_t k = 0; k < row_bytes; k += TILE_BYTES, tile += TILE) {
      size_t width = row_bytes - k < TILE_BYTES ? row_bytes - k : TILE_BYTES;
      size_t height = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
      if (width < TILE_BYTES || height < TILE_ROWS) memset(tile, 0, TILE);
      for (size_t i = 0; i < height; i++)
        memcpy(tile + i * TILE_BYTES, (const char *)in + (r + i) * row_bytes + k, width);
    }
  }
}

#if defined(__x86_64__) && defined(__linux__)

/// Transposes 16 x 16 units of 4 bytes.
WIDE static void transpose_tile(const __m512i *in, __m512i *out) {
  __m512i a[16], b[16];
  for (int i = 0; i < 8; i++) {
    a[2 * i] = _mm512_unpacklo_epi32(in[2 * i], in[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi32(in[2 * i], in[2 * i + 1]);
  }
  for (int i = 0; i < 4; i++) {
    b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
    b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
    b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
    b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    a[i] = _mm512_shuffle_i32x4(b[i], b[i + 4], 0x88);
    a[i + 4] = _mm512_shuffle_i32x4(b[i], b[i + 4], 0xDD);
    a[i + 8] = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0x88);
    a[i + 12] = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0xDD);
  }
  for (int i = 0; i < 4; i++) {
    out[i] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0x88);
    out[i + 8] = _mm512_shuffle_i32x4(a[i], a[i + 8], 0xDD);
    out[i + 4] = _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0x88);
    out[i + 12] = _mm512_shuffle_i32x4(a[i + 4], a[i + 12], 0xDD);
  }
}

WIDE void nibble_pack_b(const void *in, void *out, size_t rows, size_t row_bytes) {
  char *tile = out;
  for (size_t r = 0; r < rows; r += TILE_ROWS) {
    for (size_t k = 0; k < row_bytes; k += TILE_BYTES, tile += TILE) {
      size_t width = row_bytes - k < TILE_BYTES ? row_bytes - k : TILE_BYTES;
      size_t height = rows - r < TILE_ROWS ? rows - r : TILE_ROWS;
      __mmask64 mask = width == TILE_BYTES ? ~0ull : (1ull << width) - 1;
      __m512i block[16], turned[16];
      for (size_t i = 0; i < TILE_ROWS; i++)
        block[i] = i < height ? _mm512_maskz_loadu_epi8(
                                    mask, (const char *)in + (r + i) * row_bytes + k)
                              : _mm512_setzero_si512();
      transpose_tile(block, turned);
      for (int i = 0; i < TILE_ROWS; i++) _mm512_storeu_si512(tile + i * TILE_BYTES, turned[i]);
    }
  }
}

// MARK: floats as bfloat16 parts

/// Splits off the next bfloat16 part of 32 floats, which keep the remainder.
INLINE __m512i next_part(__m512 *low, __m512 *high, int last) {
  __m512i a = bfloats(*low), b = bfloats(*high);
  if (!last) {
    *low = _mm512_sub_ps(*low, widened(a));
    *high = _mm512_sub_ps(*high, widened(b));
  }
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)),
                            _mm512_cvtepi32_epi16(b), 1);
}

/// Loads 32 floats; those from `count` on are zero.
INLINE void load_floats(const float *in, size_t count, __m512 *low, __m512 *high) {
  *low = _mm512_maskz_loadu_ps(lanes(count), in);
  *high = count > 16 ? _mm512_maskz_loadu_ps(lanes(count - 16), in + 16) : _mm512_setzero_ps();
}

WIDE void nibble_pack_a_floats(const float *in, void *out, size_t rows, size_t columns,
                                size_t stride, int parts) {
  const size_t row_step = up_to(columns, 32) * TILE * parts;
  for (size_t r = 0; r < up_to(rows, TILE_ROWS) * TILE_ROWS; r++) {
    char *line = (char *)out + r / TILE_ROWS * row_step + r % TILE_ROWS * TILE_BYTES;
    for (size_t k = 0; k < columns; k += 32) {
      __m512 low, high;
      load_floats(in + r * stride + k, r < rows ? columns - k : 0, &low, &high);
      for (int part = 0; part < parts; part++, line += TILE)
        _mm512_storeu_si512(line, next_part(&low, &high, part + 1 == parts));
    }
  }
}

WIDE void nibble_pack_b_floats(const float *in, void *out, size_t rows, size_t columns,
                                int parts) {
  char *tile = out;
  for (size_t r = 0; r < rows; r += TILE_ROWS) {
    for (size_t k = 0; k < columns; k += 32, tile += TILE * parts) {
      __m512i block[3][16], turned[16];
      for (size_t i = 0; i < TILE_ROWS; i++) {
        __m512 low, high;
        load_floats(in + (r + i) * columns + k, r + i < rows ? columns - k : 0, &low, &high);
        for (int part = 0; part < parts; part++)
          block[part][i] = next_part(&low, &high, part + 1 == parts);
      }
      for (int part = 0; part < parts; part++) {
        transpose_tile(block[part], turned);
        for (int i = 0; i < TILE_ROWS; i++)
          _mm512_storeu_si512(tile + part * TILE + i * TILE_BYTES, turned[i]);
      }
    }
  }
}

WIDE void nibble_pack_b_columns(const float *in, void *out, size_t depth, size_t columns,
                                 size_t out_step, int parts) {
  for (size_t k = 0; k < up_to(depth, 32) * 32; k += 2) {
    char *line = (char *)out + k / 32 * TILE * parts + k % 32 / 2 * TILE_BYTES;
    for (size_t c = 0; c < columns; c += 16, line += out_step) {
      const float *at = in + k * columns + c;
      __m512 even = _mm512_maskz_loadu_ps(k < depth ? lanes(columns - c) : 0, at);
      __m512 odd = _mm512_maskz_loadu_ps(k + 1 < depth ? lanes(columns - c) : 0, at + columns);
      for (int part = 0; part < parts; part++) {
        __m512i a = bfloats(even), b = bfloats(odd);
        _mm512_storeu_si512(line + part * TILE, _mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
        even = _mm512_sub_ps(even, widened(a));
        odd = _mm512_sub_ps(odd, widened(b));
      }
    }
  }
}

WIDE void nibble_turn_tiles(const void *in, void *out, size_t bytes) {
  for (size_t tile = 0; tile < bytes; tile += TILE) {
    __m512i block[16], turned[16];
    for (int i = 0; i < TILE_ROWS; i++)
      block[i] = _mm512_loadu_si512((const char *)in + tile + i * TILE_BYTES);
    transpose_tile(block, turned);
    for (int i = 0; i < TILE_ROWS; i++)
      _mm512_storeu_si512((char *)out + tile + i * TILE_BYTES, turned[i]);
  }
}

// MARK: attention's softmax

/// 2^x for x <= 0 within 2 ulp; 0 below the smallest float.
INLINE __m512 power_of_two(__m512 x) {
  __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 rest = _mm512_sub_ps(x, whole);
  __m512 sum = _mm512_set1_ps(1.5353362e-4f);
  sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.3398874e-3f));
  sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(9.6184370e-3f));
  sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(5.5503324e-2f));
  sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(2.4022648e-1f));
  sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(6.9314720e-1f));
  sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(sum, whole);
}

/// Mask of the 16 columns from c on that lie in start..<end.
INLINE __mmask16 between(size_t c, size_t start, size_t end) {
  __mmask16 before_end = c < end ? lanes(end - c) : 0;
  __mmask16 before_start = c < start ? lanes(start - c) : 0;
  return before_end & ~before_start;
}

INLINE void exponentials(const float *scores, size_t stride, char *out, float *factors, size_t m,
                         size_t columns, size_t seen, size_t window, float scale, int parts) {
  const size_t out_step = up_to(columns, 32) * TILE * parts;
  const __m512 factor = _mm512_set1_ps(scale * 1.44269504f);
  for (size_t r = 0; r < m; r++) {
    const float *row = scores + r * stride;
    const size_t end = seen + r, start = end > window ? end - window : 0;
    __m512 peaks = _mm512_set1_ps(row[start]);
    for (size_t c = start / 16 * 16; c < end; c += 16)
      peaks = _mm512_mask_max_ps(peaks, between(c, start, end), peaks, _mm512_load_ps(row + c));
    const __m512 peak = _mm512_set1_ps(_mm512_reduce_max_ps(peaks));
    char *line = out + r / 16 * out_step + r % 16 * TILE_BYTES;
    __m512 sums = _mm512_setzero_ps(), sums2 = _mm512_setzero_ps();
    for (size_t c = 0; c < columns; c += 32) {
      __m512 low = _mm512_setzero_ps(), high = low;
      if (c + 32 > start && c < end) {
        low = _mm512_maskz_mov_ps(
            between(c, start, end),
            power_of_two(_mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(row + c), peak), factor)));
        high = _mm512_maskz_mov_ps(
            between(c + 16, start, end),
            power_of_two(_mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(row + c + 16), peak), factor)));
        sums = _mm512_add_ps(sums, low);
        sums2 = _mm512_add_ps(sums2, high);
      }
      for (int part = 0; part < parts; part++, line += TILE)
        _mm512_storeu_si512(line, next_part(&low, &high, part + 1 == parts));
    }
    factors[r] = 1.0f / _mm512_reduce_add_ps(_mm512_add_ps(sums, sums2));
  }
}

WIDE void nibble_tiles_softmax(const float *scores, size_t stride, void *out, float *factors,
                                size_t m, size_t columns, size_t seen, size_t window, float scale,
                                int parts) {
  if (parts == 1)
    exponentials(scores, stride, out, factors, m, columns, seen, window, scale, 1);
  else
    exponentials(scores, stride, out, factors, m, columns, seen, window, scale, 3);
}


// MARK: the choice of products

#define DECLARE(SET)                                                                               \
  void nibble_##SET##_floats(const void *a, const void *b, float *y, size_t m, size_t n,           \
                             size_t depth, int a_parts, int b_parts, size_t b_step,                \
                             size_t y_stride, const float *row_scale, const float *column_scale);  \
  void nibble_##SET##_gated(const void *a, const void *gate, const void *up, void *out, size_t m,  \
                            size_t n, size_t depth, int a_parts, int b_parts, size_t b_step,       \
                            size_t out_step);                                                      \
  void nibble_##SET##_bf16_groups(const void *a, const void *b, float *y, size_t m, size_t n,      \
                                  size_t row_bytes, size_t b_step, size_t y_stride,                \
                                  const nibble_groups *groups);
DECLARE(amx)
DECLARE(dots)
void nibble_amx_s8(const void *a, const void *b, float *y, size_t m, size_t n, size_t depth,
                   size_t b_step, size_t y_stride, const float *row_scale,
                   const float *column_scale);

void nibble_tiles_floats(const void *a, const void *b, float *y, size_t m, size_t n, size_t depth,
                         int a_parts, int b_parts, size_t b_step, size_t y_stride,
                         const float *row_scale, const float *column_scale) {
  (nibble_tile_products() == NIBBLE_TILES_AMX ? nibble_amx_floats : nibble_dots_floats)(
      a, b, y, m, n, depth, a_parts, b_parts, b_step, y_stride, row_scale, column_scale);
}

void nibble_tiles_gated(const void *a, const void *gate, const void *up, void *out, size_t m,
                        size_t n, size_t depth, int a_parts, int b_parts, size_t b_step,
                        size_t out_step) {
  (nibble_tile_products() == NIBBLE_TILES_AMX ? nibble_amx_gated : nibble_dots_gated)(
      a, gate, up, out, m, n, depth, a_parts, b_parts, b_step, out_step);
}

void nibble_tiles_bf16_groups(const void *a, const void *b, float *y, size_t m, size_t n,
                              size_t row_bytes, size_t b_step, size_t y_stride,
                              const nibble_groups *groups) {
  (nibble_tile_products() == NIBBLE_TILES_AMX ? nibble_amx_bf16_groups : nibble_dots_bf16_groups)(
      a, b, y, m, n, row_bytes, b_step, y_stride, groups);
}

void nibble_tiles_s8(const void *a, const void *b, float *y, size_t m, size_t n, size_t depth,
                     size_t b_step, size_t y_stride, const float *row_scale,
                     const float *column_scale) {
  nibble_amx_s8(a, b, y, m, n, depth, b_step, y_stride, row_scale, column_scale);
}

#else

void nibble_turn_tiles(const void *in, void *out, size_t bytes) {
  (void)in, (void)out, (void)bytes;
}

// Never called, since nibble_tile_products returns 0.

void nibble_pack_b(const void *in, void *out, size_t rows, size_t row_bytes) {
  (void)in, (void)out, (void)rows, (void)row_bytes;
  __builtin_trap();
}

void nibble_pack_a_floats(const float *in, void *out, size_t rows, size_t columns, size_t stride,
                          int parts) {
  (void)in, (void)out, (void)rows, (void)columns, (void)stride, (void)parts;
  __builtin_trap();
}

void nibble_pack_b_floats(const float *in, void *out, size_t rows, size_t columns, int parts) {
  (void)in, (void)out, (void)rows, (void)columns, (void)parts;
  __builtin_trap();
}

void nibble_pack_b_columns(const float *in, void *out, size_t depth, size_t columns,
                           size_t out_step, int parts) {
  (void)in, (void)out, (void)depth, (void)columns, (void)out_step, (void)parts;
  __builtin_trap();
}

void nibble_tiles_floats(const void *a, const void *b, float *y, size_t m, size_t n, size_t depth,
                         int a_parts, int b_parts, size_t b_step, size_t y_stride,
                         const float *row_scale, const float *column_scale) {
  (void)a, (void)b, (void)y, (void)m, (void)n, (void)depth, (void)a_parts, (void)b_parts;
  (void)b_step, (void)y_stride, (void)row_scale, (void)column_scale;
  __builtin_trap();
}

void nibble_tiles_s8(const void *a, const void *b, float *y, size_t m, size_t n, size_t depth,
                     size_t b_step, size_t y_stride, const float *row_scale,
                     const float *column_scale) {
  nibble_tiles_floats(a, b, y, m, n, depth, 1, 1, b_step, y_stride, row_scale, column_scale);
}

void nibble_tiles_gated(const void *a, const void *gate, const void *up, void *out, size_t m,
                        size_t n, size_t depth, int a_parts, int b_parts, size_t b_step,
                        size_t out_step) {
  (void)a, (void)gate, (void)up, (void)out, (void)m, (void)n, (void)depth, (void)a_parts;
  (void)b_parts, (void)b_step, (void)out_step;
  __builtin_trap();
}

void nibble_tiles_softmax(const float *scores, size_t stride, void *out, float *factors, size_t m,
                          size_t columns, size_t seen, size_t window, float scale, int parts) {
  (void)scores, (void)stride, (void)out, (void)factors, (void)m, (void)columns, (void)seen;
  (void)window, (void)scale, (void)parts;
  __builtin_trap();
}

void nibble_tiles_bf16_groups(const void *a, const void *b, float *y, size_t m, size_t n,
                              size_t row_bytes, size_t b_step, size_t y_stride,
                              const nibble_groups *groups) {
  (void)groups;
  (void)a, (void)b, (void)y, (void)m, (void)n, (void)row_bytes, (void)b_step, (void)y_stride;
  __builtin_trap();
}

#endif
