//! How much memory a run will take, before it takes it.

use munit::Direction;
use munit::config::{Architecture, DiscriminatorConfig, Domain, Family, GeneratorConfig, Norm};
use munit::layout::expected_weights;
use serde::Serialize;
use tch::Device;

use crate::config::{TrainConfig, TrainingPrecision};
use crate::ranks::Ranks;

/// What libtorch takes for maps, in multiples of those that a backward pass needs: the maps
/// themselves, their gradients, copies in other layouts, workspace. Measured, see the tests.
const OVERHEAD: f64 = 1.4;
/// The same for maps of 16 bits: losses, norms and pictures are computed in float32.
const HALF_OVERHEAD: f64 = 1.55;
/// The same for the maps of R1, which is differentiated twice, in float32.
const PENALTY_OVERHEAD: f64 = 3.5;
/// Copies of the generators' weights: the weights, their gradients, Adam's two moments, the moving
/// average, and two that come and go.
const GENERATOR_COPIES: f64 = 7.0;
/// The same without the moving average.
const DISCRIMINATOR_COPIES: f64 = 5.0;
/// More of them where weights are divided by their spectral norm: what is divided, its copy in the maps'
/// format, and their gradients.
const SPECTRAL_COPIES: f64 = 3.0;
/// More while R1 is differentiated, without and with spectral norm.
const PENALTY_COPIES: [f64; 2] = [1.0, 2.0];
/// Program and libraries without any network.
const PROGRAM_ON_CPU: f64 = 190e6;
/// What libtorch's kernels for maps of 16 bits take beside them.
const HALF_WORKSPACE: f64 = 32e6;
/// The CUDA context, and the workspace of its libraries.
const PROGRAM_ON_CUDA: f64 = 800e6;
/// Values that VGG-16 computes for each pixel up to its fifth stage, kept before and after their
/// activations.
const VGG_VALUES: f64 = 2.0 * 270.0;
/// Weights of its convolutions.
const VGG_WEIGHTS: f64 = 14.7e6;
/// Share of the free memory that a run may take.
const USABLE: f64 = 0.9;

/// How much memory a run will take, and how much there is.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryEstimate {
    /// `cpu` or `cuda`.
    pub device: &'static str,
    /// Bytes that the run takes at its peak: up to a quarter more than real runs took.
    pub needed: u64,
    /// Bytes that can be had; `None` where nobody says.
    pub free: Option<u64>,
    /// Whether it fits.
    pub fits: bool,
    /// What to change if it does not fit, or what there is room for.
    pub advice: Option<String>,
}

impl MemoryEstimate {
    /// For a run of `config` on `device`, whose loader keeps `kept_pictures` bytes of pictures in
    /// the memory of the computer; of several `ranks`, for each. `free` is what the device had free before
    /// the run took anything.
    pub fn new(
        config: &TrainConfig,
        device: Device,
        kept_pictures: u64,
        free: Option<u64>,
        ranks: &Ranks,
    ) -> Self {
        let own = TrainConfig {
            batch_size: config.batch_size / ranks.count(),
            ..config.clone()
        };
        let free = free.map(|free| free / ranks.sharing(device) as u64);
        Self::with_free(&own, device, kept_pictures, free)
    }

    fn with_free(
        config: &TrainConfig,
        device: Device,
        kept_pictures: u64,
        free: Option<u64>,
    ) -> Self {
        let pictures = if device == Device::Cpu {
            kept_pictures
        } else {
            0
        };
        let needed = |config: &TrainConfig| needed(config, device) + pictures;
        let fits_in = |config: &TrainConfig| {
            free.is_none_or(|free| needed(config) as f64 <= USABLE * free as f64)
        };
        let fits = fits_in(config);
        let advice = if !fits {
            smaller(config, fits_in)
        } else if device != Device::Cpu && free.is_some() {
            larger(config, fits_in)
        } else {
            None
        };
        Self {
            device: if device == Device::Cpu { "cpu" } else { "cuda" },
            needed: needed(config),
            free,
            fits,
            advice,
        }
    }

    /// For example `about 1.2 GB of 19.0 GB that are free`.
    pub fn sentence(&self) -> String {
        let needed = format!("about {}", gigabytes(self.needed));
        let free = match self.free {
            Some(free) if self.fits => format!(" of {} that are free", gigabytes(free)),
            Some(free) => format!(", but only {} are free", gigabytes(free)),
            None => String::new(),
        };
        let advice = self.advice.as_ref().map(|advice| format!("; {advice}"));
        format!("{needed}{free}{}", advice.unwrap_or_default())
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// The change that costs least: fewer pictures at once, then smaller ones, then a smaller network.
fn smaller(config: &TrainConfig, fits: impl Fn(&TrainConfig) -> bool) -> Option<String> {
    let mut smaller = config.clone();
    while smaller.batch_size > 1 {
        smaller.batch_size /= 2;
        if fits(&smaller) {
            return Some(format!("--batch-size {} fits", smaller.batch_size));
        }
    }
    let with_batch = |what: String| match config.batch_size {
        1 => what,
        _ => format!("--batch-size 1 {what}"),
    };
    let side = config.crop_image_height.max(config.crop_image_width);
    for size in [512, 384, 256, 192, 128]
        .into_iter()
        .filter(|&size| size < side)
    {
        (smaller.crop_image_height, smaller.crop_image_width) = (size, size);
        if fits(&smaller) {
            return Some(with_batch(format!("--size {size} fits")));
        }
    }
    (smaller.crop_image_height, smaller.crop_image_width) =
        (config.crop_image_height, config.crop_image_width);
    while smaller.generator.dim > 8 {
        smaller.generator.dim /= 2;
        smaller.discriminator.dim = smaller.generator.dim;
        if fits(&smaller) {
            return Some(with_batch(format!("--dim {} fits", smaller.generator.dim)));
        }
    }
    None
}

/// A larger batch keeps a GPU busier; a processor is busy with one picture.
fn larger(config: &TrainConfig, fits: impl Fn(&TrainConfig) -> bool) -> Option<String> {
    let mut larger = config.clone();
    let mut best = None;
    while larger.batch_size < 64 {
        larger.batch_size *= 2;
        if !fits(&larger) {
            break;
        }
        best = Some(format!(
            "there is room for --batch-size {}",
            larger.batch_size
        ));
    }
    best
}

/// Bytes that a run takes at its peak, in the larger of its two updates.
fn needed(config: &TrainConfig, device: Device) -> u64 {
    let generators = generator_weights(config);
    let discriminators = discriminator_weights_of_both(config);
    let is_spectral = config.discriminator.norm == Norm::Spectral;
    let discriminator_copies = DISCRIMINATOR_COPIES + SPECTRAL_COPIES * one_if(is_spectral);
    let perceptual = VGG_WEIGHTS * one_if(config.perceptual_terms().next().is_some());
    let weights =
        4.0 * (GENERATOR_COPIES * generators + discriminator_copies * discriminators + perceptual);
    let (bytes_of_value, workspace) = match config.precision.resolve(device) {
        TrainingPrecision::Bf16 | TrainingPrecision::Fp16 => (2.0 * HALF_OVERHEAD, HALF_WORKSPACE),
        TrainingPrecision::Fp32 | TrainingPrecision::Auto => (4.0 * OVERHEAD, 0.0),
    };
    let batch = config.batch_size as f64;
    let kept = KeptValues::new(config);
    let penalty = match config.r1_w > 0.0 {
        true => {
            let copies = PENALTY_COPIES[usize::from(is_spectral)];
            4.0 * (copies * discriminators + PENALTY_OVERHEAD * batch * kept.discriminators)
        }
        false => 0.0,
    };
    let generators_update = bytes_of_value * batch * kept.generators_update;
    let discriminators_update = bytes_of_value * batch * kept.discriminators_update + penalty;
    let program = match device {
        Device::Cpu => PROGRAM_ON_CPU,
        _ => PROGRAM_ON_CUDA,
    };
    (program + workspace + weights + generators_update.max(discriminators_update)) as u64
}

fn one_if(wanted: bool) -> f64 {
    if wanted { 1.0 } else { 0.0 }
}

/// Values of the maps that are kept for backward passes, for one picture of each domain.
struct KeptValues {
    generators_update: f64,
    /// Real and translated pictures in the discriminators, and what the generators' update will want.
    discriminators_update: f64,
    /// Of one pass through each discriminator.
    discriminators: f64,
}

impl KeptValues {
    fn new(config: &TrainConfig) -> Self {
        let area = (config.crop_image_height * config.crop_image_width) as f64;
        let architecture = config.architecture();
        let has_style = architecture.family == Family::Munit;
        let consistency = one_if(config.consistency_w > 0.0);
        let first_decodings = 2.0 + 0.5 * one_if(has_style && config.diversity_w > 0.0);
        let decodings = first_decodings + one_if(config.cycle_weight() > 0.0) + consistency;
        let shared = one_if(config.share_translations);
        let mut values = Self {
            generators_update: 0.0,
            discriminators_update: 0.0,
            discriminators: 0.0,
        };
        for domain in Domain::ALL {
            let channels = architecture.channels(domain) as f64;
            let style = match has_style {
                true => style_encoder(&config.generator, channels, area),
                false => 0.0,
            };
            let content = content_encoder(&architecture, channels, area);
            let decoder = decoder(&architecture, channels, area);
            let discriminator = discriminator(&config.discriminator, channels, area);
            values.generators_update +=
                (2.0 + consistency) * content + 2.0 * style + decodings * decoder + discriminator;
            values.discriminators_update +=
                content + shared * (style + first_decodings * decoder) + 2.0 * discriminator;
            values.discriminators += discriminator;
        }
        // Each of these terms keeps maps of its own.
        let terms = config.perceptual_terms().count() as f64;
        values.generators_update += 4.0 * terms * VGG_VALUES * area;
        values
    }
}

// Each convolution keeps its padded input, each norm its own, and each activation its output.

fn content_encoder(architecture: &Architecture, channels: f64, mut area: f64) -> f64 {
    let config = &architecture.generator;
    let mut width = config.dim as f64;
    let mut values = (channels + 2.0 * width) * area;
    for _ in 0..config.n_downsample {
        values += width * area;
        (width, area) = (2.0 * width, area / 4.0);
        values += 2.0 * width * area;
    }
    values + residual_blocks(config, width * area)
}

fn style_encoder(config: &GeneratorConfig, channels: f64, mut area: f64) -> f64 {
    let mut width = config.dim as f64;
    let mut values = (channels + width) * area;
    for index in 0..4 {
        values += width * area;
        width *= if index < 2 { 2.0 } else { 1.0 };
        area /= 4.0;
        values += width * area;
    }
    values
}

fn decoder(architecture: &Architecture, channels: f64, area: f64) -> f64 {
    let config = &architecture.generator;
    let mut width = architecture.content_channels() as f64;
    let stride = architecture.stride() as f64;
    let mut map_area = area / (stride * stride);
    let mut values = residual_blocks(config, width * map_area);
    for _ in 0..config.n_downsample {
        map_area *= 4.0;
        values += width * map_area;
        width /= 2.0;
        values += 3.0 * width * map_area;
    }
    values + (width + 2.0 * channels) * area
}

fn residual_blocks(config: &GeneratorConfig, map: f64) -> f64 {
    5.0 * config.n_res as f64 * map
}

fn discriminator(config: &DiscriminatorConfig, channels: f64, area: f64) -> f64 {
    let scale = |scale: i64| {
        let mut area = area / 4f64.powi(scale as i32);
        let mut values = channels * area;
        for layer in 0..config.n_layer {
            area /= 4.0;
            values += 3.0 * discriminator_width(config, layer) * area;
        }
        values
    };
    (0..config.num_scales).map(scale).sum()
}

/// Numbers in the generators of both domains.
pub(super) fn generator_weights(config: &TrainConfig) -> f64 {
    expected_weights(&config.architecture(), &Direction::ALL)
        .values()
        .map(|shape| shape.iter().product::<i64>() as f64)
        .sum()
}

/// Numbers in the discriminators of both domains, but for those of their first and last layers, which are few.
pub(super) fn discriminator_weights_of_both(config: &TrainConfig) -> f64 {
    2.0 * discriminator_weights(&config.discriminator)
}

fn discriminator_weights(config: &DiscriminatorConfig) -> f64 {
    let inner = (1..config.n_layer).map(|layer| {
        discriminator_width(config, layer - 1) * discriminator_width(config, layer) * 16.0
    });
    config.num_scales as f64 * inner.sum::<f64>()
}

fn discriminator_width(config: &DiscriminatorConfig, layer: i64) -> f64 {
    config.dim as f64 * 2f64.powi(layer as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainerKind;
    use crate::recipe::Recipe;

    fn config(size: usize, dim: i64, batch_size: usize) -> TrainConfig {
        let mut config = TrainConfig {
            crop_image_height: size,
            crop_image_width: size,
            batch_size,
            ..TrainConfig::default()
        };
        config.generator.dim = dim;
        config.discriminator.dim = dim;
        config
    }

    /// In recipe `modern`, with these networks, in bfloat16.
    fn modern(size: usize, dim: i64, batch_size: usize) -> TrainConfig {
        let mut config = TrainConfig {
            crop_image_height: size,
            crop_image_width: size,
            batch_size,
            precision: TrainingPrecision::Bf16,
            ..TrainConfig::of_recipe(Recipe::Modern)
        };
        config.generator.dim = dim;
        config.discriminator.dim = dim;
        config
    }

    /// With discriminators of another width, with R1 of this weight.
    fn judged(mut config: TrainConfig, dim: i64, r1_w: f64) -> TrainConfig {
        config.discriminator.dim = dim;
        TrainConfig { r1_w, ..config }
    }

    /// Peaks of real runs on a CPU with AMX and two threads, in MiB (VmHWM of a debug build at its end), of
    /// at least two iterations, the first of which has R1 where it is on.
    #[test]
    fn the_estimate_is_that_of_real_runs() {
        let cycle = TrainConfig {
            recon_x_cyc_w: Some(10.0),
            ..config(256, 16, 1)
        };
        let unit = TrainConfig {
            trainer: TrainerKind::Unit,
            ..config(256, 16, 1)
        };
        let bf16 = TrainConfig {
            precision: TrainingPrecision::Bf16,
            ..config(256, 16, 1)
        };
        let modern_unit = TrainConfig {
            trainer: TrainerKind::Unit,
            ..modern(128, 16, 2)
        };
        let consistency = TrainConfig {
            consistency_w: 5.0,
            ..modern(128, 16, 2)
        };
        let fp32 = |config| TrainConfig {
            precision: TrainingPrecision::Fp32,
            ..config
        };
        for (config, measured) in [
            (config(64, 4, 1), 179.0),
            (config(128, 16, 1), 394.0),
            (config(128, 16, 4), 819.0),
            (config(192, 16, 4), 1666.0),
            (config(256, 16, 1), 813.0),
            (cycle, 945.0),
            (unit, 849.0),
            (config(256, 32, 1), 1611.0),
            (config(128, 64, 1), 1937.0),
            (bf16, 545.0),
            (modern(64, 4, 1), 215.0),
            (modern(64, 16, 1), 316.0),
            (modern(64, 16, 2), 332.0),
            (modern(64, 16, 4), 383.0),
            (modern(128, 16, 1), 395.0),
            (modern(128, 16, 2), 496.0),
            (modern(128, 16, 4), 712.0),
            (modern(192, 16, 1), 557.0),
            (modern(192, 16, 2), 786.0),
            (modern(192, 16, 4), 1296.0),
            (modern(256, 16, 1), 757.0),
            (modern(128, 8, 4), 484.0),
            (modern(128, 32, 2), 924.0),
            (modern(128, 64, 1), 1877.0),
            (modern_unit, 447.0),
            (consistency, 550.0),
            (fp32(modern(128, 16, 1)), 482.0),
            (fp32(modern(192, 16, 4)), 2167.0),
            // Discriminators so wide that R1 decides.
            (judged(modern(128, 8, 2), 64, 10.0), 1115.0),
            (judged(modern(128, 8, 2), 64, 0.0), 883.0),
            (judged(config(128, 8, 2), 64, 10.0), 799.0),
            (judged(config(128, 8, 2), 64, 0.0), 764.0),
            (judged(modern(256, 8, 1), 32, 10.0), 674.0),
        ] {
            let estimate = needed(&config, Device::Cpu) as f64 / 1048576.0;
            let ratio = estimate / measured;
            assert!((0.94..1.25).contains(&ratio), "{estimate} for {measured}");
        }
    }

    #[test]
    fn what_does_not_fit_gets_the_change_that_costs_least() {
        let advice = |config: &TrainConfig, free: u64| {
            let estimate = MemoryEstimate::with_free(config, Device::Cpu, 0, Some(free));
            assert!(!estimate.fits);
            estimate.sentence()
        };
        let text = advice(&config(256, 64, 8), 12_000_000_000);
        assert!(
            text.contains("but only 12.0 GB are free; --batch-size 2 fits"),
            "{text}"
        );
        let text = advice(&config(1024, 64, 2), 12_000_000_000);
        assert!(text.ends_with("--batch-size 1 --size 384 fits"), "{text}");
        let text = advice(&config(128, 64, 1), 1_000_000_000);
        assert!(text.ends_with("--dim 32 fits"), "{text}");
        let text = advice(&config(128, 64, 1), 1_000);
        assert!(text.ends_with("are free"), "{text}");
    }

    #[test]
    fn a_gpu_is_told_what_it_has_room_for() {
        let config = config(256, 64, 1);
        let gpu = |free| MemoryEstimate::with_free(&config, Device::Cuda(0), 0, free).sentence();
        let text = gpu(Some(20_000_000_000));
        assert!(
            text.ends_with("of 20.0 GB that are free; there is room for --batch-size 4"),
            "{text}"
        );
        assert!(!gpu(None).contains("free"));
    }

    #[test]
    fn each_perceptual_term_counts() {
        let needed = |vgg_w, vgg_style_w, vgg_paired_w| {
            let config = TrainConfig {
                vgg_w,
                vgg_style_w,
                vgg_paired_w,
                ..config(256, 16, 4)
            };
            MemoryEstimate::with_free(&config, Device::Cpu, 0, None).needed
        };
        let none = needed(0.0, 0.0, 0.0);
        let one = needed(1.0, 0.0, 0.0) - none;
        assert!(one > 100_000_000, "{one}");
        for terms in [needed(0.0, 1.0, 0.0), needed(0.0, 0.0, 1.0)] {
            assert_eq!(terms - none, one);
        }
        let all = needed(1.0, 1.0, 1.0) - none;
        assert!(
            (2.5..3.5).contains(&(all as f64 / one as f64)),
            "{all} {one}"
        );
    }

    #[test]
    fn kept_pictures_count_where_they_are_kept() {
        let config = config(64, 16, 1);
        let needed = |device| MemoryEstimate::with_free(&config, device, 1 << 30, None).needed;
        assert!(needed(Device::Cpu) > 1 << 30);
        assert!(needed(Device::Cuda(0)) < 1 << 30);
    }
}
