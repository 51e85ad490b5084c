//! Manners: every choice of a property, nothing left behind, no more memory than there is, a page of
//! documentation that is what it should be.

use std::path::Path;
use std::process::Command;

use gst::prelude::*;

use crate::support::*;

const SIDE: usize = 16;

fn pipeline() -> gst::Pipeline {
    init();
    gst::parse::launch(&format!(
        "videotestsrc name=source ! video/x-raw,format=RGB,width={SIDE},height={SIDE},framerate=30/1 \
         ! munitfilter name=filter model={} device=cpu ! fakesink name=sink sync=false",
        model_path().display()
    ))
    .unwrap()
    .downcast()
    .unwrap()
}

#[test]
fn every_choice_may_be_made_while_playing() {
    let rgb = picture(SIDE, SIDE, 1);
    let mut tried = 0;
    for property in munitfilter().list_properties() {
        let choices = if property.value_type() == bool::static_type() {
            vec![true.to_value(), false.to_value()]
        } else if let Some(class) = glib::EnumClass::with_type(property.value_type()) {
            let values = class.values().iter();
            values.map(|value| value.to_value(&class)).collect()
        } else {
            continue;
        };
        for value in choices {
            let element = munitfilter();
            let line = Line::new(&element, &caps("RGB", SIDE, SIDE, (30, 1)));
            line.push(rgb_buffer(&rgb, SIDE, SIDE));
            line.pull();
            element.set_property_from_value(property.name(), &value);
            for _ in 0..3 {
                line.push(rgb_buffer(&rgb, SIDE, SIDE));
                line.pull();
            }
            // Some choices make no sense alone: an example needs its picture, fp16 a GPU. They are
            // refused with a warning, but nothing stops.
            let mut messages = line.messages().into_iter();
            assert!(
                messages.all(|message| message.type_() != gst::MessageType::Error),
                "{} = {value:?}",
                property.name()
            );
            tried += 1;
        }
    }
    assert!(tried >= 18, "{tried} choices tried");
}

#[test]
fn navigation_passes_upstream() {
    let pipeline = pipeline();
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(PATIENCE).0.unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let source = pipeline.by_name("source").unwrap();
    source.static_pad("src").unwrap().add_probe(
        gst::PadProbeType::EVENT_UPSTREAM,
        move |_, info| {
            if let Some(event) = info.event()
                && event.type_() == gst::EventType::Navigation
            {
                let _ = sender.send(());
            }
            gst::PadProbeReturn::Ok
        },
    );
    let structure = gst::Structure::builder("application/x-gst-navigation")
        .field("event", "key-press")
        .field("key", "space")
        .build();
    let sink = pipeline.by_name("sink").unwrap();
    let pad = sink.static_pad("sink").unwrap();
    // Nobody upstream of here acts on it, which makes it false.
    pad.push_event(gst::event::Navigation::new(structure));
    receiver
        .recv_timeout(std::time::Duration::from_secs(10))
        .expect("the event at the source");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Runs a test of this program again in a process of its own, and returns what it prints; none in
/// that process itself.
fn run_alone(test: &str, environment: &[(&str, &str)]) -> Option<String> {
    const ALONE: &str = "MUNITFILTER_TEST_ALONE";

    if std::env::var_os(ALONE).is_some() {
        return None;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    Some(text)
}

#[test]
fn nothing_is_left_behind() {
    let Some(text) = run_alone(
        "citizen::nothing_is_left_behind",
        &[("GST_TRACERS", "leaks"), ("GST_DEBUG", "GST_TRACER:7")],
    ) else {
        return live_from_beginning_to_end();
    };
    let alive: Vec<&str> = text
        .lines()
        // Not the tracer's own announcement of what its lines look like.
        .filter(|line| line.contains("object-alive,") && !line.contains("build_format"))
        .collect();
    assert!(alive.is_empty(), "{alive:#?}");
}

fn live_from_beginning_to_end() {
    let rgb = picture(SIDE, SIDE, 1);
    {
        let element = munitfilter();
        let pad = element.request_pad_simple("style_sink").unwrap();
        let line = Line::new(&element, &caps("RGB", SIDE, SIDE, (30, 1)));
        for _ in 0..5 {
            line.push(rgb_buffer(&rgb, SIDE, SIDE));
            line.pull();
        }
        element.set_property("model", other_model_path().to_str().unwrap());
        element.set_property("style-seed", 5u64);
        for _ in 0..5 {
            line.push(rgb_buffer(&rgb, SIDE, SIDE));
            line.pull();
        }
        element.release_request_pad(&pad);
        line.pipeline.set_state(gst::State::Null).unwrap();
    }
    // SAFETY: nothing of GStreamer's is used after this.
    unsafe { gst::deinit() };
}

#[test]
fn what_memory_does_not_hold_is_translated_smaller() {
    let test = "citizen::what_memory_does_not_hold_is_translated_smaller";
    if run_alone(test, &[]).is_none() {
        translate_frames_too_large_for_memory();
    }
}

fn translate_frames_too_large_for_memory() {
    const WIDTH: usize = 1024;
    const HEIGHT: usize = 768;

    let element = munitfilter();
    element.set_property("threads", 1u32);
    let line = Line::new(&element, &caps("RGB", SIDE, SIDE, (30, 1)));
    line.push(rgb_buffer(&picture(SIDE, SIDE, 1), SIDE, SIDE));
    line.pull();
    // The first of the network's maps takes 25 MB at full size, and there are many.
    limit_memory_to(100 << 20);
    line.source
        .set_caps(Some(&caps("RGB", WIDTH, HEIGHT, (30, 1))));
    let large = || gst::Buffer::from_mut_slice(vec![90u8; 3 * WIDTH * HEIGHT]);
    line.push(large());
    let sample = line.pull();
    let structure = sample.caps().unwrap().structure(0).unwrap();
    assert_eq!(structure.get::<i32>("width").unwrap(), WIDTH as i32);
    let text = line.warning();
    assert!(text.contains("going on at the inference size"), "{text}");
    let stats = element.property::<gst::Structure>("stats");
    let size = stats.get::<u32>("inference-size").unwrap();
    assert!(size < HEIGHT as u32);

    // It does not try in vain with every frame.
    line.messages();
    line.push(large());
    line.pull();
    let stats = element.property::<gst::Structure>("stats");
    assert_eq!(stats.get::<u32>("inference-size").unwrap(), size);
    let warnings = line
        .messages()
        .into_iter()
        .filter(|message| message.type_() == gst::MessageType::Warning);
    assert_eq!(warnings.count(), 0);
}

/// Lets this process take so many bytes more of address space than it has.
fn limit_memory_to(more: u64) {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let limit = libc::rlimit {
        rlim_cur: pages * 4096 + more,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is a valid structure; the call has no other effect on memory.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

/// What gst-inspect-1.0 prints, without what differs from machine to machine.
fn inspection() -> String {
    // Cargo builds the plugin together with this program, and puts both there.
    let program = std::env::current_exe().unwrap();
    let plugin = program.parent().unwrap();
    let output = Command::new("gst-inspect-1.0")
        .arg("munitfilter")
        .env("GST_PLUGIN_PATH", plugin)
        .env("GST_REGISTRY", file("registry.bin"))
        .env("LC_ALL", "C")
        // Nobody's presets.
        .env("XDG_DATA_HOME", file("nothing"))
        .env("XDG_DATA_DIRS", file("nothing"))
        .env_remove("GST_PLUGIN_SYSTEM_PATH")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let begin = text.find("Pad Templates:").expect("pads");
    let lines = text[begin..]
        .lines()
        .filter(|line| !line.contains(" memory: "));
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned() + "\n"
}

/// After a change of properties: read it, then replace the file by what the failed test has left
/// beside it.
#[test]
fn gst_inspect_reads_as_it_was_reviewed() {
    init();
    let reviewed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/munitfilter/gst-inspect.txt");
    let found = inspection();
    let expected = std::fs::read_to_string(&reviewed).unwrap_or_default();
    if found != expected {
        let path = file("gst-inspect.txt");
        std::fs::write(&path, &found).unwrap();
        panic!("{} is not {}", path.display(), reviewed.display());
    }
}
