import Foundation
import NibbleFormats
import Testing

@Suite struct BenchTests {
  private static let short = ["--prompt-tokens", "9", "--decode-tokens", "3", "--threads", "1"]

  @Test func oneObjectHoldsEveryFigure() throws {
    try inTemporaryFolder { folder in
      let source = folder + "/source"
      try SmallModel.write(source)
      let outcome = try Call(
        ["bench", source, "--against", source, "--rounds", "2", "--context", "5", "--json"]
          + Self.short
      ).wait()
      #expect(outcome.status == 0, "\(outcome)")
      let json = try outcome.json()
      for name in [
        "prefill_tokens_per_second", "decode_tokens_per_second", "time_to_first_token_seconds",
        "read_bandwidth_bytes_per_second", "bandwidth_share", "prefill_ratio",
      ] { #expect((json[name]?.double ?? 0) > 0, "\(name)") }
      #expect((json["peak_rss_bytes"]?.int ?? 0) > 1 << 20)
      // Two blocks and the head in float16, norms in float.
      let block = 64 * (64 + 32 + 32 + 64) + 3 * 64 * 96
      #expect(json["weight_bytes"]?.int == 2 * (2 * block + 256 * 64) + 4 * 5 * 64)
      #expect(json["against"]?["weight_bytes"] == json["weight_bytes"])
    }
  }

  @Test func llamaBenchIsAskedForTheSame() throws {
    try inTemporaryFolder { folder in
      let (source, peer) = (folder + "/source", folder + "/llama-bench")
      try SmallModel.write(source)
      try write("#!/bin/sh\necho \"$@\" >> \"$0.asked\"\necho '[{\"avg_ts\": 50.5}]'\n", peer)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: peer)
      let outcome = try Call(
        [
          "bench", source, "--llama-cpp", peer, "--gguf", "m.gguf", "--rounds", "1", "--json",
          "--llama-options", "-fa 1", "--context", "4",
        ] + Self.short
      ).wait()
      #expect(outcome.status == 0, "\(outcome)")
      #expect(try outcome.json()["against"]?["decode_tokens_per_second"] == .number(50.5))
      #expect(
        try String(contentsOfFile: peer + ".asked", encoding: .utf8) == """
          -m m.gguf -t 1 -p 9 -n 0 -r 1 -o json -fa 1
          -m m.gguf -t 1 -p 0 -n 3 -d 4 -r 1 -o json -fa 1

          """)
      try write("#!/bin/sh\necho broken >&2\nexit 3\n", peer)
      let broken = try nibble("bench", source, "--llama-cpp", peer, "--gguf", "m.gguf")
      #expect(broken.status == 65 && broken.errors.contains("broken"), "\(broken)")
      #expect(try nibble("bench", source, "--gguf", "m.gguf").status == 64)
    }
  }
}
