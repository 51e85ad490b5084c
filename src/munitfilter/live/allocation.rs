//! Where frames come from: as good as GstVideoFilter, for an element that hands frames over.

use gst::prelude::*;

/// Rows and planes that start at multiples of 64 bytes suit every vector unit.
const ALIGNMENT_MASK: u32 = 63;

/// Frames that the element itself may hold: in the slot, in flight, in line to leave.
fn held_frames(in_flight: usize) -> u32 {
    2 + u32::try_from(in_flight).unwrap_or(1)
}

/// Answers upstream's ALLOCATION query: a pool of aligned frames, any stride.
pub(crate) fn propose_allocation(query: &mut gst::query::Allocation, in_flight: usize) -> bool {
    let (Some(caps), need_pool) = query.get_owned() else {
        return false;
    };
    let Ok(info) = gst_video::VideoInfo::from_caps(&caps) else {
        return false;
    };
    let Ok(size) = u32::try_from(info.size()) else {
        return false;
    };
    let params = allocation_params();
    let held = held_frames(in_flight);
    if need_pool {
        let pool = gst_video::VideoBufferPool::new();
        let mut config = pool.config();
        config.set_params(Some(&caps), size, held, 0);
        config.set_allocator(None::<&gst::Allocator>, Some(&params));
        config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META);
        if pool.set_config(config).is_err() {
            return false;
        }
        query.add_allocation_pool(Some(&pool), size, held, 0);
    } else {
        query.add_allocation_pool(None::<&gst::BufferPool>, size, held, 0);
    }
    query.add_allocation_param(None::<&gst::Allocator>, params);
    query.add_allocation_meta::<gst_video::VideoMeta>(None);
    true
}

/// An active pool for output frames of `caps`: downstream's where it offers one that works, else
/// one of our own with downstream's allocator.
pub(super) fn decide_allocation(
    src_pad: &gst::Pad,
    caps: &gst::Caps,
    in_flight: usize,
) -> Result<gst::BufferPool, glib::BoolError> {
    let info = gst_video::VideoInfo::from_caps(caps)?;
    let own_size =
        u32::try_from(info.size()).map_err(|_| glib::bool_error!("{caps} is too large"))?;
    let mut query = gst::query::Allocation::new(Some(caps), true);
    if !src_pad.peer_query(&mut query) {
        gst::debug!(
            super::super::CAT,
            obj = src_pad,
            "downstream has no wishes for allocation"
        );
    }
    let has_video_meta = query
        .find_allocation_meta::<gst_video::VideoMeta>()
        .is_some();
    let (allocator, params) = query
        .allocation_params()
        .next()
        .unwrap_or_else(|| (None, allocation_params()));
    let offered = query.allocation_pools().next();
    let (pool, size, min, max) = offered
        .map_or((None, own_size, 0, 0), |(pool, size, min, max)| {
            (pool, size.max(own_size), min, max)
        });
    // Downstream counted its own frames; ours come on top where the pool may grow.
    let held = held_frames(in_flight);
    let least = match max {
        0 => min + held,
        max => (min + held).min(max),
    };

    let configure = |pool: &gst::BufferPool| -> Result<(), glib::BoolError> {
        let mut config = pool.config();
        config.set_params(Some(caps), size, least, max);
        config.set_allocator(allocator.as_ref(), Some(&params));
        if has_video_meta {
            config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META);
        }
        if pool.set_config(config).is_err() {
            // The pool has changed the configuration into one that it can do.
            let config = pool.config();
            config.validate_params(Some(caps), size, least, max)?;
            pool.set_config(config)?;
        }
        pool.set_active(true)
    };
    if let Some(pool) = pool {
        match configure(&pool) {
            Ok(()) => return Ok(pool),
            Err(error) => {
                gst::info!(
                    super::super::CAT,
                    obj = src_pad,
                    "downstream's pool is of no use: {error}"
                );
            }
        }
    }
    let pool = gst_video::VideoBufferPool::new().upcast::<gst::BufferPool>();
    let mut config = pool.config();
    config.set_params(Some(caps), own_size, held, 0);
    config.set_allocator(allocator.as_ref(), Some(&params));
    if has_video_meta {
        config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META);
    }
    pool.set_config(config)?;
    pool.set_active(true)?;
    Ok(pool)
}

fn allocation_params() -> gst::AllocationParams {
    gst::AllocationParams::new(gst::MemoryFlags::empty(), ALIGNMENT_MASK as usize, 0, 0)
}
