extension BuiltinText {
  /// Code and data: Python, C, Swift, JSON, shell, SQL and others.
  static let calibrationCode = #"""
    from dataclasses import dataclass, field
    from heapq import heappop, heappush


    @dataclass
    class Network:
        """Roads between towns, each with a length in kilometres."""

        roads: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

        def connect(self, a: str, b: str, length: float) -> None:
            if length < 0:
                raise ValueError(f"a road cannot have length {length}")
            self.roads.setdefault(a, []).append((b, length))
            self.roads.setdefault(b, []).append((a, length))

        def shortest(self, start: str, goal: str) -> tuple[float, list[str]] | None:
            queue = [(0.0, start, [start])]
            done: set[str] = set()
            while queue:
                distance, town, path = heappop(queue)
                if town == goal:
                    return distance, path
                if town in done:
                    continue
                done.add(town)
                for other, length in self.roads.get(town, []):
                    if other not in done:
                        heappush(queue, (distance + length, other, path + [other]))
            return None


    if __name__ == "__main__":
        map = Network()
        for a, b, length in [("Ash", "Birk", 7), ("Birk", "Cove", 4.5), ("Ash", "Cove", 14)]:
            map.connect(a, b, length)
        print(map.shortest("Ash", "Cove"))  # (11.5, ['Ash', 'Birk', 'Cove'])

    #include <stdbool.h>
    #include <stddef.h>
    #include <stdint.h>

    /* A ring of bytes: one writer, one reader, no allocation after the start. */
    struct ring {
        uint8_t *bytes;
        size_t size;   /* a power of two */
        size_t head;   /* total bytes ever written */
        size_t tail;   /* total bytes ever read */
    };

    static size_t ring_used(const struct ring *r) { return r->head - r->tail; }

    bool ring_put(struct ring *r, uint8_t byte) {
        if (ring_used(r) == r->size)
            return false;
        r->bytes[r->head & (r->size - 1)] = byte;
        r->head++;
        return true;
    }

    int ring_get(struct ring *r) {
        if (ring_used(r) == 0)
            return -1;
        return r->bytes[r->tail++ & (r->size - 1)];
    }

    struct Matrix: Equatable {
      let rows: Int
      let columns: Int
      private(set) var values: [Double]

      init(rows: Int, columns: Int, fill: Double = 0) {
        precondition(rows > 0 && columns > 0, "a matrix of \(rows) x \(columns)")
        self.rows = rows
        self.columns = columns
        values = Array(repeating: fill, count: rows * columns)
      }

      subscript(row: Int, column: Int) -> Double {
        get { values[row * columns + column] }
        set { values[row * columns + column] = newValue }
      }

      static func * (left: Matrix, right: Matrix) -> Matrix {
        precondition(left.columns == right.rows)
        var product = Matrix(rows: left.rows, columns: right.columns)
        for i in 0..<left.rows {
          for k in 0..<left.columns {
            let factor = left[i, k]
            for j in 0..<right.columns { product[i, j] += factor * right[k, j] }
          }
        }
        return product
      }
    }

    {
      "name": "greenhouse-controller",
      "version": "0.4.1",
      "sensors": [
        {"id": "t-01", "kind": "temperature", "unit": "celsius", "every_seconds": 30, "alarm": \#
    [4.0, 38.5]},
        {"id": "h-01", "kind": "humidity", "unit": "percent", "every_seconds": 60, "alarm": \#
    null},
        {"id": "soil-3", "kind": "moisture", "unit": "volts", "every_seconds": 900, "alarm": \#
    [0.8, 2.2]}
      ],
      "vents": {"north": true, "south": false, "steps": 12},
      "contact": "night-shift@greenhouse.example"
    }

    #!/bin/sh
    # Moves logs older than a week into a dated archive; keeps going when one file fails.
    set -u
    logs=${1:?usage: rotate LOGS ARCHIVE}
    archive=${2:?usage: rotate LOGS ARCHIVE}
    stamp=$(date +%Y-%m-%d)
    mkdir -p "$archive" || exit 73
    failed=0
    find "$logs" -name '*.log' -mtime +7 -print | while IFS= read -r file; do
        if gzip -c "$file" > "$archive/$stamp-$(basename "$file").gz"; then
            rm -- "$file"
        else
            echo "could not pack $file" >&2
            failed=$((failed + 1))
        fi
    done

    CREATE TABLE loans (
        id         INTEGER PRIMARY KEY,
        book_id    INTEGER NOT NULL REFERENCES books (id),
        reader_id  INTEGER NOT NULL REFERENCES readers (id),
        lent_on    DATE NOT NULL,
        returned   DATE,
        CHECK (returned IS NULL OR returned >= lent_on)
    );

    SELECT readers.name, COUNT(*) AS late, MAX(julianday('now') - julianday(lent_on)) AS longest
    FROM loans
    JOIN readers ON readers.id = loans.reader_id
    WHERE returned IS NULL AND lent_on < date('now', '-28 days')
    GROUP BY readers.id
    HAVING late > 1
    ORDER BY longest DESC
    LIMIT 20;

    function debounce(action, wait) {
      let timer = null;
      return (...args) => {
        clearTimeout(timer);
        timer = setTimeout(() => action(...args), wait);
      };
    }
    document.querySelector("#search").addEventListener("input", debounce(async (event) => {
      const reply = await fetch(`/find?q=${encodeURIComponent(event.target.value)}`);
      render(await reply.json());
    }, 250));

    """#
}
