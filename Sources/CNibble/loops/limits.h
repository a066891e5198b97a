#include "nibble.h"

static uint64_t read_stream(const void *data, size_t words) {
  const uint64_t *in = data;
  uint64_t sum[32] = {0}, all = 0;
  size_t i = 0;
  for (; i + 32 <= words; i += 32)
    for (int lane = 0; lane < 32; lane++) sum[lane] ^= in[i + lane];
  for (; i < words; i++) all ^= in[i];
  for (int lane = 0; lane < 32; lane++) all ^= sum[lane];
  return all;
}
