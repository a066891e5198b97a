"""Percentiles and bootstrap intervals, for Tests/NibbleQuantizeTests/DivergenceTests.swift.

Run with numpy 2.4.6: python bootstrap.py
Prints, for windows of (tokens, sum of KL, sum of the loss change), the 2.5 and 97.5 percentiles of both means over
1000 resamples of the windows, whose indices are SplitMix64's from seed 1 modulo the number of windows.
"""

import numpy as np

WINDOWS = [(255, 10.2, 3.1), (255, 8.7, -0.4), (255, 14.9, 5.0), (255, 6.6, 1.7), (90, 9.5, 4.4)]


def split_mix(state):
    mask = 2**64 - 1
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield z ^ (z >> 31)


random = split_mix(1)
windows = np.array(WINDOWS)
drawn = np.array([[next(random) % len(WINDOWS) for _ in WINDOWS] for _ in range(1000)])
sums = windows[drawn].sum(axis=1)
for column in (1, 2):
    print(np.percentile(sums[:, column] / sums[:, 0], [2.5, 97.5]).tolist())
values = np.array([3, 0.5, 0.25, 9, 1, 2, 0.125], dtype=np.float32)
print([float(np.percentile(values.astype(float), p)) for p in (0, 50, 90, 99, 100)])
