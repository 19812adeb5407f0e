//! CRI's ImageService.

use std::collections::HashMap;

use cri::Cri;
use cri::images::{self, Auth, CriImage, FilesystemUsage, ImageUser};
use proto::runtime::v1 as wire;
use proto::runtime::v1::image_service_server::ImageService;
use tonic::{Request, Response, Status};

use super::{Messages, in_parts, nanos, number};
use crate::api::status::to_status;

/// Images for a kubelet.
#[derive(Clone)]
pub struct CriImagesApi {
    cri: Cri,
}

impl CriImagesApi {
    /// Serves `cri`.
    #[must_use]
    pub fn new(cri: Cri) -> Self {
        Self { cri }
    }

    async fn list(&self, filter: Option<wire::ImageFilter>) -> Result<Vec<wire::Image>, Status> {
        let only = named(filter.and_then(|filter| filter.image));
        let only = (!only.is_empty()).then_some(only);
        let listed = images::list(&self.cri, only.as_deref()).await;
        let listed = listed.map_err(to_status)?;
        Ok(listed.into_iter().map(image).collect())
    }
}

#[tonic::async_trait]
impl ImageService for CriImagesApi {
    type StreamImagesStream = Messages<wire::StreamImagesResponse>;

    async fn list_images(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::ListImagesResponse>, Status> {
        let images = self.list(request.into_inner().filter).await?;
        Ok(Response::new(wire::ListImagesResponse { images }))
    }

    async fn stream_images(
        &self,
        request: Request<wire::StreamImagesRequest>,
    ) -> Result<Response<Self::StreamImagesStream>, Status> {
        let images = self.list(request.into_inner().filter).await?;
        let message = |images| wire::StreamImagesResponse { images };
        Ok(Response::new(in_parts(images, message)))
    }

    async fn image_status(
        &self,
        request: Request<wire::ImageStatusRequest>,
    ) -> Result<Response<wire::ImageStatusResponse>, Status> {
        let request = request.into_inner();
        let found = images::find(&self.cri, &named(request.image)).await;
        let found = found.map_err(to_status)?;
        let info = match (&found, request.verbose) {
            (Some(found), true) => about(found)?,
            _ => HashMap::new(),
        };
        Ok(Response::new(wire::ImageStatusResponse {
            image: found.map(image),
            info,
        }))
    }

    async fn pull_image(
        &self,
        request: Request<wire::PullImageRequest>,
    ) -> Result<Response<wire::PullImageResponse>, Status> {
        let request = request.into_inner();
        let auth = request.auth.map(auth).unwrap_or_default();
        let pulled = images::pull(&self.cri, &named(request.image), &auth).await;
        let image_ref = pulled.map_err(to_status)?;
        Ok(Response::new(wire::PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<wire::RemoveImageRequest>,
    ) -> Result<Response<wire::RemoveImageResponse>, Status> {
        let typed = named(request.into_inner().image);
        let removed = images::remove(&self.cri, &typed).await;
        removed.map_err(to_status)?;
        Ok(Response::new(wire::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<wire::ImageFsInfoRequest>,
    ) -> Result<Response<wire::ImageFsInfoResponse>, Status> {
        let usage = images::usage(&self.cri).await.map_err(to_status)?;
        let usage = filesystem(usage);
        Ok(Response::new(wire::ImageFsInfoResponse {
            image_filesystems: vec![usage.clone()],
            container_filesystems: vec![usage],
        }))
    }
}

fn named(image: Option<wire::ImageSpec>) -> String {
    image.map(|image| image.image).unwrap_or_default()
}

fn auth(auth: wire::AuthConfig) -> Auth {
    Auth {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    }
}

fn image(image: CriImage) -> wire::Image {
    let (uid, username) = match image.user {
        Some(ImageUser::Id(value)) => (Some(wire::Int64Value { value }), String::new()),
        Some(ImageUser::Name(name)) => (None, name),
        None => (None, String::new()),
    };
    wire::Image {
        id: image.id,
        repo_tags: image.tags,
        repo_digests: image.digests,
        size: image.size,
        uid,
        username,
        spec: Some(wire::ImageSpec::default()),
        pinned: false,
    }
}

/// What people see of an image beside its names.
fn about(image: &CriImage) -> Result<HashMap<String, String>, Status> {
    let (chain, spec) = image.configuration();
    let spec = serde_json::to_value(spec)
        .map_err(|err| Status::internal(format!("encode the image's configuration: {err}")))?;
    let info = serde_json::json!({ "chainID": chain, "imageSpec": spec });
    Ok([("info".to_owned(), info.to_string())].into())
}

pub(super) fn filesystem(usage: FilesystemUsage) -> wire::FilesystemUsage {
    wire::FilesystemUsage {
        timestamp: nanos(usage.at),
        fs_id: Some(wire::FilesystemIdentifier {
            mountpoint: usage.dir.display().to_string(),
        }),
        used_bytes: number(usage.bytes),
        inodes_used: number(usage.inodes),
    }
}
