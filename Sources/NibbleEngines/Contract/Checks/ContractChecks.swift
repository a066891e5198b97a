/// A pure function from the facts of a checkpoint and the numbers of a rule to faults.
struct ContractCheck: Sendable {
  var run: @Sendable (CheckpointFacts, RuleParameters) -> [Fault]
  /// Whether it is left out if a weight file cannot be read.
  var needsAllTensors: Bool

  init(
    needsAllTensors: Bool = true,
    _ run: @escaping @Sendable (CheckpointFacts, RuleParameters) -> [Fault]
  ) {
    (self.run, self.needsAllTensors) = (run, needsAllTensors)
  }
}

/// All checks, by the name that rules give them.
enum ContractChecks {
  static let all: [String: ContractCheck] = [
    "SET.tensors": ContractCheck { facts, _ in TensorSetCheck.tensors(facts) },
    "SET.model": ContractCheck { facts, _ in TensorSetCheck.model(facts) },
    "SHAPE.tensors": ContractCheck { facts, _ in TensorShapeCheck.tensors(facts) },
    "SHAPE.scalar": ContractCheck { facts, _ in TensorShapeCheck.fusedScalar(facts) },
    "SYM": ContractCheck { facts, _ in TensorSetCheck.zeroPoints(facts) },
    "FUSE": ContractCheck { facts, _ in FusedCheck.schemes(facts) },
    "FUSESCALE": ContractCheck { FusedCheck.scales($0, $1) },
    "EXP": ContractCheck { facts, _ in ExpertsCheck.experts(facts) },
    "ROUTER.quantized": ContractCheck { facts, _ in ExpertsCheck.quantizedRouters(facts) },
    "ROUTER.ignored": ContractCheck { facts, _ in ExpertsCheck.unlistedRouters(facts) },
    "ROUTER.zero": ContractCheck { facts, _ in ExpertsCheck.zeroRouters(facts) },
    "TPG": ContractCheck { RankCheck.groups($0, $1) },
    "BLK": ContractCheck { RankCheck.blocks($0, $1) },
    "TILE": ContractCheck { RankCheck.tiles($0, $1) },
    "PACK": ContractCheck { facts, _ in RankCheck.words(facts) },
    "IGN.unlisted": ContractCheck { facts, _ in IgnoreCheck.unlisted(facts) },
    "IGN.covered": ContractCheck { facts, _ in IgnoreCheck.covered(facts) },
    "IGN.twin": ContractCheck { facts, _ in IgnoreCheck.twins(facts) },
    "CFG.readable": ContractCheck(needsAllTensors: false) { facts, _ in
      ConfigCheck.readable(facts)
    },
    "CFG.missing": ContractCheck { facts, _ in ConfigCheck.missing(facts) },
    "CFG.keys": ContractCheck(needsAllTensors: false) { ConfigCheck.keys($0, $1) },
    "CFG.absent": ContractCheck(needsAllTensors: false) { ConfigCheck.absent($0, $1) },
    "CFG.conflict": ContractCheck(needsAllTensors: false) { facts, _ in
      ConfigCheck.conflict(facts)
    },
    "CFG.described": ContractCheck { facts, _ in ConfigCheck.described(facts) },
    "CFG.format": ContractCheck(needsAllTensors: false) { facts, _ in ConfigCheck.format(facts) },
    "CFG.experts": ContractCheck { facts, _ in ConfigCheck.besideExperts(facts) },
    "CFG.description": ContractCheck { AscendFilesCheck.description($0, $1) },
    "CFG.quantize": ContractCheck(needsAllTensors: false) { facts, _ in
      AscendFilesCheck.quantize(facts)
    },
    "KV.ascend": ContractCheck { facts, _ in AscendFilesCheck.cache(facts) },
    "ENG.method": ContractCheck(needsAllTensors: false) { SchemeCheck.method($0, $1) },
    "ENG.scheme": ContractCheck(needsAllTensors: false) { SchemeCheck.schemes($0, $1) },
    "ENG.values": ContractCheck(needsAllTensors: false) { SchemeCheck.values($0, $1) },
    "ENG.groups": ContractCheck(needsAllTensors: false) { SchemeCheck.groups($0, $1) },
    "ENG.suffix": ContractCheck { SchemeCheck.suffixes($0, $1) },
    "ENG.needs": ContractCheck { SchemeCheck.needs($0, $1) },
    "ZERO": ContractCheck { ZeroPointCheck.stored($0, $1) },
    "GIDX": ContractCheck { ZeroPointCheck.order($0, $1) },
    "TIE.absent": ContractCheck { facts, _ in HeadCheck.absent(facts) },
    "TIE.stored": ContractCheck { HeadCheck.stored($0, $1) },
    "TIE.head": ContractCheck { facts, _ in HeadCheck.quantizedHead(facts) },
    "TIE.tied": ContractCheck { facts, _ in HeadCheck.quantizedTiedHead(facts) },
    "TIE.embedding": ContractCheck { HeadCheck.quantizedEmbedding($0, $1) },
    "KV.scheme": ContractCheck(needsAllTensors: false) { CacheCheck.scheme($0, $1) },
    "KV.scales": ContractCheck { facts, _ in CacheCheck.scales(facts) },
    "KV.undeclared": ContractCheck { facts, _ in CacheCheck.undeclared(facts) },
    "KV.ones": ContractCheck { facts, _ in CacheCheck.ones(facts) },
    "NAME": ContractCheck { facts, _ in NameCheck.names(facts) },
    "DTYPE": ContractCheck(needsAllTensors: false) { TypeCheck.activations($0, $1) },
    "SHARD": ContractCheck(needsAllTensors: false) { facts, _ in facts.fileFaults },
    "SHARD.stray": ContractCheck(needsAllTensors: false) { facts, _ in facts.weights.strays },
    "SHARD.none": ContractCheck(needsAllTensors: false) { facts, _ in
      ConfigCheck.noWeights(facts)
    },
    "FIN": ContractCheck { facts, _ in ScaleCheck.finite(facts) },
    "TOK.files": ContractCheck(needsAllTensors: false) { TokenizerCheck.files($0, $1) },
    "TOK.template": ContractCheck(needsAllTensors: false) { TokenizerCheck.template($0, $1) },
    "EOS": ContractCheck(needsAllTensors: false) { facts, _ in TokenizerCheck.ends(facts) },
    "VOC": ContractCheck { facts, _ in TokenizerCheck.vocabulary(facts) },
    "SET.gguf": ContractCheck { GGUFCheck.tensors($0, $1) },
    "CFG.gguf": ContractCheck { GGUFCheck.keys($0, $1) },
    "ENG.gguf": ContractCheck { GGUFCheck.architecture($0, $1) },
    "SHARD.gguf": ContractCheck { facts, _ in GGUFCheck.layout(facts) },
    "VOC.gguf": ContractCheck { facts, _ in GGUFCheck.vocabulary(facts) },
    "TOK.gguf": ContractCheck { GGUFCheck.tokenizer($0, $1) },
    "TOK.bos": ContractCheck { GGUFCheck.beginning($0, $1) },
    "DTYPE.gguf": ContractCheck { facts, _ in GGUFCheck.floats(facts) },
  ]
}
