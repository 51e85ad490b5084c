//! Watches over a run: losses and figures in, findings out.
//!
//! Everything that is found follows from the rows of `losses.csv`, so that a run that goes on knows
//! what it knew by reading them again.

mod divergence;
pub mod figures;
mod lasting;
mod persistence;
mod probe;

use serde::{Deserialize, Serialize};

pub use divergence::Divergence;
pub use lasting::Lasting;
pub use persistence::{Persistence, Turn};
pub use probe::Probe;

/// What can go wrong with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// A loss or a weight is NaN or infinite.
    NotFinite,
    /// A loss is far beyond what it used to be.
    Explosion,
    /// A discriminator is never mistaken.
    Saturation,
    /// Styles are ignored.
    ModeCollapse,
    /// Translations are their inputs.
    IdentityCollapse,
}

impl Trouble {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFinite => "not a number",
            Self::Explosion => "exploding loss",
            Self::Saturation => "discriminator saturation",
            Self::ModeCollapse => "mode collapse",
            Self::IdentityCollapse => "identity collapse",
        }
    }

    /// What usually helps, as a sentence.
    pub fn help(self) -> &'static str {
        match self {
            Self::NotFinite | Self::Explosion => {
                "A lower lr usually helps; so does precision: fp32 if it is another."
            }
            Self::Saturation => {
                "More pictures, or more various ones, usually help; so do a lower lr_dis and a narrower \
                 discriminator (dis.dim). If samples still get better, nothing is wrong."
            }
            Self::ModeCollapse => {
                "recipe: modern usually helps, or more diversity_w where that is on already; so do a higher \
                 recon_s_w (2 to 5) and a lower recon_x_cyc_w. If the target domain has only one look, as \
                 line drawings have, nothing is wrong."
            }
            Self::IdentityCollapse => {
                "A lower recon_x_cyc_w (0 to 3) or a higher gan_w usually helps. Look whether both domains \
                 really differ at this size, and whether they share pictures."
            }
        }
    }

    /// Whether the weights are lost, so that only an earlier checkpoint helps.
    pub fn ruins_weights(self) -> bool {
        matches!(self, Self::NotFinite | Self::Explosion)
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Iterations done when it was found.
    pub iteration: u64,
    /// What it is.
    pub trouble: Trouble,
    /// What was seen, with figures; the beginning of a sentence.
    pub what: String,
}

/// What readings show that they did not show before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What has gone wrong, worst first.
    pub begun: Vec<Finding>,
    /// What has gone wrong before and is well again: what it was, without figures.
    pub ended: Vec<Finding>,
}

impl Finding {
    /// Whether this, of [`Findings::ended`], is the end of what `begun` tells of.
    pub fn is_end_of(&self, begun: &Self) -> bool {
        let what = begun.what.split(':').next().unwrap_or_default();
        self.trouble == begun.trouble && self.what == what
    }

    /// A line for the log when it has ended.
    pub fn end_line(&self) -> String {
        format!(
            "iteration {}: no more: {} ({})",
            self.iteration,
            self.what,
            self.trouble.name()
        )
    }

    /// A line for the log: what was seen, what it is called, what helps.
    pub fn line(&self) -> String {
        format!(
            "iteration {}: {} ({}). {}",
            self.iteration,
            self.what,
            self.trouble.name(),
            self.trouble.help()
        )
    }
}

/// All detectors of a run.
#[derive(Clone, Debug)]
pub struct Watch {
    divergence: Divergence,
    lasting: Lasting,
}

impl Watch {
    /// `from`: iterations that are too early for anything but losses that run away.
    pub fn new(from: u64) -> Self {
        Self {
            divergence: Divergence::default(),
            lasting: Lasting::new(from),
        }
    }

    /// Takes in the losses and figures after `iteration` iterations, those that are known.
    pub fn observe(&mut self, iteration: u64, values: &[(&str, f64)]) -> Findings {
        let (figures, losses): (Vec<_>, Vec<_>) = values
            .iter()
            .copied()
            .partition(|(name, _)| figures::is_figure(name));
        let divergence = self.divergence.observe(iteration, &losses);
        let Findings { begun, ended } = self.lasting.observe(iteration, &figures);
        Findings {
            begun: divergence.into_iter().chain(begun).collect(),
            ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_say_what_when_and_what_helps() {
        let mut watch = Watch::new(0);
        let values = [("gen_total", f64::NAN), ("diversity_a2b", 0.2)];
        let [finding] = &watch.observe(70, &values).begun[..] else {
            panic!("one finding is expected");
        };
        assert!(finding.trouble.ruins_weights());
        assert_eq!(
            finding.line(),
            "iteration 70: the loss gen_total is NaN (not a number). A lower lr usually helps; so does \
             precision: fp32 if it is another."
        );
    }

    #[test]
    fn a_figure_without_a_value_is_no_lost_loss() {
        // Translations of networks that have run away; the losses tell it in time.
        let mut watch = Watch::new(0);
        let found = watch.observe(10, &[("diversity_a2b", f64::NAN)]);
        assert_eq!(found, Findings::default());
    }
}
