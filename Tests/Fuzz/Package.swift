// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"), .enableExperimentalFeature("Lifetimes"),
]

// The targets below the readers, built for libFuzzer. `Sources` links to those of the package.
let package = Package(
  name: "fuzz",
  targets: [
    .target(name: "CNibble"),
    .systemLibrary(name: "COneDNN"),
    .systemLibrary(name: "CAllocator"),
    .systemLibrary(name: "COpenSSL"),
    .target(
      name: "NibbleTensor", dependencies: ["CNibble", "COneDNN", "CAllocator"],
      swiftSettings: settings),
    .target(
      name: "NibbleFormats", dependencies: ["NibbleTensor", "COpenSSL"], swiftSettings: settings),
    .target(
      name: "TinyModel", dependencies: ["NibbleTensor", "NibbleFormats"],
      exclude: ["Families", "FamilyFixture.swift"], swiftSettings: settings),
    .executableTarget(
      name: "PyTorchFuzz", dependencies: ["NibbleTensor", "NibbleFormats", "TinyModel"],
      swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])]),
  ]
)
