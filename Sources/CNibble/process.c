#include "nibble.h"

#include <dlfcn.h>
#include <stddef.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

void nibble_return_freed_buffers(void) {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

void nibble_use_one_openmp_thread(void) {
  void (*set_threads)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads");
  if (set_threads != NULL) set_threads(1);
}
