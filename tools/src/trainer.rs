//! One training iteration, as the papers' algorithms have it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use munit::config::{Domain, Family, Norm};
use munit::networks::{Discriminator, Generator, ParameterStore};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::adam::{Adam, AdamOptions, FlatParameters, named};
use crate::augmentation::augment;
use crate::buffers::Buffers;
use crate::config::{Rollback, TrainConfig};
use crate::consistency::{self, Shift};
use crate::ema::Ema;
use crate::gradient_penalty::r1;
use crate::loss_scale;
use crate::losses::{StepLosses, Terms, discriminator_loss, generator_loss, kl, l1, style_prior};
use crate::perceptual::PerceptualNetwork;
use crate::random::{Noise, upload};
use crate::ranks::Ranks;
use crate::recipe::Recipe;
use crate::torch_failure;

/// A value for each domain.
#[derive(Clone, Debug)]
pub struct Pair<T> {
    /// Domain a's.
    pub a: T,
    /// Domain b's.
    pub b: T,
}

impl<T> Pair<T> {
    /// The value for `domain`.
    pub fn get(&self, domain: Domain) -> &T {
        match domain {
            Domain::A => &self.a,
            Domain::B => &self.b,
        }
    }

    /// Domain a's is made first.
    ///
    /// # Errors
    /// The first that `make` returns.
    pub fn try_new<E>(mut make: impl FnMut(Domain) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self {
            a: make(Domain::A)?,
            b: make(Domain::B)?,
        })
    }
}

/// The random numbers of stream `stream` (for training noise: the iteration) of a run. Nothing
/// else is needed to go on with a run, so that no random state has to be saved.
pub fn noise_generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream);
    random
}

/// What a decoder makes a picture of.
#[derive(Clone, Copy)]
struct Code<'c> {
    content: &'c Tensor,
    style: Option<&'c Tensor>,
}

impl<'c> Code<'c> {
    fn plain(content: &'c Tensor) -> Self {
        Self {
            content,
            style: None,
        }
    }

    fn styled(content: &'c Tensor, style: &'c Tensor) -> Self {
        Self {
            content,
            style: Some(style),
        }
    }
}

/// Styles for the pictures of each domain.
struct Styles {
    /// Encoded from the pictures themselves.
    own: Pair<Tensor>,
    /// Of translations into the domain.
    target: Pair<Tensor>,
}

/// Codes of a batch, and what the decoders have made of them.
struct Decoded {
    content: Pair<Tensor>,
    /// MUNIT's.
    styles: Option<Styles>,
    /// Unless nothing is learned from them.
    reconstructed: Option<Pair<Tensor>>,
    /// Into each domain.
    translated: Pair<Tensor>,
    /// The first of these once more, in other styles.
    varied: Option<Pair<Tensor>>,
}

impl Decoded {
    /// `pictures`: reconstructions, if there are any, translations and, perhaps, varied ones.
    fn new(
        content: Pair<Tensor>,
        styles: Option<Styles>,
        has_reconstructions: bool,
        pictures: Pair<Vec<Tensor>>,
    ) -> Result<Self> {
        let (mut a, mut b) = (pictures.a.into_iter(), pictures.b.into_iter());
        let mut next = || a.next().zip(b.next()).map(|(a, b)| Pair { a, b });
        Ok(Self {
            content,
            styles,
            reconstructed: has_reconstructions.then(&mut next).flatten(),
            translated: next().context("no translations")?,
            varied: next(),
        })
    }
}

/// Shifted pictures of both domains.
struct Shifted {
    shift: Shift,
    pictures: Pair<Tensor>,
}

/// Content codes of pictures of one domain.
struct EncodedAgain {
    /// Of translations into it, if they are needed.
    translated: Option<Tensor>,
    /// Of its shifted pictures.
    shifted: Option<Tensor>,
}

/// Pictures of one domain that are decoded of codes of [`EncodedAgain`].
struct LastPictures {
    cycle: Option<Tensor>,
    /// Translations of shifted pictures.
    shifted: Option<Tensor>,
}

/// Networks and optimisers of a run.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    device: Device,
    /// The generators.
    pub generators: Pair<Generator>,
    /// The discriminators.
    pub discriminators: Pair<Discriminator>,
    /// The generators' parameters.
    pub generator_parameters: FlatParameters,
    /// The discriminators' parameters.
    pub discriminator_parameters: FlatParameters,
    /// The generators' optimiser.
    pub generator_optimiser: Adam,
    /// The discriminators' optimiser.
    pub discriminator_optimiser: Adam,
    /// The averaged generators.
    pub ema: Ema,
    perceptual: Option<PerceptualNetwork>,
    /// What passes through networks change.
    buffers: Buffers,
    /// Iterations done.
    pub iteration: u64,
    /// Whether an iteration has failed that had already changed some of the weights.
    is_torn: bool,
    ranks: Ranks,
}

/// Separates the seeds of the four networks of a run.
const NETWORK_SEEDS: u64 = 4;

impl Trainer {
    /// Networks drawn from `config.seed`.
    ///
    /// # Errors
    /// A configuration that no network fits; a perceptual loss without its weights; no memory.
    pub fn new(
        config: TrainConfig,
        device: Device,
        perceptual: Option<PerceptualNetwork>,
    ) -> Result<Self> {
        let base = config.seed.wrapping_mul(NETWORK_SEEDS);
        let generators = Pair::try_new(|domain| {
            let seed = base.wrapping_add(domain as u64);
            let store = ParameterStore::random(config.init, seed, device);
            Generator::new(&config.architecture(), domain, store)
        })?;
        let discriminators = drawn_discriminators(&config, device)?;
        Self::with_networks(&config, device, perceptual, generators, discriminators)
    }

    /// Generators with the `weights` of a model file of both directions, from which their average begins,
    /// too, and discriminators drawn from `config.seed`.
    ///
    /// # Errors
    /// Weights that do not fit `config`; those of [`Self::new`].
    pub fn with_weights(
        config: &TrainConfig,
        device: Device,
        perceptual: Option<PerceptualNetwork>,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<Self> {
        let generators = Pair::try_new(|domain| {
            let prefix = format!("{}.", domain.name());
            let store = ParameterStore::given(weights, &prefix, device);
            Generator::new(&config.architecture(), domain, store)
        })?;
        let discriminators = drawn_discriminators(config, device)?;
        Self::with_networks(config, device, perceptual, generators, discriminators)
    }

    /// With given networks, which must fit `config`.
    ///
    /// # Errors
    /// A configuration that cannot be used; a perceptual loss without its weights; no memory.
    pub fn with_networks(
        config: &TrainConfig,
        device: Device,
        perceptual: Option<PerceptualNetwork>,
        generators: Pair<Generator>,
        discriminators: Pair<Discriminator>,
    ) -> Result<Self> {
        config.check()?;
        if config.vgg_w > 0.0 && perceptual.is_none() {
            bail!(
                "vgg_w is {}, but there is no network for it; give a .safetensors file with --vgg-weights",
                config.vgg_w
            );
        }
        if let Device::Cuda(_) = device {
            // Every iteration has pictures of the same sizes.
            tch::Cuda::cudnn_set_benchmark(true);
        }
        let options = AdamOptions {
            beta1: config.beta1,
            beta2: config.beta2,
            weight_decay: config.weight_decay,
            scales_loss: config.precision.kind(device) == Kind::Half,
        };
        let generator_parameters = FlatParameters::new(
            named("gen_a", generators.a.parameters())
                .chain(named("gen_b", generators.b.parameters())),
        )?;
        let discriminator_parameters = FlatParameters::new(
            named("dis_a", discriminators.a.parameters())
                .chain(named("dis_b", discriminators.b.parameters())),
        )?;
        let buffers = Buffers::new(
            [
                ("gen_a", generators.a.parameters()),
                ("gen_b", generators.b.parameters()),
                ("dis_a", discriminators.a.parameters()),
                ("dis_b", discriminators.b.parameters()),
            ]
            .into_iter()
            .flat_map(|(network, parameters)| named(network, parameters)),
        )?;
        Ok(Self {
            generator_optimiser: Adam::new(&generator_parameters, options)?,
            discriminator_optimiser: Adam::new(&discriminator_parameters, options)?,
            ema: Ema::new(
                generator_parameters.vector(),
                config.ema_decay,
                config.ema_warmup,
            )?,
            config: config.clone(),
            device,
            generators,
            discriminators,
            generator_parameters,
            discriminator_parameters,
            perceptual,
            buffers,
            iteration: 0,
            is_torn: false,
            ranks: Ranks::alone(),
        })
    }

    /// From now on computes on one share of each batch, as the trainers of all `ranks` do, and takes
    /// the mean of all their gradients.
    ///
    /// # Errors
    /// libtorch's.
    pub fn average_over(&mut self, ranks: &Ranks) -> Result<()> {
        self.generator_parameters.average_over(ranks)?;
        self.discriminator_parameters.average_over(ranks)?;
        self.ranks = ranks.clone();
        Ok(())
    }

    /// How many trainers' gradients are averaged, this one's included.
    pub fn processes(&self) -> usize {
        self.ranks.count()
    }

    /// Takes the state that it has been given for that after `iteration` iterations.
    ///
    /// # Errors
    /// More iterations than can be counted.
    pub fn go_on_from(&mut self, iteration: u64) -> Result<()> {
        let updates = i64::try_from(iteration)?;
        self.iteration = iteration;
        for optimiser in [
            &mut self.generator_optimiser,
            &mut self.discriminator_optimiser,
        ] {
            // Where some may have been passed over, their number belongs to the state.
            if optimiser.loss_scale.is_none() {
                let _same = optimiser.updates.f_fill_(updates)?;
            }
        }
        Ok(())
    }

    /// The run's configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Whether the state is that after [`Self::iteration`] iterations. It is not if [`Self::step`] has failed
    /// between its two updates, and never will be again.
    pub fn is_whole(&self) -> bool {
        !self.is_torn
    }

    /// Goes on with the learning rates and the noise that follow from these returns.
    pub fn set_rollbacks(&mut self, rollbacks: Vec<Rollback>) {
        self.config.rollbacks = rollbacks;
    }

    /// The device that the networks are on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The generators with averaged weights: those that are shown and exported.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn averaged_generators(&self) -> Result<Pair<Generator>> {
        let weights = self.averaged_weights()?;
        Pair::try_new(|domain| {
            let prefix = format!("{}.", domain.name());
            let store = ParameterStore::given(&weights, &prefix, self.device);
            Ok(Generator::new(&self.config.architecture(), domain, store)?)
        })
    }

    /// The averaged weights by the names that they have in a model file: `a.` or `b.` and the
    /// parameter's name.
    ///
    /// # Errors
    /// libtorch's.
    pub fn averaged_weights(&self) -> Result<BTreeMap<String, Tensor>> {
        self.generator_parameters
            .spans()
            .iter()
            .map(|span| {
                let name = span.name.strip_prefix("gen_").unwrap_or(&span.name);
                Ok((name.to_owned(), span.view(&self.ema.vector)?))
            })
            .collect()
    }

    /// One iteration on pictures `x_a`, `x_b` [B, C, H, W] in [-1, 1]: a discriminator update,
    /// then a generator update, with fresh noise unless the two share their translations. Returns all
    /// losses.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory; the state is then what it was before, unless
    /// [`Self::is_whole`] says otherwise.
    pub fn step(&mut self, x_a: &Tensor, x_b: &Tensor, noise: &mut Noise) -> Result<StepLosses> {
        self.buffers.keep()?;
        let before = self.iteration;
        let result = torch_failure::as_errors(|| self.iterate(x_a, x_b, noise));
        if result.is_err() && self.iteration == before && self.is_whole() {
            self.is_torn = self.buffers.put_back().is_err();
        }
        result
    }

    fn iterate(&mut self, x_a: &Tensor, x_b: &Tensor, noise: &mut Noise) -> Result<StepLosses> {
        let kind = self.config.precision.kind(self.device);
        let x = Pair {
            a: channels_last(&upload(x_a, self.device)?.f_to_kind(kind)?)?,
            b: channels_last(&upload(x_b, self.device)?.f_to_kind(kind)?)?,
        };
        // Both updates see the generators as they are now, so that pictures are encoded once.
        let content = Pair {
            a: self.generators.a.encode_content(&x.a)?,
            b: self.generators.b.encode_content(&x.b)?,
        };
        let (discriminator_terms, generator_terms) = if self.config.gan_w == 0.0 {
            let decoded = self.decode(&x, content, noise)?;
            let generator_terms = self.generator_update(&x, &decoded, noise)?;
            (Terms::default(), generator_terms)
        } else if self.config.share_translations {
            let decoded = self.decode(&x, content, noise)?;
            let fake = Pair {
                a: decoded.translated.a.f_detach()?,
                b: decoded.translated.b.f_detach()?,
            };
            let discriminator_terms = self.discriminator_update(&x, &fake, noise)?;
            (
                discriminator_terms,
                self.generator_update(&x, &decoded, noise)?,
            )
        } else {
            let fake = tch::no_grad(|| self.translations(&x, &content, noise))?;
            let discriminator_terms = self.discriminator_update(&x, &fake, noise)?;
            let decoded = self.decode(&x, content, noise)?;
            (
                discriminator_terms,
                self.generator_update(&x, &decoded, noise)?,
            )
        };
        self.ema
            .update(self.generator_parameters.vector(), self.iteration + 1)?;
        self.iteration += 1;
        self.is_torn = false;

        let scales = self.loss_scales()?;
        let losses = discriminator_terms
            .named("dis_total")
            .chain(generator_terms.named("gen_total"))
            .chain(scales.iter().map(|(name, scale)| (*name, scale)));
        StepLosses::new(losses)
    }

    /// What the next losses are multiplied by, where they are, by their names.
    fn loss_scales(&self) -> Result<Vec<(&'static str, Tensor)>> {
        loss_scale::NAMES
            .into_iter()
            .zip([&self.discriminator_optimiser, &self.generator_optimiser])
            .filter_map(|(name, optimiser)| Some((name, optimiser.loss_scale.as_ref()?)))
            .map(|(name, loss_scale)| Ok((name, loss_scale.scale()?)))
            .collect()
    }

    fn discriminator_update(
        &mut self,
        x: &Pair<Tensor>,
        fake: &Pair<Tensor>,
        noise: &mut Noise,
    ) -> Result<Terms> {
        let config = &self.config;
        let mut terms = Terms::default();
        for (name, discriminator, fake, real) in [
            ("dis_a", &self.discriminators.a, &fake.a, &x.a),
            ("dis_b", &self.discriminators.b, &fake.b, &x.b),
        ] {
            let [scores_fake, scores_real] = self.judge(discriminator, [fake, real], noise)?;
            let gan_type = config.discriminator.gan_type;
            let loss = discriminator_loss(gan_type, &scores_fake, &scores_real)?;
            terms.add(name, config.gan_w, loss)?;
        }
        if config.r1_w > 0.0 && self.iteration.is_multiple_of(config.r1_every) {
            // For the iterations until the next time, too.
            let weight = config.r1_w * config.r1_every as f64;
            terms.add("dis_r1_a", weight, r1(&self.discriminators.a, &x.a)?)?;
            terms.add("dis_r1_b", weight, r1(&self.discriminators.b, &x.b)?)?;
        }
        let [_, rate] = config.learning_rates(self.iteration);
        let loss = self.discriminator_optimiser.scaled(total(&terms)?)?;
        self.discriminator_parameters.differentiate(&loss)?;
        self.is_torn = true;
        self.discriminator_optimiser
            .step(&self.discriminator_parameters, rate)?;
        Ok(terms)
    }

    /// Scores of each scale for both of `pictures`: in one pass, unless the network would notice.
    fn judge(
        &self,
        discriminator: &Discriminator,
        pictures: [&Tensor; 2],
        noise: &mut Noise,
    ) -> Result<[Vec<Tensor>; 2]> {
        let changes = &self.config.augment;
        match (self.config.discriminator.norm, self.config.recipe) {
            // Statistics over all pictures of a pass; as published, a power iteration in each pass.
            (Norm::Batch, _) | (Norm::Spectral, Recipe::Classic) => Ok([
                discriminator.forward(&augment(pictures[0], changes, noise)?)?,
                discriminator.forward(&augment(pictures[1], changes, noise)?)?,
            ]),
            _ => {
                // One after the other, so that each picture has the numbers that it would have in one
                // process.
                let seen = [
                    augment(pictures[0], changes, noise)?,
                    augment(pictures[1], changes, noise)?,
                ];
                let both = join(&[&seen[0], &seen[1]])?;
                let mut scores = [vec![], vec![]];
                for both in discriminator.forward(&both)? {
                    for (scores, part) in scores.iter_mut().zip(part(&both, &pictures)?) {
                        scores.push(part);
                    }
                }
                Ok(scores)
            }
        }
    }

    /// Pictures translated into each domain, with styles or latent noise drawn anew.
    fn translations(
        &self,
        x: &Pair<Tensor>,
        content: &Pair<Tensor>,
        noise: &mut Noise,
    ) -> Result<Pair<Tensor>> {
        let (gen_a, gen_b) = (&self.generators.a, &self.generators.b);
        match self.config.architecture().family {
            Family::Munit => {
                let drawn = self.draw_styles(&content.a, noise)?;
                let style = match self.encoded_styles() {
                    0 => drawn,
                    _ => Pair::try_new(|domain| {
                        let own = self.generators.get(domain).encode_style(x.get(domain))?;
                        self.mix_styles(&own, drawn.get(domain))
                    })?,
                };
                Ok(Pair {
                    a: gen_a.decode(&content.b, Some(&style.a))?,
                    b: gen_b.decode(&content.a, Some(&style.b))?,
                })
            }
            Family::Unit => {
                let h_a = self.noisy(&content.a, noise)?;
                let h_b = self.noisy(&content.b, noise)?;
                Ok(Pair {
                    a: gen_a.decode(&h_b, None)?,
                    b: gen_b.decode(&h_a, None)?,
                })
            }
        }
    }

    /// Reconstructions and translations, for which gradients are kept.
    fn decode(
        &self,
        x: &Pair<Tensor>,
        content: Pair<Tensor>,
        noise: &mut Noise,
    ) -> Result<Decoded> {
        match self.config.architecture().family {
            Family::Munit => self.decode_munit(x, content, noise),
            Family::Unit => self.decode_unit(content, noise),
        }
    }

    fn decode_munit(
        &self,
        x: &Pair<Tensor>,
        content: Pair<Tensor>,
        noise: &mut Noise,
    ) -> Result<Decoded> {
        let drawn = self.draw_styles(&content.a, noise)?;
        let own = Pair {
            a: self.generators.a.encode_style(&x.a)?,
            b: self.generators.b.encode_style(&x.b)?,
        };
        let target = Pair::try_new(|domain| self.mix_styles(own.get(domain), drawn.get(domain)))?;
        let reconstructs = self.config.reconstructs();
        let varied = match self.config.diversity_weight(self.iteration) > 0.0 {
            true => Some(self.draw_varied(&content, noise)?),
            false => None,
        };
        let pictures = Pair::try_new(|domain| {
            let other_content = content.get(domain.other());
            let mut codes = Vec::new();
            if reconstructs {
                codes.push(Code::styled(content.get(domain), own.get(domain)));
            }
            codes.push(Code::styled(other_content, target.get(domain)));
            if let Some(varied) = &varied {
                let (content, style) = varied.get(domain);
                codes.push(Code::styled(content, style));
            }
            self.decode_together(domain, &codes)
        })?;
        let styles = Some(Styles { own, target });
        Decoded::new(content, styles, reconstructs, pictures)
    }

    fn decode_unit(&self, content: Pair<Tensor>, noise: &mut Noise) -> Result<Decoded> {
        let noisy = Pair::try_new(|domain| self.noisy(content.get(domain), noise))?;
        let pictures = Pair::try_new(|domain| {
            let codes = [
                Code::plain(noisy.get(domain)),
                Code::plain(noisy.get(domain.other())),
            ];
            self.decode_together(domain, &codes)
        })?;
        Decoded::new(content, None, true, pictures)
    }

    /// What the decoder of `domain` makes of each of `codes`, in one pass.
    fn decode_together(&self, domain: Domain, codes: &[Code]) -> Result<Vec<Tensor>> {
        if codes.is_empty() {
            return Ok(Vec::new());
        }
        let contents: Vec<&Tensor> = codes.iter().map(|code| code.content).collect();
        let styles: Option<Vec<&Tensor>> = codes.iter().map(|code| code.style).collect();
        let style = styles.map(|styles| join(&styles)).transpose()?;
        let pictures = self
            .generators
            .get(domain)
            .decode(&join(&contents)?, style.as_ref())?;
        part(&pictures, &contents)
    }

    fn generator_update(
        &mut self,
        x: &Pair<Tensor>,
        decoded: &Decoded,
        noise: &mut Noise,
    ) -> Result<Terms> {
        // Gradients pass through the discriminators, but none of theirs is wanted.
        self.discriminator_parameters.set_requires_grad(false)?;
        let terms = match &decoded.styles {
            Some(styles) => self.munit_generator_terms(x, decoded, styles, noise),
            None => self.unit_generator_terms(x, decoded, noise),
        }
        .and_then(|terms| {
            let loss = self.generator_optimiser.scaled(total(&terms)?)?;
            self.generator_parameters.differentiate(&loss)?;
            Ok(terms)
        });
        self.discriminator_parameters.set_requires_grad(true)?;
        let terms = terms?;
        let [rate, _] = self.config.learning_rates(self.iteration);
        self.generator_optimiser
            .step(&self.generator_parameters, rate)?;
        Ok(terms)
    }

    /// arXiv 1804.04732, equations 1 to 5, and the style-augmented cycle of section 5.1.
    fn munit_generator_terms(
        &self,
        x: &Pair<Tensor>,
        decoded: &Decoded,
        Styles { own, target }: &Styles,
        noise: &mut Noise,
    ) -> Result<Terms> {
        let config = &self.config;
        let (c_a, c_b) = (&decoded.content.a, &decoded.content.b);
        let Pair { a: x_ba, b: x_ab } = &decoded.translated;
        let shifted = self.shift(x, noise)?;
        let cycle_weight = config.cycle_weight();
        let is_encoded_again = config.recon_c_w > 0.0 || cycle_weight > 0.0;
        let translated = is_encoded_again.then_some(&decoded.translated);
        let again = self.encode_again(translated, shifted.as_ref())?;

        let mut terms = Terms::default();
        if let Some(reconstructed) = &decoded.reconstructed {
            let weight = config.recon_x_w;
            terms.add("gen_recon_x_a", weight, l1(&reconstructed.a, &x.a)?)?;
            terms.add("gen_recon_x_b", weight, l1(&reconstructed.b, &x.b)?)?;
        }
        if config.recon_s_w > 0.0 {
            for (name, generator, translated, target) in [
                ("gen_recon_s_a", &self.generators.a, x_ba, &target.a),
                ("gen_recon_s_b", &self.generators.b, x_ab, &target.b),
            ] {
                let again = generator.encode_style(translated)?;
                terms.add(name, config.recon_s_w, l1(&again, &target.f_detach()?)?)?;
            }
        }
        if let (Some(c_b_recon), Some(c_a_recon)) = (&again.a.translated, &again.b.translated) {
            let (c_a_target, c_b_target) = (self.content_target(c_a)?, self.content_target(c_b)?);
            let weight = config.recon_c_w;
            terms.add("gen_recon_c_a", weight, l1(c_a_recon, &c_a_target)?)?;
            terms.add("gen_recon_c_b", weight, l1(c_b_recon, &c_b_target)?)?;
        }
        let last = Pair::try_new(|domain| {
            let again = again.get(domain.other());
            let cycle = again.translated.as_ref().filter(|_| cycle_weight > 0.0);
            let cycle = cycle.map(|content| Code::styled(content, own.get(domain)));
            let shifted = again.shifted.as_ref();
            let shifted = shifted.map(|content| Code::styled(content, target.get(domain)));
            self.decode_last(domain, cycle, shifted)
        })?;
        if let (Some(x_aba), Some(x_bab)) = (&last.a.cycle, &last.b.cycle) {
            terms.add("gen_cycrecon_x_a", cycle_weight, l1(x_aba, &x.a)?)?;
            terms.add("gen_cycrecon_x_b", cycle_weight, l1(x_bab, &x.b)?)?;
        }
        self.add_picture_terms(&mut terms, x, decoded, noise)?;
        if let Some(Shifted { shift, .. }) = shifted {
            self.add_consistency(&mut terms, shift, &decoded.translated, &last)?;
        }
        self.add_example_terms(&mut terms, x, decoded)?;
        if let Some(varied) = &decoded.varied {
            // The more they differ, the better.
            let weight = -config.diversity_weight(self.iteration);
            let difference = |varied: &Tensor, plain: &Tensor| {
                l1(varied, &plain.f_narrow(0, 0, varied.size()[0])?)
            };
            terms.add("gen_diversity_a", weight, difference(&varied.a, x_ba)?)?;
            terms.add("gen_diversity_b", weight, difference(&varied.b, x_ab)?)?;
        }
        if config.style_prior_w > 0.0
            && let Some(prior_a) = style_prior(&own.a, &self.ranks)?
            && let Some(prior_b) = style_prior(&own.b, &self.ranks)?
        {
            terms.add("gen_style_prior_a", config.style_prior_w, prior_a)?;
            terms.add("gen_style_prior_b", config.style_prior_w, prior_b)?;
        }
        Ok(terms)
    }

    /// arXiv 1703.00848, equations 3 to 9.
    fn unit_generator_terms(
        &self,
        x: &Pair<Tensor>,
        decoded: &Decoded,
        noise: &mut Noise,
    ) -> Result<Terms> {
        let config = &self.config;
        let (h_a, h_b) = (&decoded.content.a, &decoded.content.b);
        let shifted = self.shift(x, noise)?;
        let again = self.encode_again(Some(&decoded.translated), shifted.as_ref())?;
        let (Some(h_b_recon), Some(h_a_recon)) = (&again.a.translated, &again.b.translated) else {
            bail!("no codes of translations");
        };
        let noisy_b_recon = self.noisy(h_b_recon, noise)?;
        let noisy_a_recon = self.noisy(h_a_recon, noise)?;

        let mut terms = Terms::default();
        let reconstructed = decoded.reconstructed.as_ref();
        let reconstructed = reconstructed.context("no reconstructions")?;
        let weight = config.recon_x_w;
        terms.add("gen_recon_x_a", weight, l1(&reconstructed.a, &x.a)?)?;
        terms.add("gen_recon_x_b", weight, l1(&reconstructed.b, &x.b)?)?;
        terms.add("gen_recon_kl_a", config.recon_kl_w, kl(h_a)?)?;
        terms.add("gen_recon_kl_b", config.recon_kl_w, kl(h_b)?)?;
        let cycle_weight = config.cycle_weight();
        let noisy = Pair {
            a: noisy_a_recon,
            b: noisy_b_recon,
        };
        let last = Pair::try_new(|domain| {
            let cycle = (cycle_weight > 0.0).then(|| Code::plain(noisy.get(domain)));
            let shifted = again.get(domain.other()).shifted.as_ref();
            self.decode_last(domain, cycle, shifted.map(Code::plain))
        })?;
        if let (Some(x_aba), Some(x_bab)) = (&last.a.cycle, &last.b.cycle) {
            terms.add("gen_cyc_x_a", cycle_weight, l1(x_aba, &x.a)?)?;
            terms.add("gen_cyc_x_b", cycle_weight, l1(x_bab, &x.b)?)?;
        }
        terms.add(
            "gen_recon_kl_cyc_aba",
            config.recon_kl_cyc_w,
            kl(h_a_recon)?,
        )?;
        terms.add(
            "gen_recon_kl_cyc_bab",
            config.recon_kl_cyc_w,
            kl(h_b_recon)?,
        )?;
        self.add_picture_terms(&mut terms, x, decoded, noise)?;
        if let Some(Shifted { shift, .. }) = shifted {
            // Shifted pictures are translated without noise on their codes, as every picture is once the
            // model is trained. What they are compared with has none, either.
            let plain = tch::no_grad(|| -> Result<_> {
                Pair::try_new(|domain| {
                    let content = decoded.content.get(domain.other());
                    Ok(self.generators.get(domain).decode(content, None)?)
                })
            })?;
            self.add_consistency(&mut terms, shift, &plain, &last)?;
        }
        if config.is_paired() {
            self.add_paired_terms(&mut terms, x, decoded, x.a.size()[0])?;
        }
        Ok(terms)
    }

    /// Adversarial and perceptual terms on the translations.
    fn add_picture_terms(
        &self,
        terms: &mut Terms,
        x: &Pair<Tensor>,
        decoded: &Decoded,
        noise: &mut Noise,
    ) -> Result<()> {
        let config = &self.config;
        let translated = &decoded.translated;
        let judged = [
            ("gen_adv_a", &self.discriminators.a, &translated.a),
            ("gen_adv_b", &self.discriminators.b, &translated.b),
        ];
        for (name, discriminator, fake) in judged.into_iter().filter(|_| config.gan_w > 0.0) {
            let scores = discriminator.forward(&augment(fake, &config.augment, noise)?)?;
            let loss = generator_loss(config.discriminator.gan_type, &scores)?;
            terms.add(name, config.gan_w, loss)?;
        }
        if config.vgg_w > 0.0 {
            let perceptual = self.perceptual.as_ref().context("no perceptual network")?;
            for (name, picture, original) in [
                ("gen_vgg_a", &translated.a, &x.b),
                ("gen_vgg_b", &translated.b, &x.a),
            ] {
                terms.add(name, config.vgg_w, perceptual.distance(picture, original)?)?;
            }
        }
        Ok(())
    }

    /// What translations with a picture's style have of that picture: its style, or, where it is the
    /// partner of the picture that is translated, all of it.
    fn add_example_terms(
        &self,
        terms: &mut Terms,
        x: &Pair<Tensor>,
        decoded: &Decoded,
    ) -> Result<()> {
        let style_weight = self.config.vgg_style_w;
        if self.config.encoded_styles_at(self.iteration) == 0 {
            return Ok(());
        }
        let count = self.encoded_styles();
        if style_weight > 0.0 {
            let perceptual = self.perceptual.as_ref().context("no perceptual network")?;
            let style = |translated: &Tensor, pictures: &Tensor| {
                let distances = perceptual.style_distance(translated, pictures)?;
                Ok(distances.f_mean(Kind::Float)?)
            };
            let means = mean_differences(&decoded.translated, x, count, style)?;
            terms.add("gen_vgg_style_a", style_weight, means.a)?;
            terms.add("gen_vgg_style_b", style_weight, means.b)?;
        }
        if self.config.is_paired() {
            self.add_paired_terms(terms, x, decoded, count)?;
        }
        Ok(())
    }

    /// The first `count` translations beside the partners of what they are translations of.
    fn add_paired_terms(
        &self,
        terms: &mut Terms,
        x: &Pair<Tensor>,
        decoded: &Decoded,
        count: i64,
    ) -> Result<()> {
        let (weight, vgg_weight) = (self.config.paired_w, self.config.vgg_paired_w);
        let translated = &decoded.translated;
        if weight > 0.0 {
            let means = mean_differences(translated, x, count, l1)?;
            terms.add("gen_paired_a", weight, means.a)?;
            terms.add("gen_paired_b", weight, means.b)?;
        }
        if vgg_weight > 0.0 {
            let perceptual = self.perceptual.as_ref().context("no perceptual network")?;
            let distance = |translated: &Tensor, partners: &Tensor| {
                let distances = perceptual.paired_distance(translated, partners)?;
                Ok(distances.f_mean(Kind::Float)?)
            };
            let means = mean_differences(translated, x, count, distance)?;
            terms.add("gen_vgg_paired_a", vgg_weight, means.a)?;
            terms.add("gen_vgg_paired_b", vgg_weight, means.b)?;
        }
        Ok(())
    }

    /// Pictures that are shifted all alike and made noisy, if a translation of them is to be shifted
    /// likewise.
    fn shift(&self, x: &Pair<Tensor>, noise: &mut Noise) -> Result<Option<Shifted>> {
        let config = &self.config;
        if config.consistency_w == 0.0 {
            return Ok(None);
        }
        // Shifts by less than the stride are those that a network does not follow by itself.
        let shift = Shift::draw(config.architecture().stride() - 1, noise)?;
        let pictures = Pair::try_new(|domain| {
            let shifted = shift.apply(x.get(domain))?;
            consistency::noisy(&shifted, config.consistency_noise, noise)
        })?;
        Ok(Some(Shifted { shift, pictures }))
    }

    /// Contents of the translations into each domain and of its shifted pictures, in one pass, as far as
    /// they are given.
    fn encode_again(
        &self,
        translated: Option<&Pair<Tensor>>,
        shifted: Option<&Shifted>,
    ) -> Result<Pair<EncodedAgain>> {
        Pair::try_new(|domain| {
            let translated = translated.map(|translated| translated.get(domain));
            let shifted = shifted.map(|shifted| shifted.pictures.get(domain));
            let pictures: Vec<&Tensor> = translated.into_iter().chain(shifted).collect();
            let mut contents = Vec::new();
            if !pictures.is_empty() {
                let generator = self.generators.get(domain);
                let content = generator.encode_content(&join(&pictures)?)?;
                contents = part(&content, &pictures)?;
            }
            let mut contents = contents.into_iter();
            Ok(EncodedAgain {
                translated: translated.and_then(|_| contents.next()),
                shifted: shifted.and_then(|_| contents.next()),
            })
        })
    }

    /// Pictures of `domain` of the codes that are there, in one pass.
    fn decode_last(
        &self,
        domain: Domain,
        cycle: Option<Code>,
        shifted: Option<Code>,
    ) -> Result<LastPictures> {
        let has_cycle = cycle.is_some();
        let codes: Vec<Code> = cycle.into_iter().chain(shifted).collect();
        let mut pictures = self.decode_together(domain, &codes)?.into_iter();
        Ok(LastPictures {
            cycle: has_cycle.then(|| pictures.next()).flatten(),
            shifted: pictures.next(),
        })
    }

    /// How far the translations of pictures shifted by `shift` are from `plain`, those of the pictures
    /// themselves, shifted.
    fn add_consistency(
        &self,
        terms: &mut Terms,
        shift: Shift,
        plain: &Pair<Tensor>,
        last: &Pair<LastPictures>,
    ) -> Result<()> {
        for (name, shifted, plain) in [
            ("gen_consistency_a", &last.a.shifted, &plain.a),
            ("gen_consistency_b", &last.b.shifted, &plain.b),
        ] {
            let shifted = shifted.as_ref().context("no shifted pictures")?;
            let difference = shift.difference(shifted, plain)?;
            terms.add(name, self.config.consistency_w, difference)?;
        }
        Ok(())
    }

    fn content_target(&self, content: &Tensor) -> Result<Tensor> {
        Ok(match self.config.detach_content {
            true => content.f_detach()?,
            false => content.shallow_clone(),
        })
    }

    /// `drawn` styles, but for the share of translations that imitate pictures of a batch: `encoded`
    /// ones. No gradient flows back through them, lest the encoder give away what is easy to imitate,
    /// unless a partner shows what all of its style is.
    fn mix_styles(&self, encoded: &Tensor, drawn: &Tensor) -> Result<Tensor> {
        let batch = drawn.size()[0];
        let encoded = match self.config.is_paired() {
            true => encoded.shallow_clone(),
            false => encoded.f_detach()?,
        };
        match self.encoded_styles().min(batch) {
            0 => Ok(drawn.shallow_clone()),
            count => join(&[
                &encoded.f_narrow(0, 0, count)?,
                &drawn.f_narrow(0, count, batch - count)?,
            ]),
        }
    }

    /// How many of the translations of this process have encoded styles: the first ones of the whole
    /// batch have them, whichever process they fall to.
    fn encoded_styles(&self) -> i64 {
        let range = self.ranks.share().of(self.config.batch_size);
        let of_batch = self.config.encoded_styles_at(self.iteration);
        (of_batch - range.start as i64).clamp(0, range.len() as i64)
    }

    /// For half of the translations, which is enough to compare, contents and other styles.
    fn draw_varied(
        &self,
        content: &Pair<Tensor>,
        noise: &mut Noise,
    ) -> Result<Pair<(Tensor, Tensor)>> {
        let count = (content.a.size()[0] + 1) / 2;
        let styles = self.draw_styles(&content.a.f_narrow(0, 0, count)?, noise)?;
        Pair::try_new(|domain| {
            let content = content.get(domain.other()).f_narrow(0, 0, count)?;
            Ok((content, styles.get(domain).shallow_clone()))
        })
    }

    /// Styles for pictures like `x`: a's first, [B, style_dim, 1, 1] each.
    fn draw_styles(&self, x: &Tensor, noise: &mut Noise) -> Result<Pair<Tensor>> {
        let shape = [x.size()[0], self.config.generator.style_dim, 1, 1];
        Pair::try_new(|_| upload(&noise(&shape)?, self.device))
    }

    fn noisy(&self, latent: &Tensor, noise: &mut Noise) -> Result<Tensor> {
        let drawn = upload(&noise(&latent.size())?, self.device)?;
        Ok(latent.f_add(&drawn.f_to_kind(latent.kind())?)?)
    }
}

fn drawn_discriminators(config: &TrainConfig, device: Device) -> Result<Pair<Discriminator>> {
    let base = config.seed.wrapping_mul(NETWORK_SEEDS);
    Pair::try_new(|domain| {
        let seed = base.wrapping_add(2 + domain as u64);
        let init = munit::networks::Initialisation::Gaussian;
        let store = ParameterStore::random(init, seed, device);
        let channels = config.architecture().channels(domain);
        Ok(Discriminator::new(&config.discriminator, channels, store)?)
    })
}

/// The `difference` of the first `count` translations into each domain from its pictures, as means over
/// all of the batch, to which the others add nothing: processes can have different numbers of them, but
/// all have the same terms.
fn mean_differences(
    translated: &Pair<Tensor>,
    x: &Pair<Tensor>,
    count: i64,
    difference: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Pair<Tensor>> {
    Pair::try_new(|domain| {
        let (translated, pictures) = (translated.get(domain), x.get(domain));
        if count == 0 {
            return Ok(Tensor::f_zeros([], (Kind::Float, translated.device()))?);
        }
        let first = |pictures: &Tensor| pictures.f_narrow(0, 0, count);
        let mean = difference(&first(translated)?, &first(pictures)?)?;
        Ok(mean.f_mul_scalar(count as f64 / translated.size()[0] as f64)?)
    })
}

fn total(terms: &Terms) -> Result<&Tensor> {
    terms.total().context("a loss without terms")
}

/// Batches as one.
fn join(batches: &[&Tensor]) -> Result<Tensor> {
    match batches {
        [one] => Ok(one.shallow_clone()),
        several => Ok(Tensor::f_cat(several, 0)?),
    }
}

/// `joined` in parts of as many samples as the `batches` have.
fn part(joined: &Tensor, batches: &[&Tensor]) -> Result<Vec<Tensor>> {
    match batches {
        [_] => Ok(vec![joined.shallow_clone()]),
        several => {
            let sizes: Vec<i64> = several.iter().map(|batch| batch.size()[0]).collect();
            Ok(joined.f_split_with_sizes(sizes, 0)?)
        }
    }
}

/// The same pictures with the channels of a pixel side by side in memory, the layout in which
/// convolutions, norms and paddings are fastest; every layer keeps it.
fn channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?
        .f_contiguous()?
        .f_permute([0, 3, 1, 2])?)
}

#[cfg(test)]
mod tests {
    use munit::config::DiscriminatorConfig;
    use munit::networks::normal;

    use super::*;
    use crate::checkpoint;
    use crate::config::TrainingPrecision;

    fn tiny(recipe: Recipe, norm: Norm) -> TrainConfig {
        let tiny = TrainConfig::tiny(recipe);
        TrainConfig {
            precision: TrainingPrecision::Fp32,
            discriminator: DiscriminatorConfig {
                norm,
                ..tiny.discriminator
            },
            ..tiny
        }
    }

    /// All that a run goes on from.
    fn state(trainer: &Trainer) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = checkpoint::save(trainer, [1, 2], None, None, folder.path()).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn an_iteration_that_fails_changes_nothing_or_says_that_it_has() {
        // Networks this small only wait for one another's threads.
        tch::set_num_threads(1);
        let (classic, modern) = (Recipe::Classic, Recipe::Modern);
        for (recipe, norm, fails_late) in [
            // Draws styles for each of the two updates.
            (classic, Norm::Batch, true),
            // Draws everything but its augmentations before the first of them.
            (modern, Norm::Spectral, true),
            (modern, Norm::None, true),
        ] {
            let config = tiny(recipe, norm);
            let x = normal(&mut noise_generator(3, 0), &[2, 3, 16, 16]).unwrap();
            // A step in which only so many draws of noise succeed.
            let step = |trainer: &mut Trainer, draws: usize| {
                let mut random = noise_generator(4, trainer.iteration);
                let mut left = draws;
                trainer.step(&x, &x, &mut |shape| {
                    left = left.checked_sub(1).context("no more noise")?;
                    Ok(normal(&mut random, shape)?)
                })
            };
            let first = || {
                let mut trainer = Trainer::new(config.clone(), Device::Cpu, None).unwrap();
                step(&mut trainer, usize::MAX).unwrap();
                trainer
            };
            let before = state(&first());
            let mut whole = first();
            step(&mut whole, usize::MAX).unwrap();
            let after = state(&whole);

            let (mut harmless, mut torn) = (0, 0);
            for draws in 0.. {
                let mut trainer = first();
                let Err(error) = step(&mut trainer, draws) else {
                    break;
                };
                assert_eq!(error.to_string(), "no more noise");
                assert_eq!(trainer.iteration, 1);
                if trainer.is_whole() {
                    harmless += 1;
                    assert_eq!(torn, 0);
                    assert!(
                        state(&trainer) == before,
                        "{recipe:?} {norm:?}, draw {draws}"
                    );
                    step(&mut trainer, usize::MAX).unwrap();
                    assert!(
                        state(&trainer) == after,
                        "{recipe:?} {norm:?}, draw {draws}"
                    );
                } else {
                    torn += 1;
                    assert!(state(&trainer) != before);
                }
            }
            assert!(harmless > 0 && (torn > 0) == fails_late);
        }
    }
}
