import Foundation
import NibbleFormats
import NibbleTensor

/// The headers of all safetensors files of a folder. A damaged file is a fault, not an error.
struct StoredWeights {
  /// In the order of the files.
  private(set) var tensors: [StoredTensor] = []
  /// What is wrong with the files, by file.
  private(set) var faults: [Fault] = []
  /// Files beside those of the model.
  private(set) var strays: [Fault] = []
  /// Whether every file that should be there could be read.
  private(set) var isComplete = true
  private var files: [SafetensorsFile] = []
  private var places: [String: Int] = [:]

  init() {}

  /// - Parameters:
  ///   - folder: the folder of the checkpoint.
  ///   - names: the names in that folder.
  init(folder: String, names: [String]) {
    let stored = names.filter { $0.hasSuffix(".safetensors") }.sorted()
    let indexes = names.filter { $0.hasSuffix(".safetensors.index.json") }.sorted()
    var map: [String: String] = [:]
    var wanted: Set<String> = []
    if let index = indexes.first(where: { $0 == SafetensorsCheckpoint.indexName }) ?? indexes.first
    {
      map = indexMap(folder + "/" + index, index)
      wanted = Set(map.values)
      for name in wanted.sorted() where !stored.contains(name) {
        fault(shown(name), "the index names it and it is not there")
      }
      for name in stored where !wanted.contains(name) && !map.isEmpty {
        strays.append(Fault(name, "the index does not name this weight file"))
      }
    } else if stored.contains(SafetensorsCheckpoint.singleName) {
      wanted = [SafetensorsCheckpoint.singleName]
      for name in stored where !wanted.contains(name) {
        strays.append(Fault(name, "it lies beside \(SafetensorsCheckpoint.singleName)"))
      }
    } else if stored.count > 1 {
      faults.append(Fault(stored[0], "there are \(stored.count) weight files and no index"))
    }
    for name in stored where wanted.isEmpty || wanted.contains(name) { open(folder, name) }
    for (tensor, file) in map where places[tensor].map({ !files[$0].path.hasSuffix(file) }) ?? true
    {
      guard isComplete else { break }
      faults.append(Fault(shown(tensor), "the index puts it in a file that does not hold it"))
    }
  }

  private mutating func fault(_ place: String, _ problem: String) {
    faults.append(Fault(place, problem))
    isComplete = false
  }

  private mutating func indexMap(_ path: String, _ name: String) -> [String: String] {
    guard let json = CheckpointFacts.json(path), let map = json["weight_map"]?.object else {
      fault(name, "it is not JSON, or has no weight_map")
      return [:]
    }
    var result: [String: String] = [:]
    for (tensor, file) in map {
      guard let file = file.string, !file.isEmpty, !file.contains("/"), !file.contains("..") else {
        fault(name, "it names a file that is no plain name")
        continue
      }
      result[tensor] = file
    }
    return result
  }

  private mutating func open(_ folder: String, _ name: String) {
    let file: SafetensorsFile
    do { file = try SafetensorsFile(path: folder + "/" + name) } catch {
      if case .safetensors(_, let tensor, let reason) = error {
        fault(name, (tensor.map { shown($0) + ": " } ?? "") + "\(reason)")
      } else {
        fault(name, "it cannot be read")
      }
      return
    }
    for entry in file.entries {
      if places.updateValue(files.count, forKey: entry.name) != nil {
        faults.append(Fault(shown(entry.name), "it lies in more than one file"))
        continue
      }
      tensors.append(StoredTensor(name: entry.name, dtype: entry.dtype, shape: entry.shape))
    }
    files.append(file)
  }

  /// The first bytes of a tensor, at most `limit`.
  func bytes(of name: String, limit: Int) -> Bytes? {
    guard let place = places[name], let bytes = files[place].bytes(of: name) else { return nil }
    return bytes[0..<min(bytes.count, limit)]
  }

  /// The last bytes of a tensor, at most `limit`.
  func lastBytes(of name: String, limit: Int) -> Bytes? {
    guard let place = places[name], let bytes = files[place].bytes(of: name) else { return nil }
    return bytes[bytes.count - min(bytes.count, limit)..<bytes.count]
  }
}
