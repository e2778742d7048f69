//! Reads `metrics.jsonl`; memory is bounded for a log of any length.

use serde::Deserialize;

/// Maximum number of points of a curve.
pub(super) const POINTS: usize = 600;
/// Supported schema version of the lines.
const SCHEMA: u32 = 1;

/// One line of the log. Fields that an event does not have are absent, as are values that were not finite.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    schema: u32,
    event: String,
    step: Option<f64>,
    seconds: Option<f64>,
    loss: Option<f64>,
    train_psnr: Option<f64>,
    rays: Option<f64>,
    samples: Option<f64>,
    psnr: Option<f64>,
    downscale: Option<u32>,
    command: Option<String>,
    dataset: Option<String>,
    dataset_name: Option<String>,
    device: Option<String>,
    version: Option<String>,
    load_seconds: Option<f64>,
    compile_seconds: Option<f64>,
    evaluate_seconds: Option<f64>,
    stage: Option<String>,
    run: Option<String>,
    method: Option<String>,
    of_steps: Option<f64>,
    of_seconds: Option<f64>,
}

/// Metrics of a field that a distillation starts from, passes through, or is compared with.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) name: String,
    /// The run, if it is another one; otherwise empty.
    pub(super) run: String,
    pub(super) method: String,
    pub(super) steps: f64,
    pub(super) seconds: f64,
    pub(super) psnr: f64,
}

/// Weighted sums over consecutive points of a curve.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    count: usize,
    seconds: f64,
    weight: f64,
    value: f64,
}

impl Bin {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.seconds += other.seconds;
        self.weight += other.weight;
        self.value += other.value;
    }
}

/// A value over seconds of training. Neighbouring points are averaged if there are more than [`POINTS`].
#[derive(Debug)]
pub(super) struct Curve {
    bins: Vec<Bin>,
    per_bin: usize,
}

impl Curve {
    fn new() -> Self {
        Self {
            bins: Vec::new(),
            per_bin: 1,
        }
    }

    /// Append `value`, weighted by `weight` in means. It is a gap if it is absent or not finite.
    fn push(&mut self, seconds: f64, value: Option<f64>, weight: f64) {
        let mut bin = Bin {
            count: 1,
            seconds,
            ..Bin::default()
        };
        if let Some(value) = value.filter(|v| v.is_finite()) {
            bin.weight = weight;
            bin.value = weight * value;
        }
        match self.bins.last_mut() {
            Some(last) if last.count < self.per_bin => last.add(bin),
            _ => self.bins.push(bin),
        }
        if self.bins.len() > POINTS {
            self.per_bin *= 2;
            for i in 0..self.bins.len().div_ceil(2) {
                let mut pair = self.bins[2 * i];
                pair.add(self.bins.get(2 * i + 1).copied().unwrap_or_default());
                self.bins[i] = pair;
            }
            self.bins.truncate(self.bins.len().div_ceil(2));
        }
    }

    /// Return seconds and values in order; `None` is a gap.
    pub(super) fn points(&self) -> Vec<(f64, Option<f64>)> {
        let point = |bin: &Bin| {
            let value = (bin.weight > 0.0).then(|| bin.value / bin.weight);
            (bin.seconds / bin.count.max(1) as f64, value)
        };
        self.bins.iter().map(point).collect()
    }
}

/// A process that trained the run, up to the start of the next one.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Step at its start.
    pub(super) step: Option<u64>,
    /// Seconds of training before its start.
    pub(super) since: f64,
    pub(super) command: Option<String>,
    pub(super) dataset: Option<String>,
    pub(super) dataset_name: Option<String>,
    pub(super) device: Option<String>,
    pub(super) version: Option<String>,
    pub(super) load: Option<f64>,
    pub(super) compile: Option<f64>,
    pub(super) evaluate: Option<f64>,
}

/// History of a run.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) loss: Curve,
    pub(super) train_psnr: Curve,
    pub(super) view_psnr: Curve,
    pub(super) samples_per_second: Curve,
    pub(super) rays_per_second: Curve,
    /// Downscaling factor of the held-out view.
    pub(super) view_downscale: Option<u32>,
    /// Never empty; a default session comes first if the log does not begin with a start event.
    pub(super) sessions: Vec<Session>,
    /// In the order of their first appearance.
    pub(super) stages: Vec<Stage>,
    /// Seconds of training that the log covers.
    pub(super) seconds: f64,
    /// Step and seconds of the previous line, from which rates are computed.
    before: Option<(f64, f64)>,
}

impl Log {
    /// Parse the lines of a log. Lines that cannot be parsed are skipped.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut log = Self {
            loss: Curve::new(),
            train_psnr: Curve::new(),
            view_psnr: Curve::new(),
            samples_per_second: Curve::new(),
            rays_per_second: Curve::new(),
            view_downscale: None,
            sessions: Vec::new(),
            stages: Vec::new(),
            seconds: 0.0,
            before: None,
        };
        for line in text.split(|&byte| byte == b'\n') {
            if let Ok(line) = serde_json::from_slice(line) {
                log.take(line);
            }
        }
        if log.sessions.first().is_none_or(|s| s.since > 0.0) {
            log.sessions.insert(0, Session::default());
        }
        log
    }

    fn take(&mut self, line: Line) {
        // In an intact log, seconds of training never decrease.
        let Some(seconds) = line.seconds.filter(|&s| s >= self.seconds) else {
            return;
        };
        if line.schema != SCHEMA {
            return;
        }
        self.seconds = seconds;
        match line.event.as_str() {
            "start" => {
                self.before = line.step.map(|step| (step, seconds));
                self.sessions.push(Session {
                    step: line.step.map(|step| step as u64),
                    since: seconds,
                    command: line.command,
                    dataset: line.dataset,
                    dataset_name: line.dataset_name,
                    device: line.device,
                    version: line.version,
                    load: line.load_seconds,
                    compile: line.compile_seconds,
                    evaluate: None,
                });
            }
            "progress" => self.take_progress(seconds, &line),
            "view" => {
                self.view_psnr.push(seconds, line.psnr, 1.0);
                self.view_downscale = line.downscale;
            }
            "stage" => self.take_stage(line),
            "eval" => {
                if self.sessions.is_empty() {
                    self.sessions.push(Session::default());
                }
                if let (Some(session), Some(more)) =
                    (self.sessions.last_mut(), line.evaluate_seconds)
                {
                    session.evaluate = Some(session.evaluate.unwrap_or(0.0) + more);
                }
            }
            _ => {}
        }
    }

    /// Record a stage; a later line on the same stage replaces the earlier one.
    fn take_stage(&mut self, line: Line) {
        let (Some(name), Some(psnr)) = (line.stage, line.psnr) else {
            return;
        };
        let stage = Stage {
            name,
            psnr,
            run: line.run.unwrap_or_default(),
            method: line.method.unwrap_or_default(),
            steps: line.of_steps.unwrap_or(0.0),
            seconds: line.of_seconds.unwrap_or(0.0),
        };
        let is_same = |s: &&mut Stage| s.name == stage.name && s.run == stage.run;
        match self.stages.iter_mut().find(is_same) {
            Some(before) => *before = stage,
            None => self.stages.push(stage),
        }
    }

    fn take_progress(&mut self, seconds: f64, line: &Line) {
        self.loss.push(seconds, line.loss, 1.0);
        self.train_psnr.push(seconds, line.train_psnr, 1.0);
        let Some(step) = line.step else { return };
        if let Some((step_before, seconds_before)) = self.before.replace((step, seconds)) {
            let (steps, took) = (step - step_before, seconds - seconds_before);
            let rate = |per_step: Option<f64>| per_step.map(|n| n * steps / took);
            self.samples_per_second
                .push(seconds, rate(line.samples), took);
            self.rays_per_second.push(seconds, rate(line.rays), took);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_keeps_its_mean_in_few_points() {
        let mut curve = Curve::new();
        for i in 0..100_000 {
            curve.push(f64::from(i), Some(f64::from(i % 10)), 1.0);
        }
        let points = curve.points();
        assert!((POINTS / 2..=POINTS).contains(&points.len()));
        assert!(points.windows(2).all(|w| w[0].0 < w[1].0));
        let inner = &points[..points.len() - 1];
        let mean = inner.iter().filter_map(|p| p.1).sum::<f64>() / inner.len() as f64;
        assert!((mean - 4.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn rates_are_work_over_time_however_lines_fall() {
        let mut curve = Curve::new();
        curve.push(1.0, Some(100.0), 1.0);
        curve.push(4.0, Some(40.0), 3.0);
        curve.per_bin = 2;
        let mut pair = curve.bins[0];
        pair.add(curve.bins[1]);
        curve.bins = vec![pair];
        // 100 in the first second, 120 in the following three.
        assert_eq!(curve.points(), vec![(2.5, Some(55.0))]);
    }

    #[test]
    fn what_is_not_finite_is_a_gap() {
        let mut curve = Curve::new();
        curve.push(1.0, Some(f64::NAN), 1.0);
        curve.push(2.0, None, 1.0);
        curve.push(3.0, Some(5.0), 1.0);
        let values: Vec<_> = curve.points().into_iter().map(|p| p.1).collect();
        assert_eq!(values, vec![None, None, Some(5.0)]);
    }
}
