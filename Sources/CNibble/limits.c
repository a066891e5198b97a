#include "nibble.h"
#include "variants.h"

/// Loops that only show how fast this machine can go: bytes read, and products in registers.

VARIANTS uint64_t nibble_read_stream(const void *data, size_t words) {
  const uint64_t *in = data;
  uint64_t sum[32] = {0}, all = 0;
  size_t i = 0;
  for (; i + 32 <= words; i += 32)
    for (int lane = 0; lane < 32; lane++) sum[lane] ^= in[i + lane];
  for (; i < words; i++) all ^= in[i];
  for (int lane = 0; lane < 32; lane++) all ^= sum[lane];
  return all;
}

// Chains of sums that do not wait for each other: more than latency times units of any processor.
#define CHAINS 16

#if defined(__x86_64__)

#include <immintrin.h>

/// Keeps a compiler from working the products out by itself.
#define KEEP(value) __asm__ volatile("" : "+v"(value))

/// `rounds` products of each chain; STEP is `sum[c] += a * b`.
#define LOOP(NAME, TARGET, VECTOR, ZERO, STEP)                                                     \
  __attribute__((target(TARGET), min_vector_width(512))) static void NAME(size_t rounds) {         \
    VECTOR sum[CHAINS], a = ZERO, b = ZERO;                                                        \
    KEEP(a);                                                                                       \
    KEEP(b);                                                                                       \
    for (int c = 0; c < CHAINS; c++) sum[c] = ZERO;                                                \
    for (size_t r = 0; r < rounds; r++)                                                            \
      _Pragma("clang loop unroll(full)") for (int c = 0; c < CHAINS; c++) {                        \
        sum[c] = STEP;                                                                             \
        KEEP(sum[c]);                                                                              \
      }                                                                                            \
  }

LOOP(fma_512, "avx512f", __m512, _mm512_setzero_ps(), _mm512_fmadd_ps(a, b, sum[c]))
LOOP(fma_256, "avx2,fma", __m256, _mm256_setzero_ps(), _mm256_fmadd_ps(a, b, sum[c]))
LOOP(bf16_512, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(),
     _mm512_dpbf16_ps(sum[c], (__m512bh)a, (__m512bh)b))
LOOP(int8_512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(),
     _mm512_dpbusd_epi32(sum[c], a, b))
LOOP(int8_256, "avx2,avxvnni", __m256i, _mm256_setzero_si256(),
     _mm256_dpbusd_avx_epi32(sum[c], a, b))

#if defined(__linux__)

#define TILES __attribute__((target("amx-tile,amx-int8,amx-bf16")))

/// Four tiles of sums, as many as two inputs and two weights leave.
#define TILE_LOOP(NAME, DOT)                                                                       \
  TILES static void NAME(size_t rounds) {                                                          \
    struct {                                                                                       \
      uint8_t palette, start, reserved[14];                                                        \
      uint16_t columns[16];                                                                        \
      uint8_t rows[16];                                                                            \
    } shape = {.palette = 1};                                                                      \
    for (int t = 0; t < 8; t++) shape.columns[t] = 64, shape.rows[t] = 16;                         \
    _tile_loadconfig(&shape);                                                                      \
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);                                    \
    _tile_zero(4), _tile_zero(5), _tile_zero(6), _tile_zero(7);                                    \
    for (size_t r = 0; r < rounds; r++) {                                                          \
      DOT(0, 4, 6);                                                                                \
      DOT(1, 4, 7);                                                                                \
      DOT(2, 5, 6);                                                                                \
      DOT(3, 5, 7);                                                                                \
    }                                                                                              \
    _tile_release();                                                                               \
  }

TILE_LOOP(int8_tiles, _tile_dpbssd)
TILE_LOOP(bf16_tiles, _tile_dpbf16ps)

#endif

double nibble_peak_f32(size_t rounds) {
  int wide = __builtin_cpu_supports("avx512f");
  if (!wide && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return 0;
  wide ? fma_512(rounds) : fma_256(rounds);
  return 2.0 * CHAINS * (wide ? 16 : 8) * (double)rounds;
}

double nibble_peak_bf16(size_t rounds) {
#if defined(__linux__)
  if (nibble_tile_products() == NIBBLE_TILES_AMX) {
    bf16_tiles(rounds);
    return 2.0 * 4 * 16 * 16 * 32 * (double)rounds;
  }
#endif
  if (!__builtin_cpu_supports("avx512bf16")) return 0;
  bf16_512(rounds);
  return 2.0 * CHAINS * 32 * (double)rounds;
}

double nibble_peak_int8(size_t rounds) {
#if defined(__linux__)
  if (nibble_tile_products() == NIBBLE_TILES_AMX) {
    int8_tiles(rounds);
    return 2.0 * 4 * 16 * 16 * 64 * (double)rounds;
  }
#endif
  int wide = __builtin_cpu_supports("avx512vnni");
  if (!wide && !__builtin_cpu_supports("avxvnni")) return 0;
  wide ? int8_512(rounds) : int8_256(rounds);
  return 2.0 * CHAINS * (wide ? 64 : 32) * (double)rounds;
}

#elif defined(__aarch64__)

#include <arm_neon.h>

#define KEEP(value) __asm__ volatile("" : "+w"(value))

double nibble_peak_f32(size_t rounds) {
  float32x4_t sum[CHAINS], a = vdupq_n_f32(0);
  KEEP(a);
  for (int c = 0; c < CHAINS; c++) sum[c] = vdupq_n_f32(0);
  for (size_t r = 0; r < rounds; r++)
    for (int c = 0; c < CHAINS; c++) {
      sum[c] = vfmaq_f32(sum[c], a, a);
      KEEP(sum[c]);
    }
  return 2.0 * CHAINS * 4 * (double)rounds;
}

double nibble_peak_bf16(size_t rounds) {
  (void)rounds;
  return 0;
}

double nibble_peak_int8(size_t rounds) {
#if defined(__ARM_FEATURE_DOTPROD)
  int8x16_t a = vdupq_n_s8(0);
  int32x4_t sum[CHAINS];
  KEEP(a);
  for (int c = 0; c < CHAINS; c++) sum[c] = vdupq_n_s32(0);
  for (size_t r = 0; r < rounds; r++)
    for (int c = 0; c < CHAINS; c++) {
      sum[c] = vdotq_s32(sum[c], a, a);
      KEEP(sum[c]);
    }
  return 2.0 * CHAINS * 16 * (double)rounds;
#else
  (void)rounds;
  return 0;
#endif
}

#else

double nibble_peak_f32(size_t rounds) { return (void)rounds, 0; }
double nibble_peak_bf16(size_t rounds) { return (void)rounds, 0; }
double nibble_peak_int8(size_t rounds) { return (void)rounds, 0; }

#endif
