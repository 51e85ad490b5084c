//! The programs that use models, from outside: the real programs on models and pictures made here.

#[cfg(feature = "video")]
mod audio;
mod crowded;
#[cfg(feature = "video")]
mod cut_off;
mod evaluate;
mod export;
#[cfg(feature = "video")]
mod folder;
#[cfg(feature = "video")]
mod media;
mod style;
mod tiny;
mod translate;
