//! Panel with the progress of training and its controls.

use egui::{Align, Layout, RichText};
use egui_plot::{Line, Plot, PlotPoints};

use super::{Command, State};
use crate::viewer::protocol::{TrainerReport, TrainingMode};
use crate::viewer::state::Curve;

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
    let text = match &state.ended {
        Some(_) => "done".to_owned(),
        None if state.ending => "evaluating".to_owned(),
        None if p.paused => "paused".to_owned(),
        None => format!("{:.0} s left", p.left),
    };
    ui.add(egui::ProgressBar::new(p.fraction as f32).text(text));
    egui::Grid::new("figures").num_columns(2).show(ui, |ui| {
        let mut row = |name: &str, value: String| {
            ui.label(name);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.monospace(value)
            });
            ui.end_row();
        };
        row("step", format!("{}  ({:.1}/s)", p.step, p.steps_per_second));
        row("trained", format!("{:.1} s", p.seconds));
        let learned = |of: fn(TrainerReport) -> String| p.learned.map_or("–".to_owned(), of);
        row("loss", learned(|l| format!("{:.5}", l.loss)));
        row(
            "PSNR, training",
            learned(|l| format!("{:.2} dB", l.train_psnr)),
        );
        let held_out = p.held_out.map_or("–".to_owned(), |v| format!("{v:.2} dB"));
        row("PSNR, held out", held_out);
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
    plot(
        ui,
        "psnr",
        "PSNR, dB",
        &[
            ("training", &state.train_psnr),
            ("held out", &state.held_out),
        ],
    );
    let log_loss = Curve(
        state
            .loss
            .0
            .iter()
            .map(|p| [p[0], p[1].max(1e-9).log10()])
            .collect(),
    );
    plot(ui, "loss", "loss, log₁₀", &[("loss", &log_loss)]);
}

fn plot(ui: &mut egui::Ui, id: &str, title: &str, curves: &[(&str, &Curve)]) {
    ui.label(RichText::new(title).small());
    Plot::new(id)
        .height(90.0)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_scroll(false)
        .show_x(true)
        .show(ui, |plot| {
            for (name, curve) in curves {
                plot.line(Line::new(*name, PlotPoints::from(curve.0.clone())));
            }
        });
}

fn thousands(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0}"),
    }
}
