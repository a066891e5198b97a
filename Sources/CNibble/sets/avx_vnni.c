#include "kernels.h"

#if defined(__x86_64__)

/// AVX2 with the dot products of AVX-VNNI: Intel clients since Alder Lake, Zen 5.

#define NARROW __attribute__((target("avx2,avxvnni,fma")))
#define INLINE NARROW static inline __attribute__((always_inline))

/// Outputs of half a panel.
#define HALF 8

INLINE __m256i broadcast4(const int8_t *x) {
  int32_t unit;
  memcpy(&unit, x, 4);
  return _mm256_set1_epi32(unit);
}

/// The products of 8 outputs, starting at `half`, with `tokens` rows.
INLINE void half_panel(const nibble_inputs *x, const nibble_panels *w, size_t panel, size_t half,
                       size_t token, int tokens, int is_int4, float *y, size_t y_stride) {
  const size_t groups = panel_groups(w), scale_count = panel_scales(w, groups);
  const char *codes = (const char *)w->codes + panel * panel_step(w) + half * UNIT;
  const int8_t *rows = (const int8_t *)x->values + token * x->stride;
  const __m256i flip = _mm256_set1_epi8((char)0x80), low = _mm256_set1_epi8(15);
  __m256 total[4];
  for (group_walk g = first_group(x, w); g.group < groups; next_group(&g, x, w)) {
    __m256i sums[4];
    for (int t = 0; t < tokens; t++) sums[t] = _mm256_setzero_si256();
    for (size_t u = g.from; u < g.to; u += 2) {
      __m256i a, b;
      if (is_int4) {
        const __m256i line = _mm256_loadu_si256((const __m256i *)(codes + u * 32));
        a = _mm256_and_si256(line, low);
        b = _mm256_and_si256(_mm256_srli_epi16(line, 4), low);
      } else {
        a = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(codes + u * 64)), flip);
        b = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(codes + u * 64 + 64)), flip);
      }
      for (int t = 0; t < tokens; t++) {
        const int8_t *row = rows + t * x->stride + u * UNIT;
        sums[t] = _mm256_dpbusd_avx_epi32(sums[t], a, broadcast4(row));
        sums[t] = _mm256_dpbusd_avx_epi32(sums[t], b, broadcast4(row + UNIT));
      }
    }
    const size_t at = (panel * scale_count + g.weight_scale) * PANEL + half;
    const __m256 scales = _mm256_loadu_ps(w->scales + at);
    for (int t = 0; t < tokens; t++) {
      const int32_t inputs = x->sums[g.group * x->step + token + t];
      __m256i sum = _mm256_sub_epi32(sums[t], _mm256_set1_epi32(code_offset(w) * inputs));
      if (w->zeros)
        sum = _mm256_sub_epi32(
            sum, _mm256_mullo_epi32(
                     _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(w->zeros + at))),
                     _mm256_set1_epi32(inputs)));
      if (x->zero != 0)
        sum = _mm256_sub_epi32(
            sum, _mm256_mullo_epi32(_mm256_loadu_si256((const __m256i *)(
                                        w->sums + (panel * groups + g.group) * PANEL + half)),
                                    _mm256_set1_epi32(x->zero)));
      const float scale = x->scales[g.input_scale * x->step + token + t];
      const __m256 value =
          _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(scale)), scales);
      total[t] = g.group == 0 ? value : _mm256_add_ps(total[t], value);
    }
  }
  const size_t rest = w->outputs - panel * PANEL;
  for (int t = 0; t < tokens; t++) {
    float *out = y + (token + t) * y_stride + panel * PANEL + half;
    if (rest >= half + HALF) {
      _mm256_storeu_ps(out, total[t]);
    } else if (rest > half) {
      float values[HALF];
      _mm256_storeu_ps(values, total[t]);
      memcpy(out, values, (rest - half) * sizeof(float));
    }
  }
}

NARROW static void integers(const nibble_inputs *x, const nibble_panels *w, size_t first,
                            size_t count, float *y, size_t y_stride, void *scratch) {
  (void)scratch;
  for (size_t p = first; p < first + count; p++) {
    for (size_t half = 0; half < PANEL; half += HALF) {
      size_t t = 0;
#define RUN(T)                                                                                     \
  if (w->format == NIBBLE_INT4)                                                                    \
    half_panel(x, w, p, half, t, T, 1, y, y_stride);                                               \
  else                                                                                             \
    half_panel(x, w, p, half, t, T, 0, y, y_stride);
      for (; t + 4 <= x->tokens; t += 4) {
        RUN(4)
      }
      for (; t < x->tokens; t++) {
        RUN(1)
      }
#undef RUN
    }
  }
}

// MARK: the table

#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"))), apply_to = function)
#include "../loops/loops.h"
PEAK(peak_f32, __m256, _mm256_setzero_ps(), _mm256_fmadd_ps(a, b, sum[c]), 8)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,avxvnni"))), apply_to = function)
PEAK(peak_int8, __m256i, _mm256_setzero_si256(), _mm256_dpbusd_avx_epi32(sum[c], a, b), 32)
#pragma clang attribute pop

static int runs_here(void) {
  return __builtin_cpu_supports("x86-64-v3") && __builtin_cpu_supports("avxvnni");
}

static size_t no_scratch(size_t columns) { return (void)columns, 0; }

const nibble_kernels nibble_avx_vnni = {
    .name = "avx_vnni",
    .runs_here = runs_here,
    .tile_products = no_tiles,
    .panels_integers = integers,
    .panels_floats = nibble_avx2_floats,
    .panels_scratch = no_scratch,
    .peak_f32 = peak_f32,
    .peak_bf16 = no_peak,
    .peak_int8 = peak_int8,
    NIBBLE_LOOPS(LOOP_FIELD)
};

#endif
