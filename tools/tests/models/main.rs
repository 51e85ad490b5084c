//! The programs that use models, from outside: the real programs on models and pictures made here.

mod evaluate;
mod export;
mod style;
mod tiny;
mod translate;
