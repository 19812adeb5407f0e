//! A file of the web that is in no registry, by its address: no authorization, and nothing of `hosts.toml` but what holds for
//! every server.

use bytes::Bytes;
use reqwest::Url;

use crate::body::{Body, BodyError};
use crate::client::Client;
use crate::endpoint::host_of;
use crate::error::Error;
use crate::hosts::Host;
use crate::refusal;
use crate::transport::Question;

/// A file on its way.
#[derive(Debug)]
pub struct Download {
    body: Body,
    host: String,
    subject: String,
    received: u64,
    length: Option<u64>,
    patience: std::time::Duration,
}

impl Client {
    /// Asks for the file at `address`, which is `http://` or `https://`.
    ///
    /// # Errors
    /// [`Error::Protocol`] for what is no address; [`Error::NotFound`], [`Error::Refused`] and the like for what the server
    /// says; [`Error::Unreachable`].
    pub async fn download(&self, address: &str) -> Result<Download, Error> {
        let bad = |what: &str| Error::Protocol {
            host: String::new(),
            subject: address.to_owned(),
            what: what.to_owned(),
        };
        let url = Url::parse(address).map_err(|_| bad("it is no address"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(bad("it is not the address of a web server"));
        }
        let transport = self.transport(&Host::plain(url.clone()))?;
        // Without what may be a secret: a user's name, a query.
        let subject = format!("{}{}", host_of(&url), url.path());
        let question = Question::get(url, subject.clone(), "*/*");
        let mut failed = 0;
        let response = loop {
            let err = match transport.ask(&question, None).await {
                Ok(response) if response.status().is_success() => break response,
                Ok(response) => {
                    let patience = self.config().idle_timeout;
                    refusal::error(response, &subject, &subject, patience).await
                }
                Err(err) => err,
            };
            self.pause_or_give_up(&mut failed, err).await?;
        };
        Ok(Download {
            host: host_of(response.url()),
            subject,
            received: 0,
            length: response.content_length(),
            patience: self.config().idle_timeout,
            body: Body::new(response, self.config().idle_timeout),
        })
    }
}

impl Download {
    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// [`Error::Cut`] and [`Error::Stalled`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let cut = |source| Error::Cut {
            host: self.host.clone(),
            subject: self.subject.clone(),
            received: self.received,
            source,
        };
        match self.body.next().await {
            Ok(Some(piece)) => {
                self.received += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(None) if self.length.is_some_and(|length| length != self.received) => Err(cut(None)),
            Ok(None) => Ok(None),
            Err(BodyError::Cut(err)) => Err(cut(Some(err))),
            Err(BodyError::Stalled) => Err(Error::Stalled {
                host: self.host.clone(),
                subject: self.subject.clone(),
                waited: self.patience,
            }),
        }
    }
}
