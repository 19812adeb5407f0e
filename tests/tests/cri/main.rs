//! Kubernetes' CRI: what a kubelet asks of containerd-lite, call by call.

mod images;
mod status;
