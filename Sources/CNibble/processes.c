#include "nibble.h"

#ifdef NIBBLE_MPI

#include <mpi.h>

int nibble_processes_join(int *rank, int *count) {
  int level = 0;
  // Only the thread that joins communicates with the other processes.
  if (MPI_Init_thread(0, 0, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS) return 0;
  return MPI_Comm_rank(MPI_COMM_WORLD, rank) == MPI_SUCCESS &&
         MPI_Comm_size(MPI_COMM_WORLD, count) == MPI_SUCCESS;
}

void nibble_processes_add(double *values, int count) {
  MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
}

void nibble_processes_leave(void) { MPI_Finalize(); }

#else

int nibble_processes_join(int *rank, int *count) {
  (void)rank, (void)count;
  return 0;
}

void nibble_processes_add(double *values, int count) { (void)values, (void)count; }

void nibble_processes_leave(void) {}

#endif
