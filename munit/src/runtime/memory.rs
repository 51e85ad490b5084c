//! Memory that is used again from frame to frame.

use std::cell::RefCell;
use std::ffi::c_void;

use tch::{Device, Kind, Tensor};

use super::element::channels_last;
use crate::Result;

/// Feature maps on the CPU that are free to be written again. A frame's maps are megabytes that
/// the system would otherwise hand out page by page, and take back, for every frame.
#[derive(Default)]
pub(super) struct Pool {
    free: RefCell<Vec<Tensor>>,
}

impl Pool {
    /// A channels-last map `[1, channels, height, width]` with left-over contents.
    pub(super) fn take(
        &self,
        channels: usize,
        height: usize,
        width: usize,
        kind: Kind,
    ) -> Result<Tensor> {
        let size = [1, channels as i64, height as i64, width as i64];
        let mut free = self.free.borrow_mut();
        let fitting = free
            .iter()
            .position(|map| map.size() == size && map.kind() == kind);
        if let Some(position) = fitting {
            return Ok(free.swap_remove(position));
        }
        let map = channels_last(size[1], size[2], size[3], kind, Device::Cpu)?;
        prefer_huge_pages(map.data_ptr(), map.numel() * kind.elt_size_in_bytes());
        Ok(map)
    }

    /// Returns a map that [`Self::take`] gave.
    pub(super) fn give(&self, map: Tensor) {
        self.free.borrow_mut().push(map);
    }

    /// Frees every map, when maps of other sizes are needed from now on.
    pub(super) fn clear(&self) {
        self.free.borrow_mut().clear();
    }
}

const HUGE_PAGE: usize = 2 << 20;

/// Asks the system to back memory with huge pages, of which one entry of the processor's
/// address cache covers 512 times as much. Only a hint, and only on Linux.
pub(super) fn prefer_huge_pages(start: *mut c_void, bytes: usize) {
    let first = (start as usize).next_multiple_of(HUGE_PAGE);
    let end = (start as usize + bytes) / HUGE_PAGE * HUGE_PAGE;
    if end > first {
        #[cfg(target_os = "linux")]
        // SAFETY: the range lies within the caller's memory; the advice changes no contents.
        unsafe {
            madvise(start.with_addr(first), end - first, MADV_HUGEPAGE);
        }
    }
}

#[cfg(target_os = "linux")]
const MADV_HUGEPAGE: i32 = 14;

#[cfg(target_os = "linux")]
unsafe extern "C" {
    fn madvise(address: *mut c_void, length: usize, advice: i32) -> i32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_used_again() {
        let pool = Pool::default();
        let map = pool.take(3, 4, 5, Kind::Float).unwrap();
        let address = map.data_ptr();
        pool.give(map);
        let other = pool.take(3, 5, 4, Kind::Float).unwrap();
        let half = pool.take(3, 4, 5, Kind::BFloat16).unwrap();
        assert!(other.data_ptr() != address && half.data_ptr() != address);
        assert_eq!(pool.take(3, 4, 5, Kind::Float).unwrap().data_ptr(), address);
        assert_ne!(pool.take(3, 4, 5, Kind::Float).unwrap().data_ptr(), address);
    }

    #[test]
    fn advice_leaves_contents_alone() {
        let mut values: Vec<u8> = (0..5 * HUGE_PAGE)
            .map(|index| (index % 251) as u8)
            .collect();
        prefer_huge_pages(values.as_mut_ptr().cast(), values.len());
        prefer_huge_pages(values.as_mut_ptr().cast(), 100);
        assert!(
            values
                .iter()
                .enumerate()
                .all(|(index, &value)| value == (index % 251) as u8)
        );
    }
}
