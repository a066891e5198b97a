#include "nibble.h"
#include "lanes.h"

static inline __attribute__((always_inline)) float round_even(float v) {
  const float magic = 12582912.0f;
  return (v + magic) - magic;
}

static void round_feedback_int(const float *w, float *carry, const float *r,
                                        size_t r_stride, size_t count, const float *scale,
                                        const int8_t *zero, int low, int high, int8_t *codes,
                                        float *error) {
  for (size_t j = 0; j < count; j++) {
    const float *row = r + j * r_stride;
    float shift = zero ? (float)zero[j] : 0.0f;
    float least = (float)low - shift, most = (float)high - shift;
    float v = (w[j] + carry[j] / row[j]) / scale[j];
    v = v > least ? v : least;
    v = v < most ? v : most;
    v = round_even(v);
    codes[j] = (int8_t)(v + shift);
    float e = w[j] - v * scale[j];
    error[j] = e;
    for (size_t l = j + 1; l < count; l++) carry[l] += e * row[l];
  }
}

static void round_feedback_e4m3(const float *w, float *carry, const float *r,
                                         size_t r_stride, size_t count, const float *scale,
                                         uint8_t *codes, float *error) {
  for (size_t j = 0; j < count; j++) {
    const float *row = r + j * r_stride;
    float v = (w[j] + carry[j] / row[j]) / scale[j], rounded;
    f32_to_e4m3(&v, codes + j, 1);
    e4m3_to_f32(codes + j, &rounded, 1);
    float e = w[j] - rounded * scale[j];
    error[j] = e;
    for (size_t l = j + 1; l < count; l++) carry[l] += e * row[l];
  }
}

static void follow_feedback(const float *w, float *carry, const float *r,
                                     size_t r_stride, size_t count, float *out) {
  for (size_t j = 0; j < count; j++) {
    const float *row = r + j * r_stride;
    float e = -carry[j] / row[j];
    out[j] = w[j] - e;
    for (size_t l = j + 1; l < count; l++) carry[l] += e * row[l];
  }
}

static inline __attribute__((always_inline)) float residual(float w, float scale, float least,
                                                            float most) {
  float v = w / scale;
  v = v > least ? v : least;
  v = v < most ? v : most;
  return round_even(v) * scale - w;
}

static float grid_error_int(const float *w, const float *importance, size_t count,
                                     float scale, int zero, int low, int high) {
  float least = (float)(low - zero), most = (float)(high - zero), lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int l = 0; l < LANES; l++) {
      float d = residual(w[i + l], scale, least, most);
      lane[l] += importance[i + l] * d * d;
    }
  for (int l = 0; i < count; i++, l++) {
    float d = residual(w[i], scale, least, most);
    lane[l] += importance[i] * d * d;
  }
  return fold(lane);
}

static float grid_error_e4m3(const float *w, const float *importance, size_t count,
                                      float scale) {
  float lane[LANES] = {0};
  uint8_t codes[LANES];
  float rounded[LANES];
  for (size_t i = 0; i < count; i += LANES) {
    size_t width = count - i < LANES ? count - i : LANES;
    round_e4m3(w + i, codes, width, scale);
    e4m3_to_f32(codes, rounded, width);
    for (size_t l = 0; l < width; l++) {
      float d = rounded[l] * scale - w[i + l];
      lane[l] += importance[i + l] * d * d;
    }
  }
  return fold(lane);
}

static float grid_energy_int(const float *w, const float *h, size_t h_stride,
                                      size_t count, float scale, int zero, int low, int high,
                                      float *d) {
  float least = (float)(low - zero), most = (float)(high - zero), energy = 0;
  for (size_t i = 0; i < count; i++) d[i] = residual(w[i], scale, least, most);
  for (size_t i = 0; i < count; i++) {
    const float *row = h + i * h_stride;
    float lane[LANES] = {0};
    size_t j = 0;
    for (; j + LANES <= count; j += LANES)
      for (int l = 0; l < LANES; l++) lane[l] += d[j + l] * row[j + l];
    for (int l = 0; j < count; j++, l++) lane[l] += d[j] * row[j];
    energy += d[i] * fold(lane);
  }
  return energy;
}
