//! Images: names and what they stand for.

use lite_core::{Image, Images, blocking};
use proto::containerd::services::images::v1 as wire;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::wire::{
    descriptor, filters, labels, lease, namespace, paths, timestamp, to_descriptor, to_map,
};
use crate::collector::Collector;

/// The adapter over the images' store.
#[derive(Clone)]
pub struct ImagesApi {
    store: Images,
    collector: Collector,
}

impl ImagesApi {
    /// An adapter of `store`; what a removed image kept goes to `collector`.
    #[must_use]
    pub fn new(store: Images, collector: Collector) -> Self {
        Self { store, collector }
    }
}

fn to_wire(image: Image) -> wire::Image {
    wire::Image {
        name: image.name,
        labels: to_map(image.labels),
        target: Some(to_descriptor(image.target)),
        created_at: timestamp(image.created_at),
        updated_at: timestamp(image.updated_at),
    }
}

fn required(image: Option<wire::Image>) -> Result<wire::Image, Status> {
    let image =
        image.ok_or_else(|| Status::invalid_argument("image is required: invalid argument"))?;
    if image.name.is_empty() {
        return Err(Status::invalid_argument(
            "image.name required: invalid argument",
        ));
    }
    Ok(image)
}

fn from_wire(image: wire::Image) -> Result<Image, Status> {
    let mut new = Image::new(image.name, descriptor(image.target, "image.target")?);
    new.labels = labels(image.labels);
    Ok(new)
}

/// Whether an update with these paths reads the target of what it is given.
fn reads_target(paths: &[String]) -> bool {
    paths.is_empty()
        || paths
            .iter()
            .any(|path| path.starts_with("target") || path.starts_with("annotations"))
}

#[tonic::async_trait]
impl wire::images_server::Images for ImagesApi {
    async fn get(
        &self,
        request: Request<wire::GetImageRequest>,
    ) -> Result<Response<wire::GetImageResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let name = request.into_inner().name;
        let image = blocking(move || store.get(&ns, &name))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::GetImageResponse {
            image: Some(to_wire(image)),
        }))
    }

    async fn list(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::ListImagesResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let filters = filters(&request.into_inner().filters)?;
        let all = blocking(move || store.list(&ns, &filters))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::ListImagesResponse {
            images: all.into_iter().map(to_wire).collect(),
        }))
    }

    async fn create(
        &self,
        request: Request<wire::CreateImageRequest>,
    ) -> Result<Response<wire::CreateImageResponse>, Status> {
        let (ns, store) = (
            namespace(&request)?,
            self.store.leased(lease(&request)?.as_deref()),
        );
        let image = from_wire(required(request.into_inner().image)?)?;
        let image = blocking(move || store.create(&ns, image))
            .await
            .map_err(to_status)?;
        Ok(Response::new(wire::CreateImageResponse {
            image: Some(to_wire(image)),
        }))
    }

    async fn update(
        &self,
        request: Request<wire::UpdateImageRequest>,
    ) -> Result<Response<wire::UpdateImageResponse>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::UpdateImageRequest {
            image, update_mask, ..
        } = request.into_inner();
        let (mut image, paths) = (required(image)?, paths(update_mask));
        let updated = blocking(move || {
            if !reads_target(&paths) {
                // A client that changes labels sends no target; the record's own stands in.
                image.target = Some(to_descriptor(store.get(&ns, &image.name)?.target));
            }
            Ok((store, ns, image, paths))
        });
        let (store, ns, image, paths) = updated.await.map_err(to_status)?;
        let image = from_wire(image)?;
        let updated = blocking(move || store.update(&ns, &image, &paths));
        let image = updated.await.map_err(to_status)?;
        // What it stood for before may be kept by nothing now.
        self.collector.soon();
        Ok(Response::new(wire::UpdateImageResponse {
            image: Some(to_wire(image)),
        }))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteImageRequest>,
    ) -> Result<Response<()>, Status> {
        let (ns, store) = (namespace(&request)?, self.store.clone());
        let wire::DeleteImageRequest { name, sync, target } = request.into_inner();
        let target = target
            .map(|target| descriptor(Some(target), "target"))
            .transpose()?;
        let deleted = blocking(move || match target {
            Some(target) => store.delete_target(&ns, &name, &target),
            None => store.delete(&ns, &name),
        });
        deleted.await.map_err(to_status)?;
        if sync {
            self.collector.now().await.map_err(to_status)?;
        } else {
            self.collector.soon();
        }
        Ok(Response::new(()))
    }
}
