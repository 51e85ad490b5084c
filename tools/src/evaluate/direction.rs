//! One direction of a model: its translations of many pictures in many styles, and what figures say
//! of them.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use munit::backbone::{Activations, Backbone, Wanted};
use munit::networks::Generator;
use munit::runtime::Translator;
use munit::{Direction, Domain, Family, Model, StyleCode};
use tch::{Kind, Tensor};

use super::Request;
use super::figure::{DirectionReport, Figure, Histogram, LeftOut};
use super::frechet::frechet_distance;
use super::kernel::kernel_distance;
use super::pictures::{PictureFolder, Pictures, Told};
use super::scores::{
    ClassProbabilities, conditional_inception_score, decibels, inception_score, mean, share_below,
};
use crate::data::{Framing, tensor_to_rgb};
use crate::report::{Progress, Sheet};
use crate::translate::{exact_generator, save_picture};

/// Inputs that the sheet shows.
const SHEET_COLUMNS: usize = 6;
/// Styles of each that it shows.
const SHEET_STYLES: usize = 4;

/// A mean absolute error of a style code that was not to be seen in the picture at all: that of a
/// standard normal number from zero, √(2/π).
const BLIND_STYLE_ERROR: f64 = 0.797_884_560_8;

/// What is asked of every backbone.
const WANTED: Wanted = Wanted {
    perceptual: true,
    style: false,
    content: true,
    features: true,
    logits: true,
};

/// The networks of one direction, and what they are judged with.
pub(super) struct DirectionRun<'a> {
    pub request: &'a Request,
    pub model: &'a Model,
    pub backbones: &'a [Backbone],
    pub direction: Direction,
    pub size: usize,
    pub told: &'a Told,
}

/// What one backbone saw.
#[derive(Default)]
struct Seen {
    /// Mean perceptual distance between translations, of each input.
    diversity: Vec<f64>,
    /// Feature vectors [N, D] of inputs and of translations.
    input_features: Vec<Tensor>,
    features: Vec<Tensor>,
    classes: ClassProbabilities,
    /// Mean content distance between an input and its translations, of each input.
    content: Vec<f64>,
    /// Content distances for the histograms: not normalised, normalised.
    same_scene: [Vec<f64>; 2],
    other_scene: [Vec<f64>; 2],
    /// Of the input before, and of the first.
    before: Option<Activations>,
    first: Option<Activations>,
    /// Of the real pictures of the target domain.
    real_features: Vec<Tensor>,
    real_diversity: Vec<f64>,
}

/// What the networks of the model themselves are good for.
#[derive(Default)]
struct Errors {
    style: Vec<f64>,
    reconstruction: Vec<f64>,
    cycle: Vec<f64>,
}

/// Rows of pictures for the sheet.
#[derive(Default)]
struct Shown {
    inputs: Vec<Tensor>,
    translations: Vec<Tensor>,
    reconstructions: Vec<Tensor>,
    cycles: Vec<Tensor>,
}

impl DirectionRun<'_> {
    pub fn run(&self, pictures: &Pictures) -> Result<DirectionReport> {
        let begin = Instant::now();
        let _no_grad = tch::no_grad_guard();
        let (source, target) = (self.direction.source(), self.direction.target());
        let [inputs, real] = [source, target]
            .map(|domain| PictureFolder::find(pictures, domain, &self.request.model, self.told));
        let (inputs, real) = (inputs?, real?);
        let mut translator = Translator::new(
            self.model,
            self.direction,
            self.request.device,
            self.request.precision,
        )?;
        let style_dim = translator.style_dim();
        let styles = match self.family() {
            Family::Munit => self.request.styles,
            Family::Unit => 1,
        };
        let device = translator.device();
        let generators = [source, target].map(|domain| {
            let needed = match domain == source {
                true => Direction::ALL.into_iter().all(|one| self.model.has(one)),
                false => self.family() == Family::Munit || self.model.has(self.back()),
            };
            needed
                .then(|| exact_generator(self.model, domain, device))
                .transpose()
        });
        let [own, other] = generators;
        let (own, other) = (own?, other?);

        let mut seen: Vec<Seen> = self.backbones.iter().map(|_| Seen::default()).collect();
        let (mut errors, mut shown) = (Errors::default(), Shown::default());
        let expected = inputs.len().min(self.request.inputs);
        let mut progress = Progress::new(0, expected as u64, styles as u64);
        let mut index = 0;
        let mut look = |input: &Tensor| -> Result<()> {
            let codes: Vec<StyleCode> = (0..styles)
                .map(|number| self.style(index * styles + number, style_dim))
                .collect();
            let input = input.f_unsqueeze(0)?;
            let translations = as_shown(&translator.translate_in_styles(&input, &codes)?)?;
            let input = input.f_to_device(device)?;
            self.save(index, &input, &translations)?;
            for (backbone, seen) in self.backbones.iter().zip(&mut seen) {
                seen.look(backbone, &input, &translations)?;
            }
            let roundabout =
                self.measure(&mut errors, &input, &translations, &codes, &own, &other)?;
            if index < SHEET_COLUMNS {
                shown.keep(&input, &translations, roundabout)?;
            }
            index += 1;
            progress.advance(index as u64);
            Ok(())
        };
        let count = inputs.for_each_batch(
            self.request.inputs,
            &self.framing(source),
            self.told,
            |pictures| pictures.iter().try_for_each(&mut look),
        )?;
        progress.finish();
        let real_count = self.look_at_real_pictures(&real, target, &mut seen)?;

        let mut report = DirectionReport {
            direction: self.direction,
            from: self.model.metadata.domain_name(source).to_owned(),
            to: self.model.metadata.domain_name(target).to_owned(),
            inputs: count,
            input_folder: inputs.folder,
            styles,
            real: real_count,
            real_folder: real.folder,
            cautions: [inputs.caution, real.caution]
                .into_iter()
                .flatten()
                .collect(),
            figures: Vec::new(),
            left_out: Vec::new(),
            histograms: Vec::new(),
            seconds: 0.0,
            sheet: Some(shown.sheet()?),
        };
        for (backbone, seen) in self.backbones.iter().zip(seen) {
            seen.report(backbone, &mut report)?;
        }
        errors.report(&mut report);
        self.say_what_is_missing(&mut report);
        report.seconds = begin.elapsed().as_secs_f64();
        Ok(report)
    }

    fn family(&self) -> Family {
        self.model.metadata.architecture.family
    }

    fn back(&self) -> Direction {
        match self.direction {
            Direction::A2b => Direction::B2a,
            Direction::B2a => Direction::A2b,
        }
    }

    fn framing(&self, domain: Domain) -> Framing {
        Framing {
            new_size: self.size,
            crop_height: self.size,
            crop_width: self.size,
            channels: self.model.metadata.architecture.channels(domain),
        }
    }

    fn style(&self, number: usize, style_dim: usize) -> StyleCode {
        StyleCode::sample(self.request.seed.wrapping_add(number as u64), style_dim)
    }

    /// Writes what the figures are computed from, if that is asked for.
    fn save(&self, index: usize, input: &Tensor, translations: &Tensor) -> Result<()> {
        let Some(folder) = &self.request.outputs else {
            return Ok(());
        };
        save_translations(
            &folder.join(self.direction.name()),
            index,
            input,
            translations,
        )
    }

    /// Errors of the model's own codes for one input; gives its reconstruction and what comes back of
    /// it, where the model has both directions.
    fn measure(
        &self,
        errors: &mut Errors,
        input: &Tensor,
        translations: &Tensor,
        codes: &[StyleCode],
        own: &Option<Generator>,
        other: &Option<Generator>,
    ) -> Result<Option<[Tensor; 2]>> {
        let munit = self.family() == Family::Munit;
        if let (true, Some(other)) = (munit, other) {
            let values: Vec<f32> = codes
                .iter()
                .flat_map(|code| code.values().to_vec())
                .collect();
            let encoded = other.encode_style(translations)?;
            let encoded = encoded.f_reshape([codes.len() as i64, -1])?;
            let drawn = Tensor::f_from_slice(&values)?
                .f_reshape(encoded.size())?
                .f_to_device(encoded.device())?;
            let error = encoded.f_sub(&drawn)?.f_abs()?.f_mean(Kind::Double)?;
            errors.style.push(error.f_double_value(&[])?);
        }
        let (Some(own), Some(other)) = (own, other) else {
            return Ok(None);
        };
        let style = munit.then(|| own.encode_style(input)).transpose()?;
        let decode = |content: &Tensor| as_shown(&own.decode(content, style.as_ref())?);
        let reconstruction = decode(&own.encode_content(input)?)?;
        let cycle = decode(&other.encode_content(&translations.f_narrow(0, 0, 1)?)?)?;
        for (values, picture) in [
            (&mut errors.reconstruction, &reconstruction),
            (&mut errors.cycle, &cycle),
        ] {
            let squares = picture.f_sub(input)?.f_square()?.f_mean(Kind::Double)?;
            values.push(decibels(squares.f_double_value(&[])?));
        }
        Ok(Some([reconstruction, cycle]))
    }

    /// Returns how many there were; none are looked at without a backbone.
    fn look_at_real_pictures(
        &self,
        folder: &PictureFolder,
        target: Domain,
        seen: &mut [Seen],
    ) -> Result<usize> {
        if self.backbones.is_empty() {
            return Ok(0);
        }
        folder.for_each_batch(
            self.request.real,
            &self.framing(target),
            self.told,
            |batch| {
                let batch = Tensor::f_stack(batch, 0)?;
                for (backbone, seen) in self.backbones.iter().zip(seen.iter_mut()) {
                    let wanted = Wanted {
                        content: false,
                        logits: false,
                        ..WANTED
                    };
                    let device = backbone.device();
                    let activations = backbone.activations(&batch.f_to_device(device)?, wanted)?;
                    seen.real_features.extend(features(&activations)?);
                    if backbone.can().perceptual {
                        seen.real_diversity
                            .extend(neighbours(&activations, batch.size()[0])?);
                    }
                }
                Ok(())
            },
        )
    }

    fn say_what_is_missing(&self, report: &mut DirectionReport) {
        let mut leave_out = |what, why: &str| {
            let why = why.to_owned();
            report.left_out.push(LeftOut { what, why });
        };
        let can = |use_: fn(&Wanted) -> bool| self.backbones.iter().any(|one| use_(&one.can()));
        let needs = "it needs a --backbone";
        if self.family() == Family::Unit {
            leave_out(
                "diversity",
                "a UNIT model has one translation of each picture",
            );
            leave_out("style reconstruction", "a UNIT model has no style");
        } else if !can(|can| can.perceptual) {
            leave_out("diversity", needs);
        }
        if !can(|can| can.features) {
            leave_out("Fréchet and kernel distance", needs);
        }
        if !can(|can| can.content) {
            leave_out("content distance", needs);
        }
        if !can(|can| can.logits) {
            leave_out(
                "inception scores",
                "they need a --backbone that tells classes apart",
            );
        }
        if !self.model.has(self.back()) {
            leave_out(
                "reconstruction and cycle",
                "the model has one direction only, and they need both",
            );
        }
    }
}

/// Writes an input and its translations into `folder`, as `0000-input.png`, `0000-00.png`, …
pub(super) fn save_translations(
    folder: &Path,
    index: usize,
    input: &Tensor,
    translations: &Tensor,
) -> Result<()> {
    let name = |kind: &str| folder.join(format!("{index:04}-{kind}.png"));
    save_picture(&name("input"), &tensor_to_rgb(input)?)?;
    for number in 0..translations.size()[0] {
        let picture = tensor_to_rgb(&translations.f_get(number)?)?;
        save_picture(&name(&format!("{number:02}")), &picture)?;
    }
    Ok(())
}

/// Brings values to the 256 steps of a picture that is shown or saved, so that other programs can
/// compute the same figures from the saved pictures.
pub(super) fn as_shown(pictures: &Tensor) -> Result<Tensor> {
    Ok(pictures
        .f_add_scalar(1.0)?
        .f_mul_scalar(127.5)?
        .f_round()?
        .f_clamp(0.0, 255.0)?
        .f_div_scalar(127.5)?
        .f_sub_scalar(1.0)?)
}

/// Feature vectors on the CPU, in double precision.
fn features(activations: &Activations) -> Result<Option<Tensor>> {
    let features = activations.features.as_ref();
    let features = features.map(|features| {
        let features = features.f_to_device(tch::Device::Cpu)?;
        Ok(features.f_to_kind(Kind::Double)?)
    });
    features.transpose()
}

/// Perceptual distances between pictures that follow one another; none of fewer than two.
fn neighbours(activations: &Activations, count: i64) -> Result<Vec<f64>> {
    if count < 2 {
        return Ok(Vec::new());
    }
    let places: Vec<i64> = (0..count).collect();
    let first = activations.select(&places[..places.len() - 1])?;
    let second = activations.select(&places[1..])?;
    values(&first.perceptual_distance(&second)?)
}

pub(super) fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    let tensor = tensor
        .f_to_device(tch::Device::Cpu)?
        .f_to_kind(Kind::Double)?;
    Ok(Vec::try_from(tensor)?)
}

impl Seen {
    /// Looks at an input [1, C, H, W] and its translations [N, C, H, W].
    fn look(&mut self, backbone: &Backbone, input: &Tensor, translations: &Tensor) -> Result<()> {
        let at_pictures = || {
            format!(
                "{}: pictures of {} pixels",
                backbone.name(),
                input.size()[3]
            )
        };
        let device = backbone.device();
        let look = |pictures: &Tensor| {
            let pictures = pictures.f_to_device(device)?;
            backbone.activations(&pictures, WANTED)
        };
        let own = look(input).with_context(at_pictures)?;
        let made = look(translations).with_context(at_pictures)?;
        let can = backbone.can();
        if can.perceptual {
            self.diversity
                .extend(mean(neighbours(&made, translations.size()[0])?));
        }
        self.input_features.extend(features(&own)?);
        self.features.extend(features(&made)?);
        if let Some(logits) = &made.logits {
            let probabilities = logits.f_softmax(-1, Kind::Double)?;
            let rows = (0..probabilities.size()[0])
                .map(|row| values(&probabilities.f_get(row)?))
                .collect::<Result<_>>()?;
            self.classes.push(rows);
        }
        if can.content {
            self.content
                .extend(mean(values(&made.content_distance(&own, true)?)?));
            let one = made.select(&[0])?;
            for (place, normalised) in [false, true].into_iter().enumerate() {
                self.same_scene[place].extend(values(&one.content_distance(&own, normalised)?)?);
                if let Some(before) = &self.before {
                    let distance = own.content_distance(before, normalised)?;
                    self.other_scene[place].extend(values(&distance)?);
                }
            }
            if self.first.is_none() {
                self.first = Some(own.select(&[0])?);
            }
            self.before = Some(own);
        }
        Ok(())
    }

    fn report(mut self, backbone: &Backbone, report: &mut DirectionReport) -> Result<()> {
        let name = backbone.name();
        // The last input's other scene is the first's, so that each has one.
        if let (Some(before), Some(first), true) =
            (&self.before, &self.first, self.content.len() > 2)
        {
            for (place, normalised) in [false, true].into_iter().enumerate() {
                let distance = before.content_distance(first, normalised)?;
                self.other_scene[place].extend(values(&distance)?);
            }
        }
        let figures = &mut report.figures;
        let mut add = |figure: Figure| figures.push(figure.with_backbone(name));
        if let Some(figure) = Figure::mean(
            "diversity",
            "diversity",
            &self.diversity,
            "mean perceptual distance between two styles of one input; higher is more various, \
             which alone is no merit",
        ) {
            add(figure.beside("real pictures", mean(self.real_diversity.iter().copied())));
        }
        self.report_distances(&mut add, report.left_out.as_mut())?;
        if let Some(figure) = Figure::mean(
            "content_distance",
            "content distance",
            &self.content,
            "perceptual distance between an input and its translations on instance-normalised \
             maps; lower keeps more of what is shown",
        ) {
            let [_, others] = &self.other_scene;
            add(figure.beside("two different inputs", mean(others.iter().copied())));
        }
        for (place, normalised) in [(1, true), (0, false)] {
            let (same, other) = (&self.same_scene[place], &self.other_scene[place]);
            let Some(share) = share_below(same, other) else {
                continue;
            };
            if normalised {
                add(Figure::new(
                    "content_kept",
                    "content kept",
                    share,
                    "how often a translation is closer to an input than another input is; 1 is \
                     always, 0.5 is chance",
                ));
            }
            report.histograms.push(Histogram {
                backbone: name.to_owned(),
                normalised,
                same_scene: same.clone(),
                other_scene: other.clone(),
            });
        }
        let scores = [
            (
                "conditional_inception_score",
                "conditional inception score",
                conditional_inception_score(&self.classes),
                "variety of classes among one input's translations, in nats; higher is more various",
            ),
            (
                "inception_score",
                "inception score",
                inception_score(&self.classes),
                "variety of classes among all translations, in nats; higher is more various",
            ),
        ];
        for (key, title, value, meaning) in scores {
            if let Some(value) = value {
                add(Figure::new(key, title, value, meaning).in_unit("nats"));
            }
        }
        Ok(())
    }

    fn report_distances(
        &self,
        add: &mut impl FnMut(Figure),
        left_out: &mut Vec<LeftOut>,
    ) -> Result<()> {
        if self.features.is_empty() || self.real_features.is_empty() {
            return Ok(());
        }
        let made = Tensor::f_cat(&self.features, 0)?;
        let inputs = Tensor::f_cat(&self.input_features, 0)?;
        let real = Tensor::f_cat(&self.real_features, 0)?;
        let counts = [&made, &inputs, &real].map(|set| set.size()[0]);
        if counts[0] < 2 || counts[2] < 2 {
            left_out.push(LeftOut {
                what: "Fréchet and kernel distance",
                why: "they need two pictures of each kind".to_owned(),
            });
            return Ok(());
        }
        let untranslated = "inputs as they are";
        let of_inputs = |distance: fn(&Tensor, &Tensor) -> Result<f64>| {
            (counts[1] > 1)
                .then(|| distance(&inputs, &real))
                .transpose()
        };
        let length = real.size()[1];
        let few = (counts[2] <= length).then(|| {
            format!(
                "{} real pictures are few for {length} features: too high, and comparable only with \
                 as many",
                counts[2]
            )
        });
        add(Figure::new(
            "frechet_distance",
            "Fréchet distance",
            frechet_distance(&made, &real)?,
            "between the features of all translations and of real pictures of the target domain; \
             lower is closer",
        )
        .beside(untranslated, of_inputs(frechet_distance)?)
        .with_caution(few));
        add(Figure::new(
            "kernel_distance",
            "kernel distance",
            kernel_distance(&made, &real)?,
            "between the features of all translations and of real pictures of the target domain, \
             unbiased; lower is closer, about 0 is as close as real ones",
        )
        .beside(untranslated, of_inputs(kernel_distance)?));
        Ok(())
    }
}

impl Errors {
    fn report(&self, report: &mut DirectionReport) {
        let figures = [
            Figure::mean(
                "style_error",
                "style reconstruction error",
                &self.style,
                "mean absolute difference between a drawn style code and the one encoded from the \
                 translation; lower is better",
            )
            .map(|figure| figure.beside("styles that leave no trace", Some(BLIND_STYLE_ERROR))),
            Figure::mean(
                "reconstruction_psnr",
                "reconstruction PSNR",
                &self.reconstruction,
                "of an input encoded and decoded within its own domain; higher is better",
            )
            .map(|figure| figure.in_unit("dB")),
            Figure::mean(
                "cycle_psnr",
                "cycle PSNR",
                &self.cycle,
                "of an input translated, and translated back in its own style; higher keeps more",
            )
            .map(|figure| figure.in_unit("dB")),
        ];
        report.figures.extend(figures.into_iter().flatten());
    }
}

impl Shown {
    fn keep(
        &mut self,
        input: &Tensor,
        translations: &Tensor,
        roundabout: Option<[Tensor; 2]>,
    ) -> Result<()> {
        self.inputs.push(input.shallow_clone());
        let styles = translations.size()[0].min(SHEET_STYLES as i64);
        self.translations.push(translations.f_narrow(0, 0, styles)?);
        if let Some([reconstruction, cycle]) = roundabout {
            self.reconstructions.push(reconstruction);
            self.cycles.push(cycle);
        }
        Ok(())
    }

    fn sheet(&self) -> Result<image::RgbImage> {
        let mut sheet = Sheet::new();
        sheet.row("input", &Tensor::f_cat(&self.inputs, 0)?)?;
        let styles = self.translations.iter().map(|styles| styles.size()[0]);
        for style in 0..styles.min().unwrap_or(0) {
            let row = self
                .translations
                .iter()
                .map(|styles| Ok(styles.f_narrow(0, style, 1)?))
                .collect::<Result<Vec<_>>>()?;
            // Each input has draws of its own, so that a row is in no one style.
            sheet.row(&format!("draw {}", style + 1), &Tensor::f_cat(&row, 0)?)?;
        }
        for (label, row) in [
            ("reconstructed", &self.reconstructions),
            ("there and back", &self.cycles),
        ] {
            if !row.is_empty() {
                sheet.row(label, &Tensor::f_cat(row, 0)?)?;
            }
        }
        Ok(sheet.render())
    }
}
