//! What happens to containers, as a stream.

use cri::Cri;
use cri::containers::{self, ContainerFilter};
use cri::events::{Event, What};
use cri::pods;
use futures_util::stream;
use proto::runtime::v1 as wire;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use super::{Messages, nanos, records};

/// Everything from now on. A client that is too slow is told so at the end.
pub(super) fn stream(cri: &Cri) -> Messages<wire::ContainerEventResponse> {
    let listener = cri.listen();
    let cri = cri.clone();
    Box::pin(stream::unfold(Some(listener), move |listener| {
        let cri = cri.clone();
        async move {
            let mut listener = listener?;
            match listener.recv().await {
                Ok(event) => Some((Ok(told(&cri, &event)), Some(listener))),
                Err(RecvError::Lagged(missed)) => {
                    let status =
                        Status::data_loss(format!("{missed} events were missed: list again"));
                    Some((Err(status), None))
                }
                Err(RecvError::Closed) => None,
            }
        }
    }))
}

fn told(cri: &Cri, event: &Event) -> wire::ContainerEventResponse {
    let of_pod = ContainerFilter {
        pod: event.pod.clone(),
        ..ContainerFilter::default()
    };
    let containers = containers::list(cri, &of_pod);
    let pod = pods::get(cri, &event.pod).ok();
    wire::ContainerEventResponse {
        container_id: event.container.clone(),
        container_event_type: match event.what {
            What::Created => wire::ContainerEventType::ContainerCreatedEvent,
            What::Started => wire::ContainerEventType::ContainerStartedEvent,
            What::Stopped => wire::ContainerEventType::ContainerStoppedEvent,
            What::Deleted => wire::ContainerEventType::ContainerDeletedEvent,
        }
        .into(),
        created_at: nanos(event.at),
        pod_sandbox_status: pod.map(|pod| records::pod_status(&pod)),
        containers_statuses: containers
            .iter()
            .map(|one| records::container_status(one))
            .collect(),
    }
}
