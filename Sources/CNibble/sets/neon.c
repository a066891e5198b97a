#include "kernels.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

#include <arm_neon.h>

#include "../loops/loops.h"
#include "specification.h"

/// arm64 with the dot products of ARMv8.2.

/// Outputs of a quarter of a panel.
#define QUARTER 4

/// The products of 4 outputs, starting at `quarter`, with `tokens` rows.
static inline __attribute__((always_inline)) void quarter_panel(
    const nibble_inputs *x, const nibble_panels *w, size_t panel, size_t quarter, size_t token,
    int tokens, int is_int4, float *y, size_t y_stride) {
  const size_t groups = panel_groups(w), scale_count = panel_scales(w, groups);
  const uint8_t *codes = w->codes + panel * panel_step(w) + quarter * UNIT;
  const int8_t *rows = (const int8_t *)x->values + token * x->stride;
  float32x4_t total[4];
  for (group_walk g = first_group(x, w); g.group < groups; next_group(&g, x, w)) {
    int32x4_t sums[4];
    for (int t = 0; t < tokens; t++) sums[t] = vdupq_n_s32(0);
    for (size_t u = g.from; u < g.to; u += 2) {
      int8x16_t a, b;
      if (is_int4) {
        const uint8x16_t line = vld1q_u8(codes + u * 32);
        a = vreinterpretq_s8_u8(vandq_u8(line, vdupq_n_u8(15)));
        b = vreinterpretq_s8_u8(vshrq_n_u8(line, 4));
      } else {
        a = vreinterpretq_s8_u8(vld1q_u8(codes + u * 64));
        b = vreinterpretq_s8_u8(vld1q_u8(codes + u * 64 + 64));
      }
      for (int t = 0; t < tokens; t++) {
        const int8_t *row = rows + t * x->stride + u * UNIT;
        int32_t units[2];
        memcpy(units, row, 8);
        sums[t] = vdotq_s32(sums[t], a, vreinterpretq_s8_s32(vdupq_n_s32(units[0])));
        sums[t] = vdotq_s32(sums[t], b, vreinterpretq_s8_s32(vdupq_n_s32(units[1])));
      }
    }
    const size_t at = (panel * scale_count + g.weight_scale) * PANEL + quarter;
    const float32x4_t scales = vld1q_f32(w->scales + at);
    for (int t = 0; t < tokens; t++) {
      const int32_t inputs = x->sums[g.group * x->step + token + t];
      int32x4_t sum = sums[t];
      if (is_int4) sum = vsubq_s32(sum, vdupq_n_s32(8 * inputs));
      if (w->zeros) {
        int8_t four[8] = {0};
        memcpy(four, w->zeros + at, QUARTER);
        sum = vmlsq_n_s32(sum, vmovl_s16(vget_low_s16(vmovl_s8(vld1_s8(four)))), inputs);
      }
      if (x->zero != 0)
        sum = vmlsq_n_s32(sum, vld1q_s32(w->sums + (panel * groups + g.group) * PANEL + quarter), x->zero);
      const float scale = x->scales[g.input_scale * x->step + token + t];
      const float32x4_t value = vmulq_f32(vmulq_n_f32(vcvtq_f32_s32(sum), scale), scales);
      total[t] = g.group == 0 ? value : vaddq_f32(total[t], value);
    }
  }
  const size_t rest = w->outputs - panel * PANEL;
  for (int t = 0; t < tokens; t++) {
    float values[QUARTER];
    vst1q_f32(values, total[t]);
    const size_t count = rest >= quarter + QUARTER ? QUARTER : rest > quarter ? rest - quarter : 0;
    memcpy(y + (token + t) * y_stride + panel * PANEL + quarter, values, count * sizeof(float));
  }
}

static void integers(const nibble_inputs *x, const nibble_panels *w, size_t first, size_t count,
                     float *y, size_t y_stride, void *scratch) {
  (void)scratch;
  for (size_t p = first; p < first + count; p++) {
    for (size_t quarter = 0; quarter < PANEL; quarter += QUARTER) {
      size_t t = 0;
#define RUN(T)                                                                                     \
  if (w->format == NIBBLE_INT4)                                                                    \
    quarter_panel(x, w, p, quarter, t, T, 1, y, y_stride);                                         \
  else                                                                                             \
    quarter_panel(x, w, p, quarter, t, T, 0, y, y_stride);
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

// MARK: limits

#define KEEP(value) __asm__ volatile("" : "+w"(value))

static double peak_f32(size_t rounds) {
  float32x4_t sum[CHAINS], a = vdupq_n_f32(0);
  KEEP(a);
  for (int c = 0; c < CHAINS; c++) sum[c] = vdupq_n_f32(0);
  for (size_t r = 0; r < rounds; r++)
    for (int c = 0; c < CHAINS; c++) {
      sum[c] = vfmaq_f32(sum[c], a, a);
      KEEP(sum[c]);
    }
  return 2.0 * CHAINS * 4 * (double)rounds;
}

static double peak_int8(size_t rounds) {
  int8x16_t a = vdupq_n_s8(0);
  int32x4_t sum[CHAINS];
  KEEP(a);
  for (int c = 0; c < CHAINS; c++) sum[c] = vdupq_n_s32(0);
  for (size_t r = 0; r < rounds; r++)
    for (int c = 0; c < CHAINS; c++) {
      sum[c] = vdotq_s32(sum[c], a, a);
      KEEP(sum[c]);
    }
  return 2.0 * CHAINS * 16 * (double)rounds;
}

// MARK: the table

static int runs_here(void) { return 1; }
static size_t no_scratch(size_t columns) { return (void)columns, 0; }

const nibble_kernels nibble_neon = {
    .name = "neon",
    .runs_here = runs_here,
    .tile_products = no_tiles,
    .panels_integers = integers,
    .panels_floats = specified_floats,
    .panels_scratch = no_scratch,
    .peak_f32 = peak_f32,
    .peak_bf16 = no_peak,
    .peak_int8 = peak_int8,
    NIBBLE_LOOPS(LOOP_FIELD)
};

#endif
