#include "nibble.h"
#include "lanes.h"

#include <string.h>

static inline __attribute__((always_inline)) uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

static inline __attribute__((always_inline)) float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/// The number of a format that is nearest to |x|. NaN becomes the largest.
static inline __attribute__((always_inline)) float nearest_magnitude(
    float x, const nibble_minifloat *format) {
  const float normal = float_of((uint32_t)(128 - format->bias) << 23);  // the smallest normal number
  // Adding 1.5 * 2^23 steps rounds to a multiple of the step, half to even.
  const float steps = float_of((uint32_t)(150 - format->mantissa_bits) << 23 | 0x400000);
  float magnitude = float_of(bits_of(x) & 0x7FFFFFFF);
  magnitude = magnitude < format->largest ? magnitude : format->largest;
  float power = float_of(bits_of(magnitude) & 0x7F800000);
  power = power > normal ? power : normal;
  const float magic = power * steps;
  const float rounded = (magnitude + magic) - magic;
  return rounded < format->largest ? rounded : format->largest;
}

/// The code of x, of which `magnitude` is the rounded magnitude.
static inline __attribute__((always_inline)) uint8_t minifloat_code(
    float x, float magnitude, const nibble_minifloat *format) {
  const uint32_t normal = (uint32_t)(128 - format->bias) << 23;
  const uint32_t bits = bits_of(magnitude);
  // Below the smallest normal number codes count steps of 2^(1 - bias - mantissa bits).
  const float step = float_of((uint32_t)(128 - format->bias - format->mantissa_bits) << 23);
  const uint32_t code =
      bits < normal ? (uint32_t)(magnitude / step)
                    : (bits >> (23 - format->mantissa_bits)) -
                          ((uint32_t)(127 - format->bias) << format->mantissa_bits);
  return (uint8_t)(code | (bits_of(x) >> 31) << (format->bits - 1));
}

static void round_minifloat(const float *x, uint8_t *codes, size_t count, float scale,
                            const nibble_minifloat *format) {
  for (size_t i = 0; i < count; i++) {
    const float v = x[i] / scale;
    codes[i] = minifloat_code(v, nearest_magnitude(v, format), format);
  }
}

static void decode_table(const uint8_t *codes, int bits, float *out, size_t count,
                         const float *table, float scale) {
  if (bits == 8) {
    for (size_t i = 0; i < count; i++) out[i] = table[codes[i]] * scale;
    return;
  }
  for (size_t i = 0; i < count / 2; i++) {
    out[2 * i] = table[codes[i] & 15] * scale;
    out[2 * i + 1] = table[codes[i] >> 4] * scale;
  }
}

static void round_feedback_minifloat(const float *w, float *carry, const float *r, size_t r_stride,
                                     size_t count, const float *scale,
                                     const nibble_minifloat *format, uint8_t *codes,
                                     float *error) {
  for (size_t j = 0; j < count; j++) {
    const float *row = r + j * r_stride;
    const float v = (w[j] + carry[j] / row[j]) / scale[j];
    const float magnitude = nearest_magnitude(v, format);
    codes[j] = minifloat_code(v, magnitude, format);
    const float e = w[j] - (v < 0 ? -magnitude : magnitude) * scale[j];
    error[j] = e;
    for (size_t l = j + 1; l < count; l++) carry[l] += e * row[l];
  }
}

static float grid_error_minifloat(const float *w, const float *importance, size_t count,
                                  float scale, const nibble_minifloat *format) {
  float lane[LANES] = {0};
  for (size_t i = 0; i < count; i += LANES) {
    const size_t width = count - i < LANES ? count - i : LANES;
    for (size_t l = 0; l < width; l++) {
      const float x = w[i + l];
      const float magnitude = nearest_magnitude(x / scale, format) * scale;
      const float d = (x < 0 ? -magnitude : magnitude) - x;
      lane[l] += (importance ? importance[i + l] : 1.0f) * d * d;
    }
  }
  return fold(lane);
}
