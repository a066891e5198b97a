import NibbleFormats
import NibbleTensor

/// Checks the keys of a config.json against what a family's arithmetic covers.
///
/// A key is harmless if the family reads it, if it never affects the arithmetic, or if its value
/// has no effect. Any other key may ask for arithmetic that Nibble does not have, so it is refused
/// by name.
struct ConfigKeys {
  let shape: DecoderShape
  let family: Family
  let json: JSON
  /// Keys that the family's function read; those of a rotary object as `rope_scaling.NAME`.
  let read: Set<String>

  /// The refused keys, in the order of the file; those of the rotary object as `rope_scaling.NAME`.
  func unknown(ignoring ignored: Set<String>) -> [String] {
    let harmless = read.union(Self.harmless).union(family.harmlessKeys)
    var unknown: [String] = []
    for (key, value) in json.object ?? JSONObject() where !harmless.contains(key) {
      if !value.isNull, !ignored.contains(key), !changesNothing(key, value) { unknown.append(key) }
    }
    for name in Self.rotaryObjects {
      for (key, value) in json[name]?.object ?? JSONObject() where !Self.rotary.contains(key) {
        let path = "\(name).\(key)"
        if read.contains(path) { continue }
        if !value.isNull, !ignored.contains(path), !changesNothing(key, value) {
          unknown.append(path)
        }
      }
    }
    return unknown
  }

  /// Whether the value of a key describes what the family does anyway.
  private func changesNothing(_ key: String, _ value: JSON) -> Bool {
    let attention = shape.attentions.first?.core
    let headSize = Double(attention?.headSize ?? 0)
    let window = attention?.window
    func isNear(_ number: Double) -> Bool {
      value.double.map { abs($0 - number) <= 1e-6 * number } ?? false
    }
    switch key {
    case "partial_rotary_factor", "rotary_pct", "rotary_percent", "rope_pct",
      "embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale",
      "lm_head_multiplier", "scale_emb", "full_attn_mod", "interpolate_factor":
      return isNear(1)
    case "attention_multiplier": return isNear(1 / headSize.squareRoot())
    case "query_pre_attn_scalar": return isNear(headSize)
    case "rotary_dim", "rope_dim": return isNear(headSize)
    case "use_qk_norm", "qk_norm", "qk_layernorm", "use_qk_layernorm", "rope_interleaved",
      "use_parallel_residual", "parallel_residual", "parallel_attn", "alibi", "qkv_bias", "bias",
      "use_bias", "use_qkv_bias", "use_bidirectional_attention", "is_encoder_decoder",
      "add_cross_attention", "tie_encoder_decoder", "scale_attn_by_inverse_layer_idx",
      "lm_head_bias", "mlp_bias", "residual_in_fp32", "use_mrope", "norm_after", "attention_sink",
      "no_rope":
      return value == false
    case "is_causal", "gated_mlp", "use_rotary_position_embeddings", "use_rope":
      return value == true
    case "layer_types":
      let kind = window == nil ? "full_attention" : "sliding_attention"
      return value.array?.allSatisfy { $0.string == kind } ?? false
    case "no_rope_layers": return value.array?.allSatisfy { $0 == 1 } ?? false
    // These keys describe sliding windows.
    case "use_sliding_window": return value == .bool(window != nil)
    case "max_window_layers", "sliding_window_pattern", "_sliding_window_pattern":
      return window == nil
    case "num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok",
      "n_shared_experts", "num_nextn_predict_layers", "num_kv_shared_layers":
      return isZero(value)
    case "hidden_activation", "activation_function": return value == "silu" || value == "swish"
    case "position_embedding_type": return value == "rope" || value == "rotary"
    case "normalization_type", "norm_type": return value == "rmsnorm" || value == "rms_norm"
    case "original_max_position_embeddings":
      return shape.attentions.allSatisfy {
        ($0.rotary?.scaling ?? RotaryShape.Scaling.none) == RotaryShape.Scaling.none
      } || value.int == shape.context
    case "mlp_type": return value == "llama"
    default: return false
    }
  }

  private func isZero(_ value: JSON) -> Bool { value.double == 0 }

  /// Keys of a config that may hold the rotary object.
  static let rotaryObjects = ["rope_parameters", "rope_scaling"]

  /// Keys of a rotary object that some scaling reads, or that old files contain.
  private static let rotary: Set = [
    "factor", "finetuned", "high_freq_factor", "low_freq_factor",
    "original_max_position_embeddings", "rope_theta", "rope_type", "type",
  ]

  /// Keys, in any family, that do not affect the arithmetic of a forward pass.
  ///
  /// Source: `PretrainedConfig` of transformers 4 and 5, and the other keys of published configs.
  static let harmless: Set = [
    // Names and versions.
    "_commit_hash", "_name_or_path", "architectures", "auto_map", "base_model_name_or_path",
    "custom_pipelines", "finetuning_task", "is_llama_config", "license", "model_id", "model_name",
    "model_type",
    "name_or_path", "task_specific_params", "transformers.js_config", "transformers_version",
    "unsloth_fixed", "unsloth_version",
    // How the weights are stored, loaded and summed.
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
    "_flash_attn_2_enabled", "attn_implementation", "chunk_size_feed_forward",
    "compression_config", "dtype", "flash_attention", "kv_quant", "neuron", "pretraining_tp",
    "pruned_heads", "quantization_config", "quantize", "tensor_parallel_size",
    "torch_dtype",
    "torchscript", "use_bfloat16", "use_cache", "use_flash_attention", "use_flash_attn",
    "use_flash_attention_2", "use_sdpa",
    // Outputs of a call.
    "keys_to_ignore_at_inference", "output_attentions", "output_hidden_states",
    "output_past", "output_router_logits", "output_scores", "problem_type", "return_dict",
    "return_dict_in_generate", "use_return_dict",
    // Training.
    "activation_dropout", "attention_dropout", "attention_probs_dropout_prob", "attn_dropout",
    "attn_pdrop",
    "classifier_dropout", "dropout", "embd_pdrop", "embedding_dropout", "ffn_dim_multiplier",
    "ffn_dropout", "gradient_checkpointing", "hidden_dropout", "hidden_dropout_prob",
    "initializer_factor", "initializer_range", "layerdrop", "multiple_of", "output_dropout",
    "resid_dropout", "resid_pdrop", "residual_dropout", "rope_dropout",
    "router_aux_loss_coef", "router_jitter_noise", "tf_legacy_loss", "z_loss",
    // Tokens and lengths, which are settings of the tokenizer and the caller.
    "bos_token", "bos_token_id", "decoder_start_token_id", "eos_token", "max_seq_len",
    "max_seq_length", "max_sequence_length", "model_max_length", "pad_token", "pad_token_id",
    "prefix", "sep_token_id", "seq_len", "seq_length", "tokenizer_class",
    "tokenizer_model_max_length", "tokenizer_name", "tokenizer_padding_side", "unk_token",
    "unk_token_id",
    // Labels of classifiers.
    "id2label", "label2id", "num_labels",
    // Text generation.
    "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty", "forced_bos_token_id",
    "forced_eos_token_id", "length_penalty", "max_length", "max_new_tokens", "min_length",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "remove_invalid_values", "repetition_penalty", "suppress_tokens", "temperature", "top_k",
    "top_p", "typical_p",
    // Cross attention, which a decoder alone does not have; `add_cross_attention` is checked above.
    "cross_attention_hidden_size", "is_decoder",
  ]
}
