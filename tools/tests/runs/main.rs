//! `munit-train` and `munit-export` from outside: real runs of tiny networks.

mod begin;
mod check;
mod common;
mod export;
mod paired;
#[cfg(feature = "mpi")]
mod ranks;
mod report;
mod robust;
mod train;
mod watch;
