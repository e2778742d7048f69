//! LPIPS against the package that defines it, and invalid weights and images.

mod recipe;

use std::path::PathBuf;

use kiln::metrics::lpips::{Lpips, LpipsError, Network};
use recipe::{Tensor, uniform, weights, write};
use tempfile::TempDir;

fn fixture() -> serde_json::Value {
    serde_json::from_str(include_str!("../fixtures/lpips/lpips.json")).unwrap()
}

/// Write `tensors` to a file in a temporary folder. Return both.
fn file(tensors: &[Tensor]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    write(&path, tensors);
    (folder, path)
}

fn open(tensors: &[Tensor]) -> Result<Lpips, LpipsError> {
    let (_folder, path) = file(tensors);
    Lpips::open(&path)
}

/// Return an image of 8-bit levels, divided by 255: a ramp that wraps around, with noise.
fn image(name: &str, width: usize, height: usize) -> Vec<f32> {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let ramp = pixels.flat_map(|(x, y)| [0, 1, 2].map(|c| (3 * x + 5 * y + 40 * c) % 192));
    let levels = ramp.zip(uniform(name));
    levels
        .map(|(ramp, noise)| ((ramp as f64 + (64.0 * noise).floor()) / 255.0) as f32)
        .collect()
}

/// Compare the distances with those of the package, in all cases of one network.
fn check_distances(network: &str) {
    let lpips = open(&weights(network)).unwrap();
    assert_eq!(lpips.network().to_string(), network);
    let fixture = fixture();
    let cases = fixture["cases"].as_array().unwrap();
    let mut checked = 0;
    for case in cases.iter().filter(|case| case["network"] == network) {
        let [width, height] =
            ["width", "height"].map(|key| usize::try_from(case[key].as_u64().unwrap()).unwrap());
        let (a, b) = (image("a", width, height), image("b", width, height));
        let distance = lpips.distance(&a, &b, width, height).unwrap();
        let expected = case["distance"].as_f64().unwrap();
        assert!(
            (distance - expected).abs() < 2e-6 * expected,
            "{network} {width}×{height}: {distance}, not {expected}"
        );
        checked += 1;
    }
    assert!(checked >= 2);
}

#[test]
fn the_recipe_is_that_of_the_fixture() {
    let values = uniform("check").take(4);
    let integers: Vec<u32> = values.map(|u| (u * f64::from(1 << 24)) as u32).collect();
    assert_eq!(serde_json::json!(integers), fixture()["check"]);
}

#[test]
fn alex_gives_the_distances_of_the_package() {
    check_distances("alex");
}

#[test]
fn vgg_gives_the_distances_of_the_package() {
    check_distances("vgg");
}

#[test]
fn equal_images_have_no_distance_and_the_order_does_not_matter() {
    let lpips = open(&weights("alex")).unwrap();
    let (a, b) = (image("a", 45, 33), image("b", 45, 33));
    let distance = |a: &[f32], b: &[f32]| lpips.distance(a, b, 45, 33).unwrap();
    assert_eq!(distance(&a, &a), 0.0);
    assert_eq!(distance(&a, &b), distance(&b, &a));
    assert!(distance(&a, &b) > 0.1);
}

#[test]
fn linear_layers_may_be_duplicated_or_named_lins() {
    let (width, height) = (31, 31);
    let (a, b) = (image("a", width, height), image("b", width, height));
    let distance = |tensors: &[Tensor]| {
        let lpips = open(tensors).unwrap();
        lpips.distance(&a, &b, width, height).unwrap()
    };
    let alone = weights("alex");
    let renamed: Vec<Tensor> = alone
        .iter()
        .map(|tensor| Tensor {
            name: tensor.name.replace("lin", "lins."),
            ..tensor.clone()
        })
        .collect();
    let mut both = alone.clone();
    both.extend(renamed[10..].to_vec());
    let expected = distance(&alone);
    assert_eq!([&renamed, &both].map(|t| distance(t)), [expected; 2]);
}

#[test]
fn images_that_are_too_small_or_cut_are_refused() {
    assert_eq!(Network::Vgg.least_side(), 16);
    let lpips = open(&weights("alex")).unwrap();
    let error = lpips.distance(&[], &[], 200, 30).unwrap_err();
    assert!(matches!(error, LpipsError::TooSmall { least: 31, .. }));
    let text = error.to_string();
    for word in ["alex", "31 pixels", "200×30", "--downscale 1"] {
        assert!(text.contains(word), "{text}");
    }
    let (whole, cut) = (vec![0.0; 31 * 31 * 3], vec![0.0; 31 * 31]);
    let error = lpips.distance(&whole, &cut, 31, 31).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an image of 31×31 pixels has 2883 values, not 961"
    );
}

#[test]
fn files_without_lpips_weights_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.pth");
    let refused = |words: &[&str]| {
        let text = Lpips::open(&path).unwrap_err().to_string();
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
        assert!(text.contains("weights.pth"), "{text}");
    };
    refused(&["cannot read"]);
    std::fs::write(&path, "PK\u{3}\u{4} this is what torch.save writes").unwrap();
    refused(&["is not a safetensors file", "docs/evaluation.md"]);

    let change = |name: &str, change: &dyn Fn(&mut Tensor)| {
        let mut tensors = weights("alex");
        change(tensors.iter_mut().find(|t| t.name == name).unwrap());
        write(&path, &tensors);
    };
    let rename = |tensor: &mut Tensor| "other".clone_into(&mut tensor.name);
    change("net.slice1.0.weight", &rename);
    refused(&["neither the alex nor the vgg", "no `net.slice1.0.weight`"]);
    change("net.slice1.0.weight", &|t| t.shape = vec![64, 363]);
    refused(&["neither the alex nor the vgg", "[64, 363]"]);
    change("net.slice2.3.bias", &|t| {
        "net.slice2.3.squeeze.bias".clone_into(&mut t.name);
    });
    refused(&["squeeze"]);
    for name in ["net.slice4.8.bias", "lin3.model.1.weight"] {
        change(name, &rename);
        refused(&["lacks", &format!("`{name}`"), "alex"]);
    }
    change("lin4.model.1.weight", &|t| t.shape = vec![256]);
    refused(&["`lin4.model.1.weight`", "[256]", "[1, 256, 1, 1]"]);
    change("net.slice5.10.weight", &|t| t.values[77] = f32::NAN);
    refused(&["`net.slice5.10.weight`", "NaN"]);
}
