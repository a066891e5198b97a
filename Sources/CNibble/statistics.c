#include "nibble.h"
#include "variants.h"

#include <math.h>

VARIANTS void nibble_column_statistics(const float *x, size_t tokens, size_t stride, size_t count,
                                       float *low, float *high, double *magnitude, double *energy) {
  float sum[64], square[64];
  for (size_t first = 0; first < count; first += 64) {
    size_t width = count - first < 64 ? count - first : 64;
    for (size_t start = 0; start < tokens; start += 32) {
      size_t end = start + 32 < tokens ? start + 32 : tokens;
      for (size_t i = 0; i < 64; i++) sum[i] = square[i] = 0;
      for (size_t t = start; t < end; t++) {
        const float *row = x + t * stride + first;
        for (size_t i = 0; i < width; i++) {
          float v = row[i];
          low[first + i] = v < low[first + i] ? v : low[first + i];
          high[first + i] = v > high[first + i] ? v : high[first + i];
          sum[i] += fabsf(v);
          square[i] += v * v;
        }
      }
      for (size_t i = 0; i < width; i++) {
        magnitude[first + i] += (double)sum[i];
        energy[first + i] += (double)square[i];
      }
    }
  }
}

VARIANTS float nibble_scaled_peak(const float *x, const float *factor, size_t count) {
  float lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) {
      float v = fabsf(x[i + l]) * factor[i + l];
      lane[l] = v > lane[l] ? v : lane[l];
    }
  for (int l = 0; i < count; i++, l++) {
    float v = fabsf(x[i]) * factor[i];
    lane[l] = v > lane[l] ? v : lane[l];
  }
  float peak = 0;
  for (int l = 0; l < LANES; l++) peak = lane[l] > peak ? lane[l] : peak;
  return peak;
}

VARIANTS void nibble_multiply(float *y, const float *factor, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] *= factor[i];
}
