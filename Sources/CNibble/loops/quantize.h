#include "nibble.h"
#include "lanes.h"

#include <float.h>
#include <string.h>

/// The largest magnitude of the values. It compares bits, so that NaN and infinity are larger than
/// every finite value.
static inline __attribute__((always_inline)) float largest_magnitude(const float *x, size_t count) {
  uint32_t lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      uint32_t bits;
      memcpy(&bits, x + i + l, 4);
      bits &= 0x7FFFFFFF;
      lane[l] = bits > lane[l] ? bits : lane[l];
    }
  }
  for (int l = 0; i < count; i++, l++) {
    uint32_t bits;
    memcpy(&bits, x + i, 4);
    bits &= 0x7FFFFFFF;
    lane[l] = bits > lane[l] ? bits : lane[l];
  }
  uint32_t peak = 0;
  for (int l = 0; l < LANES; l++) peak = lane[l] > peak ? lane[l] : peak;
  float value;
  memcpy(&value, &peak, 4);
  return value;
}

static float absmax(const float *x, size_t count) { return largest_magnitude(x, count); }

static void minmax(const float *x, size_t count, float *low, float *high) {
  float least[LANES], most[LANES];
  for (int l = 0; l < LANES; l++) least[l] = most[l] = count > 0 ? x[0] : 0;
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      least[l] = x[i + l] < least[l] ? x[i + l] : least[l];
      most[l] = x[i + l] > most[l] ? x[i + l] : most[l];
    }
  }
  for (int l = 0; i < count; i++, l++) {
    least[l] = x[i] < least[l] ? x[i] : least[l];
    most[l] = x[i] > most[l] ? x[i] : most[l];
  }
  for (int l = 1; l < LANES; l++) {
    least[0] = least[l] < least[0] ? least[l] : least[0];
    most[0] = most[l] > most[0] ? most[l] : most[0];
  }
  *low = least[0];
  *high = most[0];
}

/// x / scale rounded half to even and clamped to least...most; NaN becomes least.
static inline __attribute__((always_inline)) int rounded(float x, float scale, float least,
                                                         float most) {
  const float magic = 12582912.0f;  // adding it rounds to an integer, half to even
  float v = x / scale;
  v = v > least ? v : least;  // NaN too
  v = v < most ? v : most;
  return (int)((v + magic) - magic);
}

static void round_int(const float *x, int8_t *codes, size_t count, float scale, int zero,
                               int low, int high) {
  const float least = (float)(low - zero), most = (float)(high - zero);
  for (size_t i = 0; i < count; i++)
    codes[i] = (int8_t)(rounded(x[i], scale, least, most) + zero);
}

/// The sum of one group's codes. Common sizes are compile-time constants.
static inline __attribute__((always_inline)) int32_t round_group(const float *restrict x,
                                                                 size_t count,
                                                                 int8_t *restrict codes,
                                                                 float *scale) {
  const float peak = largest_magnitude(x, count);
  float step = peak / 127.0f;
  if (step < FLT_MIN) step = FLT_MIN;  // not for NaN
  if (peak == 0) step = 1;
  int32_t total = 0;
  for (size_t j = 0; j < count; j++) {
    const int code = rounded(x[j], step, -127.0f, 127.0f);
    codes[j] = (int8_t)code;
    total += code;
  }
  *scale = step;
  return total;
}

static void round_groups(const float *x, size_t count, size_t group, int8_t *codes,
                                  float *scales, int32_t *sums, size_t step) {
  for (size_t at = 0; at < count; at += group, scales += step) {
    const size_t left = count - at;
    const int32_t sum = group == 32 && left >= 32
                            ? round_group(x + at, 32, codes + at, scales)
                            : round_group(x + at, left < group ? left : group, codes + at, scales);
    if (!sums) continue;
    *sums = sum;
    sums += step;
  }
}

static void decode_int8(const int8_t *codes, float *out, size_t count, float scale,
                                 int zero) {
  for (size_t i = 0; i < count; i++) out[i] = (float)((int)codes[i] - zero) * scale;
}

static void decode_int4(const uint8_t *codes, float *out, size_t count, float scale,
                                 int zero) {
  const int shift = zero + 8;
  for (size_t i = 0; i < count / 2; i++) {
    int byte = codes[i];
    out[2 * i] = (float)((byte & 15) - shift) * scale;
    out[2 * i + 1] = (float)((byte >> 4) - shift) * scale;
  }
}

static void unpack_int4(const uint8_t *codes, int8_t *out, size_t count) {
  for (size_t i = 0; i < count / 2; i++) {
    // Both codes in the two bytes of one word; subtracting 8 from each never borrows from the
    // other.
    uint16_t pair = codes[i];
    pair = (pair | pair << 4) & 0x0F0F;
    pair = ((pair | 0x8080) - 0x0808) ^ 0x8080;
    memcpy(out + 2 * i, &pair, 2);
  }
}

static void error_energy(const float *a, const float *b, size_t count, double *error,
                                  double *signal) {
  double e[LANES] = {0}, s[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    for (int l = 0; l < LANES; l++) {
      double d = (double)a[i + l] - (double)b[i + l];
      e[l] += d * d;
      s[l] += (double)a[i + l] * (double)a[i + l];
    }
  }
  for (int l = 0; i < count; i++, l++) {
    double d = (double)a[i] - (double)b[i];
    e[l] += d * d;
    s[l] += (double)a[i] * (double)a[i];
  }
  *error = fold_double(e);
  *signal = fold_double(s);
}
