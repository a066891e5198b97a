#ifndef NIBBLE_H
#define NIBBLE_H

#include <stddef.h>
#include <stdint.h>

/// The loops of Nibble. Buffers never overlap unless a comment says so, have any alignment, and are
/// row-major. Every function gives the same bits on every instruction set: sums run in sixteen lanes
/// that are folded in a fixed order, and products are not fused into sums.

// MARK: number formats (formats.c)

/// out[i] = in[i], exactly. f16 is IEEE half, bf16 the upper half of a float.
void nibble_f16_to_f32(const void *in, float *out, size_t count);
void nibble_bf16_to_f32(const void *in, float *out, size_t count);
/// Rounds half to even; overflow gives infinity, NaN stays NaN.
void nibble_f32_to_f16(const float *in, uint16_t *out, size_t count);
void nibble_f32_to_bf16(const float *in, uint16_t *out, size_t count);
/// E4M3FN: no infinities, 0x7F and 0xFF are NaN.
void nibble_e4m3_to_f32(const uint8_t *in, float *out, size_t count);
/// Clamps to -448...448, rounds half to even; NaN gives 0x7F with the sign.
void nibble_f32_to_e4m3(const float *in, uint8_t *out, size_t count);

// MARK: rounding to codes (quantize.c)

/// Largest |x|; NaN when a value is NaN, infinity when one is infinite.
float nibble_absmax(const float *x, size_t count);
/// Smallest and largest value, of finite x.
void nibble_minmax(const float *x, size_t count, float *low, float *high);
/// codes[i] = clamp(round_half_even(x[i] / scale) + zero, low, high); |x / scale| < 2^22.
void nibble_round_int(const float *x, int8_t *codes, size_t count, float scale, int zero, int low,
                      int high);
/// codes[i] = e4m3(x[i] / scale), clamped.
void nibble_round_e4m3(const float *x, uint8_t *codes, size_t count, float scale);
/// out[i] = (codes[i] - zero) * scale
void nibble_decode_int8(const int8_t *codes, float *out, size_t count, float scale, int zero);
/// Two codes a byte, the first in the low nibble, stored as code + 8; count is even.
void nibble_decode_int4(const uint8_t *codes, float *out, size_t count, float scale, int zero);
/// out[i] = the code, -8...7, of those two a byte; count is even.
void nibble_unpack_int4(const uint8_t *codes, int8_t *out, size_t count);
/// Sum of (a - b)^2 and of a^2, in double.
void nibble_error_energy(const float *a, const float *b, size_t count, double *error,
                         double *signal);

// MARK: products with one row (dot.c)

/// y[r] = sum over k of x[k] * w[r * columns + k], for rows of w. w as named.
void nibble_matvec_f32(const float *x, const void *w, float *y, size_t columns, size_t rows);
void nibble_matvec_f16(const float *x, const void *w, float *y, size_t columns, size_t rows);
void nibble_matvec_bf16(const float *x, const void *w, float *y, size_t columns, size_t rows);
/// One row in groups of `group` columns, the last perhaps shorter: sums[g] = sum over k in g of
/// (x[k] - zero) * w[k], exactly. group < 131072, or 65536 with a zero.
void nibble_group_sums_s8(const int8_t *x, const int8_t *w, int32_t *sums, size_t columns,
                          size_t group, int zero);
/// One row: sum over k of a[k] * b[k].
float nibble_dot_f32(const float *a, const float *b, size_t count);

// MARK: tiles (amx.c)

/// Whether this processor and kernel let the process use AMX tiles; asks the kernel once.
int nibble_has_tiles(void);
/// Bytes that pack_a or pack_b writes for `rows` rows of `row_bytes` bytes: whole tiles of 16 rows
/// by 64 bytes, missing rows and bytes zero.
size_t nibble_packed_bytes(size_t rows, size_t row_bytes);
/// [rows, row_bytes] into tiles: for each 16 rows, for each 64 bytes, 16 x 64 bytes.
void nibble_pack_a(const void *in, void *out, size_t rows, size_t row_bytes);
/// The same tiles with their 4-byte units transposed, as the second operand of a tile product.
void nibble_pack_b(const void *in, void *out, size_t rows, size_t row_bytes);
/// y[m, n] = row_scale[m] * column_scale[n] * sum over k of a[m, k] * b[n, k]; a null scale is 1.
/// a, b packed by pack_a and pack_b; row_bytes before padding; y has y_stride floats a row. b_step is
/// the bytes from 16 rows of b to the next 16, more than row_bytes needs when b was packed longer.
/// bf16: products of pairs accumulate in float. s8: exact in int32, columns < 131072.
void nibble_tiles_bf16(const void *a, const void *b, float *y, size_t m, size_t n, size_t row_bytes,
                       size_t b_step, size_t y_stride, const float *row_scale,
                       const float *column_scale);
void nibble_tiles_s8(const void *a, const void *b, float *y, size_t m, size_t n, size_t row_bytes,
                     size_t b_step, size_t y_stride, const float *row_scale,
                     const float *column_scale);

/// The scales of a tile product whose rows are cut in groups of whole tiles, and what is added to
/// the sums of each group.
typedef struct {
  size_t bytes;               // of a row in a group, a multiple of 64; the last group may have fewer
  const float *row_scale;     // [groups / row_span, row_step]
  size_t row_span, row_step;  // groups that share a scale; floats from one's scales to the next's
  const float *column_scale;  // [groups / column_span, column_step]
  size_t column_span, column_step;
  const int32_t *column_offset;  // [groups, column_step] of s8, or null for zeros
} nibble_groups;

/// y[m, n] = sum over groups g, in order, of row_scale[g / row_span, m] *
/// column_scale[g / column_span, n] * (column_offset[g, n] + sum over k in g of a[m, k] * b[n, k]).
/// Otherwise as nibble_tiles_bf16 and nibble_tiles_s8, whose sums these are.
void nibble_tiles_bf16_groups(const void *a, const void *b, float *y, size_t m, size_t n,
                              size_t row_bytes, size_t b_step, size_t y_stride,
                              const nibble_groups *groups);
void nibble_tiles_s8_groups(const void *a, const void *b, float *y, size_t m, size_t n,
                            size_t row_bytes, size_t b_step, size_t y_stride,
                            const nibble_groups *groups);

// MARK: the other parts of a block (block.c)

/// y[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i]; the sum in float lanes.
void nibble_rms_norm(const float *x, const float *weight, float *y, size_t count, float epsilon);
/// gate[i] = silu(gate[i]) * up[i]
void nibble_silu_multiply(float *restrict gate, const float *restrict up, size_t count);
/// y[i] += x[i]
void nibble_add(float *y, const float *x, size_t count);
/// y[i] *= factor
void nibble_scale(float *y, float factor, size_t count);
/// y[i] += factor * x[i]
void nibble_add_scaled(float *y, const float *x, float factor, size_t count);
/// Rotates pairs (i, i + half) of one head: cosine and sine are [half].
void nibble_rotate(float *head, const float *cosine, const float *sine, size_t half);
/// x[i] = exp(x[i] - max x) / sum; in place. Values of -infinity become 0; count > 0.
void nibble_softmax(float *x, size_t count);
/// log(sum exp(x[i])), in double over lanes; the row's maximum is subtracted first.
double nibble_log_sum_exp(const float *x, size_t count);
/// sum over i of p[i] * (log p[i] - log q[i]) with p, q the softmax of the logits a, b, whose
/// log_sum_exp are given.
double nibble_kl(const float *a, const float *b, double a_sum, double b_sum, size_t count);
/// Index of the largest value, the first on ties.
size_t nibble_argmax(const float *x, size_t count);

// MARK: the process (process.c)

/// Makes the allocator give every freed buffer of 1 MiB or more back to the system at once, where it
/// is glibc's. It would otherwise come to keep buffers of up to 32 MiB.
void nibble_return_freed_buffers(void);

/// Makes a library that uses OpenMP run on the calling thread alone, from this thread on.
void nibble_use_one_openmp_thread(void);

#endif
