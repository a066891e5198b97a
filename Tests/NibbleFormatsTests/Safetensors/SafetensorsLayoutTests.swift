import NibbleFormats
import Testing

@Suite struct SafetensorsLayoutTests {
  private typealias Tensor = SafetensorsLayout.Tensor

  @Test func anEmptyLayoutIsAFile() throws {
    let layout = try SafetensorsLayout([], metadata: ["format": "mlx"])
    #expect(layout.fileSize == layout.header.count)
    #expect(layout.metadata == ["format": "pt"])
    #expect(
      String(decoding: layout.header[8...], as: UTF8.self)
        == #"{"__metadata__":{"format":"pt"}}"#)
  }

  @Test func refusesWhatNoReaderWouldTake() {
    func fault(_ tensors: [Tensor]) -> SafetensorsFault? {
      do throws(FormatError) {
        _ = try SafetensorsLayout(tensors)
        return nil
      } catch {
        guard case .layout(_, let fault) = error else { return nil }
        return fault
      }
    }
    #expect(fault([Tensor(name: "__metadata__", dtype: .u8, shape: [])]) == .reservedName)
    let twice = Tensor(name: "a", dtype: .u8, shape: [1])
    #expect(fault([twice, twice]) == .duplicateName)
    let odd = Tensor(name: "a", dtype: .f6E2M3, shape: [3, 1])
    #expect(fault([odd]) == .endsInsideByte(.f6E2M3, [3, 1]))
    #expect(fault([Tensor(name: "a", dtype: .u8, shape: [-1])]) == .negativeDimension(-1))
    let huge = [Int.max / 8, 2]
    #expect(fault([Tensor(name: "a", dtype: .u8, shape: huge)]) == .tooManyElements(huge))
    let large = (0..<9).map { Tensor(name: "\($0)", dtype: .u8, shape: [Int.max / 8]) }
    #expect(fault(large) == .tooManyElements([Int.max / 8]))
  }

  @Test func composedAndDecomposedNamesAreTwoTensors() throws {
    let layout = try SafetensorsLayout([
      Tensor(name: "\u{E9}", dtype: .u8, shape: [1]),
      Tensor(name: "e\u{301}", dtype: .u8, shape: [2]),
    ])
    #expect(layout.range(of: "e\u{301}")?.count == 2)
  }
}
