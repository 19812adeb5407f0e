//! The client against Debian's docker-registry, filled by skopeo.

mod fixture;

use fixture::image::Layout;
use fixture::registry::DockerRegistry;
use registry::{Client, Config, Digest, Error, Reference};
use serde_json::Value;

fn client() -> Client {
    Client::new(Config::default()).expect("client")
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("reference")
}

async fn manifest(client: &Client, reference: &Reference) -> (String, Value) {
    let resolved = client.resolve(reference).await.expect("resolve");
    let bytes = client
        .manifest(reference, &resolved.digest)
        .await
        .expect("manifest");
    assert_eq!(Digest::of(&bytes), resolved.digest);
    assert_eq!(bytes.len() as u64, resolved.size);
    (
        resolved.media_type,
        serde_json::from_slice(&bytes).expect("json"),
    )
}

async fn blob(client: &Client, reference: &Reference, descriptor: &Value, offset: u64) -> Vec<u8> {
    let digest = Digest::parse(descriptor["digest"].as_str().expect("digest")).expect("digest");
    let size = descriptor["size"].as_u64().expect("size");
    let mut reader = client.blob(reference, &digest, size, offset).expect("blob");
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await.expect("piece") {
        bytes.extend_from_slice(&piece);
    }
    bytes
}

#[tokio::test]
async fn an_oci_index_and_everything_below_it_is_fetched() {
    let layout = Layout::demo();
    let registry = DockerRegistry::with(&layout);
    let reference = reference(&format!("{}/demo", registry.address));
    let client = client();

    let (media_type, index) = manifest(&client, &reference).await;
    assert_eq!(media_type, "application/vnd.oci.image.index.v1+json");
    let manifests = index["manifests"].as_array().expect("manifests");
    assert_eq!(manifests.len(), 2);
    let child = manifests[1]["digest"].as_str().expect("digest");
    let pinned = reference.pinned(Digest::parse(child).expect("digest"));
    let (media_type, child) = manifest(&client, &pinned).await;
    assert_eq!(media_type, "application/vnd.oci.image.manifest.v1+json");

    let layer = &child["layers"][0];
    let whole = blob(&client, &reference, layer, 0).await;
    assert_eq!(
        Digest::of(&whole).as_str(),
        layer["digest"].as_str().expect("digest")
    );
    let tail = blob(&client, &reference, layer, 1000).await;
    assert_eq!(tail, &whole[1000..]);
    assert!(
        blob(&client, &reference, layer, whole.len() as u64)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn docker_schema2_is_fetched() {
    let layout = Layout::demo();
    let registry = DockerRegistry::start();
    registry.push(&layout, "owner/v2s2:old", &["--format", "v2s2"]);
    let reference = reference(&format!("{}/owner/v2s2:old", registry.address));
    let client = client();

    let (media_type, manifest) = manifest(&client, &reference).await;
    assert_eq!(
        media_type,
        "application/vnd.docker.distribution.manifest.v2+json"
    );
    let config = blob(&client, &reference, &manifest["config"], 0).await;
    let config: Value = serde_json::from_slice(&config).expect("json");
    assert_eq!(config["os"], "linux");
}

#[tokio::test]
async fn what_is_not_there_is_not_found_by_name() {
    let registry = DockerRegistry::start();
    let host = registry.address.clone();
    let err = client()
        .resolve(&reference(&format!("{host}/nope:v1")))
        .await
        .expect_err("absent");
    assert!(matches!(err, Error::NotFound { .. }), "{err:?}");
    assert_eq!(
        err.to_string(),
        format!("manifest {host}/nope:v1 not found in registry {host}")
    );

    let digest = Digest::of(b"absent");
    let mut reader = client()
        .blob(&reference(&format!("{host}/nope")), &digest, 6, 0)
        .expect("blob");
    let err = reader.next().await.expect_err("absent");
    assert_eq!(
        err.to_string(),
        format!("blob {digest} not found in registry {host}")
    );
}
