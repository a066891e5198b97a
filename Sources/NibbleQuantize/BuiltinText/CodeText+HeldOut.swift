extension BuiltinText {
  /// Code and data: Python, C, Swift, JSON, shell, SQL and others.
  static let heldOutCode = #"""
    import csv
    from collections import Counter
    from pathlib import Path


    def species_by_month(folder: Path) -> dict[int, Counter]:
        """Counts sightings of each species per month over all files of a survey."""
        months: dict[int, Counter] = {}
        for path in sorted(folder.glob("*.csv")):
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    try:
                        month = int(row["date"].split("-")[1])
                        count = int(row.get("count") or 1)
                    except (KeyError, IndexError, ValueError):
                        print(f"{path.name}: skipped {row}")
                        continue
                    months.setdefault(month, Counter())[row["species"].strip().lower()] += count
        return months

    #include <string.h>

    /* Length of the longest run that reads the same in both directions, or 0. */
    size_t longest_palindrome(const char *text) {
        size_t n = strlen(text), best = 0;
        for (size_t middle = 0; middle < 2 * n; middle++) {
            size_t left = middle / 2, right = left + middle % 2;
            while (right < n && text[left] == text[right]) {
                if (right - left + 1 > best)
                    best = right - left + 1;
                if (left == 0)
                    break;
                left--;
                right++;
            }
        }
        return best;
    }

    enum Shape {
      case circle(radius: Double)
      case polygon([(x: Double, y: Double)])

      var area: Double {
        switch self {
        case .circle(let radius): return .pi * radius * radius
        case .polygon(let corners):
          guard corners.count > 2 else { return 0 }
          var twice = 0.0
          for (a, b) in zip(corners, corners.dropFirst() + corners.prefix(1)) {
            twice += a.x * b.y - b.x * a.y
          }
          return abs(twice) / 2
        }
      }
    }

    {"order": 58213, "customer": {"name": "R. Adeyemi", "since": 2019}, "paid": true, "lines": [
      {"sku": "LMP-7", "title": "Desk lamp, green", "quantity": 1, "price": 34.90},
      {"sku": "BLB-2", "title": "Bulb, warm white", "quantity": 3, "price": 4.25}],
     "total": 47.65, "note": null}

    for photo in *.tif; do
        name=${photo%.tif}
        [ -e "small/$name.jpg" ] && continue
        convert "$photo" -resize 1600x1600 -quality 85 "small/$name.jpg" || echo "$photo" >> \#
    failed.txt
    done
    du -sh small | cut -f1

    WITH monthly AS (
        SELECT plot, strftime('%Y-%m', day) AS month, SUM(litres) AS litres
        FROM irrigation
        GROUP BY plot, month
    )
    SELECT plot, month, litres,
           litres - LAG(litres) OVER (PARTITION BY plot ORDER BY month) AS change
    FROM monthly
    WHERE litres > 0
    ORDER BY plot, month;

    class Thermostat:
        """Switches a heater with a dead band, so that it does not chatter."""

        def __init__(self, target: float, band: float = 0.5):
            self.target, self.band, self.heating = target, band, False

        def update(self, measured: float) -> bool:
            if measured < self.target - self.band:
                self.heating = True
            elif measured > self.target + self.band:
                self.heating = False
            return self.heating

    """#
}
