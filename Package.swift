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
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
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
    .target(
      name: "NibbleQuantize",
      dependencies: [
        "NibbleTensor", "NibbleFormats", "NibbleModel",
        .product(name: "Crypto", package: "swift-crypto"),
      ], swiftSettings: settings),
    .target(
      name: "NibbleExport",
      dependencies: ["NibbleTensor", "NibbleFormats", "NibbleModel", "NibbleQuantize"],
      swiftSettings: settings),
    .executableTarget(
      name: "nibble",
      dependencies: [
        "NibbleTensor", "NibbleFormats", "NibbleModel", "NibbleQuantize", "NibbleExport",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], swiftSettings: settings),
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
