//! The body of an answer, piece by piece, with a limit on silence.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

use crate::error::TransportError;

/// Fewer bytes than this within the idle timeout count as silence: a server
/// that drips would otherwise hold a transfer for ever.
const MIN_PROGRESS_BYTES: usize = 1024;

/// A body being read.
#[derive(Debug)]
pub(crate) struct Body {
    response: Response,
    idle_timeout: Duration,
    /// Time spent waiting since there last was progress. Time the reader
    /// spends elsewhere does not count.
    waited: Duration,
    trickle: usize,
}

/// Why there is no next piece.
#[derive(Debug)]
pub(crate) enum BodyError {
    Cut(TransportError),
    Stalled,
}

impl Body {
    pub(crate) fn new(response: Response, idle_timeout: Duration) -> Self {
        Self {
            response,
            idle_timeout,
            waited: Duration::ZERO,
            trickle: 0,
        }
    }

    /// The next piece, or `None` at the end. Dropping the future loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        let patience = self.idle_timeout.saturating_sub(self.waited);
        let began = Instant::now();
        let piece = tokio::time::timeout(patience, self.response.chunk()).await;
        self.waited += began.elapsed();
        match piece {
            Err(_elapsed) => Err(BodyError::Stalled),
            Ok(Err(err)) => Err(BodyError::Cut(err.into())),
            Ok(Ok(piece)) => {
                self.trickle += piece.as_ref().map_or(0, Bytes::len);
                if self.trickle >= MIN_PROGRESS_BYTES {
                    self.trickle = 0;
                    self.waited = Duration::ZERO;
                }
                Ok(piece)
            }
        }
    }

    /// Reads up to `limit` bytes to the end.
    ///
    /// Returns `None` when there are more.
    pub(crate) async fn collect(mut self, limit: u64) -> Result<Option<Bytes>, BodyError> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            if (all.len() as u64).saturating_add(piece.len() as u64) > limit {
                return Ok(None);
            }
            all.extend_from_slice(&piece);
        }
        Ok(Some(all.into()))
    }
}
