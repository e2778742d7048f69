//! Overrides of configuration values: `--set key.path=value`.

use super::options::key_of;
use super::{Budget, Config, ConfigError, SceneHints};
use crate::text::{SIMILAR, likeness};

/// Difference in likeness to the best suggestion up to which others are suggested too.
const NEARLY: f64 = 0.1;
/// Maximum number of keys to suggest.
const MAX_SUGGESTED: usize = 3;

/// Return the error of the override `text`; where its key is unknown, name similar keys.
pub(super) fn fault(text: &str, reason: String) -> ConfigError {
    let is_unknown = reason.starts_with("unknown field") || reason.starts_with("there is no table");
    let similar = if is_unknown {
        suggestions(text)
    } else {
        Vec::new()
    };
    let reason = if similar.is_empty() {
        reason
    } else {
        format!(
            "there is no such setting; did you mean {}?",
            similar.join(" or ")
        )
    };
    ConfigError::Set {
        text: text.to_owned(),
        reason,
    }
}

/// Apply one override `a.b.c=value`. `passes` selects all passes, `passes.0` the first; the value is
/// TOML, or else a bare string.
pub(super) fn set(table: &mut toml::Table, text: &str) -> Result<(), ConfigError> {
    let fault = |reason: String| fault(text, reason);
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| fault("give key=value, as in training.batch_size=65536".to_owned()))?;
    let parsed = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.trim().to_owned()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys
        .pop()
        .filter(|k| !k.is_empty())
        .ok_or_else(|| fault("the key is empty".to_owned()))?;
    insert(table, &keys, last, &value).map_err(fault)
}

/// Set `keys.last` to `value` below `table`. A number after the key of an array selects one of its
/// entries; otherwise all are set.
fn insert(
    table: &mut toml::Table,
    keys: &[&str],
    last: &str,
    value: &toml::Value,
) -> Result<(), String> {
    let Some((&key, rest)) = keys.split_first() else {
        table.insert(last.to_owned(), value.clone());
        return Ok(());
    };
    match table.get_mut(key) {
        None => Err(format!("there is no table `{key}`")),
        Some(toml::Value::Table(inner)) => insert(inner, rest, last, value),
        Some(toml::Value::Array(items)) => {
            let index = rest.first().and_then(|k| k.parse::<usize>().ok());
            let n = items.len();
            let (chosen, rest) = match index {
                None => (items.as_mut_slice(), rest),
                Some(i) if i < n => (&mut items[i..=i], &rest[1..]),
                Some(i) => return Err(format!("`{key}` has no entry {i}, but {n} from 0 on")),
            };
            for item in chosen {
                match item {
                    toml::Value::Table(inner) => insert(inner, rest, last, value)?,
                    _ => return Err(format!("`{key}` is not a table")),
                }
            }
            Ok(())
        }
        Some(_) => Err(format!("`{key}` is not a table")),
    }
}

/// Return the dotted keys of all presets that the unknown key of `text` (`key=value`) may stand for: those that end with it,
/// else those that are spelled alike.
fn suggestions(text: &str) -> Vec<String> {
    let key = key_of(text);
    let all = known_keys();
    if all.iter().any(|known| known == key) {
        return Vec::new();
    }
    let ends_with = |known: &&String| known.ends_with(&format!(".{key}"));
    let mut found: Vec<String> = all.iter().filter(ends_with).cloned().collect();
    if found.is_empty() {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let is_alike = |known: &&String| likeness(&last(known), &last(key)) >= SIMILAR;
        let mut alike: Vec<(f64, &String)> = all
            .iter()
            .filter(is_alike)
            .map(|known| (likeness(known, key), known))
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        let best = alike.first().map_or(0.0, |(likeness, _)| *likeness);
        alike.retain(|(likeness, _)| *likeness > best - NEARLY);
        found = alike.into_iter().map(|(_, known)| known.clone()).collect();
    }
    found.truncate(MAX_SUGGESTED);
    found
}

/// Return the dotted keys of all values in the presets, sorted.
fn known_keys() -> Vec<String> {
    let mut keys = std::collections::BTreeSet::new();
    for name in Config::presets() {
        let Ok(config) = Config::preset(name, &[]) else {
            continue;
        };
        let text = config
            .resolve(SceneHints::default(), Budget::DISCRETE)
            .to_toml();
        collect_keys(&toml::from_str(&text).unwrap_or_default(), "", &mut keys);
    }
    keys.into_iter().collect()
}

fn collect_keys(table: &toml::Table, prefix: &str, keys: &mut std::collections::BTreeSet<String>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let inner = format!("{key}.");
        match value {
            toml::Value::Table(table) => collect_keys(table, &inner, keys),
            toml::Value::Array(items) if items.iter().all(toml::Value::is_table) => {
                let tables = items.iter().filter_map(toml::Value::as_table);
                tables.for_each(|table| collect_keys(table, &inner, keys));
            }
            _ => {
                keys.insert(key);
            }
        }
    }
}
