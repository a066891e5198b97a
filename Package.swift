// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"), .enableExperimentalFeature("Lifetimes"),
  .strictMemorySafety(), .treatAllWarnings(as: .error),
]

let package = Package(
  name: "nibble",
  products: [
    .library(name: "NibbleFormats", targets: ["NibbleFormats"]),
    .library(name: "NibbleModel", targets: ["NibbleModel"]),
  ],
  targets: [
    .target(name: "CNibble"),
    .systemLibrary(name: "COneDNN", providers: [.apt(["libdnnl-dev"]), .brew(["onednn"])]),
    .target(
      name: "NibbleTensor", dependencies: ["CNibble", "COneDNN"], swiftSettings: settings),
    .target(name: "NibbleFormats", dependencies: ["NibbleTensor"], swiftSettings: settings),
    .target(
      name: "NibbleModel", dependencies: ["NibbleTensor", "NibbleFormats"],
      swiftSettings: settings),
    .testTarget(
      name: "NibbleTensorTests", dependencies: ["NibbleTensor"],
      resources: [.copy("Fixtures")], swiftSettings: settings),
    .testTarget(
      name: "NibbleFormatsTests", dependencies: ["NibbleFormats"],
      resources: [.copy("Fixtures")], swiftSettings: settings),
    .testTarget(
      name: "NibbleModelTests", dependencies: ["NibbleModel"],
      resources: [.copy("Fixtures")], swiftSettings: settings),
  ]
)
