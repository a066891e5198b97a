#ifndef NIBBLE_PAGES_H
#define NIBBLE_PAGES_H

#include "nibble.h"

#define PAGE NIBBLE_CACHE_PAGE

static inline __attribute__((always_inline)) size_t code_bytes(int format, size_t head) {
  switch (format) {
    case NIBBLE_CACHE_F32: return 4 * PAGE * head;
    case NIBBLE_CACHE_F16: return 2 * PAGE * head;
    case NIBBLE_CACHE_INT4: return PAGE * head / 2;
    default: return PAGE * head;
  }
}

#endif
