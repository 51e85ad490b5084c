//! What the programs share: data, losses, optimiser, trainer and reports.

pub mod adam;
pub mod augmentation;
pub mod backbone_import;
pub mod bench;
pub mod checkpoint;
pub mod config;
pub mod consistency;
pub mod data;
pub mod ema;
pub mod evaluate;
pub mod export;
pub mod gradient_penalty;
pub mod import;
pub mod info;
pub mod local_time;
pub mod losses;
pub mod model_name;
pub mod named_styles;
pub mod perceptual;
pub mod preflight;
pub mod prepare;
pub mod program;
pub mod random;
pub mod recipe;
pub mod report;
pub mod run;
pub mod samples;
pub mod style_sheet;
pub mod trainer;
pub mod translate;
pub mod video;

use bench::chart;
