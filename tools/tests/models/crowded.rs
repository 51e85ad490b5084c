//! Programs beside others that want the processor.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use munit::Family;
use tch::{Device, Kind, Tensor};

use crate::tiny::{Tiny, Workplace};

/// Longer than it ever takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether libtorch's threads sleep where they wait for one another, which they do once this one has made
/// them more than the machine has processors.
fn is_tamed(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"));
    let mut threads = threads.into_iter().flatten().flatten();
    threads.any(|thread| {
        std::fs::read_to_string(thread.path().join("comm"))
            .is_ok_and(|name| name.trim() == "munit-parked")
    })
}

#[test]
fn threads_that_wait_sleep_where_others_want_the_processor() {
    if !std::path::Path::new("/proc/thread-self/schedstat").exists() {
        // This system does not say how long a thread waits for a processor.
        return;
    }
    let place = Workplace::new(&Tiny::new(Family::Munit).model, "");
    let pictures = Tensor::zeros([2000, 3, 32, 32], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("x", &pictures)], place.path("in.safetensors")).unwrap();
    for name in ["a/one.png", "b/one.png"] {
        place.picture(name, 64, 64);
    }
    let done = AtomicBool::new(false);
    let spin = || {
        while !done.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        // So many that the fairest of systems has no processor left for each.
        for _ in 0..3 * std::thread::available_parallelism().unwrap().get() {
            scope.spawn(spin);
        }
        // Each works for many seconds, if it is let.
        let tamed = [
            (
                env!("CARGO_BIN_EXE_munit-translate"),
                "model.safetensors in.safetensors --raw out.safetensors",
            ),
            (
                env!("CARGO_BIN_EXE_munit-evaluate"),
                "model.safetensors --a a --b b --styles 1000 --size 64",
            ),
        ]
        .map(|(program, arguments)| {
            let mut process = Command::new(program)
                .args(arguments.split_whitespace())
                .current_dir(place.folder.path())
                .env_remove("OMP_WAIT_POLICY")
                .env_remove("GOMP_SPINCOUNT")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let begun = Instant::now();
            let tamed = loop {
                let ended = process.try_wait().unwrap().is_some() || begun.elapsed() > PATIENCE;
                if is_tamed(process.id()) || ended {
                    break !ended;
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            process.kill().unwrap();
            process.wait().unwrap();
            (program, tamed)
        });
        done.store(true, Ordering::Relaxed);
        for (program, tamed) in tamed {
            assert!(tamed, "{program}");
        }
    });
}
