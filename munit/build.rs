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
        "src/networks/gradient_hook.cpp",
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
    compile_emulators();
}

/// The kernels for CUDA devices, compiled for the CPU. Only tests call them, so that no program has
/// them.
fn compile_emulators() {
    let source = "src/runtime/cuda/emulator.cpp";
    println!("cargo:rerun-if-changed={source}");
    println!("cargo:rerun-if-changed=src/runtime/cuda/kernels.cu");
    for format in ["fp32", "bf16"] {
        let name = format!("munit_emulate_{format}");
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .warnings(false)
            // The formulas are to be computed as they are written, whatever the profile.
            .opt_level(1)
            .define(&format!("ELEMENT_{}", format.to_uppercase()), None)
            .define("ENTRY_POINT", &*name)
            .file(source)
            .compile(&name);
    }
}
