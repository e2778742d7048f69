//! The list of keys.

use super::State;

/// Keys and what they do.
const KEYS: [(&str, &str); 22] = [
    ("left drag", "turn around the pivot"),
    ("right drag", "look around"),
    ("middle drag, Shift + left drag", "move sideways"),
    ("wheel, pinch", "zoom in, zoom out"),
    ("double click", "turn to that point and around it"),
    ("W A S D, arrows, Q E", "fly; Shift is faster"),
    ("R, Home", "back to the first view"),
    ("N, P", "next, previous camera of the dataset"),
    (
        "1 … 7",
        "colour, depth, normals, opacity, cost, occupancy, networks",
    ),
    (
        "V",
        "compare with the photograph: side by side, wipe, error, off",
    ),
    ("B", "next background"),
    ("C, X, O", "cameras, scene box, sparse points"),
    ("G", "crop box; drag the dots on its faces"),
    ("K", "add a key frame here; drag its dot to move it"),
    ("L", "play or stop the path"),
    ("Ctrl + E, Ctrl + R", "save the path, render it"),
    ("F12", "screenshot"),
    ("Space", "pause or resume training"),
    (".", "train one step"),
    ("Ctrl + S", "save a checkpoint"),
    ("?, F1", "this help"),
    ("Ctrl + Q", "save and quit"),
];

/// Width of the window, in points, from which on keys and descriptions are beside each other.
const TWO_COLUMNS: f32 = 700.0;

pub(super) fn show(state: &mut State, context: &egui::Context) {
    egui::Window::new("Keys")
        .open(&mut state.show_help)
        .resizable(false)
        .vscroll(true)
        .default_height(context.content_rect().height() - 80.0)
        .default_pos([20.0, 20.0])
        .max_width(context.content_rect().width() - 60.0)
        .show(context, |ui| {
            if context.content_rect().width() < TWO_COLUMNS {
                for (key, what) in KEYS {
                    ui.monospace(key);
                    ui.indent(key, |ui| ui.label(what));
                }
                return;
            }
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
