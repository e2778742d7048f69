//! Compiles WGSL with a browser: its compiler holds texts to the standard, at WebGPU's default limits.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Asks for the texts, compiles each and its entry points, and posts the faults: `{"faults": {name: [text]}, "error": text}`.
const PAGE: &str = r#"<!doctype html><script type="module">
const answer = {faults: {}, error: ""};
try {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error("the browser has no WebGPU adapter");
  const device = await adapter.requestDevice();
  for (const [name, [entry, code]] of Object.entries(await (await fetch("/texts")).json())) {
    const module = device.createShaderModule({code});
    const {messages} = await module.getCompilationInfo();
    const faults = messages.filter(m => m.type === "error").map(m => `line ${m.lineNum}: ${m.message}`);
    if (faults.length === 0) {
      const compute = {module, entryPoint: entry};
      await device.createComputePipelineAsync({layout: "auto", compute}).catch(e => faults.push(e.message));
    }
    if (faults.length > 0) answer.faults[name] = faults;
  }
} catch (e) { answer.error = String(e); }
await fetch("/done", {method: "POST", body: JSON.stringify(answer)});
</script>"#;

/// Time without a request after which the browser is taken for dead: pipelines are compiled one after another meanwhile.
const PATIENCE: Duration = Duration::from_mins(10);

struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Return what `browser` refuses of `texts`, which are entry points and WGSL by name.
pub fn refused(
    browser: &Path,
    texts: &BTreeMap<String, (String, String)>,
) -> BTreeMap<String, Vec<String>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let profile = tempfile::tempdir().unwrap();
    let browser = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--ignore-gpu-blocklist",
            "--enable-gpu",
        ])
        .args([
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--enable-unsafe-webgpu",
        ])
        .args(["--enable-features=Vulkan", "--use-vulkan=swiftshader"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(address)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _browser = Browser(browser);
    let texts = serde_json::to_string(texts).unwrap();
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Some(answer) = serve(&stream, &texts) {
                    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
                    assert_eq!(answer["error"], "", "the browser's script failed");
                    return serde_json::from_value(answer["faults"].clone()).unwrap();
                }
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    panic!("the browser gave no answer");
}

/// Answer a request; return the body of the one that posts the result.
fn serve(stream: &TcpStream, texts: &str) -> Option<String> {
    stream.set_nonblocking(false).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let request = line.clone();
    let mut length = 0;
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (kind, content) = match request.split_whitespace().nth(1)? {
        "/texts" => ("application/json", texts),
        "/" => ("text/html", PAGE),
        _ => ("text/plain", ""),
    };
    let mut stream = stream;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(content.as_bytes()).ok()?;
    request
        .starts_with("POST")
        .then(|| String::from_utf8_lossy(&body).into_owned())
}
