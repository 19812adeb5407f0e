//! Kubernetes' CRI: what a kubelet asks of containerd-lite, call by call.

mod containers;
mod images;
mod logs;
mod plugins;
mod pods;
mod restart;
mod security;
mod stats;
mod status;
mod streams;
