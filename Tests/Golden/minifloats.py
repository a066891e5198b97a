"""Minifloats by brute force, and FP4 with block scales, for Tests/NibbleTensorTests/Fixtures/minifloats.json.

Run with numpy 2.4.6 and ml_dtypes 0.6.0: python minifloats.py > minifloats.json
Every value is compared with the two codes beside it in exact fractions. ml_dtypes checks the formats that it has; the tables
below, which were made with torchao, ml_dtypes and the fouroversix reference, check the block formats.

Arrays are base64 of little-endian numbers: f64 values of tables, f32 inputs, u8 codes. A code is sign, exponent, mantissa in
the low bits of its byte. Rounding is to the nearest value, ties to the even code, the sign kept also by zeros. Beyond the
largest finite value it saturates, infinities too.

formats: [{name, bits, exponent, mantissa, bias, largest, infinities, nans, table f64 [2^bits], values f32, codes u8,
         overflowing u8 (E5M2 and E4M3 only: the codes without saturation: infinity, or NaN in E4M3)}]
         E5M2 and E4M3 are OCP's: E5M2 has infinities and NaNs (exponent 31), E4M3 only 0x7F and 0xFF as NaN, largest 448.
         E3M4, E2M5, E3M2, E2M3 and E2M1 have neither. Biases: 15, 7, 3, 1, 3, 1, 1.
         "E4M3 all finite" and "E5M2 all finite": no NaN and no infinity, largest 480 and 114688, as MoFQ and Qualcomm.
scaled:  [{exponent, mantissa, clip, values f32, rounded f64}]: an all-finite format whose largest value is scaled to `clip`,
         in double ("The Power of the Exponent", with a real-valued bias).
elements: E2M1 at the edges: [[x, code]].
mx_bytes: {amax f32 [20], and by rule u8 [20]}: scale bytes of E8M0, value 2^(byte - 127). `even` bumps the
         exponent, so that the largest floats do not overflow to NaN (255) as in the references.
published: the 32 values and their codes by MX floor, MX rceil, NVFP4 and NVFP4 four over six, with scales.
blocks:  values f32 [4, 128], importance f32 [128]; row 3 begins with a block of 32 zeros, whose scales are not to be compared.
         mx: by rule {bytes u8 [4, 4], codes u8 [4, 128]}; `best`: of floor and floor + 1 the one with less squared error.
         nv: by rule {tensor (float: g = top * 6 / amax, rounded to float), scales u8 [4, 8] in E4M3, codes u8 [4, 128]};
         value = code * scale / tensor. `plain`: top 448, scale E4M3(g * amax / 6). `four_over_six`: top 256, of the scales
         for amax on 6 and on 4 the one with less squared error. `search`: top 448, of all E4M3 values from 0.5 to 1.85
         times the plain one the one with the least error weighted by `importance`.
         margin: least relative distance of any rounding here to a tie, so that the order of float operations does not matter.
"""

import base64
import json
import math
from bisect import bisect_right
from fractions import Fraction

import ml_dtypes
import numpy as np

f32 = np.float32


def b64(values, dtype):
    return base64.b64encode(np.ascontiguousarray(np.asarray(values), dtype).tobytes()).decode()


class Format:
    def __init__(self, name, exponent, mantissa, bias, special="none", oracle=None):
        self.name, self.exponent, self.mantissa, self.bias, self.special = name, exponent, mantissa, bias, special
        self.bits = 1 + exponent + mantissa
        self.oracle = oracle
        positive = []
        for code in range(2 ** (self.bits - 1)):
            e, m = code >> mantissa, code & (2**mantissa - 1)
            if special == "ieee" and e == 2**exponent - 1:
                positive.append(math.inf if m == 0 else math.nan)
            elif special == "fn" and code == 2 ** (self.bits - 1) - 1:
                positive.append(math.nan)
            else:
                positive.append(math.ldexp(2**mantissa + m, e - bias - mantissa) if e else math.ldexp(m, 1 - bias - mantissa))
        self.finite = [v for v in positive if math.isfinite(v)]
        self.table = positive + [-v for v in positive]
        self.exact = [Fraction(v) for v in self.finite]
        self.largest = self.finite[-1]
        assert self.finite == sorted(self.finite)

    def nearest(self, x):
        """The code of the nearest value, and the distance to the next edge relative to the gap there."""
        sign = 2 ** (self.bits - 1) if math.copysign(1, x) < 0 else 0
        x = abs(x)
        if x >= self.largest:
            return sign | (len(self.finite) - 1), 0.5
        exact = Fraction(x)
        low = bisect_right(self.exact, exact) - 1
        gap = self.exact[low + 1] - self.exact[low]
        part = (exact - self.exact[low]) / gap
        up = part > Fraction(1, 2) or (part == Fraction(1, 2) and low % 2 == 1)
        return sign | (low + up), float(abs(part - Fraction(1, 2)))

    def code(self, x):
        return self.nearest(x)[0]

    def value(self, code):
        return self.table[code]

    def overflowing(self, x):
        """The code without saturation: past half a step beyond the largest value, infinity or NaN."""
        step = self.finite[-1] - self.finite[-2]
        edge = self.largest + step / 2
        # The largest value of E5M2 has an odd code and that of E4M3 an even one: a tie goes past it, or stays.
        beyond = abs(x) > edge or (abs(x) == edge and len(self.finite) % 2 == 0)
        sign = 2 ** (self.bits - 1) if math.copysign(1, x) < 0 else 0
        if beyond:
            return sign | (len(self.finite) if self.special == "ieee" else 2 ** (self.bits - 1) - 1)
        return self.code(x)


E5M2 = Format("E5M2", 5, 2, 15, "ieee", ml_dtypes.float8_e5m2)
E4M3 = Format("E4M3", 4, 3, 7, "fn", ml_dtypes.float8_e4m3fn)
E2M1 = Format("E2M1", 2, 1, 1, "none", ml_dtypes.float4_e2m1fn)
FORMATS = [
    E5M2, E4M3, Format("E3M4", 3, 4, 3), Format("E2M5", 2, 5, 1), Format("E3M2", 3, 2, 3, "none", ml_dtypes.float6_e3m2fn),
    Format("E2M3", 2, 3, 1, "none", ml_dtypes.float6_e2m3fn), E2M1,
    Format("E4M3 all finite", 4, 3, 7), Format("E5M2 all finite", 5, 2, 15),
]


def samples(format, random, count=400):
    """Ties with both neighbours, values of codes, subnormals, the ends, and magnitudes of every size."""
    middles = [(a + b) / 2 for a, b in zip(format.finite, format.finite[1:])]
    step = format.finite[-1] - format.finite[-2]
    ends = [0.0, 1e-45, 1e-30, 1e30, 3.4028235e38, math.inf, format.largest, format.largest + step / 2,
            format.largest + step, format.finite[1] / 2]
    picked = list(random.choice(middles, min(90, len(middles)), replace=False))
    values = ends + picked
    values += [float(np.nextafter(f32(v), f32(way))) for v in picked + [format.largest + step / 2] for way in (0, math.inf)]
    values += list(random.choice(format.finite, 20))
    low, high = math.log2(format.finite[1]) - 2, math.log2(format.largest) + 1
    while len(values) < count:
        values.append(2 ** random.uniform(low, high))
    signs = np.where(random.integers(0, 2, len(values)) == 0, 1, -1)
    signs[0] = 1
    values = (np.array(values) * signs).astype(f32)
    return np.append(values, f32(-0.0))[:count + 1]


def formats(random):
    out = []
    for format in FORMATS:
        values = samples(format, random)
        codes = [format.code(float(v)) for v in values]
        entry = dict(
            name=format.name, bits=format.bits, exponent=format.exponent, mantissa=format.mantissa, bias=format.bias,
            largest=format.largest, infinities=format.special == "ieee", nans=format.special != "none",
            table=b64(format.table, "<f8"), values=b64(values, "<f4"), codes=b64(codes, np.uint8))
        if format.oracle is not None:
            table = np.arange(2**format.bits, dtype=np.uint8).view(format.oracle).astype(np.float64)
            np.testing.assert_array_equal(table, format.table)
            clamped = np.clip(values, -format.largest, format.largest)
            assert (clamped.astype(format.oracle).view(np.uint8) == codes).all(), format.name
        if format.special != "none":
            free = [format.overflowing(float(v)) for v in values]
            theirs = values.astype(format.oracle).view(np.uint8)
            assert (theirs == free).all(), [(v, a, b) for v, a, b in zip(values, theirs, free) if a != b]
            entry["overflowing"] = b64(free, np.uint8)
        out.append(entry)
    return out


def scaled(random):
    out = []
    for exponent, mantissa, clip in [(5, 2, 1.7), (4, 3, 0.3), (3, 4, 2.9), (2, 5, 11.0), (2, 1, 0.77)]:
        format = Format("", exponent, mantissa, 0)
        values = (random.standard_normal(120) * clip * 0.5).astype(f32)
        # The grid is the table times clip / largest; nearest in exact fractions of the doubles involved.
        ratio = Fraction(clip) / Fraction(format.largest)
        rounded = []
        for v in values:
            x = Fraction(float(v)) / ratio
            low = bisect_right(format.exact, abs(x)) - 1
            if low >= len(format.exact) - 1:
                code = len(format.exact) - 1
            else:
                part = (abs(x) - format.exact[low]) / (format.exact[low + 1] - format.exact[low])
                assert abs(part - Fraction(1, 2)) > Fraction(1, 10**6)
                code = low + (part > Fraction(1, 2))
            rounded.append(math.copysign(float(format.exact[code] * ratio), v))
        out.append(dict(exponent=exponent, mantissa=mantissa, clip=clip, values=b64(values, "<f4"),
                        rounded=b64(rounded, "<f8")))
    return out


# ------------------------------------------------------------------------------------------------------- block formats


def mantissa_of(amax):
    m, e = math.frexp(amax)
    return 2 * m, e - 1


def least_power(quotient):
    """The least e with 2^e >= quotient."""
    e = math.frexp(float(quotient))[1] - 2
    while Fraction(2) ** e < quotient:
        e += 1
    return e


def mx_byte(rule, amax):
    if not math.isfinite(amax):
        return 255
    if amax == 0:
        return 0
    m, e = mantissa_of(amax)
    exponent = {
        "floor": lambda: e - 2,
        "even": lambda: e - 2 + (m >= 1.75),
        "ceil": lambda: e - 2 + (m != 1),
        "rceil": lambda: least_power(Fraction(amax) / 6),
        "7.25": lambda: least_power(Fraction(amax) / Fraction(29, 4)),
    }[rule]()
    return min(max(exponent + 127, 0), 254)


RULES = ["floor", "even", "ceil", "rceil", "7.25"]
up, down = (lambda v, way=way: float(np.nextafter(f32(v), f32(way))) for way in (math.inf, 0))
AMAX = [2.0**-149, 6 * 2.0**-127, 1, 1.5, 1.75, 2, 3, down(3.5), 3.5, up(3.625), 6, up(6), 6.5, 7, 7.25, up(7.25), down(8), 8,
        448, float(f32(3.38e38))]
# The reference's `even` adds to the float, which overflows to NaN (255) at the last; the exponent alone does not.
BYTES = {
    "floor": [0, 0, 125, 125, 125, 126, 126, 126, 126, 126, 127, 127, 127, 127, 127, 127, 127, 128, 133, 252],
    "even": [0, 0, 125, 125, 126, 126, 126, 126, 127, 127, 127, 127, 127, 128, 128, 128, 128, 128, 134, 253],
    "ceil": [0, 1, 125, 126, 126, 126, 127, 127, 127, 127, 128, 128, 128, 128, 128, 128, 128, 128, 134, 253],
    "rceil": [0, 0, 125, 125, 126, 126, 126, 127, 127, 127, 127, 128, 128, 128, 128, 128, 128, 128, 134, 253],
    "7.25": [0, 0, 125, 125, 125, 126, 126, 126, 126, 127, 127, 127, 127, 127, 127, 128, 128, 128, 133, 253],
}
ELEMENTS = [(.25, 0), (up(.25), 1), (.75, 2), (down(.75), 1), (1.25, 2), (1.75, 4), (2.5, 4), (up(2.5), 5), (down(3.5), 5),
            (3.5, 6), (5, 6), (up(5), 7), (7, 7), (1e30, 7), (-0.0, 8), (-5, 14), (1e-45, 0)]
PUBLISHED = [
    (6.5, 7, 5, 7, 6), (-6, 15, 13, 15, 14), (5, 6, 4, 6, 5), (-5, 14, 12, 14, 13), (3.5, 6, 4, 5, 4), (-2.5, 12, 10, 12, 11),
    (1.75, 4, 2, 3, 2), (1.25, 2, 1, 2, 2), (-.75, 10, 9, 9, 9), (.25, 0, 0, 0, 0), (-.25, 8, 8, 8, 8), (.2734375, 1, 0, 1, 0),
    (3, 5, 3, 5, 4), (-0.0, 8, 8, 8, 8), (0, 0, 0, 0, 0), (4, 6, 4, 6, 4), (1.0625, 2, 1, 7, 7), (-.9375, 10, 9, 15, 15),
    (.8125, 2, 1, 6, 6), (.6875, 1, 1, 6, 6), (-.59375, 9, 9, 13, 14), (.5, 1, 0, 5, 5), (.4375, 1, 0, 5, 5),
    (-.375, 9, 8, 12, 12), (.3125, 1, 0, 4, 4), (.25, 0, 0, 3, 3), (-.21875, 8, 8, 11, 11), (.1875, 0, 0, 2, 2),
    (.125, 0, 0, 1, 1), (-.0625, 8, 8, 9, 9), (.03125, 0, 0, 0, 0), (.0078125, 0, 0, 0, 0)]

margins = []


def element(quotient):
    code, margin = E2M1.nearest(quotient)
    margins.append(margin)
    return code


def mx(x, rule):
    """[n, k] to bytes [n, k / 32] and codes. Quotients by a power of two are exact."""
    n, k = x.shape
    bytes_, codes = np.zeros((n, k // 32), int), np.zeros((n, k), int)
    for row in range(n):
        for block in range(k // 32):
            part = slice(block * 32, block * 32 + 32)
            values = x[row, part]
            floor = mx_byte("floor", np.abs(values).max())
            choices = [floor, min(floor + 1, 254)] if rule == "best" else [mx_byte(rule, np.abs(values).max())]
            results = []
            for byte in choices:
                made = [E2M1.code(v * 2.0 ** (127 - byte)) for v in values]
                back = np.array([E2M1.value(c) for c in made]) * 2.0 ** (byte - 127)
                results.append((float(((back - values) ** 2).sum()), byte, made))
            best = min(results, key=lambda r: r[0])
            assert rule != "best" or values.max() == 0 or results[0][0] != results[1][0]
            bytes_[row, block], codes[row, part] = best[1], best[2]
    return bytes_, codes


def nv(x, rule, importance):
    """[n, k] to the tensor's factor, E4M3 codes of scales [n, k / 16] and codes, in double."""
    n, k = x.shape
    g = float(f32((256 if rule == "four_over_six" else 448) * 6 / np.abs(x).max()))
    scales, codes = np.zeros((n, k // 16), int), np.zeros((n, k), int)
    for row in range(n):
        for block in range(k // 16):
            part = slice(block * 16, block * 16 + 16)
            values = x[row, part]
            amax = np.abs(values).max()
            if amax == 0:
                continue

            def scale(factor):
                code, margin = E4M3.nearest(min(factor * g * amax / 6, 448.0))
                margins.append(margin)
                return code

            if rule == "plain":
                choices = [scale(1)]
            elif rule == "four_over_six":
                choices = [scale(1), scale(1.5)]
            else:
                base = E4M3.value(scale(1))
                choices = [c for c in range(1, 0x7F) if 0.5 * base <= E4M3.value(c) <= 1.85 * base]
            results = []
            for code in choices:
                s = E4M3.value(code)
                made = [element(v * g / s) for v in values]
                error = np.array([E2M1.value(c) for c in made]) * s / g - values
                weights = importance[part] if rule == "search" else 1
                results.append((float((weights * error**2).sum()), code, made))
            results.sort(key=lambda r: r[0])
            if len(results) > 1 and results[0][1] != results[1][1]:
                margins.append((results[1][0] - results[0][0]) / results[1][0])
            best = results[0]
            scales[row, block], codes[row, part] = best[1], best[2]
    return g, scales, codes


def check_published():
    x = np.array([row[0] for row in PUBLISHED])[None]
    out = {"values": b64(x, "<f4")}
    for column, rule in [(1, "floor"), (2, "rceil")]:
        bytes_, codes = mx(x, rule)
        assert bytes_[0, 0] == {"floor": 127, "rceil": 128}[rule]
        assert codes[0].tolist() == [row[column] for row in PUBLISHED], rule
        back = np.array([E2M1.value(c) for c in codes[0]]) * 2.0 ** (bytes_[0, 0] - 127)
        assert abs(((back - x[0]) ** 2).sum() - {"floor": 3.421509, "rceil": 4.288696}[rule]) < 1e-6
        out[f"mx_{rule}"] = dict(bytes=b64(bytes_, np.uint8), codes=b64(codes, np.uint8))
    for column, rule, expected, errors in [(3, "plain", [0x7E, 0x69], [1.769863, .045322]),
                                           (4, "four_over_six", [0x7C, 0x62], [1.332580, .045444])]:
        g, scales, codes = nv(x, rule, None)
        assert scales[0].tolist() == expected, scales
        assert codes[0].tolist() == [row[column] for row in PUBLISHED], rule
        back = np.array([E2M1.value(c) for c in codes[0]]) * np.repeat([E4M3.value(c) for c in scales[0]], 16) / g
        found = ((back - x[0]) ** 2).reshape(2, 16).sum(1)
        assert np.abs(found - errors).max() < 1e-6, found
        out[f"nv_{rule}"] = dict(tensor=g, scales=b64(scales, np.uint8), codes=b64(codes, np.uint8))
    return out


def blocks(random):
    x = (random.standard_t(4, (4, 128)) * np.array([[1], [0.02], [7], [0.4]])).astype(f32)
    x[3, :32] = 0
    importance = np.exp(random.standard_normal(128)).astype(f32)
    margins.clear()
    wide = x.astype(np.float64)
    out = dict(values=b64(x, "<f4"), importance=b64(importance, "<f4"), mx={}, nv={})
    for rule in RULES + ["best"]:
        bytes_, codes = mx(wide, rule)
        out["mx"][rule] = dict(bytes=b64(bytes_, np.uint8), codes=b64(codes, np.uint8))
    for rule in ["plain", "four_over_six", "search"]:
        g, scales, codes = nv(wide, rule, importance.astype(np.float64))
        out["nv"][rule] = dict(tensor=g, scales=b64(scales, np.uint8), codes=b64(codes, np.uint8))
    out["margin"] = min(margins)
    # A hundred units in the last place of a float.
    assert out["margin"] > 1e-5, out["margin"]
    return out


def main():
    for rule in RULES:
        assert [mx_byte(rule, a) for a in AMAX] == BYTES[rule], (rule, [mx_byte(rule, a) for a in AMAX])
    assert all(E2M1.code(x) == code for x, code in ELEMENTS)
    published = check_published()
    random = np.random.default_rng(9)
    content = dict(
        made_by=f"Tests/Golden/minifloats.py with numpy {np.__version__} and ml_dtypes {ml_dtypes.__version__}",
        formats=formats(random), scaled=scaled(random), elements=[[float(f32(x)), code] for x, code in ELEMENTS],
        mx_bytes=dict(amax=b64(AMAX, "<f4"), **{rule: b64(BYTES[rule], np.uint8) for rule in RULES}),
        published=published, blocks=blocks(random))
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    print(text.replace('},{"', '},\n{"').replace('[{"', '[\n{"').replace('],"', '],\n"').replace('},"', '},\n"'))


main()
