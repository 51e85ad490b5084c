//! Records the plugin's version data and writes the path of libtorch into the plugin.

fn main() {
    gst_plugin_version_helper::info();
    link_to_libtorch();
}

/// Puts the folder of libtorch on the run path: GStreamer silently blacklists a plugin whose
/// libraries the loader does not find.
fn link_to_libtorch() {
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
