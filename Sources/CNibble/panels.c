#include "panels.h"
#include "variants.h"

#include <string.h>

size_t nibble_panel_bytes(size_t rows, size_t columns, int format) {
  return (rows + PANEL - 1) / PANEL * panel_tiles(columns) * (format == NIBBLE_INT4 ? 512 : 1024);
}

size_t nibble_panels_scratch(size_t columns) { return 3 * panel_tiles(columns) * 1024; }

VARIANTS void nibble_pack_panels(const uint8_t *codes, uint8_t *out, size_t rows, size_t columns,
                                 int format) {
  const size_t step = nibble_panel_bytes(1, columns, format);
  memset(out, 0, nibble_panel_bytes(rows, columns, format));
  for (size_t r = 0; r < rows; r++) {
    uint8_t *panel = out + r / PANEL * step + r % PANEL * UNIT;
    if (format != NIBBLE_INT4) {
      const uint8_t *row = codes + r * columns;
      size_t k = 0;
      for (; k + UNIT <= columns; k += UNIT) memcpy(panel + k * PANEL, row + k, UNIT);
      memcpy(panel + k * PANEL, row + k, columns - k);
      continue;
    }
    const uint8_t *row = codes + r * (columns / 2);
    for (size_t k = 0; k + 8 <= columns; k += 8) {
      // Eight nibbles in order become four bytes, inputs 0...3 low and 4...7 high.
      uint32_t n;
      memcpy(&n, row + k / 2, 4);
      uint32_t low = n & 0xFFFF, high = n >> 16;
      low = (low | low << 8) & 0x00FF00FF;
      low = (low | low << 4) & 0x0F0F0F0F;
      high = (high | high << 8) & 0x00FF00FF;
      high = (high | high << 4) & 0x0F0F0F0F;
      const uint32_t unit = low | high << 4;
      memcpy(panel + k / 8 * 64, &unit, 4);
    }
    for (size_t k = columns / 8 * 8; k < columns; k++) {
      const uint8_t code = row[k / 2] >> (k % 2 * 4) & 15;
      panel[k / 8 * 64 + k % 4] |= (uint8_t)(code << (k % 8 / 4 * 4));
    }
  }
}

/// The code of one output and input as an integer, or an E4M3 value's bits.
static inline __attribute__((always_inline)) int code_at(const uint8_t *panel, size_t output,
                                                         size_t k, int format) {
  if (format == NIBBLE_INT4)
    return (panel[k / 8 * 64 + output * UNIT + k % UNIT] >> (k % 8 / 4 * 4) & 15) - 8;
  const uint8_t code = panel[k / UNIT * 64 + output * UNIT + k % UNIT];
  return format == NIBBLE_INT8 ? (int8_t)code : code;
}

static inline __attribute__((always_inline)) float e4m3_value(int code) {
  const uint32_t bits = (uint32_t)(code & 0x80) << 24 | (uint32_t)(code & 0x7F) << 20;
  float value;
  memcpy(&value, &bits, 4);
  return value * 0x1p120f;
}

VARIANTS void nibble_panels_decode(const nibble_panels *w, size_t first, size_t rows, float *out,
                                   int unscaled) {
  const size_t groups = panel_groups(w), scales = panel_scales(w, groups);
  for (size_t r = first; r < first + rows; r++, out += w->columns) {
    const uint8_t *panel = w->codes + r / PANEL * panel_step(w);
    for (size_t g = 0; g < groups; g++) {
      const size_t at = (r / PANEL * scales + g / w->scale_span) * PANEL + r % PANEL;
      const float scale = unscaled ? 1.0f : w->scales[at];
      const int zero = w->zeros ? w->zeros[at] : 0;
      const size_t end = (g + 1) * w->group < w->columns ? (g + 1) * w->group : w->columns;
      for (size_t k = g * w->group; k < end; k++) {
        const int code = code_at(panel, r % PANEL, k, w->format);
        out[k] = (w->format == NIBBLE_E4M3 ? e4m3_value(code) : (float)(code - zero)) * scale;
      }
    }
  }
}

VARIANTS void nibble_sums_s8(const int8_t *x, int32_t *sums, size_t count, size_t group,
                             size_t stride) {
  for (size_t start = 0; start < count; start += group, sums += stride) {
    const size_t end = count - start < group ? count : start + group;
    int32_t sum = 0;
    for (size_t k = start; k < end; k++) sum += x[k];
    *sums = sum;
  }
}

// MARK: the specification

/// Calls of the two functions below name the format, so that the loops are compiled for it.
static inline __attribute__((always_inline)) void plain_integers(
    const nibble_inputs *x, const nibble_panels *w, size_t first, size_t count, float *y,
    size_t y_stride, int format) {
  const size_t groups = panel_groups(w), scales = panel_scales(w, groups);
  for (size_t p = first; p < first + count; p++) {
    const uint8_t *panel = w->codes + p * panel_step(w);
    const size_t outputs = w->outputs - p * PANEL < PANEL ? w->outputs - p * PANEL : PANEL;
    for (size_t t = 0; t < x->tokens; t++) {
      const int8_t *row = (const int8_t *)x->values + t * x->stride;
      float total[PANEL] = {0};
      for (size_t g = 0; g < groups; g++) {
        int32_t sums[PANEL] = {0};
        const size_t end = (g + 1) * w->group < w->columns ? (g + 1) * w->group : w->columns;
        for (size_t k = g * w->group; k < end; k++)
          for (int n = 0; n < PANEL; n++) sums[n] += row[k] * code_at(panel, n, k, format);
        const size_t at = (p * scales + g / w->scale_span) * PANEL;
        const float input_scale = x->scales[g / x->scale_span * x->step + t];
        for (int n = 0; n < PANEL; n++) {
          int32_t sum = sums[n];
          if (w->zeros) sum -= w->zeros[at + n] * x->sums[g * x->step + t];
          if (x->zero != 0) sum -= x->zero * w->sums[(p * groups + g) * PANEL + n];
          const float value = (float)sum * input_scale * w->scales[at + n];
          total[n] = g == 0 ? value : total[n] + value;
        }
      }
      memcpy(y + t * y_stride + p * PANEL, total, outputs * sizeof(float));
    }
  }
}

VARIANTS void nibble_plain_int8(const nibble_inputs *x, const nibble_panels *w, size_t first,
                                size_t count, float *y, size_t y_stride) {
  plain_integers(x, w, first, count, y, y_stride, NIBBLE_INT8);
}

VARIANTS void nibble_plain_int4(const nibble_inputs *x, const nibble_panels *w, size_t first,
                                size_t count, float *y, size_t y_stride) {
  plain_integers(x, w, first, count, y, y_stride, NIBBLE_INT4);
}

static inline __attribute__((always_inline)) void plain_floats(
    const nibble_inputs *x, const nibble_panels *w, size_t first, size_t count, float *y,
    size_t y_stride, int format) {
  const size_t groups = panel_groups(w), scales = panel_scales(w, groups);
  for (size_t p = first; p < first + count; p++) {
    const uint8_t *panel = w->codes + p * panel_step(w);
    const size_t outputs = w->outputs - p * PANEL < PANEL ? w->outputs - p * PANEL : PANEL;
    for (size_t t = 0; t < x->tokens; t++) {
      const float *row = (const float *)x->values + t * x->stride;
      float total[PANEL] = {0};
      for (size_t g = 0; g < groups; g++) {
        const size_t at = (p * scales + g / w->scale_span) * PANEL;
        float sums[PANEL] = {0};
        const size_t end = (g + 1) * w->group < w->columns ? (g + 1) * w->group : w->columns;
        for (size_t k = g * w->group; k < end; k++) {
          for (int n = 0; n < PANEL; n++) {
            const int code = code_at(panel, n, k, format);
            const float value = format == NIBBLE_E4M3
                                    ? e4m3_value(code)
                                    : (float)(code - (w->zeros ? w->zeros[at + n] : 0));
            sums[n] += row[k] * value;
          }
        }
        const float scale = x->scales ? x->scales[g / x->scale_span * x->step + t] : 1.0f;
        for (int n = 0; n < PANEL; n++) {
          const float value = sums[n] * scale * w->scales[at + n];
          total[n] = g == 0 ? value : total[n] + value;
        }
      }
      memcpy(y + t * y_stride + p * PANEL, total, outputs * sizeof(float));
    }
  }
}

#define PLAIN_FLOATS(NAME, FORMAT)                                                                 \
  VARIANTS void NAME(const nibble_inputs *x, const nibble_panels *w, size_t first,          \
                            size_t count, float *y, size_t y_stride) {                             \
    plain_floats(x, w, first, count, y, y_stride, FORMAT);                                         \
  }
PLAIN_FLOATS(nibble_plain_int8_floats, NIBBLE_INT8)
PLAIN_FLOATS(nibble_plain_int4_floats, NIBBLE_INT4)
PLAIN_FLOATS(nibble_plain_e4m3_floats, NIBBLE_E4M3)

// MARK: the choice

static int has(int set) {
  if (set == NIBBLE_SET_PLAIN) return 1;
#if defined(__x86_64__)
  if (set == NIBBLE_SET_AVX512)
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (set == NIBBLE_SET_AVX_VNNI) return __builtin_cpu_supports("avxvnni") != 0;
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
  if (set == NIBBLE_SET_NEON) return 1;
#endif
  return 0;
}

static int best_set(void) {
  static int answer = -1;
  if (answer < 0) {
    int set = NIBBLE_SET_NEON;
    while (!has(set)) set--;
    answer = set;
  }
  return answer;
}

int nibble_panels_integers_on(int set, const nibble_inputs *x, const nibble_panels *w,
                              size_t first, size_t count, float *y, size_t y_stride,
                              void *scratch) {
  if (!has(set)) return 0;
  switch (set) {
#if defined(__x86_64__)
    case NIBBLE_SET_AVX512:
      nibble_panels_integers_avx512(x, w, first, count, y, y_stride, scratch);
      break;
    case NIBBLE_SET_AVX_VNNI:
      nibble_panels_integers_avxvnni(x, w, first, count, y, y_stride);
      break;
#elif defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
    case NIBBLE_SET_NEON:
      nibble_panels_integers_neon(x, w, first, count, y, y_stride);
      break;
#endif
    default:
      (w->format == NIBBLE_INT4 ? nibble_plain_int4 : nibble_plain_int8)(x, w, first, count, y,
                                                                         y_stride);
  }
  return 1;
}

int nibble_panels_floats_on(int set, const nibble_inputs *x, const nibble_panels *w, size_t first,
                            size_t count, float *y, size_t y_stride) {
  if (!has(set)) return 0;
#if defined(__x86_64__)
  if (set == NIBBLE_SET_AVX512) {
    nibble_panels_floats_avx512(x, w, first, count, y, y_stride);
    return 1;
  }
#endif
  (w->format == NIBBLE_INT4   ? nibble_plain_int4_floats
   : w->format == NIBBLE_INT8 ? nibble_plain_int8_floats
                              : nibble_plain_e4m3_floats)(x, w, first, count, y, y_stride);
  return 1;
}

void nibble_panels_integers(const nibble_inputs *x, const nibble_panels *w, size_t first,
                            size_t count, float *y, size_t y_stride, void *scratch) {
  nibble_panels_integers_on(best_set(), x, w, first, count, y, y_stride, scratch);
}

void nibble_panels_floats(const nibble_inputs *x, const nibble_panels *w, size_t first,
                          size_t count, float *y, size_t y_stride) {
  nibble_panels_floats_on(best_set(), x, w, first, count, y, y_stride);
}
