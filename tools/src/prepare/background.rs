//! Tells pictures of a thing on a white background from those with a scene around it.

use image::{GenericImageView, Rgb, RgbImage};

/// A pixel is white if its darkest channel is at least this.
const WHITE: u8 = 225;
/// Share of a picture that is white at the least, and of its corners.
const SHARE: f32 = 0.55;
const CORNER_SHARE: f32 = 0.85;

/// Whether `picture` shows something on white: most of it is white, and its four corners (a quarter
/// of the shorter side) nearly all. A photograph in a white frame is not: too little of it is white.
pub fn is_on_white(picture: &RgbImage) -> bool {
    let (width, height) = picture.dimensions();
    let side = width.min(height) / 4;
    let corners = [
        (0, 0),
        (width - side, 0),
        (0, height - side),
        (width - side, height - side),
    ];
    let in_corners: f32 = corners
        .iter()
        .map(|&(x, y)| {
            white_share(
                picture
                    .view(x, y, side, side)
                    .pixels()
                    .map(|(_, _, pixel)| pixel),
            )
        })
        .sum();
    white_share(picture.pixels().copied()) >= SHARE && in_corners / 4.0 >= CORNER_SHARE
}

fn white_share(pixels: impl Iterator<Item = Rgb<u8>>) -> f32 {
    let (mut white, mut all) = (0u32, 0u32);
    for pixel in pixels {
        all += 1;
        white += u32::from(pixel.0.iter().all(|&channel| channel >= WHITE));
    }
    white as f32 / all.max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dark rectangle on white that leaves `margin` of each side.
    fn rectangle(margin: f32) -> RgbImage {
        let (width, height) = (200, 100);
        let inside = |position: u32, side: u32| {
            let position = position as f32 / side as f32;
            (margin..1.0 - margin).contains(&position)
        };
        RgbImage::from_fn(width, height, |x, y| {
            match inside(x, width) && inside(y, height) {
                true => Rgb([40, 30, 60]),
                false => Rgb([250, 252, 249]),
            }
        })
    }

    #[test]
    fn a_thing_on_white_is_told_from_a_framed_scene() {
        assert!(is_on_white(&rectangle(0.25)));
        assert!(!is_on_white(&rectangle(0.1)));
        assert!(!is_on_white(&RgbImage::from_pixel(
            50,
            50,
            Rgb([200, 255, 255])
        )));
    }

    #[test]
    fn the_smallest_picture_is_no_trouble() {
        assert!(!is_on_white(&RgbImage::new(1, 1)));
    }
}
