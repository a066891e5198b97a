/// The products over panels in plain C. Every set must match them; sets without their own use them.

// MARK: the specification

/// Callers pass the format as a constant, so that the loops are compiled for each format.
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

static void plain_int8(const nibble_inputs *x, const nibble_panels *w, size_t first,
                                size_t count, float *y, size_t y_stride) {
  plain_integers(x, w, first, count, y, y_stride, NIBBLE_INT8);
}

static void plain_int4(const nibble_inputs *x, const nibble_panels *w, size_t first,
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
  static void NAME(const nibble_inputs *x, const nibble_panels *w, size_t first,          \
                            size_t count, float *y, size_t y_stride) {                             \
    plain_floats(x, w, first, count, y, y_stride, FORMAT);                                         \
  }
PLAIN_FLOATS(plain_int8_floats, NIBBLE_INT8)
PLAIN_FLOATS(plain_int4_floats, NIBBLE_INT4)
PLAIN_FLOATS(plain_e4m3_floats, NIBBLE_E4M3)

static inline void specified_integers(const nibble_inputs *x, const nibble_panels *w, size_t first,
                               size_t count, float *y, size_t y_stride, void *scratch) {
  (void)scratch;
  (w->format == NIBBLE_INT4 ? plain_int4 : plain_int8)(x, w, first, count, y, y_stride);
}

static inline void specified_floats(const nibble_inputs *x, const nibble_panels *w, size_t first,
                             size_t count, float *y, size_t y_stride) {
  (w->format == NIBBLE_INT4   ? plain_int4_floats
   : w->format == NIBBLE_INT8 ? plain_int8_floats
                              : plain_e4m3_floats)(x, w, first, count, y, y_stride);
}
