//! Training on folders of pairs: pictures of the same name show the same.

use std::fs;

use image::{Rgb, RgbImage};

use crate::common::{
    MUNIT_TRAIN, Place, assert_says, failed, succeeded, text, write_backbone, write_vgg,
};

/// Blobs of several colours, on a ground that grows lighter.
fn blobs(number: u32, x: u32, y: u32) -> Rgb<u8> {
    let inside = (x / 11 + y / 9 + number).is_multiple_of(3);
    let shade = (90 + 3 * x) as u8;
    match inside {
        true => Rgb([220, 40 * number as u8, 30]),
        false => Rgb([shade / 2, shade, shade]),
    }
}

/// Pairs in the folders `a` and `b`, whose colours are exchanged.
fn pairs() -> Place {
    let place = Place::new();
    place.pictures("a", blobs);
    place.pictures("b", |number, x, y| {
        let Rgb([red, green, blue]) = blobs(number, x, y);
        Rgb([blue, red, green])
    });
    place
}

fn mean(values: &[Option<f64>]) -> f64 {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    known.iter().sum::<f64>() / known.len() as f64
}

#[test]
fn translations_learn_to_be_the_partners() {
    let place = pairs();
    let arguments =
        "--a a --b b --recipe modern --lr 0.002 --iterations 120 --batch-size 2 --encoded-styles 1";
    for (run, weight) in [("paired", 10), ("unpaired", 0)] {
        succeeded(place.train(&format!("{arguments} --paired {weight} --out {run}")));
    }
    for name in ["gen_paired_a", "gen_paired_b"] {
        let column = place.column("paired", name).unwrap();
        let (first, last) = (mean(&column[..5]), mean(&column[column.len() - 5..]));
        assert!(last < 0.6 * first, "{name}: {first}, {last}");
        assert!(place.column("unpaired", name).is_none());
    }
}

#[test]
fn what_has_no_partner_is_left_out_by_name() {
    let place = pairs();
    fs::rename(place.path("a/0.png"), place.path("a/other.png")).unwrap();
    RgbImage::new(90, 38).save(place.path("b/1.png")).unwrap();
    let check = "--a a --b b --recipe modern --check";
    let output = place.train(&format!("{check} --paired 10"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_says(
        &text(&output.stdout),
        &[
            "domain a: 3 pictures in a\n",
            "left out: a/1.png: its partner has another ratio of width to height: b/1.png",
            "left out: a/other.png: it has no partner: there is no other picture of this name in b",
            "domain b: 3 pictures in b\n",
            "left out: b/0.png: it has no partner",
        ],
    );
    let output = place.train(check);
    assert_says(&text(&output.stdout), &["domain a: 5 pictures"]);

    for number in 0..5 {
        let path = place.path(&format!("b/{number}.png"));
        fs::rename(path, place.path(&format!("b/picture-{number}.png"))).unwrap();
    }
    let arguments = "--a a --b b --recipe modern --paired 10 --out run";
    let errors = failed(place.run(MUNIT_TRAIN, arguments));
    assert_says(
        &errors,
        &[
            "no picture in a has a partner in b",
            "the same name in both folders",
        ],
    );
}

#[test]
fn partners_may_look_alike_and_a_picture_may_have_several() {
    let place = pairs();
    for number in 0..5 {
        let name = format!("{number}.png");
        fs::copy(place.path("a").join(&name), place.path("b").join(&name)).unwrap();
    }
    // Of the same drawing another translation.
    fs::copy(place.path("a/0.png"), place.path("a/again.png")).unwrap();
    let other = RgbImage::from_fn(44, 38, |x, y| Rgb([(5 * y) as u8, 30, (5 * x) as u8]));
    other.save(place.path("b/again.png")).unwrap();
    let notes = |arguments: &str| {
        let check = format!("--a a --b b --recipe modern --check {arguments}");
        let output = place.train(&check);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let across = "pictures of domain b nearly repeat pictures of domain a";
    let unpaired = notes("");
    assert_says(&unpaired, &[across, "; such pictures are learnt by heart"]);
    let paired = notes("--paired 10");
    assert!(!paired.contains(across), "{paired}");
    assert!(!paired.contains("such pictures"), "{paired}");
    assert_says(
        &paired,
        &[
            "a/0.png and a/again.png; where their partners nearly repeat one another, too, such pairs are",
        ],
    );
}

#[test]
fn partners_alone_are_learned_from_where_nothing_else_weighs() {
    let place = pairs();
    fs::write(
        place.path("alone.yaml"),
        "recipe: modern\nlr_policy: constant\nprecision: fp32\ngan_w: 0\nrecon_x_w: 0\nrecon_s_w: 0\nrecon_c_w: 0\n\
         recon_x_cyc_w: 0\ndiversity_w: 0\nstyle_prior_w: 0\npaired_w: 10\nencoded_styles: 1\n\
         log_iter: 1\nwatch_iter: 2\n\
         gen: {dim: 4, mlp_dim: 8, style_dim: 3, n_downsample: 2, n_res: 1}\n\
         dis: {dim: 4, n_layer: 2, num_scales: 2}\n",
    )
    .unwrap();
    let arguments =
        "--config alone.yaml --a a --b b --size 32 --batch-size 2 --device cpu --threads 1";
    succeeded(place.run(
        MUNIT_TRAIN,
        &format!("{arguments} --iterations 6 --out run"),
    ));
    let header = place.losses("run")[0].clone();
    let columns: Vec<&str> = header.split(',').collect();
    assert_eq!(
        columns,
        [
            "iteration",
            "gen_paired_a",
            "gen_paired_b",
            "gen_total",
            "diversity_a2b",
            "identity_distance_a2b",
            "diversity_b2a",
            "identity_distance_b2a"
        ]
    );
    assert!(place.path("run/report.html").exists());
    // Ended and gone on with, such a run ends where it would have.
    succeeded(place.run(
        MUNIT_TRAIN,
        &format!("{arguments} --iterations 3 --out halves"),
    ));
    succeeded(place.run(
        MUNIT_TRAIN,
        "--resume halves --iterations 6 --device cpu --threads 1",
    ));
    assert_eq!(place.losses("run"), place.losses("halves"));
}

#[test]
fn partners_are_compared_in_the_perceptual_network_too() {
    let place = pairs();
    fs::write(
        place.path("short.yaml"),
        "recipe: modern\nprecision: fp32\ngan_w: 0\nrecon_x_w: 0\nrecon_s_w: 0\nrecon_c_w: 0\n\
         recon_x_cyc_w: 0\ndiversity_w: 0\nencoded_styles: 1\nlr: 0.002\nbatch_size: 2\n\
         log_iter: 1\ndisplay_size: 2\n\
         gen: {dim: 4, mlp_dim: 8, style_dim: 3, n_downsample: 2, n_res: 1}\n\
         dis: {dim: 4, n_layer: 2, num_scales: 2}\n",
    )
    .unwrap();
    let arguments = "--config short.yaml --a a --b b --size 32 --iterations 150 --device cpu --threads 1 \
                     --out run";
    let sentence = failed(place.run(MUNIT_TRAIN, &format!("{arguments} --perceptual-paired 5")));
    assert_says(
        &sentence,
        &["--perceptual-paired is 5", "--vgg-weights FILE"],
    );
    let arguments = format!("{arguments} --perceptual-paired 5 --vgg-weights small.safetensors");
    write_vgg(&place.path("small.safetensors"));
    let sentence = failed(place.run(MUNIT_TRAIN, &arguments));
    assert_says(
        &sentence,
        &[
            "small.safetensors: ",
            "vgg_paired_w",
            "munit-import backbone",
        ],
    );
    assert!(!place.path("run").exists());

    write_backbone(&place.path("small.safetensors"));
    let b = fs::read(place.path("b/0.png")).unwrap();
    fs::write(place.path("a/alone.png"), b).unwrap();
    let output = place.run(MUNIT_TRAIN, &format!("{arguments} --check"));
    // It is for pairs alone, without paired_w, too.
    assert_says(
        &text(&output.stdout),
        &["left out: a/alone.png: it has no partner"],
    );
    succeeded(place.run(MUNIT_TRAIN, &arguments));
    for name in ["gen_vgg_paired_a", "gen_vgg_paired_b"] {
        let column = place.whole_column("run", name);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (first, last) = (mean(&column[..10]), mean(&column[column.len() - 10..]));
        assert!(last < 0.8 * first, "{name}: {first}, {last}");
    }
    assert!(place.column("run", "gen_paired_a").is_none());
}

#[test]
fn partners_may_have_channels_of_their_own() {
    let place = pairs();
    for (run, channels) in [("grey-b", "input_dim_b: 1"), ("grey-a", "input_dim_a: 1")] {
        fs::write(
            place.path("grey.yaml"),
            format!(
                "recipe: modern\n{channels}\npaired_w: 10\nencoded_styles: 1\nnew_size: 64\n\
                 crop_image_height: 32\ncrop_image_width: 32\nbatch_size: 2\nmax_iter: 6\n\
                 gen: {{dim: 4, mlp_dim: 8, style_dim: 3, n_downsample: 2, n_res: 1}}\n\
                 dis: {{dim: 4, n_layer: 2, num_scales: 2}}\n"
            ),
        )
        .unwrap();
        let arguments = "--config grey.yaml --a a --b b --device cpu --threads 1";
        succeeded(place.run(MUNIT_TRAIN, &format!("{arguments} --out {run}")));
    }
}
