// A libFuzzer target: whatever bytes say, nibble_decompress_block reads and writes no others, and what
// it takes for whole compresses to a block that decompresses to the same.
#include "nibble.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) return 0;
  size_t length = (size_t)512 * (data[0] % 64 + 1);
  int high = data[1] & 1, compressed = data[1] >> 1 & 1;
  data += 2;
  size -= 2;
  // A buffer of exactly the size, which the sanitizer guards on both sides.
  uint8_t *in = malloc(size ? size : 1), *block = malloc(length);
  memcpy(in, data, size);
  if (nibble_decompress_block(in, size, compressed, high, length, block) == NIBBLE_BLOCK_WHOLE) {
    uint8_t dictionary[36], *out = malloc(length + 512), *again = malloc(length);
    for (int i = 0; i < 36; i++) dictionary[i] = (uint8_t)(block[0] + i);
    size_t written = nibble_compress_block(block, length, dictionary, high, out);
    if (nibble_decompress_block(out, written ? written : length, written != 0, high, length,
                                again) != NIBBLE_BLOCK_WHOLE ||
        memcmp(block, again, length) != 0)
      abort();
    free(out);
    free(again);
  }
  free(in);
  free(block);
  return 0;
}
