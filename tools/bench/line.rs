//! Test pictures through a pipeline, and when each of them arrives.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use munit_tools::bench::size::FrameSize;
use munit_tools::bench::subject::RunOptions;

/// How long to wait for a frame before looking at the bus again.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a frame may take at most: the largest networks need minutes on a slow processor.
const LONGEST: Duration = Duration::from_secs(600);

/// Frames between source and sink when a line is brought to rest.
const ON_THE_WAY: f64 = 4.0;

/// The plugin's file: the one beside this program, which was built with it, else the one that
/// GStreamer knows.
///
/// # Errors
/// A sentence that says where it was looked for.
pub fn plugin_file() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = program.with_file_name("libgstmunit.so");
    if beside.is_file() {
        return Ok(beside);
    }
    gst::init().context("GStreamer does not start")?;
    gst::ElementFactory::find("munitfilter")
        .and_then(|factory| factory.plugin()?.filename())
        .with_context(|| {
            format!(
                "{}: there is no such file, and GStreamer knows no munitfilter; build the plugin \
                 (cargo build --release --workspace) or set GST_PLUGIN_PATH",
                beside.display()
            )
        })
}

/// Starts GStreamer and makes munitfilter known.
///
/// # Errors
/// When there is no plugin, or GStreamer cannot load it.
pub fn start_gstreamer() -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    let plugin = plugin_file()?;
    gst::Plugin::load_file(&plugin)
        .with_context(|| format!("{}: GStreamer cannot load this plugin", plugin.display()))?;
    Ok(())
}

/// munitfilter with this model, as a pipeline has it.
///
/// # Errors
/// When the element cannot be made, or has no such property.
pub fn munitfilter(model: &Path, options: &RunOptions) -> Result<gst::Element> {
    let model = model
        .to_str()
        .with_context(|| format!("{}: GStreamer needs a path in UTF-8", model.display()))?;
    let threads = u32::try_from(options.threads).context("so many threads are not possible")?;
    gst::ElementFactory::make("munitfilter")
        .property("model", model)
        .property("device", options.device.to_string())
        .property_from_str("precision", &options.precision.to_string())
        .property("threads", threads)
        .build()
        .context("munitfilter cannot be made")
}

/// `videotestsrc ! element ! fakesink`, in RGB.
pub struct Line {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    arrivals: Receiver<Instant>,
}

impl Line {
    /// A line that does not run yet; without an element, the source and the sink alone.
    ///
    /// # Errors
    /// When GStreamer lacks one of its own elements.
    pub fn new(element: Option<gst::Element>, size: FrameSize) -> Result<Self> {
        let make = |factory: &str| {
            gst::ElementFactory::make(factory).build().map_err(|_| {
                anyhow!(
                    "GStreamer has no element {factory}; install its base plugins \
                     (Debian: gstreamer1.0-plugins-base)"
                )
            })
        };
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "RGB")
            .field("width", i32::try_from(size.width)?)
            .field("height", i32::try_from(size.height)?)
            .build();
        let filter = make("capsfilter")?;
        filter.set_property("caps", caps);
        let sink = make("fakesink")?;
        let (arrived, arrivals) = channel();
        sink.static_pad("sink")
            .context("fakesink has no sink pad")?
            .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                // Nobody listens any more only when the line is about to end.
                let _ = arrived.send(Instant::now());
                gst::PadProbeReturn::Ok
            });
        let pipeline = gst::Pipeline::new();
        let chain: Vec<_> = [
            Some(make("videotestsrc")?),
            Some(filter),
            element,
            Some(sink),
        ]
        .into_iter()
        .flatten()
        .collect();
        pipeline.add_many(&chain)?;
        gst::Element::link_many(&chain).with_context(|| {
            format!(
                "the elements do not take frames of {size}; munitfilter takes 16x16 to 8192x8192"
            )
        })?;
        Ok(Self {
            bus: pipeline.bus().context("the pipeline has no bus")?,
            pipeline,
            arrivals,
        })
    }

    /// Lets the line run until `skipped` and then `frames` frames have come, and rest again. The
    /// milliseconds from each of these to the one before it.
    ///
    /// # Errors
    /// The pipeline's own.
    pub fn measure(&self, skipped: usize, frames: usize) -> Result<Vec<f64>> {
        let mut last = self.first_frame()?;
        for _ in 1..skipped {
            last = self.arrival()?;
        }
        let mut ms = Vec::with_capacity(frames);
        for _ in 0..frames {
            let next = self.arrival()?;
            ms.push((next - last).as_secs_f64() * 1e3);
            last = next;
        }
        self.set_state(gst::State::Paused)?;
        // Elements that have threads of their own finish what is on its way.
        let longest = ms.iter().fold(0.0, |longest: f64, ms| longest.max(*ms));
        sleep(Duration::from_secs_f64(ON_THE_WAY * longest / 1e3));
        Ok(ms)
    }

    /// Lets the line run; when its next frame came.
    ///
    /// # Errors
    /// The pipeline's own.
    pub fn first_frame(&self) -> Result<Instant> {
        // What came while the line was brought to rest.
        while self.arrivals.try_recv().is_ok() {}
        self.set_state(gst::State::Playing)?;
        self.arrival()
    }

    fn arrival(&self) -> Result<Instant> {
        let begin = Instant::now();
        loop {
            match self.arrivals.recv_timeout(PATIENCE) {
                Ok(arrival) => return Ok(arrival),
                Err(RecvTimeoutError::Disconnected) => bail!("the pipeline has lost its sink"),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(problem) = self.failure() {
                        return Err(problem);
                    }
                    if begin.elapsed() > LONGEST {
                        bail!("no frame came for {} seconds", LONGEST.as_secs());
                    }
                }
            }
        }
    }

    fn set_state(&self, state: gst::State) -> Result<()> {
        self.pipeline.set_state(state).map_err(|_| {
            self.failure()
                .unwrap_or_else(|| anyhow!("the pipeline does not start"))
        })?;
        Ok(())
    }

    fn failure(&self) -> Option<anyhow::Error> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(anyhow!("{}", error.error().message())),
            _ => None,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Nothing is left to do where stopping fails.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
