//! Tells pictures of one thing on a plain background from those with a scene around it.

use image::RgbImage;
use image::imageops::thumbnail;

/// Pictures are judged at this size, at which weave, tiles and noise are averaged away.
const SIDE: u32 = 64;
/// Width of the border that shows the background.
const BORDER: u32 = 6;
/// Farthest that a pixel of the background may be from its median colour: root mean square over the
/// three 8-bit channels.
const BACKGROUND_DISTANCE: f32 = 32.0;
/// Share of the border that must be background.
const BACKGROUND_SHARE: f32 = 0.8;
/// Nearest to the background's colour that a pixel of the thing may be, measured alike.
const THING_DISTANCE: f32 = 36.0;
/// Share of the middle, half as wide and high as the picture, that the thing must fill.
const THING_SHARE: f32 = 0.6;

/// Whether `picture` shows one thing on a plain background, of whatever colour: nearly all of its
/// border is of one colour, and most of its middle is not.
pub fn is_plain(picture: &RgbImage) -> bool {
    let picture = thumbnail(picture, SIDE, SIDE);
    let inside = |margin: u32| {
        move |x: u32, y: u32| {
            (margin..SIDE - margin).contains(&x) && (margin..SIDE - margin).contains(&y)
        }
    };
    let in_border = |x, y| !inside(BORDER)(x, y);
    let in_middle = inside(SIDE / 4);

    let background = median_colour(&picture, in_border);
    let distance = |pixel: [u8; 3]| -> f32 {
        let squares = pixel
            .iter()
            .zip(background)
            .map(|(&channel, background)| (f32::from(channel) - f32::from(background)).powi(2));
        (squares.sum::<f32>() / 3.0).sqrt()
    };
    share(&picture, in_border, |pixel| {
        distance(pixel) < BACKGROUND_DISTANCE
    }) >= BACKGROUND_SHARE
        && share(&picture, in_middle, |pixel| {
            distance(pixel) > THING_DISTANCE
        }) >= THING_SHARE
}

fn pixels(picture: &RgbImage, area: impl Fn(u32, u32) -> bool) -> impl Iterator<Item = [u8; 3]> {
    picture
        .enumerate_pixels()
        .filter(move |&(x, y, _)| area(x, y))
        .map(|(_, _, pixel)| pixel.0)
}

fn median_colour(picture: &RgbImage, area: impl Fn(u32, u32) -> bool) -> [u8; 3] {
    let mut channels: [Vec<u8>; 3] = Default::default();
    for pixel in pixels(picture, area) {
        for (values, value) in channels.iter_mut().zip(pixel) {
            values.push(value);
        }
    }
    channels.map(|mut values| {
        let middle = values.len() / 2;
        *values.select_nth_unstable(middle).1
    })
}

fn share(
    picture: &RgbImage,
    area: impl Fn(u32, u32) -> bool,
    holds: impl Fn([u8; 3]) -> bool,
) -> f32 {
    let (mut holding, mut all) = (0u32, 0u32);
    for pixel in pixels(picture, area) {
        all += 1;
        holding += u32::from(holds(pixel));
    }
    holding as f32 / all as f32
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    /// A rectangle that leaves `margin` of each side, on what `background` gives for a pixel.
    fn rectangle(margin: f32, background: impl Fn(u32, u32) -> [u8; 3]) -> RgbImage {
        let (width, height) = (200, 130);
        let inside = |position: u32, side: u32| {
            let position = position as f32 / side as f32;
            (margin..1.0 - margin).contains(&position)
        };
        RgbImage::from_fn(width, height, |x, y| {
            match inside(x, width) && inside(y, height) {
                true => Rgb([40, 130, 60]),
                false => Rgb(background(x, y)),
            }
        })
    }

    #[test]
    fn a_thing_on_one_colour_is_told_from_a_scene() {
        assert!(is_plain(&rectangle(0.2, |_, _| [250, 252, 249])));
        assert!(is_plain(&rectangle(0.2, |_, _| [150, 20, 40])));
        // Weave is finer than what is judged; halves of two colours are not.
        let weave = |x: u32, y: u32| [(120 + 80 * ((x + y) % 2)) as u8; 3];
        assert!(is_plain(&rectangle(0.2, weave)));
        let wall_and_floor = |_, y: u32| [if y < 65 { 230 } else { 90 }; 3];
        assert!(!is_plain(&rectangle(0.2, wall_and_floor)));
    }

    #[test]
    fn something_must_stand_out_in_the_middle() {
        assert!(!is_plain(&rectangle(0.2, |_, _| [45, 125, 65])));
        assert!(!is_plain(&rectangle(0.45, |_, _| [250, 252, 249])));
    }

    #[test]
    fn the_smallest_picture_is_no_trouble() {
        assert!(!is_plain(&RgbImage::new(1, 1)));
    }
}
