// Speed of the codec of compressed blocks on one core, in processor time:
//   clang -O2 -ISources/CNibble/include Benchmarks/fractals.c Sources/CNibble/fractals.c -lm -o fractals
//   ./fractals
#include "nibble.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BLOCKS = 64, L = NIBBLE_BLOCK_BYTES };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void) {
  static uint8_t in[BLOCKS][L], out[BLOCKS][L + 512], back[L];
  for (int width = 1; width <= 6; width++) {
    uint64_t counts[256] = {0};
    int taken[256] = {0};
    size_t written[BLOCKS], total = 0;
    for (int b = 0; b < BLOCKS; b++)
      for (int i = 0; i < L; i++) {
        double u = (rand() + 1.0) / (RAND_MAX + 2.0), v = rand() / (double)RAND_MAX;
        in[b][i] = (uint8_t)(int8_t)lrint(width * sqrt(-2 * log(u)) * cos(6.283185307 * v));
      }
    nibble_count_bytes(in[0], sizeof in, counts);
    uint8_t dictionary[36];
    for (int e = 0; e < 36; e++) {
      int best = -1;
      for (int b = 0; b < 256; b++)
        if (!taken[b] && (best < 0 || counts[b] > counts[best])) best = b;
      dictionary[e] = (uint8_t)best;
      taken[best] = 1;
    }
    double start = now();
    for (int b = 0; b < BLOCKS; b++)
      written[b] = nibble_compress_block(in[b], L, dictionary, 0, out[b]);
    double middle = now();
    for (int b = 0; b < BLOCKS; b++)
      if (nibble_decompress_block(out[b], written[b] ? written[b] : L, written[b] != 0, 0, L, back))
        return 1;
    double end = now();
    for (int b = 0; b < BLOCKS; b++) total += written[b] ? written[b] : L;
    printf("normal codes, deviation %d: %.2f bits, compress %.0f MB/s, decompress %.0f MB/s\n",
           width, 8.0 * (double)total / sizeof in, sizeof in / 1e6 / (middle - start),
           sizeof in / 1e6 / (end - middle));
  }
}
