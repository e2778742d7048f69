//! Seeded damage to files and to the values in them.

use std::path::Path;

use serde_json::{Value, json};

/// `SplitMix64` (Steele et al. 2014).
pub struct Random {
    pub state: u64,
    /// Whether to damage nothing.
    pub harmless: bool,
}

impl Random {
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Hostile strings: other paths, escapes and format strings.
const TRICKS: [&str; 14] = [
    "../../canary",
    "../canary/keep.png",
    "/etc/passwd",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/mem",
    "..\\..\\canary",
    "images/\u{0}x",
    "",
    ".",
    "..",
    "\u{202e}gnp.x\n\x1b[2J",
    "file:///etc/passwd",
    "%s%n{0}{{}}",
];

/// Return a value of another type, or of another size.
fn other(random: &mut Random, old: &Value) -> Value {
    match random.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(1e308),
        5 => json!(1e39),
        6 => json!(u64::MAX),
        7 => json!(1e-300),
        8 => json!(*random.of(&TRICKS)),
        9 => json!("x".repeat(1 << random.below(18))),
        10 => json!([]),
        11 => json!({}),
        12 => json!([old, old]),
        13 => nested(random.below(200)),
        14 => json!(i64::from(i32::MAX) + 1),
        _ => json!("NaN"),
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

/// Change one value somewhere in a document. Return a description of the change.
pub fn value(random: &mut Random, root: &mut Value) -> String {
    if random.harmless {
        return "nothing".to_owned();
    }
    value_at(random, root, "")
}

fn value_at(random: &mut Random, at: &mut Value, path: &str) -> String {
    let stop = random.below(6) == 0;
    match at {
        Value::Object(map) if !map.is_empty() && !stop => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = random.of(&keys).clone();
            let path = format!("{path}.{key}");
            if random.below(12) == 0 {
                let gone = map.remove(&key);
                if random.below(2) == 0 {
                    map.insert(format!("{key}_"), gone.unwrap_or_default());
                }
                return format!("{path} removed or renamed");
            }
            value_at(random, map.get_mut(&key).unwrap(), &path)
        }
        Value::Array(list) if !list.is_empty() && !stop => {
            let index = random.below(list.len());
            let path = format!("{path}[{index}]");
            match random.below(16) {
                0 => {
                    list.remove(index);
                    format!("{path} removed")
                }
                1 => {
                    let copy = list[index].clone();
                    let n = 1 << random.below(10);
                    list.extend(std::iter::repeat_n(copy, n));
                    format!("{path} repeated {n} times")
                }
                2 => {
                    let second = random.below(list.len());
                    list.swap(index, second);
                    format!("{path} swapped with {second}")
                }
                _ => value_at(random, &mut list[index], &path),
            }
        }
        _ => {
            *at = match (&*at, random.below(3)) {
                (Value::Number(n), 0) => json!(n.as_f64().unwrap_or(0.0) * -1e3),
                (Value::Number(n), 1) => json!(n.as_f64().unwrap_or(0.0) + random.unit()),
                (old, _) => other(random, old),
            };
            let shown: String = at.to_string().chars().take(60).collect();
            format!("{path} = {shown}")
        }
    }
}

/// Change the bytes of a file. Return a description of the change.
pub fn bytes(random: &mut Random, bytes: &mut Vec<u8>) -> String {
    let n = bytes.len();
    let place = random.below(n);
    match random.below(8) {
        0 => {
            bytes.truncate(place);
            format!("cut to {place} of {n} bytes")
        }
        1 | 2 => {
            let flips = 1 << random.below(7);
            for _ in 0..flips {
                let at = random.below(n);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            format!("{flips} bits flipped")
        }
        3 => {
            // Change a byte of the header.
            let at = random.below(n.min(64));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
            format!("byte {at} changed")
        }
        4 => {
            let run: Vec<u8> = (0..random.below(300))
                .map(|_| random.next() as u8)
                .collect();
            let length = run.len();
            bytes.splice(place..place, run);
            format!("{length} bytes put in at {place}")
        }
        5 => {
            let end = (place + random.below(500)).min(n);
            bytes[place..end].fill(0);
            format!("zeros from {place} to {end}")
        }
        6 => {
            bytes.extend_from_slice(&vec![b' '; random.below(5000)]);
            bytes.extend_from_slice(b"}]");
            "rubbish appended".to_owned()
        }
        _ => {
            let deep = 1 << random.below(18);
            *bytes = "[".repeat(deep).into_bytes();
            format!("{deep} open brackets")
        }
    }
}

/// Damage a file, or replace it by something else. Return a description of the damage.
pub fn file(random: &mut Random, path: &Path) -> String {
    if random.harmless {
        return "nothing".to_owned();
    }
    let link = |target: &str| {
        std::fs::remove_file(path).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(target, path).unwrap();
        format!("a link to {target}")
    };
    match random.below(9) {
        0 => {
            std::fs::remove_file(path).unwrap();
            "removed".to_owned()
        }
        1 => {
            std::fs::write(path, b"").unwrap();
            "emptied".to_owned()
        }
        2 => {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
            "a folder".to_owned()
        }
        3 => link("/dev/zero"),
        4 => link(&path.display().to_string()),
        5 => link("/proc/self/environ"),
        6 => {
            std::fs::remove_file(path).unwrap();
            let made = std::process::Command::new("mkfifo").arg(path).status();
            format!("a pipe ({})", made.is_ok_and(|s| s.success()))
        }
        7 => {
            let gib = 1 << random.below(11);
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(gib << 30).unwrap();
            format!("{gib} GiB long")
        }
        _ => {
            let mut damaged = std::fs::read(path).unwrap();
            let what = bytes(random, &mut damaged);
            std::fs::write(path, damaged).unwrap();
            what
        }
    }
}
