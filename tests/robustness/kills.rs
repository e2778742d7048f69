//! kill -9 at random moments: the saved run can be resumed, and ends with the tensors of an uninterrupted run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kiln::scene::DemoScene;

use crate::mutate::Random;
use crate::number;
use crate::support::{SMALL, assert_same_tensors, checkpoint, has_adapter, kiln, succeeds};

/// Number of kills unless `KILN_KILLS` is set.
const FEW: u64 = 3;

/// Return the step of a run's checkpoint, if there is one.
fn step_of(run: &Path) -> Option<u32> {
    run.join("checkpoint.safetensors")
        .exists()
        .then(|| checkpoint(run).0["step"].parse().unwrap())
}

/// Start or resume a run that saves very often, and kill it at a random moment.
fn train_and_kill(random: &mut Random, dataset: &Path, run: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.args(["train", "--steps", "1000000", "--checkpoint-every", "0.1"]);
    if step_of(run).is_some() {
        command.arg("--resume").arg(run);
    } else {
        command
            .arg(dataset)
            .args(SMALL)
            .arg("--force")
            .arg("--out")
            .arg(run);
    }
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The kill happens between the start, before the first checkpoint, and the middle of a save.
    std::thread::sleep(Duration::from_secs_f64(0.3 + 4.0 * random.unit()));
    assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_killed_at_any_moment_can_be_resumed() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (dataset, run, whole) = (
        folder.path().join("demo"),
        folder.path().join("run"),
        folder.path().join("whole"),
    );
    let gpu = kiln::gpu::Gpu::open(&kiln::gpu::GpuOptions::default()).unwrap();
    DemoScene::write_dataset(&gpu, &dataset, [8, 0, 2], 32, &|| {}).unwrap();
    drop(gpu);
    let mut random = Random {
        state: number("KILN_SEED", 1),
        harmless: false,
    };
    let (kills, mut saved, mut last) = (number("KILN_KILLS", FEW), 0, None);
    for kill in 0..kills {
        train_and_kill(&mut random, &dataset, &run);
        let step = step_of(&run);
        assert!(step >= last, "kill {kill}: the checkpoint went back");
        saved += u32::from(step > last);
        last = step;
        if step.is_some() {
            succeeds(kiln(["inspect"]).arg(&run));
        }
    }
    let steps = (last.unwrap_or(0) + 5).to_string();
    let mut resume = kiln(["train", "--eval-views", "1", "--steps", &steps]);
    if last.is_some() {
        succeeds(resume.arg("--resume").arg(&run));
    } else {
        succeeds(
            resume
                .arg(&dataset)
                .args(SMALL)
                .arg("--force")
                .arg("--out")
                .arg(&run),
        );
    }
    eprintln!("{kills} kills, {saved} of them after a new checkpoint, {steps} steps in all");
    let mut command = kiln(["train", "--eval-views", "1", "--steps", &steps]);
    command.timeout(Duration::from_mins(20));
    succeeds(command.arg(&dataset).args(SMALL).arg("--out").arg(&whole));
    assert_same_tensors(&whole, &run);
}
