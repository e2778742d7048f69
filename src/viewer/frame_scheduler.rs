//! Schedules device time between training and rendering the window's view, and chooses the size of the view.
//!
//! While the view is moving, it is rendered small enough to be ready in time; at rest, its sides double until it has full
//! size, or, while the field is being trained, the size at which a new view is ready before the shown one is outdated.
//! Training and rendering take turns so that training gets its share of device time.

/// Seconds without input after which the view is at rest.
pub const STILL: f64 = 0.25;
/// Minimum side of a view, as a fraction of full size.
const SMALLEST: f64 = 1.0 / 32.0;
/// Minimum share of device time for rendering while the view is moving.
const MOVING_SHARE: f64 = 0.75;
/// Maximum debt in seconds, beyond that of one rendering, so that idle time is not made up for later.
const MAX_OWED: f64 = 0.25;
/// A measured speed below this fraction of the estimate replaces the estimate at once.
const SLOWER: f64 = 0.7;
/// Weight of a new measurement in the moving average.
const NEW: f64 = 0.3;

/// The work to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextWork {
    /// Render the view.
    Picture,
    /// Train.
    Training,
    /// There is no work.
    Idle,
}

/// Measured rendering speed, and the debt of device time between training and views.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameScheduler {
    /// Share of device time for training while the view is at rest, 0 to 1.
    pub share: f64,
    /// Whether the field is being trained, so that views become outdated.
    pub is_training: bool,
    /// Seconds of device time owed to training if positive, to rendering if negative.
    owed: f64,
    /// Rendering speed at rest.
    rays_per_second: f64,
    /// Rendering speed while the view is moving; views are small then, so fixed costs weigh more.
    moving_rays_per_second: f64,
    /// Seconds that rendering a view may take while it is moving.
    moving: f64,
    /// Seconds from one view at rest to the next while the field is being trained.
    max_age: f64,
}

impl FrameScheduler {
    /// Return a scheduler with `share` of device time for training, at most `moving` seconds per view while it is moving and
    /// `max_age` seconds while it is at rest and training changes it, and an initial guess of the rendering speed.
    #[must_use]
    pub fn new(share: f64, [moving, max_age]: [f64; 2], rays_per_second: f64) -> Self {
        Self {
            share,
            is_training: false,
            owed: 0.0,
            rays_per_second,
            moving_rays_per_second: rays_per_second,
            moving,
            max_age,
        }
    }

    /// Return the next work, given whether there is a view to render and training to do.
    #[must_use]
    pub fn next(&self, picture: bool, training: bool) -> NextWork {
        match (picture, training) {
            (true, true) if self.owed > 0.0 => NextWork::Training,
            (true, _) => NextWork::Picture,
            (false, true) => NextWork::Training,
            (false, false) => NextWork::Idle,
        }
    }

    fn share_now(&self, moving: bool) -> f64 {
        let most = if moving { 1.0 - MOVING_SHARE } else { 1.0 };
        self.share.clamp(0.0, 0.98).min(most)
    }

    /// Render the view next regardless of the debt, because it starts to move.
    pub fn prioritise_view(&mut self) {
        self.owed = self.owed.min(0.0);
    }

    /// Record that rendering used the device for `seconds`. `waits` tells whether training was waiting.
    pub fn rendered(&mut self, seconds: f64, waits: bool, moving: bool) {
        let share = self.share_now(moving);
        if waits {
            let due = seconds * share / (1.0 - share);
            // What one long rendering took is made up for entirely, also if short ones follow.
            let most = self.owed.max(due).max(MAX_OWED);
            self.owed = (self.owed + due).min(most);
        }
    }

    /// Record that training used the device for `seconds`. `waits` tells whether a view was waiting.
    pub fn trained(&mut self, seconds: f64, waits: bool) {
        // A view that nobody waits for is owed nothing; what training is owed stays until it is paid.
        let least = if waits { -MAX_OWED } else { 0.0 };
        self.owed = (self.owed - seconds).max(least);
    }

    /// Record that a view of `rays` rays, `moving` or at rest, took `seconds` of device time.
    pub fn measured(&mut self, rays: u64, seconds: f64, moving: bool) {
        if rays > 0 && seconds > 0.0 {
            let rate = (rays as f64 / seconds).clamp(1.0, 1e12);
            // Average the logarithm, since speeds vary by factors.
            let known = if moving {
                &mut self.moving_rays_per_second
            } else {
                &mut self.rays_per_second
            };
            // Adopt a much slower speed at once, because views would otherwise be late.
            let weight = if rate < SLOWER * *known { 1.0 } else { NEW };
            *known *= (rate / *known).powf(weight);
            // Small views are never faster per ray than large ones.
            let most = self.rays_per_second;
            self.moving_rays_per_second = self.moving_rays_per_second.min(most);
        }
    }

    /// Return the first size to render when the requested view has changed.
    #[must_use]
    pub fn first_size(&self, full: [u32; 2], moving: bool) -> [u32; 2] {
        let rays = if moving {
            self.moving_rays_per_second * self.moving
        } else {
            self.rays_per_second * self.moving * 2.0
        };
        let pixels = f64::from(full[0]) * f64::from(full[1]);
        scaled(full, (rays / pixels.max(1.0)).sqrt())
    }

    /// Return the size to refine a view at rest to: `full`, or the size that is rendered within the maximum age, beside
    /// training.
    #[must_use]
    pub fn final_size(&self, full: [u32; 2]) -> [u32; 2] {
        if !self.is_training {
            return full;
        }
        let seconds = self.max_age * (1.0 - self.share_now(false));
        let pixels = f64::from(full[0]) * f64::from(full[1]);
        scaled(
            full,
            (self.rays_per_second * seconds / pixels.max(1.0)).sqrt(),
        )
    }
}

/// Return `full` times `scale`, which is clamped to between [`SMALLEST`] and 1.
fn scaled(full: [u32; 2], scale: f64) -> [u32; 2] {
    let scale = scale.clamp(SMALLEST, 1.0);
    full.map(|n| ((f64::from(n) * scale).round() as u32).clamp(1, n.max(1)))
}

/// Return the next size after `size` on the way to `full`, or `None` if `full` is reached.
#[must_use]
pub fn finer(size: [u32; 2], full: [u32; 2]) -> Option<[u32; 2]> {
    if size[0] >= full[0] && size[1] >= full[1] {
        return None;
    }
    let scale = 2.0 * f64::from(size[0].max(1)) / f64::from(full[0].max(1));
    // Skip a last step that would add little resolution.
    Some(scaled(full, if scale > 0.75 { 1.0 } else { scale }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVING: f64 = 0.05;
    const TIMES: [f64; 2] = [MOVING, 2.0];

    /// Return the share of device time that training gets, if rendering a view takes `picture` and a training step `step`
    /// seconds.
    fn share(scheduler: &mut FrameScheduler, picture: f64, step: f64, moving: bool) -> f64 {
        let (mut trained, mut rendered) = (0.0, 0.0);
        while trained + rendered < 60.0 {
            match scheduler.next(true, true) {
                NextWork::Training => {
                    trained += step;
                    scheduler.trained(step, true);
                }
                NextWork::Picture => {
                    rendered += picture;
                    scheduler.rendered(picture, true, moving);
                }
                NextWork::Idle => unreachable!("both want to"),
            }
        }
        trained / (trained + rendered)
    }

    #[test]
    fn training_gets_its_share_whatever_things_cost() {
        for wanted in [0.2, 0.5, 0.75] {
            for (picture, step) in [(0.05, 0.05), (0.01, 0.04), (0.05, 0.003), (0.8, 0.05)] {
                let got = share(
                    &mut FrameScheduler::new(wanted, TIMES, 1e5),
                    picture,
                    step,
                    false,
                );
                assert!(
                    (got - wanted).abs() < 0.06,
                    "{wanted}: {got} of {picture} and {step}"
                );
            }
        }
    }

    #[test]
    fn training_gets_its_share_beside_views_that_are_due_after_it() {
        // A view that is rendered in one slice is due again only after the next step.
        let mut scheduler = FrameScheduler::new(0.75, TIMES, 1e5);
        let (mut trained, mut rendered, mut is_due) = (0.0, 0.0, true);
        while trained + rendered < 60.0 {
            if scheduler.next(is_due, true) == NextWork::Picture {
                rendered += 0.14;
                scheduler.rendered(0.14, true, false);
                is_due = false;
            } else {
                trained += 0.03;
                scheduler.trained(0.03, is_due);
                is_due = true;
            }
        }
        let got = trained / (trained + rendered);
        assert!((got - 0.75_f64).abs() < 0.06, "{got}");
    }

    #[test]
    fn the_debt_of_a_long_rendering_outlives_short_ones() {
        let mut scheduler = FrameScheduler::new(0.5, TIMES, 1e5);
        scheduler.rendered(2.0, true, false);
        scheduler.rendered(0.01, true, true);
        scheduler.trained(1.9, true);
        assert_eq!(scheduler.next(true, true), NextWork::Training);
        scheduler.trained(0.2, true);
        assert_eq!(scheduler.next(true, true), NextWork::Picture);
    }

    #[test]
    fn what_moves_gets_most() {
        let got = share(&mut FrameScheduler::new(0.9, TIMES, 1e5), 0.05, 0.02, true);
        assert!((0.2..=0.3).contains(&got), "{got}");
        // A small share for training stays small.
        let got = share(&mut FrameScheduler::new(0.1, TIMES, 1e5), 0.05, 0.02, true);
        assert!(got < 0.2, "{got}");
    }

    #[test]
    fn what_begins_to_move_is_next() {
        let mut scheduler = FrameScheduler::new(0.75, TIMES, 1e5);
        scheduler.rendered(0.2, true, false);
        assert_eq!(scheduler.next(true, true), NextWork::Training);
        scheduler.prioritise_view();
        assert_eq!(scheduler.next(true, true), NextWork::Picture);
    }

    #[test]
    fn alone_each_has_everything() {
        let mut scheduler = FrameScheduler::new(0.75, TIMES, 1e5);
        assert_eq!(scheduler.next(false, false), NextWork::Idle);
        assert_eq!(scheduler.next(false, true), NextWork::Training);
        scheduler.rendered(10.0, false, false);
        assert_eq!(scheduler.next(true, true), NextWork::Picture);
        // An hour in which only training used the device causes no debt.
        scheduler.trained(3600.0, false);
        scheduler.rendered(0.01, true, false);
        assert_eq!(scheduler.next(true, true), NextWork::Training);
    }

    #[test]
    fn sizes_follow_the_measured_speed() {
        let mut scheduler = FrameScheduler::new(0.5, TIMES, 1e4);
        let full = [800, 600];
        for _ in 0..50 {
            scheduler.measured(4800, 0.04, true);
            scheduler.measured(48_000, 0.2, false);
        }
        let [w, h] = scheduler.first_size(full, false);
        let seconds = f64::from(w * h) / 240_000.0;
        assert!((1.6 * MOVING..=2.4 * MOVING).contains(&seconds), "{w}×{h}");
        let [w, h] = scheduler.first_size(full, true);
        let seconds = f64::from(w * h) / 120_000.0;
        assert!((0.8 * MOVING..=1.2 * MOVING).contains(&seconds), "{w}×{h}");
        assert!((f64::from(w) / f64::from(h) - 4.0 / 3.0).abs() < 0.03);
        // A slow device gets the minimum size, a fast one the full size.
        assert_eq!(
            FrameScheduler::new(0.5, TIMES, 10.0).first_size(full, true),
            [25, 19]
        );
        assert_eq!(
            FrameScheduler::new(0.5, TIMES, 1e9).first_size(full, true),
            full
        );
    }

    #[test]
    fn pictures_grow_to_their_full_size() {
        let full = [801, 600];
        let mut size = FrameScheduler::new(0.5, TIMES, 3e4).first_size(full, true);
        let mut steps = 0;
        while let Some(next) = finer(size, full) {
            assert!(next[0] > size[0] && next[1] >= size[1]);
            size = next;
            steps += 1;
        }
        assert_eq!(size, full);
        assert!((2..=7).contains(&steps));
        assert_eq!(finer(full, full), None);
    }

    #[test]
    fn views_of_a_training_are_no_older_than_allowed() {
        let full = [1280, 800];
        for share in [0.0, 0.5, 0.75, 0.9] {
            let mut scheduler = FrameScheduler::new(share, TIMES, 2e4);
            assert_eq!(scheduler.final_size(full), full);
            scheduler.is_training = true;
            let [w, h] = scheduler.final_size(full);
            let seconds = f64::from(w) * f64::from(h) / 2e4 / (1.0 - share);
            assert!((1.6..=2.4).contains(&seconds), "{share}: {seconds} s");
            // Sharpening ends there, and a sharper view counts as complete.
            let mut size = [40, 25];
            while let Some(next) = finer(size, [w, h]) {
                size = next;
            }
            assert_eq!(size, [w, h]);
            assert_eq!(finer(full, [w, h]), None);
        }
        let mut fast = FrameScheduler::new(0.75, TIMES, 1e9);
        fast.is_training = true;
        assert_eq!(fast.final_size(full), full);
    }
}
