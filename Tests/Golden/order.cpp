// Orders of std::sort by falling count over pairs that begin in the order of their bytes.
// c++ -O2 order.cpp -o order && ./order > order.json
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

int main() {
  std::mt19937_64 random(7);
  std::printf("[\n");
  for (int sample = 0; sample < 64; sample++) {
    // From all equal, through few distinct counts and saws, to all distinct.
    std::vector<std::pair<uint8_t, uint64_t>> pairs;
    std::vector<uint64_t> counts;
    for (int b = 0; b < 256; b++) {
      uint64_t count = sample == 0   ? 5
                       : sample == 1 ? b
                       : sample == 2 ? 255 - b
                       : sample == 3 ? std::min(b, 256 - b)
                       : sample == 4 ? (b == 0 ? 40960 : 0)
                       : sample < 8  ? b % (1 << sample)
                                     : random() % (1ull << (sample % 16 + 1));
      counts.push_back(count);
      pairs.push_back({uint8_t(b), count});
    }
    std::sort(pairs.begin(), pairs.end(),
              [](const auto &a, const auto &b) { return a.second > b.second; });
    std::printf("{\"counts\":[");
    for (int b = 0; b < 256; b++) std::printf("%s%llu", b ? "," : "", (unsigned long long)counts[b]);
    std::printf("],\"order\":[");
    for (int b = 0; b < 256; b++) std::printf("%s%d", b ? "," : "", pairs[b].first);
    std::printf("]}%s\n", sample == 63 ? "" : ",");
  }
  std::printf("]\n");
}
