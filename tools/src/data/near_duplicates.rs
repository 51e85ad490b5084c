//! Which pictures of several sets nearly repeat one another.

use super::likeness::Likeness;

/// A picture by the number of its set and its place in the set.
pub type PictureIndex = (usize, usize);

/// Two sets by their numbers, the smaller one first.
type PairOfSets = (usize, usize);

/// Of each picture of a set, one that it nearly repeats, by its place.
type Partners = Vec<Option<usize>>;

/// Pairs of pictures that nearly repeat each other, by their places in two sets.
type PairsOfPictures = Vec<(usize, usize)>;

/// What was found among several sets of pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearDuplicates {
    /// For each set, and each picture of it, an earlier picture of the set that it nearly repeats.
    repeats: Vec<Partners>,
    /// For each two sets, the second after the first, each picture of the second that nearly
    /// repeats one of the first, with that one.
    shared: Vec<(PairOfSets, PairsOfPictures)>,
}

impl NearDuplicates {
    /// Compares all pictures with one another; a picture that is `None` is passed over. Gives `None`
    /// as soon as `stopped` says yes.
    pub fn find(sets: &[Vec<Option<Likeness>>], stopped: impl Fn() -> bool) -> Option<Self> {
        let mut pictures: Vec<(u16, PictureIndex, Likeness)> = sets
            .iter()
            .enumerate()
            .flat_map(|(set, pictures)| {
                let known = pictures.iter().enumerate();
                known.filter_map(move |(index, likeness)| {
                    let likeness = (*likeness)?;
                    Some((likeness.brightness(), (set, index), likeness))
                })
            })
            .collect();
        // In order of brightness, a picture's near ones are not far.
        pictures.sort_by_key(|(brightness, index, _)| (*brightness, *index));

        let mut repeats: Vec<Partners> = sets.iter().map(|set| vec![None; set.len()]).collect();
        let pairs =
            (0..sets.len()).flat_map(|one| (one + 1..sets.len()).map(move |two| (one, two)));
        let mut partners: Vec<(PairOfSets, Partners)> = pairs
            .map(|(one, two)| ((one, two), vec![None; sets[two].len()]))
            .collect();
        for (position, (brightness, one, likeness)) in pictures.iter().enumerate() {
            if stopped() {
                return None;
            }
            let later = pictures[position + 1..].iter();
            let close = later
                .take_while(|(other, ..)| other - brightness <= Likeness::BRIGHTNESS_TOLERANCE);
            for (_, two, other) in close {
                if !likeness.is_near(other) {
                    continue;
                }
                let (first, second) = (one.min(two), one.max(two));
                let partner = if first.0 == second.0 {
                    &mut repeats[first.0][second.1]
                } else {
                    let sets = (first.0, second.0);
                    match partners.iter_mut().find(|(known, _)| *known == sets) {
                        Some((_, partners)) => &mut partners[second.1],
                        None => continue,
                    }
                };
                // The first of all, whatever the order of comparison.
                *partner = Some(partner.map_or(first.1, |known| known.min(first.1)));
            }
        }
        let shared = partners
            .into_iter()
            .map(|(sets, partners)| {
                let found = partners.into_iter().enumerate();
                let found = found.filter_map(|(index, partner)| Some((partner?, index)));
                (sets, found.collect())
            })
            .collect();
        Some(Self { repeats, shared })
    }

    /// The pictures of a set that nearly repeat an earlier one of it: (earlier, later).
    pub fn within(&self, set: usize) -> Vec<(usize, usize)> {
        let repeats = self.repeats[set].iter().enumerate();
        repeats
            .filter_map(|(later, earlier)| Some(((*earlier)?, later)))
            .collect()
    }

    /// The pictures of set `two` that nearly repeat one of set `one`, which has the smaller number:
    /// (of one, of two).
    pub fn between(&self, one: usize, two: usize) -> &[(usize, usize)] {
        let found = self.shared.iter().find(|(sets, _)| *sets == (one, two));
        found.map_or(&[], |(_, pairs)| pairs)
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::data::PictureFacts;

    /// Bars of a width and a brightness.
    fn bars(width: u32, value: u8) -> Option<Likeness> {
        let picture = RgbImage::from_fn(64, 64, |x, y| {
            let light = (x / width + y / (2 * width)).is_multiple_of(2);
            Rgb([if light { value } else { 0 }; 3])
        });
        Some(PictureFacts::of(&picture).likeness)
    }

    #[test]
    fn repeats_are_found_within_and_between_sets() {
        let sets = [
            vec![
                bars(8, 100),
                bars(11, 100),
                bars(8, 102),
                None,
                bars(8, 104),
            ],
            vec![bars(21, 100), bars(11, 101)],
            vec![None, bars(8, 103), bars(13, 250)],
        ];
        let found = NearDuplicates::find(&sets, || false).unwrap();
        assert_eq!(found.within(0), [(0, 2), (0, 4)]);
        assert_eq!(found.within(1), []);
        assert_eq!(found.within(2), []);
        assert_eq!(found.between(0, 1), [(1, 1)]);
        assert_eq!(found.between(0, 2), [(0, 1)]);
        assert_eq!(found.between(1, 2), []);
    }

    #[test]
    fn another_brightness_is_another_picture() {
        let sets = [vec![bars(8, 100), bars(8, 200), bars(8, 101)]];
        let found = NearDuplicates::find(&sets, || false).unwrap();
        assert_eq!(found.within(0), [(0, 2)]);
        assert_eq!(NearDuplicates::find(&sets, || true), None);
    }
}
