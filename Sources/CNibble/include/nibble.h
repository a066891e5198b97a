#ifndef NIBBLE_H
#define NIBBLE_H

#include <stddef.h>
#include <stdint.h>

/// The loops of Nibble. Buffers never overlap unless a comment says so, have any alignment, and are
/// row-major. Every function gives the same bits on every instruction set, unless a comment says
/// otherwise: sums run in sixteen lanes that are folded in a fixed order, and products are not
/// fused into sums. nibble_kernels.h chooses the instruction set.

// MARK: number formats (loops/formats.h)

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

// MARK: rounding to codes (loops/quantize.h)

/// Largest |x|; NaN when a value is NaN, infinity when one is infinite.
float nibble_absmax(const float *x, size_t count);
/// Smallest and largest value, of finite x.
void nibble_minmax(const float *x, size_t count, float *low, float *high);
/// codes[i] = clamp(round_half_even(x[i] / scale) + zero, low, high); |x / scale| < 2^22.
void nibble_round_int(const float *x, int8_t *codes, size_t count, float scale, int zero, int low,
                      int high);
/// int8 codes -127...127 with one scale per group of `group` neighbouring values: absmax / 127, 1
/// for a group of zeros, NaN if the group holds a NaN. `step` is the distance between the scales of
/// two groups, and between the sums of their codes unless `sums` is null.
void nibble_round_groups(const float *x, size_t count, size_t group, int8_t *codes, float *scales,
                         int32_t *sums, size_t step);
/// codes[i] = e4m3(x[i] / scale), clamped.
void nibble_round_e4m3(const float *x, uint8_t *codes, size_t count, float scale);
/// out[i] = (codes[i] - zero) * scale
void nibble_decode_int8(const int8_t *codes, float *out, size_t count, float scale, int zero);
/// Two codes per byte, the first in the low nibble, stored as code + 8; count is even.
void nibble_decode_int4(const uint8_t *codes, float *out, size_t count, float scale, int zero);
/// A floating-point format of `bits` bits: the sign is the highest, and a code with exponent field e
/// and mantissa field m stands for 2^(e - bias) * (1 + m / 2^mantissa_bits), or for
/// 2^(1 - bias) * m / 2^mantissa_bits if e = 0. bits 3...8, bias -64...64, largest up to 2^100.
typedef struct {
  int bits;
  int mantissa_bits;
  int bias;
  float largest;
} nibble_minifloat;
/// codes[i] = nearest number to x[i] / scale, of two the one with the even code, clamped to the
/// largest; one code per byte.
void nibble_round_minifloat(const float *x, uint8_t *codes, size_t count, float scale,
                            const nibble_minifloat *format);
/// out[i] = table[code i] * scale
///   bits   8: one code per byte; 4: two, the first in the low nibble, count even
///   table  [2^bits of the format]
void nibble_decode_table(const uint8_t *codes, int bits, float *out, size_t count,
                         const float *table, float scale);
/// Rounds the columns of one row in order, each error carried to the later ones: for j in order
///   target = w[j] + carry[j] / r[j, j];  code = clamp(round_half_even(target / scale[j]) + zero[j])
///   error[j] = w[j] - (code - zero[j]) * scale[j];  carry[l] += error[j] * r[j, l] for l > j
/// r is upper triangular, rows of r_stride floats; zero may be null. codes in low...high.
void nibble_round_feedback_int(const float *w, float *carry, const float *r, size_t r_stride,
                               size_t count, const float *scale, const int8_t *zero, int low,
                               int high, int8_t *codes, float *error);
/// The same with E4M3 codes.
void nibble_round_feedback_e4m3(const float *w, float *carry, const float *r, size_t r_stride,
                                size_t count, const float *scale, uint8_t *codes, float *error);
/// The same with codes of a floating-point format, one per byte.
void nibble_round_feedback_minifloat(const float *w, float *carry, const float *r, size_t r_stride,
                                     size_t count, const float *scale,
                                     const nibble_minifloat *format, uint8_t *codes, float *error);
/// The targets of the loop above without rounding: out[j] = w[j] + carry[j] / r[j, j]. Changes
/// carry.
void nibble_follow_feedback(const float *w, float *carry, const float *r, size_t r_stride,
                            size_t count, float *out);
/// Sum of importance[i] * (w[i] - rounded w[i])^2 for codes clamp(round(w / scale) + zero) in
/// low...high, or for E4M3 codes.
float nibble_grid_error_int(const float *w, const float *importance, size_t count, float scale,
                            int zero, int low, int high);
float nibble_grid_error_e4m3(const float *w, const float *importance, size_t count, float scale);
/// The same for codes of a floating-point format; without importance all values count 1.
float nibble_grid_error_minifloat(const float *w, const float *importance, size_t count, float scale,
                                  const nibble_minifloat *format);
/// d H d' with d = rounded w - w, H symmetric, rows of h_stride floats.
///   d [count]  overwritten with rounded w - w
float nibble_grid_energy_int(const float *w, const float *h, size_t h_stride, size_t count,
                             float scale, int zero, int low, int high, float *d);
/// Unpacks codes -8...7 that are stored two per byte; count is even.
void nibble_unpack_int4(const uint8_t *codes, int8_t *out, size_t count);
/// Sum of (a - b)^2 and of a^2, in double.
void nibble_error_energy(const float *a, const float *b, size_t count, double *error,
                         double *signal);

// MARK: statistics (loops/statistics.h)

/// For columns first...first+count of x [tokens, stride]: minimum, maximum, sum of |x| and of x^2,
/// merged into the arrays [count]. Sums run in float over 32 tokens, then in double.
void nibble_column_statistics(const float *x, size_t tokens, size_t stride, size_t count, float *low,
                              float *high, double *magnitude, double *energy);
/// max over i of |x[i]| * factor[i]
float nibble_scaled_peak(const float *x, const float *factor, size_t count);
/// sum of weight[j] * e[j]^2, where e is the error of x[j] * factor[j] rounded to the codes
/// -largest...largest with the row's own scale.
double nibble_rounding_energy(const float *x, const float *factor, const float *weight,
                              size_t count, float largest);
/// y[i] *= factor[i]
void nibble_multiply(float *y, const float *factor, size_t count);

// MARK: products with one row (loops/dot.h)

/// y[r] = sum over k of x[k] * w[r * columns + k]; w in the format that the name says.
void nibble_matvec_f32(const float *x, const void *w, float *y, size_t columns, size_t rows);
void nibble_matvec_f16(const float *x, const void *w, float *y, size_t columns, size_t rows);
void nibble_matvec_bf16(const float *x, const void *w, float *y, size_t columns, size_t rows);
/// One row in groups of `group` columns; the last may be shorter: sums[g] = sum over k in g of
/// (x[k] - zero) * w[k], exactly. group < 131072, or 65536 with a zero.
void nibble_group_sums_s8(const int8_t *x, const int8_t *w, int32_t *sums, size_t columns,
                          size_t group, int zero);
/// One row: sum over k of a[k] * b[k].
float nibble_dot_f32(const float *a, const float *b, size_t count);

// MARK: tiles (tiles/)

enum {
  NIBBLE_TILES_DOTS = 1,  // AVX-512's dot product of bfloat16: floats in one part, no integers
  NIBBLE_TILES_AMX = 2,   // AMX, for which the system's kernel is asked once
};
/// The instructions for tile products here: NIBBLE_TILES_DOTS, NIBBLE_TILES_AMX, or 0 for none.
int nibble_tile_products(void);
/// Bytes that pack_a or pack_b writes for `rows` rows of `row_bytes` bytes: whole tiles of 16 rows
/// by 64 bytes, missing rows and bytes zero.
size_t nibble_packed_bytes(size_t rows, size_t row_bytes);
/// [rows, row_bytes] into tiles: for each 16 rows, for each 64 bytes, 16 x 64 bytes.
void nibble_pack_a(const void *in, void *out, size_t rows, size_t row_bytes);
/// The same tiles with their 4-byte units transposed, as the second operand of a tile product.
void nibble_pack_b(const void *in, void *out, size_t rows, size_t row_bytes);
/// Floats as bfloat16 tiles of 32 columns, in 1 to 3 parts, one tile after the other: the nearest
/// bfloat16, the nearest of the remainder, and again. Three parts hold a float exactly, from 2^-110
/// to the largest bfloat16. Writes `parts` times the packed bytes of 2 * columns; rows of `in` are
/// `stride` floats apart.
void nibble_pack_a_floats(const float *in, void *out, size_t rows, size_t columns, size_t stride,
                          int parts);
void nibble_pack_b_floats(const float *in, void *out, size_t rows, size_t columns, int parts);
/// pack_b_floats of the transpose: in [depth, columns]; each 16 columns take out_step bytes.
void nibble_pack_b_columns(const float *in, void *out, size_t depth, size_t columns,
                           size_t out_step, int parts);
/// Transposes the 4-byte units of each tile in `bytes` bytes: packed b becomes packed a.
void nibble_turn_tiles(const void *in, void *out, size_t bytes);
/// y[m, n] = row_scale[m] * column_scale[n] * sum over k of a[m, k] * b[n, k]; a null scale is 1.
/// a, b are packed by pack_a and pack_b, `depth` values per row before padding; y has y_stride
/// floats per row. b_step is the distance in bytes between groups of 16 rows of b, more than depth
/// needs when b was packed longer. floats: a in 1 or 3 parts, b in 1 to as many. Products of one
/// part are exact, those of three within 2^-24 of the product; pairs accumulate in float;
/// subnormals count as zero. Without AMX one part only. s8: exact in int32, depth < 131072; AMX
/// only.
void nibble_tiles_floats(const void *a, const void *b, float *y, size_t m, size_t n, size_t depth,
                         int a_parts, int b_parts, size_t b_step, size_t y_stride,
                         const float *row_scale, const float *column_scale);
void nibble_tiles_s8(const void *a, const void *b, float *y, size_t m, size_t n, size_t depth,
                     size_t b_step, size_t y_stride, const float *row_scale,
                     const float *column_scale);
/// out[m, n] = silu(sum over k of a[m, k] * gate[n, k]) * sum over k of a[m, k] * up[n, k], written
/// as by pack_a_floats in a_parts. `out` points at the tile of the first column; each 16 rows take
/// out_step bytes.
void nibble_tiles_gated(const void *a, const void *gate, const void *up, void *out, size_t m,
                        size_t n, size_t depth, int a_parts, int b_parts, size_t b_step,
                        size_t out_step);
/// out[i, c] = exp(scale * (scores[i, c] - max)), written as by pack_a_floats for [m, columns]. Row
/// i sees the last `window` of its first seen + i columns and is zero elsewhere; factors[i] = 1 /
/// sum of the row. scores aligned to 64 bytes, stride and columns multiples of 32.
void nibble_tiles_softmax(const float *scores, size_t stride, void *out, float *factors, size_t m,
                          size_t columns, size_t seen, size_t window, float scale, int parts);

/// The scales of a tile product whose rows are cut into groups of whole tiles.
typedef struct {
  size_t bytes;               // bytes of a row per group, a multiple of 64; the last may have fewer
  const float *row_scale;     // [groups / row_span, row_step]
  size_t row_span, row_step;  // groups per scale; floats between the scales of two groups
  const float *column_scale;  // [groups / column_span, column_step]
  size_t column_span, column_step;
} nibble_groups;

/// y[m, n] = sum over groups g, in order, of row_scale[g / row_span, m] *
/// column_scale[g / column_span, n] * sum over k in g of a[m, k] * b[n, k]; bfloat16, otherwise as
/// nibble_tiles_floats.
void nibble_tiles_bf16_groups(const void *a, const void *b, float *y, size_t m, size_t n,
                              size_t row_bytes, size_t b_step, size_t y_stride,
                              const nibble_groups *groups);

// MARK: quantized weights in panels (sets/)

enum { NIBBLE_INT8 = 0, NIBBLE_INT4 = 1, NIBBLE_E4M3 = 2 };

/// A quantized weight [n, k] cut into panels of 16 outputs. value = (code - zero) * scale.
typedef struct {
  /// For each panel, for each 4 inputs, 16 outputs x 4 codes; inputs padded to 64 and outputs to
  /// 16. int4: two codes per byte, stored as code + 8: 4 inputs in the low nibbles of 64 bytes and
  /// the next 4 in the high ones.
  const uint8_t *codes;
  size_t outputs, columns;
  /// Inputs per group: a multiple of 8, or all of them. scale_span groups share a scale.
  size_t group, scale_span;
  const float *scales;  // [panels, scales, 16]
  const int8_t *zeros;  // [panels, scales, 16], or null for zeros
  const int32_t *sums;  // [panels, groups, 16]: of code - zero per group; null without inputs' zero
  int format;
} nibble_panels;

/// The inputs of a product with such a weight. value = (code - zero) * scale, or a float.
typedef struct {
  const void *values;  // [tokens, stride] int8 codes or floats; zero-padded to a multiple of 8
  size_t stride, tokens;
  const float *scales;  // [groups / scale_span, step]; null for 1, with floats only
  size_t scale_span;
  const int32_t *sums;  // [groups, step]: sums of each group's codes, int8 only
  size_t step;          // at least tokens
  int32_t zero;
} nibble_inputs;

/// Bytes of the codes of `rows` rows of `columns` values.
size_t nibble_panel_bytes(size_t rows, size_t columns, int format);
/// Packs codes into panels: rows [rows, columns], int4 [rows, columns / 2], as in QuantizedMatrix.
void nibble_pack_panels(const uint8_t *codes, uint8_t *out, size_t rows, size_t columns, int format);
/// out[r, c] = (code - zero) * scale, or without the scale, for rows that start at a multiple of
/// 16.
void nibble_panels_decode(const nibble_panels *w, size_t first, size_t rows, float *out,
                          int unscaled);
/// sums[g] = sum of x over each `group` values.
void nibble_sums_s8(const int8_t *x, int32_t *sums, size_t count, size_t group, size_t stride);
/// y[t, n] = sum over groups g, in order, of float(sum over k in g of (x[t, k] - x.zero) * (code[n,
/// k] - zero[n, g])) * x.scale[g, t] * scale[n, g]; int8 inputs, int8 or int4 codes. Sums of a
/// group are exact: 255 * 127 * group < 2^31. Computes panels first..<first + count; y points at n
/// = 0. scratch: nibble_panels_scratch(k) bytes, aligned to 64, unless that is 0.
void nibble_panels_integers(const nibble_inputs *x, const nibble_panels *w, size_t first,
                            size_t count, float *y, size_t y_stride, void *scratch);
/// The same for float inputs, in float, with the order within a group free; NaN codes count as 480.
void nibble_panels_floats(const nibble_inputs *x, const nibble_panels *w, size_t first, size_t count,
                          float *y, size_t y_stride);
size_t nibble_panels_scratch(size_t columns);
/// y[t, i] += sum over groups g, in order, of sums[t, g] * offsets[g, i], for i < outputs <= 16;
/// offsets [groups, 16].
void nibble_add_offsets(const float *sums, size_t tokens, size_t groups, const float *offsets,
                        float *y, size_t y_stride, size_t outputs);

// MARK: other parts of a transformer block (loops/block.h)

/// y[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i]; the sum in float lanes.
void nibble_rms_norm(const float *x, const float *weight, float *y, size_t count, float epsilon);
/// y[i] = (x[i] - mean) / sqrt(mean((x - mean)^2) + epsilon) * weight[i]; sums in float lanes.
void nibble_layer_norm(const float *x, const float *weight, float *y, size_t count, float epsilon);
enum { NIBBLE_SILU, NIBBLE_RELU, NIBBLE_GELU, NIBBLE_GELU_TANH };
/// In place: silu(x) = x / (1 + exp(-x)); max(x, 0); gelu(x) = x (1 + erf(x / sqrt 2)) / 2; or gelu
/// with tanh(sqrt(2 / pi) (x + 0.044715 x^3)) instead of erf.
void nibble_activate(float *x, size_t count, int activation);
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
/// One token of one head of a gated delta net: S = decay S; S += key (strength (value - S^T key))^T;
/// y = S^T query. Columns of S are independent of each other.
///   state        [keys, values]  S, row-major, updated
///   query, key   [keys]          read
///   value        [values]        read
///   y            [values]        overwritten
void nibble_delta_step(float *state, const float *query, const float *key, const float *value,
                       float decay, float strength, float *y, size_t keys, size_t values);
/// x[i] = exp(x[i] - max x) / sum; in place. Values of -infinity become 0; count > 0.
void nibble_softmax(float *x, size_t count);
/// log(sum exp(x[i])), in double over lanes; the row's maximum is subtracted first.
double nibble_log_sum_exp(const float *x, size_t count);
/// sum over i of p[i] * (log p[i] - log q[i]) with p, q the softmax of the logits a, b, whose
/// log_sum_exp are given. Computed as the sum of p * (d - 1 + exp(-d)) with d = log p - log q, which is
/// equal since p and q both add up to 1, and whose terms are never negative.
double nibble_kl(const float *a, const float *b, double a_sum, double b_sum, size_t count);
/// Index of the largest value, the first on ties.
size_t nibble_argmax(const float *x, size_t count);
/// Indices [k] of the k largest values, the largest first, the lower index first on ties; 0 < k <= count.
void nibble_top(const float *x, size_t count, size_t *best, size_t k);

// MARK: KV cache (loops/cache.h)

enum {
  NIBBLE_CACHE_F32,
  NIBBLE_CACHE_F16,
  NIBBLE_CACHE_INT8,
  NIBBLE_CACHE_E4M3,
  /// Groups of codes with 4 or 3 bits. A page holds NIBBLE_CACHE_PAGE / NIBBLE_CACHE_GROUP groups of
  /// each channel of keys, or ceil(head / NIBBLE_CACHE_GROUP) groups of each token of values.
  NIBBLE_CACHE_INT4,
  NIBBLE_CACHE_INT3
};
/// Tokens per page. A page holds the keys or the values of one head.
#define NIBBLE_CACHE_PAGE 64
/// Values per group of int4 and int3: a channel's keys of as many tokens, or as many channels of a
/// token's values. A group is its scale and its minimum in float16, and 32 codes:
/// value = code * scale + minimum.
#define NIBBLE_CACHE_GROUP 32

/// Bytes of a page for heads of `head` elements, an even number: with int8 and E4M3 the codes, then
/// one scale per token; with int4 and int3 the groups.
size_t nibble_cache_bytes(int format, size_t head);
/// Quantizes one token's row [head] into its page. Scales are absmax / 127 or absmax / 448. `fixed`,
/// when above zero, is the scale instead. int4 and int3 take rows of values only: scales are (max -
/// min) / 15 or / 7 and the minimum is in float16; with `fixed` the minimum is -8 or -4 scales.
void nibble_cache_store(const float *row, void *page, int format, size_t token, size_t head,
                        int is_key, float fixed);
/// Quantizes the keys of a group of tokens into their page: rows[t * stride + i] for t < 32 and
/// i < head. int4 and int3 only. `first` is the group's first token in the page, 0 or 32.
void nibble_cache_store_keys(const float *rows, size_t stride, void *page, int format, size_t first,
                             size_t head, float fixed);
/// Dequantizes a page: keys as [head, 64 tokens], values as [64 tokens, head].
void nibble_cache_load(const void *page, float *out, int format, size_t head, int is_key);
/// scores[t] = sum over i of query[i] * keys[i, t], for the 64 tokens of a loaded page.
void nibble_cache_scores(const float *keys, const float *query, float *scores, size_t head);
/// out[i] += sum over t < count of weights[t] * values[t, i], of a loaded page.
void nibble_cache_mix(const float *values, const float *weights, float *out, size_t count,
                      size_t head);

/// scores[i] = exp(scale * scores[i] - peak), where peak is the largest score times scale; returns
/// their sum. count > 0.
float nibble_cache_weights(float *scores, size_t count, float scale, float *peak);

// MARK: compressed blocks of int8 weights (fractals.c)

/// Bytes of a full block: 8 x 8 fractals of 16 outputs x 32 inputs.
#define NIBBLE_BLOCK_BYTES 32768

/// Result of decompressing a block: whole, or what is wrong with it.
enum {
  NIBBLE_BLOCK_WHOLE = 0,
  /// The data end before the block does, or an uncompressed block has another length.
  NIBBLE_BLOCK_TRUNCATED,
  /// A stream's first two bytes are not those of its kind and length.
  NIBBLE_BLOCK_HEADER,
  /// The dictionary names a byte twice.
  NIBBLE_BLOCK_DICTIONARY,
  /// An invalid code, or one for more bytes than are left.
  NIBBLE_BLOCK_CODE,
  /// The END mark is not where the data are complete.
  NIBBLE_BLOCK_END,
  /// The exclusive sums of the bytes differ from the header's.
  NIBBLE_BLOCK_SUM,
};

/// Gathers fractals of row-major codes [n, k], zeros beyond them:
/// block[i][j][r][c] = codes[n_start + 16 j + r, k_start + 32 i + c]
///   block [k_fractals][n_fractals][16][32], overwritten. No overlap.
void nibble_pack_fractals(const int8_t *codes, size_t n, size_t k, size_t n_start, size_t k_start,
                          size_t n_fractals, size_t k_fractals, uint8_t *block);
/// The inverse, inside [n, k]. Rows before `known_rows` are present already and are compared.
/// Returns the number of errors: nonzero bytes beyond [n, k], and rows that differ.
size_t nibble_unpack_fractals(const uint8_t *block, int8_t *codes, size_t n, size_t k,
                              size_t n_start, size_t k_start, size_t n_fractals,
                              size_t k_fractals, size_t known_rows);
/// counts[b] += occurrences of byte b in bytes [count]; counts is [256].
void nibble_count_bytes(const uint8_t *bytes, size_t count, uint64_t *counts);
/// Compresses a block of `length` bytes, a multiple of 512 up to NIBBLE_BLOCK_BYTES, with a
/// dictionary of 36 distinct bytes (`high`: 34), the most frequent first.
///   out [length + 512], overwritten
/// Returns the bytes written, a multiple of 128; 0 when the block is better uncompressed: out then
/// holds its `length` bytes. Bits are exact.
size_t nibble_compress_block(const uint8_t *block, size_t length, const uint8_t *dictionary,
                             int high, uint8_t *out);
/// The inverse: block [length]. Reads only data [bytes], whatever it holds. Returns
/// NIBBLE_BLOCK_WHOLE, or the fault; block must not be used then.
int nibble_decompress_block(const uint8_t *data, size_t bytes, int compressed, int high,
                            size_t length, uint8_t *block);

// MARK: limits of this machine (sets/)

/// Exclusive or of `words` 64-bit words, each read once, in order.
uint64_t nibble_read_stream(const void *data, size_t words);
/// Multiply-adds in registers, `rounds` of them, as fast as one thread can. Returns the number of
/// operations, two per multiply-add; 0 on a processor without the instruction. bf16 and int8 use
/// AMX tiles where there are any.
double nibble_peak_f32(size_t rounds);
double nibble_peak_bf16(size_t rounds);
double nibble_peak_int8(size_t rounds);

// MARK: mapped files that shrink (mapped.c)

/// Remembers that `bytes` bytes from `first` belong to the file at `path`; returns the slot to pass
/// when it is forgotten. Any thread may call it. When all slots are taken, the mapping is not
/// watched.
size_t nibble_mapping_add(const void *first, size_t bytes, const char *path);
void nibble_mapping_remove(size_t slot);
/// From now on, reading past the end of a remembered file that has shrunk ends the process with a
/// message that names the file, and with `status`. Other bus errors end it as before.
void nibble_mapping_watch(int status);

#endif
