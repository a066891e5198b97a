#include "../sets/panels.h"
#include "lanes.h"

#include <string.h>

static void pack_panels(const uint8_t *codes, uint8_t *out, size_t rows, size_t columns,
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
      // Eight nibbles in order become four bytes: inputs 0...3 in the low nibbles, 4...7 in the
      // high ones.
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

/// The code of one output and input as an integer, or the bits of an E4M3 value.
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

/// Decodes `count` values, a multiple of 8, of one output, starting at `unit`.
static inline __attribute__((always_inline)) void decode_units(const uint8_t *unit, size_t count,
                                                               float *out, int zero, float scale,
                                                               int format) {
  const int is_int4 = format == NIBBLE_INT4;
  for (size_t k = 0; k < count; k += 8, unit += is_int4 ? 64 : 128) {
    // Two units, or one that holds both in its nibbles.
    uint32_t units[2];
    memcpy(units, unit, 4);
    memcpy(units + 1, unit + (is_int4 ? 0 : 64), 4);
    for (int j = 0; j < 8; j++) {
      const uint32_t code = units[j / 4] >> (8 * (j % 4) + (is_int4 ? j / 4 * 4 : 0));
      const float value = format == NIBBLE_E4M3 ? e4m3_value((int)(code & 0xFF))
                          : is_int4             ? (float)((int)(code & 15) - 8 - zero)
                                                : (float)((int8_t)code - zero);
      out[k + (size_t)j] = value * scale;
    }
  }
}

static inline __attribute__((always_inline)) void decode_rows(const nibble_panels *w, size_t first,
                                                              size_t rows, float *out,
                                                              int unscaled, int format) {
  const size_t groups = panel_groups(w), scales = panel_scales(w, groups);
  for (size_t r = first; r < first + rows; r++, out += w->columns) {
    const uint8_t *panel = w->codes + r / PANEL * panel_step(w);
    for (size_t g = 0; g < groups; g++) {
      const size_t at = (r / PANEL * scales + g / w->scale_span) * PANEL + r % PANEL;
      const float scale = unscaled ? 1.0f : w->scales[at];
      const int zero = w->zeros ? w->zeros[at] : 0;
      const size_t start = g * w->group;
      const size_t end = start + w->group < w->columns ? start + w->group : w->columns;
      const size_t whole = (end - start) / 8 * 8;
      decode_units(panel + start * (format == NIBBLE_INT4 ? 8 : 16) + r % PANEL * UNIT, whole,
                   out + start, zero, scale, format);
      for (size_t k = start + whole; k < end; k++) {
        const int code = code_at(panel, r % PANEL, k, format);
        out[k] = (format == NIBBLE_E4M3 ? e4m3_value(code) : (float)(code - zero)) * scale;
      }
    }
  }
}

static void panels_decode(const nibble_panels *w, size_t first, size_t rows, float *out,
                          int unscaled) {
  if (w->format == NIBBLE_INT4)
    decode_rows(w, first, rows, out, unscaled, NIBBLE_INT4);
  else if (w->format == NIBBLE_INT8)
    decode_rows(w, first, rows, out, unscaled, NIBBLE_INT8);
  else
    decode_rows(w, first, rows, out, unscaled, NIBBLE_E4M3);
}

static void add_offsets(const float *sums, size_t tokens, size_t groups, const float *offsets,
                        float *y, size_t y_stride, size_t outputs) {
  for (size_t t = 0; t < tokens; t++) {
    float total[PANEL] = {0};
    for (size_t g = 0; g < groups; g++)
      for (int i = 0; i < PANEL; i++) total[i] += sums[t * groups + g] * offsets[g * PANEL + i];
    for (size_t i = 0; i < outputs; i++) y[t * y_stride + i] += total[i];
  }
}

static void sums_s8(const int8_t *x, int32_t *sums, size_t count, size_t group,
                             size_t stride) {
  for (size_t start = 0; start < count; start += group, sums += stride) {
    const size_t end = count - start < group ? count : start + group;
    int32_t sum = 0;
    for (size_t k = start; k < end; k++) sum += x[k];
    *sums = sum;
  }
}
