//! Pools, strides and metas that the element offers and takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;
use gst_video::VideoInfo;

use crate::support::*;

#[test]
fn upstream_is_offered_a_pool_and_any_stride() {
    let element = munitfilter();
    let line = Line::new(&element, &caps("RGB", 32, 24, (30, 1)));
    line.push(rgb_buffer(&picture(32, 24, 1), 32, 24));
    line.pull();
    let mut query = gst::query::Allocation::new(Some(&caps("RGB", 32, 24, (30, 1))), true);
    assert!(element.static_pad("sink").unwrap().query(&mut query));
    assert!(
        query
            .find_allocation_meta::<gst_video::VideoMeta>()
            .is_some()
    );
    let (pool, size, ..) = query.allocation_pools().next().expect("a pool");
    let pool = pool.expect("a pool");
    assert!(
        size as usize
            >= VideoInfo::from_caps(&caps("RGB", 32, 24, (30, 1)))
                .unwrap()
                .size()
    );
    let (_, params) = query.allocation_params().next().expect("parameters");
    assert!(params.align() >= 15, "rows for vector units");
    pool.set_active(true).unwrap();
    assert!(pool.acquire_buffer(None).is_ok());
    pool.set_active(false).unwrap();
}

#[test]
fn downstream_s_pool_is_used() {
    let element = munitfilter();
    let pool = gst_video::VideoBufferPool::new();
    let offered = pool.clone();
    let queries = Arc::new(AtomicUsize::new(0));
    let count = queries.clone();
    element.static_pad("src").unwrap().add_probe(
        gst::PadProbeType::QUERY_DOWNSTREAM | gst::PadProbeType::PUSH,
        move |_, info| {
            if let Some(query) = info.query_mut()
                && let gst::QueryViewMut::Allocation(allocation) = query.view_mut()
            {
                let size = VideoInfo::from_caps(allocation.caps().unwrap())
                    .unwrap()
                    .size();
                allocation.add_allocation_pool(Some(&offered), size as u32, 2, 0);
                allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                count.fetch_add(1, Ordering::SeqCst);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        },
    );
    let line = Line::new(&element, &caps("RGB", 35, 24, (30, 1)));
    for _ in 0..4 {
        line.push(rgb_buffer(&picture(35, 24, 1), 35, 24));
        let sample = line.pull();
        let buffer = sample.buffer().unwrap();
        assert!(buffer.meta::<gst_video::VideoMeta>().is_some());
        // SAFETY: the sample holds the buffer.
        let from = unsafe { (*buffer.as_ptr()).pool };
        assert_eq!(from, pool.upcast_ref::<gst::BufferPool>().as_ptr());
    }
    assert_eq!(queries.load(Ordering::SeqCst), 1);
}

#[test]
fn a_drain_query_waits_for_the_frames_in_flight() {
    let element = munitfilter();
    element.set_property("debug-work", 100u32);
    let line = Line::new(&element, &caps("RGB", 16, 16, (30, 1)));
    let pushed = Arc::new(AtomicUsize::new(0));
    let count = pushed.clone();
    line.sink
        .static_pad("sink")
        .unwrap()
        .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            gst::PadProbeReturn::Ok
        });
    line.push(rgb_buffer(&picture(16, 16, 1), 16, 16));
    line.pull();
    let source_pad = line.source.static_pad("src").unwrap();
    let pad = source_pad.clone();
    let asked = Arc::new(AtomicUsize::new(usize::MAX));
    let answer = asked.clone();
    let seen = pushed.clone();
    let frames = AtomicUsize::new(0);
    source_pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        // Before the third frame, on the streaming thread, as an element that drains would do.
        if frames.fetch_add(1, Ordering::SeqCst) == 2 {
            pad.peer_query(gst::query::Drain::new().get_mut().unwrap());
            answer.store(seen.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        gst::PadProbeReturn::Ok
    });
    for _ in 0..3 {
        line.push(rgb_buffer(&picture(16, 16, 1), 16, 16));
    }
    for _ in 0..3 {
        line.pull();
    }
    assert_eq!(
        asked.load(Ordering::SeqCst),
        3,
        "frames that had left when the query came back"
    );
}
