import Foundation
import NibbleEngines
import NibbleModel
import NibbleTensor
import Testing
import TinyModel

@Suite struct CacheLimitTests {
  private func decoder(in folder: String) throws -> Decoder {
    var model = TinyModel()
    (model.blocks, model.hidden, model.heads, model.keyHeads, model.headSize) = (3, 64, 4, 2, 16)
    try model.write(in: folder, config: [:])
    return try LoadedModel(path: folder).decoder
  }

  /// 3 blocks, 2 key heads of 16 channels, keys and values: 192 values a token. The rotary table has 16
  /// floats a token.
  @Test func bytesHoldWholePagesOfTokens() throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder)
      func tokens(_ bytes: Int, _ format: CacheFormat) -> Int {
        CacheLimit.bytes(bytes).tokens(decoder, keeping: format)
      }
      #expect(tokens((192 * 4 + 64) * 640, .f32) == 640)
      #expect(tokens((192 * 4 + 64) * 640 - 1, .f32) == 576)
      #expect(tokens((192 * 2 + 64) * 640, .f16) == 640)
      // A scale of a token and head takes its bytes too.
      #expect(tokens((192 + 64) * 640, .int8) < 640 && tokens((192 * 2 + 64) * 640, .int8) >= 640)
      // A group of 32 channels of a token is 2 float16 and its codes; heads of 16 fill half of one.
      // In each block the first group, the last 64 tokens and 32 before stay float.
      let floats = 128 * 192 * 4
      for (format, group) in [(CacheFormat.int4, 20), (.int3, 16)] {
        let bytes = (3 * 2 * 2 * group + 64) * 640 + floats
        #expect(tokens(bytes, format) == 640 && tokens(bytes - 1, format) == 576)
      }
      #expect(tokens(0, .f16) == 0)
    }
  }

  @Test func aShareIsOfWhatTheWeightsLeave() throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder)
      let free = decoder.weightBytes + 2 * (192 * 4 + 64) * 640
      let half = CacheLimit.shareOfFreeMemory(0.5)
      #expect(half.tokens(decoder, keeping: .f32, freeBytes: free) == 640)
      #expect(half.tokens(decoder, keeping: .f32, freeBytes: 100) == 0)
      #expect(CacheLimit.standard.tokens(decoder, keeping: .f32) > 0)
      #expect(FreeMemory.bytes > 1 << 20)
      #expect(FreeMemory.bytes <= Int(ProcessInfo.processInfo.physicalMemory))
    }
  }

  @Test func whatDoesNotFitIsRefusedWithWhatWould() throws {
    try inTemporaryFolder { folder in
      let decoder = try decoder(in: folder)
      let limit = CacheLimit.bytes((192 * 4 + 64) * 640)
      #expect(try limit.capacity(wanted: 600, needed: 600, decoder, keeping: .f32) == 600)
      #expect(try limit.capacity(wanted: 900, needed: 1, decoder, keeping: .f32) == 640)
      let error = #expect(throws: ModelError.self) {
        try limit.capacity(wanted: 641, needed: 641, decoder, keeping: .f32)
      }
      #expect(
        error
          == .cacheTooSmall(
            tokens: 641, fitting: 640, bytesPerToken: 192 * 4 + 64,
            limit: "\((192 * 4 + 64) * 640) bytes"))
    }
  }
}
