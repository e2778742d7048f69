//! Panel with the progress of training and its controls.

use egui::{Align, Layout, RichText};

use super::chart::{Chart, Series};
use super::{Command, State};
use crate::report::duration;
use crate::text::counted;
use crate::viewer::protocol::{TrainerReport, TrainingMode};

/// Pause or resume.
pub(super) fn toggle(state: &mut State) {
    if state.is_training() {
        let next = match state.training {
            TrainingMode::Run => TrainingMode::Pause,
            TrainingMode::Pause | TrainingMode::Step => TrainingMode::Run,
        };
        state.training = next;
        state.send(Command::Train(next));
    }
}

/// Train one step, then pause.
pub(super) fn step(state: &mut State) {
    if state.is_training() {
        state.training = TrainingMode::Pause;
        state.send(Command::Train(TrainingMode::Step));
    }
}

/// Seconds of the button that continues training.
const MORE: f64 = 300.0;

/// Show the result of the open run, and what can be done next.
fn result(state: &mut State, ui: &mut egui::Ui) {
    match &state.evaluation {
        Some(report) => {
            ui.horizontal_wrapped(|ui| {
                ui.label(
                    RichText::new(format!("{:.2} dB", report.psnr))
                        .heading()
                        .strong(),
                );
                ui.label(format!("{} PSNR", report.split));
                if let Some(ssim) = report.ssim {
                    ui.label(format!("· SSIM {ssim:.4}"));
                }
            });
            ui.label(format!(
                "over {}, after {} and {}",
                report.extent(),
                counted(report.steps, "step"),
                duration(report.train_seconds)
            ));
        }
        None => {
            ui.label("not evaluated");
        }
    }
    if state.opened.as_ref().is_some_and(|o| o.is_kept_stage) {
        ui.label("the distilled field: fine-tuning made it worse, and training goes on with that");
    }
    let can = state.can_go_on();
    ui.add_enabled_ui(can, |ui| {
        ui.horizontal_wrapped(|ui| {
            let more = ui.button("Train 5 min more");
            if more.on_hover_text("continue this run").clicked() {
                state.continue_training(MORE);
            }
            let again = ui.button("Evaluate");
            if again
                .on_hover_text("measure the test views and write the report")
                .clicked()
            {
                state.evaluate();
            }
            let distill = ui.button("Distil");
            if distill
                .on_hover_text(
                    "teach it to a grid of tiny networks (KiloNeRF), which render fast on GPUs",
                )
                .clicked()
            {
                state.distill();
            }
        });
    });
}

pub(super) fn show(state: &mut State, ui: &mut egui::Ui) {
    let running = state.training == TrainingMode::Run;
    ui.add_enabled_ui(state.is_training(), |ui| {
        ui.horizontal_wrapped(|ui| {
            let label = if running { "Pause" } else { "Resume" };
            if ui.button(label).on_hover_text("Space").clicked() {
                toggle(state);
            }
            if ui.button("Step").on_hover_text(".").clicked() {
                step(state);
            }
            if ui.button("Save").on_hover_text("Ctrl + S").clicked() {
                state.send(Command::Save);
            }
            if ui
                .button("Stop")
                .on_hover_text("save a checkpoint and end training")
                .clicked()
            {
                state.send(Command::Stop);
            }
        });
    });
    let p = state.progress.unwrap_or_default();
    ui.add(egui::ProgressBar::new(p.fraction as f32).text(state.training_status()));
    if state.ended.is_some() {
        result(state, ui);
    }
    ui.scope(|ui| {
        // Not a grid, which would stay as wide as it was in a wider panel.
        let mut row = |name: &str, value: String| {
            ui.horizontal(|ui| {
                ui.label(name);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    ui.add(egui::Label::new(egui::RichText::new(value).monospace()).truncate())
                });
            });
        };
        row("step", format!("{}  ({:.1}/s)", p.step, p.steps_per_second));
        row("trained", format!("{:.1} s", p.seconds));
        let learned = |of: fn(TrainerReport) -> String| p.learned.map_or("–".to_owned(), of);
        row("loss", learned(|l| format!("{:.5}", l.loss)));
        row(
            "PSNR, training rays",
            learned(|l| format!("{:.2} dB", l.train_psnr)),
        );
        let held_out = p.held_out.map_or("–".to_owned(), |v| format!("{v:.2} dB"));
        row("PSNR, held-out view", held_out);
        row("samples/s", thousands(p.samples_per_second));
        row("rays/s", thousands(p.rays_per_second));
    });
    let mut share = state.share * 100.0;
    let slider =
        egui::Slider::new(&mut share, 0.0..=98.0).custom_formatter(|v, _| format!("{v:.0} %"));
    let response = ui.add(slider.text("for training")).on_hover_text(
        "Share of device time for training while the camera rests; the rest goes to rendering",
    );
    if response.changed() {
        state.share = share / 100.0;
        let share = state.share;
        state.send(Command::Share(share));
    }
    charts(state, ui);
}

/// Show the result of an opened run, and how it was trained.
pub(super) fn run(state: &mut State, ui: &mut egui::Ui) {
    result(state, ui);
    charts(state, ui);
}

/// Draw PSNR and loss over training time.
fn charts(state: &State, ui: &mut egui::Ui) {
    let [blue, orange] = if ui.visuals().dark_mode {
        [(110, 170, 250), (250, 180, 60)]
    } else {
        [(30, 100, 200), (190, 110, 0)]
    }
    .map(|(r, g, b)| egui::Color32::from_rgb(r, g, b));
    Chart {
        title: "PSNR in dB",
        is_logarithmic: false,
        series: &[
            Series {
                name: "training rays",
                curve: &state.train_psnr,
                color: blue,
            },
            Series {
                name: "held-out view",
                curve: &state.held_out,
                color: orange,
            },
        ],
        format: |v| format!("{v:.2} dB"),
    }
    .show(ui);
    Chart {
        title: "loss",
        is_logarithmic: true,
        series: &[Series {
            name: "loss",
            curve: &state.loss,
            color: blue,
        }],
        format: |v| format!("{v:.5}"),
    }
    .show(ui);
}

fn thousands(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0}"),
    }
}
