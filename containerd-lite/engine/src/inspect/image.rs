//! `ImageInspect` of the Engine API.

use std::collections::BTreeMap;

use oci_spec::image::{Config, ImageConfiguration};
use serde_json::{Value, json};

use super::{list_or_null, set_or_null};

/// What an inspection of an image shows.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Digest of the configuration.
    pub id: &'a str,
    /// Familiar `name:tag` of every name it has.
    pub tags: &'a [String],
    /// Familiar `name@digest` of every repository it is known in.
    pub digests: &'a [String],
    /// Media type, digest and size of what the name points to.
    pub descriptor: (&'a str, &'a str, u64),
    /// The image's own configuration.
    pub configuration: &'a ImageConfiguration,
    /// Bytes of the unpacked layers.
    pub size: u64,
    /// Digests of the unpacked layers.
    pub layers: &'a [String],
    /// When the name was last set, RFC 3339.
    pub tagged_at: &'a str,
}

/// The object, as `docker image inspect` prints it inside its list.
#[must_use]
pub fn json(inputs: &Inputs<'_>) -> Value {
    let image = inputs.configuration;
    let (media_type, digest, size) = inputs.descriptor;
    json!({
        "Id": inputs.id,
        "RepoTags": inputs.tags,
        "RepoDigests": inputs.digests,
        // Of its last step.
        "Comment": image.history().as_ref().and_then(|steps| steps.last()).and_then(|step| step.comment().as_deref()).unwrap_or_default(),
        "Created": image.created(),
        "Author": image.author().as_deref().unwrap_or_default(),
        "Config": image.config().as_ref().map(config),
        "Architecture": image.architecture().to_string(),
        "Variant": image.variant().as_deref().unwrap_or_default(),
        "Os": image.os().to_string(),
        "OsVersion": image.os_version().as_deref().unwrap_or_default(),
        "Size": inputs.size,
        "GraphDriver": { "Data": null, "Name": "overlayfs" },
        "RootFS": { "Type": "layers", "Layers": inputs.layers },
        "Metadata": { "LastTagTime": inputs.tagged_at },
        "Descriptor": { "mediaType": media_type, "digest": digest, "size": size },
    })
}

fn config(config: &Config) -> Value {
    let set = |list: &Option<Vec<String>>| set_or_null(list.as_deref().unwrap_or_default());
    let labels = config
        .labels()
        .as_ref()
        .map(|l| l.iter().collect::<BTreeMap<_, _>>());
    let mut object = json!({
        "User": config.user().as_deref().unwrap_or_default(),
        "Env": list_or_null(config.env().as_ref()),
        "Cmd": list_or_null(config.cmd().as_ref()),
        "Volumes": set(config.volumes()),
        "WorkingDir": config.working_dir().as_deref().unwrap_or_default(),
        "Entrypoint": list_or_null(config.entrypoint().as_ref()),
        "OnBuild": null,
        "Labels": labels,
    });
    if config.exposed_ports().is_some() {
        object["ExposedPorts"] = set(config.exposed_ports());
    }
    if let Some(signal) = config.stop_signal() {
        object["StopSignal"] = json!(signal);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image() {
        let configuration: ImageConfiguration = serde_json::from_value(json!({
            "created": "2024-01-02T03:04:05Z",
            "architecture": "amd64",
            "os": "linux",
            "config": { "Env": ["A=1"], "Cmd": ["sh"], "Labels": {"b": "2", "a": "1"}, "Volumes": {"/data": {}} },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:11"] },
        }))
        .unwrap();
        let object = super::json(&Inputs {
            id: "sha256:aa",
            tags: &["busybox:latest".to_owned()],
            digests: &["busybox@sha256:bb".to_owned()],
            descriptor: ("application/vnd.oci.image.manifest.v1+json", "sha256:bb", 7),
            configuration: &configuration,
            size: 42,
            layers: &["sha256:11".to_owned()],
            tagged_at: "2024-01-02T03:04:06Z",
        });
        insta::assert_snapshot!(serde_json::to_string_pretty(&object).unwrap());
    }
}
