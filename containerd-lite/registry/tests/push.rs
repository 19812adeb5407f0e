//! Pushing: to Debian's docker-registry, and to a server that breaks off.

mod fixture;

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fixture::misbehaving::{Reply, Server};
use fixture::registry::DockerRegistry;
use registry::{
    Client, Config, Credentials, Digest, Error, Reference, RetryPolicy, Upload, Uploaded,
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn config() -> Config {
    Config {
        idle_timeout: Duration::from_secs(2),
        retry: RetryPolicy {
            attempts: 3,
            first_pause: Duration::from_millis(5),
            ..RetryPolicy::default()
        },
        ..Config::default()
    }
}

fn client(config: Config) -> Client {
    Client::new(config).expect("client")
}

fn reference(text: String) -> Reference {
    Reference::parse(&text).expect("reference")
}

fn upload(bytes: &[u8], from: &[&str]) -> Upload {
    let mut file = tempfile::tempfile().expect("file");
    file.write_all(bytes).expect("write");
    Upload {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        file: Arc::new(file),
        from: from.iter().map(|&path| path.to_owned()).collect(),
        sent: Arc::default(),
    }
}

fn big() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

async fn pulled(client: &Client, reference: &Reference, bytes: &[u8]) -> Vec<u8> {
    let digest = Digest::of(bytes);
    let mut reader = client
        .blob(reference, &digest, bytes.len() as u64, 0)
        .expect("blob");
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.expect("piece") {
        all.extend_from_slice(&piece);
    }
    all
}

#[tokio::test]
async fn an_image_is_pushed_once_and_its_blobs_are_mounted_elsewhere() {
    let registry = DockerRegistry::start();
    let client = client(config());
    let first = reference(format!("{}/one:v1", registry.address));
    let (layer, config) = (big(), b"{}".to_vec());
    for (bytes, outcome) in [
        (&layer, Uploaded::Sent),
        (&config, Uploaded::Sent),
        (&layer, Uploaded::Existed),
    ] {
        let blob = upload(bytes, &[]);
        assert_eq!(
            client.push_blob(&first, &blob).await.expect("push"),
            outcome
        );
        assert_eq!(
            blob.sent.load(std::sync::atomic::Ordering::Relaxed),
            blob.size
        );
    }
    let descriptor = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": Digest::of(bytes).as_str(), "size": bytes.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = client
        .push_manifest(&first, MANIFEST, manifest.clone().into())
        .await
        .expect("manifest");
    assert_eq!(
        client.resolve(&first).await.expect("resolve").digest,
        digest
    );
    assert_eq!(client.tags(&first).await.expect("tags"), ["v1"]);
    assert_eq!(pulled(&client, &first, &layer).await, layer);

    let second = reference(format!("{}/two:v1", registry.address));
    let outcome = client
        .push_blob(&second, &upload(&layer, &["absent", "one"]))
        .await
        .expect("push");
    // The registry answers the mount from a repository without the blob with
    // an upload, which is then used.
    assert!(matches!(outcome, Uploaded::Sent | Uploaded::Mounted(_)));
    let third = reference(format!("{}/three:v1", registry.address));
    let outcome = client
        .push_blob(&third, &upload(&layer, &["one"]))
        .await
        .expect("push");
    assert_eq!(outcome, Uploaded::Mounted("one".to_owned()));
    assert!(
        client
            .has_blob(&third, &Digest::of(&layer))
            .await
            .expect("blob")
    );
}

#[tokio::test]
async fn chunks_and_an_empty_blob_arrive_whole() {
    let registry = DockerRegistry::start();
    let client = client(Config {
        chunk_bytes: Some(100_000),
        ..config()
    });
    let to = reference(format!("{}/chunks:v1", registry.address));
    for bytes in [big(), Vec::new(), vec![7; 100_000]] {
        let outcome = client
            .push_blob(&to, &upload(&bytes, &[]))
            .await
            .expect("push");
        assert_eq!(outcome, Uploaded::Sent);
        assert_eq!(pulled(&client, &to, &bytes).await, bytes);
    }
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_the_registry_says() {
    let whole = big();
    let held = 500_000_usize;
    let seen_ranges = Arc::new(Mutex::new(Vec::new()));
    let ranges = seen_ranges.clone();
    let server = Server::start(move |seen, _| {
        let upload = |reply: Reply, id: &str| {
            reply.header("location", format!("/v2/a/b/blobs/uploads/{id}"))
        };
        match seen.method.as_str() {
            "HEAD" => Reply::new("404 Not Found", ""),
            "POST" => upload(Reply::new("202 Accepted", ""), "1"),
            "PUT" if seen.path.contains("/1?") => Reply::new("503 Service Unavailable", ""),
            "GET" => upload(Reply::new("204 No Content", ""), "2")
                .header("range", format!("0-{}", held - 1)),
            "PATCH" => {
                let range = seen.header("content-range").unwrap_or_default().to_owned();
                let length = seen.header("content-length").unwrap_or_default().to_owned();
                ranges
                    .lock()
                    .expect("lock")
                    .push((seen.path.clone(), range, length));
                upload(Reply::new("202 Accepted", ""), "3")
            }
            _ => Reply::new("201 Created", ""),
        }
    })
    .await;
    let to = reference(format!("{}/a/b:t", server.address));
    let outcome = client(config()).push_blob(&to, &upload(&whole, &[])).await;
    assert_eq!(outcome.expect("push"), Uploaded::Sent);
    let expected = (
        "/v2/a/b/blobs/uploads/2".to_owned(),
        format!("{held}-{}", whole.len() - 1),
        (whole.len() - held).to_string(),
    );
    assert_eq!(*seen_ranges.lock().expect("lock"), [expected]);
    let last = server.seen().pop().expect("requests");
    assert_eq!(last.method, "PUT");
    assert!(
        last.path.starts_with("/v2/a/b/blobs/uploads/3?digest="),
        "{}",
        last.path
    );
}

#[tokio::test]
async fn a_password_is_not_shown_to_the_storage_that_an_upload_is_sent_to() {
    let storage = Server::start(|_, _| Reply::new("201 Created", "")).await;
    let elsewhere = format!("http://{}/store", storage.address);
    let server =
        Server::start(
            move |seen, _| match (seen.header("authorization"), seen.method.as_str()) {
                (None, _) => {
                    Reply::new("401 Unauthorized", "").header("www-authenticate", "Basic realm=x")
                }
                (_, "HEAD") => Reply::new("404 Not Found", ""),
                _ => Reply::new("202 Accepted", "").header("location", elsewhere.clone()),
            },
        )
        .await;
    let to = reference(format!("{}/a/b:t", server.address));
    let client = client(Config {
        credentials: [(server.address.clone(), Credentials::password("u", "p"))].into(),
        ..config()
    });
    let outcome = client.push_blob(&to, &upload(b"x", &[])).await;
    assert_eq!(outcome.expect("push"), Uploaded::Sent);
    let seen = storage.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].method.as_str(), seen[0].header("authorization")),
        ("PUT", None)
    );
}

#[tokio::test]
async fn a_registry_that_takes_no_large_request_gets_small_ones() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let taken = sizes.clone();
    let server = Server::start(move |seen, _| {
        let upload = |reply: Reply| reply.header("location", "/v2/a/b/blobs/uploads/1");
        let length: u64 = seen
            .header("content-length")
            .unwrap_or("0")
            .parse()
            .expect("length");
        match seen.method.as_str() {
            "HEAD" => Reply::new("404 Not Found", ""),
            "POST" => upload(Reply::new("202 Accepted", "")),
            "PUT" if length > 0 => Reply::new("413 Payload Too Large", ""),
            "PATCH" => {
                taken.lock().expect("lock").push(length);
                upload(Reply::new("202 Accepted", ""))
            }
            _ => Reply::new("201 Created", ""),
        }
    })
    .await;
    let to = reference(format!("{}/a/b:t", server.address));
    let whole = vec![1; (16 << 20) + 5];
    let outcome = client(config()).push_blob(&to, &upload(&whole, &[])).await;
    assert_eq!(outcome.expect("push"), Uploaded::Sent);
    assert_eq!(*sizes.lock().expect("lock"), [16 << 20, 5]);
}

#[tokio::test]
async fn a_push_that_is_not_allowed_says_so() {
    let server = Server::start(|_, _| {
        Reply::new(
            "403 Forbidden",
            r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#,
        )
    })
    .await;
    let to = reference(format!("{}/a/b:t", server.address));
    let err = client(config())
        .push_manifest(&to, MANIFEST, b"{}".to_vec().into())
        .await
        .expect_err("denied");
    assert!(matches!(err, Error::Unauthorized { .. }), "{err:?}");
    assert!(err.to_string().contains("read only"), "{err}");
}

#[tokio::test]
async fn a_login_keeps_the_refresh_token_and_a_token_is_then_had_with_it() {
    let server = Server::start(|seen, _| {
        let realm = format!("http://{}/token", seen.header("host").unwrap_or_default());
        match (seen.path.as_str(), seen.header("authorization")) {
            (path, Some(_)) if path.starts_with("/token?") => {
                Reply::ok(r#"{"token":"first","refresh_token":"keep"}"#)
            }
            ("/token", _) => Reply::ok(r#"{"access_token":"second"}"#),
            ("/v2/", Some("Bearer first")) => Reply::ok("{}"),
            (_, Some("Bearer second")) => Reply::ok(r#"{"tags":["t"]}"#),
            _ => Reply::new("401 Unauthorized", "").header(
                "www-authenticate",
                format!("Bearer realm=\"{realm}\",service=\"s\""),
            ),
        }
    })
    .await;
    let client = client(config());
    let given = Credentials::password("u", "p");
    // The first request carries the token that the proof gave.
    let kept = client.login(&server.address, given).await.expect("login");
    assert_eq!(
        kept,
        Credentials::Identity {
            token: "keep".to_owned()
        }
    );
    let client = client.with_credentials([(server.address.clone(), kept)].into());
    let of = reference(format!("{}/a/b:t", server.address));
    assert_eq!(client.tags(&of).await.expect("tags"), ["t"]);
    let asked: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|seen| seen.path == "/token")
        .collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].method, "POST");
    assert_eq!(
        asked[0].header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_the_registry_when_it_has_nothing() {
    let mirror = Server::start(|seen, _| match seen.path.as_str() {
        "/cache/v2/a/b/tags/list?ns=origin.example&n=1000" => Reply::ok(r#"{"tags":["m"]}"#),
        _ => Reply::new("404 Not Found", ""),
    })
    .await;
    let origin = Server::start(|_, _| Reply::ok(b"blob".to_vec())).await;
    let dir = tempfile::tempdir().expect("directory");
    let own = dir.path().join("origin.example");
    std::fs::create_dir(&own).expect("directory");
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}/cache\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        origin.address, mirror.address
    );
    std::fs::write(own.join("hosts.toml"), text).expect("file");
    let client = client(Config {
        hosts_dirs: vec![dir.path().to_path_buf()],
        ..config()
    });
    let of = reference("origin.example/a/b:t".to_owned());
    assert_eq!(client.tags(&of).await.expect("tags"), ["m"]);
    assert_eq!(pulled(&client, &of, b"blob").await, b"blob");
    let asked = mirror.seen().len();
    assert_eq!(asked, 2, "tags and one try of the blob");
    // The mirror may not be written to.
    client
        .push_manifest(&of, MANIFEST, b"{}".to_vec().into())
        .await
        .expect("push");
    assert_eq!(mirror.seen().len(), asked);
}
