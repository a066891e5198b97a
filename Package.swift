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
    .executable(name: "nibble", targets: ["nibble"]),
    .library(
      name: "Nibble",
      targets: [
        "NibbleTensor", "NibbleFormats", "NibbleText", "NibbleModel", "NibbleQuantize",
        "NibbleEngines",
      ]),
  ],
  traits: [
    .trait(name: "MPI", description: "compress in processes that mpirun started (libopenmpi-dev)")
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
  ],
  targets: [
    .target(name: "CNibble"),
    .systemLibrary(name: "CAllocator"),
    .systemLibrary(name: "CMPI", pkgConfig: "ompi-c", providers: [.apt(["libopenmpi-dev"])]),
    .systemLibrary(name: "COneDNN", providers: [.apt(["libdnnl-dev"]), .brew(["onednn"])]),
    .target(
      name: "NibbleTensor", dependencies: ["CNibble", "COneDNN", "CAllocator"],
      swiftSettings: settings),
    .systemLibrary(name: "CCurl", providers: [.apt(["libcurl4-openssl-dev"]), .brew(["curl"])]),
    .systemLibrary(name: "COpenSSL", providers: [.apt(["libssl-dev"]), .brew(["openssl@3"])]),
    .target(
      name: "NibbleFormats", dependencies: ["NibbleTensor", "COpenSSL"], swiftSettings: settings),
    .target(
      name: "NibbleText", dependencies: ["NibbleTensor", "NibbleFormats"],
      swiftSettings: settings),
    .target(
      name: "NibbleModel", dependencies: ["NibbleTensor", "NibbleFormats", "NibbleText"],
      swiftSettings: settings),
    .target(
      name: "NibbleQuantize",
      dependencies: [
        "NibbleTensor", "NibbleFormats", "NibbleText", "NibbleModel",
        .product(name: "Yams", package: "Yams"),
      ],
      swiftSettings: settings),
    .target(
      name: "NibbleEngines",
      dependencies: [
        "NibbleTensor", "NibbleFormats", "NibbleText", "NibbleModel", "NibbleQuantize",
        "NibbleProcesses",
      ],
      resources: [.embedInCode("Contract/Engines")], swiftSettings: settings),
    .target(
      name: "NibbleProcesses",
      dependencies: [.target(name: "CMPI", condition: .when(traits: ["MPI"]))],
      swiftSettings: settings),
    .target(
      name: "NibbleHub", dependencies: ["NibbleFormats", "CCurl"], swiftSettings: settings),
    .executableTarget(
      name: "nibble",
      dependencies: [
        "NibbleTensor", "NibbleFormats", "NibbleText", "NibbleModel", "NibbleQuantize",
        "NibbleEngines", "NibbleProcesses", "NibbleHub",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], swiftSettings: settings),
    .executableTarget(
      name: "own-family",
      dependencies: [
        "NibbleTensor", "NibbleFormats", "NibbleText", "NibbleModel", "NibbleQuantize",
        "NibbleEngines",
      ], path: "Examples/own-family", exclude: ["README.md"], swiftSettings: settings),
    .testTarget(
      name: "NibbleTensorTests", dependencies: ["NibbleTensor", "CNibble"],
      resources: [.copy("Fixtures")], swiftSettings: settings),
    .testTarget(
      name: "NibbleFormatsTests", dependencies: ["NibbleFormats", "TinyModel"],
      resources: [.copy("Fixtures")], swiftSettings: settings),
    .testTarget(
      name: "NibbleTextTests", dependencies: ["NibbleText", "NibbleFormats"],
      resources: [.copy("Fixtures")], swiftSettings: settings),
    .testTarget(
      name: "NibbleModelTests",
      dependencies: ["NibbleModel", "NibbleFormats", "NibbleTensor", "TinyModel"],
      swiftSettings: settings),
    .target(
      name: "TinyModel", dependencies: ["NibbleTensor", "NibbleFormats"], path: "Tests/TinyModel",
      resources: [.copy("Families")], swiftSettings: settings),
    .testTarget(
      name: "NibbleQuantizeTests",
      dependencies: [
        "NibbleTensor", "NibbleFormats", "NibbleText", "NibbleModel", "NibbleQuantize",
        "NibbleEngines",
        "TinyModel",
      ], resources: [.copy("Fixtures")], swiftSettings: settings),
    .testTarget(
      name: "NibbleEnginesTests",
      dependencies: [
        "NibbleTensor", "NibbleFormats", "NibbleText", "NibbleModel", "NibbleQuantize",
        "NibbleEngines", "NibbleProcesses",
        "TinyModel",
      ], resources: [.copy("Fixtures")], swiftSettings: settings),
    .testTarget(
      name: "EndToEnd",
      dependencies: ["nibble", "NibbleTensor", "NibbleFormats", "NibbleModel", "TinyModel"],
      swiftSettings: settings),
    .testTarget(
      name: "NibbleHubTests",
      dependencies: [
        "NibbleHub", "NibbleFormats", .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ],
      swiftSettings: settings),
  ]
)
