//! Compiles what libtorch lets only C++ do, and writes the path of libtorch into the tests of this
//! package.

use std::path::{Path, PathBuf};

fn main() {
    let Some(libraries) = std::env::var_os("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    let libraries = Path::new(&libraries);
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libraries.display());

    // Where torch-sys looks, too.
    let include = match std::env::var_os("LIBTORCH_INCLUDE") {
        Some(folder) => PathBuf::from(folder).join("include"),
        None => libraries.with_file_name("include"),
    };
    let sources = [
        "src/networks/adam.cpp",
        "src/networks/kernels.cpp",
        "src/runtime/device.cpp",
        "src/runtime/warnings.cpp",
    ];
    for source in sources {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-changed=src/networks/failure.h");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(include)
        .files(sources)
        .compile("munit_libtorch");
}
