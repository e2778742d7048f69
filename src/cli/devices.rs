//! `kiln devices`: lists the adapters.

use super::Terminal;
use crate::gpu::{AdapterClass, GpuError, list_adapters};
use crate::session::run_log::SCHEMA;
use crate::session::{ObserverExt as _, Result};
use crate::text::bytes;

pub(super) fn run(terminal: &Terminal) -> Result<()> {
    let adapters = list_adapters(&terminal.options);
    if adapters.is_empty() {
        return Err(GpuError::NoAdapter.into());
    }
    for adapter in &adapters {
        let mut line = serde_json::to_value(adapter)?;
        line["schema"] = SCHEMA.into();
        for (key, features) in [
            ("features", &adapter.features),
            ("unused_features", &adapter.unused_features),
        ] {
            line[key] = features
                .iter()
                .map(|(n, on)| (n.clone(), (*on).into()))
                .collect::<serde_json::Map<_, _>>()
                .into();
        }
        terminal.json(&line)?;
        let note = if adapter.class == AdapterClass::Software {
            "  (software adapter: runs on the CPU)"
        } else {
            ""
        };
        let mark = if adapter.default { "*" } else { " " };
        let present = |features: &[(String, bool)]| {
            let names = features.iter().filter(|(_, on)| *on);
            names
                .map(|(n, _)| n.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        terminal.result(format!(
            "{mark} {index}  {name}{note}\n     {backend}, {class}, {driver}\n     binding {binding}, buffer {buffer}, \
             workgroup memory {workgroup} KiB, {storage} storage buffers, {invocations} invocations, subgroups {low}–{high}\n     \
             uses {used}; also has {unused}",
            index = adapter.index,
            name = adapter.name,
            backend = adapter.backend,
            class = adapter.class,
            driver = adapter.driver,
            binding = bytes(adapter.max_binding_bytes),
            buffer = bytes(adapter.max_buffer_bytes),
            workgroup = adapter.workgroup_bytes / 1024,
            storage = adapter.max_storage_buffers,
            invocations = adapter.max_invocations,
            low = adapter.subgroup_sizes[0],
            high = adapter.subgroup_sizes[1],
            used = present(&adapter.features),
            unused = present(&adapter.unused_features),
        ))?;
    }
    if adapters.iter().any(|a| a.default) {
        terminal
            .note("* marks the adapter in use; choose another with --device NAME|N or KILN_DEVICE");
        return Ok(());
    }
    // No adapter matches --device: opening the device returns the error.
    terminal.open_gpu().map(|_| ())?;
    Ok(())
}
