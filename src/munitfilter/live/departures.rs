//! What is to leave, in the order in which it came, whichever frame is finished first.

use std::collections::VecDeque;
use std::time::Instant;

/// What the output task has to push next.
#[derive(Debug)]
pub(crate) enum Output {
    Frame(gst::Buffer),
    Event(gst::Event),
}

/// A frame's place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u64);

#[derive(Debug)]
enum Departure {
    Event(gst::Event),
    Frame {
        place: Place,
        /// Since when the element delays it.
        since: Instant,
        /// None until it is translated.
        buffer: Option<gst::Buffer>,
        /// Nothing before it is still being worked on.
        may_leave: bool,
    },
}

/// The line before the output task: events, translated frames, and the places of those that are
/// still being translated.
#[derive(Debug, Default)]
pub(super) struct Departures {
    line: VecDeque<Departure>,
    next: u64,
}

impl Departures {
    /// Puts an event in line.
    pub fn push_event(&mut self, event: gst::Event) {
        self.line.push_back(Departure::Event(event));
    }

    /// Keeps the next place for a frame.
    pub fn reserve(&mut self, since: Instant) -> Place {
        let place = Place(self.next);
        self.next += 1;
        self.line.push_back(Departure::Frame {
            place,
            since,
            buffer: None,
            may_leave: false,
        });
        place
    }

    /// Fills a place with the translated frame; false if a flush has taken the place away.
    pub fn fill(&mut self, place: Place, translated: gst::Buffer) -> bool {
        let waiting = self.line.iter_mut().find_map(|departure| match departure {
            Departure::Frame {
                place: found,
                buffer,
                ..
            } if *found == place => Some(buffer),
            _ => None,
        });
        let is_there = waiting.is_some();
        if let Some(buffer) = waiting {
            *buffer = Some(translated);
        }
        is_there
    }

    /// Gives up the place of a frame that will not come.
    pub fn give_up(&mut self, place: Place) {
        self.line.retain(|departure| {
            !matches!(departure, Departure::Frame { place: found, .. } if *found == place)
        });
    }

    /// Lets frames go that only waited for one before them, and says since when the one of them is
    /// delayed that has been so for longest. To be called after a place was filled or given up.
    pub fn release(&mut self) -> Option<Instant> {
        let mut longest = None;
        for departure in &mut self.line {
            let Departure::Frame {
                since,
                buffer,
                may_leave,
                ..
            } = departure
            else {
                continue;
            };
            if buffer.is_none() {
                break;
            }
            if !std::mem::replace(may_leave, true) {
                longest = Some(longest.map_or(*since, |other: Instant| other.min(*since)));
            }
        }
        longest
    }

    /// The first in line, unless it is a frame that is still being translated.
    pub fn pop(&mut self) -> Option<Output> {
        if let Some(Departure::Frame { buffer: None, .. }) = self.line.front() {
            return None;
        }
        self.line.pop_front().and_then(|departure| match departure {
            Departure::Event(event) => Some(Output::Event(event)),
            Departure::Frame { buffer, .. } => buffer.map(Output::Frame),
        })
    }

    /// Frames in line, translated or not.
    pub fn frames(&self) -> usize {
        let is_frame = |departure: &&Departure| matches!(departure, Departure::Frame { .. });
        self.line.iter().filter(is_frame).count()
    }

    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Throws away all frames and their places, and the events that are not to be kept.
    pub fn flush(&mut self, keep: impl Fn(&gst::Event) -> bool) {
        self.line
            .retain(|departure| matches!(departure, Departure::Event(event) if keep(event)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn buffer(offset: u64) -> gst::Buffer {
        let mut buffer = gst::Buffer::new();
        buffer.make_mut().set_offset(offset);
        buffer
    }

    /// Offsets of the frames that can be pushed now, and zero for an event.
    fn popped(departures: &mut Departures) -> Vec<u64> {
        std::iter::from_fn(|| departures.pop())
            .map(|output| match output {
                Output::Frame(buffer) => buffer.offset(),
                Output::Event(_) => 0,
            })
            .collect()
    }

    #[test]
    fn frames_leave_in_the_order_of_their_places() {
        gst::init().unwrap();
        let mut departures = Departures::default();
        let now = Instant::now();
        let places = [1, 2, 3].map(|number| {
            if number == 3 {
                departures.push_event(gst::event::Eos::new());
            }
            (number, departures.reserve(now))
        });
        assert_eq!(departures.frames(), 3);
        for index in [2, 1] {
            let (number, place) = places[index];
            assert!(departures.fill(place, buffer(number)));
            assert!(popped(&mut departures).is_empty());
        }
        departures.fill(places[0].1, buffer(1));
        assert_eq!(popped(&mut departures), [1, 2, 0, 3]);
        assert!(departures.is_empty());
    }

    #[test]
    fn a_frame_that_does_not_come_holds_up_nothing() {
        gst::init().unwrap();
        let mut departures = Departures::default();
        let now = Instant::now();
        let [first, second] = [(); 2].map(|()| departures.reserve(now));
        departures.fill(second, buffer(2));
        departures.give_up(first);
        assert_eq!(popped(&mut departures), [2]);
    }

    #[test]
    fn a_frame_is_delayed_until_those_before_it_are_done() {
        gst::init().unwrap();
        let mut departures = Departures::default();
        let start = Instant::now();
        let since = |number| start + Duration::from_millis(number);
        let places = [30, 10, 20].map(|number| departures.reserve(since(number)));
        departures.fill(places[1], buffer(2));
        assert_eq!(departures.release(), None);
        departures.fill(places[0], buffer(1));
        assert_eq!(departures.release(), Some(since(10)));
        departures.fill(places[2], buffer(3));
        assert_eq!(departures.release(), Some(since(20)));
        assert_eq!(departures.release(), None);
    }

    #[test]
    fn a_flush_takes_places_away() {
        gst::init().unwrap();
        let mut departures = Departures::default();
        let place = departures.reserve(Instant::now());
        departures.push_event(gst::event::Eos::new());
        departures.push_event(gst::event::StreamStart::new("kept"));
        departures.flush(|event| event.type_() == gst::EventType::StreamStart);
        assert!(!departures.fill(place, buffer(1)));
        assert_eq!(popped(&mut departures), [0]);
    }
}
