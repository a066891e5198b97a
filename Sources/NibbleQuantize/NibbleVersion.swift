/// The version that reports and journals name.
public enum NibbleVersion {
  public static let current = "0.1.0"
}
