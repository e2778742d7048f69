//! Imported models: evaluation, rendering and further training, and invalid model files.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

use crate::support::*;

fn fixture(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/torch/nerf_pytorch")
        .join(format!("{kind}.safetensors"))
}

/// Copy the model `from` to `to` without the tensor `name`, or with zeros of another shape in its place.
fn spoil(from: &Path, to: &Path, name: &str, shape: Option<&[usize]>) {
    let bytes = std::fs::read(from).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let zeros = vec![0; shape.unwrap_or_default().iter().product::<usize>() * 4];
    let mut kept: Vec<(&str, TensorView<'_>)> =
        tensors.iter().filter(|(n, _)| *n != name).collect();
    if let Some(shape) = shape {
        kept.push((
            name,
            TensorView::new(Dtype::F32, shape.to_vec(), &zeros).unwrap(),
        ));
    }
    std::fs::write(to, safetensors::serialize(kept, None).unwrap()).unwrap();
}

#[test]
fn a_model_is_evaluated_rendered_and_trained_further() {
    if !has_adapter() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let dataset = &shared().dataset;
    let import = || {
        let mut command = kiln([
            "import",
            "--as",
            "nerf-pytorch",
            "--samples=12",
            "--fine-samples=8",
        ]);
        command.arg(fixture("flexible")).arg("--out").arg(at("run"));
        command
    };
    let output = succeeds(import().arg("--json"));
    let lines = json_lines(&text(&output.stdout));
    assert_eq!(lines[0]["event"], "import");
    assert_eq!(lines[0]["passes"], 2);
    refused(&mut import(), 2, &["already holds a run", "--force"]);
    succeeds(import().arg("--force"));
    assert_eq!(
        names_in(&at("run")),
        [".lock", "checkpoint.safetensors", "config.toml"].map(str::to_owned)[1..]
    );

    refused(kiln(["eval"]).arg(at("run")), 2, &["--dataset"]);
    succeeds(kiln(["eval", "--dataset"]).arg(dataset).arg(at("run")));
    assert_eq!(steps_of(&at("run")), 0);
    let orbit = || {
        let mut command = kiln(["render", "--turntable", "1", "--out"]);
        command.arg(at("orbit")).arg(at("run"));
        command
    };
    refused(&mut orbit(), 2, &["--dataset"]);
    succeeds(orbit().arg("--dataset").arg(dataset));
    let output = succeeds(kiln(["inspect"]).arg(at("run")));
    assert!(text(&output.stdout).contains("imported"));
    refused(kiln(["train", "--resume"]).arg(at("run")), 2, &["dataset"]);
    refused(
        kiln(["train", "--set", "scene.scale=0.1", "--resume"])
            .arg(at("run"))
            .arg(dataset),
        2,
        &["scene.scale", "imported"],
    );
    let (_, before) = checkpoint(&at("run"));
    succeeds(
        kiln([
            "train",
            "--steps",
            "3",
            "--set",
            "optimizer.learning_rate=1e-3",
            "--resume",
        ])
        .arg(at("run"))
        .arg(dataset),
    );
    let (_, after) = checkpoint(&at("run"));
    let name = "passes.1.density_network.0.weight";
    assert_eq!(before[name].0, after[name].0);
    assert!(
        before[name].1 != after[name].1,
        "training moves the weights"
    );
    assert!(after.contains_key("first_moment.passes.0.color_network.0.bias"));
    assert_eq!(steps_of(&at("run")), 3);
}

#[test]
fn a_grid_of_networks_is_imported() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = fixture("../seed_000/model");
    let import = |file: &Path| {
        let mut command = kiln(["import", "--as", "kilonerf-seed", "--out"]);
        command.arg(at("run")).arg(file);
        command
    };
    for (flag, words) in [
        ("--ndc=0.6,0.4", &["--ndc", "kilonerf-seed"][..]),
        ("--fine-samples=8", &["--fine-samples", "kilonerf-seed"]),
        ("--scene-scale=-1", &["--scene-scale -1"]),
    ] {
        refused(import(&model).arg(flag), 2, words);
    }
    let mut other = kiln(["import", "--as", "nerf-pytorch", "--scene-scale=2", "--out"]);
    refused(
        other.arg(at("run")).arg(&model),
        2,
        &["--scene-scale", "nerf-pytorch"],
    );
    refused(
        &mut import(&fixture("flexible")),
        1,
        &["layer1_w", "KiloNerf"],
    );
    let file = at("model.safetensors");
    for (name, shape, words) in [
        ("layer5_b", None, &["layer5_b", "missing"][..]),
        (
            "layer3_w",
            Some(&[2, 2, 2, 32, 28][..]),
            &["layer3_w", "[2, 2, 2, 32, 28]", "[2, 2, 2, 32, 32]"],
        ),
        (
            "layer2_w",
            Some(&[2, 2, 3, 32, 33]),
            &["layer2_w", "[2, 2, 3, 32, 33]"],
        ),
        (
            "layer1_b",
            Some(&[2, 2, 2, 32]),
            &["layer1_b", "[2, 2, 2, 1, 32]"],
        ),
        ("layer1_w", Some(&[2, 2, 2, 62, 32]), &["layer1_w", "62"]),
        ("layer4_w", Some(&[2, 2, 2, 58, 32]), &["layer4_w", "58"]),
    ] {
        spoil(&model, &file, name, shape);
        refused(&mut import(&file), 1, words);
    }
    assert!(!at("run").exists(), "nothing is left behind");
    succeeds(&mut import(&model));
    if !has_adapter() {
        return;
    }
    let dataset = &shared().dataset;
    succeeds(kiln(["eval", "--dataset"]).arg(dataset).arg(at("run")));
    let output = succeeds(kiln(["inspect"]).arg(at("run")));
    assert!(text(&output.stdout).contains("imported"));
    let mut train = kiln(["train", "--steps=2", "--resume"]);
    succeeds(train.arg(at("run")).arg(dataset));
    assert_eq!(steps_of(&at("run")), 2);
}

#[test]
fn invalid_model_files() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let import = |file: &Path| {
        let mut command = kiln(["import", "--as", "nerf-pytorch", "--out"]);
        command.arg(at("run")).arg(file);
        command
    };
    for (name, shape, words) in [
        (
            "fine.fc_rgb.weight",
            None,
            &["fine.fc_rgb.weight", "missing"][..],
        ),
        (
            "coarse.layer1.bias",
            None,
            &["coarse.layer1.bias", "missing"],
        ),
        (
            "coarse.layers_xyz.1.weight",
            Some(&[16, 15][..]),
            &["coarse.layers_xyz.1.weight", "[16, 15]", "[16, 16]"],
        ),
        (
            "coarse.layers_xyz.2.bias",
            Some(&[4]),
            &["coarse.layers_xyz.2.bias", "[4]", "[16]"],
        ),
        (
            "coarse.layer1.weight",
            Some(&[16, 26]),
            &["coarse.layer1.weight", "26"],
        ),
        (
            "fine.fc_alpha.weight",
            Some(&[2, 16]),
            &["fine.fc_alpha.weight", "[2, 16]", "[1, 16]"],
        ),
        (
            "fine.layers_dir.0.weight",
            Some(&[8, 10]),
            &["fine.layers_dir.0.weight", "10"],
        ),
    ] {
        let file = at("model.safetensors");
        spoil(&fixture("flexible"), &file, name, shape);
        refused(&mut import(&file), 1, words);
    }
    // The fine model may be of another class. A prefix that merely contains `fine` does not mark a fine model.
    let of = |kind: &str| std::fs::read(fixture(kind)).unwrap();
    let (flexible, paper) = (of("flexible"), of("paper"));
    let (flexible, paper) = [&flexible, &paper]
        .map(|bytes| SafeTensors::deserialize(bytes).unwrap())
        .into();
    let mixed = flexible.iter().filter(|(n, _)| n.starts_with("coarse."));
    let mixed = mixed.chain(paper.iter().filter(|(n, _)| n.starts_with("fine.")));
    let file = at("mixed.safetensors");
    std::fs::write(&file, safetensors::serialize(mixed, None).unwrap()).unwrap();
    let output = succeeds(import(&file).arg("--json"));
    assert_eq!(json_lines(&text(&output.stdout))[0]["passes"], 2);
    std::fs::remove_dir_all(at("run")).unwrap();
    let renamed = flexible
        .iter()
        .filter_map(|(n, t)| Some((format!("refined.{}", n.strip_prefix("coarse.")?), t)));
    std::fs::write(&file, safetensors::serialize(renamed, None).unwrap()).unwrap();
    let output = succeeds(import(&file).arg("--json"));
    assert_eq!(json_lines(&text(&output.stdout))[0]["passes"], 1);
    std::fs::remove_dir_all(at("run")).unwrap();
    refused(
        import(&fixture("flexible")).arg("--frequencies=10"),
        1,
        &["coarse.", "4 frequencies of positions", "10"],
    );
    for (flag, words) in [
        ("--far=1", &["--far 1", "--near 2"][..]),
        ("--near=-1", &["--near -1"]),
        ("--samples=0", &["--samples 0"]),
        ("--fine-samples=1", &["--fine-samples 1"]),
        ("--pixel-center=2", &["--pixel-center 2"]),
        ("--background=random", &["--background random"]),
        ("--ndc=0.6", &["--ndc", "two positive numbers"]),
        ("--ndc=0.6,-1", &["--ndc", "two positive numbers"]),
    ] {
        refused(import(&fixture("flexible")).arg(flag), 2, words);
    }
    refused(
        &mut import(&at("nothing.safetensors")),
        1,
        &["nothing.safetensors"],
    );
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch/step.safetensors");
    refused(
        &mut import(&other),
        1,
        &["step.safetensors", "layer1.weight", "state_dict"],
    );
    assert!(!at("run").exists(), "nothing is left behind");
}
