//! Registries: push, login, search.

use engine::Engine;
use engine::accounts::{self, Search};
use engine::push::{Push, PushNews};
use futures_util::StreamExt;
use lite_core::{Credentials, Kind, Result};
use proto::engine::v1 as wire;
use proto::engine::v1::pull_image_response::Progress;
use proto::engine::v1::push_image_response::{Done, Message};
use tokio_stream::wrappers::ReceiverStream;

use super::Messages;
use super::images::signed;
use crate::api::status::to_status;

/// What proves who asks; `None` for nobody in particular.
pub(super) fn credentials(auth: wire::RegistryAuth) -> Option<Credentials> {
    let wire::RegistryAuth {
        username,
        password,
        identity_token,
        registry_token,
    } = auth;
    if !identity_token.is_empty() {
        return Some(Credentials::Identity {
            token: identity_token,
        });
    }
    if !registry_token.is_empty() {
        return Some(Credentials::Bearer {
            token: registry_token,
        });
    }
    (!username.is_empty()).then_some(Credentials::Password { username, password })
}

fn auth(credentials: Credentials) -> wire::RegistryAuth {
    let nothing = wire::RegistryAuth::default();
    match credentials {
        Credentials::Password { username, password } => wire::RegistryAuth {
            username,
            password,
            ..nothing
        },
        Credentials::Identity { token } => wire::RegistryAuth {
            identity_token: token,
            ..nothing
        },
        Credentials::Bearer { token } => wire::RegistryAuth {
            registry_token: token,
            ..nothing
        },
    }
}

pub(super) async fn push(
    engine: &Engine,
    request: wire::PushImageRequest,
) -> Result<Messages<wire::PushImageResponse>> {
    let request = Push {
        reference: request.reference,
        all_tags: request.all_tags,
        platform: request.platform,
        credentials: request.auth.and_then(credentials),
    };
    let news = engine::push::push(engine, request).await?;
    Ok(Box::pin(
        ReceiverStream::new(news).map(|news| news.map(told).map_err(to_status)),
    ))
}

fn told(news: PushNews) -> wire::PushImageResponse {
    let message = match news {
        PushNews::Progress {
            id,
            status,
            current,
            total,
        } => Message::Progress(Progress {
            id,
            status,
            current_bytes: signed(current),
            total_bytes: signed(total),
        }),
        PushNews::Done {
            reference,
            digest,
            size,
        } => Message::Done(Done {
            reference,
            digest,
            size_bytes: signed(size),
        }),
    };
    wire::PushImageResponse {
        message: Some(message),
    }
}

pub(super) async fn login(
    engine: &Engine,
    request: wire::LoginRequest,
) -> Result<wire::LoginResponse> {
    let domain = accounts::domain(&request.server)?;
    let shown = request.auth.and_then(credentials).ok_or_else(|| {
        Kind::InvalidArgument.error(format!("log in to {domain}: no user name was given"))
    })?;
    let keep = accounts::login(engine, &domain, shown).await?;
    Ok(wire::LoginResponse {
        domain,
        keep: Some(auth(keep)),
    })
}

pub(super) async fn search(
    engine: &Engine,
    request: wire::SearchImagesRequest,
) -> Result<wire::SearchImagesResponse> {
    let search = Search {
        term: request.term,
        limit: request.limit as usize,
        filters: request.filters,
        credentials: request.auth.and_then(credentials),
    };
    let hits = accounts::search(engine, search).await?.into_iter();
    let hits = hits.map(|hit| wire::search_images_response::Hit {
        name: hit.name,
        description: hit.description,
        stars: hit.stars,
        official: hit.official,
    });
    Ok(wire::SearchImagesResponse {
        hits: hits.collect(),
    })
}
