//! Events: what happens, for whoever subscribes.

use std::time::SystemTime;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use lite_core::{Envelope, Events, Kind, Namespace, Tasks};
use proto::containerd::services::events::v1 as wire;
use proto::containerd::types;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::wire::{any, namespace, timestamp, to_any};

/// The adapter over the event exchange.
#[derive(Clone)]
pub struct EventsApi {
    events: Events,
    tasks: Tasks,
}

impl EventsApi {
    /// An adapter of `events`; what is reported of a task goes by `tasks`.
    #[must_use]
    pub fn new(events: Events, tasks: Tasks) -> Self {
        Self { events, tasks }
    }
}

fn required(event: Option<prost_types::Any>) -> Result<lite_core::AnyValue, Status> {
    event
        .map(any)
        .ok_or_else(|| to_status(Kind::InvalidArgument.error("event is required")))
}

fn to_envelope(envelope: &Envelope) -> types::Envelope {
    types::Envelope {
        timestamp: timestamp(envelope.timestamp),
        namespace: envelope.namespace.to_string(),
        topic: envelope.topic.clone(),
        event: Some(to_any(envelope.event.clone())),
    }
}

#[tonic::async_trait]
impl wire::events_server::Events for EventsApi {
    async fn publish(
        &self,
        request: Request<wire::PublishRequest>,
    ) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        // Shims of old report by this call too, so a task's event takes its way.
        let envelope = Envelope {
            timestamp: SystemTime::now(),
            namespace: ns,
            topic: request.topic,
            event: required(request.event)?,
        };
        self.tasks.forward(envelope).await.map_err(to_status)?;
        Ok(Response::new(()))
    }

    async fn forward(
        &self,
        request: Request<wire::ForwardRequest>,
    ) -> Result<Response<()>, Status> {
        let envelope = request
            .into_inner()
            .envelope
            .ok_or_else(|| to_status(Kind::InvalidArgument.error("envelope is required")))?;
        let envelope = Envelope {
            timestamp: envelope
                .timestamp
                .and_then(|time| SystemTime::try_from(time).ok())
                .unwrap_or_else(SystemTime::now),
            namespace: Namespace::parse(&envelope.namespace).map_err(to_status)?,
            topic: envelope.topic,
            event: required(envelope.event)?,
        };
        self.tasks.forward(envelope).await.map_err(to_status)?;
        Ok(Response::new(()))
    }

    type SubscribeStream = BoxStream<'static, Result<types::Envelope, Status>>;

    /// Every namespace's events: a client that wants one names it in a filter.
    async fn subscribe(
        &self,
        request: Request<wire::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let subscription = self
            .events
            .subscribe(&request.into_inner().filters)
            .map_err(to_status)?;
        // An error of the subscription is its last word.
        let envelopes = stream::unfold(Some(subscription), |state| async {
            let mut subscription = state?;
            match subscription.recv().await {
                Ok(envelope) => Some((Ok(to_envelope(&envelope)), Some(subscription))),
                Err(err) => Some((Err(to_status(err)), None)),
            }
        });
        Ok(Response::new(envelopes.boxed()))
    }
}
