#ifndef NIBBLE_LANES_H
#define NIBBLE_LANES_H

/// Shared by all loops. Each file of loops/ is compiled once per instruction set, by the set's own
/// file. The loops keep sixteen running lanes, so the vector width does not change the sums.

#pragma STDC FP_CONTRACT OFF

#define LANES 16

/// Folds the lanes in a fixed order.
static inline __attribute__((always_inline)) float fold(const float *lane) {
  float l[LANES];
  for (int i = 0; i < LANES; i++) l[i] = lane[i];
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) l[i] += l[i + width];
  return l[0];
}

static inline __attribute__((always_inline)) double fold_double(const double *lane) {
  double l[LANES];
  for (int i = 0; i < LANES; i++) l[i] = lane[i];
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) l[i] += l[i + width];
  return l[0];
}

/// exp(x) within 2 ulp for -87 < x < 88; 0 below, the largest power of two above.
static inline __attribute__((always_inline)) float exp_lane(float x) {
  const float magic = 12582912.0f;  // adding it rounds to an integer, half to even
  float clamped = x < -87.3f ? -87.3f : x > 88.0f ? 88.0f : x;
  float n = (clamped * 1.44269504088896f + magic) - magic;
  float r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  union { int i; float f; } power;
  power.i = ((int)n + 127) << 23;
  return x < -87.3f ? 0.0f : p * power.f;
}

#endif
