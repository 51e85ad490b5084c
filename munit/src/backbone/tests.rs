use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::*;

fn random(shape: &[i64], seed: i64) -> Tensor {
    // A row of numbers that repeats nowhere, in [-1, 1].
    let count: i64 = shape.iter().product();
    let places = Tensor::arange(count, (Kind::Double, Device::Cpu)) + seed as f64 * 7.3;
    (places * 12.9898).sin().to_kind(Kind::Float).reshape(shape)
}

/// Two branches, every operation but the linear layer, another size and reversed colours.
const BRANCHES: &str = r#"{
    "name": "branches",
    "input": {"order": "bgr", "range": [0, 255], "mean": [10, 20, 30], "deviation": [2, 4, 8]},
    "layers": [
        {"name": "c1", "op": "convolution", "stride": [2, 1], "padding": [1, 2], "mode": "reflect"},
        {"name": "r1", "op": "relu"},
        {"name": "m1", "op": "max_pool", "size": [3, 3], "stride": [2, 2], "ceil": true},
        {"name": "c2", "op": "convolution", "stride": [1, 1], "padding": [0, 1], "from": ["m1"]},
        {"name": "a2", "op": "average_pool", "size": [3, 3], "stride": [1, 1], "padding": [1, 1], "from": ["m1"]},
        {"name": "both", "op": "concatenate", "from": ["c2", "a2"]},
        {"name": "twice", "op": "add", "from": ["both", "both"]},
        {"name": "mean", "op": "global_average_pool"},
        {"name": "classes", "op": "linear"}
    ],
    "perceptual": [{"layer": "r1"}, {"layer": "both", "weights": "lin.weight"}],
    "content": "r1",
    "features": "twice",
    "logits": "classes"
}"#;

fn branches() -> (Description, BTreeMap<String, Tensor>) {
    let tensors = [
        ("c1.weight", vec![4, 3, 3, 5]),
        ("c1.bias", vec![4]),
        ("c2.weight", vec![2, 4, 1, 3]),
        ("c2.bias", vec![2]),
        ("lin.weight", vec![1, 6, 1, 1]),
        ("classes.weight", vec![5, 6]),
        ("classes.bias", vec![5]),
    ];
    let tensors = tensors.iter().enumerate().map(|(seed, (name, shape))| {
        let tensor = random(shape, seed as i64);
        ((*name).to_owned(), tensor)
    });
    (serde_json::from_str(BRANCHES).unwrap(), tensors.collect())
}

const ALL: Wanted = Wanted {
    perceptual: true,
    style: true,
    content: true,
    features: true,
    logits: true,
};

#[track_caller]
fn assert_near(left: &Tensor, right: &Tensor) {
    assert_eq!(left.size(), right.size());
    let largest = f64::try_from((left - right).abs().max()).unwrap();
    let scale = f64::try_from(right.abs().max()).unwrap().max(1.0);
    assert!(largest < 1e-5 * scale, "they differ by {largest}");
}

#[test]
fn a_network_computes_what_its_description_says() {
    let (description, tensors) = branches();
    let backbone = Backbone::new(description, &tensors, Device::Cpu).unwrap();
    assert_eq!((backbone.name(), backbone.can()), ("branches", ALL));
    let pictures = random(&[2, 3, 17, 22], 100);
    let found = backbone.activations(&pictures, ALL).unwrap();

    let per_channel = |values: [f32; 3]| Tensor::from_slice(&values).reshape([1, 3, 1, 1]);
    let x = ((pictures.flip([1]) + 1.0) * 127.5 - per_channel([10.0, 20.0, 30.0]))
        / per_channel([2.0, 4.0, 8.0]);
    let weight = |name: &str| &tensors[name];
    let no = [0, 0];
    let r1 = x
        .reflection_pad2d([2, 2, 1, 1])
        .conv2d(
            weight("c1.weight"),
            Some(weight("c1.bias")),
            [2, 1],
            no,
            [1, 1],
            1,
        )
        .relu();
    let m1 = r1.max_pool2d([3, 3], [2, 2], no, [1, 1], true);
    let bias = Some(weight("c2.bias"));
    let c2 = m1.conv2d(weight("c2.weight"), bias, [1, 1], [0, 1], [1, 1], 1);
    let a2 = m1.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None);
    let both = Tensor::cat(&[c2, a2], 1);
    let features = (&both * 2.0).mean_dim([2i64, 3].as_slice(), false, Kind::Float);
    let logits = features.linear(weight("classes.weight"), Some(weight("classes.bias")));
    assert_near(found.content.as_ref().unwrap(), &r1);
    assert_near(found.features.as_ref().unwrap(), &features);
    assert_near(found.logits.as_ref().unwrap(), &logits);
    let unit = &both
        / both
            .square()
            .sum_dim_intlist([1i64].as_slice(), true, Kind::Float)
            .sqrt();
    assert_near(&found.perceptual[1].0, &unit);

    // What is not wanted is not there, and changes nothing about the rest.
    let wanted = Wanted {
        features: true,
        ..Wanted::default()
    };
    let fewer = backbone.activations(&pictures, wanted).unwrap();
    assert!(fewer.logits.is_none() && fewer.content.is_none() && fewer.perceptual.is_empty());
    assert_near(fewer.features.as_ref().unwrap(), &features);
}

#[test]
fn the_perceptual_distance_is_that_of_its_definition() {
    let (description, tensors) = branches();
    let backbone = Backbone::new(description, &tensors, Device::Cpu).unwrap();
    let [left, right] = [1, 2].map(|seed| random(&[2, 3, 16, 16], 10 * seed));
    let [left, right] = [left, right].map(|x| backbone.activations(&x, ALL).unwrap());
    let found = Vec::<f64>::try_from(left.perceptual_distance(&right).unwrap()).unwrap();

    let lin = Vec::<f64>::try_from(tensors["lin.weight"].reshape(-1)).unwrap();
    let mut expected = [0.0; 2];
    for (tap, weights) in [(0, None), (1, Some(lin))] {
        let size = left.perceptual[tap].0.size();
        let (channels, height, width) = (size[1], size[2], size[3]);
        let value = |side: &Activations, b: usize, c: i64, y: i64, x: i64| {
            side.perceptual[tap].0.double_value(&[b as i64, c, y, x])
        };
        for (picture, expected) in expected.iter_mut().enumerate() {
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                for c in 0..channels {
                    let difference =
                        value(&left, picture, c, y, x) - value(&right, picture, c, y, x);
                    let weight = weights.as_ref().map_or(1.0, |weights| weights[c as usize]);
                    *expected += weight * difference * difference / (height * width) as f64;
                }
            }
        }
    }
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    let itself = left.perceptual_distance(&left).unwrap();
    assert_eq!(f64::try_from(itself.abs().max()).unwrap(), 0.0);
}

#[test]
fn the_content_distance_does_not_see_contrast_and_brightness_of_maps() {
    let activations = |maps: &Tensor| Activations {
        perceptual: Vec::new(),
        style: Vec::new(),
        content: Some(maps.shallow_clone()),
        features: None,
        logits: None,
    };
    let maps = random(&[2, 3, 6, 5], 3);
    let (one, brighter) = (activations(&maps), activations(&(&maps * 4.0 + 0.5)));
    let largest = |distance: Tensor| f64::try_from(distance.max()).unwrap();
    assert!(largest(one.content_distance(&brighter, true).unwrap()) < 1e-6);
    assert!(largest(one.content_distance(&brighter, false).unwrap()) > 1.0);

    // Against the definition, number by number.
    let other = random(&[2, 3, 6, 5], 9);
    let found = one.content_distance(&activations(&other), true).unwrap();
    for picture in 0..2 {
        let mut expected = 0.0;
        for channel in 0..3 {
            let normalised = |maps: &Tensor| {
                let map = maps.get(picture).get(channel).reshape(-1);
                let values = Vec::<f64>::try_from(map).unwrap();
                let mean = values.iter().sum::<f64>() / 30.0;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 30.0;
                values
                    .into_iter()
                    .map(move |value| (value - mean) / (variance + 1e-5).sqrt())
                    .collect::<Vec<_>>()
            };
            let pairs = normalised(&maps).into_iter().zip(normalised(&other));
            expected += pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>() / 90.0;
        }
        assert!((found.double_value(&[picture]) - expected).abs() < 1e-5);
    }
}

#[test]
fn the_style_distance_compares_channels_and_does_not_see_places() {
    let activations = |maps: &[Tensor]| Activations {
        perceptual: Vec::new(),
        style: maps.iter().map(|map| moments(map).unwrap()).collect(),
        content: None,
        features: None,
        logits: None,
    };
    let (left, right) = (
        [random(&[2, 3, 6, 5], 3), random(&[2, 4, 3, 2], 5)],
        [random(&[2, 3, 6, 5], 7), random(&[2, 4, 3, 2], 9)],
    );
    let found = activations(&left)
        .style_distance(&activations(&right))
        .unwrap();
    assert_eq!(found.size(), [2]);
    // Against the definition, number by number.
    for picture in 0..2 {
        let mut expected = 0.0;
        for (left, right) in left.iter().zip(&right) {
            let (mut difference, mut size) = (0.0, 0.0);
            for channel in 0..left.size()[1] {
                let moments = |maps: &Tensor| {
                    let map = maps.get(picture).get(channel).reshape(-1);
                    let values = Vec::<f64>::try_from(map).unwrap();
                    let count = values.len() as f64;
                    let mean = values.iter().sum::<f64>() / count;
                    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
                    [mean, (variance + 1e-5).sqrt()]
                };
                for (a, b) in moments(left).into_iter().zip(moments(right)) {
                    difference += (a - b).powi(2);
                    size += b.powi(2);
                }
            }
            expected += difference / (size + 1e-5) / 2.0;
        }
        let found = found.double_value(&[picture]);
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    // The same things elsewhere, and in another order of pictures.
    let turned = left.each_ref().map(|map| map.flip([2, 3]));
    let itself = activations(&left)
        .style_distance(&activations(&turned))
        .unwrap();
    assert!(itself.max().double_value(&[]) < 1e-6);
    let chosen = activations(&left).select(&[1, 0]).unwrap();
    let swapped = chosen
        .style_distance(&activations(&right).select(&[1, 0]).unwrap())
        .unwrap();
    assert_near(&swapped, &found.flip([0]));
    assert!(activations(&[]).style_distance(&activations(&[])).is_err());
}

#[test]
fn a_flat_picture_has_a_style_and_a_slope() {
    let (description, tensors) = branches();
    let backbone = Backbone::new(description, &tensors, Device::Cpu).unwrap();
    let wanted = Wanted {
        style: true,
        ..Wanted::default()
    };
    let example = backbone.activations(&random(&[1, 3, 8, 8], 4), wanted);
    let flat = Tensor::zeros([1, 3, 8, 8], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let distance = backbone
        .activations(&flat, wanted)
        .unwrap()
        .style_distance(&example.unwrap())
        .unwrap();
    distance.sum(Kind::Float).backward();
    let slope = flat.grad().abs().max().double_value(&[]);
    assert!(slope > 0.0 && slope.is_finite(), "{slope}");
}

#[test]
fn pictures_are_resized_from_the_corner_as_tensorflow_did() {
    let size = |method| InputSize {
        height: 1,
        width: 4,
        method,
    };
    let picture = Tensor::from_slice(&[1.0f32, 3.0]).reshape([1, 1, 1, 2]);
    let row = |method| {
        let resized = resize::resize(&picture, &size(method)).unwrap();
        assert_eq!(resized.size(), [1, 1, 1, 4]);
        Vec::<f64>::try_from(resized.reshape(-1)).unwrap()
    };
    assert_eq!(row(Resampling::Tensorflow1), [1.0, 2.0, 3.0, 3.0]);
    assert_eq!(row(Resampling::Antialiased), [1.0, 1.5, 2.5, 3.0]);
}

#[test]
fn vgg_is_known_by_the_names_of_its_tensors() {
    let mut tensors = BTreeMap::new();
    let mut inputs = 3;
    let mut names = Vec::new();
    for (stage, count) in [(1, 2), (2, 2), (3, 4), (4, 4), (5, 1)] {
        for number in 1..=count {
            let name = format!("conv{stage}_{number}");
            let outputs = 2 + stage;
            tensors.insert(
                format!("{name}.weight"),
                random(&[outputs, inputs, 3, 3], stage),
            );
            tensors.insert(format!("{name}.bias"), random(&[outputs], number));
            inputs = outputs;
            names.push((stage, name));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vgg.safetensors");
    let list: Vec<_> = tensors.iter().collect();
    Tensor::write_safetensors(&list, &path).unwrap();
    let backbone = Backbone::read(&path, Device::Cpu).unwrap();
    assert_eq!(backbone.name(), "VGG-16 (Caffe)");

    let picture = random(&[1, 3, 32, 48], 5);
    let mean = Tensor::from_slice(&[103.939f32, 116.779, 123.68]).reshape([1, 3, 1, 1]);
    let mut x = (picture.flip([1]) + 1.0) * 127.5 - mean;
    let mut before = 1;
    for (stage, name) in names {
        if stage != before {
            x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
            before = stage;
        }
        let [weight, bias] = ["weight", "bias"].map(|kind| &tensors[&format!("{name}.{kind}")]);
        x = x
            .conv2d(weight, Some(bias), [1, 1], [1, 1], [1, 1], 1)
            .relu();
    }
    let found = backbone.activations(&picture, ALL).unwrap();
    let found = found.content.unwrap();
    assert_eq!(found.size(), [1, 7, 2, 3]);
    assert_near(&(found / x.max()), &(&x / x.max()));

    // A description in the file goes before the names.
    let again = folder.path().join("again.safetensors");
    let renamed = Description {
        name: "another".to_owned(),
        ..backbone.description().clone()
    };
    write(&again, &renamed, &tensors).unwrap();
    let again = Backbone::read(&again, Device::Cpu).unwrap();
    assert_eq!(again.description(), &renamed);
}

#[test]
fn grey_pictures_are_seen_as_colour() {
    let (description, tensors) = branches();
    let backbone = Backbone::new(description, &tensors, Device::Cpu).unwrap();
    let grey = random(&[1, 1, 16, 16], 4);
    let colour = grey.expand([1, 3, 16, 16], false);
    let [grey, colour] = [grey, colour].map(|x| backbone.activations(&x, ALL).unwrap());
    assert_near(&grey.logits.unwrap(), &colour.logits.unwrap());
}

/// Spoils a backbone before it is written.
type Change<'a> = &'a dyn Fn(&mut Description, &mut BTreeMap<String, Tensor>);

#[test]
fn what_is_no_backbone_gets_a_sentence() {
    let (description, tensors) = branches();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backbone.safetensors");
    let refused = |change: Change| {
        let mut description = description.clone();
        let mut tensors: BTreeMap<_, _> = tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        change(&mut description, &mut tensors);
        write(&path, &description, &tensors)
            .unwrap_err()
            .to_string()
    };
    let cases: [(Change, &str); 6] = [
        (
            &|_, tensors| drop(tensors.remove("c2.bias")),
            "c2.bias is missing",
        ),
        (
            &|_, tensors| drop(tensors.remove("lin.weight")),
            "lin.weight is missing",
        ),
        (
            &|_, tensors| drop(tensors.insert("c2.weight".to_owned(), random(&[2], 1))),
            "c2.weight has shape [2]",
        ),
        (
            &|description, _| description.layers.swap(3, 5),
            "takes the result of c2, which no layer before it has",
        ),
        (
            &|description, _| description.content = Some("c9".to_owned()),
            "there is no layer c9",
        ),
        (
            &|description, _| description.layers[1].name = "c1".to_owned(),
            "two layers are named c1",
        ),
    ];
    for (change, expected) in cases {
        let error = refused(change);
        assert!(error.contains(expected), "{error}");
        assert!(!path.exists());
    }

    let read = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        let error = Backbone::read(&path, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("backbone.safetensors: "), "{error}");
        error
    };
    assert!(read(b"").contains("munit-import backbone"));
    assert!(read(b"PK\x03\x04 a checkpoint").contains("munit-import backbone"));
    Tensor::write_safetensors(&[("x", &random(&[2], 1))], &path).unwrap();
    let plain = std::fs::read(&path).unwrap();
    assert!(read(&plain).contains("not named as those of VGG"));
    let bad = Tensor::from_slice(&[1.0f32, f32::NAN]);
    Tensor::write_safetensors(&[("x", &bad)], &path).unwrap();
    assert!(read(&std::fs::read(&path).unwrap()).contains("not finite"));
}
