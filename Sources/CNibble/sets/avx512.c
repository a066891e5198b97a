#include "kernels.h"

#if defined(__x86_64__)

/// AVX-512 with VNNI: Ice Lake, Zen 4 and later.

#define WIDE                                                                                       \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c"),                 \
                 min_vector_width(512)))
#define INLINE WIDE static inline __attribute__((always_inline))

INLINE __m512i broadcast4(const int8_t *x) {
  int32_t unit;
  memcpy(&unit, x, 4);
  return _mm512_set1_epi32(unit);
}

INLINE __mmask16 outputs_of(const nibble_panels *w, size_t panel) {
  const size_t rest = w->outputs - panel * PANEL;
  return rest >= PANEL ? 0xFFFF : (__mmask16)((1u << rest) - 1);
}

/// Turns the sum of x * code of one group and one token into that of (x - zero) * (code - zero).
///
/// - Parameters:
///   - scale_at: index of the weight's scale and zero for this panel and group.
///   - sum_at: index of its sum of codes.
INLINE __m512i without_zeros(__m512i sum, const nibble_inputs *x, const nibble_panels *w,
                             size_t scale_at, size_t sum_at, int32_t inputs) {
  if (w->zeros) {
    const __m128i zeros = _mm_loadu_si128((const __m128i *)(w->zeros + scale_at));
    sum = _mm512_sub_epi32(
        sum, _mm512_mullo_epi32(_mm512_cvtepi8_epi32(zeros), _mm512_set1_epi32(inputs)));
  }
  if (x->zero != 0)
    sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(_mm512_loadu_si512(w->sums + sum_at),
                                                   _mm512_set1_epi32(x->zero)));
  return sum;
}

// MARK: few tokens, each code read once

/// Prefetch distance in bytes for the loads of an int4 step. The processor prefetches a stream by
/// itself, but not far enough ahead when each line takes several instructions: from memory one
/// thread reads 30 GB/s without and 52 with. Int8 codes gain nothing.
#define AHEAD 12288

/// Adds the products of the units from..<to with `tokens` rows to `sums`.
INLINE void add_units(const char *codes, const int8_t *x, size_t stride, int tokens, int is_int4,
                      size_t from, size_t to, __m512i *sums) {
  const __m512i flip = _mm512_set1_epi8((char)0x80), low = _mm512_set1_epi8(15);
  __m512i even[4], odd[4];
  for (int t = 0; t < tokens; t++) {
    even[t] = sums[t];
    odd[t] = _mm512_setzero_si512();
  }
  for (size_t u = from; u < to; u += 2) {
    __m512i a, b;
    if (is_int4) {
      _mm_prefetch(codes + u * 32 + AHEAD, _MM_HINT_T0);
      const __m512i line = _mm512_loadu_si512(codes + u * 32);
      a = _mm512_and_si512(line, low);
      b = _mm512_and_si512(_mm512_srli_epi16(line, 4), low);
    } else {
      a = _mm512_xor_si512(_mm512_loadu_si512(codes + u * 64), flip);
      b = _mm512_xor_si512(_mm512_loadu_si512(codes + u * 64 + 64), flip);
    }
    for (int t = 0; t < tokens; t++) {
      even[t] = _mm512_dpbusd_epi32(even[t], a, broadcast4(x + t * stride + u * UNIT));
      odd[t] = _mm512_dpbusd_epi32(odd[t], b, broadcast4(x + t * stride + u * UNIT + UNIT));
    }
  }
  for (int t = 0; t < tokens; t++) sums[t] = _mm512_add_epi32(even[t], odd[t]);
}

INLINE void few_integers(const nibble_inputs *x, const nibble_panels *w, size_t p, float *y,
                         size_t y_stride, size_t token, int tokens, int is_int4) {
  const size_t groups = panel_groups(w), first_scale = p * panel_scales(w, groups);
  const int8_t *rows = (const int8_t *)x->values + token * x->stride;
  const char *codes = (const char *)w->codes + p * panel_step(w);
  const int32_t offset = is_int4 ? 8 : 128;
  __m512 total[4];
  // Adding -0 leaves every number unchanged, the sign of zero included.
  for (int t = 0; t < tokens; t++) total[t] = _mm512_set1_ps(-0.0f);
  for (group_walk g = first_group(x, w); g.group < groups; next_group(&g, x, w)) {
    const int32_t *inputs = x->sums + g.group * x->step + token;
    const float *input_scales = x->scales + g.input_scale * x->step + token;
    const size_t at = (first_scale + g.weight_scale) * PANEL;
    __m512i sums[4];
    // Subtracts in advance what the offset of unsigned codes adds to the sums.
    for (int t = 0; t < tokens; t++) sums[t] = _mm512_set1_epi32(-offset * inputs[t]);
    add_units(codes, rows, x->stride, tokens, is_int4, g.from, g.to, sums);
    const __m512 scales = _mm512_loadu_ps(w->scales + at);
    for (int t = 0; t < tokens; t++) {
      const __m512i sum =
          without_zeros(sums[t], x, w, at, (p * groups + g.group) * PANEL, inputs[t]);
      const __m512 value = _mm512_mul_ps(
          _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(input_scales[t])), scales);
      total[t] = _mm512_add_ps(total[t], value);
    }
  }
  for (int t = 0; t < tokens; t++)
    _mm512_mask_storeu_ps(y + (token + t) * y_stride + p * PANEL, outputs_of(w, p), total[t]);
}

// MARK: many tokens

/// Rows and panels whose sums are held in registers, per group and over all groups. With more rows
/// the latter would go to memory after each group, which costs more than the loads saved.
#define ROWS 4
#define PANELS 3

/// Unpacks one panel to unsigned codes, one line per unit.
INLINE void widen_panel(const nibble_panels *w, size_t panel, char *out) {
  const size_t units = panel_tiles(w->columns) * UNITS_A_TILE;
  const char *codes = (const char *)w->codes + panel * panel_step(w);
  const __m512i flip = _mm512_set1_epi8((char)0x80), low = _mm512_set1_epi8(15);
  if (w->format == NIBBLE_INT4) {
    for (size_t u = 0; u < units; u += 2) {
      const __m512i line = _mm512_loadu_si512(codes + u * 32);
      _mm512_store_si512(out + u * 64, _mm512_and_si512(line, low));
      _mm512_store_si512(out + u * 64 + 64, _mm512_and_si512(_mm512_srli_epi16(line, 4), low));
    }
  } else {
    for (size_t u = 0; u < units; u++)
      _mm512_store_si512(out + u * 64, _mm512_xor_si512(_mm512_loadu_si512(codes + u * 64), flip));
  }
}

INLINE void block_integers(const nibble_inputs *x, const nibble_panels *w, size_t token, int rows,
                           size_t panel, int panels, int is_symmetric, const char *codes,
                           size_t codes_step, float *y, size_t y_stride) {
  const size_t groups = panel_groups(w), scale_count = panel_scales(w, groups);
  const int8_t *values = (const int8_t *)x->values + token * x->stride;
  __m512 total[ROWS][PANELS];
  for (int r = 0; r < rows; r++)
    for (int p = 0; p < panels; p++) total[r][p] = _mm512_set1_ps(-0.0f);
  for (group_walk g = first_group(x, w); g.group < groups; next_group(&g, x, w)) {
    const int32_t *inputs = x->sums + g.group * x->step + token;
    const float *input_scales = x->scales + g.input_scale * x->step + token;
    __m512i sums[ROWS][PANELS];
    for (int r = 0; r < rows; r++)
      for (int p = 0; p < panels; p++) sums[r][p] = _mm512_set1_epi32(-code_offset(w) * inputs[r]);
    for (size_t u = g.from; u < g.to; u++) {
      __m512i lines[PANELS];
      for (int p = 0; p < panels; p++)
        lines[p] = _mm512_load_si512(codes + p * codes_step + u * 64);
      for (int r = 0; r < rows; r++) {
        const __m512i unit = broadcast4(values + r * x->stride + u * UNIT);
        for (int p = 0; p < panels; p++)
          sums[r][p] = _mm512_dpbusd_epi32(sums[r][p], lines[p], unit);
      }
    }
    for (int p = 0; p < panels; p++) {
      const size_t at = ((panel + p) * scale_count + g.weight_scale) * PANEL;
      const __m512 scales = _mm512_loadu_ps(w->scales + at);
      for (int r = 0; r < rows; r++) {
        const __m512i sum =
            is_symmetric ? sums[r][p]
                         : without_zeros(sums[r][p], x, w, at,
                                         ((panel + p) * groups + g.group) * PANEL, inputs[r]);
        const __m512 scale = _mm512_set1_ps(input_scales[r]);
        const __m512 value = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale), scales);
        total[r][p] = _mm512_add_ps(total[r][p], value);
      }
    }
  }
  for (int r = 0; r < rows; r++)
    for (int p = 0; p < panels; p++)
      _mm512_mask_storeu_ps(y + (token + r) * y_stride + (panel + p) * PANEL,
                            outputs_of(w, panel + p), total[r][p]);
}

/// The products of all rows, at least ROWS, with `panels` panels, whose unsigned codes are in
/// `codes`.
INLINE void row_blocks(const nibble_inputs *x, const nibble_panels *w, size_t panel, int panels,
                       int is_symmetric, const char *codes, size_t step, float *y,
                       size_t y_stride) {
  size_t t = 0;
  for (; t + ROWS <= x->tokens; t += ROWS)
    block_integers(x, w, t, ROWS, panel, panels, is_symmetric, codes, step, y, y_stride);
  // The last block overlaps the one before it: fewer rows would take as long.
  if (t < x->tokens)
    block_integers(x, w, x->tokens - ROWS, ROWS, panel, panels, is_symmetric, codes, step, y,
                   y_stride);
}

WIDE static void many_integers(const nibble_inputs *x, const nibble_panels *w, size_t first,
                               size_t count, float *y, size_t y_stride, char *memory) {
  const size_t step = panel_tiles(w->columns) * 1024;
  const int is_symmetric = !w->zeros && x->zero == 0;
  size_t p = first;
  for (; p + PANELS <= first + count; p += PANELS) {
    for (int i = 0; i < PANELS; i++) widen_panel(w, p + i, memory + i * step);
    if (is_symmetric)
      row_blocks(x, w, p, PANELS, 1, memory, step, y, y_stride);
    else
      row_blocks(x, w, p, PANELS, 0, memory, step, y, y_stride);
  }
  for (; p < first + count; p++) {
    widen_panel(w, p, memory);
    row_blocks(x, w, p, 1, 0, memory, step, y, y_stride);
  }
}

size_t nibble_avx512_scratch(size_t columns) { return PANELS * panel_tiles(columns) * 1024; }

WIDE void nibble_avx512_integers(const nibble_inputs *x, const nibble_panels *w,
                                        size_t first, size_t count, float *y, size_t y_stride,
                                        void *scratch) {
  if (x->tokens > 8) {
    many_integers(x, w, first, count, y, y_stride, scratch);
    return;
  }
  // A panel stays in the first-level cache while all tokens read it.
  for (size_t p = first; p < first + count; p++) {
    size_t t = 0;
#define FEW(T)                                                                                     \
  if (w->format == NIBBLE_INT4)                                                                    \
    few_integers(x, w, p, y, y_stride, t, T, 1);                                                   \
  else                                                                                             \
    few_integers(x, w, p, y, y_stride, t, T, 0);
    for (; t + 4 <= x->tokens; t += 4) {
      FEW(4)
    }
    for (; t + 2 <= x->tokens; t += 2) {
      FEW(2)
    }
    for (; t < x->tokens; t++) {
      FEW(1)
    }
#undef FEW
  }
}

// MARK: float inputs

/// Decodes 16 codes: byte `j` of each unit's four.
INLINE __m512 codes_as_floats(__m512i line, int format, int j, int high, __m512i zeros) {
  if (format == NIBBLE_INT4) {
    const __m512i code =
        _mm512_and_si512(_mm512_srli_epi32(line, 8 * j + 4 * high), _mm512_set1_epi32(15));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(code, zeros));
  }
  const __m512i top = _mm512_slli_epi32(line, 24 - 8 * j);
  if (format == NIBBLE_INT8)
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_srai_epi32(top, 24), zeros));
  // The sign stays; exponent and mantissa move to their place in a float, too small by a factor of
  // 2^120.
  const __m512i bits =
      _mm512_and_si512(_mm512_srai_epi32(top, 4), _mm512_set1_epi32((int)0x87F00000));
  return _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0x1p120f));
}

INLINE void few_floats(const nibble_inputs *x, const nibble_panels *w, size_t p, float *y,
                       size_t y_stride, size_t token, int tokens, int format) {
  const size_t groups = panel_groups(w), first_scale = p * panel_scales(w, groups);
  const float *rows = (const float *)x->values + token * x->stride;
  const char *codes = (const char *)w->codes + p * panel_step(w);
  __m512 total[2];
  for (int t = 0; t < tokens; t++) total[t] = _mm512_set1_ps(-0.0f);
  for (group_walk g = first_group(x, w); g.group < groups; next_group(&g, x, w)) {
    const size_t at = (first_scale + g.weight_scale) * PANEL;
    __m512i zeros = _mm512_set1_epi32(format == NIBBLE_INT4 ? 8 : 0);
    if (w->zeros)
      zeros = _mm512_add_epi32(zeros,
                               _mm512_cvtepi8_epi32(
                                   _mm_loadu_si128((const __m128i *)(w->zeros + at))));
    __m512 sums[2][4];
    for (int t = 0; t < tokens; t++)
      for (int j = 0; j < 4; j++) sums[t][j] = _mm512_setzero_ps();
    for (size_t u = g.from; u < g.to; u += 2) {
      for (int h = 0; h < 2; h++) {
        const __m512i line = format == NIBBLE_INT4 ? _mm512_loadu_si512(codes + u * 32)
                                                   : _mm512_loadu_si512(codes + (u + h) * 64);
        for (int j = 0; j < 4; j++) {
          const __m512 code = codes_as_floats(line, format, j, h, zeros);
          for (int t = 0; t < tokens; t++)
            sums[t][j] = _mm512_fmadd_ps(
                code, _mm512_set1_ps(rows[t * x->stride + (u + h) * UNIT + j]), sums[t][j]);
        }
      }
    }
    const __m512 scales = _mm512_loadu_ps(w->scales + at);
    for (int t = 0; t < tokens; t++) {
      __m512 value = _mm512_add_ps(_mm512_add_ps(sums[t][0], sums[t][1]),
                                   _mm512_add_ps(sums[t][2], sums[t][3]));
      if (x->scales)
        value = _mm512_mul_ps(
            value, _mm512_set1_ps(x->scales[g.input_scale * x->step + token + t]));
      value = _mm512_mul_ps(value, scales);
      total[t] = _mm512_add_ps(total[t], value);
    }
  }
  for (int t = 0; t < tokens; t++)
    _mm512_mask_storeu_ps(y + (token + t) * y_stride + p * PANEL, outputs_of(w, p), total[t]);
}

WIDE void nibble_avx512_floats(const nibble_inputs *x, const nibble_panels *w, size_t first,
                                      size_t count, float *y, size_t y_stride) {
  for (size_t p = first; p < first + count; p++) {
    size_t t = 0;
#define FEW(T)                                                                                     \
  if (w->format == NIBBLE_INT4)                                                                    \
    few_floats(x, w, p, y, y_stride, t, T, NIBBLE_INT4);                                           \
  else if (w->format == NIBBLE_INT8)                                                               \
    few_floats(x, w, p, y, y_stride, t, T, NIBBLE_INT8);                                           \
  else                                                                                             \
    few_floats(x, w, p, y, y_stride, t, T, NIBBLE_E4M3);
    for (; t + 2 <= x->tokens; t += 2) {
      FEW(2)
    }
    for (; t < x->tokens; t++) {
      FEW(1)
    }
#undef FEW
  }
}

// MARK: the table

#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#pragma clang attribute push(__attribute__((min_vector_width(512))), apply_to = function)
#include "../loops/loops.h"
#pragma clang attribute pop
#pragma clang attribute pop

static int runs_here(void) {
  return __builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512vnni");
}

static int tile_products(void) {
#if defined(__linux__)
  return __builtin_cpu_supports("avx512bf16") ? NIBBLE_TILES_DOTS : 0;
#else
  return 0;
#endif
}

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512bf16,avx512vnni"))), \
                             apply_to = function)
#pragma clang attribute push(__attribute__((min_vector_width(512))), apply_to = function)
PEAK(peak_f32, __m512, _mm512_setzero_ps(), _mm512_fmadd_ps(a, b, sum[c]), 16)
PEAK(dots_bf16, __m512, _mm512_setzero_ps(), _mm512_dpbf16_ps(sum[c], (__m512bh)a, (__m512bh)b), 32)
PEAK(peak_int8, __m512i, _mm512_setzero_si512(), _mm512_dpbusd_epi32(sum[c], a, b), 64)
#pragma clang attribute pop
#pragma clang attribute pop

static double peak_bf16(size_t rounds) {
  return __builtin_cpu_supports("avx512bf16") ? dots_bf16(rounds) : 0;
}

const nibble_kernels nibble_avx512 = {
    .name = "avx512",
    .runs_here = runs_here,
    .tile_products = tile_products,
    .panels_integers = nibble_avx512_integers,
    .panels_floats = nibble_avx512_floats,
    .panels_scratch = nibble_avx512_scratch,
    .peak_f32 = peak_f32,
    .peak_bf16 = peak_bf16,
    .peak_int8 = peak_int8,
    NIBBLE_LOOPS(LOOP_FIELD)
};

#endif
