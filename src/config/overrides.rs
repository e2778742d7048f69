//! Overrides of configuration values: `--set key.path=value`.

use super::ConfigError;

/// Apply one override `a.b.c=value`. `passes` selects all passes, `passes.0` the first; the value is
/// TOML, or else a bare string.
pub(super) fn set(table: &mut toml::Table, text: &str) -> Result<(), ConfigError> {
    let fault = |reason: String| ConfigError::Set {
        text: text.to_owned(),
        reason,
    };
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
