#include "nibble.h"
#include "lanes.h"

#include <string.h>

/// One row times x in sixteen lanes; LOAD(i) is the row's element i as a float.
#define DOT(LOAD)                                                                                  \
  float lane[LANES] = {0}, lane2[LANES] = {0};                                                     \
  size_t k = 0;                                                                                    \
  for (; k + 2 * LANES <= columns; k += 2 * LANES) {                                               \
    for (int l = 0; l < LANES; l++) lane[l] += x[k + l] * LOAD(k + l);                             \
    for (int l = 0; l < LANES; l++) lane2[l] += x[k + LANES + l] * LOAD(k + LANES + l);            \
  }                                                                                                \
  for (int l = 0; k < columns; k++, l = (l + 1) % LANES) lane[l] += x[k] * LOAD(k);                \
  for (int l = 0; l < LANES; l++) lane[l] += lane2[l];

static inline __attribute__((always_inline)) float load_f32(const char *row, size_t i) {
  float value;
  memcpy(&value, row + 4 * i, 4);
  return value;
}

static inline __attribute__((always_inline)) float load_f16(const char *row, size_t i) {
  _Float16 value;
  memcpy(&value, row + 2 * i, 2);
  return (float)value;
}

static inline __attribute__((always_inline)) float load_bf16(const char *row, size_t i) {
  uint16_t half;
  memcpy(&half, row + 2 * i, 2);
  uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

#define MATVEC(NAME, LOAD, SIZE)                                                                   \
  static void NAME(const float *x, const void *w, float *y, size_t columns, size_t rows) {       \
    for (size_t r = 0; r < rows; r++) {                                                            \
      const char *row = (const char *)w + r * columns * SIZE;                                      \
      DOT(LOAD)                                                                                    \
      y[r] = fold(lane);                                                                           \
    }                                                                                              \
  }

#define ROW_F32(i) load_f32(row, i)
#define ROW_F16(i) load_f16(row, i)
#define ROW_BF16(i) load_bf16(row, i)

MATVEC(matvec_f32, ROW_F32, 4)
MATVEC(matvec_f16, ROW_F16, 2)
MATVEC(matvec_bf16, ROW_BF16, 2)

static float dot_f32(const float *x, const float *b, size_t columns) {
  const char *row = (const char *)b;
  DOT(ROW_F32)
  return fold(lane);
}

static void group_sums_s8(const int8_t *x, const int8_t *w, int32_t *sums, size_t columns,
                                   size_t group, int zero) {
  for (size_t start = 0; start < columns; start += group) {
    size_t end = columns - start < group ? columns : start + group;
    int32_t sum = 0;
    // Differences fit 16 bits, whose products the processor adds in pairs.
    if (zero == 0)
      for (size_t k = start; k < end; k++) sum += (int32_t)x[k] * (int32_t)w[k];
    else
      for (size_t k = start; k < end; k++) sum += (int32_t)(int16_t)(x[k] - zero) * (int32_t)w[k];
    *sums++ = sum;
  }
}
