//! NVRTC, NVIDIA's compiler for kernels, which comes with PyTorch.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW, Symbol};

type Create = unsafe extern "C" fn(
    *mut *mut c_void,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(*mut c_void, c_int, *const *const c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
type Size = unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int;
type Contents = unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int;
type ErrorString = unsafe extern "C" fn(c_int) -> *const c_char;

/// The library's names, newest first.
const NAMES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc.so.12"];

/// A loaded compiler.
pub(super) struct Compiler(Library);

impl Compiler {
    /// Looks for the compiler among the loaded libraries, where PyTorch's packages have it seen from
    /// libtorch's folder, beside libtorch, in the CUDA toolkit's place, and where the linker looks.
    pub(super) fn load(libtorch: Option<&Path>) -> Result<Self, String> {
        let mut reason = None;
        for folder in folders(libtorch) {
            for name in NAMES {
                let path = folder.join(name);
                if path.exists() {
                    load_builtins(&folder);
                    match open(&path) {
                        Ok(library) => return Ok(Self(library)),
                        Err(error) => reason = Some(error),
                    }
                }
            }
        }
        for name in NAMES {
            match open(Path::new(name)) {
                Ok(library) => return Ok(Self(library)),
                Err(error) => reason = reason.or(Some(error)),
            }
        }
        Err(reason.unwrap_or_else(|| "there is no NVRTC".to_owned()))
    }

    /// Machine code for `architecture`, for example `sm_90`, of a source without headers.
    ///
    /// # Errors
    /// What the compiler has to say.
    pub(super) fn compile(
        &self,
        source: &str,
        architecture: &str,
        defined: &str,
    ) -> Result<Vec<u8>, String> {
        let source = CString::new(source).map_err(|error| error.to_string())?;
        let options = [
            format!("--gpu-architecture={architecture}"),
            format!("--define-macro={defined}"),
            "--std=c++17".to_owned(),
        ]
        .map(|option| CString::new(option).unwrap_or_default());
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program = std::ptr::null_mut();
        // SAFETY: the types are those of NVRTC's documentation; all strings end with a zero, and
        // `program` can be written.
        unsafe {
            let create: Symbol<Create> = self.function(b"nvrtcCreateProgram")?;
            let compile: Symbol<Compile> = self.function(b"nvrtcCompileProgram")?;
            let destroy: Symbol<Destroy> = self.function(b"nvrtcDestroyProgram")?;
            let none = std::ptr::null();
            let status = create(
                &mut program,
                source.as_ptr(),
                c"kernels.cu".as_ptr(),
                0,
                none,
                none,
            );
            self.check(status)?;
            let status = compile(program, options.len() as c_int, options.as_ptr());
            let code = match self.check(status) {
                Ok(()) => self.contents(program, b"nvrtcGetCUBINSize", b"nvrtcGetCUBIN"),
                Err(error) => {
                    let log =
                        self.contents(program, b"nvrtcGetProgramLogSize", b"nvrtcGetProgramLog");
                    let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
                    let log = log.trim_end_matches('\0').trim().replace('\n', " ");
                    Err(format!("{error}: {log}"))
                }
            };
            destroy(&mut program);
            code
        }
    }

    /// # Safety
    /// `T` is the type of the function of this name.
    unsafe fn function<T>(&self, name: &[u8]) -> Result<Symbol<T>, String> {
        // SAFETY: the caller's.
        unsafe { self.0.get(name) }.map_err(|error| error.to_string())
    }

    /// # Safety
    /// `program` is one of this compiler's, which has been compiled.
    unsafe fn contents(
        &self,
        program: *mut c_void,
        size: &[u8],
        contents: &[u8],
    ) -> Result<Vec<u8>, String> {
        let mut length = 0;
        // SAFETY: all such pairs of functions of NVRTC's have these types; `bytes` has as many as
        // the first one asks for.
        unsafe {
            let size: Symbol<Size> = self.function(size)?;
            let contents: Symbol<Contents> = self.function(contents)?;
            self.check(size(program, &mut length))?;
            let mut bytes = vec![0; length];
            self.check(contents(program, bytes.as_mut_ptr().cast()))?;
            Ok(bytes)
        }
    }

    fn check(&self, status: c_int) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the type is that of NVRTC's documentation; its texts are constants.
        let text = unsafe {
            let text: Symbol<ErrorString> = self.function(b"nvrtcGetErrorString")?;
            CStr::from_ptr(text(status)).to_string_lossy().into_owned()
        };
        Err(format!("NVRTC failed ({text})"))
    }
}

fn open(path: &Path) -> Result<Library, String> {
    // SAFETY: NVRTC's initialisers have no precondition.
    unsafe { Library::open(Some(path), RTLD_NOW) }.map_err(|error| error.to_string())
}

/// What the compiler itself opens by name, without looking beside itself.
fn load_builtins(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("libnvrtc-builtins.so.") {
            // SAFETY: a library of data, as far as its initialisers go.
            let library = unsafe { Library::open(Some(entry.path()), RTLD_NOW | RTLD_GLOBAL) };
            if let Ok(library) = library {
                std::mem::forget(library);
            }
        }
    }
}

fn folders(libtorch: Option<&Path>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(libraries) = libtorch {
        // …/site-packages/torch/lib
        if let Some(packages) = libraries.parent().and_then(Path::parent) {
            let nvidia = packages.join("nvidia");
            folders.push(nvidia.join("cu13/lib"));
            folders.push(nvidia.join("cuda_nvrtc/lib"));
        }
        folders.push(libraries.to_owned());
    }
    folders.push(PathBuf::from("/usr/local/cuda/lib64"));
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_looked_for_where_pytorch_has_it() {
        let folders = folders(Some(Path::new("/python/site-packages/torch/lib")));
        for expected in ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib", "torch/lib"] {
            let expected = Path::new("/python/site-packages").join(expected);
            assert!(folders.contains(&expected), "{}", expected.display());
        }
    }

    /// Where PyTorch with CUDA is installed, even without a GPU.
    #[test]
    fn kernels_compile_where_there_is_a_compiler() {
        let Ok(compiler) = Compiler::load(super::super::device::libtorch_folder().as_deref())
        else {
            return;
        };
        for (architecture, format) in [
            ("sm_75", "ELEMENT_FP16"),
            ("sm_90", "ELEMENT_BF16"),
            ("sm_90", "ELEMENT_FP32"),
        ] {
            let code = compiler.compile(super::super::SOURCE, architecture, format);
            assert!(code.unwrap().starts_with(b"\x7fELF"));
        }
        let error = compiler
            .compile("no program", "sm_90", "ELEMENT_FP16")
            .unwrap_err();
        assert!(
            error.contains("NVRTC") && error.contains("error"),
            "{error}"
        );
    }
}
