//! `munit-evaluate` from outside: its figures, computed once more from the pictures that it saves.

use std::collections::BTreeMap;
use std::path::Path;

use munit::backbone::{self, Description};
use munit::{Direction, Domain, Family, Model, StyleCode};
use munit_tools::data::{Framing, load_picture};
use munit_tools::evaluate::{Motion, frechet_distance, kernel_distance};
use munit_tools::translate::picture_tensor;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::tiny::{STYLE_DIM, Tiny, Workplace, difference, read};

/// A backbone of two convolutions that everything can be computed with.
const DESCRIPTION: &str = r#"{
    "name": "two convolutions",
    "input": {"order": "rgb", "range": [0, 1], "mean": [0.5, 0.4, 0.3], "deviation": [0.2, 0.3, 0.4]},
    "layers": [
        {"name": "one", "op": "convolution", "stride": [2, 2], "padding": [1, 1]},
        {"name": "relu", "op": "relu"},
        {"name": "two", "op": "convolution", "stride": [1, 1], "padding": [1, 1]},
        {"name": "classes", "op": "global_average_pool"}
    ],
    "perceptual": [{"layer": "relu"}, {"layer": "two"}],
    "content": "two",
    "features": "relu",
    "logits": "classes"
}"#;

fn weights() -> BTreeMap<String, Tensor> {
    let sine = |shape: &[i64], seed: f64| {
        let count: i64 = shape.iter().product();
        let places = Tensor::arange(count, (Kind::Double, Device::Cpu)) + seed;
        let values = (places * 12.9898).sin() * 0.5;
        values.to_kind(Kind::Float).reshape(shape)
    };
    [
        ("one.weight", vec![6, 3, 3, 3]),
        ("one.bias", vec![6]),
        ("two.weight", vec![4, 6, 3, 3]),
        ("two.bias", vec![4]),
    ]
    .into_iter()
    .map(|(name, shape)| (name.to_owned(), sine(&shape, name.len() as f64)))
    .collect()
}

/// What the backbone's convolutions make of pictures, computed without it.
fn maps(pictures: &Tensor) -> [Tensor; 2] {
    let weights = weights();
    let convolve = |x: &Tensor, name: &str, stride: i64| {
        let [weight, bias] = ["weight", "bias"].map(|kind| &weights[&format!("{name}.{kind}")]);
        x.conv2d(weight, Some(bias), [stride, stride], [1, 1], [1, 1], 1)
    };
    let per_channel = |values: [f32; 3]| Tensor::from_slice(&values).reshape([1, 3, 1, 1]);
    let x = (pictures + 1.0) / 2.0;
    let x = (x - per_channel([0.5, 0.4, 0.3])) / per_channel([0.2, 0.3, 0.4]);
    let relu = convolve(&x, "one", 2).relu();
    let two = convolve(&relu, "two", 1);
    [relu, two]
}

/// Features [N, C] of pictures.
fn features(pictures: &[Tensor]) -> Tensor {
    let [relu, _] = maps(&Tensor::cat(pictures, 0));
    relu.mean_dim([2i64, 3].as_slice(), false, Kind::Double)
}

/// Perceptual distance between two pictures.
fn perceptual(left: &Tensor, right: &Tensor) -> f64 {
    let pairs = maps(left).into_iter().zip(maps(right));
    pairs
        .map(|(left, right)| {
            let unit = |map: &Tensor| {
                let squares = map.square();
                map / (squares
                    .sum_dim_intlist([1i64].as_slice(), true, Kind::Float)
                    .sqrt()
                    + 1e-10)
            };
            let size = left.size();
            let squares = (unit(&left) - unit(&right)).square().sum(Kind::Double);
            squares.double_value(&[]) / (size[2] * size[3]) as f64
        })
        .sum()
}

/// Content distance between two pictures.
fn content(left: &Tensor, right: &Tensor) -> f64 {
    let normalised = |picture: &Tensor| {
        let [_, map] = maps(picture);
        let axes = [2i64, 3];
        let mean = map.mean_dim(axes.as_slice(), true, Kind::Float);
        let centred = map - mean;
        let variance = centred
            .square()
            .mean_dim(axes.as_slice(), true, Kind::Float);
        centred / (variance + 1e-5).sqrt()
    };
    let squares = (normalised(left) - normalised(right)).square();
    squares.mean(Kind::Double).double_value(&[])
}

struct Place {
    place: Workplace,
    inputs: usize,
    styles: usize,
}

impl Place {
    /// A model, a backbone, four pictures of each domain.
    fn new(model: &Model) -> Self {
        let place = Workplace::new(model, env!("CARGO_BIN_EXE_munit-evaluate"));
        for domain in ["A", "B"] {
            for number in 0..4u32 {
                let picture = image::RgbImage::from_fn(40 + 3 * number, 36, |x, y| {
                    let stripe = if domain == "A" {
                        x * (2 + number)
                    } else {
                        y * (3 + number)
                    };
                    image::Rgb([(stripe * 9) as u8, (x * 4) as u8, (y * (5 + number)) as u8])
                });
                let path = place.path(&format!("data/test{domain}/{number}.png"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                picture.save(path).unwrap();
            }
        }
        let description: Description = serde_json::from_str(DESCRIPTION).unwrap();
        backbone::write(
            &place.path("backbone.safetensors"),
            &description,
            &weights(),
        )
        .unwrap();
        Self {
            place,
            inputs: 3,
            styles: 4,
        }
    }

    fn evaluate(&self, arguments: &str) -> Value {
        let text = self.place.succeed(&format!(
            "model.safetensors data --size 32 --inputs {} --styles {} --precision fp32 --json {arguments}",
            self.inputs, self.styles
        ));
        serde_json::from_str(&text).unwrap()
    }

    fn saved(&self, direction: &str, index: usize, what: &str) -> Tensor {
        let path = format!("out/{direction}/{index:04}-{what}.png");
        picture_tensor(&read(&self.place.path(&path))).unwrap()
    }
}

/// The figure with this key, and its numbers beside it.
fn figure(report: &Value, key: &str) -> (f64, Vec<f64>) {
    let figures = report["figures"].as_array().unwrap();
    let figure = figures.iter().find(|figure| figure["key"] == key);
    let figure = figure.unwrap_or_else(|| panic!("no figure {key} in {report:#}"));
    let compare = figure["compare"].as_array();
    let compare = compare.map_or(Vec::new(), |all| {
        all.iter()
            .map(|one| one["value"].as_f64().unwrap())
            .collect()
    });
    (figure["value"].as_f64().unwrap(), compare)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    let near = (found - expected).abs() < 2e-4 * expected.abs().max(1e-2);
    assert!(near, "{found} instead of {expected}");
}

#[test]
fn every_figure_follows_from_the_pictures_that_are_saved() {
    let tiny = Tiny::new(Family::Munit);
    let place = Place::new(&tiny.model);
    let evaluation = place.evaluate("--backbone backbone.safetensors --outputs out");
    let directions = evaluation["directions"].as_array().unwrap();
    assert_eq!(directions.len(), 2);
    for (report, direction) in directions.iter().zip(Direction::ALL) {
        let name = direction.name();
        assert_eq!(report["direction"], name);
        assert!(
            report["left_out"].as_array().unwrap().is_empty(),
            "{report:#}"
        );
        let inputs: Vec<Tensor> = (0..place.inputs)
            .map(|index| place.saved(name, index, "input"))
            .collect();
        let outputs: Vec<Vec<Tensor>> = (0..place.inputs)
            .map(|index| {
                let styles = 0..place.styles;
                styles
                    .map(|style| place.saved(name, index, &format!("{style:02}")))
                    .collect()
            })
            .collect();

        // The translations are those of the networks.
        let code = |input: usize, style: usize| {
            StyleCode::sample((input * place.styles + style) as u64, STYLE_DIM)
        };
        let expected = tiny.expected(&inputs[2], direction, code(2, 1).values());
        assert!(difference(&outputs[2][1], &expected) < 1.1 / 127.5);

        let diversity: Vec<f64> = outputs
            .iter()
            .flat_map(|styles| styles.windows(2).map(|pair| perceptual(&pair[0], &pair[1])))
            .collect();
        assert_near(figure(report, "diversity").0, mean(&diversity));

        let kept: Vec<f64> = inputs
            .iter()
            .zip(&outputs)
            .flat_map(|(input, styles)| styles.iter().map(move |style| content(input, style)))
            .collect();
        let same: Vec<f64> = (0..3)
            .map(|index| content(&inputs[index], &outputs[index][0]))
            .collect();
        let others = [(0, 1), (1, 2), (2, 0)].map(|(a, b)| content(&inputs[a], &inputs[b]));
        let (found, beside) = figure(report, "content_distance");
        assert_near(found, mean(&kept));
        assert_near(beside[0], mean(&others));
        let below = same
            .iter()
            .flat_map(|low| others.map(|high| f64::from(low < &high)));
        assert_near(
            figure(report, "content_kept").0,
            mean(&below.collect::<Vec<_>>()),
        );
        let histograms = report["histograms"].as_array().unwrap();
        let normalised = histograms
            .iter()
            .find(|one| one["normalised"] == true)
            .unwrap();
        assert_near(normalised["same_scene"][1].as_f64().unwrap(), same[1]);
        assert_near(normalised["other_scene"][2].as_f64().unwrap(), others[2]);

        let made: Vec<Tensor> = outputs
            .iter()
            .flatten()
            .map(Tensor::shallow_clone)
            .collect();
        let real: Vec<Tensor> = (0..4)
            .map(|number| {
                let letter = if direction == Direction::A2b {
                    "B"
                } else {
                    "A"
                };
                let path = place.place.path(&format!("data/test{letter}/{number}.png"));
                framed(&path)
            })
            .collect();
        let (made, real, own) = (features(&made), features(&real), features(&inputs));
        let (found, beside) = figure(report, "frechet_distance");
        assert_near(found, frechet_distance(&made, &real).unwrap());
        assert_near(beside[0], frechet_distance(&own, &real).unwrap());
        let (found, beside) = figure(report, "kernel_distance");
        assert_near(found, kernel_distance(&made, &real).unwrap());
        assert_near(beside[0], kernel_distance(&own, &real).unwrap());

        let classes: Vec<Vec<Vec<f64>>> = outputs
            .iter()
            .map(|styles| {
                let classes = |picture: &Tensor| {
                    let [_, map] = maps(picture);
                    let logits = map.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
                    Vec::try_from(logits.softmax(-1, Kind::Double).reshape(-1)).unwrap()
                };
                styles.iter().map(classes).collect()
            })
            .collect();
        let average = |all: &[Vec<f64>]| -> Vec<f64> {
            (0..4)
                .map(|class| mean(&all.iter().map(|one| one[class]).collect::<Vec<_>>()))
                .collect()
        };
        let divergence =
            |p: &[f64], q: &[f64]| -> f64 { p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum() };
        let all: Vec<Vec<f64>> = classes.iter().flatten().cloned().collect();
        let marginal = average(&all);
        let score: Vec<f64> = all.iter().map(|one| divergence(one, &marginal)).collect();
        assert_near(figure(report, "inception_score").0, mean(&score));
        let within: Vec<f64> = classes
            .iter()
            .flat_map(|styles| {
                let marginal = average(styles);
                styles
                    .iter()
                    .map(move |one| divergence(one, &marginal))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_near(
            figure(report, "conditional_inception_score").0,
            mean(&within),
        );

        check_own_errors(&tiny, direction, report, &inputs, &outputs, &code);
    }
}

/// Style error, reconstruction and cycle, from the generators.
fn check_own_errors(
    tiny: &Tiny,
    direction: Direction,
    report: &Value,
    inputs: &[Tensor],
    outputs: &[Vec<Tensor>],
    code: &dyn Fn(usize, usize) -> StyleCode,
) {
    let _no_grad = tch::no_grad_guard();
    let own = &tiny.generators[direction.source() as usize];
    let other = &tiny.generators[direction.target() as usize];
    let mut style = Vec::new();
    for (index, styles) in outputs.iter().enumerate() {
        for (number, picture) in styles.iter().enumerate() {
            let found =
                Vec::<f64>::try_from(other.encode_style(picture).unwrap().reshape(-1)).unwrap();
            let drawn = code(index, number);
            let pairs = found.iter().zip(drawn.values());
            style.extend(pairs.map(|(found, drawn)| (found - f64::from(*drawn)).abs()));
        }
    }
    assert_near(figure(report, "style_error").0, mean(&style));
    let psnr = |picture: &Tensor, original: &Tensor| {
        let bytes = |x: &Tensor| ((x + 1.0) * 127.5).round().clamp(0.0, 255.0);
        let squares = (bytes(picture) - bytes(original))
            .square()
            .mean(Kind::Double);
        10.0 * (255.0f64.powi(2) / squares.double_value(&[])).log10()
    };
    let (mut reconstruction, mut cycle) = (Vec::new(), Vec::new());
    for (input, styles) in inputs.iter().zip(outputs) {
        let style = own.encode_style(input).unwrap();
        let decode = |content: Tensor| own.decode(&content, Some(&style)).unwrap();
        reconstruction.push(psnr(&decode(own.encode_content(input).unwrap()), input));
        cycle.push(psnr(
            &decode(other.encode_content(&styles[0]).unwrap()),
            input,
        ));
    }
    assert_near(
        figure(report, "reconstruction_psnr").0,
        mean(&reconstruction),
    );
    assert_near(figure(report, "cycle_psnr").0, mean(&cycle));
}

/// A picture as the program sees it.
fn framed(path: &Path) -> Tensor {
    let framing = munit_tools::data::Framing {
        new_size: 32,
        crop_height: 32,
        crop_width: 32,
        channels: 3,
    };
    munit_tools::data::load_picture(path, &framing)
        .unwrap()
        .unsqueeze(0)
}

#[test]
fn real_pictures_are_as_many_as_are_asked_for_spread_over_the_folder() {
    let place = Place::new(&Tiny::new(Family::Munit).model);
    let evaluation = place.evaluate("--a2b --backbone backbone.safetensors --real 2 --outputs out");
    let report = &evaluation["directions"][0];
    assert_eq!(report["real"], 2);
    let made: Vec<Tensor> = (0..place.inputs)
        .flat_map(|index| (0..place.styles).map(move |style| (index, format!("{style:02}"))))
        .map(|(index, style)| place.saved("a2b", index, &style))
        .collect();
    let real = [0, 2].map(|number| framed(&place.place.path(&format!("data/testB/{number}.png"))));
    let (made, real) = (features(&made), features(&real));
    let found = figure(report, "frechet_distance").0;
    assert_near(found, frechet_distance(&made, &real).unwrap());
}

#[test]
fn others_stand_in_for_pictures_that_cannot_be_read() {
    let place = Place::new(&Tiny::new(Family::Munit).model);
    let broken =
        ["A/0b", "A/1b", "A/2a", "A/2b", "B/0b", "B/9"].map(|name| format!("data/test{name}.jpg"));
    for name in &broken {
        std::fs::write(place.place.path(name), "no picture").unwrap();
    }
    let evaluate = |backbone: &str| {
        let output = place.place.run(&format!(
            "model.safetensors data --size 32 --inputs 4 --real 9 --styles 1 --json {backbone}"
        ));
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!told.contains("Warning"), "{told}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let counts = ["inputs", "real"].map(|key| {
            let directions = report["directions"].as_array().unwrap().iter();
            directions.map(|one| one[key].as_u64().unwrap()).collect()
        });
        (counts, told)
    };
    // Each is told once, though it is an input in one direction and real in the other.
    let (counts, told): ([Vec<u64>; 2], String) = evaluate("--backbone backbone.safetensors");
    assert_eq!(counts, [[4, 4], [4, 4]]);
    for name in &broken {
        assert_eq!(told.matches(name).count(), 1, "{name}: {told}");
    }
    // Without one nothing real is looked at.
    assert_eq!(evaluate("").0, [[4, 4], [0, 0]]);
}

#[test]
fn what_cannot_be_had_is_said() {
    let keys = |report: &Value, list: &str, key: &str| -> Vec<String> {
        let entries = report[list].as_array().unwrap().iter();
        entries
            .map(|entry| entry[key].as_str().unwrap().to_owned())
            .collect()
    };
    // Without a backbone: what the model's own networks tell.
    let place = Place::new(&Tiny::new(Family::Munit).model);
    let evaluation = place.evaluate("--a2b");
    let report = &evaluation["directions"][0];
    assert_eq!(
        keys(report, "figures", "key"),
        ["style_error", "reconstruction_psnr", "cycle_psnr"]
    );
    assert_eq!(
        keys(report, "left_out", "what"),
        [
            "diversity",
            "Fréchet and kernel distance",
            "content distance",
            "inception scores"
        ]
    );
    assert_eq!(evaluation["directions"].as_array().unwrap().len(), 1);

    // One direction, which has no way back.
    let model = Tiny::new(Family::Munit)
        .model
        .restrict(&[Direction::B2a])
        .unwrap();
    let place = Place::new(&model);
    let evaluation = place.evaluate("");
    let report = &evaluation["directions"][0];
    assert_eq!(report["direction"], "b2a");
    assert_eq!(keys(report, "figures", "key"), ["style_error"]);
    assert!(keys(report, "left_out", "what").contains(&"reconstruction and cycle".to_owned()));

    // No styles.
    let place = Place::new(&Tiny::new(Family::Unit).model);
    let evaluation = place.evaluate("--backbone backbone.safetensors --a2b");
    let report = &evaluation["directions"][0];
    assert_eq!(report["styles"], 1);
    assert_eq!(
        keys(report, "left_out", "what"),
        ["diversity", "style reconstruction"]
    );
    figure(report, "frechet_distance");
    figure(report, "cycle_psnr");

    // The table says it, too.
    let text = place
        .place
        .succeed("model.safetensors data --size 32 --inputs 1 --a2b");
    assert!(text.contains("left out: diversity: a UNIT model"), "{text}");
}

#[test]
fn grey_domains_and_odd_sizes_are_evaluated() {
    let mut tiny = Tiny::new(Family::Munit);
    let architecture = &mut tiny.model.metadata.architecture;
    architecture.input_dim_a = 1;
    for (name, tensor) in &mut tiny.model.weights {
        let first = [
            "a.enc_content.model.0.conv.weight",
            "a.enc_style.model.0.conv.weight",
        ];
        if first.contains(&name.as_str()) {
            *tensor = tensor.narrow(1, 0, 1);
        } else if name.starts_with("a.dec.model.5.conv.") {
            *tensor = tensor.narrow(0, 0, 1);
        }
    }
    assert_eq!(
        Domain::ALL.map(|domain| tiny.model.metadata.architecture.channels(domain)),
        [1, 3]
    );
    let place = Place::new(&tiny.model);
    let text = place.place.succeed(
        "model.safetensors data --size 35 --inputs 2 --styles 2 --backbone backbone.safetensors --json",
    );
    let evaluation: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(evaluation["size"], 32);
    for report in evaluation["directions"].as_array().unwrap() {
        figure(report, "diversity");
        figure(report, "cycle_psnr");
        assert!(figure(report, "content_distance").0.is_finite());
    }
}

#[test]
fn figures_on_pictures_of_training_say_so() {
    let place = Place::new(&Tiny::new(Family::Munit).model).place;
    let evaluate = |arguments: &str| -> Value {
        let arguments = format!("{arguments} --size 32 --inputs 2 --styles 1 --a2b --json");
        serde_json::from_str(&place.succeed(&arguments)).unwrap()
    };
    let folders = |evaluation: &Value| {
        let report = &evaluation["directions"][0];
        ["input_folder", "real_folder"].map(|key| report[key].as_str().unwrap().to_owned())
    };
    let cautions = |evaluation: &Value| {
        let cautions = evaluation["directions"][0]["cautions"].as_array();
        cautions.map_or(Vec::new(), |all| {
            all.iter()
                .map(|one| one.as_str().unwrap().to_owned())
                .collect()
        })
    };

    // Two folders, or one with both: the same figures, on pictures that nothing is known against.
    let root = evaluate("model.safetensors data");
    let two = evaluate("model.safetensors --a data/testA --b data/testB");
    assert_eq!(folders(&root), ["data/testA", "data/testB"]);
    assert_eq!(folders(&two), folders(&root));
    assert_eq!(
        root["directions"][0]["figures"],
        two["directions"][0]["figures"]
    );
    assert_eq!(cautions(&root), cautions(&two));
    assert!(cautions(&root).is_empty());
    let bytes = std::fs::read(place.path("model.safetensors")).unwrap();
    assert_eq!(root["sha256"], format!("{:x}", Sha256::digest(bytes)));
    assert!(
        root["seconds"].as_f64().unwrap() >= root["directions"][0]["seconds"].as_f64().unwrap()
    );

    // Nothing was kept back of domain a.
    std::fs::rename(place.path("data/testA"), place.path("data/trainA")).unwrap();
    let evaluation = evaluate("model.safetensors data");
    assert_eq!(folders(&evaluation), ["data/trainA", "data/testB"]);
    let found = cautions(&evaluation);
    assert!(
        found.len() == 1 && found[0].contains("data/trainA stands in"),
        "{found:?}"
    );
    // Once, though its pictures are the inputs of one direction and what the other is compared with.
    let both = "model.safetensors data --size 32 --inputs 1 --styles 1 --page page.html";
    let text = place.succeed(both);
    assert_eq!(
        text.matches("caution: there is no testA").count(),
        1,
        "{text}"
    );
    let page = std::fs::read_to_string(place.path("page.html")).unwrap();
    assert_eq!(page.matches("Caution: there is no testA").count(), 1);

    // The run in whose folder the model lies was trained on these.
    std::fs::create_dir_all(place.path("run/checkpoints")).unwrap();
    std::fs::copy(
        place.path("model.safetensors"),
        place.path("run/model.safetensors"),
    )
    .unwrap();
    std::fs::write(
        place.path("run/config.yaml"),
        "data_folder_train_a: data/trainA\ndata_folder_train_b: elsewhere\n",
    )
    .unwrap();
    let evaluation = evaluate("run/model.safetensors --a data/../data/trainA --b data/testB");
    let found = cautions(&evaluation);
    assert!(
        found.len() == 1 && found[0].contains("was trained on the pictures of data/../data/trainA"),
        "{found:?}"
    );
}

#[test]
fn unreadable_pictures_are_passed_over() {
    let place = Place::new(&Tiny::new(Family::Munit).model).place;
    // More than are read at a time.
    for number in 0..18 {
        place.picture(&format!("many/{number:02}.png"), 36, 36);
    }
    std::fs::write(place.path("many/05.png"), b"no picture").unwrap();
    let output = place.run(
        "model.safetensors --a many --b data/testB --size 32 --styles 1 --a2b --outputs out --json",
    );
    assert!(output.status.success(), "{output:?}");
    let evaluation: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(evaluation["directions"][0]["inputs"], 17);
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(remarks.contains("many/05.png"), "{remarks}");
    assert!(place.path("out/a2b/0016-input.png").exists());
    assert!(!place.path("out/a2b/0017-input.png").exists());

    std::fs::write(place.path("data/testB/1.png"), b"no picture").unwrap();
    let output =
        place.run("pairs data/testA data/testB --backbone backbone.safetensors --size 32 --json");
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["pairs"], 3);
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(remarks.contains("testB/1.png"), "{remarks}");
    for number in [2, 3] {
        std::fs::write(
            place.path(&format!("data/testB/{number}.png")),
            b"no picture",
        )
        .unwrap();
    }
    let message = place.fail("pairs data/testA data/testB --backbone backbone.safetensors");
    assert!(message.contains("1 of 4 pairs could be read"), "{message}");
}

#[test]
fn mistakes_get_a_sentence() {
    let place = Place::new(&Tiny::new(Family::Munit).model);
    std::fs::create_dir_all(place.place.path("empty/testA")).unwrap();
    std::fs::create_dir_all(place.place.path("broken/testA")).unwrap();
    place.place.picture("broken/testB/x.png", 40, 40);
    std::fs::write(place.place.path("broken/testA/x.png"), b"no picture").unwrap();
    for (arguments, expected) in [
        ("missing.safetensors data", "missing.safetensors"),
        (
            "model.safetensors",
            "DATA, a folder with testA and testB, or --a FOLDER and --b FOLDER",
        ),
        (
            "model.safetensors nowhere",
            "nowhere: there is neither testA nor trainA",
        ),
        ("model.safetensors empty", "empty/testA: no pictures"),
        (
            "model.safetensors broken",
            "broken/testA: nothing in it could be read, of 1 picture\n",
        ),
        ("model.safetensors data --backbone data", "data"),
        (
            "model.safetensors data --backbone model.safetensors",
            "model.safetensors: is not a backbone",
        ),
        ("model.safetensors data --inputs 0", "--inputs"),
        ("model.safetensors --a data/testA", "--b <FOLDER>"),
        (
            "model.safetensors data --a data/testA --b data/testB",
            "cannot be used with",
        ),
        ("model.safetensors data --a2b --b2a", "cannot be used with"),
    ] {
        let message = place.place.fail(arguments);
        assert!(message.contains(expected), "{arguments}: {message}");
        assert!(!message.contains("panicked"), "{arguments}: {message}");
    }
    let one = Tiny::new(Family::Munit)
        .model
        .restrict(&[Direction::B2a])
        .unwrap();
    let message = Place::new(&one).place.fail("model.safetensors data --a2b");
    assert!(message.contains("does not translate a2b"), "{message}");
}

/// A clip of six frames in `clip`, in which everything goes two pixels to the left each time.
fn moving_clip(place: &Workplace) {
    for number in 0..6u32 {
        let picture = image::RgbImage::from_fn(64, 48, |x, y| {
            let (x, y) = ((x + 2 * number) as f32, y as f32);
            let wave = |along: f32, down: f32| (along * x + down * y).sin();
            let value = 128.0 + 50.0 * wave(0.13, 0.09) + 40.0 * wave(-0.2, 0.27);
            image::Rgb([value as u8, 255 - value as u8, (value / 2.0) as u8])
        });
        let path = place.path(&format!("clip/{number}.png"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(path).unwrap();
    }
}

#[test]
fn the_figures_of_a_clip_follow_from_the_pictures_that_are_saved() {
    let place = Place::new(&Tiny::new(Family::Munit).model).place;
    moving_clip(&place);
    let text = place.succeed(
        "model.safetensors --video clip --frames 5 --video-styles 2 --size 48 --precision fp32 \
         --backbone backbone.safetensors --outputs out --json",
    );
    let evaluation: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(evaluation["directions"], serde_json::json!([]));
    let report = &evaluation["videos"][0];
    assert_eq!(
        (&report["frames"], &report["styles"]),
        (&5.into(), &2.into())
    );
    assert_eq!(
        (&report["width"], &report["height"]),
        (&64.into(), &48.into())
    );
    let picture = |index: usize, what: &str| {
        read(&place.path(&format!("out/video/clip/{index:04}-{what}.png")))
    };
    let tensor = |index: usize, what: &str| picture_tensor(&picture(index, what)).unwrap();
    let (mut warping, mut own_warping, mut flicker) = (Vec::new(), Vec::new(), Vec::new());
    let mut contents = Vec::new();
    for index in 0..5 {
        for style in ["00", "01"] {
            contents.push(content(&tensor(index, style), &tensor(index, "input")));
        }
        if index == 0 {
            continue;
        }
        let (first, second) = (picture(index - 1, "input"), picture(index, "input"));
        let motion = Motion::between(&first, &second, Device::Cpu).unwrap();
        assert!(motion.visible_share() > 0.8);
        let error = |what: &str| {
            motion
                .warping_error(&tensor(index - 1, what), &tensor(index, what))
                .unwrap()[0]
        };
        own_warping.push(error("input"));
        warping.push((error("00") + error("01")) / 2.0);
        for style in ["00", "01"] {
            let (one, other) = (picture(index - 1, style), picture(index, style));
            let pairs = one.as_raw().iter().zip(other.as_raw());
            let steps: Vec<f64> = pairs
                .map(|(one, other)| one.abs_diff(*other).into())
                .collect();
            flicker.push(mean(&steps));
        }
    }
    let (found, beside) = figure(report, "warping_error");
    assert_near(found, mean(&warping));
    assert_near(beside[0], mean(&own_warping));
    assert!(beside[0] < 1e-3, "{beside:?}");
    assert_near(figure(report, "flicker").0, mean(&flicker));
    assert_near(figure(report, "content_distance").0, mean(&contents));
    assert_eq!(report["pairs"].as_array().unwrap().len(), 4);
}

#[test]
fn a_still_clip_is_steady_and_one_of_cuts_is_refused() {
    let place = Place::new(&Tiny::new(Family::Unit).model).place;
    for number in 0..3 {
        place.picture(&format!("still/{number}.png"), 48, 48);
    }
    let text = place.succeed("model.safetensors --video still --size 48 --json");
    let evaluation: Value = serde_json::from_str(&text).unwrap();
    let report = &evaluation["videos"][0];
    for key in ["warping_error", "flicker"] {
        let (found, beside) = figure(report, key);
        assert!(found < 1e-9 && beside[0] < 1e-9, "{report:#}");
    }
    assert_eq!(report["left_out"][0]["what"], "content distance");

    for number in 0..3u32 {
        let random = |x: u32, y: u32| {
            let hash = (x * 7919 + y * 104_729 + number * 1_299_709).wrapping_mul(2_654_435_761);
            (hash >> 24) as u8
        };
        let picture = image::RgbImage::from_fn(48, 48, |x, y| image::Rgb([random(x, y); 3]));
        let path = place.path(&format!("cuts/{number}.png"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture.save(path).unwrap();
    }
    let message = place.fail("model.safetensors --video cuts --size 48");
    assert!(
        message.contains("cuts: there are no two frames"),
        "{message}"
    );
    place.picture("mixed/0.png", 48, 48);
    place.picture("mixed/1.png", 60, 48);
    for (arguments, expected) in [
        (
            "--video mixed --size 48",
            "mixed: its frames have different sizes",
        ),
        (
            "--video model.safetensors",
            "model.safetensors is not a video",
        ),
        ("--video nowhere.mp4", "nowhere.mp4: cannot read"),
        ("", "say on what it is evaluated"),
    ] {
        let message = place.fail(&format!("model.safetensors {arguments}"));
        assert!(message.contains(expected), "{arguments}: {message}");
        assert!(!message.contains("panicked"), "{arguments}: {message}");
    }
}

#[test]
fn pairs_are_compared_within_a_scene_and_between_scenes() {
    let place = Place::new(&Tiny::new(Family::Munit).model).place;
    std::fs::rename(
        place.path("data/testA/3.png"),
        place.path("data/testA/more.png"),
    )
    .unwrap();
    let text = place.succeed(
        "pairs data/testA data/testB --backbone backbone.safetensors --size 32 --json --page p.html",
    );
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["pairs"], 3);
    let framing = Framing {
        new_size: 32,
        crop_height: 32,
        crop_width: 32,
        channels: 3,
    };
    let pictures: Vec<[Tensor; 2]> = (0..3)
        .map(|number| {
            ["A", "B"].map(|domain| {
                let path = place.path(&format!("data/test{domain}/{number}.png"));
                load_picture(&path, &framing).unwrap().unsqueeze(0)
            })
        })
        .collect();
    let same: Vec<f64> = pictures.iter().map(|[a, b]| content(a, b)).collect();
    let mut other = Vec::new();
    for index in 0..3 {
        let next = &pictures[(index + 1) % 3];
        for (own, next) in pictures[index].iter().zip(next) {
            other.push(content(own, next));
        }
    }
    let (found, beside) = figure(&report, "same_scene_distance");
    assert_near(found, mean(&same));
    assert_near(beside[0], mean(&other));
    let histogram = &report["histograms"][0];
    assert_eq!(histogram["normalised"], true);
    assert_eq!(histogram["other_scene"].as_array().unwrap().len(), 6);
    let below = same
        .iter()
        .map(|same| other.iter().filter(|other| same < other).count())
        .sum::<usize>();
    assert_near(figure(&report, "scenes_told_apart").0, below as f64 / 18.0);
    assert_self_contained(&place, "p.html", 2);

    let message = place.fail("pairs data/testA clip --backbone backbone.safetensors");
    assert!(message.contains("clip"), "{message}");
    std::fs::create_dir_all(place.path("lonely")).unwrap();
    place.picture("lonely/x.png", 40, 40);
    let message = place.fail("pairs data/testA lonely --backbone backbone.safetensors");
    assert!(message.contains("0 pictures of the same name"), "{message}");
}

#[test]
fn pairs_are_as_many_as_are_asked_for_spread_over_the_folder() {
    let place = Place::new(&Tiny::new(Family::Munit).model).place;
    let text = place.succeed(
        "pairs data/testA data/testB --backbone backbone.safetensors --size 32 --pairs 2 --json",
    );
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["pairs"], 2);
    let same = [0, 2].map(|number| {
        let [a, b] = ["A", "B"]
            .map(|domain| framed(&place.path(&format!("data/test{domain}/{number}.png"))));
        content(&a, &b)
    });
    assert_near(figure(&report, "same_scene_distance").0, mean(&same));
}

/// A page with so many charts, which loads nothing.
#[track_caller]
fn assert_self_contained(place: &Workplace, name: &str, charts: usize) {
    let page = std::fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(page.matches("<svg").count(), charts);
    assert_eq!(page.matches("</svg>").count(), charts);
    for source in page.split("src=\"").skip(1) {
        assert!(
            source.starts_with("data:image/jpeg;base64,"),
            "{source:.80}"
        );
    }
    assert!(!page.contains("<script") && !page.contains("<link") && !page.contains("url("));
    assert!(page.contains("<table>") && page.ends_with("</html>\n"));
}

#[test]
fn a_page_shows_everything_and_needs_no_other_file() {
    let place = Place::new(&Tiny::new(Family::Munit).model).place;
    moving_clip(&place);
    place.succeed(
        "model.safetensors data --video clip --inputs 3 --styles 2 --size 32 \
         --backbone backbone.safetensors --page new/folder/page.html",
    );
    // Two histograms in each of two directions, two courses of the clip.
    assert_self_contained(&place, "new/folder/page.html", 6);
    let page = std::fs::read_to_string(place.path("new/folder/page.html")).unwrap();
    for text in [
        "<title>Evaluation of model</title>",
        "styles drawn for it alone",
        "photo to print (a2b)",
        "Fréchet distance",
        "warping error",
        "clip (a2b)",
    ] {
        assert!(page.contains(text), "{text}");
    }
    // A sheet for each direction and one for the clip, which are pictures.
    let sheets: Vec<&str> = page.split("base64,").skip(1).collect();
    assert_eq!(sheets.len(), 3);
    assert!(sheets.iter().all(|sheet| sheet.starts_with("/9j/")));
}

#[test]
fn a_page_that_cannot_be_written_does_not_take_the_figures_with_it() {
    let place = Place::new(&Tiny::new(Family::Munit).model).place;
    // Refused before any work.
    let message = place.fail("model.safetensors data --page data");
    assert!(message.contains("data: this is a folder"), "{message}");
    let message = place.fail("missing.safetensors data --page model.safetensors/page.html");
    assert!(message.contains("is a file, not a folder"), "{message}");
    // What names cannot tell.
    let output =
        place.run("model.safetensors data --inputs 1 --styles 1 --size 32 --page /proc/page.html");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let figures = String::from_utf8(output.stdout).unwrap();
    assert!(figures.contains("cycle PSNR"), "{figures}");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("/proc/page.html: cannot write"),
        "{message}"
    );
}
