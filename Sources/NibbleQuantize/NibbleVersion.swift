/// The version written to reports and journals.
public enum NibbleVersion {
  public static let current = "0.1.0"
}
