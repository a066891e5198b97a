// llama.cpp interleaves the rows of q_proj and k_proj (and their biases) in files whose
// architecture is "llama", and only there: row h*d + 2*i + p of the file is row h*d + p*(d/2) + i
// of Hugging Face, for head h of size d, i < d/2, p in 0 and 1. Whole rows move, so quantized rows
// keep their bytes.

/// The Hugging Face row that is stored at `row` of a GGUF file.
///
/// - Parameter headSize: `d`, even.
public func huggingFaceRow(ofGGUFRow row: Int, headSize: Int) -> Int {
  precondition(headSize > 0 && headSize.isMultiple(of: 2), "heads of \(headSize) rows")
  let (head, within) = row.quotientAndRemainder(dividingBy: headSize)
  return head * headSize + within % 2 * (headSize / 2) + within / 2
}

/// The row of a GGUF file that stores Hugging Face row `row`: the source of each row on import.
///
/// - Parameter headSize: `d`, even.
public func ggufRow(ofHuggingFaceRow row: Int, headSize: Int) -> Int {
  precondition(headSize > 0 && headSize.isMultiple(of: 2), "heads of \(headSize) rows")
  let (head, within) = row.quotientAndRemainder(dividingBy: headSize)
  return head * headSize + within % (headSize / 2) * 2 + within / (headSize / 2)
}
