//! One pass over an image archive.
//!
//! Files come in any order, and only at the end is it known which of them are
//! layers. So every file but the documents by known names is stored as a blob;
//! what turns out to be of no use has no reference and is collected.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use crate::content::{ContentStore, Ingest};
use crate::digest::{Descriptor, Digest};
use crate::error::{Error, Kind, Result, chain};
use crate::labels::Labels;
use crate::layers::tar::{Header, Kind as EntryKind, Reader};
use crate::namespace::Namespace;

use super::bridge::Input;

/// The documents that say what an archive is.
const DOCUMENTS: [&str; 3] = ["oci-layout", "index.json", "manifest.json"];
/// The largest of them.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;
/// An image has at most some hundreds of layers with three files each.
const MAX_ENTRIES: usize = 100_000;
/// Longer names do not occur; each is kept in memory.
const MAX_NAME_BYTES: usize = 4096;
/// Links to links deeper than this are loops.
const MAX_LINKS: usize = 8;
/// Where an image layout keeps its blobs.
const BLOBS: &str = "blobs/sha256/";
/// Enough to tell a compressed layer.
const MAGIC_BYTES: usize = 4;

/// What was found in an archive.
#[derive(Debug, Default)]
pub(super) struct Contents {
    documents: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, StoredFile>,
    links: BTreeMap<String, String>,
}

/// A file of the archive that is in the content store.
#[derive(Debug, Clone)]
pub(super) struct StoredFile {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) compression: Compression,
}

/// How a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(bytes: &[u8]) -> Self {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
}

impl Contents {
    /// One of the documents by known names.
    pub(super) fn document(&self, name: &str) -> Option<&[u8]> {
        self.documents.get(name).map(Vec::as_slice)
    }

    /// The stored file `name`, links followed.
    pub(super) fn file(&self, name: &str) -> Option<&StoredFile> {
        let mut name = name;
        for _ in 0..MAX_LINKS {
            match self.links.get(name) {
                Some(target) => name = target,
                None => return self.blobs.get(name),
            }
        }
        None
    }
}

/// The name that an image layout has for a blob.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

/// Reads a whole archive from `input` into the store, held by `lease`.
pub(super) fn read(
    content: &ContentStore,
    ns: &Namespace,
    lease: &str,
    mut input: Input,
) -> Result<Contents> {
    let magic = input.fill_buf().map_err(stream_fault)?;
    let plain: Box<dyn BufRead + '_> = match Compression::of(magic) {
        Compression::Plain => Box::new(input),
        Compression::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(input))),
        Compression::Zstd => Box::new(BufReader::new(
            zstd::Decoder::with_buffer(input).map_err(stream_fault)?,
        )),
    };
    let mut pass = Pass {
        content,
        ns,
        lease,
        tar: Reader::new(plain),
        contents: Contents::default(),
        entries: 0,
    };
    while let Some(header) = pass.tar.next().map_err(stream_fault)? {
        pass.entry(&header)?;
    }
    Ok(pass.contents)
}

struct Pass<'a, R> {
    content: &'a ContentStore,
    ns: &'a Namespace,
    lease: &'a str,
    tar: Reader<R>,
    contents: Contents,
    entries: usize,
}

impl<R: BufRead> Pass<'_, R> {
    fn entry(&mut self, header: &Header) -> Result<()> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(
                Kind::ResourceExhausted.error(format!("more than {MAX_ENTRIES} entries in it"))
            );
        }
        let name = clean_name(&header.path)?;
        let bad = |what: &str| Kind::InvalidArgument.error(format!("entry {name:?} {what}"));
        match header.kind {
            EntryKind::Directory => return Ok(()),
            _ if name.is_empty() => return Err(bad("has no name")),
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                return Err(bad("is a device, which no image archive has"));
            }
            EntryKind::Symlink | EntryKind::HardLink => {
                let target = link_target(&name, header).ok_or_else(|| {
                    bad(&format!(
                        "links to {:?}, outside the archive",
                        lossy(&header.target)
                    ))
                })?;
                return self.once(&name, |contents, name| {
                    contents.links.insert(name, target).is_none()
                });
            }
            EntryKind::File if header.segments.len() != 1 => return Err(bad("is a sparse file")),
            EntryKind::File => {}
        }
        if DOCUMENTS.contains(&name.as_str()) {
            let bytes = self.document(&name)?;
            return self.once(&name, |contents, name| {
                contents.documents.insert(name, bytes).is_none()
            });
        }
        if is_legacy(&name) {
            return Ok(());
        }
        let stored = self.blob(&name)?;
        self.once(&name, |contents, name| {
            contents.blobs.insert(name, stored).is_none()
        })
    }

    /// A name that occurs twice could mean another thing to another reader.
    fn once(
        &mut self,
        name: &str,
        insert: impl FnOnce(&mut Contents, String) -> bool,
    ) -> Result<()> {
        if insert(&mut self.contents, name.to_owned()) {
            return Ok(());
        }
        Err(Kind::InvalidArgument.error(format!("entry {name:?} occurs twice")))
    }

    fn document(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let data = self.tar.data().map_err(stream_fault)?;
            if data.is_empty() {
                return Ok(bytes);
            }
            if (bytes.len() + data.len()) as u64 > MAX_DOCUMENT_BYTES {
                return Err(Kind::ResourceExhausted.error(format!(
                    "entry {name:?} is larger than the {MAX_DOCUMENT_BYTES} bytes allowed"
                )));
            }
            bytes.extend_from_slice(data);
            let len = data.len();
            self.tar.consume(len);
        }
    }

    /// Stores the entry's data. Where its name is a digest, they must have it.
    fn blob(&mut self, name: &str) -> Result<StoredFile> {
        let expected = name
            .strip_prefix(BLOBS)
            .map(|hex| Digest::parse(&format!("sha256:{hex}")))
            .transpose()
            .map_err(|_| {
                Kind::InvalidArgument.error(format!("entry {name:?} is not named by a digest"))
            })?;
        let reference = format!("{}-{}", self.lease, self.entries);
        let mut ingest = self
            .content
            .ingest(self.ns, Some(self.lease), &reference, None)?;
        match fill(&mut self.tar, &mut ingest) {
            Ok(compression) => self.commit(name, ingest, expected.as_ref(), compression),
            Err(err) => {
                // Nobody will resume it.
                discard(ingest);
                Err(err)
            }
        }
    }

    fn commit(
        &self,
        name: &str,
        mut ingest: Ingest,
        expected: Option<&Digest>,
        compression: Compression,
    ) -> Result<StoredFile> {
        let (digest, size) = (ingest.digest(), ingest.offset());
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            discard(ingest);
            return Err(Kind::DataLoss.error(format!(
                "entry {name:?} is corrupt: its bytes have digest {digest}, expected {expected}"
            )));
        }
        match ingest.commit(Some(size), Some(&digest), &Labels::new()) {
            Err(err) if err.kind() != Kind::AlreadyExists => {
                discard(ingest);
                Err(err)
            }
            // It was here before: this opens it once more under the lease.
            Err(_) => {
                let held = Descriptor {
                    media_type: String::new(),
                    digest: digest.clone(),
                    size,
                    annotations: BTreeMap::new(),
                };
                match self.content.ingest(
                    self.ns,
                    Some(self.lease),
                    &held.digest.to_string(),
                    Some(&held),
                ) {
                    Err(err) if err.kind() == Kind::AlreadyExists => Ok(StoredFile {
                        digest,
                        size,
                        compression,
                    }),
                    Err(err) => Err(err),
                    Ok(again) => {
                        discard(again);
                        Err(Kind::Aborted.error(format!(
                            "blob {digest} was removed while the archive was read"
                        )))
                    }
                }
            }
            Ok(_) => Ok(StoredFile {
                digest,
                size,
                compression,
            }),
        }
    }
}

/// Writes the data of the current entry.
fn fill<R: BufRead>(tar: &mut Reader<R>, ingest: &mut Ingest) -> Result<Compression> {
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    loop {
        let data = tar.data().map_err(stream_fault)?;
        if data.is_empty() {
            return Ok(Compression::of(&magic));
        }
        if magic.len() < MAGIC_BYTES {
            magic.extend_from_slice(&data[..data.len().min(MAGIC_BYTES - magic.len())]);
        }
        ingest.write(data)?;
        let len = data.len();
        tar.consume(len);
    }
}

fn discard(ingest: Ingest) {
    if let Err(err) = ingest.discard() {
        tracing::warn!(error = %chain(&err), "cannot drop an ingest");
    }
}

/// Whether the file is one that only Docker before 1.10 reads.
fn is_legacy(name: &str) -> bool {
    name == "repositories" || name.ends_with("/VERSION") || name.ends_with("/json")
}

/// A fault of the archive, unless the system says else.
fn stream_fault(err: std::io::Error) -> Error {
    if err.raw_os_error().is_some() || err.kind() == std::io::ErrorKind::ConnectionAborted {
        return Kind::Cancelled.error("read the archive").because(err);
    }
    Kind::InvalidArgument
        .error("not a tar archive, or a damaged one")
        .because(err)
}

/// A path without `./` and doubled slashes. The empty name is the root.
fn clean_name(path: &[u8]) -> Result<String> {
    let bad = |what: &str| {
        let shown: String = lossy(path).chars().take(200).collect();
        Kind::InvalidArgument.error(format!("entry {shown:?} {what}"))
    };
    if path.len() > MAX_NAME_BYTES {
        return Err(bad("has a name that is too long"));
    }
    let text = std::str::from_utf8(path).map_err(|_| bad("has a name that is not UTF-8"))?;
    if text.starts_with('/') {
        return Err(bad("has an absolute path"));
    }
    join("", text).ok_or_else(|| bad("leaves the archive"))
}

/// Where a link leads: a symbolic one from its directory, a hard one from the
/// root. `None` outside the archive.
fn link_target(name: &str, header: &Header) -> Option<String> {
    let target = std::str::from_utf8(&header.target).ok()?;
    let from = match header.kind {
        EntryKind::Symlink => name.rsplit_once('/').map_or("", |(dir, _)| dir),
        _ => "",
    };
    if target.starts_with('/') || target.len() > MAX_NAME_BYTES {
        return None;
    }
    // `..` of the archive's own entries is refused, but links of docker save
    // lead from one layer's directory to another's.
    resolve(from, target).filter(|target| !target.is_empty())
}

/// `path` below `base`; `None` if any part is `..`.
fn join(base: &str, path: &str) -> Option<String> {
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    resolve(base, path)
}

/// `path` as seen from `base`, by text alone; `None` above the root.
fn resolve(base: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_archive() {
        let name = |text: &str| clean_name(text.as_bytes()).ok();
        assert_eq!(name("./a//b/"), Some("a/b".to_owned()));
        assert_eq!(name("./"), Some(String::new()));
        for bad in ["/a", "../a", "a/../b", "a/.."] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
        assert!(clean_name(b"a\xff").is_err());
        assert!(clean_name(&vec![b'a'; MAX_NAME_BYTES + 1]).is_err());
    }

    #[test]
    fn links_are_followed_by_text_and_not_out_of_the_archive() {
        assert_eq!(
            resolve("one", "../two/layer.tar"),
            Some("two/layer.tar".to_owned())
        );
        assert_eq!(resolve("one", "../../two"), None);
        let mut contents = Contents::default();
        contents.links.insert("a".to_owned(), "b".to_owned());
        contents.links.insert("b".to_owned(), "a".to_owned());
        assert!(contents.file("a").is_none(), "a loop has no end");
    }
}
