//! Networks: create, list, inspect, remove, prune, connect, disconnect.

use engine::Engine;
use engine::networks::{self, CreateNetwork, Ipam};
use lite_core::Result;
use proto::engine::v1 as wire;

use super::host_config::attachment;
use super::volumes::pruned;

pub(super) async fn create(
    engine: &Engine,
    request: wire::CreateNetworkRequest,
) -> Result<wire::InspectResponse> {
    let ipam = request.ipam.into_iter().map(|ipam| Ipam {
        subnet: ipam.subnet,
        gateway: ipam.gateway,
        range: ipam.ip_range,
        reserved: ipam.aux_addresses.into_iter().collect(),
    });
    let request = CreateNetwork {
        name: request.name,
        driver: request.driver,
        ipam: ipam.collect(),
        internal: request.internal,
        ipv6: request.ipv6,
        options: request.options.into_iter().collect(),
        labels: request.labels.into_iter().collect(),
    };
    let json = networks::create(engine, request).await?.to_string();
    Ok(wire::InspectResponse { json })
}

pub(super) fn list(
    engine: &Engine,
    request: wire::ListNetworksRequest,
) -> Result<wire::ListNetworksResponse> {
    let found = networks::list(engine, &request.filters)?;
    Ok(wire::ListNetworksResponse {
        json: found.iter().map(ToString::to_string).collect(),
    })
}

pub(super) fn inspect(engine: &Engine, network: &str) -> Result<wire::InspectResponse> {
    let json = networks::inspect(engine, network)?.to_string();
    Ok(wire::InspectResponse { json })
}

pub(super) async fn connect(engine: &Engine, request: wire::ConnectNetworkRequest) -> Result<()> {
    let wanted = attachment(request.attachment.unwrap_or_default());
    networks::connect(engine, &request.container, wanted).await
}

pub(super) async fn disconnect(
    engine: &Engine,
    request: wire::ConnectNetworkRequest,
) -> Result<()> {
    let network = request.attachment.unwrap_or_default().network;
    networks::disconnect(engine, &request.container, &network).await
}

pub(super) async fn prune(
    engine: &Engine,
    request: wire::PruneRequest,
) -> Result<wire::PruneResponse> {
    networks::prune(engine, &request.filters).await.map(pruned)
}
