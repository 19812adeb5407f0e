//! The two documents an image hangs on, as text from a stranger.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::{Descriptor, Digest};
use crate::values::Platform;

/// What a media type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// OCI's index or Docker's manifest list.
    Index,
    /// OCI's or Docker's manifest.
    Manifest,
    /// An image's config.
    Config,
    /// A layer, compressed or not.
    Layer,
    /// Anything else.
    Other,
}

/// Sorts a media type; parameters after `;` are ignored.
pub fn media_kind(media_type: &str) -> MediaKind {
    match media_type.split(';').next().unwrap_or_default().trim() {
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => MediaKind::Index,
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => MediaKind::Manifest,
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json" => MediaKind::Config,
        other if other.starts_with("application/vnd.oci.image.layer.") => MediaKind::Layer,
        other if other.starts_with("application/vnd.docker.image.rootfs.") => MediaKind::Layer,
        _ => MediaKind::Other,
    }
}

/// An index's entry.
#[derive(Debug, Clone)]
pub struct IndexEntry {
    /// A manifest, or another index.
    pub descriptor: Descriptor,
    /// What it is for; `None` if the index does not say.
    pub platform: Option<Platform>,
}

/// An index or a manifest.
#[derive(Debug, Clone)]
pub enum Document {
    /// One entry for each platform.
    Index {
        /// As listed.
        manifests: Vec<IndexEntry>,
    },
    /// One platform's image.
    Manifest {
        /// Its config.
        config: Descriptor,
        /// Lowest first.
        layers: Vec<Descriptor>,
    },
}

impl Document {
    /// Reads `bytes` as what `media_type` says; where it says nothing known,
    /// the document's own field decides.
    ///
    /// # Errors
    /// A sentence saying what is wrong, and where.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|err| err.to_string())?;
        if let Some(version) = raw.schema_version.filter(|version| *version != 2) {
            return Err(format!("schemaVersion is {version}, only 2 is supported"));
        }
        let mut kind = media_kind(media_type);
        if kind == MediaKind::Other {
            kind = media_kind(raw.media_type.as_deref().unwrap_or_default());
        }
        match (kind, raw.manifests, raw.config, raw.layers) {
            // A document that is both means different things to different readers.
            (MediaKind::Index, Some(entries), None, None) => {
                let manifests = entries
                    .into_iter()
                    .enumerate()
                    .map(|(at, entry)| entry.check(&format!("manifests/{at}")));
                Ok(Self::Index {
                    manifests: manifests.collect::<Result<_, _>>()?,
                })
            }
            (MediaKind::Index, None, None, None) => Ok(Self::Index {
                manifests: Vec::new(),
            }),
            (MediaKind::Manifest, None, Some(config), layers) => {
                let layers = layers.unwrap_or_default().into_iter().enumerate();
                let layers = layers.map(|(at, layer)| {
                    layer
                        .check(&format!("layers/{at}"))
                        .map(|entry| entry.descriptor)
                });
                Ok(Self::Manifest {
                    config: config.check("config")?.descriptor,
                    layers: layers.collect::<Result<_, _>>()?,
                })
            }
            (MediaKind::Manifest, None, None, _) => Err("it has no config".to_owned()),
            (MediaKind::Index | MediaKind::Manifest, ..) => {
                Err("it is an index and a manifest at once".to_owned())
            }
            _ => Err(format!(
                "media type {media_type:?} is neither an index nor a manifest"
            )),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<i64>,
    media_type: Option<String>,
    manifests: Option<Vec<RawEntry>>,
    config: Option<RawEntry>,
    layers: Option<Vec<RawEntry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl RawEntry {
    fn check(self, place: &str) -> Result<IndexEntry, String> {
        let digest =
            Digest::parse(&self.digest).map_err(|err| format!("/{place}/digest: {err}"))?;
        let size = u64::try_from(self.size)
            .map_err(|_| format!("/{place}/size: {} is negative", self.size))?;
        let platform = self.platform.map(|raw| {
            // Docker's arm64 entries name v8 or nothing, and mean the same.
            let variant = if raw.architecture == "arm64" && raw.variant.is_empty() {
                "v8".to_owned()
            } else {
                raw.variant
            };
            Platform {
                os: raw.os,
                architecture: raw.architecture,
                variant,
            }
        });
        let annotations = self.annotations.unwrap_or_default();
        Ok(IndexEntry {
            descriptor: Descriptor {
                media_type: self.media_type,
                digest,
                size,
                annotations,
            },
            platform,
        })
    }
}
