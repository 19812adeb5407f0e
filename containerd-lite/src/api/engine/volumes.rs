//! Volumes: create, list, inspect, remove, prune.

use engine::Engine;
use engine::volumes::{self, CreateVolume, Pruned};
use lite_core::Result;
use proto::engine::v1 as wire;

pub(super) async fn create(
    engine: &Engine,
    request: wire::CreateVolumeRequest,
) -> Result<wire::InspectResponse> {
    let request = CreateVolume {
        name: request.name,
        driver: request.driver,
        options: request.driver_opts.into_iter().collect(),
        labels: request.labels.into_iter().collect(),
    };
    let volume = volumes::create(engine, request).await?;
    let json = volume.json(engine).to_string();
    Ok(wire::InspectResponse { json })
}

pub(super) async fn list(
    engine: &Engine,
    request: wire::ListVolumesRequest,
) -> Result<wire::ListVolumesResponse> {
    let found = volumes::list(engine, &request.filters).await?;
    Ok(wire::ListVolumesResponse {
        json: found.iter().map(ToString::to_string).collect(),
    })
}

pub(super) async fn inspect(engine: &Engine, volume: &str) -> Result<wire::InspectResponse> {
    let json = volumes::inspect(engine, volume).await?.to_string();
    Ok(wire::InspectResponse { json })
}

pub(super) async fn prune(
    engine: &Engine,
    request: wire::PruneRequest,
) -> Result<wire::PruneResponse> {
    volumes::prune(engine, request.all, &request.filters)
        .await
        .map(pruned)
}

pub(super) fn pruned(pruned: Pruned) -> wire::PruneResponse {
    wire::PruneResponse {
        removed: pruned.removed,
        reclaimed_bytes: pruned.reclaimed,
    }
}
