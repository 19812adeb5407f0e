//! Changes a container's limits, whether or not it runs.

use std::collections::BTreeMap;

use lite_core::{AnyValue, Kind, Result};

use crate::config::Resources;
use crate::hub::Cri;
use crate::record::{ContainerRecord, ContainerState};
use crate::spec::limits;

/// The type of limits for a shim.
const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// Changes what `resources` says of the container `id`; nothing said leaves it.
///
/// # Errors
/// NotFound; FailedPrecondition for one that has exited; what the runtime says.
pub async fn update(cri: &Cri, id: &str, resources: Resources) -> Result<()> {
    let id = cri.container(id)?.id.clone();
    let _turn = cri.turn(&id).await;
    let record = cri.container(&id)?;
    if record.state == ContainerState::Exited {
        return Err(Kind::FailedPrecondition.error(format!("container {id} has exited")));
    }
    let merged = limits::merged(&record.resources, &resources);
    let limits = limits::resources(&merged, cri.host());
    let encode = |value: &serde_json::Value| {
        serde_json::to_vec(value).map_err(|err| Kind::Internal.error("encode limits").because(err))
    };
    if record.state == ContainerState::Running {
        let told = AnyValue {
            type_url: RESOURCES_TYPE.to_owned(),
            value: encode(&limits)?,
        };
        let tasks = &cri.core().tasks;
        tasks
            .update(cri.ns(), &id, Some(told), &BTreeMap::new())
            .await?;
    } else {
        let (cri, id) = (cri.clone(), id.clone());
        lite_core::blocking(move || {
            let mut stored = cri.core().containers.get(cri.ns(), &id)?;
            if let Some(spec) = &mut stored.spec {
                let mut document: serde_json::Value = serde_json::from_slice(&spec.value)
                    .map_err(|err| Kind::DataLoss.error("read spec").because(err))?;
                let all = &mut document["linux"]["resources"];
                for (key, value) in limits.as_object().into_iter().flatten() {
                    all[key] = value.clone();
                }
                spec.value = encode(&document)?;
            }
            cri.core().containers.update(cri.ns(), &stored, &["spec"])?;
            Ok(())
        })
        .await?;
    }
    let changed = ContainerRecord {
        resources: merged,
        ..ContainerRecord::clone(&record)
    };
    cri.store_container(changed).await.map(drop)
}
