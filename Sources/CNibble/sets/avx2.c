#include "kernels.h"

#if defined(__x86_64__)

/// AVX2 and FMA without dot products of bytes: Zen 1 to 3, most Intel clients until 2021.

#define NARROW __attribute__((target("avx2,fma")))
#define INLINE NARROW static inline __attribute__((always_inline))

/// Outputs of half a panel.
#define HALF 8

INLINE __m256i broadcast4(const void *x) {
  int32_t unit;
  memcpy(&unit, x, 4);
  return _mm256_set1_epi32(unit);
}

/// The sums of x * code of one group, one token and half a panel become those of (x - zero) *
/// Turns the sums of x * code of one group, one token and half a panel into those of (x - zero) *
/// (code - zero), scaled.
///
/// - Parameters:
///   - scale_at: index of the weight's scales and zeros for this half panel and group.
///   - sum_at: index of its sums of codes.
INLINE __m256 scaled(__m256i sum, const nibble_inputs *x, const nibble_panels *w, int is_symmetric,
                     size_t scale_at, size_t sum_at, int32_t inputs, float scale) {
  if (!is_symmetric && w->zeros) {
    const __m128i zeros = _mm_loadl_epi64((const __m128i *)(w->zeros + scale_at));
    sum = _mm256_sub_epi32(
        sum, _mm256_mullo_epi32(_mm256_cvtepi8_epi32(zeros), _mm256_set1_epi32(inputs)));
  }
  if (!is_symmetric && x->zero != 0)
    sum = _mm256_sub_epi32(
        sum, _mm256_mullo_epi32(_mm256_loadu_si256((const __m256i *)(w->sums + sum_at)),
                                _mm256_set1_epi32(x->zero)));
  return _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(scale)),
                       _mm256_loadu_ps(w->scales + scale_at));
}

INLINE void store_half(float *out, size_t left, __m256 total) {
  if (left >= HALF) {
    _mm256_storeu_ps(out, total);
    return;
  }
  float values[HALF];
  _mm256_storeu_ps(values, total);
  memcpy(out, values, left * sizeof(float));
}

/// Outputs from half `h` of a panel on; 0 when there are none.
INLINE size_t outputs_of(const nibble_panels *w, size_t panel, int h) {
  const size_t first = panel * PANEL + (size_t)h * HALF;
  return w->outputs > first ? w->outputs - first : 0;
}

/// Prefetch distance in bytes for a step's loads, where codes are read once. The processor
/// prefetches a stream by itself, but not far enough ahead when each line takes several
/// instructions.
#define AHEAD 4096

/// Rows of the next block when `left` rows are split into the fewest blocks of at most `most`, as
/// equal as possible.
INLINE size_t rows_of(size_t left, size_t most) {
  const size_t blocks = (left + most - 1) / most;
  return (left + blocks - 1) / blocks;
}

// MARK: int8 codes

/// Rows multiplied with a line of codes while it is in registers.
#define ROWS 6

/// Widens units of x to 16 bits, so that the processor adds products with int8 codes in pairs
/// exactly: elements 0 and 2 of a unit side by side, then 1 and 3, in the order in which the codes
/// below are unpacked from their bytes.
INLINE void widen_row(const int8_t *x, int16_t *out, size_t count) {
  const __m128i order =
      _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  size_t k = 0;
  for (; k + 16 <= count; k += 16) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(x + k));
    _mm256_storeu_si256((__m256i *)(out + k), _mm256_cvtepi8_epi16(_mm_shuffle_epi8(bytes, order)));
  }
  for (; k < count; k += 4) {
    out[k] = x[k], out[k + 1] = x[k + 2];
    out[k + 2] = x[k + 1], out[k + 3] = x[k + 3];
  }
}

/// Products of `rows` rows of widened x, from `token` on, with one panel; prefetches codes `ahead`
/// bytes further on.
INLINE void int8_block(const nibble_inputs *x, const int16_t *wide, size_t step,
                       const nibble_panels *w, size_t panel, size_t token, int rows,
                       int is_symmetric, size_t ahead, float *y, size_t y_stride) {
  const size_t groups = panel_groups(w), scale_count = panel_scales(w, groups);
  const char *codes = (const char *)w->codes + panel * panel_step(w);
  __m256 total[ROWS][2];
  for (int r = 0; r < rows; r++) total[r][0] = total[r][1] = _mm256_set1_ps(-0.0f);
  for (group_walk g = first_group(x, w); g.group < groups; next_group(&g, x, w)) {
    __m256i sums[ROWS][2];
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
    for (size_t u = g.from; u < g.to; u++) {
      _mm_prefetch(codes + u * 64 + ahead, _MM_HINT_T0);
      for (int h = 0; h < 2; h++) {
        const __m256i line = _mm256_loadu_si256((const __m256i *)(codes + u * 64 + h * 32));
        const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(line, 8), 8);
        const __m256i odd = _mm256_srai_epi16(line, 8);
        for (int r = 0; r < rows; r++) {
          const int16_t *unit = wide + (size_t)r * step + u * UNIT;
          sums[r][h] = _mm256_add_epi32(sums[r][h], _mm256_madd_epi16(even, broadcast4(unit)));
          sums[r][h] = _mm256_add_epi32(sums[r][h], _mm256_madd_epi16(odd, broadcast4(unit + 2)));
        }
      }
    }
    const size_t at = (panel * scale_count + g.weight_scale) * PANEL;
    const size_t sum_at = (panel * groups + g.group) * PANEL;
    for (int r = 0; r < rows; r++) {
      const size_t row = token + (size_t)r;
      const int32_t inputs = x->sums[g.group * x->step + row];
      const float scale = x->scales[g.input_scale * x->step + row];
      for (int h = 0; h < 2; h++)
        total[r][h] = _mm256_add_ps(
            total[r][h], scaled(sums[r][h], x, w, is_symmetric, at + (size_t)h * HALF,
                                sum_at + (size_t)h * HALF, inputs, scale));
    }
  }
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < 2; h++)
      store_half(y + (token + (size_t)r) * y_stride + panel * PANEL + (size_t)h * HALF,
                 outputs_of(w, panel, h), total[r][h]);
}

/// Tokens whose widened inputs stay in the second-level cache.
#define WIDE_TOKENS 48

NARROW static void int8_integers(const nibble_inputs *x, const nibble_panels *w, size_t first,
                                 size_t count, float *y, size_t y_stride, int16_t *wide) {
  const size_t columns = (w->columns + 7) / 8 * 8, step = panel_tiles(w->columns) * 64;
  const int is_symmetric = !w->zeros && x->zero == 0;
  for (size_t start = 0; start < x->tokens; start += WIDE_TOKENS) {
    const size_t end = x->tokens - start < WIDE_TOKENS ? x->tokens : start + WIDE_TOKENS;
    for (size_t t = start; t < end; t++)
      widen_row((const int8_t *)x->values + t * x->stride, wide + (t - start) * step, columns);
    for (size_t p = first; p < first + count; p++) {
      for (size_t t = start, rows; t < end; t += rows) {
        rows = rows_of(end - t, ROWS);
        const size_t ahead = t + rows < end ? 0 : end - start <= ROWS ? AHEAD : panel_step(w);
        const int16_t *from = wide + (t - start) * step;
#define RUN(T)                                                                                     \
  case T:                                                                                          \
    if (is_symmetric)                                                                              \
      int8_block(x, from, step, w, p, t, T, 1, ahead, y, y_stride);                                \
    else                                                                                           \
      int8_block(x, from, step, w, p, t, T, 0, ahead, y, y_stride);                                \
    break;
        switch (rows) { RUN(1) RUN(2) RUN(3) RUN(4) RUN(5) RUN(6) }
#undef RUN
      }
    }
  }
}

// MARK: int4 codes

/// Products of `rows` rows of x with one panel. Codes are used as stored, 0...15, so that a sum of
/// two products with int8 is in -3840...3810 and eight such sums, those of 32 inputs, still fit 16
/// bits.
INLINE void int4_block(const nibble_inputs *x, const nibble_panels *w, size_t panel, size_t token,
                       int rows, int is_symmetric, size_t ahead, float *y, size_t y_stride) {
  const size_t groups = panel_groups(w), scale_count = panel_scales(w, groups);
  const char *codes = (const char *)w->codes + panel * panel_step(w);
  const int8_t *values = (const int8_t *)x->values + token * x->stride;
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  __m256 total[4][2];
  for (int r = 0; r < rows; r++) total[r][0] = total[r][1] = _mm256_set1_ps(-0.0f);
  for (group_walk g = first_group(x, w); g.group < groups; next_group(&g, x, w)) {
    const int32_t *inputs = x->sums + g.group * x->step + token;
    __m256i sums[4][2];
    // Subtracts in advance what the stored offset of 8 adds to the sums.
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm256_set1_epi32(-8 * inputs[r]);
    for (size_t u = g.from; u < g.to; u += 8) {
      const size_t end = g.to - u < 8 ? g.to : u + 8;
      __m256i part[4][2];
      for (int r = 0; r < rows; r++) part[r][0] = part[r][1] = _mm256_setzero_si256();
#define LINE(AT)                                                                                   \
  _mm_prefetch(codes + (AT) * 32 + ahead, _MM_HINT_T0);                                            \
  for (int h = 0; h < 2; h++) {                                                                    \
    const __m256i line = _mm256_loadu_si256((const __m256i *)(codes + (AT) * 32 + h * 32));        \
    const __m256i a = _mm256_and_si256(line, low);                                                 \
    const __m256i b = _mm256_and_si256(_mm256_srli_epi16(line, 4), low);                           \
    for (int r = 0; r < rows; r++) {                                                               \
      const int8_t *unit = values + (size_t)r * x->stride + (AT) * UNIT;                           \
      part[r][h] = _mm256_add_epi16(part[r][h], _mm256_maddubs_epi16(a, broadcast4(unit)));        \
      part[r][h] = _mm256_add_epi16(part[r][h], _mm256_maddubs_epi16(b, broadcast4(unit + UNIT))); \
    }                                                                                              \
  }
      if (end - u == 8) {
        LINE(u) LINE(u + 2) LINE(u + 4) LINE(u + 6)
      } else {
        for (size_t v = u; v < end; v += 2) {
          LINE(v)
        }
      }
#undef LINE
      for (int r = 0; r < rows; r++)
        for (int h = 0; h < 2; h++)
          sums[r][h] = _mm256_add_epi32(sums[r][h], _mm256_madd_epi16(part[r][h], ones));
    }
    const size_t at = (panel * scale_count + g.weight_scale) * PANEL;
    const size_t sum_at = (panel * groups + g.group) * PANEL;
    for (int r = 0; r < rows; r++) {
      const float scale = x->scales[g.input_scale * x->step + token + (size_t)r];
      for (int h = 0; h < 2; h++)
        total[r][h] = _mm256_add_ps(
            total[r][h], scaled(sums[r][h], x, w, is_symmetric, at + (size_t)h * HALF,
                                sum_at + (size_t)h * HALF, inputs[r], scale));
    }
  }
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < 2; h++)
      store_half(y + (token + (size_t)r) * y_stride + panel * PANEL + (size_t)h * HALF,
                 outputs_of(w, panel, h), total[r][h]);
}

NARROW static void int4_integers(const nibble_inputs *x, const nibble_panels *w, size_t first,
                                 size_t count, float *y, size_t y_stride) {
  const int is_symmetric = !w->zeros && x->zero == 0;
  for (size_t p = first; p < first + count; p++) {
    for (size_t t = 0, rows; t < x->tokens; t += rows) {
      rows = rows_of(x->tokens - t, 4);
      const size_t ahead = t + rows < x->tokens ? 0 : x->tokens <= 4 ? AHEAD : panel_step(w);
#define RUN(T)                                                                                     \
  case T:                                                                                          \
    if (is_symmetric)                                                                              \
      int4_block(x, w, p, t, T, 1, ahead, y, y_stride);                                            \
    else                                                                                           \
      int4_block(x, w, p, t, T, 0, ahead, y, y_stride);                                            \
    break;
      switch (rows) { RUN(1) RUN(2) RUN(3) RUN(4) }
#undef RUN
    }
  }
}

static size_t scratch_bytes(size_t columns) {
  return WIDE_TOKENS * panel_tiles(columns) * 64 * sizeof(int16_t);
}

static void integers(const nibble_inputs *x, const nibble_panels *w, size_t first, size_t count,
                     float *y, size_t y_stride, void *scratch) {
  if (w->format == NIBBLE_INT4)
    int4_integers(x, w, first, count, y, y_stride);
  else
    int8_integers(x, w, first, count, y, y_stride, scratch);
}

// MARK: float inputs

/// Decodes 8 codes: byte `j` of each unit's four.
INLINE __m256 codes_as_floats(__m256i line, int format, int j, int high, const __m256i *zeros) {
  if (format == NIBBLE_E4M3) {
    // The sign stays; exponent and mantissa move to their place in a float, too small by a factor
    // of 2^120.
    const __m256i top = _mm256_slli_epi32(line, 24 - 8 * j);
    const __m256i bits =
        _mm256_and_si256(_mm256_srai_epi32(top, 4), _mm256_set1_epi32((int)0x87F00000));
    return _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0x1p120f));
  }
  __m256i code = format == NIBBLE_INT4
                     ? _mm256_srai_epi32(_mm256_slli_epi32(line, 28 - 8 * j - 4 * high), 28)
                     : _mm256_srai_epi32(_mm256_slli_epi32(line, 24 - 8 * j), 24);
  if (zeros) code = _mm256_sub_epi32(code, *zeros);
  return _mm256_cvtepi32_ps(code);
}

INLINE void few_floats(const nibble_inputs *x, const nibble_panels *w, size_t p, float *y,
                       size_t y_stride, size_t token, int tokens, int half, int format,
                       int has_zeros) {
  const size_t groups = panel_groups(w), first_scale = p * panel_scales(w, groups);
  const float *rows = (const float *)x->values + token * x->stride;
  const char *codes = (const char *)w->codes + p * panel_step(w) + half * 32;
  // int4 codes are stored with 8 added, which flips the nibble's sign bit.
  const __m256i flip = _mm256_set1_epi8((char)0x88);
  __m256 total[4];
  for (int t = 0; t < tokens; t++) total[t] = _mm256_set1_ps(-0.0f);
  for (group_walk g = first_group(x, w); g.group < groups; next_group(&g, x, w)) {
    const size_t at = (first_scale + g.weight_scale) * PANEL + (size_t)half * HALF;
    __m256i zeros;
    if (has_zeros)
      zeros = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(w->zeros + at)));
    __m256 sums[4][2];
    for (int t = 0; t < tokens; t++) sums[t][0] = sums[t][1] = _mm256_setzero_ps();
    for (size_t u = g.from; u < g.to; u += 2) {
      for (int h = 0; h < 2; h++) {
        const char *from = format == NIBBLE_INT4 ? codes + u * 32 : codes + (u + (size_t)h) * 64;
        __m256i line = _mm256_loadu_si256((const __m256i *)from);
        if (format == NIBBLE_INT4) line = _mm256_xor_si256(line, flip);
        for (int j = 0; j < 4; j++) {
          const __m256 code = codes_as_floats(line, format, j, h, has_zeros ? &zeros : 0);
          for (int t = 0; t < tokens; t++)
            sums[t][j % 2] = _mm256_fmadd_ps(
                code,
                _mm256_broadcast_ss(rows + (size_t)t * x->stride + (u + (size_t)h) * UNIT + j),
                sums[t][j % 2]);
        }
      }
    }
    const __m256 scales = _mm256_loadu_ps(w->scales + at);
    for (int t = 0; t < tokens; t++) {
      __m256 value = _mm256_add_ps(sums[t][0], sums[t][1]);
      if (x->scales)
        value = _mm256_mul_ps(
            value, _mm256_set1_ps(x->scales[g.input_scale * x->step + token + (size_t)t]));
      total[t] = _mm256_add_ps(total[t], _mm256_mul_ps(value, scales));
    }
  }
  for (int t = 0; t < tokens; t++)
    store_half(y + (token + (size_t)t) * y_stride + p * PANEL + (size_t)half * HALF,
               outputs_of(w, p, half), total[t]);
}

INLINE void floats_of(const nibble_inputs *x, const nibble_panels *w, size_t first, size_t count,
                      float *y, size_t y_stride, int format, int has_zeros) {
  for (size_t p = first; p < first + count; p++) {
    size_t t = 0;
    for (; t + 4 <= x->tokens; t += 4)
      for (int half = 0; half < 2; half++)
        few_floats(x, w, p, y, y_stride, t, 4, half, format, has_zeros);
    for (; t < x->tokens; t++)
      for (int half = 0; half < 2; half++)
        few_floats(x, w, p, y, y_stride, t, 1, half, format, has_zeros);
  }
}

NARROW void nibble_avx2_floats(const nibble_inputs *x, const nibble_panels *w, size_t first,
                               size_t count, float *y, size_t y_stride) {
#define RUN(FORMAT)                                                                                \
  if (w->zeros)                                                                                    \
    floats_of(x, w, first, count, y, y_stride, FORMAT, 1);                                         \
  else                                                                                             \
    floats_of(x, w, first, count, y, y_stride, FORMAT, 0);
  if (w->format == NIBBLE_INT4) {
    RUN(NIBBLE_INT4)
  } else if (w->format == NIBBLE_INT8) {
    RUN(NIBBLE_INT8)
  } else {
    floats_of(x, w, first, count, y, y_stride, NIBBLE_E4M3, 0);
  }
#undef RUN
}

// MARK: the table

#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)
#include "../loops/loops.h"
PEAK(peak_f32, __m256, _mm256_setzero_ps(), _mm256_fmadd_ps(a, b, sum[c]), 8)
// The instruction that multiplies the most codes at once. Its sums are exact for int4 codes only;
// int8 codes widened to 16 bits run at half its speed.
PEAK(peak_int8, __m256i, _mm256_setzero_si256(),
     _mm256_add_epi16(sum[c], _mm256_maddubs_epi16(a, b)), 32)
#pragma clang attribute pop

static int runs_here(void) { return __builtin_cpu_supports("x86-64-v3"); }

const nibble_kernels nibble_avx2 = {
    .name = "avx2",
    .runs_here = runs_here,
    .tile_products = no_tiles,
    .panels_integers = integers,
    .panels_floats = nibble_avx2_floats,
    .panels_scratch = scratch_bytes,
    .peak_f32 = peak_f32,
    .peak_bf16 = no_peak,
    .peak_int8 = peak_int8,
    NIBBLE_LOOPS(LOOP_FIELD)
};

#endif
