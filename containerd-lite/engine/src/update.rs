//! Changes limits and restart policy of a container, also while it runs.

use lite_core::{AnyValue, Kind, Labels, Result};

use crate::engine::Engine;
use crate::events::Event;
use crate::host_config::{Resources, RestartPolicy};
use crate::limits;
use crate::state::Phase;

/// The type URL of limits for the shim.
const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// Changes what `change` names; with `restart` the policy too. Returns what the
/// user should know.
///
/// # Errors
/// NotFound; InvalidArgument for limits that cannot be; what the runtime says,
/// and then nothing has changed.
pub async fn update(
    engine: &Engine,
    container: &str,
    change: Resources,
    restart: Option<RestartPolicy>,
) -> Result<Vec<String>> {
    let handle = engine.find(container)?;
    let record = handle.record();
    if record.config.auto_remove && restart.is_some_and(|policy| policy != RestartPolicy::No) {
        return Err(Kind::InvalidArgument.error(
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ));
    }
    let new = record.host.resources.changed_by(&change);
    let warnings = limits::check(&new, engine.host().capacity)?;
    if record.phase == Phase::Running && change != Resources::default() {
        let resources = limits::resources(&new, engine.host().capacity);
        let value = serde_json::to_vec(&resources)
            .map_err(|err| Kind::Internal.error("encode limits").because(err))?;
        let resources = AnyValue {
            type_url: RESOURCES_TYPE.to_owned(),
            value,
        };
        let tasks = &engine.core().tasks;
        tasks
            .update(engine.ns(), &record.id, Some(resources), &Labels::new())
            .await?;
    }
    handle
        .change(move |record| {
            record.host.resources = new;
            if let Some(policy) = restart {
                record.host.restart = policy;
            }
        })
        .await?;
    engine.emit(Event::of_container(&handle.record(), "update"));
    Ok(warnings)
}
