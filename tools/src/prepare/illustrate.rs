//! Printed illustrations from photographs: a few tones, flat, washed or engraved, and ink contours on
//! top.
//!
//! Palette (shades of neighbouring hues, a poster's strong colours, a woodcut, a blueprint), texture and
//! weight of line follow from a seed. All lengths follow the picture's shorter side, so that a print
//! looks the same at any resolution.
//!
//! Every mark follows from what the photograph shows around it. Screens of dots or strokes on a fixed
//! grid would not: a convolutional generator knows no coordinates, so that it could not learn them,
//! and in a video they would stand still while things move.

use std::f32::consts::TAU;

use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::filters::{Plane, smoothstep};

/// The shorter side, in pixels, at which the lengths below are given.
const REFERENCE_SIDE: f32 = 160.0;

/// The look of one print.
#[derive(Clone, Debug, PartialEq)]
pub struct PrintStyle {
    /// Linear RGB of each tone from the darkest to the lightest, 3 to 6 of them.
    pub tones: Vec<[f32; 3]>,
    /// Linear RGB of the contours and of what the texture adds: darker than all tones, or lighter.
    pub ink: [f32; 3],
    /// How tones meet.
    pub texture: Texture,
    /// Deviation of the finer Gaussian of the contours, in pixels at a shorter side of 160.
    pub line_sigma: f32,
    /// How readily a contour is drawn, about 0.8 (few) to 1.2 (many); 0 draws none.
    pub line_gain: f32,
}

/// How the tones of a print meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Texture {
    /// Flat areas with sharp borders.
    Flat,
    /// Tones that run into one another, darker towards the borders of things, where water takes its
    /// pigment.
    Wash,
    /// Flat areas, and strokes along lines of equal tone, which are the broader the darker it is.
    Engraving,
}

impl PrintStyle {
    /// The style that belongs to `seed`.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (tones, ink) = match random.random_range(0..8) {
            0..=2 => shades(&mut random),
            3..=5 => poster(&mut random),
            6 => woodcut(&mut random),
            _ => blueprint(&mut random),
        };
        let ink_is_darkest = luminance(ink) < luminance(tones[0]);
        let texture = match random.random_range(0..5) {
            // What a light ink adds would turn shadows into lights.
            _ if !ink_is_darkest => Texture::Flat,
            0..=2 => Texture::Flat,
            3 => Texture::Wash,
            _ => Texture::Engraving,
        };
        // Tones alone carry a poster or a wash, but neither strokes nor a print of three tones.
        let without_lines = ink_is_darkest && tones.len() > 3 && texture != Texture::Engraving;
        Self {
            tones,
            ink,
            texture,
            line_sigma: random.random_range(0.6..1.6),
            line_gain: if without_lines && random.random_range(0..4) == 0 {
                0.0
            } else {
                random.random_range(0.85..1.2)
            },
        }
    }
}

/// Deviations of the luma, to either side of its mean, over which the tones are spread.
const RANGE: f32 = 1.7;

/// Tones and ink, linear RGB.
type Palette = (Vec<[f32; 3]>, [f32; 3]);

/// A hue whose darks do not look like mud, as those of yellows do.
fn dark_hue(random: &mut ChaCha8Rng) -> f32 {
    random.random_range(2.3..0.95 + TAU)
}

fn side(random: &mut ChaCha8Rng) -> f32 {
    if random.random() { 1.0 } else { -1.0 }
}

/// `count` tones, each of them by its place from the darkest (0) to the lightest (1).
fn tones(count: usize, tone: impl Fn(f32) -> [f32; 3]) -> Vec<[f32; 3]> {
    let place = |i: usize| i as f32 / (count - 1) as f32;
    (0..count).map(|i| tone(place(i))).collect()
}

/// Neighbouring hues from a deep one to tinted paper.
fn shades(random: &mut ChaCha8Rng) -> Palette {
    let hue = dark_hue(random);
    let count = random.random_range(4..=6);
    let span = side(random) * random.random_range(0.35..1.25);
    let darkest = random.random_range(0.34..0.44);
    let colourfulness = random.random_range(0.14..0.21);
    let tones = tones(count, |t| {
        let lightness = darkest + (0.96 - darkest) * t.powf(0.9);
        // Saturation falls from the darks to the paper.
        let chroma = colourfulness * (1.0 - t.powf(1.6)) + 0.035 * t;
        oklch(lightness, chroma, hue + span * t)
    });
    (tones, oklch(0.22, 0.07, hue))
}

/// Strong colours that walk through about half of the colour circle.
fn poster(random: &mut ChaCha8Rng) -> Palette {
    let hue = dark_hue(random);
    let count = random.random_range(4..=6);
    let span = side(random) * random.random_range(1.7..3.1);
    let darkest = random.random_range(0.27..0.36);
    let colourfulness = random.random_range(0.13..0.18);
    let tones = tones(count, |t| {
        let lightness = darkest + (0.94 - darkest) * t.powf(0.85);
        let chroma = colourfulness * (1.0 - 0.6 * (2.0 * t - 0.9).powi(2)) - 0.02 * t;
        oklch(lightness, chroma, hue + span * t)
    });
    (tones, oklch(0.17, 0.05, hue))
}

/// Black and paper, and one colour between them.
fn woodcut(random: &mut ChaCha8Rng) -> Palette {
    let hue = random.random_range(0.0..TAU);
    let paper = random.random_range(0.0..TAU);
    let middle = random.random_range(0.58..0.72);
    let colourfulness = random.random_range(0.12..0.19);
    let tones = vec![
        oklch(0.2, 0.03, hue),
        oklch(middle, colourfulness, hue),
        oklch(0.96, 0.03, paper),
    ];
    (tones, oklch(0.16, 0.03, hue))
}

/// Light lines on deep colours.
fn blueprint(random: &mut ChaCha8Rng) -> Palette {
    let hue = dark_hue(random);
    let span = side(random) * random.random_range(0.2..0.8);
    let darkest = random.random_range(0.22..0.28);
    let lightest = random.random_range(0.5..0.58);
    let colourfulness = random.random_range(0.09..0.14);
    let tones = tones(4, |t| {
        let lightness = darkest + (lightest - darkest) * t;
        oklch(lightness, colourfulness, hue + span * t)
    });
    (tones, oklch(0.95, 0.03, hue + 2.0 * span))
}

/// Of a linear RGB colour (BT.709), 0 to 1.
fn luminance([r, g, b]: [f32; 3]) -> f32 {
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// Prints `picture` in `style`, at its size.
pub fn illustrate(picture: &RgbImage, style: &PrintStyle) -> RgbImage {
    let shorter = picture.width().min(picture.height()) as f32;
    let unit = (shorter / REFERENCE_SIDE).max(0.25);
    let luma = standardised(&Plane::luma(picture));
    let smooth = luma.bilateral(2.0 * unit, 0.12);
    let contours = contours(&smooth, style, unit);
    let tone = smooth.bilateral(2.5 * unit, 0.15).gaussian(0.5 * unit);
    let slope = {
        let [dx, dy] = tone.gradient();
        Plane::from_fn(tone.width(), tone.height(), |x, y| {
            dx.at(x, y).hypot(dy.at(x, y))
        })
    };
    let pigment = match style.texture {
        Texture::Wash => {
            let around = tone.gaussian(3.0 * unit);
            Plane::from_fn(tone.width(), tone.height(), |x, y| {
                0.4 * smoothstep(0.015, 0.12, (tone.at(x, y) - around.at(x, y)).abs())
            })
        }
        Texture::Engraving => Plane::from_fn(tone.width(), tone.height(), |x, y| {
            0.85 * stroke(tone.at(x, y), slope.at(x, y), unit)
        }),
        Texture::Flat => Plane::from_fn(tone.width(), tone.height(), |_, _| 0.0),
    };
    let softest = match style.texture {
        Texture::Wash => 0.8 / style.tones.len() as f32,
        Texture::Flat | Texture::Engraving => 0.004,
    };
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let (column, row) = (x as usize, y as usize);
        let softness = slope.at(column, row).max(softest);
        let colour = tone_colour(&style.tones, tone.at(column, row), softness);
        let textured = mix(colour, style.ink, pigment.at(column, row));
        Rgb(encode(mix(textured, style.ink, contours.at(column, row))))
    })
}

/// The plane with its mean moved to one half and [`RANGE`] deviations to either side of it to 0 and 1, and
/// what lies beyond cut off. That is what instance norm knows of a picture: by percentiles, say, a
/// generator could only guess where one tone ends and the next begins, and would paint neither.
fn standardised(plane: &Plane) -> Plane {
    let (mean, deviation) = plane.moments();
    // A picture of one tone has no range to stretch.
    let range = 2.0 * RANGE * deviation.max(0.03);
    plane.map(|value| ((value - mean) / range + 0.5).clamp(0.0, 1.0))
}

/// The colour of a tone value 0 to 1. A border between two tones takes a range of `softness` values:
/// the tone's change per pixel makes it one pixel wide.
fn tone_colour(tones: &[[f32; 3]], value: f32, softness: f32) -> [f32; 3] {
    let count = tones.len() as f32;
    let mut colour = tones[0];
    for (i, &lighter) in tones.iter().enumerate().skip(1) {
        let border = i as f32 / count;
        colour = mix(
            colour,
            lighter,
            ((value - border) / softness + 0.5).clamp(0.0, 1.0),
        );
    }
    colour
}

/// How much of a pixel the strokes of an engraving cover, 0 to 1. They lie along lines of equal tone
/// in all but the lights; `slope`, the tone's change per pixel, turns a difference of tones into a
/// distance. Lengths are those of a shorter side of 160, of which `unit` pixels make one.
fn stroke(tone: f32, slope: f32, unit: f32) -> f32 {
    const STEP: f32 = 1.0 / 12.0;
    let depth = 1.0 - smoothstep(0.3, 0.75, tone);
    let to_line = (tone / STEP - (tone / STEP).round()).abs() * STEP;
    // Where the tone hardly changes, there is no line to follow.
    let distance = to_line / slope.max(0.006 / unit);
    ((0.9 * depth * unit - distance) + 0.5).clamp(0.0, 1.0) * smoothstep(0.0, 0.2, depth)
}

/// Ink contours, 0 to 1: the extended difference of Gaussians with a soft threshold
/// (Winnemöller 2011).
fn contours(luma: &Plane, style: &PrintStyle, unit: f32) -> Plane {
    let sigma = style.line_sigma * unit;
    let (fine, coarse) = (luma.gaussian(sigma), luma.gaussian(1.6 * sigma));
    let ink = Plane::from_fn(luma.width(), luma.height(), |x, y| {
        let darker = (coarse.at(x, y) - fine.at(x, y)) * style.line_gain;
        smoothstep(0.007, 0.022, darker)
    });
    ink.without_specks(0.05, (10.0 * unit * unit) as usize)
}

/// The linear RGB of a colour in Oklch (Ottosson 2020): lightness 0 to 1, chroma, hue in radians.
/// Chroma is lowered until the colour can be shown.
fn oklch(lightness: f32, chroma: f32, hue: f32) -> [f32; 3] {
    let shown = |chroma: f32| {
        let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
        let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
        let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
        let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
        [
            4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
            -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
            -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
        ]
    };
    let mut chroma = chroma;
    let mut colour = shown(chroma);
    while chroma > 0.0 && colour.iter().any(|v| !(-0.001..=1.001).contains(v)) {
        chroma -= 0.005;
        colour = shown(chroma.max(0.0));
    }
    colour.map(|v| v.clamp(0.0, 1.0))
}

fn mix(from: [f32; 3], to: [f32; 3], share: f32) -> [f32; 3] {
    [0, 1, 2].map(|k| from[k] + (to[k] - from[k]) * share)
}

/// 8-bit sRGB of a linear colour.
fn encode(linear: [f32; 3]) -> [u8; 3] {
    linear.map(|v| {
        let coded = if v <= 0.003_130_8 {
            12.92 * v
        } else {
            1.055 * v.powf(1.0 / 2.4) - 0.055
        };
        (255.0 * coded).round().clamp(0.0, 255.0) as u8
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A lit ball on a ground that grows lighter.
    fn photo() -> RgbImage {
        RgbImage::from_fn(180, 160, |x, y| {
            let (dx, dy) = (x as f32 - 90.0, y as f32 - 80.0);
            let value = if dx.hypot(dy) < 45.0 {
                (140.0 - 1.2 * (dx + dy)).clamp(0.0, 255.0) as u8
            } else {
                60 + x as u8
            };
            Rgb([value, value, value / 2])
        })
    }

    fn plain(seed: u64) -> PrintStyle {
        PrintStyle {
            texture: Texture::Flat,
            line_gain: 1.0,
            ..PrintStyle::from_seed(seed)
        }
    }

    fn mean(print: &RgbImage) -> [f32; 3] {
        let count = (print.width() * print.height()) as f32;
        [0, 1, 2].map(|k| print.pixels().map(|p| f32::from(p[k])).sum::<f32>() / count)
    }

    #[test]
    fn a_seed_gives_one_print() {
        let print = |seed| illustrate(&photo(), &PrintStyle::from_seed(seed));
        assert_eq!(print(3), print(3));
        assert_ne!(print(3), print(4));
    }

    #[test]
    fn seeds_give_all_textures_all_counts_of_tones_and_hues_all_around() {
        let (mut textures, mut counts, mut strongest) =
            (HashSet::new(), HashSet::new(), HashSet::new());
        for seed in 0..60 {
            let style = PrintStyle::from_seed(seed);
            textures.insert(style.texture);
            counts.insert(style.tones.len());
            let [r, g, b] = style.tones[1];
            strongest.insert(if r > g && r > b {
                'r'
            } else if g > b {
                'g'
            } else {
                'b'
            });
        }
        assert_eq!(textures.len(), 3);
        assert_eq!(counts, HashSet::from([3, 4, 5, 6]));
        assert_eq!(strongest.len(), 3);
    }

    #[test]
    fn tones_grow_lighter_and_the_ink_is_beyond_them() {
        let mut light_inks = 0;
        for seed in 0..80 {
            let style = PrintStyle::from_seed(seed);
            let tones = &style.tones;
            for pair in tones.windows(2) {
                assert!(luminance(pair[0]) < luminance(pair[1]), "seed {seed}");
            }
            let (darkest, paper) = (tones[0], tones[tones.len() - 1]);
            if luminance(style.ink) < luminance(darkest) {
                assert!(luminance(paper) > 0.6, "seed {seed}");
            } else {
                assert!(luminance(style.ink) > 2.0 * luminance(paper), "seed {seed}");
                assert_eq!(style.texture, Texture::Flat, "seed {seed}");
                light_inks += 1;
            }
        }
        assert!((3..25).contains(&light_inks), "{light_inks} of 80");
    }

    #[test]
    fn a_print_has_few_flat_colours_of_its_palette() {
        let style = plain(8);
        let print = illustrate(&photo(), &style);
        let palette: Vec<[u8; 3]> = style
            .tones
            .iter()
            .chain([&style.ink])
            .map(|&tone| encode(tone))
            .collect();
        let flat = print.pixels().filter(|p| palette.contains(&p.0)).count();
        let all = (print.width() * print.height()) as usize;
        assert!(flat * 10 > all * 8, "{flat} of {all} pixels");
        for tone in &palette[..palette.len() - 1] {
            assert!(print.pixels().any(|p| p.0 == *tone), "{tone:?} is missing");
        }
    }

    #[test]
    fn tones_are_spread_around_the_mean_by_deviations() {
        // Few lights on much dark: percentiles would put the mean elsewhere.
        let plane = Plane::from_fn(40, 25, |x, _| if x < 12 { 0.4 } else { 0.2 });
        for brighter in [0.0, 0.3] {
            let found = standardised(&plane.map(|value| 0.7 * value + brighter));
            let (mean, deviation) = found.moments();
            assert!((mean - 0.5).abs() < 1e-3, "{mean}");
            assert!((deviation - 0.5 / RANGE).abs() < 1e-3, "{deviation}");
        }
        let flat = standardised(&Plane::filled(8, 8, 0.7));
        assert!((flat.at(3, 3) - 0.5).abs() < 1e-3);
    }

    #[test]
    fn strokes_follow_the_tone_and_thin_towards_the_lights() {
        // Tones that change by 0.01 a pixel.
        let cover = |from: f32, to: f32| {
            let tones = (0..1000).map(|i| from + (to - from) * i as f32 / 1000.0);
            tones.map(|tone| stroke(tone, 0.01, 1.0)).sum::<f32>() / 1000.0
        };
        assert!(
            (0.15..0.6).contains(&cover(0.0, 0.25)),
            "{}",
            cover(0.0, 0.25)
        );
        assert!(cover(0.5, 0.75) < 0.5 * cover(0.0, 0.25));
        assert_eq!(cover(0.75, 1.0), 0.0);
        assert_eq!(stroke(0.125, 0.001, 1.0), 0.0);
    }

    #[test]
    fn a_wash_runs_from_tone_to_tone() {
        let colours = |texture| {
            let style = PrintStyle {
                texture,
                ..plain(8)
            };
            let print = illustrate(&photo(), &style);
            print.pixels().copied().collect::<HashSet<_>>().len()
        };
        assert!(colours(Texture::Wash) > 2 * colours(Texture::Flat));
    }

    #[test]
    fn what_moves_takes_its_print_along() {
        let ball = |left: f32| {
            RgbImage::from_fn(200, 160, |x, y| {
                let (dx, dy) = (x as f32 - left, y as f32 - 80.0);
                let lit = (150.0 - 2.0 * (dx + dy)).clamp(0.0, 255.0);
                Rgb([if dx.hypot(dy) < 30.0 { lit as u8 } else { 90 }; 3])
            })
        };
        for texture in [Texture::Flat, Texture::Wash, Texture::Engraving] {
            let style = PrintStyle {
                texture,
                ..plain(8)
            };
            let (before, after) = (
                illustrate(&ball(90.0), &style),
                illustrate(&ball(97.0), &style),
            );
            for (x, y) in (30..130).flat_map(|x| (30..130).map(move |y| (x, y))) {
                assert_eq!(
                    before.get_pixel(x, y),
                    after.get_pixel(x + 7, y),
                    "{texture:?} at {x},{y}"
                );
            }
        }
    }

    #[test]
    fn the_contour_of_a_shape_is_inked() {
        let photo = RgbImage::from_fn(160, 160, |x, _| Rgb([if x < 80 { 120 } else { 200 }; 3]));
        let style = plain(5);
        let print = illustrate(&photo, &style);
        let ink = encode(style.ink);
        assert!((74..82).any(|x| print.get_pixel(x, 80).0 == ink));
        assert!(
            (0..60)
                .chain(100..160)
                .all(|x| print.get_pixel(x, 80).0 != ink)
        );
    }

    #[test]
    fn the_look_does_not_depend_on_the_resolution() {
        let large =
            image::imageops::resize(&photo(), 540, 480, image::imageops::FilterType::CatmullRom);
        let style = PrintStyle::from_seed(2);
        let (small, large) = (
            mean(&illustrate(&photo(), &style)),
            mean(&illustrate(&large, &style)),
        );
        for k in 0..3 {
            assert!((small[k] - large[k]).abs() < 8.0, "{small:?} and {large:?}");
        }
    }

    #[test]
    fn tiny_and_flat_pictures_are_printed() {
        for (width, height) in [(0, 0), (1, 1), (1, 9), (2, 2), (64, 3)] {
            for value in [0, 128, 255] {
                let photo = RgbImage::from_pixel(width, height, Rgb([value; 3]));
                for seed in 0..6 {
                    let print = illustrate(&photo, &PrintStyle::from_seed(seed));
                    assert_eq!(print.dimensions(), (width, height));
                }
            }
        }
    }
}
