#include "nibble.h"
#include "lanes.h"

#include <math.h>

static void rms_norm(const float *x, const float *weight, float *y, size_t count,
                              float epsilon) {
  float lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += x[i + l] * x[i + l];
  for (int l = 0; i < count; i++, l++) lane[l] += x[i] * x[i];
  float factor = 1.0f / sqrtf(fold(lane) / (float)count + epsilon);
  for (size_t j = 0; j < count; j++) y[j] = x[j] * factor * weight[j];
}

static void layer_norm(const float *x, const float *weight, float *y, size_t count,
                       float epsilon) {
  float lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += x[i + l];
  for (int l = 0; i < count; i++, l++) lane[l] += x[i];
  const float mean = fold(lane) / (float)count;
  for (size_t j = 0; j < count; j++) y[j] = x[j] - mean;
  rms_norm(y, weight, y, count, epsilon);
}

static void activate(float *x, size_t count, int activation) {
  switch (activation) {
    case NIBBLE_SILU:
      for (size_t i = 0; i < count; i++) x[i] = x[i] / (1.0f + exp_lane(-x[i]));
      break;
    case NIBBLE_RELU:
      for (size_t i = 0; i < count; i++) x[i] = x[i] > 0.0f ? x[i] : 0.0f;
      break;
    case NIBBLE_GELU:
      for (size_t i = 0; i < count; i++) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
      break;
    default:
      // (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u))
      for (size_t i = 0; i < count; i++) {
        const float u = 0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        x[i] = x[i] / (1.0f + exp_lane(-2.0f * u));
      }
  }
}

static void silu_multiply(float *restrict gate, const float *restrict up, size_t count) {
  for (size_t i = 0; i < count; i++) {
    float g = gate[i];
    gate[i] = g / (1.0f + exp_lane(-g)) * up[i];
  }
}

static void add(float *y, const float *x, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] += x[i];
}

static void scale(float *y, float factor, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] *= factor;
}

static void add_scaled(float *y, const float *x, float factor, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] += factor * x[i];
}

static void rotate(float *head, const float *cosine, const float *sine, size_t half) {
  for (size_t i = 0; i < half; i++) {
    float a = head[i], b = head[i + half];
    head[i] = a * cosine[i] - b * sine[i];
    head[i + half] = b * cosine[i] + a * sine[i];
  }
}

static inline __attribute__((always_inline)) void delta_columns(
    float *state, const float *query, const float *key, const float *value, float decay,
    float strength, float *y, size_t keys, size_t values, size_t count) {
  float delta[LANES] = {0}, sum[LANES] = {0};
  for (size_t k = 0; k < keys; k++)
    for (size_t l = 0; l < count; l++) {
      const float s = decay * state[k * values + l];
      state[k * values + l] = s;
      delta[l] += s * key[k];
    }
  for (size_t l = 0; l < count; l++) delta[l] = strength * (value[l] - delta[l]);
  for (size_t k = 0; k < keys; k++)
    for (size_t l = 0; l < count; l++) {
      const float s = state[k * values + l] + key[k] * delta[l];
      state[k * values + l] = s;
      sum[l] += s * query[k];
    }
  for (size_t l = 0; l < count; l++) y[l] = sum[l];
}

static void delta_step(float *state, const float *query, const float *key, const float *value,
                       float decay, float strength, float *y, size_t keys, size_t values) {
  size_t i = 0;
  for (; i + LANES <= values; i += LANES)
    delta_columns(state + i, query, key, value + i, decay, strength, y + i, keys, values, LANES);
  delta_columns(state + i, query, key, value + i, decay, strength, y + i, keys, values, values - i);
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

static void softmax(float *x, size_t count) {
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

static double log_sum_exp(const float *x, size_t count) {
  float peak = maximum(x, count);
  double lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += (double)exp_lane(x[i + l] - peak);
  for (int l = 0; i < count; i++, l++) lane[l] += (double)exp_lane(x[i] - peak);
  return (double)peak + log(fold_double(lane));
}

/// p * (d - 1 + exp(-d)) with p = exp(a - base) and d = log p - log q, q = exp(b - base - shift):
/// never negative, whatever the rounding. For small d a series avoids the cancellation.
static inline __attribute__((always_inline)) double divergence_lane(float a, float b, float base,
                                                                    double shift) {
  const double d = (double)a - (double)b + shift;
  const double p = exp_lane(a - base), q = exp_lane((float)((double)b - base - shift));
  const double series =
      1.0 / 2 + d * (-1.0 / 6 + d * (1.0 / 24 + d * (-1.0 / 120 + d * (1.0 / 720 - d / 5040))));
  const double whole = p * (d - 1.0) + q;
  return d > -0.25 && d < 0.25 ? p * (d * d * series) : whole > 0.0 ? whole : 0.0;
}

static double kl(const float *a, const float *b, double a_sum, double b_sum,
                          size_t count) {
  double lane[LANES] = {0};
  const float base = (float)a_sum;
  const double shift = b_sum - a_sum;
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += divergence_lane(a[i + l], b[i + l], base, shift);
  for (int l = 0; i < count; i++, l++) lane[l] += divergence_lane(a[i], b[i], base, shift);
  return fold_double(lane);
}

static size_t argmax(const float *x, size_t count) {
  float peak = maximum(x, count);
  for (size_t i = 0; i < count; i++)
    if (x[i] == peak) return i;
  return 0;
}

static void top(const float *x, size_t count, size_t *best, size_t k) {
  size_t found = 0;
  float least = 0.0f;
  for (size_t start = 0; start < count; start += LANES) {
    const size_t end = start + LANES < count ? start + LANES : count;
    if (found == k && end - start == LANES) {
      int larger = 0;
      for (int l = 0; l < LANES; l++) larger |= x[start + l] > least;
      if (!larger) continue;
    }
    for (size_t i = start; i < end; i++) {
      if (found == k && !(x[i] > least)) continue;
      size_t at = found < k ? found++ : k - 1;
      for (; at > 0 && x[i] > x[best[at - 1]]; at--) best[at] = best[at - 1];
      best[at] = i;
      least = x[best[found - 1]];
    }
  }
}
