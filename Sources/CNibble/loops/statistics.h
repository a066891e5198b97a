#include "nibble.h"
#include "lanes.h"

#include <math.h>

/// Statistics of up to 32 columns. For 32 the count is a compile-time constant, which keeps the
/// sums in registers.
static inline __attribute__((always_inline)) void watch_columns(const float *x, size_t tokens,
                                                                size_t stride, size_t width,
                                                                float *low, float *high,
                                                                double *magnitude,
                                                                double *energy) {
  float least[32], most[32], sum[32], square[32];
  for (size_t i = 0; i < width; i++) {
    least[i] = low[i];
    most[i] = high[i];
  }
  for (size_t start = 0; start < tokens; start += 32) {
    size_t end = start + 32 < tokens ? start + 32 : tokens;
    for (size_t i = 0; i < width; i++) sum[i] = square[i] = 0;
    for (size_t t = start; t < end; t++) {
      const float *row = x + t * stride;
      for (size_t i = 0; i < width; i++) {
        float v = row[i];
        least[i] = v < least[i] ? v : least[i];
        most[i] = v > most[i] ? v : most[i];
        sum[i] += fabsf(v);
        square[i] += v * v;
      }
    }
    for (size_t i = 0; i < width; i++) {
      magnitude[i] += (double)sum[i];
      energy[i] += (double)square[i];
    }
  }
  for (size_t i = 0; i < width; i++) {
    low[i] = least[i];
    high[i] = most[i];
  }
}

static void column_statistics(const float *x, size_t tokens, size_t stride, size_t count,
                                       float *low, float *high, double *magnitude, double *energy) {
  size_t first = 0;
  for (; first + 32 <= count; first += 32)
    watch_columns(x + first, tokens, stride, 32, low + first, high + first, magnitude + first,
                  energy + first);
  if (first < count)
    watch_columns(x + first, tokens, stride, count - first, low + first, high + first,
                  magnitude + first, energy + first);
}

static float scaled_peak(const float *x, const float *factor, size_t count) {
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

static double rounding_energy(const float *x, const float *factor, const float *weight,
                                       size_t count, float largest) {
  const float peak = scaled_peak(x, factor, count);
  if (!(peak > 0)) return 0;
  const float step = peak / largest, codes = largest / peak;
  float lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) {
      float v = x[i + l] * factor[i + l] * codes;
      float error = (v - nearbyintf(v)) * step;
      lane[l] += error * error * weight[i + l];
    }
  for (int l = 0; i < count; i++, l++) {
    float v = x[i] * factor[i] * codes;
    float error = (v - nearbyintf(v)) * step;
    lane[l] += error * error * weight[i];
  }
  double sum = 0;
  for (int l = 0; l < LANES; l++) sum += lane[l];
  return sum;
}

static void multiply(float *y, const float *factor, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] *= factor[i];
}
