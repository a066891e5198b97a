#ifndef NIBBLE_KERNELS_H
#define NIBBLE_KERNELS_H

#include "nibble.h"

/// One table of functions per instruction set. The functions of nibble.h call the set that was
/// chosen at the first call of any of them.

/// X(result, name, parameters, arguments) for the loops that every set compiles from one source
/// (loops/). `name` stands for nibble_`name` of nibble.h.
#define NIBBLE_LOOPS(X)                                                                            \
  X(void, f16_to_f32, (const void *in, float *out, size_t count), (in, out, count))                \
  X(void, bf16_to_f32, (const void *in, float *out, size_t count), (in, out, count))               \
  X(void, f32_to_f16, (const float *in, uint16_t *out, size_t count), (in, out, count))            \
  X(void, f32_to_bf16, (const float *in, uint16_t *out, size_t count), (in, out, count))           \
  X(void, e4m3_to_f32, (const uint8_t *in, float *out, size_t count), (in, out, count))            \
  X(void, f32_to_e4m3, (const float *in, uint8_t *out, size_t count), (in, out, count))            \
  X(void, round_e4m3, (const float *x, uint8_t *codes, size_t count, float scale), (x, codes,      \
    count, scale))                                                                                 \
  X(float, absmax, (const float *x, size_t count), (x, count))                                     \
  X(void, minmax, (const float *x, size_t count, float *low, float *high), (x, count, low,         \
    high))                                                                                         \
  X(void, round_int, (const float *x, int8_t *codes, size_t count, float scale, int zero, int      \
    low, int high), (x, codes, count, scale, zero, low, high))                                     \
  X(void, round_groups, (const float *x, size_t count, size_t group, int8_t *codes, float          \
    *scales, int32_t *sums, size_t step), (x, count, group, codes, scales, sums, step))            \
  X(void, decode_int8, (const int8_t *codes, float *out, size_t count, float scale, int zero),     \
    (codes, out, count, scale, zero))                                                              \
  X(void, decode_int4, (const uint8_t *codes, float *out, size_t count, float scale, int zero),    \
    (codes, out, count, scale, zero))                                                              \
  X(void, unpack_int4, (const uint8_t *codes, int8_t *out, size_t count), (codes, out, count))     \
  X(void, error_energy, (const float *a, const float *b, size_t count, double *error, double       \
    *signal), (a, b, count, error, signal))                                                        \
  X(void, round_feedback_int, (const float *w, float *carry, const float *r, size_t r_stride,      \
    size_t count, const float *scale, const int8_t *zero, int low, int high, int8_t *codes, float  \
    *error), (w, carry, r, r_stride, count, scale, zero, low, high, codes, error))                 \
  X(void, round_feedback_e4m3, (const float *w, float *carry, const float *r, size_t r_stride,     \
    size_t count, const float *scale, uint8_t *codes, float *error), (w, carry, r, r_stride,       \
    count, scale, codes, error))                                                                   \
  X(void, follow_feedback, (const float *w, float *carry, const float *r, size_t r_stride,         \
    size_t count, float *out), (w, carry, r, r_stride, count, out))                                \
  X(float, grid_error_int, (const float *w, const float *importance, size_t count, float scale,    \
    int zero, int low, int high), (w, importance, count, scale, zero, low, high))                  \
  X(float, grid_error_e4m3, (const float *w, const float *importance, size_t count, float          \
    scale), (w, importance, count, scale))                                                         \
  X(void, round_minifloat, (const float *x, uint8_t *codes, size_t count, float scale, const       \
    nibble_minifloat *format), (x, codes, count, scale, format))                                   \
  X(void, decode_table, (const uint8_t *codes, int bits, float *out, size_t count, const float     \
    *table, float scale), (codes, bits, out, count, table, scale))                                 \
  X(void, round_feedback_minifloat, (const float *w, float *carry, const float *r, size_t          \
    r_stride, size_t count, const float *scale, const nibble_minifloat *format, uint8_t *codes,    \
    float *error), (w, carry, r, r_stride, count, scale, format, codes, error))                    \
  X(float, grid_error_minifloat, (const float *w, const float *importance, size_t count, float     \
    scale, const nibble_minifloat *format), (w, importance, count, scale, format))                 \
  X(float, grid_energy_int, (const float *w, const float *h, size_t h_stride, size_t count,        \
    float scale, int zero, int low, int high, float *d), (w, h, h_stride, count, scale, zero, low, \
    high, d))                                                                                      \
  X(void, column_statistics, (const float *x, size_t tokens, size_t stride, size_t count, float    \
    *low, float *high, double *magnitude, double *energy), (x, tokens, stride, count, low, high,   \
    magnitude, energy))                                                                            \
  X(float, scaled_peak, (const float *x, const float *factor, size_t count), (x, factor, count))   \
  X(double, rounding_energy, (const float *x, const float *factor, const float *weight, size_t     \
    count, float largest), (x, factor, weight, count, largest))                                    \
  X(void, multiply, (float *y, const float *factor, size_t count), (y, factor, count))             \
  X(float, dot_f32, (const float *x, const float *b, size_t columns), (x, b, columns))             \
  X(void, group_sums_s8, (const int8_t *x, const int8_t *w, int32_t *sums, size_t columns,         \
    size_t group, int zero), (x, w, sums, columns, group, zero))                                   \
  X(void, matvec_f32, (const float *x, const void *w, float *y, size_t columns, size_t rows),      \
    (x, w, y, columns, rows))                                                                      \
  X(void, matvec_f16, (const float *x, const void *w, float *y, size_t columns, size_t rows),      \
    (x, w, y, columns, rows))                                                                      \
  X(void, matvec_bf16, (const float *x, const void *w, float *y, size_t columns, size_t rows),     \
    (x, w, y, columns, rows))                                                                      \
  X(void, pack_panels, (const uint8_t *codes, uint8_t *out, size_t rows, size_t columns, int       \
    format), (codes, out, rows, columns, format))                                                  \
  X(void, panels_decode, (const nibble_panels *w, size_t first, size_t rows, float *out, int       \
    unscaled), (w, first, rows, out, unscaled))                                                    \
  X(void, add_offsets, (const float *sums, size_t tokens, size_t groups, const float *offsets,     \
    float *y, size_t y_stride, size_t outputs), (sums, tokens, groups, offsets, y, y_stride,       \
    outputs))                                                                                      \
  X(void, sums_s8, (const int8_t *x, int32_t *sums, size_t count, size_t group, size_t stride),    \
    (x, sums, count, group, stride))                                                               \
  X(void, rms_norm, (const float *x, const float *weight, float *y, size_t count, float            \
    epsilon), (x, weight, y, count, epsilon))                                                      \
  X(void, layer_norm, (const float *x, const float *weight, float *y, size_t count, float          \
    epsilon), (x, weight, y, count, epsilon))                                                      \
  X(void, activate, (float *x, size_t count, int activation), (x, count, activation))              \
  X(void, silu_multiply, (float *restrict gate, const float *restrict up, size_t count), (gate,    \
    up, count))                                                                                    \
  X(void, add, (float *y, const float *x, size_t count), (y, x, count))                            \
  X(void, scale, (float *y, float factor, size_t count), (y, factor, count))                       \
  X(void, add_scaled, (float *y, const float *x, float factor, size_t count), (y, x, factor,       \
    count))                                                                                        \
  X(void, rotate, (float *head, const float *cosine, const float *sine, size_t half), (head,       \
    cosine, sine, half))                                                                           \
  X(void, delta_step, (float *state, const float *query, const float *key, const float *value,     \
    float decay, float strength, float *y, size_t keys, size_t values), (state, query, key, value, \
    decay, strength, y, keys, values))                                                             \
  X(void, softmax, (float *x, size_t count), (x, count))                                           \
  X(double, log_sum_exp, (const float *x, size_t count), (x, count))                               \
  X(double, kl, (const float *a, const float *b, double a_sum, double b_sum, size_t count), (a,    \
    b, a_sum, b_sum, count))                                                                       \
  X(size_t, argmax, (const float *x, size_t count), (x, count))                                    \
  X(void, top, (const float *x, size_t count, size_t *best, size_t k), (x, count, best, k))        \
  X(void, cache_store, (const float *row, void *page, int format, size_t token, size_t head, int   \
    is_key, float fixed), (row, page, format, token, head, is_key, fixed))                         \
  X(void, cache_store_keys, (const float *rows, size_t stride, void *page, int format, size_t      \
    first, size_t head, float fixed), (rows, stride, page, format, first, head, fixed))            \
  X(void, cache_load, (const void *page, float *out, int format, size_t head, int is_key),         \
    (page, out, format, head, is_key))                                                             \
  X(void, cache_scores, (const float *keys, const float *query, float *scores, size_t head),       \
    (keys, query, scores, head))                                                                   \
  X(void, cache_mix, (const float *values, const float *weights, float *out, size_t count,         \
    size_t head), (values, weights, out, count, head))                                             \
  X(float, cache_weights, (float *scores, size_t count, float scale, float *peak), (scores,        \
    count, scale, peak))                                                                           \
  X(uint64_t, read_stream, (const void *data, size_t words), (data, words))

typedef struct nibble_kernels {
  /// Name of the set in NIBBLE_ISA.
  const char *name;
  /// Whether this processor and system support its instructions.
  int (*runs_here)(void);
  /// Instructions of its tile products here: NIBBLE_TILES_DOTS, NIBBLE_TILES_AMX or 0.
  int (*tile_products)(void);
  /// Written by hand for some sets: see nibble_panels_integers and its neighbours.
  void (*panels_integers)(const nibble_inputs *x, const nibble_panels *w, size_t first, size_t count,
                          float *y, size_t y_stride, void *scratch);
  void (*panels_floats)(const nibble_inputs *x, const nibble_panels *w, size_t first, size_t count,
                        float *y, size_t y_stride);
  size_t (*panels_scratch)(size_t columns);
  double (*peak_f32)(size_t rounds);
  double (*peak_bf16)(size_t rounds);
  double (*peak_int8)(size_t rounds);
#define NIBBLE_FIELD(result, name, parameters, arguments) result(*name) parameters;
  NIBBLE_LOOPS(NIBBLE_FIELD)
#undef NIBBLE_FIELD
} nibble_kernels;

/// The sets that run here, slowest first. Number 0 is plain C, the specification. Null after the
/// last.
const nibble_kernels *nibble_kernels_at(size_t index);
/// The set of this name; null when there is none or it does not run here.
const nibble_kernels *nibble_kernels_named(const char *name);
/// The set in use: the one that NIBBLE_ISA names, or else the fastest that runs here. Chosen once.
/// An unknown name is ignored; nibble_kernels_named detects it.
const nibble_kernels *nibble_kernels_here(void);

#endif
