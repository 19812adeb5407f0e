//! URLs of streams: who gets one, and that it leads somewhere. The protocols
//! are tested where they are spoken.

use std::io::{Read, Write};
use std::net::TcpStream;

use proto::runtime::v1 as wire;
use tests::kubelet::{self, Kubelet, container, pod};
use tonic::Code;

/// Asks for the URL as a client of SPDY would, and returns the status line.
fn opened(url: &str) -> String {
    let rest = url.strip_prefix("http://").expect("an address");
    let (host, path) = rest.split_once('/').expect("a path");
    let mut stream = TcpStream::connect(host).expect("a server");
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_url_is_good_once_and_only_of_what_runs() {
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    kubelet.load_busybox(&stack);
    let config = pod(&stack, "p");
    let id = kubelet.run(&config);
    let one = kubelet.start(&id, &config, container("one", &["sleep", "1000"]));
    let exec = |container_id: &str, cmd: &[&str], stdout| {
        let request = wire::ExecRequest {
            container_id: container_id.to_owned(),
            cmd: cmd.iter().map(|&word| word.to_owned()).collect(),
            stdout,
            ..Default::default()
        };
        kubelet
            .ask(kubelet.runtime().exec(request))
            .map(|told| told.url)
    };
    let url = exec(&one, &["true"], true).expect("a URL");
    assert_eq!(opened(&url), "HTTP/1.1 101");
    assert_ne!(opened(&url), "HTTP/1.1 101", "a token is good once");
    assert_eq!(
        exec(&one, &["true"], false).unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(
        exec(&one, &[], true).unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(
        exec("nobody", &["true"], true).unwrap_err().code(),
        Code::NotFound
    );

    let request = wire::AttachRequest {
        container_id: one.clone(),
        stdout: true,
        ..Default::default()
    };
    let url = kubelet.ok(kubelet.runtime().attach(request)).url;
    assert_eq!(opened(&url), "HTTP/1.1 101");
    let forward = |ports: &[i32]| {
        let request = wire::PortForwardRequest {
            pod_sandbox_id: id.clone(),
            port: ports.to_vec(),
        };
        kubelet
            .ask(kubelet.runtime().port_forward(request))
            .map(|told| told.url)
    };
    assert_eq!(opened(&forward(&[80]).expect("a URL")), "HTTP/1.1 101");
    assert_eq!(
        forward(&[70_000]).unwrap_err().code(),
        Code::InvalidArgument
    );

    let request = wire::StopContainerRequest {
        container_id: one.clone(),
        timeout: 0,
    };
    kubelet.ok(kubelet.runtime().stop_container(request));
    assert_eq!(
        exec(&one, &["true"], true).unwrap_err().code(),
        Code::FailedPrecondition
    );
}
