//! Compiles every file under `protos` with protox: no protoc needed.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("protos");
    println!("cargo::rerun-if-changed=protos");
    let mut files = Vec::new();
    find_protos(root, &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [root])?;
    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        // An rpc called Connect collides with the generated constructor.
        .build_transport(false)
        .bytes(".containerd.services.content.v1")
        .bytes(".engine.v1")
        .compile_fds(descriptors)?;
    Ok(())
}

fn find_protos(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in dir.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            find_protos(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    Ok(())
}
