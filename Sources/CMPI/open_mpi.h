#include <mpi.h>

// The constants of Open MPI are macros over addresses, which Swift does not see.

/// Joins the processes that were started together: this one's number and how many there are. 0 when that
/// fails. Only the thread that joins talks to the others.
static inline int mpi_join(int *rank, int *count) {
  int level = 0;
  if (MPI_Init_thread(0, 0, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS) return 0;
  return MPI_Comm_rank(MPI_COMM_WORLD, rank) == MPI_SUCCESS &&
         MPI_Comm_size(MPI_COMM_WORLD, count) == MPI_SUCCESS;
}

/// Each value becomes its sum over all processes.
static inline void mpi_add(double *values, int count) {
  MPI_Allreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
}

static inline void mpi_leave(void) { MPI_Finalize(); }
