#include "nibble.h"
#include "lanes.h"
#include "pages.h"

#include <string.h>

/// Groups of 32 codes with a scale and a minimum, for the int4 and int3 caches.

static float clamped_even(float x, float low, float high) {
  const float magic = 12582912.0f;  // adding it rounds to an integer, half to even
  x = x > low ? x : low;            // NaN too
  x = x < high ? x : high;
  return (x + magic) - magic;
}

static float half_of(float x) {
  const float largest = 65504.0f;
  x = x > largest ? largest : x;
  x = x < -largest ? -largest : x;
  return (float)(_Float16)x;
}

/// Quantizes up to 32 values; the other codes of the group are 0.
static void store_group(const float *x, size_t count, uint8_t *group, int format, float fixed) {
  const float most = format == NIBBLE_CACHE_INT4 ? 15 : 7;
  float low = 0, high = 0;
  if (fixed > 0)
    low = -(most + 1) / 2 * fixed;
  else
    minmax(x, count, &low, &high);
  low = half_of(low);
  float scale = half_of(fixed > 0 ? fixed : (high - low) / most);
  if (!(scale > 0)) scale = 1;
  const _Float16 halves[2] = {(_Float16)scale, (_Float16)low};
  memcpy(group, halves, sizeof halves);
  uint8_t codes[GROUP] = {0};
  for (size_t i = 0; i < count; i++) codes[i] = (uint8_t)clamped_even((x[i] - low) / scale, 0, most);
  group += sizeof halves;
  if (format == NIBBLE_CACHE_INT4) {
    for (int i = 0; i < 16; i++) group[i] = (uint8_t)(codes[i] | codes[i + 16] << 4);
  } else {
    // The low two bits of codes i, i + 8, i + 16 and i + 24, then the high bits of eight codes.
    for (int i = 0; i < 8; i++)
      group[i] = (uint8_t)((codes[i] & 3) | (codes[i + 8] & 3) << 2 | (codes[i + 16] & 3) << 4 |
                           (codes[i + 24] & 3) << 6);
    for (int r = 0; r < 4; r++) {
      int high_bits = 0;
      for (int i = 0; i < 8; i++) high_bits |= (codes[8 * r + i] >> 2) << i;
      group[8 + r] = (uint8_t)high_bits;
    }
  }
}

typedef uint8_t byte_lanes __attribute__((vector_size(LANES)));
typedef int32_t eight_codes __attribute__((vector_size(32)));
typedef float eight_floats __attribute__((vector_size(32)));

// With explicit vectors: compilers do not see the shifts of int3 as such in a plain loop.
static inline __attribute__((always_inline)) void load_group(const uint8_t *group, float *out,
                                                             int format) {
  _Float16 halves[2];
  memcpy(halves, group, sizeof halves);
  const float scale = (float)halves[0], low = (float)halves[1];
  group += sizeof halves;
  if (format == NIBBLE_CACHE_INT4) {
    byte_lanes pairs;
    memcpy(&pairs, group, sizeof pairs);
    const float_lanes first = __builtin_convertvector(pairs & 15, float_lanes) * scale + low;
    const float_lanes second = __builtin_convertvector(pairs >> 4, float_lanes) * scale + low;
    memcpy(out, &first, sizeof first);
    memcpy(out + LANES, &second, sizeof second);
    return;
  }
  uint8_t __attribute__((vector_size(8))) bytes;
  memcpy(&bytes, group, sizeof bytes);
  const eight_codes low_bits = __builtin_convertvector(bytes, eight_codes);
  const eight_codes places = {0, 1, 2, 3, 4, 5, 6, 7};
  for (int r = 0; r < 4; r++) {
    const eight_codes high_bits = (((eight_codes){} + group[8 + r]) >> places) & 1;
    const eight_codes codes = ((low_bits >> (2 * r)) & 3) | (high_bits << 2);
    const eight_floats values = __builtin_convertvector(codes, eight_floats) * scale + low;
    memcpy(out + 8 * r, &values, sizeof values);
  }
}

static void store_values(const float *row, uint8_t *page, int format, size_t token, size_t head,
                         float fixed) {
  const size_t bytes = group_bytes(format), groups = (head + GROUP - 1) / GROUP;
  for (size_t g = 0; g < groups; g++) {
    const size_t rest = head - g * GROUP;
    store_group(row + g * GROUP, rest < GROUP ? rest : GROUP, page + (token * groups + g) * bytes,
                format, fixed);
  }
}

static void cache_store_keys(const float *rows, size_t stride, void *page, int format, size_t first,
                             size_t head, float fixed) {
  const size_t bytes = group_bytes(format);
  for (size_t i = 0; i < head; i++) {
    float channel[GROUP];
    for (size_t t = 0; t < GROUP; t++) channel[t] = rows[t * stride + i];
    store_group(channel, GROUP, (uint8_t *)page + (first / GROUP * head + i) * bytes, format, fixed);
  }
}

static inline __attribute__((always_inline)) void load_groups(const uint8_t *page, float *out,
                                                              int format, size_t head, int is_key) {
  const size_t bytes = group_bytes(format);
  if (is_key) {
    for (size_t first = 0; first < PAGE; first += GROUP)
      for (size_t i = 0; i < head; i++, page += bytes) load_group(page, out + i * PAGE + first, format);
    return;
  }
  const size_t whole = head / GROUP, rest = head % GROUP;
  for (size_t t = 0; t < PAGE; t++) {
    for (size_t g = 0; g < whole; g++, page += bytes)
      load_group(page, out + t * head + g * GROUP, format);
    if (rest > 0) {
      float group[GROUP];
      load_group(page, group, format);
      memcpy(out + t * head + whole * GROUP, group, rest * sizeof(float));
      page += bytes;
    }
  }
}
