import NibbleTensor

/// The file that maps tensors to shards: `model.safetensors.index.json`.
public enum SafetensorsIndex {
  /// `model-00001-of-00003.safetensors` for shard 0 of 3; other stems likewise.
  public static func fileName(shard: Int, of count: Int, stem: String = "model") -> String {
    precondition(shard >= 0 && shard < count, "shard \(shard) of \(count)")
    func padded(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
    }
    return "\(stem)-\(padded(shard + 1))-of-\(padded(count)).safetensors"
  }

  /// The index of some shards in the form that transformers writes: names sorted, indented by two
  /// spaces.
  public static func text(
    _ shards: [(file: String, layout: SafetensorsLayout)]
  ) throws(FormatError) -> String {
    var pairs: [(name: String, file: String)] = []
    var seen: Set<UTF8Key> = []
    var size = 0
    for shard in shards {
      for entry in shard.layout.entries {
        guard seen.insert(UTF8Key(entry.name)).inserted else {
          throw .layout(tensor: entry.name, .duplicateName)
        }
        pairs.append((entry.name, shard.file))
      }
      size += shard.layout.dataSize
    }
    pairs.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    var map = JSONObject()
    for pair in pairs { map[pair.name] = .string(pair.file) }
    let index: JSON = ["metadata": ["total_size": JSON(size)], "weight_map": .object(map)]
    return index.text(pretty: true) + "\n"
  }

  /// Tensor and file name, in the order of the map; every file name is a plain name.
  ///
  /// - Parameter name: name of the index in `folder`. That of `pytorch_model.bin` has the same
  ///   form.
  static func pairs(
    of name: String, in folder: String
  ) throws(FormatError) -> [(String, String)] {
    let file: MappedFile
    do { file = try MappedFile(path: folder + "/" + name) } catch { throw .file(error) }
    do throws(CheckpointFault) {
      return try pairs(Bytes(file, 0..<file.count))
    } catch { throw .checkpoint(folder: folder, error) }
  }

  private static func pairs(_ text: Bytes) throws(CheckpointFault) -> [(String, String)] {
    guard text.count <= SafetensorsFile.headerLimit else { throw .indexTooLong(text.count) }
    let json: JSON
    do { json = try JSON(parsing: text.array) } catch { throw .indexNotJSON(error) }
    guard let map = json["weight_map"]?.object, map.count > 0 else { throw .indexWithoutMap }
    var pairs: [(String, String)] = []
    for (tensor, value) in map {
      guard let name = value.string else { throw .fileNameRefused("", tensor) }
      guard isPlain(name) else { throw .fileNameRefused(name, tensor) }
      pairs.append((tensor, name))
    }
    return pairs
  }

  /// Whether a name stays in the folder: no separator, no `..`, no control character (a NUL would
  /// truncate it).
  private static func isPlain(_ name: String) -> Bool {
    !name.isEmpty && name != "." && !name.contains("..")
      && name.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F && $0 != 0x2F && $0 != 0x5C }
  }
}

/// Ways in which the files of a checkpoint are inconsistent.
public enum CheckpointFault: Error, Hashable, Sendable {
  case noWeights
  /// A file of all weights beside an index that does not name it.
  case twoModels(String)
  case indexTooLong(Int)
  case indexNotJSON(JSONError)
  case indexWithoutMap
  case fileNameRefused(String, String)
  case shardMissing(String)
  case tensorTwice(String, String, String)
  case tensorMissing(String, String)
}

extension CheckpointFault: CustomStringConvertible {
  public var description: String {
    switch self {
    case .noWeights:
      "there is no \(SafetensorsCheckpoint.singleName), no \(PyTorchCheckpoint.singleName) and no "
        + "index of either. Give a model folder or a .safetensors file."
    case .twoModels(let single):
      "\(single) lies beside an index that does not name it, and "
        + "engines differ in which they load. Remove one, or give the path of the other."
    case .indexTooLong(let count):
      "an index of \(count) bytes is over the limit. Fetch the index again."
    case .indexNotJSON(let error):
      "the index is not JSON at \(shown("\(error)")). Fetch the index again."
    case .indexWithoutMap: "the index has no weight_map. Fetch the index again."
    case .fileNameRefused(let file, let tensor):
      "the index puts \(shown(tensor)) in \"\(shown(file))\", which is not the plain name of "
        + "a file. Do not trust this checkpoint."
    case .shardMissing(let file):
      "the index names \(shown(file)), which is not there. Fetch it into this folder."
    case .tensorTwice(let tensor, let first, let second):
      "\(shown(tensor)) lies in \(shown(first)) and in \(shown(second)). Fetch both again."
    case .tensorMissing(let tensor, let file):
      "the index puts \(shown(tensor)) in \(shown(file)), which does not hold it. "
        + "Fetch both again."
    }
  }
}
