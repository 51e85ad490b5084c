//! Memory that is used again from frame to frame.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ffi::c_void;
use std::ops::Deref;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use super::cuda::Scratch;
use super::element::channels_last;
use super::stream::Stream;
use crate::Result;

/// Feature maps on the CPU that are free to be written again. A frame's maps are megabytes that
/// the system would otherwise hand out page by page, and take back, for every frame. On CUDA
/// devices libtorch does so itself.
#[derive(Default)]
pub(super) struct Pool {
    free: RefCell<Vec<Tensor>>,
    scratch: Scratch,
    laps: RefCell<Option<Laps>>,
}

/// How long the steps of a frame have taken, and since when the next one takes.
struct Laps {
    steps: Vec<(String, Duration)>,
    since: Instant,
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
        let bytes = channels * height * width * kind.elt_size_in_bytes();
        if bytes < LARGE {
            return channels_last(size[1], size[2], size[3], kind, Device::Cpu);
        }
        // From the start of a huge page to the end of another; what is not written takes no memory.
        let reserved = bytes.next_multiple_of(HUGE_PAGE) + HUGE_PAGE;
        let memory = Tensor::f_empty([reserved as i64], (Kind::Uint8, Device::Cpu))?;
        let start = memory.data_ptr();
        let first = (start as usize).next_multiple_of(HUGE_PAGE) - start as usize;
        prefer_huge_pages(start, reserved);
        let map = memory
            .f_narrow(0, first as i64, bytes as i64)?
            .f_view_dtype(kind)?;
        let map = map.f_view([1, size[2], size[3], size[1]])?;
        Ok(map.f_permute([0, 3, 1, 2])?)
    }

    /// Returns a map that [`Self::take`] gave.
    pub(super) fn give(&self, map: Tensor) {
        self.free.borrow_mut().push(map);
    }

    /// What our kernels for CUDA devices gather moments in.
    pub(super) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// From now on [`Self::lap`] counts.
    pub(super) fn start_laps(&self) {
        *self.laps.borrow_mut() = Some(Laps {
            steps: vec![],
            since: Instant::now(),
        });
    }

    /// The end of a step whose result is on `device`, which is waited for. Costs nothing otherwise.
    pub(super) fn lap(&self, device: Device, step: impl FnOnce() -> String) -> Result<()> {
        if let Some(laps) = &mut *self.laps.borrow_mut() {
            if device != Device::Cpu {
                Stream::current(device)?.synchronize()?;
            }
            let now = Instant::now();
            laps.steps.push((step(), now - laps.since));
            laps.since = Instant::now();
        }
        Ok(())
    }

    /// The steps since [`Self::start_laps`], and no more of them.
    pub(super) fn take_laps(&self) -> Vec<(String, Duration)> {
        self.laps.take().map(|laps| laps.steps).unwrap_or_default()
    }

    /// Frees every map, when maps of other sizes are needed from now on.
    pub(super) fn clear(&self) {
        self.free.borrow_mut().clear();
    }
}

const HUGE_PAGE: usize = 2 << 20;

/// Memory from so many bytes on begins with a huge page: less is not worth the rest of one.
const LARGE: usize = HUGE_PAGE / 2;

/// Numbers that never change, on huge pages if they are many: in small pages scattered over the memory,
/// numbers that would fit into a cache put each other out of it.
pub(super) struct Constants<T> {
    start: NonNull<T>,
    length: usize,
    layout: Layout,
}

// SAFETY: nothing is ever written.
unsafe impl<T: Send> Send for Constants<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Constants<T> {}

impl<T: Copy> Constants<T> {
    /// A copy of `values`.
    ///
    /// # Panics
    /// If `values` is empty.
    pub(super) fn new(values: &[T]) -> Self {
        const CACHE_LINE: usize = 64;

        let bytes = size_of_val(values);
        let unit = if bytes < LARGE { CACHE_LINE } else { HUGE_PAGE };
        let layout = Layout::from_size_align(bytes.next_multiple_of(unit), unit);
        let layout = layout.expect("as many bytes as are in memory already");
        assert!(bytes > 0);
        // SAFETY: there is at least one byte.
        let memory = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(memory.cast::<T>()) else {
            handle_alloc_error(layout);
        };
        prefer_huge_pages(memory.cast(), layout.size());
        // SAFETY: the new memory is long enough, and aligned to more than any number.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(&values[0]), values.len()) };
        Self {
            start,
            length: values.len(),
            layout,
        }
    }
}

impl<T> Deref for Constants<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `new` has written so many values.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Constants<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, with this layout; values that can be copied need no drop.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) };
    }
}

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
    fn large_maps_begin_with_a_huge_page() {
        for (kind, height) in [(Kind::BFloat16, 64), (Kind::Float, 33)] {
            let map = Pool::default().take(256, height, 66, kind).unwrap();
            assert_eq!(map.size(), [1, 256, height as i64, 66]);
            assert_eq!(map.data_ptr() as usize % HUGE_PAGE, 0);
            assert!(map.permute([0, 2, 3, 1]).is_contiguous());
        }
    }

    #[test]
    fn constants_are_their_values() {
        for length in [1, 1000, LARGE / 2, LARGE] {
            let values: Vec<u32> = (0..length as u32).collect();
            let constants = Constants::new(&values);
            assert!(constants[..] == values);
            assert_eq!(constants.as_ptr() as usize % 64, 0);
        }
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
