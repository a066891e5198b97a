// Products of 1 to 16 rows with quantized weights on two threads, beside the read bandwidth of the same
// minute: what speculation and batches cost. The machine must be idle.
//   clang -O2 -ISources/CNibble/include -o rows Benchmarks/rows.c Sources/CNibble/kernels.c \
//     Sources/CNibble/process.c Sources/CNibble/sets/*.c Sources/CNibble/tiles/*.c -lm -lpthread
//   NIBBLE_ISA=avx2 ./rows
// Prints a line for each format and count of rows: format, rows, GB/s of codes, share of the bandwidth,
// time over that of one row. Weights are a gate and an up projection of a 1.1B shape, several times over.
#include "nibble_kernels.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OUTPUTS = 45056, COLUMNS = 2048, PANELS = OUTPUTS / 16, CHUNK = 16, THREADS = 2, SWEEPS = 7 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
  const nibble_inputs *x;
  const nibble_panels *w;
  float *y;
  void *scratch;
  size_t thread;
} task;

static void *multiply(void *argument) {
  const task *t = argument;
  for (size_t p = t->thread * CHUNK; p < PANELS; p += CHUNK * THREADS)
    nibble_panels_integers(t->x, t->w, p, PANELS - p < CHUNK ? PANELS - p : CHUNK, t->y, OUTPUTS,
                           t->scratch);
  return 0;
}

static uint64_t seen[THREADS];

static void *read_codes(void *argument) {
  const task *t = argument;
  const size_t words = nibble_panel_bytes(OUTPUTS, COLUMNS, NIBBLE_INT8) / 8 / THREADS;
  seen[t->thread] = nibble_read_stream((const uint64_t *)t->w->codes + t->thread * words, words);
  return 0;
}

/// The fastest of several sweeps on all threads.
static double seconds(void *(*body)(void *), task *tasks) {
  double best = 1e9;
  for (int sweep = 0; sweep < SWEEPS; sweep++) {
    pthread_t threads[THREADS];
    const double start = now();
    for (int i = 1; i < THREADS; i++) pthread_create(&threads[i], 0, body, &tasks[i]);
    body(&tasks[0]);
    for (int i = 1; i < THREADS; i++) pthread_join(threads[i], 0);
    const double took = now() - start;
    best = took < best ? took : best;
  }
  return best;
}

int main(void) {
  static int8_t values[16][COLUMNS];
  static float input_scales[COLUMNS / 32 * 16];
  static int32_t sums[COLUMNS / 32 * 16];
  for (size_t i = 0; i < sizeof values; i++) values[0][i] = (int8_t)(i * 37 % 255 - 127);
  for (size_t i = 0; i < COLUMNS / 32 * 16; i++) input_scales[i] = 0.01f;
  uint8_t *codes = aligned_alloc(64, nibble_panel_bytes(OUTPUTS, COLUMNS, NIBBLE_INT8));
  nibble_use_large_pages(codes, nibble_panel_bytes(OUTPUTS, COLUMNS, NIBBLE_INT8));
  float *scales = malloc(sizeof(float) * OUTPUTS * (COLUMNS / 64));
  float *y = malloc(sizeof(float) * OUTPUTS * 16);
  for (size_t i = 0; i < nibble_panel_bytes(OUTPUTS, COLUMNS, NIBBLE_INT8); i++)
    codes[i] = (uint8_t)(i * 131 >> 3);
  for (size_t i = 0; i < OUTPUTS * (COLUMNS / 64); i++) scales[i] = 0.01f;
  const char *names[] = {"int8", "int4"};
  for (int format = NIBBLE_INT8; format <= NIBBLE_INT4; format++) {
    // int4 as it runs: groups of 64 beside inputs in groups of 32.
    const int is_int4 = format == NIBBLE_INT4;
    const nibble_panels w = {.codes = codes,
                             .outputs = OUTPUTS,
                             .columns = COLUMNS,
                             .group = is_int4 ? 32 : COLUMNS,
                             .scale_span = is_int4 ? 2 : 1,
                             .scales = scales,
                             .format = format};
    double one = 0;
    for (size_t rows = 1; rows <= 16; rows *= 2) {
      const nibble_inputs x = {.values = values, .stride = COLUMNS, .tokens = rows,
                               .scales = input_scales, .scale_span = 1, .sums = sums, .step = 16};
      task tasks[THREADS];
      for (size_t i = 0; i < THREADS; i++)
        tasks[i] = (task){&x, &w, y, aligned_alloc(64, nibble_panels_scratch(COLUMNS) + 64), i};
      const double bandwidth =
          (double)nibble_panel_bytes(OUTPUTS, COLUMNS, NIBBLE_INT8) / seconds(read_codes, tasks);
      const double took = seconds(multiply, tasks);
      if (rows == 1) one = took;
      const double speed = (double)nibble_panel_bytes(OUTPUTS, COLUMNS, format) / took;
      printf("%s %s %zu rows: %.1f GB/s, %.2f of the bandwidth, %.2f times one row\n",
             nibble_kernels_here()->name, names[format], rows, speed * 1e-9, speed / bandwidth,
             took / one);
      for (size_t i = 0; i < THREADS; i++) free(tasks[i].scratch);
    }
  }
}
