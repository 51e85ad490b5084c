//! What libtorch has to say, for a log instead of standard error.

use std::panic::catch_unwind;
use std::sync::OnceLock;

type Receiver = unsafe extern "C" fn(*const u8, usize);

unsafe extern "C" {
    fn munit_forward_warnings(receiver: Receiver);
}

static LOG: OnceLock<fn(&str)> = OnceLock::new();

/// Gives what libtorch warns of on the calling thread to `log`, which must be the same function in
/// the whole process; the first counts.
pub fn forward_warnings(log: fn(&str)) {
    let _ = LOG.set(log);
    // SAFETY: `receive` keeps the contract that warnings.cpp asks of it, for as long as the process
    // lives.
    unsafe { munit_forward_warnings(receive) };
}

/// Says something of our own where libtorch's warnings go.
pub(crate) fn warn(text: &str) {
    match LOG.get() {
        Some(log) => log(text),
        None => eprintln!("munit: {text}"),
    }
}

/// Called by libtorch with the text of a warning.
unsafe extern "C" fn receive(text: *const u8, length: usize) {
    if text.is_null() {
        return;
    }
    // SAFETY: warnings.cpp passes a string that lives until this returns.
    let text = unsafe { std::slice::from_raw_parts(text, length) };
    if let Some(log) = LOG.get() {
        // No panic may cross into C++.
        let _ = catch_unwind(|| log(&String::from_utf8_lossy(text)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[test]
    fn a_warning_of_libtorch_s_reaches_the_log() {
        forward_warnings(|text| HEARD.lock().unwrap().push(text.to_owned()));
        // Deprecated by libtorch for anything but matrices.
        let _ = tch::Tensor::zeros([2, 3, 4], (tch::Kind::Float, tch::Device::Cpu)).numpy_t();
        let heard = HEARD.lock().unwrap();
        assert!(
            heard.iter().any(|text| text.contains("deprecated")),
            "{heard:?}"
        );
    }
}
