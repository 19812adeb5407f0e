//! Answers that are not what was asked for, as errors.

use std::time::{Duration, SystemTime};

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::body::Body;
use crate::endpoint::host_of;
use crate::error::Error;

/// Error documents are a line or two; what is longer is not read.
const MAX_DOCUMENT_BYTES: u64 = 16 << 10;
/// How much of a server's own words goes into a message.
const MAX_DETAIL_CHARS: usize = 200;

/// Turns an answer other than success into an error about `subject` of
/// `repository`.
pub(crate) async fn error(
    response: Response,
    repository: &str,
    subject: &str,
    patience: Duration,
) -> Error {
    let status = response.status();
    let host = host_of(response.url());
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| parse_retry_after(text, SystemTime::now()));
    let detail = detail(response, patience).await;
    match status {
        StatusCode::NOT_FOUND => Error::NotFound {
            subject: subject.to_owned(),
            host,
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Unauthorized {
            repository: repository.to_owned(),
            host,
            detail,
        },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Error::Unavailable {
            host,
            status: status.to_string(),
            detail,
            retry_after,
        },
        status if status.is_server_error() => Error::Unavailable {
            host,
            status: status.to_string(),
            detail,
            retry_after,
        },
        status => Error::Refused {
            host,
            subject: subject.to_owned(),
            status: status.to_string(),
            detail,
        },
    }
}

/// Seconds, or the date of RFC 9110, section 10.2.3.
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

/// The distribution-spec's error document.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// `: what the server says`, or nothing.
async fn detail(response: Response, patience: Duration) -> String {
    let Ok(Some(bytes)) = Body::new(response, patience)
        .collect(MAX_DOCUMENT_BYTES)
        .await
    else {
        return String::new();
    };
    let Ok(document) = serde_json::from_slice::<Document>(&bytes) else {
        return String::new();
    };
    let said = document
        .errors
        .into_iter()
        .next()
        .map_or_else(String::new, |entry| {
            if entry.message.is_empty() {
                entry.code
            } else {
                entry.message
            }
        });
    let said: String = said
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_DETAIL_CHARS)
        .collect();
    if said.is_empty() {
        said
    } else {
        format!(": {said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let parse = |text| parse_retry_after(text, now).map(|pause| pause.as_secs());
        assert_eq!(parse("17"), Some(17));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:27 GMT"), Some(0));
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-1"), None);
    }
}
