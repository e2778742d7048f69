//! Who gets the device next, training or the picture, and how large the picture may be.
//!
//! While something moves, pictures are small enough to be there in time; at rest they grow, doubling their sides, to their
//! full size. Training and pictures take turns so that training has its share of the device's time.

/// Seconds without input after which nothing moves any more.
pub const STILL: f64 = 0.25;
/// Least side of a picture, in parts of the full one.
const SMALLEST: f64 = 1.0 / 32.0;
/// Least share of the device that pictures get while something moves.
const MOVING_SHARE: f64 = 0.75;
/// Seconds that either may be owed: what was not asked for is not made up for later.
const MAX_OWED: f64 = 0.25;
/// Part of the known speed that is not taken for noise.
const SLOWER: f64 = 0.7;
/// Weight of a new measurement among older ones.
const NEW: f64 = 0.3;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextWork {
    /// The picture's.
    Picture,
    /// Training's.
    Training,
    /// Nobody has anything to do.
    Nobody,
}

/// Measured speed, and what is owed.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameScheduler {
    /// Share of the device that training gets while nothing moves, 0 to 1.
    pub share: f64,
    /// Seconds that training is owed, if positive; that pictures are, if negative.
    owed: f64,
    /// Of pictures at rest.
    rays_per_second: f64,
    /// Of those that are made while something moves, which are small: what a picture costs whatever its size weighs more.
    moving_rays_per_second: f64,
    /// Seconds that a picture may take while something moves.
    moving: f64,
}

impl FrameScheduler {
    /// With `share` of the device for training, pictures that take `moving` seconds while something moves, and a guess of
    /// how many rays a second are rendered.
    #[must_use]
    pub fn new(share: f64, moving: f64, rays_per_second: f64) -> Self {
        Self {
            share,
            owed: 0.0,
            rays_per_second,
            moving_rays_per_second: rays_per_second,
            moving,
        }
    }

    /// Who is next, of those who want to.
    #[must_use]
    pub fn next(&self, picture: bool, training: bool) -> NextWork {
        match (picture, training) {
            (true, true) if self.owed > 0.0 => NextWork::Training,
            (true, _) => NextWork::Picture,
            (false, true) => NextWork::Training,
            (false, false) => NextWork::Nobody,
        }
    }

    fn share_now(&self, moving: bool) -> f64 {
        let most = if moving { 1.0 - MOVING_SHARE } else { 1.0 };
        self.share.clamp(0.0, 0.98).min(most)
    }

    /// Something begins to move: the picture is next, whatever is owed.
    pub fn hurry(&mut self) {
        self.owed = self.owed.min(0.0);
    }

    /// A picture had the device for `seconds`, while training `waits` or not.
    pub fn rendered(&mut self, seconds: f64, waits: bool, moving: bool) {
        let share = self.share_now(moving);
        if waits {
            self.owed = (self.owed + seconds * share / (1.0 - share)).min(MAX_OWED);
        }
    }

    /// Training had the device for `seconds`, while a picture `waits` or not.
    pub fn trained(&mut self, seconds: f64, waits: bool) {
        self.owed = if waits {
            (self.owed - seconds).max(-MAX_OWED)
        } else {
            0.0
        };
    }

    /// A picture of so many rays, made while something moves or not, took `seconds` of the device.
    pub fn measured(&mut self, rays: u64, seconds: f64, moving: bool) {
        if rays > 0 && seconds > 0.0 {
            let rate = (rays as f64 / seconds).clamp(1.0, 1e12);
            // Rates differ by factors.
            let known = if moving {
                &mut self.moving_rays_per_second
            } else {
                &mut self.rays_per_second
            };
            // What came too late is believed at once.
            let weight = if rate < SLOWER * *known { 1.0 } else { NEW };
            *known *= (rate / *known).powf(weight);
            // Small pictures are no faster than large ones.
            let most = self.rays_per_second;
            self.moving_rays_per_second = self.moving_rays_per_second.min(most);
        }
    }

    /// The size to begin with when what is seen has changed.
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
}

/// `full` at `scale`, no smaller than [`SMALLEST`] and no larger than itself.
fn scaled(full: [u32; 2], scale: f64) -> [u32; 2] {
    let scale = scale.clamp(SMALLEST, 1.0);
    full.map(|n| ((f64::from(n) * scale).round() as u32).clamp(1, n.max(1)))
}

/// The size that follows `size` on the way to `full`; `None` at its end.
#[must_use]
pub fn finer(size: [u32; 2], full: [u32; 2]) -> Option<[u32; 2]> {
    if size == full {
        return None;
    }
    let scale = 2.0 * f64::from(size[0].max(1)) / f64::from(full[0].max(1));
    // No step for little.
    Some(scaled(full, if scale > 0.75 { 1.0 } else { scale }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVING: f64 = 0.05;

    /// Parts of the device's time that training got, of pictures and steps of the given lengths.
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
                NextWork::Nobody => unreachable!("both want to"),
            }
        }
        trained / (trained + rendered)
    }

    #[test]
    fn training_gets_its_share_whatever_things_cost() {
        for wanted in [0.2, 0.5, 0.75] {
            for (picture, step) in [(0.05, 0.05), (0.01, 0.04), (0.05, 0.003)] {
                let got = share(
                    &mut FrameScheduler::new(wanted, MOVING, 1e5),
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
    fn what_moves_gets_most() {
        let got = share(&mut FrameScheduler::new(0.9, MOVING, 1e5), 0.05, 0.02, true);
        assert!((0.2..=0.3).contains(&got), "{got}");
        // Little is trained where little is wanted.
        let got = share(&mut FrameScheduler::new(0.1, MOVING, 1e5), 0.05, 0.02, true);
        assert!(got < 0.2, "{got}");
    }

    #[test]
    fn what_begins_to_move_is_next() {
        let mut scheduler = FrameScheduler::new(0.75, MOVING, 1e5);
        scheduler.rendered(0.2, true, false);
        assert_eq!(scheduler.next(true, true), NextWork::Training);
        scheduler.hurry();
        assert_eq!(scheduler.next(true, true), NextWork::Picture);
    }

    #[test]
    fn alone_each_has_everything() {
        let mut scheduler = FrameScheduler::new(0.75, MOVING, 1e5);
        assert_eq!(scheduler.next(false, false), NextWork::Nobody);
        assert_eq!(scheduler.next(false, true), NextWork::Training);
        scheduler.rendered(10.0, false, false);
        assert_eq!(scheduler.next(true, true), NextWork::Picture);
        // An hour of training alone is not held against it.
        scheduler.trained(3600.0, false);
        scheduler.rendered(0.01, true, false);
        assert_eq!(scheduler.next(true, true), NextWork::Training);
    }

    #[test]
    fn sizes_follow_the_measured_speed() {
        let mut scheduler = FrameScheduler::new(0.5, MOVING, 1e4);
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
        // Slow ones have a least size, fast ones the full one.
        assert_eq!(
            FrameScheduler::new(0.5, MOVING, 10.0).first_size(full, true),
            [25, 19]
        );
        assert_eq!(
            FrameScheduler::new(0.5, MOVING, 1e9).first_size(full, true),
            full
        );
    }

    #[test]
    fn pictures_grow_to_their_full_size() {
        let full = [801, 600];
        let mut size = FrameScheduler::new(0.5, MOVING, 3e4).first_size(full, true);
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
}
