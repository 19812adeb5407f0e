//! Version.

use proto::containerd::services::version::v1::VersionResponse;
use proto::containerd::services::version::v1::version_server::Version;
use tonic::{Request, Response, Status};

/// Answers with this program's version.
#[derive(Debug, Clone, Copy, Default)]
pub struct VersionApi;

#[tonic::async_trait]
impl Version for VersionApi {
    async fn version(&self, _: Request<()>) -> Result<Response<VersionResponse>, Status> {
        Ok(Response::new(VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: option_env!("CONTAINERD_LITE_REVISION")
                .unwrap_or_default()
                .to_owned(),
        }))
    }
}
