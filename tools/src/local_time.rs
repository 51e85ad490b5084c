//! The time of day where the program runs.

use std::time::{SystemTime, UNIX_EPOCH};

/// For example `2031-04-23 17:05`, in the time zone of the system.
pub fn local_time(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |past| past.as_secs());
    let seconds = libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX);
    // SAFETY: all fields of the structure are numbers, or a pointer that may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers lead to values that live as long as the call.
    unsafe { libc::localtime_r(&seconds, &mut parts) };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_the_time_that_the_system_shows() {
        let seconds = 1_700_000_123;
        let output = Command::new("date")
            .args(["-d", &format!("@{seconds}"), "+%Y-%m-%d %H:%M"])
            .output()
            .unwrap();
        let shown = local_time(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(shown, String::from_utf8(output.stdout).unwrap().trim());
    }
}
