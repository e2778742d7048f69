//! Colours and spacing of the window, dark and light.

use egui::{Color32, Context, CornerRadius, Theme, ThemePreference, Visuals};

/// Colour of what is selected and of progress: glowing clay.
const ACCENT: Color32 = Color32::from_rgb(196, 98, 28);
/// Themes to choose from.
const CHOICES: [(ThemePreference, &str); 3] = [
    (ThemePreference::System, "system"),
    (ThemePreference::Dark, "dark"),
    (ThemePreference::Light, "light"),
];

/// Set both themes in `context`; the system's is used until the user chooses.
pub(super) fn apply(context: &Context) {
    for (theme, mut visuals, text) in [
        (Theme::Dark, Visuals::dark(), Color32::from_gray(208)),
        (Theme::Light, Visuals::light(), Color32::from_gray(36)),
    ] {
        // egui's own greys have little contrast.
        visuals.widgets.noninteractive.fg_stroke.color = text;
        visuals.selection.bg_fill = if theme == Theme::Dark {
            ACCENT
        } else {
            Color32::from_rgb(240, 178, 124)
        };
        visuals.selection.stroke.color = if theme == Theme::Dark {
            Color32::WHITE
        } else {
            Color32::BLACK
        };
        let widgets = &mut visuals.widgets;
        for state in [
            &mut widgets.inactive,
            &mut widgets.hovered,
            &mut widgets.active,
            &mut widgets.open,
        ] {
            state.corner_radius = CornerRadius::same(4);
        }
        context.set_visuals_of(theme, visuals);
        context.style_mut_of(theme, |style| {
            style.spacing.item_spacing = egui::vec2(8.0, 5.0);
            style.spacing.button_padding = egui::vec2(7.0, 2.0);
        });
    }
}

/// Let the user choose the theme.
pub(super) fn choose(ui: &mut egui::Ui) {
    let chosen = ui.ctx().options(|options| options.theme_preference);
    ui.horizontal_wrapped(|ui| {
        ui.label("theme");
        for (theme, name) in CHOICES {
            if ui.selectable_label(chosen == theme, name).clicked() {
                ui.ctx().set_theme(theme);
            }
        }
    });
}
