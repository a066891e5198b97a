#include "nibble.h"

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

#define TILES __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl")))

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
TILES static inline void write_block(const void *sums, int is_integer, float *y, size_t m, size_t n,
                                     size_t y_stride, const float *row_scale,
                                     const float *column_scale) {
  __mmask16 mask = n >= 16 ? 0xFFFF : (__mmask16)((1u << n) - 1);
  __m512 columns =
      column_scale ? _mm512_maskz_loadu_ps(mask, column_scale) : _mm512_set1_ps(1.0f);
  for (size_t i = 0; i < (m < 16 ? m : 16); i++) {
    const char *row = (const char *)sums + i * TILE_BYTES;
    __m512 value = is_integer ? _mm512_cvtepi32_ps(_mm512_load_si512(row)) : _mm512_load_ps(row);
    if (row_scale) value = _mm512_mul_ps(value, _mm512_set1_ps(row_scale[i]));
    _mm512_mask_storeu_ps(y + i * y_stride, mask, _mm512_mul_ps(value, columns));
  }
}

#define TILE_PRODUCT(NAME, PRODUCT, IS_INTEGER)                                                    \
  TILES void NAME(const void *a, const void *b, float *y, size_t m, size_t n, size_t row_bytes,    \
                  size_t b_step, size_t y_stride, const float *row_scale,                          \
                  const float *column_scale) {                                                     \
    const size_t depth = up_to(row_bytes, TILE_BYTES), step = depth * TILE;                        \
    _Alignas(64) char sums[4][TILE];                                                               \
    configure_tiles();                                                                             \
    for (size_t c = 0; c < n; c += 32) {                                                           \
      const char *b0 = (const char *)b + c / 16 * b_step;                                          \
      const char *b1 = c + 16 < n ? b0 + b_step : b0;                                              \
      for (size_t r = 0; r < m; r += 32) {                                                         \
        const char *a0 = (const char *)a + r / 16 * step;                                          \
        const char *a1 = r + 16 < m ? a0 + step : a0;                                              \
        _tile_zero(0);                                                                             \
        _tile_zero(1);                                                                             \
        _tile_zero(2);                                                                             \
        _tile_zero(3);                                                                             \
        for (size_t k = 0; k < step; k += TILE) {                                                  \
          _tile_loadd(4, a0 + k, TILE_BYTES);                                                      \
          _tile_loadd(6, b0 + k, TILE_BYTES);                                                      \
          PRODUCT(0, 4, 6);                                                                        \
          _tile_loadd(7, b1 + k, TILE_BYTES);                                                      \
          PRODUCT(1, 4, 7);                                                                        \
          _tile_loadd(5, a1 + k, TILE_BYTES);                                                      \
          PRODUCT(2, 5, 6);                                                                        \
          PRODUCT(3, 5, 7);                                                                        \
        }                                                                                          \
        _tile_stored(0, sums[0], TILE_BYTES);                                                      \
        _tile_stored(1, sums[1], TILE_BYTES);                                                      \
        _tile_stored(2, sums[2], TILE_BYTES);                                                      \
        _tile_stored(3, sums[3], TILE_BYTES);                                                      \
        for (int i = 0; i < 4; i++) {                                                              \
          size_t row = r + (i / 2) * 16, column = c + (i % 2) * 16;                                \
          if (row < m && column < n)                                                               \
            write_block(sums[i], IS_INTEGER, y + row * y_stride + column, m - row, n - column,     \
                        y_stride, row_scale ? row_scale + row : 0,                                 \
                        column_scale ? column_scale + column : 0);                                 \
        }                                                                                          \
      }                                                                                            \
    }                                                                                              \
    _tile_release();                                                                               \
  }

TILE_PRODUCT(nibble_tiles_bf16, _tile_dpbf16ps, 0)
TILE_PRODUCT(nibble_tiles_s8, _tile_dpbssd, 1)

/// Adds the used part of one 16 x 16 block of a group's sums, scaled; the first group overwrites.
TILES static inline void add_block(const void *sums, int is_integer, float *y, size_t m, size_t n,
                                   size_t y_stride, const float *row_scale,
                                   const float *column_scale, const int32_t *column_offset,
                                   int is_first) {
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
    if (!is_first) value = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y + i * y_stride), value);
    _mm512_mask_storeu_ps(y + i * y_stride, mask, value);
  }
}

#define GROUPED_TILE_PRODUCT(NAME, PRODUCT, IS_INTEGER)                                            \
  TILES void NAME(const void *a, const void *b, float *y, size_t m, size_t n, size_t row_bytes,    \
                  size_t b_step, size_t y_stride, const nibble_groups *groups) {                   \
    const size_t step = up_to(row_bytes, TILE_BYTES) * TILE;                                       \
    const size_t width = groups->bytes / TILE_BYTES * TILE;                                        \
    _Alignas(64) char sums[4][TILE];                                                               \
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
            size_t row = r + (i / 2) * 16, column = c + (i % 2) * 16;                              \
            if (row < m && column < n)                                                             \
              add_block(sums[i], IS_INTEGER, y + row * y_stride + column, m - row, n - column,     \
                        y_stride, row_scale + row, column_scale + column,                          \
                        offset ? offset + column : 0, g == 0);                                     \
          }                                                                                        \
        }                                                                                          \
      }                                                                                            \
    }                                                                                              \
    _tile_release();                                                                               \
  }

GROUPED_TILE_PRODUCT(nibble_tiles_bf16_groups, _tile_dpbf16ps, 0)
GROUPED_TILE_PRODUCT(nibble_tiles_s8_groups, _tile_dpbssd, 1)

#else

int nibble_has_tiles(void) { return 0; }

// Never called: nibble_has_tiles says no.
void nibble_pack_b(const void *in, void *out, size_t rows, size_t row_bytes) {
  nibble_pack_a(in, out, rows, row_bytes);
}

void nibble_tiles_bf16(const void *a, const void *b, float *y, size_t m, size_t n, size_t row_bytes,
                       size_t b_step, size_t y_stride, const float *row_scale,
                       const float *column_scale) {
  (void)a, (void)b, (void)y, (void)m, (void)n, (void)row_bytes, (void)b_step, (void)y_stride;
  (void)row_scale, (void)column_scale;
  __builtin_trap();
}

void nibble_tiles_s8(const void *a, const void *b, float *y, size_t m, size_t n, size_t row_bytes,
                     size_t b_step, size_t y_stride, const float *row_scale,
                     const float *column_scale) {
  nibble_tiles_bf16(a, b, y, m, n, row_bytes, b_step, y_stride, row_scale, column_scale);
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
