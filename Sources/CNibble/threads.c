#include "nibble.h"

#include <dlfcn.h>
#include <stddef.h>

void nibble_use_one_openmp_thread(void) {
  void (*set_threads)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads");
  if (set_threads != NULL) set_threads(1);
}
