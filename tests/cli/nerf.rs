//! Methods of several passes: training, resuming, evaluation and rendering.

use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;

use crate::support::*;

/// Settings that make a step of a coarse and a fine pass take milliseconds on a software adapter.
const FEW: [&str; 9] = [
    "--method=nerf-small",
    "--set=training.n_rays=48",
    "--set=passes.0.sampler.stratified.n_samples=8",
    "--set=passes.1.sampler.importance.n_samples=6",
    "--set=passes.field.density_network.n_neurons=16",
    "--set=passes.field.position_encoding.frequency.n_frequencies=4",
    "--set=passes.0.field.density_to_color=false",
    "--set=passes.0.field.n_density_outputs=17",
    "--set=training.density_noise=0.1",
];

fn train_passes(dataset: &Path, out: &Path) -> Command {
    let mut command = kiln(["train"]);
    command.arg(dataset).arg("--out").arg(out).args(FEW);
    command
}

#[test]
fn a_resumed_run_of_two_passes_equals_an_uninterrupted_one() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let dataset = &shared().dataset;
    succeeds(train_passes(dataset, &at("whole")).args(["--steps", "24"]));
    succeeds(train_passes(dataset, &at("halves")).args(["--steps", "11"]));
    succeeds(kiln(["train", "--steps", "24", "--resume"]).arg(at("halves")));
    assert_same_tensors(&at("whole"), &at("halves"));
    let (_, tensors) = checkpoint(&at("whole"));
    for name in [
        "passes.0.density_network.0.weight",
        "passes.1.color_network.0.bias",
    ] {
        for role in ["", "ema.", "first_moment.", "second_moment."] {
            assert!(
                tensors.contains_key(&format!("{role}{name}")),
                "{role}{name}"
            );
        }
    }
    assert!(!tensors.keys().any(|name| name.starts_with("occupancy")));

    succeeds(kiln(["eval"]).arg(at("halves")));
    assert_eq!(steps_of(&at("halves")), 24);
    let output = succeeds(kiln(["inspect"]).arg(at("halves")));
    assert!(
        text(&output.stdout).contains("24 steps"),
        "{}",
        text(&output.stdout)
    );
    let out = at("views");
    succeeds(
        kiln([
            "render",
            "--turntable",
            "2",
            "--channels",
            "rgb,depth,normal,opacity",
            "--out",
        ])
        .arg(&out)
        .arg(at("halves")),
    );
    assert_eq!(names_in(&out).len(), 8);
}

#[test]
fn a_pass_is_set_by_its_number_and_all_of_them_without() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    succeeds(train_passes(&shared().dataset, &run).args([
        "--steps=1",
        "--set=passes.1.field.color_network.n_neurons=12",
        "--set=passes.field.density_network.n_hidden_layers=2",
    ]));
    let config = std::fs::read_to_string(run.join("config.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    let of = |pass: usize, network: &str, key: &str| {
        config["passes"][pass]["field"][network][key]
            .as_integer()
            .unwrap()
    };
    assert_eq!(of(1, "color_network", "n_neurons"), 12);
    assert_ne!(of(0, "color_network", "n_neurons"), 12);
    assert_eq!(
        [0, 1].map(|p| of(p, "density_network", "n_hidden_layers")),
        [2, 2]
    );
}

#[test]
fn invalid_methods() {
    if !has_adapter() {
        return;
    }
    for (set, words) in [
        (
            "passes.0.sampler.stratified.n_samples=0",
            &["0 samples per ray"][..],
        ),
        (
            "passes.1.sampler.importance.n_samples=0",
            &["0 samples per ray"],
        ),
        (
            "scene={near=5.0,far=2.0,background=\"white\",eval_background=\"white\"}",
            &["scene.far", "near 5"],
        ),
        ("scene.near=9.0", &["start at 9", "end at 6", "scene.near"]),
        (
            "passes.0.field.density_network.skips=[9]",
            &["skips", "layer 9"],
        ),
        ("passes.2.field.n_density_outputs=8", &["no entry 2"]),
        (
            "passes.1.field.n_density_outputs=6",
            &["n_density_outputs", "multiple of 4"],
        ),
        (
            "passes.0.field.density_network.n_neurons=2000",
            &["n_neurons", "512"],
        ),
        ("training.n_rays=0", &["training.n_rays", "0"]),
        (
            "passes.0.sampler={importance={n_samples=8,jitter=true}}",
            &["importance", "pass before"],
        ),
        (
            "passes.0.sampler={ray_march={steps=8,max_samples=8,min_transmittance=0.1}}",
            &["occupancy"],
        ),
        (
            "passes.0.field.density_to_color=true",
            &["n_density_outputs", "17"],
        ),
        (
            "passes.0.field={n_density_outputs=16,position_encoding={frequency={n_frequencies=3}},density_network={n_neurons=8,n_hidden_layers=1},color_network={n_neurons=8,n_hidden_layers=1}}",
            &["density_noise", "pass 0"],
        ),
        (
            "passes.1.field.position_encoding={hash_grid={n_levels=2,n_features_per_level=2,log2_hashmap_size=8,base_resolution=4}}",
            &["pass 1", "hash grid", "bounded"],
        ),
        (
            "passes.1.field={n_density_outputs=4,position_encoding={frequency={n_frequencies=3}},direction_encoding={frequency={n_frequencies=2}},density_network={n_neurons=8,n_hidden_layers=1}}",
            &["direction_encoding", "color_network"],
        ),
        (
            "passes.1.field={n_density_outputs=4,position_encoding={frequency={n_frequencies=3}},feature_activation=\"relu\",density_network={n_neurons=8,n_hidden_layers=1}}",
            &["feature_activation", "color_network"],
        ),
        (
            "training.micro_batches=7",
            &["micro_batches", "does not divide", "48"],
        ),
    ] {
        let folder = TempDir::new().unwrap();
        let mut command = train_passes(&shared().dataset, &folder.path().join("run"));
        refused(command.args(["--set", set]), 2, words);
        assert!(names_in(folder.path()).is_empty());
    }
}

#[test]
fn rays_are_not_marched_in_device_coordinates() {
    let words = ["forward_facing", "ndc", "stratified"];
    train_refused(
        &shared().dataset,
        &["--set=scene.forward_facing=ndc"],
        2,
        &words,
    );
}

#[test]
fn a_hash_grid_may_feed_a_wide_network_with_skips_through_passes() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let run = folder.path().join("run");
    succeeds(train_passes(&shared().dataset, &run).args([
        "--steps=6",
        "--set=passes.0.sampler.stratified.bounded=true",
        "--set=passes.field.position_encoding={hash_grid={n_levels=3,n_features_per_level=2,log2_hashmap_size=10,base_resolution=4}}",
        "--set=passes.1.field.density_network={n_neurons=72,n_hidden_layers=3,skips=[2],biases=true}",
    ]));
    let (_, tensors) = checkpoint(&run);
    for name in [
        "passes.0.position_encoding.level_2",
        "updates.passes.1.position_encoding.level_0",
        "state.passes.1.gradient_scales",
    ] {
        assert!(tensors.contains_key(name), "{name}");
    }
    succeeds(kiln(["eval"]).arg(&run));
}
