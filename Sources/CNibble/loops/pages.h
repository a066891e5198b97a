#ifndef NIBBLE_PAGES_H
#define NIBBLE_PAGES_H

#include "nibble.h"

#define PAGE NIBBLE_CACHE_PAGE

#define GROUP NIBBLE_CACHE_GROUP

static inline __attribute__((always_inline)) int has_groups(int format) {
  return format == NIBBLE_CACHE_INT4 || format == NIBBLE_CACHE_INT3;
}

/// Bytes of a group: two float16 and 32 codes.
static inline __attribute__((always_inline)) size_t group_bytes(int format) {
  return 4 + GROUP * (format == NIBBLE_CACHE_INT4 ? 4 : 3) / 8;
}

/// Bytes before the scales of a page.
static inline __attribute__((always_inline)) size_t code_bytes(int format, size_t head) {
  switch (format) {
    case NIBBLE_CACHE_F32: return 4 * PAGE * head;
    case NIBBLE_CACHE_F16: return 2 * PAGE * head;
    // Values fill up their last group: a page of keys is never larger.
    case NIBBLE_CACHE_INT4:
    case NIBBLE_CACHE_INT3: return PAGE * ((head + GROUP - 1) / GROUP) * group_bytes(format);
    default: return PAGE * head;
  }
}

#endif
