//! The functions of NVIDIA's driver that launch our kernels, loaded when they are wanted.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::Library;

/// What the driver returns; 0 is success.
type Status = c_int;

/// A function of a loaded module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function(*mut c_void);

// SAFETY: the driver takes its handles on any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

/// A device's context, the one that libtorch uses, too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Context(*mut c_void);

// SAFETY: as for functions.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

const MULTIPROCESSORS: c_int = 16;
const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
const COMPUTE_CAPABILITY_MINOR: c_int = 76;

macro_rules! driver {
    ($($field:ident = $symbol:literal: fn($($argument:ty),*);)*) => {
        /// The driver's entry points.
        pub(super) struct Driver {
            $($field: unsafe extern "C" fn($($argument),*) -> Status,)*
        }

        impl Driver {
            fn load() -> Result<Self, String> {
                // SAFETY: the library's initialisers are those that any CUDA program runs.
                let library = unsafe { Library::new("libcuda.so.1") }.map_err(|error| error.to_string())?;
                let driver = Self {
                    // SAFETY: the types are those of the driver's documentation.
                    $($field: unsafe {
                        *library
                            .get::<unsafe extern "C" fn($($argument),*) -> Status>($symbol)
                            .map_err(|error| error.to_string())?
                    },)*
                };
                // Its functions are used for the rest of the process.
                std::mem::forget(library);
                Ok(driver)
            }
        }
    };
}

driver! {
    init = b"cuInit": fn(c_uint);
    error_name = b"cuGetErrorName": fn(Status, *mut *const c_char);
    device_get = b"cuDeviceGet": fn(*mut c_int, c_int);
    device_attribute = b"cuDeviceGetAttribute": fn(*mut c_int, c_int, c_int);
    context_retain = b"cuDevicePrimaryCtxRetain": fn(*mut *mut c_void, c_int);
    context_current = b"cuCtxGetCurrent": fn(*mut *mut c_void);
    context_set_current = b"cuCtxSetCurrent": fn(*mut c_void);
    module_load = b"cuModuleLoadData": fn(*mut *mut c_void, *const c_void);
    module_function = b"cuModuleGetFunction": fn(*mut *mut c_void, *mut c_void, *const c_char);
    launch_kernel = b"cuLaunchKernel": fn(
        *mut c_void, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, *mut c_void,
        *mut *mut c_void, *mut *mut c_void
    );
    copy_to_device = b"cuMemcpyHtoDAsync_v2": fn(u64, *const c_void, usize, *mut c_void);
    copy_to_host = b"cuMemcpyDtoHAsync_v2": fn(*mut c_void, u64, usize, *mut c_void);
    graph_launch = b"cuGraphLaunch": fn(*mut c_void, *mut c_void);
}

/// What our kernels need to know about a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Properties {
    pub(super) multiprocessors: usize,
    /// Major and minor number.
    pub(super) compute_capability: (c_int, c_int),
}

impl Driver {
    /// The driver, loaded once.
    pub(super) fn get() -> Result<&'static Self, String> {
        static DRIVER: OnceLock<Result<Driver, String>> = OnceLock::new();
        DRIVER
            .get_or_init(|| {
                let driver = Self::load()?;
                // SAFETY: 0 is the only number of flags.
                driver.check("cuInit", unsafe { (driver.init)(0) })?;
                Ok(driver)
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// The context of a device, by the number that libtorch has for it, and what it can do.
    pub(super) fn open(&self, number: usize) -> Result<(Context, Properties), String> {
        let number = c_int::try_from(number).map_err(|error| error.to_string())?;
        let mut device = 0;
        // SAFETY: `device` can be written, as can what the calls below write.
        self.check("cuDeviceGet", unsafe {
            (self.device_get)(&mut device, number)
        })?;
        let attribute = |which| {
            let mut value = 0;
            // SAFETY: as above.
            let status = unsafe { (self.device_attribute)(&mut value, which, device) };
            self.check("cuDeviceGetAttribute", status).map(|()| value)
        };
        let properties = Properties {
            multiprocessors: usize::try_from(attribute(MULTIPROCESSORS)?).unwrap_or(1),
            compute_capability: (
                attribute(COMPUTE_CAPABILITY_MAJOR)?,
                attribute(COMPUTE_CAPABILITY_MINOR)?,
            ),
        };
        let mut context = std::ptr::null_mut();
        // SAFETY: as above; it is kept for the rest of the process.
        self.check("cuDevicePrimaryCtxRetain", unsafe {
            (self.context_retain)(&mut context, device)
        })?;
        Ok((Context(context), properties))
    }

    /// Makes a context the calling thread's.
    pub(super) fn enter(&self, context: Context) -> Result<(), String> {
        let mut current = std::ptr::null_mut();
        // SAFETY: `current` can be written.
        self.check("cuCtxGetCurrent", unsafe {
            (self.context_current)(&mut current)
        })?;
        if current == context.0 {
            return Ok(());
        }
        // SAFETY: the context lives as long as the process.
        self.check("cuCtxSetCurrent", unsafe {
            (self.context_set_current)(context.0)
        })
    }

    /// Loads device code and finds its functions.
    pub(super) fn functions<const N: usize>(
        &self,
        code: &[u8],
        names: [&CStr; N],
    ) -> Result<[Function; N], String> {
        let mut module = std::ptr::null_mut();
        // SAFETY: the compiler has made `code`; `module` can be written and is never unloaded.
        self.check("cuModuleLoadData", unsafe {
            (self.module_load)(&mut module, code.as_ptr().cast())
        })?;
        let mut functions = [Function(std::ptr::null_mut()); N];
        for (function, name) in functions.iter_mut().zip(names) {
            // SAFETY: the module is loaded and the name ends with a zero.
            let status = unsafe { (self.module_function)(&mut function.0, module, name.as_ptr()) };
            self.check("cuModuleGetFunction", status)?;
        }
        Ok(functions)
    }

    /// # Safety
    /// `arguments` point to values of the function's parameters' types, and these to memory of the
    /// device that stays until the stream has come past.
    pub(super) unsafe fn launch(
        &self,
        function: Function,
        grid: [u32; 3],
        threads: u32,
        stream: *mut c_void,
        arguments: &mut [*mut c_void],
    ) -> Result<(), String> {
        let [x, y, z] = grid;
        // SAFETY: the caller's, for what the arguments point to; a grid that the device cannot have
        // is an error.
        let status = unsafe {
            (self.launch_kernel)(
                function.0,
                x,
                y,
                z,
                threads,
                1,
                1,
                0,
                stream,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        self.check("cuLaunchKernel", status)
    }

    /// # Safety
    /// Both sides have so many bytes, the host's being pinned, which stay until the stream has come
    /// past.
    pub(super) unsafe fn copy_to_device(
        &self,
        to: *mut c_void,
        from: *const c_void,
        bytes: usize,
        stream: *mut c_void,
    ) -> Result<(), String> {
        // SAFETY: the caller's.
        let status = unsafe { (self.copy_to_device)(to as u64, from, bytes, stream) };
        self.check("cuMemcpyHtoDAsync", status)
    }

    /// # Safety
    /// As [`Self::copy_to_device`].
    pub(super) unsafe fn copy_to_host(
        &self,
        to: *mut c_void,
        from: *const c_void,
        bytes: usize,
        stream: *mut c_void,
    ) -> Result<(), String> {
        // SAFETY: the caller's.
        let status = unsafe { (self.copy_to_host)(to, from as u64, bytes, stream) };
        self.check("cuMemcpyDtoHAsync", status)
    }

    /// # Safety
    /// `graph` is one that can be launched, and the memory that it works on is there until the
    /// stream has come past.
    pub(super) unsafe fn launch_graph(
        &self,
        graph: *mut c_void,
        stream: *mut c_void,
    ) -> Result<(), String> {
        // SAFETY: the caller's.
        let status = unsafe { (self.graph_launch)(graph, stream) };
        self.check("cuGraphLaunch", status)
    }

    fn check(&self, what: &str, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        let mut name = std::ptr::null();
        // SAFETY: `name` can be written.
        let named = unsafe { (self.error_name)(status, &mut name) } == 0 && !name.is_null();
        let name = if named {
            // SAFETY: the driver's names are constants that end with a zero.
            unsafe { CStr::from_ptr(name) }.to_string_lossy()
        } else {
            "unknown failure".into()
        };
        let hint = if status == 2 { ", out of memory" } else { "" };
        Err(format!("{what} failed: {name} ({status}{hint})"))
    }
}
