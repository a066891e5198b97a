#include "nibble.h"
#include "variants.h"

#include <math.h>

VARIANTS void nibble_rms_norm(const float *x, const float *weight, float *y, size_t count,
                              float epsilon) {
  float lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += x[i + l] * x[i + l];
  for (int l = 0; i < count; i++, l++) lane[l] += x[i] * x[i];
  float factor = 1.0f / sqrtf(fold(lane) / (float)count + epsilon);
  for (size_t j = 0; j < count; j++) y[j] = x[j] * factor * weight[j];
}

VARIANTS void nibble_silu_multiply(float *restrict gate, const float *restrict up, size_t count) {
  for (size_t i = 0; i < count; i++) {
    float g = gate[i];
    gate[i] = g / (1.0f + exp_lane(-g)) * up[i];
  }
}

VARIANTS void nibble_add(float *y, const float *x, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] += x[i];
}

VARIANTS void nibble_scale(float *y, float factor, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] *= factor;
}

VARIANTS void nibble_add_scaled(float *y, const float *x, float factor, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] += factor * x[i];
}

VARIANTS void nibble_rotate(float *head, const float *cosine, const float *sine, size_t half) {
  for (size_t i = 0; i < half; i++) {
    float a = head[i], b = head[i + half];
    head[i] = a * cosine[i] - b * sine[i];
    head[i + half] = b * cosine[i] + a * sine[i];
  }
}

static inline __attribute__((always_inline)) float maximum(const float *x, size_t count) {
  float lane[LANES];
  for (int l = 0; l < LANES; l++) lane[l] = x[0];
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
  for (; i < count; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
  float peak = lane[0];
  for (int l = 1; l < LANES; l++) peak = lane[l] > peak ? lane[l] : peak;
  return peak;
}

VARIANTS void nibble_softmax(float *x, size_t count) {
  float peak = maximum(x, count);
  float lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      float e = exp_lane(x[i + l] - peak);
      x[i + l] = e;
      lane[l] += e;
    }
  }
  for (int l = 0; i < count; i++, l++) {
    float e = exp_lane(x[i] - peak);
    x[i] = e;
    lane[l] += e;
  }
  float factor = 1.0f / fold(lane);
  for (size_t j = 0; j < count; j++) x[j] *= factor;
}

VARIANTS double nibble_log_sum_exp(const float *x, size_t count) {
  float peak = maximum(x, count);
  double lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += (double)exp_lane(x[i + l] - peak);
  for (int l = 0; i < count; i++, l++) lane[l] += (double)exp_lane(x[i] - peak);
  return (double)peak + log(fold_double(lane));
}

VARIANTS double nibble_kl(const float *a, const float *b, double a_sum, double b_sum,
                          size_t count) {
  double lane[LANES] = {0};
  const float base = (float)a_sum;
  const double shift = b_sum - a_sum;
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      double difference = (double)a[i + l] - (double)b[i + l] + shift;
      lane[l] += (double)exp_lane(a[i + l] - base) * difference;
    }
  }
  for (int l = 0; i < count; i++, l++) {
    double difference = (double)a[i] - (double)b[i] + shift;
    lane[l] += (double)exp_lane(a[i] - base) * difference;
  }
  return fold_double(lane);
}

VARIANTS size_t nibble_argmax(const float *x, size_t count) {
  float peak = maximum(x, count);
  for (size_t i = 0; i < count; i++)
    if (x[i] == peak) return i;
  return 0;
}
