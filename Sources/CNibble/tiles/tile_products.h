/// The products on tiles over one instruction set's blocks of 32 x 32 sums. Included by amx.c and
/// dots.c, which define
///   TARGET          the attribute of every function
///   NAMED(name)     the name of a product on this instruction set
///   begin, end      what surrounds a run of blocks
///   block_sums      [a0; a1] times [b0, b1], `depth` whole tiles, into four blocks of 16 x 16 sums,
///                   `stride` bytes from row to row

#include <string.h>

TARGET static inline __attribute__((always_inline)) void multiply_tiles(
    const char *a, const char *b, float *y, size_t m, size_t n, size_t depth, int a_parts,
    int b_parts, int is_integer, size_t b_step, size_t y_stride, const float *row_scale,
    const float *column_scale) {
  const size_t a_step = depth * TILE * a_parts;
  _Alignas(64) char sums[4][TILE];
  begin();
  for (size_t c = 0; c < n; c += 32) {
    const char *b0 = b + c / 16 * b_step;
    const char *b1 = c + 16 < n ? b0 + b_step : b0;
    for (size_t r = 0; r < m; r += 32) {
      const char *a0 = a + r / 16 * a_step;
      const char *a1 = r + 16 < m ? a0 + a_step : a0;
      float *out = y + r * y_stride + c;
      if (!is_integer && !row_scale && !column_scale && r + 32 <= m && c + 32 <= n) {
        block_sums(a0, a1, b0, b1, depth, a_parts, b_parts, 0, out, out + 16, out + 16 * y_stride,
                   out + 16 * y_stride + 16, y_stride * 4);
        continue;
      }
      block_sums(a0, a1, b0, b1, depth, a_parts, b_parts, is_integer, sums[0], sums[1], sums[2],
                 sums[3], TILE_BYTES);
      for (size_t i = 0; i < 4; i++) {
        size_t down = i / 2 * 16, right = i % 2 * 16;
        if (r + down < m && c + right < n)
          write_block(sums[i], is_integer, out + down * y_stride + right, m - r - down,
                      n - c - right, y_stride, row_scale ? row_scale + r + down : 0,
                      column_scale ? column_scale + c + right : 0);
      }
    }
  }
  end();
}

TARGET static inline __attribute__((always_inline)) void multiply_gated(
    const char *a, const char *gate, const char *up, char *out, size_t m, size_t n, size_t depth,
    int parts, int b_parts, size_t b_step, size_t out_step) {
  const size_t a_step = depth * TILE * parts;
  _Alignas(64) float sums[4][TILE / 4];
  begin();
  for (size_t c = 0; c < up_to(n, 32) * 32; c += 16) {
    const int is_padding = c >= n;
    const char *b0 = gate + c / 16 * b_step, *b1 = up + c / 16 * b_step;
    for (size_t r = 0; r < m; r += 32) {
      const char *a0 = a + r / 16 * a_step;
      const char *a1 = r + 16 < m ? a0 + a_step : a0;
      if (is_padding)
        memset(sums, 0, sizeof sums);
      else
        block_sums(a0, a1, b0, b1, depth, parts, b_parts, 0, sums[0], sums[1], sums[2], sums[3],
                   TILE_BYTES);
      char *line = out + r / 16 * out_step + c / 32 * TILE * parts + c % 32 * 2;
      write_gated(sums[0], sums[1], line, parts);
      if (r + 16 < m) write_gated(sums[2], sums[3], line + out_step, parts);
    }
  }
  end();
}

TARGET static inline __attribute__((always_inline)) void multiply_groups(
    const char *a, const char *b, float *y, size_t m, size_t n, size_t row_bytes, size_t b_step,
    size_t y_stride, const nibble_groups *groups) {
  const size_t step = up_to(row_bytes, TILE_BYTES) * TILE;
  const size_t width = groups->bytes / TILE_BYTES * TILE;
  _Alignas(64) char sums[4][TILE];
  // Groups are summed here: rows of y may be a power of two apart and share a cache set.
  _Alignas(64) float panel[32 * 32];
  begin();
  for (size_t c = 0; c < n; c += 32) {
    const char *b0 = b + c / 16 * b_step;
    const char *b1 = c + 16 < n ? b0 + b_step : b0;
    for (size_t r = 0; r < m; r += 32) {
      const char *a0 = a + r / 16 * step;
      const char *a1 = r + 16 < m ? a0 + step : a0;
      for (size_t g = 0; g * width < step; g++) {
        const size_t at = g * width;
        const size_t depth = (step - at < width ? step - at : width) / TILE;
        block_sums(a0 + at, a1 + at, b0 + at, b1 + at, depth, 1, 1, 0, sums[0], sums[1], sums[2],
                   sums[3], TILE_BYTES);
        const float *row_scale = groups->row_scale + g / groups->row_span * groups->row_step;
        const float *column_scale =
            groups->column_scale + g / groups->column_span * groups->column_step;
        for (int i = 0; i < 4; i++) {
          size_t down = (i / 2) * 16, right = (i % 2) * 16, row = r + down, column = c + right;
          if (row < m && column < n)
            add_block((const float *)sums[i], panel + down * 32 + right, m - row, n - column,
                      row_scale + row, column_scale + column, g == 0);
        }
      }
      size_t columns = n - c < 32 ? n - c : 32;
      for (size_t i = 0; i < 32 && r + i < m; i++)
        memcpy(y + (r + i) * y_stride + c, panel + i * 32, columns * sizeof(float));
    }
  }
  end();
}

TARGET void NAMED(floats)(const void *a, const void *b, float *y, size_t m, size_t n, size_t depth,
                          int a_parts, int b_parts, size_t b_step, size_t y_stride,
                          const float *row_scale, const float *column_scale) {
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

TARGET void NAMED(gated)(const void *a, const void *gate, const void *up, void *out, size_t m,
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

TARGET void NAMED(bf16_groups)(const void *a, const void *b, float *y, size_t m, size_t n,
                               size_t row_bytes, size_t b_step, size_t y_stride,
                               const nibble_groups *groups) {
  multiply_groups(a, b, y, m, n, row_bytes, b_step, y_stride, groups);
}
