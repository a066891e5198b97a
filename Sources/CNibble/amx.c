#include "nibble.h"
#include "variants.h"

#include <string.h>

#define TILE_ROWS 16
#define TILE_BYTES 64
#define TILE (TILE_ROWS * TILE_BYTES)

static size_t up_to(size_t value, size_t unit) { return (value + unit - 1) / unit; }

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

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TILES                                                                                      \
  __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,fma"),      \
                 min_vector_width(512)))
#define INLINE TILES static inline __attribute__((always_inline))

int nibble_has_tiles(void) {
  static int answer = -1;
  if (answer < 0) {
    const long request_permission = 0x1023, tile_data = 18;
    answer = __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
             __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("avx512bw") &&
             syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  }
  return answer;
}

/// Transposes 16 x 16 units of 4 bytes.
TILES static void transpose_tile(const __m512i *in, __m512i *out) {
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

TILES void nibble_pack_b(const void *in, void *out, size_t rows, size_t row_bytes) {
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

/// The nearest bfloat16 of each float, half to even, in the lower halves; NaN stays NaN.
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

/// The next part of 32 floats, which keep what it leaves over.
INLINE __m512i next_part(__m512 *low, __m512 *high, int last) {
  __m512i a = bfloats(*low), b = bfloats(*high);
  if (!last) {
    *low = _mm512_sub_ps(*low, widened(a));
    *high = _mm512_sub_ps(*high, widened(b));
  }
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(a)),
                            _mm512_cvtepi32_epi16(b), 1);
}

INLINE __mmask16 lanes(size_t count) {
  return count >= 16 ? 0xFFFF : (__mmask16)((1u << count) - 1);
}

/// 32 floats, those from `count` on zero.
INLINE void load_floats(const float *in, size_t count, __m512 *low, __m512 *high) {
  *low = _mm512_maskz_loadu_ps(lanes(count), in);
  *high = count > 16 ? _mm512_maskz_loadu_ps(lanes(count - 16), in + 16) : _mm512_setzero_ps();
}

TILES void nibble_pack_a_floats(const float *in, void *out, size_t rows, size_t columns,
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

TILES void nibble_pack_b_floats(const float *in, void *out, size_t rows, size_t columns,
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

TILES void nibble_pack_b_columns(const float *in, void *out, size_t depth, size_t columns,
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

TILES void nibble_turn_tiles(const void *in, void *out, size_t bytes) {
  for (size_t tile = 0; tile < bytes; tile += TILE) {
    __m512i block[16], turned[16];
    for (int i = 0; i < TILE_ROWS; i++)
      block[i] = _mm512_loadu_si512((const char *)in + tile + i * TILE_BYTES);
    transpose_tile(block, turned);
    for (int i = 0; i < TILE_ROWS; i++)
      _mm512_storeu_si512((char *)out + tile + i * TILE_BYTES, turned[i]);
  }
}

// MARK: products

struct tile_config {
  uint8_t palette, start_row, reserved[14];
  uint16_t column_bytes[16];
  uint8_t rows[16];
};

TILES static void configure_tiles(void) {
  struct tile_config config;
  memset(&config, 0, sizeof config);
  config.palette = 1;
  for (int i = 0; i < 8; i++) {
    config.column_bytes[i] = TILE_BYTES;
    config.rows[i] = TILE_ROWS;
  }
  _tile_loadconfig(&config);
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

/// Tiles 0...3 = [a0; a1] times [b0, b1], with whole tiles along the depth. Of floats in parts the
/// products above 2^-24 of the first are taken: those whose places add up to 2 at most, the larger
/// first, so that one value times 1 stays itself.
INLINE void multiply_floats(const char *a0, const char *a1, const char *b0, const char *b1,
                            size_t depth, int a_parts, int b_parts) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (size_t k = 0; k < depth; k++) {
    LOAD_B(0) LOAD_A(0) MULTIPLY(_tile_dpbf16ps)
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
    a0 += TILE * a_parts, a1 += TILE * a_parts, b0 += TILE * b_parts, b1 += TILE * b_parts;
  }
}

INLINE void multiply_integers(const char *a0, const char *a1, const char *b0, const char *b1,
                              size_t depth) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (size_t k = 0; k < depth; k++) {
    LOAD_B(0) LOAD_A(0) MULTIPLY(_tile_dpbssd)
    a0 += TILE, a1 += TILE, b0 += TILE, b1 += TILE;
  }
}

INLINE void multiply_tiles(const char *a, const char *b, float *y, size_t m, size_t n,
                           size_t depth, int a_parts, int b_parts, int is_integer, size_t b_step,
                           size_t y_stride, const float *row_scale, const float *column_scale) {
  const size_t a_step = depth * TILE * a_parts;
  _Alignas(64) char sums[4][TILE];
  configure_tiles();
  for (size_t c = 0; c < n; c += 32) {
    const char *b0 = b + c / 16 * b_step;
    const char *b1 = c + 16 < n ? b0 + b_step : b0;
    for (size_t r = 0; r < m; r += 32) {
      const char *a0 = a + r / 16 * a_step;
      const char *a1 = r + 16 < m ? a0 + a_step : a0;
      float *out = y + r * y_stride + c;
      if (is_integer)
        multiply_integers(a0, a1, b0, b1, depth);
      else
        multiply_floats(a0, a1, b0, b1, depth, a_parts, b_parts);
      if (!is_integer && !row_scale && !column_scale && r + 32 <= m && c + 32 <= n) {
        _tile_stored(0, out, y_stride * 4);
        _tile_stored(1, out + 16, y_stride * 4);
        _tile_stored(2, out + 16 * y_stride, y_stride * 4);
        _tile_stored(3, out + 16 * y_stride + 16, y_stride * 4);
        continue;
      }
      _tile_stored(0, sums[0], TILE_BYTES);
      _tile_stored(1, sums[1], TILE_BYTES);
      _tile_stored(2, sums[2], TILE_BYTES);
      _tile_stored(3, sums[3], TILE_BYTES);
      for (size_t i = 0; i < 4; i++) {
        size_t down = i / 2 * 16, right = i % 2 * 16;
        if (r + down < m && c + right < n)
          write_block(sums[i], is_integer, out + down * y_stride + right, m - r - down,
                      n - c - right, y_stride, row_scale ? row_scale + r + down : 0,
                      column_scale ? column_scale + c + right : 0);
      }
    }
  }
  _tile_release();
}

TILES void nibble_tiles_floats(const void *a, const void *b, float *y, size_t m, size_t n,
                               size_t depth, int a_parts, int b_parts, size_t b_step,
                               size_t y_stride, const float *row_scale,
                               const float *column_scale) {
  const size_t tiles = up_to(depth, 32);
#define RUN(A, B)                                                                                  \
  multiply_tiles(a, b, y, m, n, tiles, A, B, 0, b_step, y_stride, row_scale, column_scale)
  if (a_parts == 1)
    RUN(1, 1);
  else if (b_parts == 1)
    RUN(3, 1);
  else if (b_parts == 2)
    RUN(3, 2);
  else
    RUN(3, 3);
#undef RUN
}

TILES void nibble_tiles_s8(const void *a, const void *b, float *y, size_t m, size_t n,
                           size_t depth, size_t b_step, size_t y_stride, const float *row_scale,
                           const float *column_scale) {
  multiply_tiles(a, b, y, m, n, up_to(depth, 64), 1, 1, 1, b_step, y_stride, row_scale,
                 column_scale);
}

// MARK: the gated product

/// The parts of silu(gate) * up, of one 16 x 16 block, into one half of the lines of a tile.
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

INLINE void multiply_gated(const char *a, const char *gate, const char *up, char *out, size_t m,
                           size_t n, size_t depth, int parts, int b_parts, size_t b_step,
                           size_t out_step) {
  const size_t a_step = depth * TILE * parts;
  _Alignas(64) float sums[4][TILE / 4];
  configure_tiles();
  for (size_t c = 0; c < up_to(n, 32) * 32; c += 16) {
    const int is_padding = c >= n;
    const char *b0 = gate + c / 16 * b_step, *b1 = up + c / 16 * b_step;
    for (size_t r = 0; r < m; r += 32) {
      const char *a0 = a + r / 16 * a_step;
      const char *a1 = r + 16 < m ? a0 + a_step : a0;
      if (is_padding) {
        memset(sums, 0, sizeof sums);
      } else {
        multiply_floats(a0, a1, b0, b1, depth, parts, b_parts);
        _tile_stored(0, sums[0], TILE_BYTES);
        _tile_stored(1, sums[1], TILE_BYTES);
        _tile_stored(2, sums[2], TILE_BYTES);
        _tile_stored(3, sums[3], TILE_BYTES);
      }
      char *line = out + r / 16 * out_step + c / 32 * TILE * parts + c % 32 * 2;
      write_gated(sums[0], sums[1], line, parts);
      if (r + 16 < m) write_gated(sums[2], sums[3], line + out_step, parts);
    }
  }
  _tile_release();
}

TILES void nibble_tiles_gated(const void *a, const void *gate, const void *up, void *out, size_t m,
                              size_t n, size_t depth, int a_parts, int b_parts, size_t b_step,
                              size_t out_step) {
  const size_t tiles = up_to(depth, 32);
#define RUN(A, B) multiply_gated(a, gate, up, out, m, n, tiles, A, B, b_step, out_step)
  if (a_parts == 1)
    RUN(1, 1);
  else if (b_parts == 1)
    RUN(3, 1);
  else if (b_parts == 2)
    RUN(3, 2);
  else
    RUN(3, 3);
#undef RUN
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

/// Which of 16 columns from c on lie in start..<end.
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

TILES void nibble_tiles_softmax(const float *scores, size_t stride, void *out, float *factors,
                                size_t m, size_t columns, size_t seen, size_t window, float scale,
                                int parts) {
  if (parts == 1)
    exponentials(scores, stride, out, factors, m, columns, seen, window, scale, 1);
  else
    exponentials(scores, stride, out, factors, m, columns, seen, window, scale, 3);
}

/// Adds one 16 x 16 block of a group's sums, scaled, to a panel of 32 columns; the first group
/// overwrites. Rows beyond m are left alone; columns beyond n get zeros.
TILES static inline void add_block(const void *sums, int is_integer, float *panel, size_t m,
                                   size_t n, const float *row_scale, const float *column_scale,
                                   const int32_t *column_offset, int is_first) {
  __mmask16 mask = n >= 16 ? 0xFFFF : (__mmask16)((1u << n) - 1);
  __m512 columns = _mm512_maskz_loadu_ps(mask, column_scale);
  __m512i offsets =
      column_offset ? _mm512_maskz_loadu_epi32(mask, column_offset) : _mm512_setzero_si512();
  for (size_t i = 0; i < (m < 16 ? m : 16); i++) {
    const char *row = (const char *)sums + i * TILE_BYTES;
    __m512 value =
        is_integer ? _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_load_si512(row), offsets))
                   : _mm512_load_ps(row);
    value = _mm512_mul_ps(_mm512_mul_ps(value, _mm512_set1_ps(row_scale[i])), columns);
    if (!is_first) value = _mm512_add_ps(_mm512_load_ps(panel + i * 32), value);
    _mm512_store_ps(panel + i * 32, value);
  }
}

#define GROUPED_TILE_PRODUCT(NAME, PRODUCT, IS_INTEGER)                                            \
  TILES void NAME(const void *a, const void *b, float *y, size_t m, size_t n, size_t row_bytes,    \
                  size_t b_step, size_t y_stride, const nibble_groups *groups) {                   \
    const size_t step = up_to(row_bytes, TILE_BYTES) * TILE;                                       \
    const size_t width = groups->bytes / TILE_BYTES * TILE;                                        \
    _Alignas(64) char sums[4][TILE];                                                               \
    /* Groups add up here: rows of y may be a power of two apart and share a cache set. */         \
    _Alignas(64) float panel[32 * 32];                                                             \
    configure_tiles();                                                                             \
    for (size_t c = 0; c < n; c += 32) {                                                           \
      const char *b0 = (const char *)b + c / 16 * b_step;                                          \
      const char *b1 = c + 16 < n ? b0 + b_step : b0;                                              \
      for (size_t r = 0; r < m; r += 32) {                                                         \
        const char *a0 = (const char *)a + r / 16 * step;                                          \
        const char *a1 = r + 16 < m ? a0 + step : a0;                                              \
        for (size_t g = 0; g * width < step; g++) {                                                \
          const size_t end = (g + 1) * width < step ? (g + 1) * width : step;                      \
          _tile_zero(0);                                                                           \
          _tile_zero(1);                                                                           \
          _tile_zero(2);                                                                           \
          _tile_zero(3);                                                                           \
          for (size_t k = g * width; k < end; k += TILE) {                                         \
            _tile_loadd(4, a0 + k, TILE_BYTES);                                                    \
            _tile_loadd(6, b0 + k, TILE_BYTES);                                                    \
            PRODUCT(0, 4, 6);                                                                      \
            _tile_loadd(7, b1 + k, TILE_BYTES);                                                    \
            PRODUCT(1, 4, 7);                                                                      \
            _tile_loadd(5, a1 + k, TILE_BYTES);                                                    \
            PRODUCT(2, 5, 6);                                                                      \
            PRODUCT(3, 5, 7);                                                                      \
          }                                                                                        \
          _tile_stored(0, sums[0], TILE_BYTES);                                                    \
          _tile_stored(1, sums[1], TILE_BYTES);                                                    \
          _tile_stored(2, sums[2], TILE_BYTES);                                                    \
          _tile_stored(3, sums[3], TILE_BYTES);                                                    \
          const float *row_scale = groups->row_scale + g / groups->row_span * groups->row_step;    \
          const float *column_scale =                                                              \
              groups->column_scale + g / groups->column_span * groups->column_step;                \
          const int32_t *offset =                                                                  \
              groups->column_offset ? groups->column_offset + g * groups->column_step : 0;         \
          for (int i = 0; i < 4; i++) {                                                            \
            size_t down = (i / 2) * 16, right = (i % 2) * 16, row = r + down, column = c + right;  \
            if (row < m && column < n)                                                             \
              add_block(sums[i], IS_INTEGER, panel + down * 32 + right, m - row, n - column,       \
                        row_scale + row, column_scale + column, offset ? offset + column : 0,      \
                        g == 0);                                                                   \
          }                                                                                        \
        }                                                                                          \
        size_t columns = n - c < 32 ? n - c : 32;                                                  \
        for (size_t i = 0; i < 32 && r + i < m; i++)                                               \
          memcpy(y + (r + i) * y_stride + c, panel + i * 32, columns * sizeof(float));             \
      }                                                                                            \
    }                                                                                              \
    _tile_release();                                                                               \
  }

GROUPED_TILE_PRODUCT(nibble_tiles_bf16_groups, _tile_dpbf16ps, 0)
GROUPED_TILE_PRODUCT(nibble_tiles_s8_groups, _tile_dpbssd, 1)

#else

int nibble_has_tiles(void) { return 0; }

void nibble_turn_tiles(const void *in, void *out, size_t bytes) {
  (void)in, (void)out, (void)bytes;
}

// The rest is never called: nibble_has_tiles says no.

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
  nibble_tiles_bf16(a, b, y, m, n, row_bytes, b_step, y_stride, 0, 0);
}

void nibble_tiles_s8_groups(const void *a, const void *b, float *y, size_t m, size_t n,
                            size_t row_bytes, size_t b_step, size_t y_stride,
                            const nibble_groups *groups) {
  nibble_tiles_bf16_groups(a, b, y, m, n, row_bytes, b_step, y_stride, groups);
}

#endif
