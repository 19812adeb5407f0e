//! The sandbox service, as containerd's sandbox controller calls it.

use prost::Message;
use proto::containerd::runtime::sandbox::v1::*;
use ttrpc_wire::{CallError, Code, Status};

use crate::lab::{Lab, in_lab};

const SERVICE: &str = "containerd.runtime.sandbox.v1.Sandbox";

async fn call<Resp: Message + Default>(
    lab: &Lab,
    method: &str,
    request: impl Message,
) -> Result<Resp, Status> {
    let client = lab.client("pod");
    let called = client.call(SERVICE, method, &request, None, &[]);
    match called.await {
        Err(CallError::Status(status)) => Err(status),
        other => Ok(other.unwrap()),
    }
}

async fn status(lab: &Lab) -> SandboxStatusResponse {
    let request = SandboxStatusRequest {
        sandbox_id: "pod".into(),
        verbose: true,
    };
    call(lab, "SandboxStatus", request).await.unwrap()
}

#[test]
fn a_sandbox_lives_with_its_containers_and_ends_them() {
    in_lab(async |lab| {
        let id = || "pod".to_owned();
        lab.make_bundle("pod", &["true"], |_| ());
        lab.start_shim("pod").await;
        let ping = PingRequest { sandbox_id: id() };
        let unknown = call::<PingResponse>(lab, "PingSandbox", ping.clone()).await;
        assert_eq!(unknown.unwrap_err().code, Code::NotFound);
        let create = CreateSandboxRequest {
            sandbox_id: id(),
            ..Default::default()
        };
        let _: CreateSandboxResponse = call(lab, "CreateSandbox", create.clone()).await.unwrap();
        let again = call::<CreateSandboxResponse>(lab, "CreateSandbox", create).await;
        assert_eq!(again.unwrap_err().code, Code::AlreadyExists);
        assert_eq!(status(lab).await.state, "SANDBOX_NOTREADY");
        let start = StartSandboxRequest { sandbox_id: id() };
        let started: StartSandboxResponse = call(lab, "StartSandbox", start).await.unwrap();
        assert_eq!(i32::try_from(started.pid).unwrap(), lab.shim_pid("pod"));
        assert!(started.created_at.is_some());
        assert_eq!(status(lab).await.state, "SANDBOX_READY");
        let _: PingResponse = call(lab, "PingSandbox", ping).await.unwrap();
        let platform = PlatformRequest { sandbox_id: id() };
        let platform: PlatformResponse = call(lab, "Platform", platform).await.unwrap();
        assert_eq!(platform.platform.unwrap().os, "linux");

        // A container in it, and none: the shim stays either way.
        lab.make_bundle("c", &["sleep", "1000"], |_| ());
        lab.share_client("pod", "c");
        lab.create(lab.request("c")).await.unwrap();
        lab.start("c", "").await.unwrap();
        assert_eq!(status(lab).await.info["containers"], "c");
        let metrics = SandboxMetricsRequest { sandbox_id: id() };
        let told: SandboxMetricsResponse = call(lab, "SandboxMetrics", metrics).await.unwrap();
        let metric = told.metrics.unwrap();
        assert_eq!(metric.id, "pod");
        assert!(metric.data.unwrap().type_url.contains("cgroups"));

        let wait = WaitSandboxRequest { sandbox_id: id() };
        let waiting = call::<WaitSandboxResponse>(lab, "WaitSandbox", wait);
        let stop = async {
            let request = StopSandboxRequest {
                sandbox_id: id(),
                timeout_secs: 1,
            };
            call::<StopSandboxResponse>(lab, "StopSandbox", request).await
        };
        let (waited, stopped) = tokio::join!(waiting, stop);
        stopped.unwrap();
        assert!(waited.unwrap().exited_at.is_some());
        // init has no handler for SIGTERM, so it had to be killed.
        assert_eq!(lab.wait("c", "").await, 137);
        assert_eq!(status(lab).await.state, "SANDBOX_NOTREADY");
        let down = ShutdownSandboxRequest { sandbox_id: id() };
        let _: ShutdownSandboxResponse = call(lab, "ShutdownSandbox", down).await.unwrap();
        lab.client("pod").closed().await;
        assert!(!lab.path("runc/test/c").exists());
    });
}

#[test]
fn an_unknown_method_of_the_sandbox_is_not_implemented() {
    in_lab(async |lab| {
        lab.make_bundle("pod", &["true"], |_| ());
        lab.start_shim("pod").await;
        let ping = PingRequest::default();
        let answer = call::<PingResponse>(lab, "NoSuchMethod", ping).await;
        assert_eq!(answer.unwrap_err().code, Code::Unimplemented);
    });
}
