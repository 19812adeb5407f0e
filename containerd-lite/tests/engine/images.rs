//! Images: list, inspect, remove.

use proto::engine::v1 as wire;
use tonic::{Code, Status};

use crate::client::{Client, create, program, remove, start};
use crate::daemon::Daemon;

async fn rows(client: &mut Client, reference: &str) -> Vec<wire::ImageSummary> {
    let request = wire::ListImagesRequest {
        all: false,
        reference: reference.to_owned(),
        ..Default::default()
    };
    client
        .list_images(request)
        .await
        .unwrap()
        .into_inner()
        .images
}

async fn rmi(
    client: &mut Client,
    image: &str,
    force: bool,
) -> Result<wire::RemoveImageResponse, Status> {
    let request = wire::RemoveImageRequest {
        image: image.to_owned(),
        force,
    };
    Ok(client.remove_image(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_listed_and_inspected() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let rows_all = rows(&mut client, "").await;
    assert_eq!(rows_all.len(), 1);
    let row = &rows_all[0];
    assert_eq!(
        (row.repository.as_str(), row.tag.as_str()),
        ("busybox", "latest")
    );
    assert!(row.size_bytes > 100_000, "{row:?}");
    assert_eq!(rows(&mut client, "busybox").await.len(), 1);
    assert_eq!(rows(&mut client, "busybox:other").await.len(), 0);
    let request = wire::InspectImageRequest {
        image: row.id["sha256:".len()..][..12].to_owned(),
    };
    let json = client
        .inspect_image(request)
        .await
        .unwrap()
        .into_inner()
        .json;
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(object["Id"], row.id);
    assert_eq!(object["RepoTags"], serde_json::json!(["busybox:latest"]));
    assert_eq!(object["Config"]["Cmd"], serde_json::json!(["sh"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_is_protected_and_goes_when_it_is_not() {
    let (_daemon, mut client) = Daemon::with_busybox().await;
    let image = rows(&mut client, "").await.remove(0).id;
    let short = &image["sha256:".len()..][..12];
    let id = create(&mut client, program("user", &["sleep", "60"]))
        .await
        .unwrap();
    start(&mut client, "user").await.unwrap();

    let refused = rmi(&mut client, "busybox", false).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(
        refused.message(),
        format!(
            "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its referenced image {short}",
            &id[..12]
        )
    );
    let refused = rmi(&mut client, short, true).await.unwrap_err();
    assert_eq!(
        refused.message(),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
            &id[..12]
        )
    );
    remove(&mut client, "user", true).await.unwrap();
    let removed = rmi(&mut client, "busybox", false).await.unwrap();
    assert_eq!(
        (removed.untagged, removed.deleted),
        (vec!["busybox:latest".to_owned()], vec![image])
    );
    assert!(rows(&mut client, "").await.is_empty());
    let refused = rmi(&mut client, "busybox", false).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, "No such image: busybox:latest")
    );
}
