//! CRI as a kubelet calls it: both services of a daemon's socket, one call
//! after the other.

use std::future::Future;
use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use proto::runtime::v1 as wire;
use proto::runtime::v1::image_service_client::ImageServiceClient;
use proto::runtime::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use crate::stack::Stack;

/// The largest answer that a kubelet takes.
const LARGEST: usize = 16 << 20;

/// A client of one daemon. It connects with the first call, and again after
/// the daemon was started anew.
pub struct Kubelet {
    runtime: Runtime,
    channel: Channel,
}

impl Kubelet {
    /// One that calls `stack`'s daemon.
    ///
    /// # Panics
    /// When no event loop can be had.
    #[must_use]
    pub fn of(stack: &Stack) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("an event loop can be had");
        let socket = stack.socket();
        let channel = runtime.block_on(async { lazy(socket) });
        Self { runtime, channel }
    }

    /// Pods and containers.
    #[must_use]
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }

    /// Images.
    #[must_use]
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }

    /// Waits for a call's answer.
    ///
    /// # Errors
    /// The daemon's.
    pub fn ask<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.runtime.block_on(call).map(Response::into_inner)
    }

    /// Waits for a call's answer, which must not be a refusal.
    ///
    /// # Panics
    /// When it is.
    #[track_caller]
    pub fn ok<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> T {
        match self.ask(call) {
            Ok(answer) => answer,
            Err(status) => panic!("{:?}: {}", status.code(), status.message()),
        }
    }

    /// Waits for all messages of a stream.
    ///
    /// # Panics
    /// When it ends in an error.
    #[track_caller]
    pub fn all<T>(
        &self,
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Vec<T> {
        let mut stream = self.ok(call);
        let mut all = Vec::new();
        while let Some(message) = self
            .runtime
            .block_on(stream.message())
            .expect("the stream ends well")
        {
            all.push(message);
        }
        all
    }

    /// Waits for something else that this client has begun.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Pulls `reference` without credentials; returns its id.
    ///
    /// # Panics
    /// When it cannot be had.
    #[track_caller]
    pub fn pull(&self, reference: &str) -> String {
        let request = wire::PullImageRequest {
            image: Some(spec(reference)),
            ..Default::default()
        };
        self.ok(self.images().pull_image(request)).image_ref
    }
}

/// The image `reference`.
#[must_use]
pub fn spec(reference: &str) -> wire::ImageSpec {
    wire::ImageSpec {
        image: reference.to_owned(),
        ..Default::default()
    }
}

fn lazy(socket: PathBuf) -> Channel {
    let connect = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is never looked at: the connector knows the socket.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connect)
}
