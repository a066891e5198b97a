#include "kernels.h"

#if defined(__x86_64__) && defined(__linux__)

#include <sys/syscall.h>
#include <unistd.h>

/// AVX-512 with AMX: Sapphire Rapids and later. The tile products are in tiles/amx.c.

double nibble_amx_peak_bf16(size_t rounds);
double nibble_amx_peak_int8(size_t rounds);

#pragma clang attribute push(__attribute__((target("arch=x86-64-v4"))), apply_to = function)
#pragma clang attribute push(__attribute__((min_vector_width(512))), apply_to = function)
#include "../loops/loops.h"
PEAK(peak_f32, __m512, _mm512_setzero_ps(), _mm512_fmadd_ps(a, b, sum[c]), 16)
#pragma clang attribute pop
#pragma clang attribute pop

static int runs_here(void) {
  const long request_permission = 0x1023, tile_data = 18;
  return __builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
         __builtin_cpu_supports("amx-bf16") &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

static int tile_products(void) { return NIBBLE_TILES_AMX; }

const nibble_kernels nibble_amx = {
    .name = "amx",
    .runs_here = runs_here,
    .tile_products = tile_products,
    .panels_integers = nibble_avx512_integers,
    .panels_floats = nibble_avx512_floats,
    .panels_scratch = nibble_avx512_scratch,
    .peak_f32 = peak_f32,
    .peak_bf16 = nibble_amx_peak_bf16,
    .peak_int8 = nibble_amx_peak_int8,
    NIBBLE_LOOPS(LOOP_FIELD)
};

#endif
