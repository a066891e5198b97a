#include "nibble.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/// Mapped files that the handler of SIGBUS knows. A slot whose first byte is null is free.
enum { MAPPINGS = 4096 };
typedef struct {
  _Atomic(const char *) first;
  _Atomic(size_t) bytes;
  _Atomic(char *) path;
} mapping;
static mapping mappings[MAPPINGS];
static int exit_status;

size_t nibble_mapping_add(const void *first, size_t bytes, const char *path) {
  for (size_t i = 0; i < MAPPINGS; i++) {
    const char *none = NULL;
    if (!atomic_compare_exchange_strong(&mappings[i].first, &none, (const char *)first)) continue;
    atomic_store(&mappings[i].bytes, bytes);
    atomic_store(&mappings[i].path, strdup(path));
    return i;
  }
  return MAPPINGS;
}

void nibble_mapping_remove(size_t slot) {
  if (slot >= MAPPINGS) return;
  atomic_store(&mappings[slot].bytes, 0);
  free(atomic_exchange(&mappings[slot].path, NULL));
  atomic_store(&mappings[slot].first, NULL);
}

static void say(const char *text) {
  if (text && write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
  (void)context;
  const char *at = (const char *)info->si_addr;
  for (size_t i = 0; i < MAPPINGS; i++) {
    const char *first = atomic_load(&mappings[i].first);
    if (first == NULL || at < first || (size_t)(at - first) >= atomic_load(&mappings[i].bytes))
      continue;
    say("error: ");
    say(atomic_load(&mappings[i].path));
    say(" changed while it was read: it is shorter than it was, or its disk failed. Run the same command "
        "again when the file is whole.\n");
    _exit(exit_status);
  }
  signal(number, SIG_DFL);
  raise(number);
}

void nibble_mapping_watch(int status) {
  exit_status = status;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, NULL);
}
