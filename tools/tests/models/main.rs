//! The programs that use models, from outside: the real programs on models and pictures made here.

#[cfg(feature = "video")]
mod audio;
mod evaluate;
mod export;
#[cfg(feature = "video")]
mod media;
mod style;
mod tiny;
mod translate;
