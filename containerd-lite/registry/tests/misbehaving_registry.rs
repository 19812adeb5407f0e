//! The client against a server that cuts, stalls, lies and redirects.

mod fixture;

use std::error::Error as _;
use std::time::{Duration, Instant};

use fixture::misbehaving::{Reply, Seen, Server};
use registry::{Client, Config, Credentials, Digest, Error, Reference, RetryPolicy};

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;
const MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Fast where the default is patient.
fn config() -> Config {
    Config {
        idle_timeout: Duration::from_millis(300),
        retry: RetryPolicy {
            attempts: 3,
            first_pause: Duration::from_millis(5),
            ..RetryPolicy::default()
        },
        ..Config::default()
    }
}

fn client() -> Client {
    Client::new(config()).expect("client")
}

fn reference(server: &Server) -> Reference {
    Reference::parse(&format!("{}/a/b:t", server.address)).expect("reference")
}

fn manifest_reply() -> Reply {
    Reply::ok(MANIFEST)
        .header("content-type", MEDIA_TYPE)
        .header("docker-content-digest", Digest::of(MANIFEST).to_string())
}

fn blob_bytes() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

async fn read_blob(client: &Client, server: &Server, whole: &[u8]) -> Result<Vec<u8>, Error> {
    let mut reader = client.blob(
        &reference(server),
        &Digest::of(whole),
        whole.len() as u64,
        0,
    )?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_cut_blob_goes_on_where_it_broke() {
    let whole = blob_bytes();
    let body = whole.clone();
    let server = Server::start(move |seen, before| match before {
        0 => Reply::range(&body, seen).cut_after(150_000),
        1 => Reply::range(&body, seen).cut_after(100_000),
        _ => Reply::range(&body, seen),
    })
    .await;
    assert_eq!(
        read_blob(&client(), &server, &whole).await.expect("blob"),
        whole
    );
    let ranges: Vec<_> = server.seen().iter().map(Seen::range_start).collect();
    assert_eq!(ranges, [None, Some(150_000), Some(250_000)]);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start_again() {
    let whole = blob_bytes();
    let body = whole.clone();
    let server = Server::start(move |_, before| match before {
        0 => Reply::ok(body.clone()).cut_after(150_000),
        _ => Reply::ok(body.clone()),
    })
    .await;
    assert_eq!(
        read_blob(&client(), &server, &whole).await.expect("blob"),
        whole
    );
}

#[tokio::test]
async fn a_server_that_sends_another_range_is_refused() {
    let whole = blob_bytes();
    let body = whole.clone();
    let server = Server::start(move |seen, before| match before {
        0 => Reply::range(&body, seen).cut_after(150_000),
        _ => Reply::new("206 Partial Content", &body[7..]).header("content-range", "bytes 7-9/10"),
    })
    .await;
    let err = read_blob(&client(), &server, &whole)
        .await
        .expect_err("range");
    assert!(matches!(err, Error::Protocol { .. }), "{err:?}");
}

#[tokio::test]
async fn a_blob_that_is_always_cut_ends_in_an_error_with_its_progress() {
    let whole = blob_bytes();
    let body = whole.clone();
    let server = Server::start(move |seen, _| Reply::range(&body, seen).cut_after(1000)).await;
    let err = read_blob(&client(), &server, &whole)
        .await
        .expect_err("cut");
    assert_eq!(
        err.to_string(),
        format!(
            "connection to registry {} was cut after 3000 bytes of blob {}",
            server.address,
            Digest::of(&whole)
        )
    );
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_pause_the_registry_asks_for_is_kept() {
    let server = Server::start(|_, before| match before {
        0 => Reply::new("429 Too Many Requests", "").header("retry-after", "1"),
        1 => Reply::new("503 Service Unavailable", ""),
        _ => manifest_reply(),
    })
    .await;
    let began = Instant::now();
    let resolved = client()
        .resolve(&reference(&server))
        .await
        .expect("resolve");
    assert_eq!(resolved.digest, Digest::of(MANIFEST));
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "the pause was cut short"
    );
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_limit_that_lasts_too_long_is_an_error_at_once() {
    let server = Server::start(|_, _| {
        Reply::new(
            "429 Too Many Requests",
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"you have reached\nyour limit"}]}"#,
        )
        .header("retry-after", "3600")
    })
    .await;
    let digest = Digest::of(MANIFEST);
    let err = client()
        .manifest(&reference(&server), &digest)
        .await
        .expect_err("limit");
    assert_eq!(
        err.to_string(),
        format!(
            "registry {} is unavailable: 429 Too Many Requests: you have reached your limit",
            server.address
        )
    );
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_registry_that_never_answers_is_an_error() {
    let server = Server::start(|_, _| Reply::ok(MANIFEST).silent_after(0)).await;
    let err = client()
        .manifest(&reference(&server), &Digest::of(MANIFEST))
        .await
        .expect_err("stall");
    assert!(matches!(err, Error::Stalled { .. }), "{err:?}");
    assert!(err.to_string().ends_with("for 0.3 s"), "{err}");
}

#[tokio::test]
async fn a_blob_that_stalls_is_an_error_after_bounded_attempts() {
    let whole = blob_bytes();
    let body = whole.clone();
    let server = Server::start(move |seen, _| Reply::range(&body, seen).silent_after(10)).await;
    let err = read_blob(&client(), &server, &whole)
        .await
        .expect_err("stall");
    assert!(matches!(err, Error::Stalled { .. }), "{err:?}");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn an_endless_manifest_stops_at_the_limit() {
    let server = Server::start(|_, _| manifest_reply().endless()).await;
    let client = Client::new(Config {
        max_manifest_bytes: 10_000,
        ..config()
    })
    .expect("client");
    let err = client
        .manifest(&reference(&server), &Digest::of(MANIFEST))
        .await
        .expect_err("endless");
    assert!(
        matches!(err, Error::TooLarge { limit: 10_000, .. }),
        "{err:?}"
    );
}

#[tokio::test]
async fn an_endless_blob_stops_at_its_size() {
    let whole = blob_bytes();
    let body = whole.clone();
    let server = Server::start(move |_, _| Reply::ok(body.clone()).endless()).await;
    let err = read_blob(&client(), &server, &whole)
        .await
        .expect_err("endless");
    assert!(matches!(err, Error::TooLarge { .. }), "{err:?}");
}

#[tokio::test]
async fn a_blob_of_another_length_is_refused() {
    let whole = blob_bytes();
    let server = Server::start(|_, _| Reply::ok("short")).await;
    let err = read_blob(&client(), &server, &whole)
        .await
        .expect_err("size");
    assert!(
        matches!(
            err,
            Error::SizeMismatch {
                expected: 400_000,
                actual: 5,
                ..
            }
        ),
        "{err:?}"
    );
}

#[tokio::test]
async fn a_manifest_with_another_digest_is_refused_naming_both() {
    let server = Server::start(|_, _| {
        Reply::ok("other bytes")
            .header("content-type", MEDIA_TYPE)
            .header("docker-content-digest", Digest::of(MANIFEST).to_string())
    })
    .await;
    let err = client()
        .manifest(&reference(&server), &Digest::of(MANIFEST))
        .await
        .expect_err("digest");
    let text = err.to_string();
    assert!(matches!(err, Error::DigestMismatch { .. }), "{err:?}");
    assert!(text.contains(Digest::of(MANIFEST).as_str()), "{text}");
    assert!(text.contains(Digest::of(b"other bytes").as_str()), "{text}");
}

#[tokio::test]
async fn a_header_digest_is_verified_when_a_tag_is_fetched() {
    // Without a length HEAD is of no use, so the manifest itself is fetched.
    let server = Server::start(|seen, _| {
        let lying = Reply::ok("other bytes")
            .header("docker-content-digest", Digest::of(MANIFEST).to_string());
        if seen.method == "HEAD" {
            Reply::new("405 Method Not Allowed", "")
        } else {
            lying
        }
    })
    .await;
    let err = client()
        .resolve(&reference(&server))
        .await
        .expect_err("digest");
    assert!(matches!(err, Error::DigestMismatch { .. }), "{err:?}");
}

#[tokio::test]
async fn a_registry_without_head_is_asked_by_get() {
    let server = Server::start(|seen, _| match seen.method.as_str() {
        "HEAD" => Reply::new("405 Method Not Allowed", ""),
        _ => Reply::ok(MANIFEST).header("content-type", format!("{MEDIA_TYPE}; charset=utf-8")),
    })
    .await;
    let resolved = client()
        .resolve(&reference(&server))
        .await
        .expect("resolve");
    assert_eq!(resolved.digest, Digest::of(MANIFEST));
    assert_eq!(resolved.media_type, MEDIA_TYPE);
    assert_eq!(resolved.bytes.as_deref(), Some(MANIFEST));
}

#[tokio::test]
async fn a_redirect_does_not_show_the_authorization_to_another_host() {
    let whole = blob_bytes();
    let body = whole.clone();
    let storage = Server::start(move |seen, _| Reply::range(&body, seen)).await;
    let target = format!("http://{}/bucket?signature=x", storage.address);
    let server =
        Server::start(
            move |seen, _| match (seen.header("authorization"), seen.path.as_str()) {
                (None, _) => {
                    Reply::new("401 Unauthorized", "").header("www-authenticate", "Basic realm=x")
                }
                (Some(_), "/v2/same") => {
                    Reply::new("307 Temporary Redirect", "").header("location", target.clone())
                }
                (Some(_), _) => Reply::new("302 Found", "").header("location", "/v2/same"),
            },
        )
        .await;
    let credentials = Credentials::password("me", "secret");
    let client = Client::new(Config {
        credentials: [(server.address.clone(), credentials)].into(),
        ..config()
    })
    .expect("client");
    assert_eq!(
        read_blob(&client, &server, &whole).await.expect("blob"),
        whole
    );
    let on_registry: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.header("authorization").map(str::to_owned))
        .collect();
    let basic = Some("Basic bWU6c2VjcmV0".to_owned());
    assert_eq!(on_registry, [None, basic.clone(), basic]);
    assert_eq!(storage.seen().len(), 1);
    assert_eq!(storage.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_storage_server_that_asks_for_a_password_gets_none() {
    let storage = Server::start(|_, _| {
        Reply::new("401 Unauthorized", "").header("www-authenticate", "Basic realm=x")
    })
    .await;
    let target = format!("http://{}/bucket", storage.address);
    let server = Server::start(move |_, _| {
        Reply::new("307 Temporary Redirect", "").header("location", target.clone())
    })
    .await;
    let credentials = Credentials::password("me", "secret");
    let client = Client::new(Config {
        credentials: [(server.address.clone(), credentials)].into(),
        ..config()
    })
    .expect("client");
    let err = read_blob(&client, &server, b"x").await.expect_err("denied");
    assert!(matches!(err, Error::Unauthorized { .. }), "{err:?}");
    assert_eq!(storage.seen().len(), 1);
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let server =
        Server::start(|_, _| Reply::new("302 Found", "").header("location", "/v2/again")).await;
    let err = client()
        .resolve(&reference(&server))
        .await
        .expect_err("circle");
    assert!(err.to_string().contains("more than 5 redirects"), "{err}");
}

#[tokio::test]
async fn a_token_is_fetched_once_and_shown_from_then_on() {
    let tokens = Server::start(|_, _| Reply::ok(r#"{"token":"T0","expires_in":300}"#)).await;
    let realm = format!("http://{}/token", tokens.address);
    let server = Server::start(move |seen, _| match seen.header("authorization") {
        Some("Bearer T0") => manifest_reply(),
        _ => Reply::new("401 Unauthorized", "").header(
            "www-authenticate",
            format!(r#"Bearer realm="{realm}",service="reg",scope="repository:a/b:pull""#),
        ),
    })
    .await;
    let client = client();
    let resolved = client.resolve(&reference(&server)).await.expect("resolve");
    client
        .manifest(&reference(&server), &resolved.digest)
        .await
        .expect("manifest");
    assert_eq!(tokens.seen().len(), 1);
    assert_eq!(
        tokens.seen()[0].path,
        "/token?service=reg&scope=repository%3Aa%2Fb%3Apull"
    );
    assert_eq!(tokens.seen()[0].header("authorization"), None);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn the_password_goes_to_the_token_server_and_the_token_to_the_registry() {
    let tokens = Server::start(|seen, _| match seen.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => Reply::ok(r#"{"access_token":"T1"}"#),
        _ => Reply::new("401 Unauthorized", ""),
    })
    .await;
    let realm = format!("http://{}/token", tokens.address);
    let server = Server::start(move |seen, _| match seen.header("authorization") {
        Some("Bearer T1") => manifest_reply(),
        _ => Reply::new("401 Unauthorized", "")
            .header("www-authenticate", format!(r#"Bearer realm="{realm}""#)),
    })
    .await;
    let err = client()
        .resolve(&reference(&server))
        .await
        .expect_err("anonymous");
    assert!(matches!(err, Error::Unauthorized { .. }), "{err:?}");

    let credentials = Credentials::password("me", "secret");
    assert!(!format!("{credentials:?}").contains("secret"));
    let client = Client::new(Config {
        credentials: [(server.address.clone(), credentials)].into(),
        ..config()
    })
    .expect("client");
    assert!(client.resolve(&reference(&server)).await.is_ok());
}

#[tokio::test]
async fn a_registry_that_is_away_is_unreachable_by_name() {
    let address = Server::start(|_, _| Reply::ok("")).await.address.clone();
    let reference = Reference::parse(&format!("{address}/a")).expect("reference");
    let err = client().resolve(&reference).await.expect_err("away");
    assert_eq!(
        err.to_string(),
        format!("registry {address} is unreachable")
    );
    let source = err.source().expect("source").to_string();
    assert_eq!(source, "Connection refused (os error 111)");
}
