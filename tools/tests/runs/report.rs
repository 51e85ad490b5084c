//! The report of a run, and its preview.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::{MUNIT_TRAIN, Place, assert_says, config, succeeded};

/// Every `src`, `href` and `url(…)` of a page.
fn addresses(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (start, end) in [("src=\"", '"'), ("href=\"", '"'), ("url(", ')')] {
        let parts = page.split(start).skip(1);
        found.extend(parts.filter_map(|part| part.split(end).next()));
    }
    found
}

#[test]
fn a_report_shows_itself_and_nothing_else() {
    let place = Place::new();
    let yaml = fs::read_to_string(config("folder.yaml")).unwrap();
    let more =
        "domain_a: '<script>alert(1)</script>'\ndomain_b: R&D\nwatch_iter: 2\nreport_iter: 1\n";
    let yaml = yaml.replace("lr_policy: step", "lr_policy: linear");
    fs::write(place.path("named.yaml"), yaml + more).unwrap();
    let flags = "--config named.yaml --device cpu --threads 1";
    let errors = succeeded(place.run(MUNIT_TRAIN, &format!("{flags} --out run --iterations 6")));
    assert_says(
        &errors,
        &[
            "\nreports took ",
            " of this session; sample sheets ",
            "report: run/report.html",
            "munit-translate run/model.safetensors",
            "munitfilter model=run/model.safetensors",
        ],
    );
    let read = || fs::read_to_string(place.path("run/report.html")).unwrap();
    let page = read();
    assert_says(
        &page,
        &[
            "&lt;script&gt;alert(1)&lt;/script&gt;<span class=\"way\">⇄</span>R&amp;D",
            ">finished<",
            "6 of 6",
            // That of the last iteration: it has fallen for 0.8 of the 1.8 in which it falls to 0.
            "<dt>Learning rate</dt><dd>5.556e-5</dd>",
            "<h2>Samples</h2>",
            "<h2>Styles</h2>",
            "<h2>From style to style</h2>",
            "<h3>Diversity</h3>",
            "<h3>Discriminators that are right</h3>",
            "<h3>The contest</h3>",
            "reconstruction, a<b",
            "All iterations are done.",
            "<td>trains on</td><td>cpu, threads: 1</td>",
            "<td>libtorch</td>",
            "<td>gen.dim</td><td class=\"value\">4</td>",
        ],
    );
    assert!(!page.contains("<script>alert"), "a name became markup");
    assert!(page.ends_with("</html>\n"));
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    // From a file, without a network: every picture lies in it.
    let addresses = addresses(&page);
    assert!(addresses.len() >= 6, "{}", addresses.len());
    for address in addresses {
        assert!(
            address.starts_with("data:image/jpeg;base64,/9j/"),
            "{address:.60}"
        );
    }

    // A run that goes on keeps its sheets, and shows what munit-evaluate found.
    let sheets = |page: &str| page.matches("class=\"sheet\"").count();
    let before = sheets(&page);
    let evaluation = r#"{"iterations": 6, "videos": [{"clip": "a <street>.mp4", "figures": [
        {"key": "flicker", "name": "flicker", "value": 3.25, "unit": "steps", "meaning": "lower"}
    ]}], "directions": [{"cautions": ["was trained on these"], "from": "discs", "to": "stripes", "figures": [
        {"key": "psnr", "name": "Cycle <PSNR>", "value": 21.5, "unit": "dB", "meaning": "more is better"}
    ]}]}"#;
    fs::write(place.path("run/evaluate.json"), evaluation).unwrap();
    succeeded(place.run(
        MUNIT_TRAIN,
        "--resume run --iterations 8 --device cpu --threads 1",
    ));
    let page = read();
    assert!(sheets(&page) > before);
    assert_says(
        &page,
        &[
            "data-labels=\"iteration ",
            "|iteration 8\"",
            "The run went on from here.",
            "<h3>discs to stripes</h3>",
            "Cycle &lt;PSNR&gt;</td><td class=\"number\">21.50 dB</td>",
            "Caution: was trained on these.",
            "<h3>a &lt;street&gt;.mp4</h3>",
            "flicker</td><td class=\"number\">3.250 steps</td>",
            "of the model after 6 iterations; since then the run has gone on",
        ],
    );
}

#[test]
fn a_run_of_unit_has_a_report_without_styles() {
    let place = Place::new();
    succeeded(place.train("--out run --trainer UNIT"));
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert_says(&page, &["UNIT, 32×32 pixels", "<span>translation</span>"]);
    assert!(!page.contains("<h2>Styles</h2>"));
}

#[test]
fn the_newest_samples_are_served_while_a_run_trains() {
    let place = Place::new();
    let mut running = place.start_training("--out run --iterations 1000000 --preview=0");
    let address = running.line_with("preview: http://");
    let address = address.trim_start_matches("preview: http://").to_owned();
    let mut stream = TcpStream::connect(&address).unwrap();
    let wait = Some(Duration::from_secs(300));
    stream.set_read_timeout(wait).unwrap();
    write!(stream, "GET /stream HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    // The first picture of the stream is one.
    let mut bytes = Vec::new();
    let position = |bytes: &[u8], wanted: &[u8]| {
        let mut windows = bytes.windows(wanted.len());
        windows.position(|window| window == wanted)
    };
    let end = b"\r\n--sample\r\n";
    let (start, length) = loop {
        let mut more = [0; 4096];
        let count = stream.read(&mut more).unwrap();
        assert!(count > 0, "the stream has ended");
        bytes.extend_from_slice(&more[..count]);
        let Some(start) = position(&bytes, &[0xff, 0xd8]) else {
            continue;
        };
        if let Some(length) = position(&bytes[start..], end) {
            break (start, length);
        }
    };
    let picture = image::load_from_memory(&bytes[start..start + length]).unwrap();
    assert!(picture.width() >= 64 && picture.height() >= 8 * 32);
    running.signal("TERM");
    assert_eq!(running.wait().0, Some(0));
}
