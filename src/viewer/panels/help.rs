//! The keys, listed.

use super::State;

/// Keys and what they do.
const KEYS: [(&str, &str); 21] = [
    ("left drag", "turn around the pivot"),
    ("right drag", "look around"),
    ("middle drag, Shift + left drag", "move sideways"),
    ("wheel, pinch", "come nearer, go away"),
    ("W A S D, arrows, Q E", "fly; Shift is faster"),
    ("R, Home", "back to the first view"),
    ("N, P", "next, previous camera of the dataset"),
    (
        "1 … 7",
        "colour, depth, normals, opacity, cost, occupancy, networks",
    ),
    ("V", "compare with the photograph: beside, wipe, error, off"),
    ("B", "another background"),
    ("C, X", "cameras, scene box"),
    ("G", "crop box; drag the dots on its faces"),
    ("K", "set a key frame here; drag it by its dot"),
    ("L", "play the path"),
    ("Ctrl + E, Ctrl + R", "save the path, render it"),
    ("F12", "screenshot"),
    ("Space", "pause and go on with training"),
    (".", "one step"),
    ("Ctrl + S", "save a checkpoint"),
    ("?, F1", "this help"),
    ("Ctrl + Q", "save and quit"),
];

pub(super) fn show(state: &mut State, context: &egui::Context) {
    egui::Window::new("Keys")
        .open(&mut state.show_help)
        .resizable(false)
        .vscroll(true)
        .default_pos([20.0, 20.0])
        .show(context, |ui| {
            egui::Grid::new("keys")
                .num_columns(2)
                .striped(true)
                .show(ui, |ui| {
                    for (key, what) in KEYS {
                        ui.monospace(key);
                        ui.label(what);
                        ui.end_row();
                    }
                });
        });
}
