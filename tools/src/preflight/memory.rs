//! How much memory a run will take, before it takes it.

use munit::Direction;
use munit::config::{Architecture, DiscriminatorConfig, Domain, Family, GeneratorConfig};
use munit::layout::expected_weights;
use munit::runtime::free_memory;
use serde::Serialize;
use tch::Device;

use crate::config::{TrainConfig, TrainingPrecision};
use crate::ranks::Ranks;

/// What libtorch takes for maps, in multiples of those that a backward pass needs: the maps
/// themselves, their gradients, copies in other layouts, workspace. Measured, see the tests.
const OVERHEAD: f64 = 1.3;
/// Copies of the generators' weights: the weights, their gradients, Adam's two moments, the moving
/// average, and two that come and go.
const GENERATOR_COPIES: f64 = 7.0;
/// The same without the moving average.
const DISCRIMINATOR_COPIES: f64 = 5.0;
/// Program and libraries without any network.
const PROGRAM_ON_CPU: f64 = 150e6;
/// The CUDA context, and the workspace of its libraries.
const PROGRAM_ON_CUDA: f64 = 800e6;
/// Values that VGG-16 computes for each pixel up to its fifth stage, kept before and after their
/// activations.
const VGG_VALUES: f64 = 2.0 * 270.0;
/// Share of the free memory that a run may take.
const USABLE: f64 = 0.9;

/// How much memory a run will take, and how much there is.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryEstimate {
    /// `cpu` or `cuda`.
    pub device: &'static str,
    /// Bytes that the run takes at its peak, within a fifth or so.
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
    /// the memory of the computer; of several `ranks`, for each.
    pub fn new(config: &TrainConfig, device: Device, kept_pictures: u64, ranks: &Ranks) -> Self {
        let own = TrainConfig {
            batch_size: config.batch_size / ranks.count(),
            ..config.clone()
        };
        let free = free_memory(device).map(|free| free / ranks.sharing(device) as u64);
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

/// Bytes that a run takes at its peak, in the generators' update.
fn needed(config: &TrainConfig, device: Device) -> u64 {
    let architecture = config.architecture();
    let generators: f64 = expected_weights(&architecture, &Direction::ALL)
        .values()
        .map(|shape| shape.iter().product::<i64>() as f64)
        .sum();
    let discriminators = 2.0 * discriminator_weights(&config.discriminator);
    let weights = 4.0 * (GENERATOR_COPIES * generators + DISCRIMINATOR_COPIES * discriminators);
    let bytes_of_value = match config.precision.resolve(device) {
        TrainingPrecision::Bf16 | TrainingPrecision::Fp16 => 2.0,
        TrainingPrecision::Fp32 | TrainingPrecision::Auto => 4.0,
    };
    let maps = OVERHEAD * bytes_of_value * config.batch_size as f64 * kept_values(config);
    let program = match device {
        Device::Cpu => PROGRAM_ON_CPU,
        _ => PROGRAM_ON_CUDA,
    };
    (program + weights + maps) as u64
}

/// Values of the maps that the generators' update keeps for its backward pass, for one picture of
/// each domain.
fn kept_values(config: &TrainConfig) -> f64 {
    let area = (config.crop_image_height * config.crop_image_width) as f64;
    let architecture = config.architecture();
    let one_if = |wanted: bool| if wanted { 1.0 } else { 0.0 };
    let has_style = architecture.family == Family::Munit;
    let consistency = one_if(config.consistency_w > 0.0);
    let decodings = 2.0
        + one_if(config.cycle_weight() > 0.0)
        + 0.5 * one_if(has_style && config.diversity_w > 0.0)
        + consistency;
    let networks: f64 = Domain::ALL
        .iter()
        .map(|&domain| {
            let channels = architecture.channels(domain) as f64;
            let style = match architecture.family {
                Family::Munit => style_encoder(&config.generator, channels, area),
                Family::Unit => 0.0,
            };
            (2.0 + consistency) * content_encoder(&architecture, channels, area)
                + 2.0 * style
                + decodings * decoder(&architecture, channels, area)
                + discriminator(&config.discriminator, channels, area)
        })
        .sum();
    let perceptual = if config.vgg_w > 0.0 {
        4.0 * VGG_VALUES * area
    } else {
        0.0
    };
    networks + perceptual
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

    /// Peaks of real runs of two iterations on a CPU, in MiB.
    #[test]
    fn the_estimate_is_that_of_real_runs() {
        let cycle = TrainConfig {
            recon_x_cyc_w: Some(10.0),
            ..config(256, 16, 1)
        };
        let unit = TrainConfig {
            trainer: crate::config::TrainerKind::Unit,
            ..config(256, 16, 1)
        };
        let bf16 = TrainConfig {
            precision: TrainingPrecision::Bf16,
            ..config(256, 16, 1)
        };
        for (config, measured) in [
            (config(64, 4, 1), 179.0),
            (config(128, 16, 1), 394.0),
            (config(128, 16, 4), 819.0),
            (config(256, 16, 1), 813.0),
            (cycle, 945.0),
            (unit, 849.0),
            (config(256, 32, 1), 1611.0),
            (config(128, 64, 1), 1937.0),
            (bf16, 545.0),
        ] {
            let estimate = needed(&config, Device::Cpu) as f64 / 1048576.0;
            let ratio = estimate / measured;
            assert!((0.8..1.2).contains(&ratio), "{estimate} for {measured}");
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
    fn kept_pictures_count_where_they_are_kept() {
        let config = config(64, 16, 1);
        let needed = |device| MemoryEstimate::with_free(&config, device, 1 << 30, None).needed;
        assert!(needed(Device::Cpu) > 1 << 30);
        assert!(needed(Device::Cuda(0)) < 1 << 30);
    }
}
