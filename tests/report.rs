//! The report of a run: its contents, escaping and size, and a check in a browser.

#[path = "tools/browser.rs"]
mod browser;
#[path = "tools/mod.rs"]
mod tools;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use browser::browser;
use kiln::eval::{EvalReport, ViewQuality};
use kiln::report::{self, Example, ReportError};
use kiln::run::RunDir;
use tempfile::TempDir;

const HOSTILE: &str = r#"<script>alert(1)</script>"><img src=x onerror="alert(2)">{{ 7*7 }}'"#;
/// Maximum size of a report, in bytes.
const SIZE_BOUND: usize = 3_000_000;

fn view(name: &str, psnr: f64) -> ViewQuality {
    ViewQuality {
        name: name.to_owned(),
        psnr,
        ssim: Some(0.9),
        lpips: None,
        hidden_share: None,
        depth: None,
    }
}

fn eval(images: Vec<ViewQuality>) -> EvalReport {
    let psnr = images.iter().map(|v| v.psnr).sum::<f64>() / images.len().max(1) as f64;
    EvalReport {
        schema: 1,
        method: "ngp".to_owned(),
        split: "test".to_owned(),
        background: "white".to_owned(),
        color_space: "sRGB".to_owned(),
        psnr,
        ssim: Some(0.9),
        lpips: None,
        lpips_network: None,
        dataset: String::new(),
        downscale: 1,
        views: images.len(),
        of_views: None,
        pixel_share: None,
        hidden_share: None,
        depth: None,
        images,
        steps: 12_345,
        adapted_for: None,
        train_seconds: 100.0,
        rays_per_second: 0.0,
        device: "a device".to_owned(),
    }
}

/// Return an example with noise, which does not compress, as the true image, and a slightly darker copy as the prediction.
fn example(label: &str, name: &str, width: u32, height: u32) -> Example {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> 24) as u8
    };
    let truth: Vec<u8> = (0..3 * width * height).map(|_| noise()).collect();
    let prediction = truth.iter().map(|v| v / 8 * 7).collect();
    Example {
        label: label.to_owned(),
        name: name.to_owned(),
        psnr: 25.0,
        ssim: None,
        width,
        height,
        truth,
        prediction,
    }
}

fn start(step: u32, seconds: f64, command: &str) -> String {
    serde_json::json!({
        "schema": 1, "event": "start", "step": step, "seconds": seconds, "command": command, "dataset": "/data/scene",
        "dataset_name": "scene", "device": "a device", "version": "9.8.7", "load_seconds": 0.5, "compile_seconds": 1.5,
    })
    .to_string()
        + "\n"
}

/// Return `n` progress lines, one per second after `from` seconds, with a preview every ten seconds.
fn progress(from: u32, n: u32) -> String {
    let mut text = String::new();
    for i in from + 1..=from + n {
        let loss = 0.5 / f64::from(i);
        let _ = writeln!(
            text,
            r#"{{"schema":1,"event":"progress","step":{},"seconds":{i}.0,"loss":{loss},"train_psnr":{},"rays":{},"samples":{}}}"#,
            i * 16,
            -10.0 * loss.log10(),
            512 + i % 100,
            90_000 - i % 100 * 300,
        );
        if i % 10 == 0 {
            let _ = writeln!(
                text,
                r#"{{"schema":1,"event":"view","name":"v","psnr":{},"seconds":{i}.0,"downscale":4}}"#,
                19.0 - 10.0 * loss.log10() / 3.0
            );
        }
    }
    text
}

struct Run {
    _folder: TempDir,
    config: Option<String>,
    dir: RunDir,
}

impl Run {
    fn new(log: Option<&str>, config: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::at(&folder.path().join("a-run"));
        dir.create().unwrap();
        if let Some(log) = log {
            std::fs::write(dir.metrics(), log).unwrap();
        }
        Self {
            _folder: folder,
            config: config.map(str::to_owned),
            dir,
        }
    }

    fn report(&self, eval: &EvalReport, examples: &[Example]) -> String {
        report::write(&self.dir, self.config.as_deref(), eval, examples).unwrap();
        let text = std::fs::read_to_string(self.dir.report()).unwrap();
        check(&text);
        text
    }
}

/// Return a run with everything that a report can show, and names that try to inject HTML.
fn full() -> (Run, String) {
    let log = start(0, 0.0, "kiln train /data/scene")
        + &progress(0, 60)
        + "{\"schema\":1,\"event\":\"eval\",\"step\":960,\"seconds\":60.0,\"split\":\"test\",\"evaluate_seconds\":3.0}\n"
        + &start(960, 60.0, &format!("kiln train --resume '{HOSTILE}'"))
        + &progress(60, 40)
        + "{\"schema\":1,\"event\":\"eval\",\"step\":1600,\"seconds\":100.0,\"split\":\"test\",\"evaluate_seconds\":4.0}\n";
    let run = Run::new(
        Some(&log),
        Some("method = \"</pre><script>alert(3)</script>\"\n"),
    );
    let mut views: Vec<ViewQuality> = (0..30)
        .map(|i| view(&format!("test/r_{i}"), 20.0 + f64::from(i) / 3.0))
        .collect();
    HOSTILE.clone_into(&mut views[4].name);
    let examples = [
        example("worst", HOSTILE, 64, 48),
        example("median", "test/r_14", 700, 500),
        example("best", "test/r_29", 64, 64),
    ];
    let mut eval = eval(views);
    HOSTILE.clone_into(&mut eval.method);
    let text = run.report(&eval, &examples);
    (run, text)
}

/// Check properties that every report must have.
fn check(html: &str) {
    assert!(html.len() < SIZE_BOUND, "{} bytes", html.len());
    assert!(html.starts_with("<!doctype html>"));
    assert!(html.trim_end().ends_with("</html>"));
    for forbidden in [
        "http:",
        "https:",
        "url(",
        "@import",
        "src=\"//",
        "href=\"//",
    ] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    for start in html.match_indices("src=\"").map(|(i, _)| i + 5) {
        assert!(html[start..].starts_with("data:image/png;base64,"));
    }
    assert_eq!(html.matches("<script").count(), 1);
    // Each element that is opened is also closed.
    for element in [
        "section", "figure", "svg", "table", "tbody", "details", "dl", "ul", "div", "g", "pre",
    ] {
        let opened = html.matches(&format!("<{element}>")).count()
            + html.matches(&format!("<{element} ")).count();
        let closed = html.matches(&format!("</{element}>")).count();
        assert_eq!(opened, closed, "{element}");
    }
    for absent in ["NaN", "null", "undefined", "none ", "inf "] {
        let body = &html[html.find("<body>").unwrap()..html.find("<script>").unwrap()];
        assert!(!body.contains(&format!(">{absent}")), "{absent}");
    }
    assert!(!html.contains("M NaN") && !html.contains("=\"NaN\""));
}

#[test]
fn a_report_states_its_metrics_and_their_conditions() {
    let (_run, html) = full();
    for part in [
        "<h1>scene</h1>",
        "<dd>24.83<small>dB</small></dd>",
        "<dd>0.9000</dd>",
        "Mean over 30 test views, background white, sRGB values rounded to 8 bits",
        "<dd>12\u{202f}345</dd>",
        "<dd>100.0 s</dd>",
        "<dd>a device</dd>",
        "<dd>9.8.7</dd>",
        "a held-out view at 1&#x2f;4 size",
        "mean of 30 test views",
        "<h3>Median</h3>",
        "<code>&#x2f;data&#x2f;scene</code>",
        "kiln train &#x2f;data&#x2f;scene\nkiln train --resume",
        "load <b>1.0 s</b>",
        "compile <b>3.0 s</b>",
        "train <b>100.0 s</b>",
        "evaluate <b>7.0 s</b>",
        "total <b>111.0 s</b>",
        "trained in 2 sessions",
        "<summary>20 more</summary>",
    ] {
        assert!(
            html.to_lowercase().contains(&part.to_lowercase()),
            "{part} is missing"
        );
    }
    assert_eq!(html.matches("<svg ").count(), 4);
    assert_eq!(html.matches("<title id=").count(), 4);
    assert_eq!(html.matches("<desc id=").count(), 4);
    // Three images of each of three views, and the colour scale beside them and at the top.
    assert_eq!(html.matches("<img ").count(), 11);
    // Both sessions, then the totals of the table's rows.
    assert_eq!(html.matches("<td class=\"number strong\">").count(), 30);
    let worst = html.find(">test&#x2f;r_0<").unwrap();
    let best = html.rfind(">test&#x2f;r_29<").unwrap();
    assert!(worst < best);
    assert!(!html.contains("Rendering"), "an unmeasured rate is shown");
}

#[test]
fn each_stage_is_compared_once() {
    let stage = |name: &str, run: &str, seconds: f64, psnr: f64| {
        serde_json::json!({
            "schema": 1, "event": "stage", "stage": name, "run": run, "method": "m", "step": 7, "seconds": seconds,
            "psnr": psnr, "of_steps": 1234, "of_seconds": seconds,
        })
        .to_string()
            + "\n"
    };
    let log = start(0, 0.0, "kiln distill /runs/a")
        + &stage("teacher", "/runs/<a>", 0.0, 31.25)
        + &stage("compared", "/runs/b", 0.0, 22.5)
        + &progress(0, 20)
        + &stage("distilled", "", 20.0, 28.2)
        + &stage("fine-tuned", "", 21.0, 29.0)
        + &stage("fine-tuned", "", 25.0, 30.5);
    let run = Run::new(Some(&log), None);
    let html = run.report(&eval(vec![view("test/r_0", 25.0)]), &[]);
    for part in [
        "<code>&#x2f;runs&#x2f;&lt;a&gt;</code>",
        "<td class=\"number\">31.25</td>",
        "<td class=\"number\">22.50</td>",
        "<td class=\"number\">28.20</td>",
        "<td class=\"number\">30.50</td>",
        "<td class=\"number\">1\u{202f}234</td>",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    assert_eq!(html.matches("<td>fine-tuned</td>").count(), 1);
}

#[test]
fn untrusted_text_is_escaped() {
    let (_run, html) = full();
    assert!(!html.contains("<script>alert"));
    assert!(!html.contains("<img src=x"));
    assert!(!html.contains("alert(2)\">"));
    assert!(
        !html.contains("</pre><script"),
        "the configuration breaks out"
    );
    assert!(html.contains("&lt;&#x2f;pre&gt;&lt;script&gt;alert(3)"));
    assert!(html.contains("{{ 7*7 }}"), "a name is not a template");
}

#[test]
fn missing_data_is_left_out() {
    let run = Run::new(None, None);
    let mut nothing = eval(Vec::new());
    nothing.ssim = None;
    nothing.train_seconds = 0.0;
    nothing.device = String::new();
    let html = run.report(&nothing, &[]);
    assert!(html.contains("<h1>a-run</h1>"));
    assert!(html.contains("No views were measured."));
    for absent in ["<svg", "<table", "<img", "<h2>", "PSNR</", "Device", "0.00"] {
        let body = &html[html.find("<body>").unwrap()..html.find("<script>").unwrap()];
        assert!(!body.contains(absent), "{absent}");
    }
    // An empty log is like a missing one.
    let empty = Run::new(Some(""), None);
    assert_eq!(empty.report(&nothing, &[]), html);
}

#[test]
fn one_view_is_shown_once() {
    let run = Run::new(Some(&progress(0, 1)), Some("seed = 1\n"));
    let views = vec![view("only", 30.0)];
    let picked = report::pick(&views);
    assert_eq!(picked, [(0, "only view")]);
    let html = run.report(&eval(views), &[example(picked[0].1, "only", 5, 4)]);
    assert!(html.contains("Measured over 1 test view, "));
    assert_eq!(html.matches("class=\"view\"").count(), 1);
    assert!(!html.contains("<details>\n<summary>0"));
    assert!(html.contains("<circle class=\"dot\""), "one point is a dot");
}

#[test]
fn views_are_picked_by_quality_and_once() {
    let of = |psnrs: &[f64]| {
        let views: Vec<ViewQuality> = psnrs.iter().map(|&p| view("v", p)).collect();
        report::pick(&views)
    };
    assert_eq!(of(&[]), []);
    assert_eq!(of(&[3.0, 1.0]), [(1, "worst"), (0, "best")]);
    assert_eq!(
        of(&[3.0, 1.0, 2.0]),
        [(1, "worst"), (2, "median"), (0, "best")]
    );
    assert_eq!(
        of(&[1.0, 1.0, 1.0, 1.0]),
        [(0, "worst"), (1, "median"), (3, "best")]
    );
    assert_eq!(
        of(&[2.0, f64::NAN, 1.0]),
        [(1, "worst"), (2, "median"), (0, "best")]
    );
}

#[test]
fn a_truncated_log_with_invalid_lines_is_read_as_far_as_possible() {
    let mut log = start(0, 0.0, "kiln train x").into_bytes();
    log.extend(progress(0, 20).into_bytes());
    log.extend(b"not json\n\xff\xfe\n{}\n[1,2]\nnull\n\n");
    log.extend(b"{\"schema\":1,\"event\":\"news\",\"seconds\":20.5,\"step\":{}}\n");
    log.extend(b"{\"schema\":2,\"event\":\"progress\",\"seconds\":21.0,\"loss\":1e9}\n");
    log.extend(b"{\"schema\":1,\"event\":\"progress\",\"seconds\":\"soon\",\"loss\":1e9}\n");
    log.extend(b"{\"schema\":1,\"event\":\"progress\",\"seconds\":3.0,\"loss\":1e9}\n");
    log.extend(b"{\"schema\":1,\"event\":\"progress\",\"step\":336,\"seconds\":21.0,\"lo");
    let run = Run::new(None, None);
    std::fs::write(run.dir.metrics(), log).unwrap();
    let html = run.report(&eval(vec![view("v", 25.0)]), &[]);
    assert_eq!(html.matches("<svg ").count(), 4);
    assert!(!html.contains("1.00G") && !html.contains("1000000000"));
}

#[test]
fn values_that_are_not_finite_leave_gaps() {
    let log = progress(0, 30)
        + "{\"schema\":1,\"event\":\"progress\",\"step\":500,\"seconds\":31.0,\"loss\":null,\"train_psnr\":null}\n"
        + "{\"schema\":1,\"event\":\"progress\",\"step\":516,\"seconds\":32.0,\"loss\":0.0,\"train_psnr\":1e400}\n"
        + "{\"schema\":1,\"event\":\"progress\",\"step\":532,\"seconds\":33.0,\"loss\":-1.0,\"train_psnr\":30.0}\n"
        + "{\"schema\":1,\"event\":\"progress\",\"step\":532,\"seconds\":33.0,\"loss\":0.01,\"train_psnr\":30.0}\n";
    let run = Run::new(Some(&log), None);
    let mut bad = eval(vec![
        view("good", 20.0),
        view("bad", f64::NAN),
        view("best", f64::INFINITY),
    ]);
    bad.train_seconds = f64::NAN;
    bad.images[0].ssim = Some(f64::NAN);
    bad.images[1].ssim = None;
    let mut shown = example("worst", "bad", 20, 20);
    shown.psnr = f64::NAN;
    let html = run.report(&bad, &[shown]);
    assert!(html.contains("<dd>–<small>dB</small></dd>"));
    assert!(html.find("<td>bad</td>").unwrap() < html.find("<td>good</td>").unwrap());
    assert!(!html.contains("mean of 3 test views"));
}

#[test]
fn a_long_log_makes_a_short_report() {
    let run = Run::new(Some(&progress(0, 100_000)), None);
    let html = run.report(&eval(vec![view("v", 25.0)]), &[]);
    assert!(html.len() < 400_000, "{} bytes", html.len());
    assert!(html.contains("hours of training"));
    for path in html.split("<path class=\"line\" d=\"").skip(1) {
        let points = path.split('"').next().unwrap().matches(['M', 'L']).count();
        assert!((300..=600).contains(&points), "{points} points");
    }
}

#[test]
fn large_images_are_shrunk_until_they_fit() {
    let run = Run::new(None, None);
    let examples = ["worst", "median", "best"].map(|l| example(l, l, 800, 1200));
    let html = run.report(&eval(vec![view("v", 25.0)]), &examples);
    assert!(html.len() > SIZE_BOUND / 20);
    let wide = [example("worst", "v", 960, 600)];
    let few = run.report(&eval(vec![view("v", 25.0)]), &wide);
    assert_eq!(few.matches("width=\"480\" height=\"300\"").count(), 3);
}

#[test]
fn images_of_another_size_are_refused() {
    let run = Run::new(None, None);
    let mut wrong = example("worst", "v", 8, 8);
    wrong.prediction.pop();
    let mut none = example("worst", "v", 8, 8);
    (none.width, none.truth, none.prediction) = (0, Vec::new(), Vec::new());
    for example in [wrong, none] {
        let error = report::write(&run.dir, None, &eval(vec![view("v", 25.0)]), &[example]);
        assert!(matches!(error, Err(ReportError::Size { .. })));
        assert!(!run.dir.report().exists());
    }
}

/// Open `page` in `browser` without a network, and return its stdout and its console messages.
fn open(browser: &Path, page: &Path, flags: &[&str]) -> (String, Vec<String>) {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--enable-logging=stderr", "--v=0", "--hide-scrollbars"])
        .arg("--host-resolver-rules=MAP * ~NOTFOUND")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(flags)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let log = String::from_utf8_lossy(&output.stderr);
    let console = log.lines().filter(|l| l.contains("CONSOLE"));
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        console.map(str::to_owned).collect(),
    )
}

/// Write `html` without its content security policy and with `script` at its end to a file beside the report.
fn with_script(run: &Run, html: &str, script: &str) -> PathBuf {
    let start = html.find("<meta http-equiv=").unwrap();
    let end = start + html[start..].find('\n').unwrap();
    let page = format!(
        "{}{}<script>{script}</script>",
        &html[..start],
        &html[end..]
    );
    let path = run.dir.path().join("probe.html");
    std::fs::write(&path, page).unwrap();
    path
}

/// Decodes all images, measures all charts, moves the pointer over one, and stores the results in `data-probe`.
const PROBE: &str = r##"
addEventListener("load", () => {
  const images = [...document.images];
  // Drawing waits for the decoder; an image that it refuses has no last pixel.
  const decoded = images.filter((image) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    if (canvas.width * canvas.height === 0 || image.width * image.height === 0) return false;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return context.getImageData(canvas.width - 1, canvas.height - 1, 1, 1).data[3] === 255;
  });
  const drawn = [...document.querySelectorAll("svg")].filter((svg) => {
    const boxes = [...svg.querySelectorAll("path.line")].map((p) => p.getBBox());
    const inside = (b) => b.x >= 0 && b.y >= 0 && b.x + b.width <= 560 && b.y + b.height <= 306;
    return boxes.length > 0 && boxes.every((b) => b.width > 100 && b.height > 1 && inside(b));
  });
  const hit = document.querySelector("#psnr .hit"), box = hit.getBoundingClientRect();
  const at = { clientX: box.left + box.width / 2, clientY: box.top + 5 };
  hit.dispatchEvent(new PointerEvent("pointermove", at));
  const read = document.querySelector("#psnr output").textContent;
  hit.dispatchEvent(new PointerEvent("pointerleave", at));
  const root = document.documentElement, kept = document.querySelector("#psnr output").textContent;
  const overflow = Math.max(0, root.scrollWidth - root.clientWidth);
  root.dataset.probe = `${decoded.length}/${images.length} images, ${drawn.length} charts, ` +
    `${document.scripts.length} scripts, read "${read}" then "${kept}", overflow ${overflow}`;
});
"##;

#[test]
fn a_browser_shows_a_report_without_errors() {
    let Some(browser) = browser() else { return };
    let (run, html) = full();
    let dump = ["--dump-dom"];

    let (dom, console) = open(&browser, &run.dir.report(), &dump);
    assert!(dom.contains("<h1>scene</h1>"));
    assert_eq!(console, Vec::<String>::new());

    // The console would show errors, and the page blocks foreign scripts.
    let broken = with_script(&run, &html, "throw new Error('deliberate')");
    let (_, console) = open(&browser, &broken, &dump);
    assert!(console.iter().any(|l| l.contains("deliberate")));
    std::fs::write(
        &broken,
        html.clone() + "<script>document.title = 'foreign'</script>",
    )
    .unwrap();
    let (dom, console) = open(&browser, &broken, &dump);
    assert!(!dom.contains("<title>foreign") && console.len() == 1);

    let probe = with_script(&run, &html, PROBE);
    for width in [400, 1600] {
        let size = format!("--window-size={width},900");
        let (dom, console) = open(&browser, &probe, &["--dump-dom", &size]);
        let said = dom.split("data-probe=\"").nth(1).unwrap_or(&dom);
        let expected = "11/11 images, 4 charts, 2 scripts, read &quot;50.0 s&quot; then &quot;&quot;, overflow 0";
        assert_eq!(said.split('"').next(), Some(expected), "{width} wide");
        assert_eq!(console, Vec::<String>::new());
    }

    let screenshot = run.dir.path().join("page.png");
    let flag = format!("--screenshot={}", screenshot.display());
    open(
        &browser,
        &run.dir.report(),
        &[&flag, "--window-size=1280,2400"],
    );
    let shown = image::open(screenshot).unwrap().to_rgb8();
    let colors: std::collections::HashSet<_> = shown.pixels().collect();
    assert!(
        shown.height() >= 2000 && colors.len() > 1000,
        "{} colours",
        colors.len()
    );
}
