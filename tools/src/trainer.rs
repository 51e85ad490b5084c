//! One training iteration, as the papers' algorithms have it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use munit::config::{Domain, Family, Norm};
use munit::networks::{Discriminator, Generator, ParameterStore, Vgg16};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::adam::{Adam, AdamOptions, FlatParameters, named};
use crate::config::{TrainConfig, TrainingPrecision};
use crate::ema::Ema;
use crate::losses::{Terms, discriminator_loss, generator_loss, kl, l1};

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

/// Draws standard normal noise of a shape, float32.
pub type Noise<'n> = dyn FnMut(&[i64]) -> Result<Tensor> + 'n;

/// The losses of one iteration by name; names are those of the published logs without `loss_`.
pub type StepLosses = Vec<(&'static str, f64)>;

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
    perceptual: Option<Vgg16>,
    /// Iterations done.
    pub iteration: u64,
}

/// Separates the seeds of the four networks of a run.
const NETWORK_SEEDS: u64 = 4;

impl Trainer {
    /// Networks drawn from `config.seed`.
    ///
    /// # Errors
    /// A configuration that no network fits; a perceptual loss without its weights; no memory.
    pub fn new(config: TrainConfig, device: Device, perceptual: Option<Vgg16>) -> Result<Self> {
        let base = config.seed.wrapping_mul(NETWORK_SEEDS);
        Self::with_networks(
            &config,
            device,
            perceptual,
            Pair::try_new(|domain| {
                let seed = base.wrapping_add(domain as u64);
                let store = ParameterStore::random(config.init, seed, device);
                Generator::new(&config.architecture(), domain, store)
            })?,
            Pair::try_new(|domain| {
                let seed = base.wrapping_add(2 + domain as u64);
                let init = munit::networks::Initialisation::Gaussian;
                let store = ParameterStore::random(init, seed, device);
                let channels = config.architecture().channels(domain);
                Discriminator::new(&config.discriminator, channels, store)
            })?,
        )
    }

    /// With given networks, which must fit `config`.
    ///
    /// # Errors
    /// A configuration that cannot be used; a perceptual loss without its weights; no memory.
    pub fn with_networks(
        config: &TrainConfig,
        device: Device,
        perceptual: Option<Vgg16>,
        generators: Pair<Generator>,
        discriminators: Pair<Discriminator>,
    ) -> Result<Self> {
        config.check()?;
        if config.vgg_w > 0.0 && perceptual.is_none() {
            anyhow::bail!(
                "vgg_w is {}, but there are no VGG-16 weights; give a .safetensors file with --vgg-weights",
                config.vgg_w
            );
        }
        let options = AdamOptions {
            beta1: config.beta1,
            beta2: config.beta2,
            weight_decay: config.weight_decay,
        };
        let generator_parameters = FlatParameters::new(
            named("gen_a", generators.a.parameters())
                .chain(named("gen_b", generators.b.parameters())),
        )?;
        let discriminator_parameters = FlatParameters::new(
            named("dis_a", discriminators.a.parameters())
                .chain(named("dis_b", discriminators.b.parameters())),
        )?;
        Ok(Self {
            generator_optimiser: Adam::new(&generator_parameters, options)?,
            discriminator_optimiser: Adam::new(&discriminator_parameters, options)?,
            ema: Ema::new(generator_parameters.vector(), config.ema_decay)?,
            config: config.clone(),
            device,
            generators,
            discriminators,
            generator_parameters,
            discriminator_parameters,
            perceptual,
            iteration: 0,
        })
    }

    /// The run's configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
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
    /// then a generator update with fresh noise. Returns all losses.
    ///
    /// # Errors
    /// libtorch's, for instance out of memory.
    pub fn step(&mut self, x_a: &Tensor, x_b: &Tensor, noise: &mut Noise) -> Result<StepLosses> {
        let kind = match self.config.precision {
            TrainingPrecision::Fp32 => Kind::Float,
            TrainingPrecision::Bf16 => Kind::BFloat16,
        };
        let x = Pair {
            a: channels_last(&x_a.f_to_device(self.device)?.f_to_kind(kind)?)?,
            b: channels_last(&x_b.f_to_device(self.device)?.f_to_kind(kind)?)?,
        };
        let [generator_rate, discriminator_rate] = self.config.learning_rates(self.iteration);
        // Both updates see the generators as they are now, so that pictures are encoded once.
        let content = Pair {
            a: self.generators.a.encode_content(&x.a)?,
            b: self.generators.b.encode_content(&x.b)?,
        };
        let discriminator_terms =
            self.discriminator_update(&x, &content, discriminator_rate, noise)?;
        let generator_terms = self.generator_update(&x, content, generator_rate, noise)?;
        self.iteration += 1;
        self.ema
            .update(self.generator_parameters.vector(), self.iteration)?;

        let mut losses = discriminator_terms.values("dis_total")?;
        losses.extend(generator_terms.values("gen_total")?);
        Ok(losses)
    }

    fn discriminator_update(
        &mut self,
        x: &Pair<Tensor>,
        content: &Pair<Tensor>,
        rate: f64,
        noise: &mut Noise,
    ) -> Result<Terms> {
        let fake = tch::no_grad(|| self.translations(content, noise))?;
        let mut terms = Terms::default();
        for (name, discriminator, fake, real) in [
            ("dis_a", &self.discriminators.a, &fake.a, &x.a),
            ("dis_b", &self.discriminators.b, &fake.b, &x.b),
        ] {
            let [scores_fake, scores_real] = self.judge(discriminator, [fake, real])?;
            let gan_type = self.config.discriminator.gan_type;
            let loss = discriminator_loss(gan_type, &scores_fake, &scores_real)?;
            terms.add(name, self.config.gan_w, loss)?;
        }
        self.discriminator_parameters.zero_grad();
        backward(&terms)?;
        self.discriminator_optimiser
            .step(&mut self.discriminator_parameters, rate)?;
        Ok(terms)
    }

    /// Scores of each scale for both of `pictures`: in one pass, unless the network would notice.
    fn judge(
        &self,
        discriminator: &Discriminator,
        pictures: [&Tensor; 2],
    ) -> Result<[Vec<Tensor>; 2]> {
        match self.config.discriminator.norm {
            // Statistics over all pictures of a pass, and a power iteration in each pass.
            Norm::Batch | Norm::Spectral => Ok([
                discriminator.forward(pictures[0])?,
                discriminator.forward(pictures[1])?,
            ]),
            _ => {
                let mut scores = [vec![], vec![]];
                for both in discriminator.forward(&join(pictures)?)? {
                    let [first, second] = part(&both)?;
                    scores[0].push(first);
                    scores[1].push(second);
                }
                Ok(scores)
            }
        }
    }

    /// Pictures translated into each domain, with styles or latent noise drawn anew.
    fn translations(&self, content: &Pair<Tensor>, noise: &mut Noise) -> Result<Pair<Tensor>> {
        let (gen_a, gen_b) = (&self.generators.a, &self.generators.b);
        match self.config.architecture().family {
            Family::Munit => {
                let style = self.draw_styles(&content.a, noise)?;
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

    fn generator_update(
        &mut self,
        x: &Pair<Tensor>,
        content: Pair<Tensor>,
        rate: f64,
        noise: &mut Noise,
    ) -> Result<Terms> {
        // Gradients pass through the discriminators, but none of theirs is wanted.
        self.discriminator_parameters.set_requires_grad(false)?;
        let terms = match self.config.architecture().family {
            Family::Munit => self.munit_generator_terms(x, content, noise),
            Family::Unit => self.unit_generator_terms(x, content, noise),
        }
        .and_then(|terms| {
            self.generator_parameters.zero_grad();
            backward(&terms)?;
            Ok(terms)
        });
        self.discriminator_parameters.set_requires_grad(true)?;
        let terms = terms?;
        self.generator_optimiser
            .step(&mut self.generator_parameters, rate)?;
        Ok(terms)
    }

    /// arXiv 1804.04732, equations 1 to 5, and the style-augmented cycle of section 5.1.
    fn munit_generator_terms(
        &self,
        x: &Pair<Tensor>,
        Pair { a: c_a, b: c_b }: Pair<Tensor>,
        noise: &mut Noise,
    ) -> Result<Terms> {
        let (gen_a, gen_b) = (&self.generators.a, &self.generators.b);
        let config = &self.config;
        let s = self.draw_styles(&c_a, noise)?;
        let (s_a_prime, s_b_prime) = (gen_a.encode_style(&x.a)?, gen_b.encode_style(&x.b)?);

        // A decoder's reconstruction and translation in one pass.
        let styles = join([&s_a_prime, &s.a])?;
        let [x_a_recon, x_ba] = part(&gen_a.decode(&join([&c_a, &c_b])?, Some(&styles))?)?;
        let styles = join([&s_b_prime, &s.b])?;
        let [x_b_recon, x_ab] = part(&gen_b.decode(&join([&c_b, &c_a])?, Some(&styles))?)?;
        let (c_b_recon, s_a_recon) = (gen_a.encode_content(&x_ba)?, gen_a.encode_style(&x_ba)?);
        let (c_a_recon, s_b_recon) = (gen_b.encode_content(&x_ab)?, gen_b.encode_style(&x_ab)?);

        let mut terms = Terms::default();
        terms.add("gen_recon_x_a", config.recon_x_w, l1(&x_a_recon, &x.a)?)?;
        terms.add("gen_recon_x_b", config.recon_x_w, l1(&x_b_recon, &x.b)?)?;
        terms.add("gen_recon_s_a", config.recon_s_w, l1(&s_a_recon, &s.a)?)?;
        terms.add("gen_recon_s_b", config.recon_s_w, l1(&s_b_recon, &s.b)?)?;
        terms.add("gen_recon_c_a", config.recon_c_w, l1(&c_a_recon, &c_a)?)?;
        terms.add("gen_recon_c_b", config.recon_c_w, l1(&c_b_recon, &c_b)?)?;
        let cycle_weight = config.cycle_weight();
        if cycle_weight > 0.0 {
            let x_aba = gen_a.decode(&c_a_recon, Some(&s_a_prime))?;
            let x_bab = gen_b.decode(&c_b_recon, Some(&s_b_prime))?;
            terms.add("gen_cycrecon_x_a", cycle_weight, l1(&x_aba, &x.a)?)?;
            terms.add("gen_cycrecon_x_b", cycle_weight, l1(&x_bab, &x.b)?)?;
        }
        self.add_picture_terms(&mut terms, x, &Pair { a: x_ba, b: x_ab })?;
        Ok(terms)
    }

    /// arXiv 1703.00848, equations 3 to 9.
    fn unit_generator_terms(
        &self,
        x: &Pair<Tensor>,
        Pair { a: h_a, b: h_b }: Pair<Tensor>,
        noise: &mut Noise,
    ) -> Result<Terms> {
        let (gen_a, gen_b) = (&self.generators.a, &self.generators.b);
        let config = &self.config;
        let (noisy_a, noisy_b) = (self.noisy(&h_a, noise)?, self.noisy(&h_b, noise)?);

        // A decoder's reconstruction and translation in one pass.
        let [x_a_recon, x_ba] = part(&gen_a.decode(&join([&noisy_a, &noisy_b])?, None)?)?;
        let [x_b_recon, x_ab] = part(&gen_b.decode(&join([&noisy_b, &noisy_a])?, None)?)?;
        let h_b_recon = gen_a.encode_content(&x_ba)?;
        let noisy_b_recon = self.noisy(&h_b_recon, noise)?;
        let h_a_recon = gen_b.encode_content(&x_ab)?;
        let noisy_a_recon = self.noisy(&h_a_recon, noise)?;

        let mut terms = Terms::default();
        terms.add("gen_recon_x_a", config.recon_x_w, l1(&x_a_recon, &x.a)?)?;
        terms.add("gen_recon_x_b", config.recon_x_w, l1(&x_b_recon, &x.b)?)?;
        terms.add("gen_recon_kl_a", config.recon_kl_w, kl(&h_a)?)?;
        terms.add("gen_recon_kl_b", config.recon_kl_w, kl(&h_b)?)?;
        let cycle_weight = config.cycle_weight();
        if cycle_weight > 0.0 {
            let x_aba = gen_a.decode(&noisy_a_recon, None)?;
            let x_bab = gen_b.decode(&noisy_b_recon, None)?;
            terms.add("gen_cyc_x_a", cycle_weight, l1(&x_aba, &x.a)?)?;
            terms.add("gen_cyc_x_b", cycle_weight, l1(&x_bab, &x.b)?)?;
        }
        terms.add(
            "gen_recon_kl_cyc_aba",
            config.recon_kl_cyc_w,
            kl(&h_a_recon)?,
        )?;
        terms.add(
            "gen_recon_kl_cyc_bab",
            config.recon_kl_cyc_w,
            kl(&h_b_recon)?,
        )?;
        self.add_picture_terms(&mut terms, x, &Pair { a: x_ba, b: x_ab })?;
        Ok(terms)
    }

    /// Adversarial and perceptual terms on the translations.
    fn add_picture_terms(
        &self,
        terms: &mut Terms,
        x: &Pair<Tensor>,
        translated: &Pair<Tensor>,
    ) -> Result<()> {
        let gan_type = self.config.discriminator.gan_type;
        for (name, discriminator, fake) in [
            ("gen_adv_a", &self.discriminators.a, &translated.a),
            ("gen_adv_b", &self.discriminators.b, &translated.b),
        ] {
            let loss = generator_loss(gan_type, &discriminator.forward(fake)?)?;
            terms.add(name, self.config.gan_w, loss)?;
        }
        if self.config.vgg_w > 0.0 {
            let perceptual = self.perceptual.as_ref().context("no perceptual network")?;
            let distances = [
                ("gen_vgg_a", &translated.a, &x.b),
                ("gen_vgg_b", &translated.b, &x.a),
            ];
            for (name, picture, original) in distances {
                terms.add(
                    name,
                    self.config.vgg_w,
                    perceptual.distance(picture, original)?,
                )?;
            }
        }
        Ok(())
    }

    /// Styles for pictures like `x`: a's first, [B, style_dim, 1, 1] each.
    fn draw_styles(&self, x: &Tensor, noise: &mut Noise) -> Result<Pair<Tensor>> {
        let shape = [x.size()[0], self.config.generator.style_dim, 1, 1];
        Pair::try_new(|_| Ok(noise(&shape)?.f_to_device(self.device)?))
    }

    fn noisy(&self, latent: &Tensor, noise: &mut Noise) -> Result<Tensor> {
        let drawn = noise(&latent.size())?;
        Ok(latent.f_add(&drawn.f_to_device(self.device)?.f_to_kind(latent.kind())?)?)
    }
}

fn backward(terms: &Terms) -> Result<()> {
    terms
        .total()
        .context("a loss without terms")?
        .f_backward()?;
    Ok(())
}

/// Two batches as one.
fn join(batches: [&Tensor; 2]) -> Result<Tensor> {
    Ok(Tensor::f_cat(&batches, 0)?)
}

/// The two batches of which `batch` was joined.
fn part(batch: &Tensor) -> Result<[Tensor; 2]> {
    let halves = batch.f_chunk(2, 0)?;
    <[Tensor; 2]>::try_from(halves)
        .map_err(|parts| anyhow::anyhow!("a batch fell into {} parts", parts.len()))
}

/// The same pictures with the channels of a pixel side by side in memory, the layout in which
/// convolutions, norms and paddings are fastest; every layer keeps it.
fn channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?
        .f_contiguous()?
        .f_permute([0, 3, 1, 2])?)
}
