//! Commands and scripts of the documentation, run exactly as printed.

use std::path::Path;
use std::process::Command;

use crate::support::*;
use crate::tools::is_here;

/// Return the blocks of a document that are fenced as `language`.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(document);
    let text = std::fs::read_to_string(path).unwrap();
    text.split(&format!("```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

/// Return a Python (`KILN_PYTHON`, else `python3`) that has the packages of the scripts, if there is one.
fn python() -> Option<String> {
    let python = std::env::var("KILN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python)
        .args(["-c", "import torch, safetensors.torch"])
        .output();
    is_here("pytorch", has.is_ok_and(|o| o.status.success())).then_some(python)
}

#[test]
fn weights_convert_to_and_from_pytorch() {
    if !has_adapter() {
        return;
    }
    let Some(python) = python() else { return };
    let (_folder, run) = own_run();
    let scripts = blocks("checkpoint.md", "python");
    assert_eq!(scripts.len(), 2);
    let outputs = [0, 1].map(|i| printed(&python, &scripts[i], &run));
    // Both printed counts equal those of the tensors.
    let (_, tensors) = checkpoint(&run);
    let count = |prefix: &str| -> usize {
        tensors
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, (_, bytes))| bytes.len() / 4)
            .sum()
    };
    let expected = format!(
        "{} {}",
        count("position_encoding."),
        count("density_network.")
    );
    assert_eq!(outputs[0].trim(), expected);
    // With averages as parameters the field is the same, except for rows without an update in some steps.
    let measure = |path: &Path| {
        let output = succeeds(kiln(["eval", "--json"]).arg(path));
        json_lines(&text(&output.stdout)).last().unwrap()["psnr"]
            .as_f64()
            .unwrap()
    };
    let (back, before) = (
        measure(&run.join("from_pytorch.safetensors")),
        measure(&run),
    );
    assert!((back - before).abs() < 1.0, "{back} {before}");
}

/// Return the output of a script, with RUN replaced.
fn printed(python: &str, script: &str, run: &Path) -> String {
    let script = script.replace("RUN", &run.display().to_string());
    let output = Command::new(python).args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_configuration_of_a_run_reproduces_it() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let again = folder.path().join("again");
    succeeds(
        kiln(["train", "--steps", &STEPS.to_string(), "--config"])
            .arg(shared().run.join("config.toml"))
            .arg(&shared().dataset)
            .arg("--out")
            .arg(&again),
    );
    assert_same_tensors(&shared().run, &again);
}
