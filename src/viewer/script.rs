//! Scripted user actions for tests: a file of actions that are performed in order as pointer and keyboard input.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use egui::{Event, Key, Modifiers, PointerButton, Pos2, RawInput};
use serde::Deserialize;

use super::protocol::Command;
use super::state::{Question, State};

/// Maximum time for one action.
const PATIENCE: Duration = Duration::from_mins(1);
/// Number of steps of a drag.
const STEPS: u8 = 8;

/// An action; the next one starts when it is done.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Action {
    /// Wait for this many seconds.
    Wait(f64),
    /// Wait until a condition holds.
    Until(Condition),
    /// Press and release a key, named as in egui: `2`, `Space`.
    Key(String),
    /// Press and release a key with the command key held.
    Command(String),
    /// Hold a key for this many seconds.
    Hold(String, f64),
    /// Type text.
    Text(String),
    /// Drag with a button from (x, y) to (x, y), in fractions of the window's size.
    Drag([f32; 4], Button),
    /// Click at (x, y), in fractions of the window's size.
    Click([f32; 2]),
    /// Click twice at (x, y), in fractions of the window's size.
    DoubleClick([f32; 2]),
    /// Scroll by this many points, with the pointer at (x, y) in fractions of the window's size.
    Scroll([f32; 2], f32),
    /// Drop a file or folder.
    Drop(PathBuf),
    /// Change the window's size in points.
    Resize([f64; 2]),
    /// Save what the window shows as a PNG.
    Capture(PathBuf),
    /// Write the latencies of rendered views, in seconds, to a file and reset them.
    Latencies(PathBuf),
    /// Train the open run for this many seconds more.
    Continue(f64),
    /// Evaluate the open run.
    Evaluate,
    /// Remove what lies outside the crop box from a copy of the open run.
    RemoveOutside,
    /// Agree to make a dataset of what was dropped.
    Prepare,
    /// Cancel the current task.
    Cancel,
    /// Continue on the device with this index.
    Device(usize),
    /// Lose the device.
    LoseDevice,
    /// Close the window.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    /// Something is open.
    Opened,
    /// The requested view is shown at full size.
    Sharp,
    /// Training has reported some steps.
    Trained,
    /// An error is shown.
    Failed,
    /// Training has ended.
    Ended,
    /// No long task is running.
    Done,
    /// The error map against a photograph is shown.
    Compared,
    /// The path has stopped playing.
    Played,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Button {
    Left,
    Middle,
    Right,
}

impl From<Button> for PointerButton {
    fn from(button: Button) -> Self {
        match button {
            Button::Left => Self::Primary,
            Button::Middle => Self::Middle,
            Button::Right => Self::Secondary,
        }
    }
}

/// Part of an action that the window itself has to perform.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum WindowAction {
    Resize([f64; 2]),
    Capture(PathBuf),
    Close,
}

/// A script that is being performed.
#[derive(Debug)]
pub(super) struct Script {
    actions: std::collections::VecDeque<Action>,
    /// Start time of the current action, and its progress.
    since: Option<Instant>,
    step: u8,
}

impl Script {
    /// Read a script from a file: a JSON list of actions.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let actions: Vec<Action> =
            serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self {
            actions: actions.into(),
            since: None,
            step: 0,
        })
    }

    /// Return whether all actions are done.
    pub fn is_over(&self) -> bool {
        self.actions.is_empty()
    }

    /// Perform the next action: add it to `input`, or return the action for the window to perform.
    pub fn play(
        &mut self,
        state: &mut State,
        input: &mut RawInput,
    ) -> Result<Option<WindowAction>, String> {
        let Some(action) = self.actions.front().cloned() else {
            return Ok(None);
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Err(format!(
                "{action:?} took more than {} s",
                PATIENCE.as_secs()
            ));
        }
        let size = input.screen_rect.map_or(egui::Vec2::ZERO, |r| r.size());
        let at = |[x, y]: [f32; 2]| Pos2::new(x * size.x, y * size.y);
        let mut wish = None;
        let done = match &action {
            Action::Wait(seconds) => since.elapsed().as_secs_f64() >= *seconds,
            Action::Until(condition) => holds(*condition, state),
            Action::Key(name) => press(input, name, Modifiers::NONE, self.step == 0)?,
            Action::Command(name) => press(input, name, Modifiers::COMMAND, self.step == 0)?,
            Action::Hold(name, seconds) => {
                let over = since.elapsed().as_secs_f64() >= *seconds;
                if self.step == 0 || over {
                    press(input, name, Modifiers::NONE, self.step == 0)?;
                }
                over
            }
            Action::Text(text) => {
                input.events.push(Event::Text(text.clone()));
                true
            }
            Action::Drag([x0, y0, x1, y1], button) => {
                let t = f32::from(self.step.min(STEPS)) / f32::from(STEPS);
                let here = at([x0 + t * (x1 - x0), y0 + t * (y1 - y0)]);
                input.events.push(Event::PointerMoved(here));
                if self.step == 0 || self.step == STEPS {
                    click(input, here, (*button).into(), self.step == 0);
                }
                self.step == STEPS
            }
            Action::Click(place) => {
                let here = at(*place);
                input.events.push(Event::PointerMoved(here));
                if self.step > 0 {
                    click(input, here, PointerButton::Primary, self.step == 1);
                }
                self.step == 2
            }
            Action::DoubleClick(place) => {
                let here = at(*place);
                input.events.push(Event::PointerMoved(here));
                if self.step > 0 {
                    let pressed = self.step % 2 == 1;
                    click(input, here, PointerButton::Primary, pressed);
                }
                self.step == 4
            }
            Action::Scroll(place, by) => {
                input.events.push(Event::PointerMoved(at(*place)));
                if self.step == 1 {
                    input.events.push(Event::MouseWheel {
                        unit: egui::MouseWheelUnit::Point,
                        delta: egui::vec2(0.0, *by),
                        phase: egui::TouchPhase::Move,
                        source: egui::MouseWheelSource::Unknown,
                        modifiers: Modifiers::NONE,
                    });
                }
                self.step == 1
            }
            Action::Drop(path) => {
                input
                    .dropped_files
                    .push(std::sync::Arc::new(Dropped(path.clone())));
                true
            }
            Action::Resize(to) => {
                wish = Some(WindowAction::Resize(*to));
                true
            }
            Action::Capture(path) => {
                wish = Some(WindowAction::Capture(path.clone()));
                true
            }
            Action::Latencies(path) => {
                let all = serde_json::to_string(&std::mem::take(&mut state.latencies));
                let written = std::fs::write(path, all.unwrap_or_default());
                written.map_err(|e| format!("{}: {e}", path.display()))?;
                true
            }
            Action::Continue(seconds) => {
                state.continue_training(*seconds);
                true
            }
            Action::Evaluate => {
                state.evaluate();
                true
            }
            Action::RemoveOutside => {
                state.remove_outside();
                true
            }
            Action::Prepare => {
                let Some(Question::Prepare(path)) = state.question.clone() else {
                    return Ok(None);
                };
                state.prepare(&path);
                true
            }
            Action::Cancel => {
                state.send(Command::Cancel);
                true
            }
            Action::Device(number) => {
                state.send(Command::Device(*number));
                true
            }
            Action::LoseDevice => {
                state.send(Command::LoseDevice);
                true
            }
            Action::Close => {
                wish = Some(WindowAction::Close);
                true
            }
        };
        self.step = self.step.saturating_add(1);
        if done {
            self.actions.pop_front();
            (self.since, self.step) = (None, 0);
        }
        Ok(wish)
    }
}

/// A dropped file or folder.
#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.0).map_err(|e| e.to_string())
    }
}

fn holds(condition: Condition, state: &State) -> bool {
    match condition {
        Condition::Opened => state.opened.is_some(),
        Condition::Sharp => state.is_sharp(),
        Condition::Trained => state.progress.is_some_and(|p| p.step > 0),
        Condition::Failed => state.failed.is_some(),
        Condition::Ended => state.ended.is_some(),
        Condition::Done => state.doing.is_none(),
        Condition::Compared => state.is_sharp() && state.psnr().is_some(),
        Condition::Played => !state.path_editor.plays,
    }
}

/// Press a key in one call and release it in the next. Return whether it was released.
fn press(
    input: &mut RawInput,
    name: &str,
    modifiers: Modifiers,
    pressed: bool,
) -> Result<bool, String> {
    let key = Key::from_name(name).ok_or_else(|| format!("there is no key `{name}`"))?;
    input.events.push(Event::ModifiersChanged(if pressed {
        modifiers
    } else {
        Modifiers::NONE
    }));
    input.events.push(Event::Key {
        key,
        physical_key: None,
        pressed,
        repeat: false,
        modifiers,
    });
    Ok(!pressed)
}

fn click(input: &mut RawInput, at: Pos2, button: PointerButton, pressed: bool) {
    input.events.push(Event::PointerButton {
        pos: at,
        button,
        pressed,
        modifiers: Modifiers::NONE,
    });
}
