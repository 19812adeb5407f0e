//! One stream of writes: each request is answered by one response, until the
//! commit or the client's end.
//!
//! The first request names the reference and begins or resumes its ingest. Later
//! ones may still say what is expected. An offset of 0 with bytes already there
//! starts over; any other offset must be the current one. When the stream ends
//! without a commit, what was written stays, to be resumed.

use futures_util::stream::{self, BoxStream, StreamExt as _};
use lite_core::{ContentStore, Digest, Error, Ingest, Kind, Namespace, Result, blocking};
use proto::containerd::services::content::v1 as wire;
use tonic::{Status, Streaming};

use crate::api::status::to_status;
use crate::api::wire::{expected, labels, signed, timestamp, unsigned};

/// The writer's side of the stream.
pub(super) struct Session {
    store: ContentStore,
    ns: Namespace,
    lease: Option<String>,
    open: Option<Open>,
}

/// The ingest being written, and what it should become.
struct Open {
    ingest: Ingest,
    digest: Option<Digest>,
    total: Option<u64>,
}

impl Session {
    pub(super) fn new(store: ContentStore, ns: Namespace, lease: Option<String>) -> Self {
        Self {
            store,
            ns,
            lease,
            open: None,
        }
    }

    /// Answers every request of `requests`; ends after a commit or an error.
    pub(super) fn answers(
        self,
        requests: Streaming<wire::WriteContentRequest>,
    ) -> BoxStream<'static, std::result::Result<wire::WriteContentResponse, Status>> {
        let answers = stream::try_unfold(Some((self, requests)), |state| async move {
            let Some((session, mut requests)) = state else {
                return Ok(None);
            };
            let Some(request) = requests.message().await? else {
                return Ok(None);
            };
            let commit = request.action() == wire::WriteAction::Commit;
            // The session moves to the blocking thread and back.
            let answered = blocking(move || {
                let mut session = session;
                let answer = session.answer(request);
                Ok((session, answer))
            });
            let (session, answer) = answered.await.map_err(to_status)?;
            let next = if commit {
                None
            } else {
                Some((session, requests))
            };
            Ok(Some((answer?, next)))
        });
        answers.boxed()
    }

    fn answer(
        &mut self,
        request: wire::WriteContentRequest,
    ) -> std::result::Result<wire::WriteContentResponse, Status> {
        let wanted = expected(&request.expected, request.total)?;
        let action = request.action();
        if self.open.is_none() {
            if request.r#ref.is_empty() {
                return Err(Status::invalid_argument(
                    "first message must have a reference: invalid argument",
                ));
            }
            let begun = self.store.ingest(
                &self.ns,
                self.lease.as_deref(),
                &request.r#ref,
                wanted.clone(),
            );
            self.open = Some(Open {
                ingest: begun.map_err(to_status)?,
                digest: None,
                total: None,
            });
        }
        let Some(open) = &mut self.open else {
            return Err(Status::internal("no ingest"));
        };
        if let Some(digest) = wanted.digest
            && open.digest.as_ref() != Some(&digest)
        {
            if self.store.info(&self.ns, &digest).is_ok() {
                return Err(self.stored_meanwhile(&digest));
            }
            open.digest = Some(digest);
        }
        open.total = wanted.size.or(open.total);
        if action != wire::WriteAction::Stat {
            let offset = unsigned(request.offset, "offset")?;
            open.write(offset, &request.data).map_err(to_status)?;
        }
        let mut answer = open.answer(action);
        if action == wire::WriteAction::Commit {
            let (total, digest) = (open.total, open.digest.clone());
            let info = open
                .ingest
                .commit(total, digest.as_ref(), &labels(request.labels))
                .map_err(to_status)?;
            answer.digest = info.digest.to_string();
        }
        Ok(answer)
    }

    /// The digest that the writer now tells is stored already: its ingest is
    /// of no use.
    fn stored_meanwhile(&mut self, digest: &Digest) -> Status {
        if let Some(open) = self.open.take()
            && let Err(err) = open.ingest.discard()
        {
            tracing::warn!(error = %lite_core::chain(&err), "drop an ingest that is not needed");
        }
        to_status(Kind::AlreadyExists.error(format!(
            "blob with expected digest {digest} exists: already exists"
        )))
    }
}

impl Open {
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let held = self.ingest.offset();
        if offset == 0 && held > 0 {
            self.ingest.truncate(0)?;
        } else if offset > 0 && offset != held {
            return Err(out_of_range(offset, held));
        }
        self.ingest.write(data)
    }

    fn answer(&self, action: wire::WriteAction) -> wire::WriteContentResponse {
        wire::WriteContentResponse {
            action: action.into(),
            started_at: timestamp(self.ingest.started_at()),
            updated_at: timestamp(std::time::SystemTime::now()),
            offset: signed(self.ingest.offset()),
            total: signed(
                self.total
                    .or_else(|| self.ingest.total())
                    .unwrap_or_default(),
            ),
            digest: self.ingest.digest().to_string(),
        }
    }
}

fn out_of_range(offset: u64, held: u64) -> Error {
    Kind::OutOfRange.error(format!(
        "write @{offset} must occur at current offset {held}: out of range"
    ))
}
