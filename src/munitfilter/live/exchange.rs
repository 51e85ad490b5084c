//! The hand-overs between the element's threads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::departures::{Departures, Output, Place};

/// Finished frames that may wait for the output task if the pipeline's latency asks for it.
/// Beyond this many a queue after the element is the better place.
pub(crate) const LARGEST_BACKLOG: usize = 32;

/// A frame on its way in.
#[derive(Debug)]
pub(crate) struct Frame {
    pub buffer: gst::Buffer,
    /// The segment that its timestamps lie in.
    pub segment: gst::FormattedSegment<gst::ClockTime>,
    /// When it came.
    pub arrived: Instant,
    /// Whether frames before it were dropped.
    pub after_drop: bool,
}

#[derive(Debug)]
enum Input {
    Frame(Box<Frame>),
    Event(gst::Event),
}

/// What the planner has to do next.
#[derive(Debug)]
pub(super) struct Job {
    pub work: Work,
    /// The flush that this belongs to; its result is worthless after the next one.
    pub epoch: u64,
}

#[derive(Debug)]
pub(super) enum Work {
    /// Have it translated. The delay that the element causes counts from `since`.
    Frame { frame: Box<Frame>, since: Instant },
    /// Pass it on.
    Event(gst::Event),
}

/// How many frames were translated and how many gave way to newer ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameCounts {
    pub processed: u64,
    pub dropped: u64,
}

#[derive(Debug)]
struct State<P> {
    /// The pads are active and not flushing.
    active: bool,
    /// Whether data may flow; an error says why not.
    flow: Result<(), gst::FlowError>,
    /// End of stream has been received.
    eos: bool,
    /// A newer frame replaces a waiting one.
    live: bool,
    /// No planner and no workers, or they are to leave.
    stopped: bool,
    epoch: u64,
    /// Holds one frame at most; its place among the events is kept.
    input: VecDeque<Input>,
    /// The planner has taken something and not asked for more.
    planning: bool,
    /// Frames for the workers.
    plans: VecDeque<(Place, P)>,
    /// Frames that were planned and are not finished.
    in_flight: usize,
    /// Those of them that may be translated at once.
    most_in_flight: usize,
    /// How many these may become without further notice.
    most_to_come: usize,
    departures: Departures,
    /// The output task has taken something and not asked for more.
    pushing: bool,
    /// Finished frames that may wait.
    backlog: usize,
    /// Where output frames come from; none until negotiated for the caps in use.
    pool: Option<gst::BufferPool>,
    counts: FrameCounts,
}

impl<P> State<P> {
    fn frame_waits(&self) -> bool {
        self.input
            .iter()
            .any(|item| matches!(item, Input::Frame(_)))
    }

    fn remove_waiting_frame(&mut self) -> Option<Box<Frame>> {
        let position = self
            .input
            .iter()
            .position(|item| matches!(item, Input::Frame(_)))?;
        match self.input.remove(position) {
            Some(Input::Frame(frame)) => Some(frame),
            _ => None,
        }
    }

    /// Frames that may be planned and not finished: those in flight and, where frames wait, one more, so
    /// that a worker that is done finds the next at once.
    fn places(&self) -> usize {
        self.most_in_flight + self.ahead()
    }

    fn ahead(&self) -> usize {
        usize::from(!self.live)
    }

    /// Whether another frame may wait for the sink. Those in flight will wait there, too.
    fn has_room_for_output(&self) -> bool {
        self.departures.frames() < self.backlog + self.places() - 1
    }

    fn is_empty(&self) -> bool {
        self.input.is_empty()
            && !self.planning
            && self.in_flight == 0
            && self.departures.is_empty()
            && !self.pushing
    }

    /// Throws away what has been planned and not begun.
    fn forget_plans(&mut self) {
        self.in_flight -= self.plans.len();
        self.plans.clear();
    }
}

/// The slot before the planner, its plans `P` for the workers and the line behind these, with what
/// must happen to all at once: flushes, errors, starting and stopping.
#[derive(Debug)]
pub(crate) struct Exchange<P> {
    state: Mutex<State<P>>,
    changed: Condvar,
}

impl<P> Default for Exchange<P> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                active: false,
                flow: Err(gst::FlowError::Flushing),
                eos: false,
                live: false,
                stopped: true,
                epoch: 0,
                input: VecDeque::new(),
                planning: false,
                plans: VecDeque::new(),
                in_flight: 0,
                most_in_flight: 1,
                most_to_come: 1,
                departures: Departures::default(),
                pushing: false,
                backlog: 1,
                pool: None,
                counts: FrameCounts::default(),
            }),
            changed: Condvar::new(),
        }
    }
}

/// Sticky events describe the stream and outlive a flush, but for those that it starts anew.
fn survives_flush(event: &gst::Event) -> bool {
    event.is_sticky() && !matches!(event.type_(), gst::EventType::Segment | gst::EventType::Eos)
}

impl<P> Exchange<P> {
    fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<P>>) -> MutexGuard<'a, State<P>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    // Upstream's side.

    /// Puts a frame into the slot. In a live stream it replaces the one that waits there, which
    /// is returned; else this waits until the slot is free.
    pub fn offer_frame(&self, mut frame: Frame) -> Result<Option<Box<Frame>>, gst::FlowError> {
        let mut state = self.state();
        let mut replaced = None;
        loop {
            state.flow?;
            if state.eos {
                return Err(gst::FlowError::Eos);
            }
            if !state.frame_waits() {
                break;
            }
            if state.live {
                replaced = state.remove_waiting_frame();
                state.counts.dropped += 1;
                frame.after_drop = true;
                break;
            }
            state = self.wait(state);
        }
        state.input.push_back(Input::Frame(Box::new(frame)));
        self.changed.notify_all();
        Ok(replaced)
    }

    /// Puts an event in line; the error is why it was refused.
    pub fn offer_event(&self, event: gst::Event) -> Result<(), gst::FlowError> {
        let mut state = self.state();
        match event.type_() {
            gst::EventType::Eos => {
                state.flow?;
                state.eos = true;
            }
            // A new stream after the end of the last one.
            gst::EventType::StreamStart => {
                state.eos = false;
                if state.flow == Err(gst::FlowError::Eos) {
                    state.flow = Ok(());
                }
            }
            // While the flow is in error, sticky events wait for it to start again.
            _ if event.is_sticky() && state.flow != Err(gst::FlowError::Flushing) => {}
            _ => state.flow?,
        }
        state.input.push_back(Input::Event(event));
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until everything that was offered has left; false if it cannot.
    pub fn drain(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.flow.is_err() || state.stopped {
                return false;
            }
            if state.is_empty() {
                return true;
            }
            state = self.wait(state);
        }
    }

    // The planner's side.

    /// Waits for the next thing to do; none when the planner is to leave.
    ///
    /// A frame stays in the slot until there is a place for it and room for its translation; in a live
    /// stream, where a newer one can replace it there, until a worker is free.
    pub(super) fn take(&self) -> Option<Job> {
        let mut state = self.state();
        state.planning = false;
        self.changed.notify_all();
        let mut blocked = false;
        loop {
            if state.stopped {
                return None;
            }
            let ready = match state.input.front() {
                None => false,
                Some(Input::Event(_)) => true,
                Some(Input::Frame(_)) if state.in_flight >= state.places() => false,
                Some(Input::Frame(_)) => {
                    let room = state.has_room_for_output();
                    blocked |= !room;
                    room && state.flow.is_ok()
                }
            };
            if ready && let Some(item) = state.input.pop_front() {
                state.planning = true;
                self.changed.notify_all();
                let work = match item {
                    Input::Event(event) => Work::Event(event),
                    Input::Frame(frame) => {
                        // The time that a frame waited for the sink's clock is not our delay:
                        // to report it would make the sink wait even longer.
                        let since = if blocked {
                            Instant::now()
                        } else {
                            frame.arrived
                        };
                        Work::Frame { frame, since }
                    }
                };
                return Some(Job {
                    work,
                    epoch: state.epoch,
                });
            }
            state = self.wait(state);
        }
    }

    /// Passes an event on to the output task.
    pub(super) fn forward_event(&self, event: gst::Event, epoch: u64) {
        let mut state = self.state();
        if state.stopped || (epoch != state.epoch && !survives_flush(&event)) {
            return;
        }
        if event.type_() == gst::EventType::Caps {
            // Frames of the new caps wait until the output task has negotiated their pool.
            let pool = state.pool.take();
            state.departures.push_event(event);
            self.changed.notify_all();
            drop(state);
            deactivate(pool);
            return;
        }
        state.departures.push_event(event);
        self.changed.notify_all();
    }

    /// An empty output frame. Waits for negotiation and for the pool.
    pub(super) fn acquire(&self, epoch: u64) -> Result<gst::Buffer, gst::FlowError> {
        loop {
            let pool = self.pool(epoch)?;
            match pool.acquire_buffer(None) {
                Err(gst::FlowError::Flushing) if self.pool(epoch)? != pool => {}
                result => return result,
            }
        }
    }

    fn pool(&self, epoch: u64) -> Result<gst::BufferPool, gst::FlowError> {
        let mut state = self.state();
        loop {
            state.flow?;
            if state.stopped || state.epoch != epoch {
                return Err(gst::FlowError::Flushing);
            }
            if let Some(pool) = &state.pool {
                return Ok(pool.clone());
            }
            state = self.wait(state);
        }
    }

    /// Gives a frame to the workers and keeps its place in line; its delay counts from `since`. False
    /// if a flush or an error came in between.
    pub(super) fn submit(&self, plan: P, since: Instant, epoch: u64) -> bool {
        let mut state = self.state();
        if epoch != state.epoch || state.flow.is_err() {
            return false;
        }
        let place = state.departures.reserve(since);
        state.plans.push_back((place, plan));
        state.in_flight += 1;
        self.changed.notify_all();
        true
    }

    /// Takes the number of frames that may be translated at once, at least one, and what it may become.
    pub(super) fn set_most_in_flight(&self, frames: usize, to_come: usize) {
        let mut state = self.state();
        state.most_to_come = to_come.max(frames).max(1);
        if state.most_in_flight != frames.max(1) {
            state.most_in_flight = frames.max(1);
            self.changed.notify_all();
        }
    }

    // The workers' side.

    /// Waits for a frame to translate; none when the workers are to leave. Only as many workers get
    /// one as frames may be translated at once: those of the lowest numbers.
    pub(super) fn begin(&self, worker: usize) -> Option<(Place, P)> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            if worker < state.most_in_flight
                && let Some(plan) = state.plans.pop_front()
            {
                return Some(plan);
            }
            state = self.wait(state);
        }
    }

    /// Puts a translated frame in its place in line, or (`None`) gives the place up; after a flush it
    /// is dropped. Returns since when the longest delayed of the frames that can leave now is so.
    pub(super) fn finish(&self, place: Place, translated: Option<gst::Buffer>) -> Option<Instant> {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        match translated {
            Some(buffer) if state.flow.is_ok() => {
                if state.departures.fill(place, buffer) {
                    state.counts.processed += 1;
                }
            }
            _ => state.departures.give_up(place),
        }
        self.changed.notify_all();
        state.departures.release()
    }

    // The output task's side.

    /// Waits for the next thing to push.
    ///
    /// None while the pads are inactive or flush. After an error this waits too: the flow may
    /// start again.
    pub fn next_output(&self) -> Option<Output> {
        let mut state = self.state();
        state.pushing = false;
        self.changed.notify_all();
        loop {
            if !state.active {
                return None;
            }
            if state.flow.is_ok()
                && let Some(output) = state.departures.pop()
            {
                state.pushing = true;
                self.changed.notify_all();
                return Some(output);
            }
            state = self.wait(state);
        }
    }

    /// Stops the flow for `reason`; returns whether end of stream has been received already, so
    /// that upstream will not come to hear of it.
    pub fn stop_flow(&self, reason: gst::FlowError) -> bool {
        let mut state = self.state();
        if state.flow.is_ok() {
            state.flow = Err(reason);
        }
        self.changed.notify_all();
        state.eos
    }

    /// Lets data flow again after `reason` has stopped it; false if something else has.
    pub fn restart_flow(&self, reason: gst::FlowError) -> bool {
        let mut state = self.state();
        let restarts = state.flow == Err(reason);
        if restarts {
            state.flow = Ok(());
            self.changed.notify_all();
        }
        restarts
    }

    /// Uses `pool` for output frames from now on.
    pub(super) fn set_pool(&self, pool: gst::BufferPool) {
        let mut state = self.state();
        let old = state.pool.replace(pool.clone());
        self.changed.notify_all();
        drop(state);
        deactivate(old.filter(|old| *old != pool));
    }

    // Control.

    /// Ready for a stream: nothing in line, everything counted from zero.
    pub fn start(&self) {
        let mut state = self.state();
        state.stopped = false;
        state.eos = false;
        state.live = false;
        state.backlog = 1;
        state.in_flight = 0;
        state.most_in_flight = 1;
        state.most_to_come = 1;
        state.counts = FrameCounts::default();
    }

    /// Sends the planner and the workers away and forgets the stream.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.active = false;
        state.flow = Err(gst::FlowError::Flushing);
        state.epoch += 1;
        state.input.clear();
        state.forget_plans();
        state.departures.flush(|_| false);
        state.planning = false;
        state.pushing = false;
        let pool = state.pool.take();
        self.changed.notify_all();
        drop(state);
        deactivate(pool);
    }

    /// Throws away what is in line and refuses what comes.
    pub fn start_flush(&self) {
        let mut state = self.state();
        state.active = false;
        state.flow = Err(gst::FlowError::Flushing);
        state.epoch += 1;
        state
            .input
            .retain(|item| matches!(item, Input::Event(event) if survives_flush(event)));
        state.forget_plans();
        state.departures.flush(survives_flush);
        let pool = state.pool.clone();
        self.changed.notify_all();
        drop(state);
        if let Some(pool) = pool {
            pool.set_flushing(true);
        }
    }

    /// Accepts data again.
    pub fn stop_flush(&self) {
        let mut state = self.state();
        state.active = true;
        state.flow = Ok(());
        state.eos = false;
        let pool = state.pool.clone();
        self.changed.notify_all();
        drop(state);
        if let Some(pool) = pool {
            pool.set_flushing(false);
        }
    }

    /// Whether a newer frame replaces a waiting one.
    pub fn is_live(&self) -> bool {
        self.state().live
    }

    /// Switches between replacing and waiting.
    pub fn set_live(&self, live: bool) {
        self.state().live = live;
        self.changed.notify_all();
    }

    /// Takes the time from a frame's coming until the sink shows it. While it waits there for its
    /// time, those that come after it wait here: so many may be finished before the workers pause.
    pub fn set_stay(&self, stay: Duration, frame_interval: Option<Duration>) {
        let frames = match frame_interval {
            Some(interval) if !interval.is_zero() => {
                (stay.as_secs_f64() / interval.as_secs_f64()).ceil() as usize
            }
            _ => 0,
        };
        self.state().backlog = (1 + frames).min(LARGEST_BACKLOG);
        self.changed.notify_all();
    }

    /// How many frames may be planned and not finished, now or later on.
    pub fn most_places(&self) -> usize {
        let state = self.state();
        state.most_to_come + state.ahead()
    }

    /// Frames translated and dropped since the stream started.
    pub fn counts(&self) -> FrameCounts {
        self.state().counts
    }
}

/// A pool wakes those who wait for it when it is deactivated, so no lock may be held.
fn deactivate(pool: Option<gst::BufferPool>) {
    if let Some(pool) = pool
        && let Err(error) = pool.set_active(false)
    {
        gst::warning!(
            super::super::CAT,
            obj = pool,
            "cannot deactivate the pool: {error}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plans are the frames themselves here.
    type Exchange = super::Exchange<Box<Frame>>;

    fn started(live: bool) -> Exchange {
        gst::init().unwrap();
        let exchange = Exchange::default();
        exchange.start();
        exchange.stop_flush();
        exchange.set_live(live);
        exchange
    }

    fn frame(offset: u64) -> Frame {
        let mut buffer = gst::Buffer::new();
        buffer.get_mut().unwrap().set_offset(offset);
        Frame {
            buffer,
            segment: gst::FormattedSegment::new(),
            arrived: Instant::now(),
            after_drop: false,
        }
    }

    fn caps_event() -> gst::Event {
        gst::event::Caps::new(&gst::Caps::new_empty_simple("video/x-raw"))
    }

    fn segment_event() -> gst::Event {
        gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())
    }

    fn taken_frame(exchange: &Exchange) -> (Box<Frame>, u64) {
        match exchange.take().unwrap() {
            Job {
                work: Work::Frame { frame, .. },
                epoch,
            } => (frame, epoch),
            Job { work, .. } => panic!("{work:?}"),
        }
    }

    /// Has a frame planned, which is not begun then.
    fn plan(exchange: &Exchange) -> bool {
        let (frame, epoch) = taken_frame(exchange);
        exchange.submit(frame, Instant::now(), epoch)
    }

    /// Has a frame planned and translated by the worker 0.
    fn translate(exchange: &Exchange) {
        assert!(plan(exchange));
        let (place, frame) = exchange.begin(0).unwrap();
        exchange.finish(place, Some(frame.buffer));
    }

    /// The offset of the frame that is pushed next.
    fn pushed(exchange: &Exchange) -> u64 {
        match exchange.next_output() {
            Some(Output::Frame(buffer)) => buffer.offset(),
            other => panic!("{other:?}"),
        }
    }

    fn taken_event(exchange: &Exchange) -> (gst::Event, u64) {
        match exchange.take().unwrap() {
            Job {
                work: Work::Event(event),
                epoch,
            } => (event, epoch),
            Job { work, .. } => panic!("{work:?}"),
        }
    }

    #[test]
    fn a_newer_live_frame_replaces_the_waiting_one_behind_the_events_between() {
        let exchange = started(true);
        assert!(exchange.offer_frame(frame(1)).unwrap().is_none());
        exchange.offer_event(segment_event()).unwrap();
        let replaced = exchange.offer_frame(frame(2)).unwrap().unwrap();
        assert_eq!(replaced.buffer.offset(), 1);
        let counts = FrameCounts {
            processed: 0,
            dropped: 1,
        };
        assert_eq!(exchange.counts(), counts);
        assert_eq!(taken_event(&exchange).0.type_(), gst::EventType::Segment);
        let (newest, _) = taken_frame(&exchange);
        assert_eq!(newest.buffer.offset(), 2);
        assert!(newest.after_drop);
    }

    #[test]
    fn without_a_live_source_a_second_frame_waits_for_the_slot() {
        let exchange = started(false);
        exchange.offer_frame(frame(1)).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| exchange.offer_frame(frame(2)));
            assert_eq!(taken_frame(&exchange).0.buffer.offset(), 1);
            assert!(second.join().unwrap().unwrap().is_none());
        });
        assert_eq!(taken_frame(&exchange).0.buffer.offset(), 2);
        assert_eq!(exchange.counts().dropped, 0);
    }

    #[test]
    fn a_frame_that_can_wait_is_planned_before_a_worker_is_free() {
        for live in [false, true] {
            let exchange = started(live);
            exchange.offer_frame(frame(1)).unwrap();
            assert!(plan(&exchange));
            let (place, begun) = exchange.begin(0).unwrap();
            exchange.offer_frame(frame(2)).unwrap();
            std::thread::scope(|scope| {
                let second = scope.spawn(|| plan(&exchange));
                if live {
                    std::thread::sleep(Duration::from_millis(20));
                    assert!(!second.is_finished());
                    exchange.finish(place, Some(begun.buffer));
                    assert_eq!(pushed(&exchange), 1);
                    assert!(second.join().unwrap());
                } else {
                    assert!(second.join().unwrap());
                    exchange.finish(place, Some(begun.buffer));
                }
            });
        }
    }

    #[test]
    fn frames_that_may_be_in_flight_later_are_told_in_advance() {
        let exchange = started(false);
        exchange.set_most_in_flight(1, 4);
        assert_eq!(exchange.state().places(), 2);
        assert_eq!(exchange.most_places(), 5);
        exchange.set_most_in_flight(3, 1);
        assert_eq!(exchange.state().places(), 4);
        assert_eq!(exchange.most_places(), 4);
    }

    #[test]
    fn a_flush_keeps_what_describes_the_stream() {
        let exchange = started(false);
        exchange.offer_event(caps_event()).unwrap();
        exchange.offer_event(segment_event()).unwrap();
        exchange.offer_frame(frame(1)).unwrap();
        exchange.start_flush();
        assert_eq!(
            exchange.offer_frame(frame(2)).unwrap_err(),
            gst::FlowError::Flushing
        );
        exchange.stop_flush();
        exchange.offer_frame(frame(3)).unwrap();
        let (event, epoch) = taken_event(&exchange);
        assert_eq!(event.type_(), gst::EventType::Caps);
        exchange.forward_event(event, epoch);
        assert_eq!(taken_frame(&exchange).0.buffer.offset(), 3);
    }

    #[test]
    fn what_was_begun_before_a_flush_does_not_leave_after_it() {
        let exchange = started(false);
        exchange.set_most_in_flight(3, 3);
        let offered = |offset| exchange.offer_frame(frame(offset)).unwrap();
        // One is being translated, one is to be, one has not come so far.
        offered(1);
        assert!(plan(&exchange));
        let (place, begun) = exchange.begin(0).unwrap();
        offered(2);
        assert!(plan(&exchange));
        offered(3);
        let (taken, epoch) = taken_frame(&exchange);
        exchange.start_flush();
        exchange.stop_flush();
        assert!(!exchange.submit(taken, Instant::now(), epoch));
        exchange.finish(place, Some(begun.buffer));
        exchange.forward_event(segment_event(), epoch);
        offered(4);
        translate(&exchange);
        assert_eq!(pushed(&exchange), 4);
        assert_eq!(exchange.counts().processed, 1);
    }

    #[test]
    fn nothing_is_left_over_after_a_stop() {
        let exchange = started(false);
        exchange.offer_event(caps_event()).unwrap();
        let (event, epoch) = taken_event(&exchange);
        exchange.stop();
        exchange.forward_event(event, epoch);
        exchange.start();
        exchange.stop_flush();
        exchange.offer_frame(frame(1)).unwrap();
        translate(&exchange);
        assert_eq!(pushed(&exchange), 1);
    }

    #[test]
    fn after_the_end_frames_are_refused_until_a_new_stream() {
        let exchange = started(false);
        exchange.offer_event(gst::event::Eos::new()).unwrap();
        assert_eq!(
            exchange.offer_frame(frame(1)).unwrap_err(),
            gst::FlowError::Eos
        );
        exchange
            .offer_event(gst::event::StreamStart::new("next"))
            .unwrap();
        assert!(exchange.offer_frame(frame(2)).is_ok());
    }

    #[test]
    fn the_queue_holds_as_many_frames_as_wait_for_the_sink() {
        let exchange = started(true);
        let interval = Some(Duration::from_millis(40));
        for (stay, expected) in [(0, 1), (100, 4), (100_000, LARGEST_BACKLOG)] {
            exchange.set_stay(Duration::from_millis(stay), interval);
            assert_eq!(exchange.state().backlog, expected);
        }
        exchange.set_stay(Duration::from_secs(1), None);
        assert_eq!(exchange.state().backlog, 1);
    }
}
