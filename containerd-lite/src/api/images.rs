//! Images: names and what they stand for.

use lite_core::{Image, Images, Kind, blocking};
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

fn required(image: Option<wire::Image>) -> Result<Image, Status> {
    let wire =
        image.ok_or_else(|| Status::invalid_argument("image is required: invalid argument"))?;
    if wire.name.is_empty() {
        return Err(to_status(
            Kind::InvalidArgument.error("image.name required: invalid argument"),
        ));
    }
    let mut image = Image::new(wire.name, descriptor(wire.target, "image.target")?);
    image.labels = labels(wire.labels);
    Ok(image)
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
        let image = required(request.into_inner().image)?;
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
        let (image, paths) = (required(image)?, paths(update_mask));
        let image = blocking(move || store.update(&ns, &image, &paths))
            .await
            .map_err(to_status)?;
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
