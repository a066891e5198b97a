#include "nibble.h"
#include "lanes.h"
#include "pages.h"

#include <string.h>

static void cache_store(const float *row, void *page, int format, size_t token, size_t head,
                        int is_key, float fixed) {
  // Keys are transposed: element i of all tokens is contiguous.
  const size_t step = is_key ? PAGE : 1, first = is_key ? token : token * head;
  float *scales = (float *)((char *)page + code_bytes(format, head));
  if (format == NIBBLE_CACHE_F32) {
    for (size_t i = 0; i < head; i++) ((float *)page)[first + i * step] = row[i];
    return;
  }
  if (format == NIBBLE_CACHE_F16) {
    uint16_t halves[64];
    for (size_t start = 0; start < head; start += 64) {
      const size_t count = head - start < 64 ? head - start : 64;
      f32_to_f16(row + start, halves, count);
      for (size_t i = 0; i < count; i++)
        ((uint16_t *)page)[first + (start + i) * step] = halves[i];
    }
    return;
  }
  if (has_groups(format)) {
    store_values(row, page, format, token, head, fixed);
    return;
  }
  float low = 0, high = 0;
  minmax(row, head, &low, &high);
  const float peak = high > -low ? high : -low;
  uint8_t *codes = page;
  const float largest = format == NIBBLE_CACHE_INT8 ? 127.0f : 448.0f;
  float scale = fixed > 0 ? fixed : peak / largest;
  if (!(scale > 0)) scale = 1;
  scales[token] = scale;
  if (format == NIBBLE_CACHE_INT8) {
    for (size_t i = 0; i < head; i++)
      codes[first + i * step] = (uint8_t)(int8_t)clamped_even(row[i] / scale, -127, 127);
    return;
  }
  for (size_t i = 0; i < head; i++) round_e4m3(row + i, codes + first + i * step, 1, scale);
}

static void cache_load(const void *page, float *out, int format, size_t head, int is_key) {
  const size_t count = PAGE * head;
  const float *scales = (const float *)((const char *)page + code_bytes(format, head));
  switch (format) {
    case NIBBLE_CACHE_F32:
      memcpy(out, page, count * sizeof(float));
      return;
    case NIBBLE_CACHE_F16:
      f16_to_f32(page, out, count);
      return;
    case NIBBLE_CACHE_INT8:
      for (size_t i = 0; i < count; i++) out[i] = (float)((const int8_t *)page)[i];
      break;
    case NIBBLE_CACHE_INT4: return load_groups(page, out, NIBBLE_CACHE_INT4, head, is_key);
    case NIBBLE_CACHE_INT3: return load_groups(page, out, NIBBLE_CACHE_INT3, head, is_key);
    default: e4m3_to_f32(page, out, count);
  }
  if (is_key) {
    for (size_t i = 0; i < head; i++)
      for (size_t t = 0; t < PAGE; t++) out[i * PAGE + t] = out[i * PAGE + t] * scales[t];
  } else {
    for (size_t t = 0; t < PAGE; t++)
      for (size_t i = 0; i < head; i++) out[t * head + i] = out[t * head + i] * scales[t];
  }
}

static void cache_scores(const float *keys, const float *query, float *scores, size_t head) {
  float sum[PAGE] = {0};
  for (size_t i = 0; i < head; i++)
    for (size_t t = 0; t < PAGE; t++) sum[t] += query[i] * keys[i * PAGE + t];
  memcpy(scores, sum, sizeof sum);
}

static void cache_mix(const float *values, const float *weights, float *out, size_t count,
                               size_t head) {
  for (size_t first = 0; first < head; first += 64) {
    const size_t width = head - first < 64 ? head - first : 64;
    float sum[64] = {0};
    if (width == 64) {
      for (size_t i = 0; i < 64; i++) sum[i] = out[first + i];
      for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < 64; i++) sum[i] += weights[t] * values[t * head + first + i];
      memcpy(out + first, sum, sizeof sum);
    } else {
      for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < width; i++)
          out[first + i] += weights[t] * values[t * head + first + i];
    }
  }
}

static float cache_weights(float *scores, size_t count, float scale, float *peak) {
  float most = scores[0];
  for (size_t i = 1; i < count; i++) most = scores[i] > most ? scores[i] : most;
  float lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      scores[i + l] = exp_lane((scores[i + l] - most) * scale);
      lane[l] += scores[i + l];
    }
  }
  for (int l = 0; i < count; i++, l++) {
    scores[i] = exp_lane((scores[i] - most) * scale);
    lane[l] += scores[i];
  }
  *peak = most * scale;
  return fold(lane);
}
