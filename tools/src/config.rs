//! The configuration of a training run: the published YAML keys and a few of our own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use munit::config::{
    Architecture, DiscriminatorConfig, Domain, Family, GanType, GeneratorConfig, Norm,
};
use munit::model_file::{check_domain_name, check_text};
use munit::networks::Initialisation;
use munit::runtime::Precision;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::augmentation::Augmentation;
use crate::config_text;
use crate::data::Framing;
use crate::loss_names;
use crate::recipe::{Recipe, Task, overlaid};

/// Which update rule; key `trainer`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum TrainerKind {
    /// Content and style codes.
    #[default]
    #[serde(rename = "MUNIT", alias = "munit")]
    #[value(name = "MUNIT", alias = "munit")]
    Munit,
    /// A shared latent code.
    #[serde(rename = "UNIT", alias = "unit")]
    #[value(name = "UNIT", alias = "unit")]
    Unit,
}

/// How the learning rates change over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearningRatePolicy {
    /// Multiplied by `gamma` after every `step_size` iterations.
    #[default]
    Step,
    /// Never changed.
    Constant,
    /// *Ours:* never changed but over the last share of the run, `lr_decay_share`, in which they fall
    /// in a straight line towards 0.
    Linear,
}

/// Number format of the networks' arithmetic. Weights and updates are float32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TrainingPrecision {
    /// As published.
    #[default]
    Fp32,
    /// bfloat16 maps and products.
    Bf16,
    /// float16 maps and products, with scaled losses: for GPUs; on processors no faster than `fp32`.
    Fp16,
    /// `bf16` where the device is fast at it, else `fp32`.
    Auto,
}

impl TrainingPrecision {
    /// What it is on `device`; never [`Self::Auto`].
    pub fn resolve(self, device: Device) -> Self {
        match self {
            Self::Auto => match (device, Precision::Auto.resolve(device)) {
                (Device::Cpu, Ok(Precision::Fp32)) => Self::Fp32,
                _ => Self::Bf16,
            },
            given => given,
        }
    }

    /// The kind of the maps on `device`.
    pub fn kind(self, device: Device) -> Kind {
        match self.resolve(device) {
            Self::Bf16 => Kind::BFloat16,
            Self::Fp16 => Kind::Half,
            Self::Fp32 | Self::Auto => Kind::Float,
        }
    }
}

/// A return to an earlier state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// Iterations that were done when it was seen that losses or weights were lost.
    pub from: u64,
    /// Iterations of the state that was gone back to.
    pub to: u64,
}

/// Factor of the learning rates for each return.
const ROLLBACK_GAMMA: f64 = 0.5;

/// Noise of different returns comes from streams that lie so far apart: further than any run is long.
const ROLLBACK_STREAMS: u64 = 1 << 48;

/// Everything that decides what a run computes. Keys and defaults are those of the published
/// configurations; keys that only we have are marked *ours*.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "lines of the form key: value"
)]
pub struct TrainConfig {
    /// *Ours:* whose defaults stand in for keys that are not given.
    pub recipe: Recipe,
    /// *Ours:* MUNIT or UNIT; `--trainer` on the command line wins.
    pub trainer: TrainerKind,
    /// *Ours:* what translations may do to shapes: `recon_x_cyc_w` in plain words.
    pub task: Option<Task>,

    /// Iterations between sample sheets that are kept.
    pub image_save_iter: u64,
    /// Iterations between updates of the current sample sheet.
    pub image_display_iter: u64,
    /// Pictures in a sample sheet.
    pub display_size: usize,
    /// Iterations between checkpoints.
    pub snapshot_save_iter: u64,
    /// *Ours:* minutes after which a checkpoint is due in any case.
    pub snapshot_save_minutes: f64,
    /// Iterations between logged losses.
    pub log_iter: u64,

    /// Iterations of the whole run.
    pub max_iter: u64,
    /// Pictures of each domain in one iteration.
    pub batch_size: usize,
    /// L2 penalty, added to the gradient.
    pub weight_decay: f64,
    /// Adam's decay of the mean gradient.
    pub beta1: f64,
    /// Adam's decay of the mean squared gradient.
    pub beta2: f64,
    /// How generator weights are drawn; discriminators' are always normal(0, 0.02).
    pub init: Initialisation,
    /// Initial learning rate.
    pub lr: f64,
    /// *Ours:* the discriminators' initial learning rate, if it is another.
    pub lr_dis: Option<f64>,
    /// How learning rates change.
    pub lr_policy: LearningRatePolicy,
    /// Iterations between changes of the learning rate.
    pub step_size: u64,
    /// Factor of each change.
    pub gamma: f64,
    /// *Ours:* last share of the run in which the learning rates fall, where `lr_policy` is `linear`.
    pub lr_decay_share: f64,
    /// *Ours:* iterations over which the learning rate of the generators rises from 0 at the beginning.
    pub lr_warmup: u64,
    /// *Ours:* decay of the moving average of the generators that is shown and exported.
    pub ema_decay: f64,
    /// *Ours:* iterations for which the moving average is a plain copy.
    pub ema_warmup: u64,
    /// *Ours:* arithmetic of the networks.
    pub precision: TrainingPrecision,
    /// *Ours:* everything random in a run follows from it.
    pub seed: u64,
    /// *Ours:* the newest checkpoints, so many of which are kept.
    pub keep_checkpoints: usize,
    /// *Ours:* at multiples of so many iterations a checkpoint is written and kept for good; 0 for
    /// none.
    pub keep_every: u64,
    /// *Ours:* a column of `losses.csv`; the checkpoint with its best value is kept, too.
    pub keep_best: Option<String>,

    /// *Ours:* iterations between readings of the figures that [`crate::watch`] looks at.
    pub watch_iter: u64,
    /// *Ours:* iterations that are too early to be judged by those figures.
    pub watch_after: u64,
    /// *Ours:* iterations between new versions of the report.
    pub report_iter: u64,
    /// *Ours:* returns to a checkpoint after losses that were lost. The program writes them, since
    /// learning rates and noise follow from them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rollbacks: Vec<Rollback>,

    /// Weight of the adversarial loss.
    pub gan_w: f64,
    /// Weight of image reconstruction.
    pub recon_x_w: f64,
    /// Weight of style reconstruction (MUNIT).
    pub recon_s_w: f64,
    /// Weight of content reconstruction (MUNIT).
    pub recon_c_w: f64,
    /// Weight of the cycle, 0 to leave it out, if it is not the family's, see
    /// [`Self::cycle_weight`].
    pub recon_x_cyc_w: Option<f64>,
    /// Weight of the perceptual loss; 0 leaves it out.
    pub vgg_w: f64,
    /// *Ours:* weight of the difference in style, in the perceptual network, between a translation with
    /// an encoded style and the picture that the style is of; 0 leaves it out (MUNIT).
    pub vgg_style_w: f64,
    /// *Ours:* weight of the difference between a picture's translation and its partner, the picture of
    /// the same name in the other domain; 0 for pictures without partners.
    pub paired_w: f64,
    /// *Ours:* weight of the distance, in the perceptual network, between a picture's translation and its
    /// partner: sharp where pixels alone would be averaged; 0 leaves it out.
    pub vgg_paired_w: f64,
    /// Weight of the latent code's divergence from the prior (UNIT).
    pub recon_kl_w: f64,
    /// The same for codes of translated pictures (UNIT).
    pub recon_kl_cyc_w: f64,
    /// In published files, used by nothing.
    pub recon_h_w: f64,
    /// *Ours:* the network of the perceptual loss: a backbone, or VGG-16 weights.
    #[serde(alias = "perceptual_weights")]
    pub vgg_weights: Option<PathBuf>,

    /// *Ours:* both updates of an iteration work on the same translations, instead of each on its
    /// own, with styles of its own.
    pub share_translations: bool,
    /// *Ours:* content codes of the inputs are fixed targets of content reconstruction, so that
    /// nothing is won by making them small.
    pub detach_content: bool,
    /// *Ours:* what is done at random to real and translated pictures before the discriminators see
    /// them (arXiv 2006.10738), for small sets.
    pub augment: Vec<Augmentation>,
    /// *Ours:* weight of the squared gradient of the discriminators at real pictures, R1
    /// (arXiv 1801.04406); 0 leaves it out.
    pub r1_w: f64,
    /// *Ours:* iterations between penalties of the gradient, each of which counts for all of them.
    pub r1_every: u64,
    /// *Ours:* share of the translations whose styles are encoded from pictures instead of drawn
    /// (MUNIT).
    pub encoded_styles: f64,
    /// *Ours:* weight of the difference between two translations of a picture, at the beginning;
    /// 0 leaves it out (MUNIT).
    pub diversity_w: f64,
    /// *Ours:* share of the run over which that weight falls to 0.
    pub diversity_share: f64,
    /// *Ours:* weight of the distance of encoded styles' moments from those of drawn ones; 0 leaves it
    /// out (MUNIT).
    pub style_prior_w: f64,
    /// *Ours:* weight of the difference between the translation of a shifted, noisy picture and the
    /// shifted translation; 0 leaves it out.
    pub consistency_w: f64,
    /// *Ours:* deviation of that noise, where pictures range from -1 to 1.
    pub consistency_noise: f64,

    /// The generators.
    #[serde(rename = "gen")]
    pub generator: GeneratorConfig,
    /// The discriminators.
    #[serde(rename = "dis")]
    pub discriminator: DiscriminatorConfig,

    /// Channels of domain a: 1 or 3.
    pub input_dim_a: i64,
    /// Channels of domain b: 1 or 3.
    pub input_dim_b: i64,
    /// Threads that decode pictures.
    pub num_workers: usize,
    /// Shorter side after resizing.
    pub new_size: Option<usize>,
    /// The same for domain a alone.
    pub new_size_a: Option<usize>,
    /// The same for domain b alone.
    pub new_size_b: Option<usize>,
    /// Height of the crop that is trained on.
    pub crop_image_height: usize,
    /// Width of the crop that is trained on.
    pub crop_image_width: usize,
    /// *Ours:* mirror pictures at random.
    pub flip: bool,
    /// Folder with `trainA`, `trainB`, `testA`, `testB`.
    pub data_root: Option<PathBuf>,
    /// Folder of domain a's training pictures, or the root of its list.
    pub data_folder_train_a: Option<PathBuf>,
    /// Names in that folder, one a line.
    pub data_list_train_a: Option<PathBuf>,
    /// Folder of domain a's test pictures, or the root of its list.
    pub data_folder_test_a: Option<PathBuf>,
    /// Names in that folder, one a line.
    pub data_list_test_a: Option<PathBuf>,
    /// Folder of domain b's training pictures, or the root of its list.
    pub data_folder_train_b: Option<PathBuf>,
    /// Names in that folder, one a line.
    pub data_list_train_b: Option<PathBuf>,
    /// Folder of domain b's test pictures, or the root of its list.
    pub data_folder_test_b: Option<PathBuf>,
    /// Names in that folder, one a line.
    pub data_list_test_b: Option<PathBuf>,

    /// *Ours:* the model whose generators the run begins with, instead of random ones: a file, or the
    /// name of a shipped model.
    pub from_model: Option<PathBuf>,
    /// *Ours:* SHA-256 of that model's file, in hexadecimal digits. The program writes it.
    pub from_model_sha256: Option<String>,

    /// *Ours:* what pictures of domain a show, for the model file.
    pub domain_a: Option<String>,
    /// *Ours:* what pictures of domain b show, for the model file.
    pub domain_b: Option<String>,
    /// *Ours:* what the model was trained on, for the model file.
    pub data_description: Option<String>,
    /// *Ours:* licence of the weights, for the model file.
    pub licence: Option<String>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            recipe: Recipe::Classic,
            trainer: TrainerKind::Munit,
            task: None,
            image_save_iter: 10_000,
            image_display_iter: 500,
            display_size: 8,
            snapshot_save_iter: 10_000,
            snapshot_save_minutes: 10.0,
            log_iter: 10,
            max_iter: 1_000_000,
            batch_size: 1,
            weight_decay: 1e-4,
            beta1: 0.5,
            beta2: 0.999,
            init: Initialisation::Kaiming,
            lr: 1e-4,
            lr_dis: None,
            lr_policy: LearningRatePolicy::Step,
            step_size: 100_000,
            gamma: 0.5,
            lr_decay_share: 0.3,
            lr_warmup: 0,
            ema_decay: 0.999,
            ema_warmup: 1000,
            precision: TrainingPrecision::Fp32,
            seed: 0,
            keep_checkpoints: 2,
            keep_every: 0,
            keep_best: None,
            watch_iter: 500,
            watch_after: 2000,
            report_iter: 500,
            rollbacks: Vec::new(),
            gan_w: 1.0,
            recon_x_w: 10.0,
            recon_s_w: 1.0,
            recon_c_w: 1.0,
            recon_x_cyc_w: None,
            vgg_w: 0.0,
            vgg_style_w: 0.0,
            paired_w: 0.0,
            vgg_paired_w: 0.0,
            recon_kl_w: 0.01,
            recon_kl_cyc_w: 0.01,
            recon_h_w: 0.0,
            vgg_weights: None,
            share_translations: false,
            detach_content: false,
            augment: Vec::new(),
            r1_w: 0.0,
            r1_every: 16,
            encoded_styles: 0.0,
            diversity_w: 0.0,
            diversity_share: 0.5,
            style_prior_w: 0.0,
            consistency_w: 0.0,
            consistency_noise: 0.02,
            generator: GeneratorConfig::default(),
            discriminator: DiscriminatorConfig::default(),
            input_dim_a: 3,
            input_dim_b: 3,
            num_workers: 2,
            new_size: None,
            new_size_a: None,
            new_size_b: None,
            crop_image_height: 256,
            crop_image_width: 256,
            flip: true,
            data_root: None,
            data_folder_train_a: None,
            data_list_train_a: None,
            data_folder_test_a: None,
            data_list_test_a: None,
            data_folder_train_b: None,
            data_list_train_b: None,
            data_folder_test_b: None,
            data_list_test_b: None,
            from_model: None,
            from_model_sha256: None,
            domain_a: None,
            domain_b: None,
            data_description: None,
            licence: None,
        }
    }
}

/// Where `new_size` is not given, pictures are resized to this much more than the crop, so that there
/// is something to choose a crop from.
const RESIZE_MARGIN: f64 = 1.12;

/// Enough for new discriminators to tell a model's translations from real pictures.
const LR_WARMUP_OF_A_MODEL: u64 = 500;

/// Checkpoints are kept on disk in full; more would fill it unnoticed.
const MOST_CHECKPOINTS: usize = 1000;

impl TrainConfig {
    /// The defaults of a recipe.
    pub fn of_recipe(recipe: Recipe) -> Self {
        match recipe {
            Recipe::Classic => Self::default(),
            Recipe::Modern => Self::modern(),
        }
    }

    /// The same for a run that begins with a model's generators: discriminators as wide as these, by which
    /// they are not changed before those have learned something, and an average that begins with them.
    pub fn with_architecture(self, architecture: &Architecture) -> Self {
        Self {
            trainer: match architecture.family {
                Family::Munit => TrainerKind::Munit,
                Family::Unit => TrainerKind::Unit,
            },
            input_dim_a: architecture.input_dim_a,
            input_dim_b: architecture.input_dim_b,
            discriminator: DiscriminatorConfig {
                dim: architecture.generator.dim,
                ..self.discriminator
            },
            generator: architecture.generator.clone(),
            lr_warmup: LR_WARMUP_OF_A_MODEL,
            ema_warmup: 0,
            ..self
        }
    }

    fn modern() -> Self {
        Self {
            recipe: Recipe::Modern,
            lr_dis: Some(4e-4),
            lr_policy: LearningRatePolicy::Linear,
            precision: TrainingPrecision::Auto,
            share_translations: true,
            detach_content: true,
            augment: vec![Augmentation::Translation, Augmentation::Cutout],
            r1_w: 10.0,
            encoded_styles: 0.5,
            diversity_w: 1.0,
            style_prior_w: 0.1,
            discriminator: DiscriminatorConfig {
                norm: Norm::Spectral,
                gan_type: GanType::Hinge,
                ..DiscriminatorConfig::default()
            },
            ..Self::default()
        }
    }

    /// Reads a YAML file. What it leaves out is as `recipe` has it, or else as the recipe that it
    /// names, or else as published.
    ///
    /// # Errors
    /// A sentence that names the file and, for an unknown key, the nearest known one if it is near.
    pub fn read(path: &Path, recipe: Option<Recipe>) -> Result<Self> {
        Self::read_for(path, recipe, None)
    }

    /// The same, where keys of the generators that the file leaves out are as in `architecture`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_for(
        path: &Path,
        recipe: Option<Recipe>,
        architecture: Option<&Architecture>,
    ) -> Result<Self> {
        let content = fs::read(path)
            .with_context(|| format!("{}: cannot read the configuration", path.display()))?;
        let Ok(text) = String::from_utf8(content) else {
            bail!(
                "{}: not a YAML text file; give a configuration with lines of the form key: value",
                path.display()
            );
        };
        Self::parse_for(&text, recipe, architecture)
            .with_context(|| format!("{}: not a usable configuration", path.display()))
    }

    /// Whether the file at `path`, which can be read, gives weights that UNIT alone has and does not say what
    /// is trained, as the published configurations of UNIT do: their program asks for it as a flag.
    pub fn may_be_of_unit(path: &Path) -> bool {
        let text = fs::read_to_string(path).unwrap_or_default();
        let keys: BTreeMap<String, IgnoredAny> = serde_yaml_ng::from_str(&text).unwrap_or_default();
        !keys.contains_key("trainer")
            && ["recon_kl_w", "recon_kl_cyc_w"]
                .iter()
                .any(|key| keys.contains_key(*key))
    }

    fn parse_for(
        text: &str,
        recipe: Option<Recipe>,
        architecture: Option<&Architecture>,
    ) -> Result<Self> {
        // First as it is, since only so a problem has its line.
        let (published, text) = config_text::read::<Self>(text)?;
        let recipe = recipe.unwrap_or(published.recipe);
        let config = match (recipe, architecture) {
            (Recipe::Classic, None) => Self {
                recipe,
                ..published
            },
            (_, None) => overlaid(&text, &Self::default(), &Self::of_recipe(recipe))?,
            (_, Some(architecture)) => {
                let defaults = Self::of_recipe(recipe).with_architecture(architecture);
                overlaid(&text, &Self::default(), &defaults)?
            }
        };
        config.check()?;
        Ok(config)
    }

    /// As YAML, every key written out.
    ///
    /// # Errors
    /// None in practice: every field has a YAML form.
    pub fn to_yaml(&self) -> Result<String> {
        Ok(serde_yaml_ng::to_string(self)?)
    }

    /// # Errors
    /// A sentence that names the first key whose value cannot be used.
    pub fn check(&self) -> Result<()> {
        self.architecture().check()?;
        self.discriminator.check()?;
        for (key, value) in [
            ("image_save_iter", self.image_save_iter),
            ("image_display_iter", self.image_display_iter),
            ("snapshot_save_iter", self.snapshot_save_iter),
            ("log_iter", self.log_iter),
            ("watch_iter", self.watch_iter),
            ("report_iter", self.report_iter),
            ("max_iter", self.max_iter),
            ("step_size", self.step_size),
            ("r1_every", self.r1_every),
        ] {
            if value == 0 {
                bail!("{key} is 0; it must be at least 1");
            }
        }
        for (key, value, largest) in [
            ("batch_size", self.batch_size, 4096),
            ("display_size", self.display_size, 256),
            ("num_workers", self.num_workers.max(1), 256),
            ("keep_checkpoints", self.keep_checkpoints, MOST_CHECKPOINTS),
            (
                "crop_image_height",
                self.crop_image_height,
                Framing::MAXIMUM_SIDE,
            ),
            (
                "crop_image_width",
                self.crop_image_width,
                Framing::MAXIMUM_SIDE,
            ),
        ] {
            if !(1..=largest).contains(&value) {
                bail!("{key} is {value}; it must lie between 1 and {largest}");
            }
        }
        self.check_crop()?;
        for (key, size) in [
            ("new_size", self.new_size),
            ("new_size_a", self.new_size_a),
            ("new_size_b", self.new_size_b),
        ] {
            if let Some(size) = size.filter(|size| !(1..=Framing::MAXIMUM_SIDE).contains(size)) {
                bail!(
                    "{key} is {size}; it must lie between 1 and {} pixels",
                    Framing::MAXIMUM_SIDE
                );
            }
        }
        if !(self.snapshot_save_minutes.is_finite() && self.snapshot_save_minutes > 0.0) {
            bail!(
                "snapshot_save_minutes is {}; it must be a finite number above 0",
                self.snapshot_save_minutes
            );
        }
        for (key, value) in [
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("ema_decay", self.ema_decay),
        ] {
            if !(0.0..1.0).contains(&value) {
                bail!("{key} is {value}; it must be at least 0 and below 1");
            }
        }
        for (key, value) in [
            ("lr_decay_share", self.lr_decay_share),
            ("encoded_styles", self.encoded_styles),
            ("diversity_share", self.diversity_share),
        ] {
            if !(0.0..=1.0).contains(&value) {
                bail!("{key} is {value}; it is a share, from 0 to 1");
            }
        }
        for (key, value) in [
            ("lr", self.lr),
            ("lr_dis", self.lr_dis.unwrap_or(self.lr)),
            ("gamma", self.gamma),
            ("weight_decay", self.weight_decay),
            ("gan_w", self.gan_w),
            ("recon_x_w", self.recon_x_w),
            ("recon_s_w", self.recon_s_w),
            ("recon_c_w", self.recon_c_w),
            ("recon_x_cyc_w", self.cycle_weight()),
            ("vgg_w", self.vgg_w),
            ("vgg_style_w", self.vgg_style_w),
            ("paired_w", self.paired_w),
            ("vgg_paired_w", self.vgg_paired_w),
            ("recon_kl_w", self.recon_kl_w),
            ("recon_kl_cyc_w", self.recon_kl_cyc_w),
            ("r1_w", self.r1_w),
            ("diversity_w", self.diversity_w),
            ("style_prior_w", self.style_prior_w),
            ("consistency_w", self.consistency_w),
            ("consistency_noise", self.consistency_noise),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                bail!("{key} is {value}; it must be a finite number that is not negative");
            }
        }
        if self.vgg_style_w > 0.0 && self.encoded_styles == 0.0 {
            bail!(
                "vgg_style_w is {}, but no translation imitates a picture: encoded_styles is 0; make \
                 it 0.5, or leave vgg_style_w out",
                self.vgg_style_w
            );
        }
        self.check_pairs()?;
        self.check_task()?;
        self.check_texts()?;
        loss_names::check_best(self)
    }

    /// What the model file is to say must fit into it, lest it shows when all is done.
    fn check_texts(&self) -> Result<()> {
        for (key, domain, name) in [
            ("domain_a", Domain::A, &self.domain_a),
            ("domain_b", Domain::B, &self.domain_b),
        ] {
            if let Some(name) = name {
                check_domain_name(domain, name).context(key)?;
            }
        }
        for (key, what, text) in [
            (
                "data_description",
                "description of the data",
                &self.data_description,
            ),
            ("licence", "licence", &self.licence),
        ] {
            if let Some(text) = text {
                check_text(what, text).context(key)?;
            }
        }
        Ok(())
    }

    /// Partners are compared place by place, and translated with each other's styles.
    fn check_pairs(&self) -> Result<()> {
        let weights = [
            ("paired_w", self.paired_w),
            ("vgg_paired_w", self.vgg_paired_w),
        ];
        let Some((key, weight)) = weights.into_iter().find(|(_, weight)| *weight > 0.0) else {
            return Ok(());
        };
        if self.trainer == TrainerKind::Munit && self.encoded_styles == 0.0 {
            bail!(
                "{key} is {weight}, but no translation has its partner's style: encoded_styles is 0; make \
                 it 0.5, or leave {key} out"
            );
        }
        let [size_a, size_b] = Domain::ALL.map(|domain| self.new_size(domain));
        if size_a != size_b {
            bail!(
                "{key} is {weight}, but partners would be resized to different sizes, {size_a} and {size_b}; \
                 give one new_size for both domains"
            );
        }
        Ok(())
    }

    fn check_task(&self) -> Result<()> {
        if let (Some(task), Some(given)) = (self.task, self.recon_x_cyc_w) {
            let meant = task.cycle_weight();
            if given != meant {
                bail!(
                    "task is {}, which means a recon_x_cyc_w of {meant}, but recon_x_cyc_w is {given}; \
                     give one of the two",
                    task.name()
                );
            }
        }
        Ok(())
    }

    /// The crop must divide into content codes, and every map must be larger than its padding.
    fn check_crop(&self) -> Result<()> {
        let stride = self.architecture().stride() as usize;
        let reduction = (self.discriminator.n_layer + self.discriminator.num_scales - 1) as u32;
        // The style encoder halves the picture four times and reflects by one pixel each time.
        let smallest = (2 * stride).max(2usize.saturating_pow(reduction)).max(16);
        let smallest = smallest.next_multiple_of(stride);
        for (key, value) in [
            ("crop_image_height", self.crop_image_height),
            ("crop_image_width", self.crop_image_width),
        ] {
            if value < smallest {
                bail!(
                    "{key} is {value}; with dis.n_layer {} and dis.num_scales {} it must be at least {smallest}, \
                     and with gen.n_downsample {} a multiple of {stride}",
                    self.discriminator.n_layer,
                    self.discriminator.num_scales,
                    self.generator.n_downsample
                );
            }
            if value % stride != 0 {
                bail!(
                    "{key} is {value}; with gen.n_downsample {} it must be a multiple of {stride}",
                    self.generator.n_downsample
                );
            }
        }
        Ok(())
    }

    fn explicit_new_size(&self, domain: Domain) -> Option<usize> {
        let own = match domain {
            Domain::A => self.new_size_a,
            Domain::B => self.new_size_b,
        };
        own.or(self.new_size)
    }

    /// Shorter side of a picture of `domain` after resizing, in pixels.
    pub fn new_size(&self, domain: Domain) -> usize {
        self.explicit_new_size(domain)
            .unwrap_or_else(|| self.default_new_size())
    }

    fn default_new_size(&self) -> usize {
        let crop = self.crop_image_height.min(self.crop_image_width);
        let size = (crop as f64 * RESIZE_MARGIN).round() as usize;
        size.min(Framing::MAXIMUM_SIDE)
    }

    /// Weight of the cycle: what is given, else what the task means, else that of the published
    /// configurations, where UNIT always has a cycle; the modern recipe has one in any case.
    pub fn cycle_weight(&self) -> f64 {
        let of_task = self.task.map(Task::cycle_weight);
        self.recon_x_cyc_w
            .or(of_task)
            .unwrap_or(match (self.trainer, self.recipe) {
                (TrainerKind::Munit, Recipe::Classic) => 0.0,
                _ => 10.0,
            })
    }

    /// The same with the defaults that depend on other keys written out, so that a run's
    /// `config.yaml` says what is computed.
    pub fn resolved(self) -> Self {
        let complete = Domain::ALL
            .iter()
            .all(|&domain| self.explicit_new_size(domain).is_some());
        let of_styles = |value: f64| match self.trainer {
            TrainerKind::Munit => value,
            TrainerKind::Unit => 0.0,
        };
        Self {
            recon_x_cyc_w: Some(self.cycle_weight()),
            new_size: if complete {
                self.new_size
            } else {
                Some(self.default_new_size())
            },
            vgg_style_w: of_styles(self.vgg_style_w),
            encoded_styles: of_styles(self.encoded_styles),
            diversity_w: of_styles(self.diversity_w),
            style_prior_w: of_styles(self.style_prior_w),
            ..self
        }
    }

    /// Whether training pictures have partners.
    pub fn is_paired(&self) -> bool {
        self.paired_w > 0.0 || self.vgg_paired_w > 0.0
    }

    /// Whether pictures are decoded from their own codes: not where that weighs nothing, unless style
    /// encoders learn from it alone, as they do without partners whose styles all translations have.
    pub fn reconstructs(&self) -> bool {
        let styles_have_partners =
            self.trainer == TrainerKind::Munit && self.is_paired() && self.encoded_styles == 1.0;
        self.recon_x_w > 0.0 || !styles_have_partners
    }

    /// Whether the perceptual network is needed.
    pub fn is_perceptual(&self) -> bool {
        self.perceptual_terms().next().is_some()
    }

    /// Keys and weights of the terms in the perceptual network that are not left out.
    pub fn perceptual_terms(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let terms = [
            ("vgg_w", self.vgg_w),
            ("vgg_style_w", self.vgg_style_w),
            ("vgg_paired_w", self.vgg_paired_w),
        ];
        terms.into_iter().filter(|(_, weight)| *weight > 0.0)
    }

    /// Shapes of the generators.
    pub fn architecture(&self) -> Architecture {
        Architecture {
            family: match self.trainer {
                TrainerKind::Munit => Family::Munit,
                TrainerKind::Unit => Family::Unit,
            },
            input_dim_a: self.input_dim_a,
            input_dim_b: self.input_dim_b,
            generator: self.generator.clone(),
        }
    }

    /// Learning rates of generators and discriminators at `iteration` (from 0).
    ///
    /// The published loop steps the schedule before each update, so the rate falls one iteration
    /// before a multiple of `step_size`.
    pub fn learning_rates(&self, iteration: u64) -> [f64; 2] {
        let factor = match self.lr_policy {
            LearningRatePolicy::Constant => 1.0,
            LearningRatePolicy::Step => self.gamma.powi(((iteration + 1) / self.step_size) as i32),
            LearningRatePolicy::Linear => {
                let left = self.max_iter.saturating_sub(iteration) as f64;
                let falling = self.lr_decay_share * self.max_iter as f64;
                if left < falling { left / falling } else { 1.0 }
            }
        } * ROLLBACK_GAMMA.powi(self.rollbacks.len() as i32);
        let risen = match self.lr_warmup {
            0 => 1.0,
            warmup => ((iteration + 1) as f64 / warmup as f64).min(1.0),
        };
        [
            self.lr * factor * risen,
            self.lr_dis.unwrap_or(self.lr) * factor,
        ]
    }

    /// Weight of the difference between two translations at `iteration` (from 0): falls in a straight
    /// line to 0 over `diversity_share` of the run.
    pub fn diversity_weight(&self, iteration: u64) -> f64 {
        let falling = self.diversity_share * self.max_iter as f64;
        self.diversity_w * (1.0 - iteration as f64 / falling).max(0.0)
    }

    /// How many of the translations at `iteration` (from 0) have encoded styles, so that it is the
    /// share of all of them in the long run.
    pub fn encoded_styles_at(&self, iteration: u64) -> i64 {
        let until = |iteration: u64| {
            (self.encoded_styles * self.batch_size as f64 * iteration as f64).floor() as i64
        };
        until(iteration + 1) - until(iteration)
    }
}

impl TrainConfig {
    /// Decides the order of the pictures, their crops and their flips: others after each rollback, so
    /// that what failed is not repeated.
    pub fn pictures_seed(&self) -> u64 {
        let returns = self.rollbacks.len() as u64;
        self.seed
            .wrapping_add(returns.wrapping_mul(ROLLBACK_STREAMS))
    }

    /// The stream of [`crate::trainer::noise_generator`] for the iteration after `iteration`: another
    /// one after each rollback, so that what failed is not repeated.
    pub fn noise_stream(&self, iteration: u64) -> u64 {
        (self.rollbacks.len() as u64) * ROLLBACK_STREAMS + iteration
    }
}

#[cfg(test)]
impl TrainConfig {
    /// Of networks that train in no time.
    pub(crate) fn tiny(recipe: Recipe) -> Self {
        Self {
            crop_image_height: 16,
            crop_image_width: 16,
            batch_size: 2,
            generator: GeneratorConfig {
                dim: 4,
                mlp_dim: 8,
                n_res: 1,
                ..GeneratorConfig::default()
            },
            discriminator: DiscriminatorConfig {
                dim: 4,
                n_layer: 2,
                num_scales: 2,
                ..DiscriminatorConfig::default()
            },
            ..Self::of_recipe(recipe)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    impl TrainConfig {
        fn parse(text: &str, recipe: Option<Recipe>) -> Result<Self> {
            Self::parse_for(text, recipe, None)
        }
    }

    #[test]
    fn the_learning_rate_falls_step_by_step_or_never() {
        let mut config = TrainConfig {
            lr: 8.0,
            lr_dis: Some(16.0),
            step_size: 10,
            gamma: 0.5,
            ..TrainConfig::default()
        };
        let rates = [0, 8, 9, 18, 19].map(|iteration| config.learning_rates(iteration));
        assert_eq!(
            rates,
            [[8.0, 16.0], [8.0, 16.0], [4.0, 8.0], [4.0, 8.0], [2.0, 4.0]]
        );
        config.lr_dis = None;
        assert_eq!(config.learning_rates(0), [8.0, 8.0]);
        config.lr_policy = LearningRatePolicy::Constant;
        assert_eq!(config.learning_rates(1_000_000), [8.0, 8.0]);
    }

    #[test]
    fn the_learning_rate_falls_in_a_straight_line_at_the_end() {
        let config = TrainConfig {
            lr: 8.0,
            lr_dis: Some(16.0),
            lr_policy: LearningRatePolicy::Linear,
            lr_decay_share: 0.4,
            max_iter: 10,
            ..TrainConfig::default()
        };
        let rates = [0, 6, 7, 8, 9].map(|iteration| config.learning_rates(iteration)[1]);
        assert_eq!(rates, [16.0, 16.0, 12.0, 8.0, 4.0]);
        assert_eq!(config.learning_rates(9)[0], 2.0);
        let constant = TrainConfig {
            lr_decay_share: 0.0,
            ..config
        };
        assert_eq!(constant.learning_rates(9), [8.0, 16.0]);
    }

    #[test]
    fn the_learning_rate_of_generators_rises_where_they_begin_with_a_model() {
        let config = TrainConfig {
            lr: 8.0,
            lr_warmup: 4,
            lr_policy: LearningRatePolicy::Constant,
            ..TrainConfig::default()
        };
        let rates = [0, 1, 3, 4, 900].map(|iteration| config.learning_rates(iteration));
        assert_eq!(
            rates.map(|[generators, _]| generators),
            [2.0, 4.0, 8.0, 8.0, 8.0]
        );
        assert_eq!(rates.map(|[_, discriminators]| discriminators), [8.0; 5]);
        let model = TrainConfig::of_recipe(Recipe::Modern)
            .with_architecture(&TrainConfig::default().architecture());
        assert_eq!((model.lr_warmup, model.ema_warmup), (500, 0));
        let given = TrainConfig::parse_for(
            "lr_warmup: 7",
            Some(Recipe::Modern),
            Some(&TrainConfig::default().architecture()),
        );
        assert_eq!(given.unwrap().lr_warmup, 7);
    }

    #[test]
    fn the_weight_of_diversity_falls_to_nothing() {
        let config = TrainConfig {
            diversity_w: 2.0,
            diversity_share: 0.5,
            max_iter: 8,
            ..TrainConfig::default()
        };
        let weights = [0, 1, 3, 4, 7].map(|iteration| config.diversity_weight(iteration));
        assert_eq!(weights, [2.0, 1.5, 0.5, 0.0, 0.0]);
        let never = TrainConfig {
            diversity_share: 0.0,
            ..config
        };
        assert_eq!(never.diversity_weight(1), 0.0);
    }

    #[test]
    fn the_share_of_encoded_styles_is_met_in_the_long_run() {
        for (batch_size, share, counts) in [
            (1, 0.5, [0, 1, 0, 1]),
            (4, 0.5, [2, 2, 2, 2]),
            (3, 0.25, [0, 1, 1, 1]),
            (2, 1.0, [2, 2, 2, 2]),
            (2, 0.0, [0, 0, 0, 0]),
        ] {
            let config = TrainConfig {
                batch_size,
                encoded_styles: share,
                ..TrainConfig::default()
            };
            let found = [0, 1, 2, 3].map(|iteration| config.encoded_styles_at(iteration));
            assert_eq!(found, counts, "{batch_size} {share}");
        }
    }

    #[test]
    fn a_recipe_stands_in_for_what_is_left_out() {
        let modern = TrainConfig::of_recipe(Recipe::Modern);
        assert_eq!(TrainConfig::parse("recipe: modern", None).unwrap(), modern);
        assert_eq!(
            TrainConfig::parse("{}", Some(Recipe::Modern)).unwrap(),
            modern
        );
        // A published file without a recipe is classic, and a flag goes before the file.
        let classic = TrainConfig::parse("{}", None).unwrap();
        assert_eq!(classic, TrainConfig::default());
        assert_eq!(classic.recipe, Recipe::Classic);
        let text = "recipe: modern\nlr: 0.5";
        let config = TrainConfig::parse(text, Some(Recipe::Classic)).unwrap();
        assert_eq!(
            config,
            TrainConfig {
                lr: 0.5,
                ..TrainConfig::default()
            }
        );

        let text = "recipe: modern\ndis: {dim: 8, gan_type: lsgan}\naugment: []\nr1_w: 0\n\
                    perceptual_weights: vgg.safetensors";
        let config = TrainConfig::parse(text, None).unwrap();
        let mut expected = TrainConfig {
            augment: Vec::new(),
            r1_w: 0.0,
            vgg_weights: Some("vgg.safetensors".into()),
            ..modern
        };
        expected.discriminator.dim = 8;
        expected.discriminator.gan_type = GanType::Lsgan;
        assert_eq!(config, expected);
        // What a run writes down is what it reads, whatever the defaults may become.
        let written = config.clone().resolved().to_yaml().unwrap();
        let read = TrainConfig::parse(&written, None).unwrap();
        assert_eq!(read, config.resolved());
    }

    #[test]
    fn a_mistake_in_a_modern_configuration_has_its_line_too() {
        let error = TrainConfig::parse("recipe: modern\nr1_evry: 3", None).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("unknown key r1_evry (line 2"), "{text}");
        assert!(text.ends_with("nearest known key is r1_every"), "{text}");
        for (text, parts) in [
            ("recipe: modem", ["modem", "modern"]),
            ("task: keep_shapes", ["keep_shapes", "keep-shapes"]),
            ("augment: [colours]", ["colours", "cutout"]),
        ] {
            let error = TrainConfig::parse(text, None).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn a_task_is_the_weight_of_the_cycle_in_plain_words() {
        for (text, weight) in [
            ("task: keep-shapes", 10.0),
            ("task: change-shapes", 0.0),
            ("trainer: UNIT\ntask: change-shapes", 0.0),
            ("task: keep-shapes\nrecon_x_cyc_w: 10", 10.0),
            ("recipe: modern", 10.0),
            ("recipe: modern\ntask: change-shapes", 0.0),
            ("recipe: modern\nrecon_x_cyc_w: 2", 2.0),
        ] {
            let config = TrainConfig::parse(text, None).unwrap();
            assert_eq!(config.cycle_weight(), weight, "{text}");
            config.resolved().check().unwrap();
        }
        let text = "task: keep-shapes\nrecon_x_cyc_w: 3";
        let error = TrainConfig::parse(text, None).unwrap_err().to_string();
        assert_eq!(
            error,
            "task is keep-shapes, which means a recon_x_cyc_w of 10, but recon_x_cyc_w is 3; give \
             one of the two"
        );
    }

    #[test]
    fn unit_has_no_terms_of_styles() {
        let text = "recipe: modern\ntrainer: UNIT\nvgg_style_w: 1";
        let config = TrainConfig::parse(text, None).unwrap().resolved();
        let of_styles = [
            config.vgg_style_w,
            config.encoded_styles,
            config.diversity_w,
            config.style_prior_w,
        ];
        assert_eq!(of_styles, [0.0; 4]);
    }

    #[test]
    fn rollbacks_halve_the_rates_and_change_noise_and_pictures() {
        let mut config = TrainConfig {
            lr: 8.0,
            lr_dis: Some(16.0),
            ..TrainConfig::default()
        };
        assert!(!config.to_yaml().unwrap().contains("rollbacks"));
        let mut streams = vec![(config.noise_stream(7), config.pictures_seed())];
        for (rates, from) in [([4.0, 8.0], 9), ([2.0, 4.0], 11)] {
            config.rollbacks.push(Rollback { from, to: 5 });
            assert_eq!(config.learning_rates(7), rates);
            streams.push((config.noise_stream(7), config.pictures_seed()));
        }
        let [noise, pictures]: [BTreeSet<u64>; 2] = [
            streams.iter().map(|(noise, _)| *noise).collect(),
            streams.iter().map(|(_, pictures)| *pictures).collect(),
        ];
        assert_eq!((noise.len(), pictures.len()), (3, 3));
        let yaml = config.to_yaml().unwrap();
        assert_eq!(TrainConfig::parse(&yaml, None).unwrap(), config);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = TrainConfig {
            lr: 0.1 + 0.2,
            vgg_weights: Some("a folder/vgg.safetensors".into()),
            data_description: Some("two\nlines: # of words".to_owned()),
            new_size_b: Some(300),
            ..TrainConfig::default()
        };
        assert_eq!(
            TrainConfig::parse(&config.to_yaml().unwrap(), None).unwrap(),
            config
        );
    }

    #[test]
    fn a_size_of_its_own_goes_before_the_common_one() {
        let config = TrainConfig::parse("new_size_a: 300\nnew_size: 280", None).unwrap();
        assert_eq!(config.new_size(Domain::A), 300);
        assert_eq!(config.new_size(Domain::B), 280);
    }

    #[test]
    fn pictures_are_resized_to_more_than_the_crop() {
        let config = TrainConfig::parse("crop_image_width: 320", None).unwrap();
        assert_eq!(config.new_size(Domain::A), 287);
        assert_eq!(config.resolved().new_size, Some(287));
        let config = TrainConfig::parse("new_size_b: 300", None)
            .unwrap()
            .resolved();
        assert_eq!(config.new_size(Domain::A), 287);
        assert_eq!(config.new_size(Domain::B), 300);
        let config = TrainConfig::parse("new_size_a: 290\nnew_size_b: 300", None).unwrap();
        assert_eq!(config.resolved().new_size, None);
        // As far as pictures are resized at all.
        let text = "crop_image_height: 4096\ncrop_image_width: 4096";
        let config = TrainConfig::parse(text, None).unwrap();
        assert_eq!(config.new_size(Domain::A), Framing::MAXIMUM_SIDE);
    }

    #[test]
    fn the_cycle_is_the_familys_unless_it_is_given() {
        for (text, weight) in [
            ("{}", 0.0),
            ("trainer: UNIT", 10.0),
            ("trainer: UNIT\nrecon_x_cyc_w: 0", 0.0),
            ("recon_x_cyc_w: 3", 3.0),
        ] {
            let config = TrainConfig::parse(text, None).unwrap();
            assert_eq!(config.cycle_weight(), weight, "{text}");
            assert_eq!(config.resolved().recon_x_cyc_w, Some(weight), "{text}");
        }
    }

    #[test]
    fn the_nearest_known_key_is_named() {
        let message = |text: &str| TrainConfig::parse(text, None).unwrap_err().to_string();
        let text = message("lr: 1e-4\nbatch_siez: 2");
        assert!(text.contains("unknown key batch_siez (line 2"), "{text}");
        assert!(text.ends_with("nearest known key is batch_size"), "{text}");
        let text = message("dis:\n  num_scale: 2");
        assert!(text.starts_with("dis: unknown key num_scale"), "{text}");
        assert!(text.ends_with("nearest known key is num_scales"), "{text}");
        // Not where none is near.
        let text = message("gibber: 1");
        assert_eq!(text, "unknown key gibber");
    }

    #[test]
    fn a_value_of_another_kind_is_refused_in_plain_words() {
        for (text, sentence) in [
            (
                "batch_size: -1",
                "batch_size: expected a whole number, 0 or more, found -1 (line 1 column 13)",
            ),
            (
                "lr: 1\nmax_iter: 1.5",
                "max_iter: expected a whole number, 0 or more, found 1.5 (line 2 column 11)",
            ),
            (
                "batch_size: 99999999999999999999999",
                "batch_size: expected a whole number, 0 or more, found 99999999999999999999999 \
                 (line 1 column 13)",
            ),
            (
                "gen: {dim: x}",
                "gen.dim: expected a whole number, found \"x\" (line 1 column 12)",
            ),
            (
                "lr: [1]",
                "lr: expected a number, found a list (line 1 column 5)",
            ),
            (
                "lr:",
                "lr: expected a number, found nothing (line 1 column 4)",
            ),
            (
                "flip: maybe",
                "flip: expected true or false, found \"maybe\" (line 1 column 7)",
            ),
            (
                "augment: colour",
                "augment: expected a list in square brackets, found \"colour\" (line 1 column 10)",
            ),
            (
                "dis: 5",
                "dis: expected lines of the form key: value below it, found 5 (line 1 column 6)",
            ),
            (
                "data_root: {a: 1}",
                "data_root: expected a path, found keys with values (line 1 column 12)",
            ),
            (
                "trainer: CycleGAN",
                "trainer: CycleGAN is not known; known are MUNIT, munit, UNIT, unit (line 1 column 10)",
            ),
            (
                "- lr",
                "expected lines of the form key: value, found a list",
            ),
        ] {
            let error = TrainConfig::parse(text, None).unwrap_err();
            assert_eq!(error.to_string(), sentence, "{text}");
        }
    }

    #[test]
    fn a_crop_that_is_too_small_is_told_the_smallest() {
        let error = TrainConfig::parse("crop_image_height: 1", None).unwrap_err();
        let sentence = "crop_image_height is 1; with dis.n_layer 4 and dis.num_scales 3 it must be at least 64, \
                        and with gen.n_downsample 2 a multiple of 4";
        assert_eq!(error.to_string(), sentence);
        let text = "crop_image_height: 64\ncrop_image_width: 64";
        TrainConfig::parse(text, None).unwrap();
    }

    #[test]
    fn what_no_model_file_may_say_is_refused_before_a_run() {
        let long = "x".repeat(101);
        for (name, text, problem) in [
            ("domain_a", long.as_str(), "longer than 100 characters"),
            ("domain_b", "two\nlines", "control characters"),
            ("domain_b", " ", "expected a word or two"),
            ("licence", "\u{1b}[2J", "control characters"),
            (
                "data_description",
                &"x".repeat(65_537),
                "longer than 65536 bytes",
            ),
        ] {
            let mut config = TrainConfig::default();
            let field = match name {
                "domain_a" => &mut config.domain_a,
                "domain_b" => &mut config.domain_b,
                "licence" => &mut config.licence,
                _ => &mut config.data_description,
            };
            *field = Some(text.to_owned());
            let error = format!("{:#}", config.check().unwrap_err());
            assert!(error.starts_with(name), "{error}");
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn every_number_has_bounds() {
        for (text, name) in [
            ("lr: -1", "lr"),
            ("lr_dis: .inf", "lr_dis"),
            ("gamma: .nan", "gamma"),
            ("beta1: 1", "beta1"),
            ("ema_decay: 1.5", "ema_decay"),
            ("log_iter: 0", "log_iter"),
            ("watch_iter: 0", "watch_iter"),
            ("report_iter: 0", "report_iter"),
            ("keep_checkpoints: 0", "keep_checkpoints"),
            ("display_size: 1000", "display_size"),
            ("snapshot_save_minutes: 0", "snapshot_save_minutes"),
            ("recon_x_cyc_w: -1", "recon_x_cyc_w"),
            ("lr_decay_share: 1.5", "lr_decay_share"),
            ("encoded_styles: -0.1", "encoded_styles"),
            ("diversity_share: .nan", "diversity_share"),
            ("diversity_w: -1", "diversity_w"),
            ("style_prior_w: .inf", "style_prior_w"),
            ("consistency_w: -1", "consistency_w"),
            ("paired_w: .inf", "paired_w"),
            ("paired_w: 10", "paired_w"),
            ("vgg_paired_w: -1", "vgg_paired_w"),
            ("vgg_paired_w: 10", "vgg_paired_w"),
            (
                "paired_w: 10\nencoded_styles: 1\nnew_size_a: 300",
                "paired_w",
            ),
            ("consistency_noise: .nan", "consistency_noise"),
            ("r1_w: -1", "r1_w"),
            ("r1_every: 0", "r1_every"),
            ("new_size_b: 0", "new_size_b"),
            ("new_size: 4097", "new_size"),
            ("crop_image_height: 4100", "crop_image_height"),
            ("crop_image_width: 4100", "crop_image_width"),
            ("input_dim_a: 2", "input_dim_a"),
            ("gen: {n_downsample: 9}", "gen.n_downsample"),
            ("dis: {norm: adain}", "dis.norm"),
            ("crop_image_width: 254", "crop_image_width"),
            ("dis: {n_layer: 8}", "crop_image_height"),
            ("keep_best: gen_total_a", "keep_best"),
        ] {
            let error = TrainConfig::parse(text, None).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} is ")), "{text}: {error}");
        }
    }
}
