#include "nibble.h"

#include <string.h>

// Codes of four engines a block, as the header describes.

enum { ENGINES = 4, CHUNK = 64, HEADER = 40, UNIT = 32, STREAM = NIBBLE_BLOCK_BYTES / ENGINES };
enum { END_CODE = 503, END_BITS = 9, LITERAL_BITS = 12 };

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

void nibble_pack_fractals(const int8_t *codes, size_t n, size_t k, size_t n_start, size_t k_start,
                          size_t n_fractals, size_t k_fractals, uint8_t *block) {
  for (size_t i = 0; i < k_fractals; i++)
    for (size_t j = 0; j < n_fractals; j++)
      for (size_t r = 0; r < 16; r++, block += 32) {
        size_t row = n_start + 16 * j + r, column = k_start + 32 * i;
        size_t width = row < n && column < k ? smaller(32, k - column) : 0;
        if (width < 32) memset(block + width, 0, 32 - width);
        if (width > 0) memcpy(block, codes + row * k + column, width);
      }
}

size_t nibble_unpack_fractals(const uint8_t *block, int8_t *codes, size_t n, size_t k,
                              size_t n_start, size_t k_start, size_t n_fractals,
                              size_t k_fractals, size_t known_rows) {
  size_t wrong = 0;
  for (size_t i = 0; i < k_fractals; i++)
    for (size_t j = 0; j < n_fractals; j++)
      for (size_t r = 0; r < 16; r++, block += 32) {
        size_t row = n_start + 16 * j + r, column = k_start + 32 * i;
        size_t width = row < n && column < k ? smaller(32, k - column) : 0;
        for (size_t c = width; c < 32; c++) wrong += block[c] != 0;
        if (width == 0) continue;
        if (row < known_rows)
          wrong += memcmp(codes + row * k + column, block, width) != 0;
        else
          memcpy(codes + row * k + column, block, width);
      }
  return wrong;
}

void nibble_count_bytes(const uint8_t *bytes, size_t count, uint64_t *counts) {
  uint32_t lane[4][256];
  while (count > 0) {
    size_t part = smaller(count, (size_t)1 << 30), i = 0;
    memset(lane, 0, sizeof lane);
    for (; i + 4 <= part; i += 4)
      for (int l = 0; l < 4; l++) lane[l][bytes[i + l]]++;
    for (; i < part; i++) lane[0][bytes[i]]++;
    for (int b = 0; b < 256; b++)
      counts[b] += (uint64_t)lane[0][b] + lane[1][b] + lane[2][b] + lane[3][b];
    bytes += part;
    count -= part;
  }
}

// MARK: the prefix code

static const uint8_t SIX_BITS[17] = {37, 21, 53, 13, 45, 29, 61, 3,  35,
                                     19, 51, 11, 43, 27, 59, 7,  39};
static const uint16_t NINE_BITS[15] = {23, 279, 151, 407, 87,  343, 215, 471,
                                       55, 311, 183, 439, 119, 375, 247};

/// The code of each dictionary entry but entry 0, which is written in runs.
static size_t entry_codes(int high, uint16_t *code, uint8_t *bits) {
  size_t entry = 1;
  if (high) {
    code[entry] = 1, bits[entry++] = 3;
  } else {
    static const uint8_t short_codes[4] = {2, 6, 1, 5};
    for (int i = 0; i < 4; i++) code[entry] = short_codes[i], bits[entry++] = i < 3 ? 3 : 6;
  }
  for (int i = 0; i < 17; i++) code[entry] = SIX_BITS[i], bits[entry++] = 6;
  for (int i = 0; i < (high ? 15 : 14); i++) code[entry] = NINE_BITS[i], bits[entry++] = 9;
  return entry;
}

static uint16_t literal_code(uint8_t byte) {
  uint16_t reversed = 0;
  for (int i = 0; i < 8; i++) reversed |= (byte >> i & 1) << (7 - i);
  return (uint16_t)(15 + 16 * reversed);
}

typedef struct {
  uint8_t zero;
  int high;
  /// Code of each byte; that of `zero` is for a run of one.
  uint16_t code[256];
  uint8_t bits[256];
} coder;

static void fill_coder(coder *c, const uint8_t *dictionary, int high) {
  uint16_t code[36];
  uint8_t bits[36];
  size_t entries = entry_codes(high, code, bits);
  for (int b = 0; b < 256; b++) {
    c->code[b] = literal_code((uint8_t)b);
    c->bits[b] = LITERAL_BITS;
  }
  // From the last entry to the first, so that the first counts when a byte stands twice.
  for (size_t e = entries; e-- > 1;) {
    c->code[dictionary[e]] = code[e];
    c->bits[dictionary[e]] = bits[e];
  }
  c->code[dictionary[0]] = 0;
  c->bits[dictionary[0]] = 3;
  c->zero = dictionary[0];
  c->high = high;
}

/// The exclusive or of the bytes at even positions in the low byte, and of those at odd positions
/// in the byte above it.
static uint64_t exclusive_sum(const uint8_t *x, size_t length) {
  uint64_t folded = 0;
  for (size_t i = 0; i < length; i += 8) {
    uint64_t word;
    memcpy(&word, x + i, 8);
    folded ^= word;
  }
  folded ^= folded >> 32;
  return folded ^ folded >> 16;
}

// MARK: encoding

/// Encodes one packet of at most `window` bytes; returns how many bytes it holds, and its bits.
static inline size_t encode_low(const coder *c, const uint8_t *p, size_t window, uint64_t *packet,
                                size_t *used) {
  uint64_t word = 0;
  size_t i = 0, at = 0;
  while (i < window) {
    // Without a branch on the data, which no processor could predict.
    size_t pair = (p[i] == c->zero) & (i + 1 < window) & (p[i + 1] == c->zero);
    uint64_t code = pair ? 4 : c->code[p[i]];
    size_t bits = c->bits[p[i]];
    if (at + bits > 64) break;
    word |= code << at;
    at += bits;
    i += 1 + pair;
  }
  *packet = word;
  *used = at;
  return i;
}

/// The same with longer runs: the largest run length that is no longer than the run and fits.
static size_t encode_high(const coder *c, const uint8_t *p, size_t window, uint64_t *packet,
                          size_t *used) {
  static const uint8_t run_codes[5] = {0, 0, 4, 2, 6};
  uint64_t word = 0;
  size_t i = 0, at = 0;
  while (i < window) {
    size_t run = 0;
    while (i + run < window && p[i + run] == c->zero) run++;
    int nine = run >= 9 && at + 6 <= 64;
    size_t length = run == 0 ? 1 : nine ? 9 : smaller(run, 4);
    uint64_t code = run == 0 ? c->code[p[i]] : nine ? 5 : run_codes[length];
    size_t bits = run == 0 ? c->bits[p[i]] : nine ? 6 : 3;
    if (at + bits > 64) break;
    word |= code << at;
    at += bits;
    i += length;
  }
  *packet = word;
  *used = at;
  return i;
}

/// Encodes `length` bytes as one engine's stream; one more byte must be readable behind them.
/// Returns the stream's bytes, or 0 when the block must be stored uncompressed.
static size_t encode_stream(const coder *c, const uint8_t *x, size_t length,
                            const uint8_t *dictionary, uint8_t *out) {
  size_t start = c->high ? 4 : 2;
  out[0] = c->high ? 0x88 : 0xA8;
  out[1] = (uint8_t)(length / 128);
  if (c->high) {
    out[2] = out[3] = 0;
  } else {
    out[2] = dictionary[0];
    out[3] = dictionary[1];
  }
  uint64_t folded = exclusive_sum(x, length);
  out[4] = (uint8_t)(folded >> 8);
  out[5] = (uint8_t)folded;
  if (c->high)
    memcpy(out + 6, dictionary, 34);
  else
    memcpy(out + 6, dictionary + start, 34);
  size_t at = 0, bytes = HEADER;
  while (1) {
    if (bytes >= length) return 0;
    const uint8_t *p = x + at;
    size_t window = smaller(length - at, CHUNK), used;
    uint64_t packet;
    size_t i = c->high ? encode_high(c, p, window, &packet, &used)
                       : encode_low(c, p, window, &packet, &used);
    at += i;
    int last = at == length;
    if (last && used + END_BITS <= 64) {
      packet |= (uint64_t)END_CODE << used;
      used += END_BITS;
      memcpy(out + bytes, &packet, 8);
      return bytes + (used + 7) / 8;
    }
    // The unused bits of a packet that ends early, or that END does not fit in, are ones.
    if ((last || i < CHUNK) && used < 64) packet |= ~0ull << used;
    memcpy(out + bytes, &packet, 8);
    bytes += 8;
    if (last) {
      if (bytes >= length) return 0;
      out[bytes] = END_CODE & 255;
      out[bytes + 1] = END_CODE >> 8;
      return bytes + 2;
    }
  }
}

size_t nibble_compress_block(const uint8_t *block, size_t length, const uint8_t *dictionary,
                             int high, uint8_t *out) {
  coder c;
  fill_coder(&c, dictionary, high);
  size_t share = length / ENGINES, longest = 0, sizes[ENGINES];
  uint8_t input[STREAM + 1], stream[ENGINES][STREAM + 64];
  input[share] = 0;
  for (size_t e = 0; e < ENGINES; e++) {
    for (size_t i = 0; i < share; i += CHUNK)
      memcpy(input + i, block + i * ENGINES + e * CHUNK, CHUNK);
    sizes[e] = encode_stream(&c, input, share, dictionary, stream[e]);
    if (sizes[e] == 0) {
      for (size_t i = 0; i < length; i += UNIT * ENGINES)
        for (size_t f = 0; f < ENGINES; f++)
          // Unit i of engine f: the bytes of its stream, in the order of its chunks.
          memcpy(out + i + f * UNIT,
                 block + (i / ENGINES) / CHUNK * CHUNK * ENGINES + f * CHUNK +
                     (i / ENGINES) % CHUNK,
                 UNIT);
      return 0;
    }
    longest = sizes[e] > longest ? sizes[e] : longest;
  }
  size_t units = (longest + UNIT - 1) / UNIT;
  for (size_t e = 0; e < ENGINES; e++) {
    memset(stream[e] + sizes[e], 0, units * UNIT - sizes[e]);
    for (size_t u = 0; u < units; u++)
      memcpy(out + (u * ENGINES + e) * UNIT, stream[e] + u * UNIT, UNIT);
  }
  return units * UNIT * ENGINES;
}

// MARK: decoding

typedef struct {
  /// Bits of the code; 64 or more when it is not a valid code.
  uint8_t bits;
  uint8_t count;
  uint8_t value;
} symbol;

/// Length that END and invalid codes have in the table: longer than any packet.
enum { NO_CODE = 255 };

static void put(symbol *table, uint32_t code, symbol s) {
  for (uint32_t w = code; w < 4096; w += 1u << s.bits) table[w] = s;
}

static void fill_symbols(symbol *table, const uint8_t *dictionary, int high) {
  uint16_t code[36];
  uint8_t bits[36], zero = dictionary[0];
  size_t entries = entry_codes(high, code, bits);
  for (uint32_t w = 0; w < 4096; w++) table[w] = (symbol){NO_CODE, 0, 0};
  for (int b = 0; b < 256; b++)
    table[literal_code((uint8_t)b)] = (symbol){LITERAL_BITS, 1, (uint8_t)b};
  put(table, 0, (symbol){3, 1, zero});
  put(table, 4, (symbol){3, 2, zero});
  if (high) {
    put(table, 2, (symbol){3, 3, zero});
    put(table, 6, (symbol){3, 4, zero});
    put(table, 5, (symbol){6, 9, zero});
  }
  for (size_t e = 1; e < entries; e++) put(table, code[e], (symbol){bits[e], 1, dictionary[e]});
}

/// Decoder state: the dictionary of the last stream and its decoding table.
typedef struct {
  uint8_t dictionary[36];
  int filled;
  symbol table[4096];
} reader;

static int read_header(reader *r, const uint8_t *stream, size_t length, int high) {
  uint8_t dictionary[36] = {0}, seen[256] = {0};
  if (stream[0] != (high ? 0x88 : 0xA8) || stream[1] != (uint8_t)(length / 128))
    return NIBBLE_BLOCK_HEADER;
  if (high && (stream[2] != 0 || stream[3] != 0)) return NIBBLE_BLOCK_HEADER;
  if (!high) memcpy(dictionary, stream + 2, 2);
  memcpy(dictionary + (high ? 0 : 2), stream + 6, 34);
  if (r->filled && memcmp(dictionary, r->dictionary, 36) == 0) return NIBBLE_BLOCK_WHOLE;
  for (size_t e = 0; e < (high ? 34 : 36); e++)
    if (seen[dictionary[e]]++) return NIBBLE_BLOCK_DICTIONARY;
  fill_symbols(r->table, dictionary, high);
  memcpy(r->dictionary, dictionary, 36);
  r->filled = 1;
  return NIBBLE_BLOCK_WHOLE;
}

/// Decodes one engine's stream. The buffer holds 8 bytes beyond `bytes`, and `out` 8 beyond
/// `length`.
static int decode_stream(reader *r, const uint8_t *stream, size_t bytes, size_t length, int high,
                         uint8_t *out) {
  if (bytes < HEADER) return NIBBLE_BLOCK_TRUNCATED;
  int fault = read_header(r, stream, length, high);
  if (fault != NIBBLE_BLOCK_WHOLE) return fault;
  size_t at = HEADER, done = 0;
  while (done < length) {
    // The last packet may be cut to whole bytes; the bytes behind it in the buffer are not END.
    if (at >= bytes) return NIBBLE_BLOCK_TRUNCATED;
    uint64_t packet;
    memcpy(&packet, stream + at, 8);
    at += 8;
    size_t left = 64, window = smaller(length - done, CHUNK), i = 0;
    uint8_t *p = out + done;
    while (i < window) {
      symbol s = r->table[packet & 4095];
      if (s.bits > left) break;
      // Writes more bytes than the code stands for; the next codes overwrite the rest.
      memset(p + i, s.value, high ? 9 : 2);
      i += s.count;
      packet >>= s.bits;
      left -= s.bits;
    }
    // A packet may end early only if its remaining bits are ones, too few for a code.
    if (i > window || i == 0) return NIBBLE_BLOCK_CODE;
    if (i < window && (left >= LITERAL_BITS || packet != (1ull << left) - 1))
      return NIBBLE_BLOCK_CODE;
    done += i;
    if (done < length) continue;
    if (left >= END_BITS) {
      if ((packet & 511) != END_CODE) return NIBBLE_BLOCK_END;
      if (at - 8 + (64 - left + END_BITS + 7) / 8 > bytes) return NIBBLE_BLOCK_TRUNCATED;
    } else {
      if (at + 2 > bytes) return NIBBLE_BLOCK_TRUNCATED;
      if (stream[at] != (END_CODE & 255) || stream[at + 1] != END_CODE >> 8)
        return NIBBLE_BLOCK_END;
    }
  }
  uint64_t folded = exclusive_sum(out, length);
  return stream[4] == (uint8_t)(folded >> 8) && stream[5] == (uint8_t)folded
             ? NIBBLE_BLOCK_WHOLE
             : NIBBLE_BLOCK_SUM;
}

int nibble_decompress_block(const uint8_t *data, size_t bytes, int compressed, int high,
                            size_t length, uint8_t *block) {
  size_t share = length / ENGINES;
  if (bytes % (UNIT * ENGINES) != 0) return NIBBLE_BLOCK_TRUNCATED;
  if (!compressed) {
    if (bytes != length) return NIBBLE_BLOCK_TRUNCATED;
    for (size_t i = 0; i < length; i += UNIT * ENGINES)
      for (size_t f = 0; f < ENGINES; f++)
        memcpy(block + (i / ENGINES) / CHUNK * CHUNK * ENGINES + f * CHUNK +
                   (i / ENGINES) % CHUNK,
               data + i + f * UNIT, UNIT);
    return NIBBLE_BLOCK_WHOLE;
  }
  // Only the last packet and END can make a stream longer than the bytes it decodes to.
  if (bytes > length + ENGINES * UNIT) return NIBBLE_BLOCK_HEADER;
  uint8_t stream[STREAM + 2 * UNIT + 8], output[STREAM + 9];
  reader r = {.filled = 0};
  size_t units = bytes / (UNIT * ENGINES);
  for (size_t e = 0; e < ENGINES; e++) {
    for (size_t u = 0; u < units; u++)
      memcpy(stream + u * UNIT, data + (u * ENGINES + e) * UNIT, UNIT);
    memset(stream + units * UNIT, 0, 8);
    int fault = decode_stream(&r, stream, units * UNIT, share, high, output);
    if (fault != NIBBLE_BLOCK_WHOLE) return fault;
    for (size_t i = 0; i < share; i += CHUNK)
      memcpy(block + i * ENGINES + e * CHUNK, output + i, CHUNK);
  }
  return NIBBLE_BLOCK_WHOLE;
}
