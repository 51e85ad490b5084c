//! `munit-train`: trains a MUNIT or UNIT model on two folders of pictures.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use munit::runtime::DeviceChoice;
use munit_tools::augmentation::Augmentation;
use munit_tools::config::{TrainConfig, TrainerKind, TrainingPrecision};
use munit_tools::program::{self, tell};
use munit_tools::ranks::Ranks;
use munit_tools::recipe::{Recipe, Task};
use munit_tools::run::{self, Beginning, BegunOtherwise, Outcome, RunFolder};
use munit_tools::run_info::RunInfo;
use tch::Device;

/// Train a model that translates pictures between two domains.
///
/// Give two folders of pictures, or a configuration in the published YAML form, or both: flags win
/// over the file. Everything of a run lies in its folder: checkpoints, report.html, losses.csv,
/// TensorBoard events, sample sheets and, at the end, model.safetensors for munitfilter. Ctrl-C writes a
/// checkpoint and leaves; --resume goes on.
#[derive(Parser)]
#[command(
    name = "munit-train",
    version,
    after_help = "Examples:\n  \
        munit-train --a photos --b paintings --out runs/mine\n  \
        munit-train --a photos --b prints --out runs/prints --recipe modern --task keep-shapes\n  \
        munit-train --a photos --b paintings --out runs/small --size 128 --dim 16 --iterations 30000\n  \
        munit-train --config edges2shoes.yaml --data datasets/edges2shoes --out runs/shoes\n  \
        munit-train --a photos --b prints --out runs/mine --from photo2illustration\n  \
        munit-train --a photos --b paintings --out runs/mine --check\n  \
        munit-train --resume runs/mine\n\n\
        Progress of all runs in TensorBoard: tensorboard --logdir runs"
)]
struct Arguments {
    /// Configuration in the published YAML form
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of pictures of domain a
    #[arg(long, value_name = "FOLDER")]
    a: Option<PathBuf>,
    /// Folder of pictures of domain b
    #[arg(long, value_name = "FOLDER")]
    b: Option<PathBuf>,
    /// What pictures of domain a show, in a word or two, for the report, the sheets and the model [default: the
    /// configuration's domain_a]
    #[arg(long, value_name = "NAME")]
    a_name: Option<String>,
    /// What pictures of domain b show [default: the configuration's domain_b]
    #[arg(long, value_name = "NAME")]
    b_name: Option<String>,
    /// Pictures of domain a to show in the sample sheets, not trained on
    #[arg(long, value_name = "FOLDER")]
    test_a: Option<PathBuf>,
    /// Pictures of domain b to show in the sample sheets, not trained on
    #[arg(long, value_name = "FOLDER")]
    test_b: Option<PathBuf>,
    /// Folder with trainA, trainB and, if there, testA and testB
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["a", "b"])]
    data: Option<PathBuf>,
    /// Folder of the run
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on from the newest checkpoint of the run in FOLDER (default: --out)
    #[arg(long, value_name = "FOLDER", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
    /// Begin with the generators of a model, a file or the name of a shipped one, instead of random ones
    #[arg(long, value_name = "MODEL", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Look at the pictures, the memory and all else that the run would need, say what is found, and
    /// train nothing
    #[arg(long)]
    check: bool,
    /// Print what --check finds as JSON
    #[arg(long, requires = "check")]
    json: bool,
    /// Defaults: classic, as published, or modern: hinge loss, spectral norm and R1, learning rates that
    /// fall at the end, bfloat16, augmented pictures for the discriminators, terms for styles from
    /// pictures and for various styles [default: the configuration's, else classic]
    #[arg(long)]
    recipe: Option<Recipe>,
    /// What translations may do to shapes; the same as --cycle 10 or 0 [default: the configuration's,
    /// else that of --cycle]
    #[arg(long, conflicts_with = "cycle")]
    task: Option<Task>,
    /// MUNIT or UNIT [default: the configuration's, else the model's of --from, else MUNIT]
    #[arg(long, ignore_case = true)]
    trainer: Option<TrainerKind>,
    /// Iterations of the whole run, those before a resume included [default: the configuration's, else
    /// 1000000]
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    /// Pictures of each domain in an iteration, in each process where several train together
    /// [default: the configuration's, else 1]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Side of the square that is trained on, in pixels; pictures are resized to a little more
    /// [default: the configuration's, else 256]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Channels after the first convolution: 64 is the published network, 16 runs live on a CPU
    /// [default: the configuration's, else the model's of --from, else 64]
    #[arg(long, value_name = "N")]
    dim: Option<i64>,
    /// Length of the style code [default: the configuration's, else the model's of --from, else 8]
    #[arg(long, value_name = "N")]
    style_dim: Option<i64>,
    /// Learning rate [default: the configuration's, else 0.0001]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Learning rate of the discriminators [default: the configuration's, else 0.0004 in the modern
    /// recipe and that of --lr otherwise]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lr_dis: Option<f64>,
    /// Weight of the perceptual loss: 1 keeps what pictures show, 0 leaves it out
    /// [default: the configuration's, else 0]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    perceptual: Option<f64>,
    /// Weight of the difference in style between translations that imitate a picture and that picture, in
    /// the perceptual loss's network: try 20; 0 leaves it out [default: the configuration's, else 0]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    perceptual_style: Option<f64>,
    /// Weight of the difference between a translation and the picture of the same name in the other
    /// folder, for folders of pairs: try 10; 0 for folders without [default: the configuration's, else 0]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    paired: Option<f64>,
    /// Weight of the same difference in the perceptual loss's network, which keeps lines and textures
    /// sharp where pixels alone are averaged: try 4; 0 leaves it out [default: the configuration's, else 0]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    perceptual_paired: Option<f64>,
    /// Network of the perceptual loss: a file of munit-import backbone, or VGG-16 weights [default: the
    /// configuration's]
    #[arg(long, value_name = "FILE", alias = "perceptual-weights")]
    vgg_weights: Option<PathBuf>,
    /// What is done at random to all that discriminators see, for small sets: colour, translation,
    /// cutout, with commas between; nothing if none is named [default: the configuration's, else
    /// translation,cutout in the modern recipe and nothing otherwise]
    #[arg(long, value_name = "CHANGES", value_delimiter = ',', num_args = 0..)]
    augment: Option<Vec<Augmentation>>,
    /// Share of the translations that take their styles from pictures, so that example pictures work
    /// [default: the configuration's, else 0.5 in the modern recipe and 0 otherwise]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    encoded_styles: Option<f64>,
    /// Weight, at the beginning, of the difference between translations in two styles
    /// [default: the configuration's, else 1 in the modern recipe and 0 otherwise]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    diversity: Option<f64>,
    /// Weight of steadiness under small shifts and noise, for models that translate video; 0 leaves
    /// it out [default: the configuration's, else 0]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    consistency: Option<f64>,
    /// Weight of the cycle: 10 keeps shapes, 0 lets them change [default: the configuration's, else
    /// 0 for MUNIT in the classic recipe and 10 otherwise]
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    cycle: Option<f64>,
    /// Arithmetic of the networks [default: the configuration's, else auto in the modern recipe and
    /// fp32 otherwise]
    #[arg(long)]
    precision: Option<TrainingPrecision>,
    /// Iterations between checkpoints; one is written every ten minutes in any case
    /// [default: the configuration's, else 10000]
    #[arg(long, value_name = "N")]
    checkpoint_every: Option<u64>,
    /// Iterations between sample sheets that are kept [default: the configuration's, else 10000]
    #[arg(long, value_name = "N")]
    samples_every: Option<u64>,
    /// Show the newest samples on http://127.0.0.1:PORT while training [default port: 8765]
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, conflicts_with = "check")]
    preview: Option<Option<u16>>,
    /// Everything random in the run follows from it [default: the configuration's, else 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = program::seed)]
    seed: Option<u64>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads for the networks on the CPU [default: with --resume as many as before, where there are so many
    /// cores, else all cores]
    #[arg(long, value_name = "N")]
    threads: Option<i32>,
}

/// Where `--preview` is served unless a port is given.
const PREVIEW_PORT: u16 = 8765;

const NAME: &str = "munit-train";

fn main() -> ExitCode {
    program::run(NAME, |arguments| {
        let ranks = Ranks::join()?;
        let result = train(&arguments, &ranks);
        match &result {
            Ok(()) => ranks.leave(),
            Err(error) => ranks.fail(NAME, error),
        }
        result
    })
}

fn train(arguments: &Arguments, ranks: &Ranks) -> Result<()> {
    let resume = arguments.resume.is_some();
    let folder = match (
        arguments.resume.as_ref().and_then(Option::as_ref),
        &arguments.out,
    ) {
        (Some(resumed), Some(out)) if resumed != out => bail!(
            "--resume {} goes on in that folder; leave --out {} out",
            resumed.display(),
            out.display()
        ),
        (resumed, out) => resumed.or(out.as_ref()),
    };
    let run_folder = folder.map(|folder| RunFolder::new(folder));
    if run_folder.is_none() && (resume || !arguments.check) {
        bail!("name the run's folder with --out, for example --out runs/mine");
    }
    if let Some(threads) = arguments.threads.or(ranks.threads()) {
        if threads < 1 {
            bail!("--threads is {threads}; it must be at least 1");
        }
        tch::set_num_threads(threads);
    } else if resume
        && let Some(before) = run_folder.as_ref().and_then(RunFolder::threads)
        && before != tch::get_num_threads()
        && std::thread::available_parallelism().is_ok_and(|cores| before as usize <= cores.get())
        && arguments.device.resolve()? == Device::Cpu
    {
        tell(&format!(
            "munit-train: --threads {before}, as before, so that the run goes on as it was"
        ));
        tch::set_num_threads(before);
    }
    if !ranks.is_first() {
        let device = ranks.device(arguments.device.resolve()?);
        return run::follow(run_folder.as_ref(), device, ranks);
    }
    let mut config = configuration(arguments, run_folder.as_ref().filter(|_| resume))?;
    // What is asked for is the batch of each process; a run's own configuration has the whole one.
    if !resume || arguments.config.is_some() || arguments.batch_size.is_some() {
        config.batch_size = config.batch_size.saturating_mul(ranks.count());
    }
    config
        .check()
        .map_err(|problem| name_flag(problem, arguments))?;
    let device = ranks.device(arguments.device.resolve()?);
    config.precision = config.precision.resolve(device);
    let run_folder = match (arguments.check, run_folder) {
        (false, Some(run_folder)) => run_folder,
        _ if ranks.count() > 1 => bail!("--check is for one process; leave mpirun or srun out"),
        (_, run_folder) => return check(arguments, config, run_folder.as_ref(), device),
    };
    let preview = arguments.preview.map(|port| port.unwrap_or(PREVIEW_PORT));
    let outcome = run::run(config, &run_folder, device, resume, preview, ranks)
        .map_err(|problem| name_changed_flag(problem, arguments, ranks.count()))?;
    tell(&format!("report: {}", run_folder.report().display()));
    match outcome {
        Outcome::Finished(model) => {
            let word = program::shell_word(&model);
            tell(&format!("model: {}", model.display()));
            if let Some(best) = RunInfo::of(run_folder.path())?.best {
                tell(&format!(
                    "best by {}: {} (munit-export {} best.safetensors --best)",
                    best.figure.name,
                    best.checkpoint.display(),
                    program::shell_word(run_folder.path())
                ));
            }
            tell(&format!(
                "translate a picture: munit-translate {word} picture.jpg translated.jpg --seed 1"
            ));
            tell(&format!(
                "try it live: gst-launch-1.0 v4l2src ! videoconvert ! munitfilter model={word} ! videoconvert ! autovideosink"
            ));
        }
        Outcome::Stopped(checkpoint) => {
            tell(&format!("stopped; checkpoint: {}", checkpoint.display()));
            for step in RunInfo::of(run_folder.path())?.next_steps() {
                tell(&step);
            }
        }
    }
    Ok(())
}

/// Says what the run would work on.
fn check(
    arguments: &Arguments,
    config: TrainConfig,
    run_folder: Option<&RunFolder>,
    device: Device,
) -> Result<()> {
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{wide_bar:.cyan/black.bright} {pos}/{len} pictures")
            .context("the template is wrong")?
            .progress_chars("━╸━"),
    );
    let progress = |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let report = run::check(
        config,
        run_folder,
        device,
        arguments.resume.is_some(),
        progress,
    )
    .map_err(|problem| name_changed_flag(problem, arguments, 1))?;
    bar.finish_and_clear();
    let text = if arguments.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        report.to_string()
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to the standard output")
}

/// The configuration file, or the one of the run that goes on, with the flags' values.
fn configuration(arguments: &Arguments, resumed: Option<&RunFolder>) -> Result<TrainConfig> {
    let mut from = arguments.from.as_deref().map(Beginning::read).transpose()?;
    let architecture = from.as_ref().map(Beginning::architecture);
    let mut config = match (&arguments.config, resumed) {
        (Some(file), _) => TrainConfig::read_for(file, arguments.recipe, architecture)?,
        (None, Some(folder)) => folder.config()?,
        (None, None) => {
            let config = TrainConfig::of_recipe(arguments.recipe.unwrap_or_default());
            match architecture {
                Some(architecture) => config.with_architecture(architecture),
                None => config,
            }
        }
    };
    // A run that goes on has begun.
    if let (None, Some(file), Some(model), None) =
        (&from, &arguments.config, &config.from_model, resumed)
    {
        let named = Beginning::read(model)?;
        config = TrainConfig::read_for(file, arguments.recipe, Some(named.architecture()))?;
        from = Some(named);
    }
    set(&mut config.recipe, arguments.recipe);
    if let Some(size) = arguments.size {
        (config.crop_image_height, config.crop_image_width) = (size, size);
        (config.new_size, config.new_size_a, config.new_size_b) = (None, None, None);
    }
    let folders = [
        (
            &arguments.a,
            &mut config.data_folder_train_a,
            &mut config.data_list_train_a,
        ),
        (
            &arguments.b,
            &mut config.data_folder_train_b,
            &mut config.data_list_train_b,
        ),
        (
            &arguments.test_a,
            &mut config.data_folder_test_a,
            &mut config.data_list_test_a,
        ),
        (
            &arguments.test_b,
            &mut config.data_folder_test_b,
            &mut config.data_list_test_b,
        ),
    ];
    for (given, folder, list) in folders {
        if given.is_some() || arguments.data.is_some() {
            (*folder, *list) = (given.clone(), None);
        }
    }
    if arguments.data.is_some() || arguments.a.is_some() || arguments.b.is_some() {
        config.data_root.clone_from(&arguments.data);
    }
    set(&mut config.trainer, arguments.trainer);
    if let (Some(file), None, None) = (&arguments.config, arguments.trainer, resumed)
        && TrainConfig::may_be_of_unit(file)
    {
        tell(&format!(
            "munit-train: {}: recon_kl_w and recon_kl_cyc_w are UNIT's and change nothing of MUNIT, which is \
             trained where nothing else is said; for UNIT give --trainer UNIT, or the key trainer",
            file.display()
        ));
    }
    set(&mut config.max_iter, arguments.iterations);
    set(&mut config.batch_size, arguments.batch_size);
    set(&mut config.generator.dim, arguments.dim);
    set(&mut config.discriminator.dim, arguments.dim);
    set(&mut config.generator.style_dim, arguments.style_dim);
    set(&mut config.lr, arguments.lr);
    config.lr_dis = arguments.lr_dis.or(config.lr_dis);
    if arguments.task.is_some() || arguments.cycle.is_some() {
        // Two names of one thing: the flag goes before both.
        (config.task, config.recon_x_cyc_w) = (arguments.task, arguments.cycle);
    }
    set(&mut config.vgg_w, arguments.perceptual);
    set(&mut config.vgg_style_w, arguments.perceptual_style);
    set(&mut config.paired_w, arguments.paired);
    set(&mut config.vgg_paired_w, arguments.perceptual_paired);
    set(&mut config.augment, arguments.augment.clone());
    set(&mut config.encoded_styles, arguments.encoded_styles);
    set(&mut config.diversity_w, arguments.diversity);
    set(&mut config.consistency_w, arguments.consistency);
    if arguments.vgg_weights.is_some() {
        config.vgg_weights.clone_from(&arguments.vgg_weights);
    }
    for (given, name) in [
        (&arguments.a_name, &mut config.domain_a),
        (&arguments.b_name, &mut config.domain_b),
    ] {
        if given.is_some() {
            name.clone_from(given);
        }
    }
    set(&mut config.precision, arguments.precision);
    set(&mut config.snapshot_save_iter, arguments.checkpoint_every);
    set(&mut config.image_save_iter, arguments.samples_every);
    set(&mut config.seed, arguments.seed);
    if let Some(from) = &from {
        from.begin(&mut config)
            .map_err(|problem| name_flag(problem, arguments))?;
    }
    Ok(config)
}

/// The flag instead of the key in a problem with a value that was given by a flag. Such problems
/// begin with the key.
fn name_flag(problem: anyhow::Error, arguments: &Arguments) -> anyhow::Error {
    let text = problem.to_string();
    let named = given_flags(arguments).find_map(|(flag, keys)| {
        keys.iter()
            .find_map(|key| text.strip_prefix(key)?.strip_prefix(" is "))
            .map(|rest| format!("{flag} is {rest}"))
    });
    named.map_or(problem, anyhow::Error::msg)
}

/// Of the values that a run was begun otherwise with, the one that was given by a flag.
fn name_changed_flag(
    problem: anyhow::Error,
    arguments: &Arguments,
    processes: usize,
) -> anyhow::Error {
    let Some(begun) = problem.downcast_ref::<BegunOtherwise>() else {
        return name_flag(problem, arguments);
    };
    let named = given_flags(arguments).find_map(|(flag, keys)| {
        let mut changes = begun.changes.iter();
        let change = changes.find(|change| keys.contains(&change.key.as_str()))?;
        // The values are those of the whole batch, the flag's that of a process.
        let of_all = format!("the batch of {processes} processes ({flag})");
        let name = match flag {
            "--batch-size" if processes > 1 => &of_all,
            _ => flag,
        };
        Some(begun.sentence(change, name))
    });
    named.map_or(problem, anyhow::Error::msg)
}

/// The flags that were given, with the keys that they set.
fn given_flags(
    arguments: &Arguments,
) -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let flags: [(bool, &str, &[&str]); 23] = [
        (arguments.recipe.is_some(), "--recipe", &["recipe"]),
        (arguments.task.is_some(), "--task", &["task"]),
        (arguments.trainer.is_some(), "--trainer", &["trainer"]),
        (arguments.augment.is_some(), "--augment", &["augment"]),
        (arguments.precision.is_some(), "--precision", &["precision"]),
        (arguments.seed.is_some(), "--seed", &["seed"]),
        (
            arguments.size.is_some(),
            "--size",
            &["crop_image_height", "crop_image_width"],
        ),
        (arguments.dim.is_some(), "--dim", &["gen.dim", "dis.dim"]),
        (
            arguments.style_dim.is_some(),
            "--style-dim",
            &["gen.style_dim"],
        ),
        (
            arguments.iterations.is_some(),
            "--iterations",
            &["max_iter"],
        ),
        (
            arguments.batch_size.is_some(),
            "--batch-size",
            &["batch_size"],
        ),
        (arguments.lr.is_some(), "--lr", &["lr"]),
        (arguments.lr_dis.is_some(), "--lr-dis", &["lr_dis"]),
        (arguments.cycle.is_some(), "--cycle", &["recon_x_cyc_w"]),
        (arguments.perceptual.is_some(), "--perceptual", &["vgg_w"]),
        (
            arguments.perceptual_style.is_some(),
            "--perceptual-style",
            &["vgg_style_w"],
        ),
        (arguments.paired.is_some(), "--paired", &["paired_w"]),
        (
            arguments.perceptual_paired.is_some(),
            "--perceptual-paired",
            &["vgg_paired_w"],
        ),
        (
            arguments.encoded_styles.is_some(),
            "--encoded-styles",
            &["encoded_styles"],
        ),
        (
            arguments.diversity.is_some(),
            "--diversity",
            &["diversity_w"],
        ),
        (
            arguments.consistency.is_some(),
            "--consistency",
            &["consistency_w"],
        ),
        (
            arguments.checkpoint_every.is_some(),
            "--checkpoint-every",
            &["snapshot_save_iter"],
        ),
        (
            arguments.samples_every.is_some(),
            "--samples-every",
            &["image_save_iter"],
        ),
    ];
    let given = flags.into_iter().filter(|(given, ..)| *given);
    given.map(|(_, flag, keys)| (flag, keys))
}

fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}
