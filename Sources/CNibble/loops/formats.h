#include "nibble.h"
#include "lanes.h"

#include <string.h>

typedef _Float16 half_lanes __attribute__((vector_size(2 * LANES)));
typedef float float_lanes __attribute__((vector_size(4 * LANES)));

static void f16_to_f32(const void *in, float *out, size_t count) {
  const char *bytes = in;
  size_t i = 0;
  // With explicit vectors: compilers convert one _Float16 at a time in a plain loop.
  for (; i + LANES <= count; i += LANES) {
    half_lanes halves;
    memcpy(&halves, bytes + 2 * i, sizeof halves);
    const float_lanes values = __builtin_convertvector(halves, float_lanes);
    memcpy(out + i, &values, sizeof values);
  }
  for (; i < count; i++) {
    _Float16 half;
    memcpy(&half, bytes + 2 * i, 2);
    out[i] = (float)half;
  }
}

static void bf16_to_f32(const void *in, float *out, size_t count) {
  const char *bytes = in;
  for (size_t i = 0; i < count; i++) {
    uint16_t half;
    memcpy(&half, bytes + 2 * i, 2);
    uint32_t bits = (uint32_t)half << 16;
    memcpy(out + i, &bits, 4);
  }
}

static void f32_to_f16(const float *in, uint16_t *out, size_t count) {
  for (size_t i = 0; i < count; i++) {
    _Float16 half = (_Float16)in[i];
    memcpy(out + i, &half, 2);
  }
}

static void f32_to_bf16(const float *in, uint16_t *out, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, in + i, 4);
    uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    uint32_t nan = (bits >> 16) | 0x40;
    out[i] = (uint16_t)((bits & 0x7FFFFFFF) > 0x7F800000 ? nan : rounded);
  }
}

static void e4m3_to_f32(const uint8_t *in, float *out, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint32_t code = in[i], magnitude = code & 0x7F;
    // Normal: the exponent's bias moves from 7 to 127. Subnormal: eighths of 2^-6.
    uint32_t normal_bits = (magnitude << 20) + ((127 - 7) << 23);
    float normal, value;
    memcpy(&normal, &normal_bits, 4);
    float subnormal = (float)magnitude * 0x1p-9f;
    value = magnitude < 8 ? subnormal : normal;
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits = magnitude == 0x7F ? 0x7FC00000 : bits;
    bits |= (code & 0x80) << 24;
    memcpy(out + i, &bits, 4);
  }
}

static inline __attribute__((always_inline)) uint8_t e4m3(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t sign = (bits >> 24) & 0x80, magnitude = bits & 0x7FFFFFFF;
  uint32_t is_nan = magnitude > 0x7F800000;
  magnitude = magnitude > 0x43E00000 ? 0x43E00000 : magnitude;  // 448
  // Normal: round away 20 mantissa bits, half to even, and move the bias from 127 to 7.
  uint32_t normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - ((127 - 7) << 3);
  // Subnormal: adding 2^14 leaves the value in units of 2^-9 in the low bits, rounded half to even.
  float value;
  memcpy(&value, &magnitude, 4);
  float shifted = value + 16384.0f;
  uint32_t shifted_bits;
  memcpy(&shifted_bits, &shifted, 4);
  uint32_t subnormal = shifted_bits - 0x46800000;
  uint32_t code = magnitude < 0x3C800000 ? subnormal : normal;  // 2^-6
  return (uint8_t)(sign | (is_nan ? 0x7F : code));
}

static void f32_to_e4m3(const float *in, uint8_t *out, size_t count) {
  for (size_t i = 0; i < count; i++) out[i] = e4m3(in[i]);
}

static void round_e4m3(const float *x, uint8_t *codes, size_t count, float scale) {
  for (size_t i = 0; i < count; i++) codes[i] = e4m3(x[i] / scale);
}
