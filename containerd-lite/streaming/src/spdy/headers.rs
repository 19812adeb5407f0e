//! Blocks of names and values: compressed with zlib, in one stream for all
//! blocks of a connection and direction, from a dictionary that both sides
//! know.

use std::collections::BTreeMap;
use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// A block that is longer is an attack.
const LONGEST: usize = 64 << 10;

/// The words of the dictionary that have their length before them: section
/// 2.6.10.1 of the SPDY/3 draft.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding \
    accept-language accept-ranges age allow authorization cache-control connection content-base \
    content-encoding content-language content-length content-location content-md5 content-range \
    content-type date etag expect expires from host if-match if-modified-since if-none-match \
    if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate \
    proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
    user-agent vary via warning www-authenticate method get status 200+OK version HTTP/1.1 url \
    public set-cookie keep-alive origin";

/// What follows them.
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416\
    417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad \
    Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
    Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 \
    Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,\
    deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS.split_ascii_whitespace() {
        let word = word.replace('+', " ");
        let length = u32::try_from(word.len()).unwrap_or_default();
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(REST.as_bytes());
    bytes
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes blocks.
pub(crate) struct Writer(Compress);

impl Writer {
    pub(crate) fn new() -> io::Result<Self> {
        let mut zlib = Compress::new(Compression::default(), true);
        zlib.set_dictionary(&dictionary())?;
        Ok(Self(zlib))
    }

    /// The block of these headers.
    pub(crate) fn write(&mut self, headers: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        let number = |plain: &mut Vec<u8>, n: usize| {
            plain.extend_from_slice(&u32::try_from(n).unwrap_or_default().to_be_bytes());
        };
        number(&mut plain, headers.len());
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            number(&mut plain, text.len());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let begin = self.0.total_in();
        loop {
            let taken = usize::try_from(self.0.total_in() - begin).unwrap_or(plain.len());
            let room = block.capacity() - block.len();
            self.0
                .compress_vec(&plain[taken..], &mut block, FlushCompress::Sync)?;
            let done = self.0.total_in() - begin == plain.len() as u64;
            // Room that is left says that all was flushed.
            if done && block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(room.max(64));
        }
    }
}

/// Reads blocks.
pub(crate) struct Reader {
    zlib: Decompress,
    dictionary: Option<Vec<u8>>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            zlib: Decompress::new(true),
            dictionary: Some(dictionary()),
        }
    }

    /// The headers of a block, their names in lower case.
    pub(crate) fn read(&mut self, block: &[u8]) -> io::Result<BTreeMap<String, String>> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(1024);
        let begin = self.zlib.total_in();
        loop {
            let taken = usize::try_from(self.zlib.total_in() - begin).unwrap_or(block.len());
            let rest = block.get(taken..).unwrap_or_default();
            let had = plain.len();
            let done = self
                .zlib
                .decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            if let Err(err) = done {
                let (Some(_), Some(dictionary)) = (err.needs_dictionary(), self.dictionary.take())
                else {
                    return Err(err.into());
                };
                self.zlib.set_dictionary(&dictionary)?;
                continue;
            }
            if plain.len() > LONGEST {
                return Err(bad("headers are longer than any are"));
            }
            let all_taken = self.zlib.total_in() - begin == block.len() as u64;
            if all_taken && plain.len() < plain.capacity() {
                return Ok(plain);
            }
            if plain.len() == had && plain.len() < plain.capacity() {
                return Err(bad("headers are cut short"));
            }
            plain.reserve(1024);
        }
    }
}

fn parse(mut plain: &[u8]) -> io::Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    let count = number(&mut plain)?;
    for _ in 0..count {
        let name = text(&mut plain)?.to_ascii_lowercase();
        let value = text(&mut plain)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn number(plain: &mut &[u8]) -> io::Result<u32> {
    let (number, rest) = plain
        .split_first_chunk()
        .ok_or_else(|| bad("headers are cut short"))?;
    *plain = rest;
    Ok(u32::from_be_bytes(*number))
}

fn text(plain: &mut &[u8]) -> io::Result<String> {
    let length = number(plain)? as usize;
    let text = plain
        .get(..length)
        .ok_or_else(|| bad("headers are cut short"))?;
    *plain = &plain[length..];
    String::from_utf8(text.to_vec()).map_err(|_| bad("headers are not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    /// The checksum that a stream names when it wants this dictionary.
    #[test]
    fn the_dictionary_is_the_one_of_the_draft() {
        let bytes = dictionary();
        assert_eq!(bytes.len(), 1423);
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in bytes {
            a = (a + u32::from(byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!((b << 16) | a, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_are_read_in_the_order_of_writing() {
        let (mut writer, mut reader) = (Writer::new().expect("fine"), Reader::new());
        let long = "x".repeat(40_000);
        for pairs in [
            headers(&[]),
            headers(&[("streamtype", "stdin")]),
            headers(&[("port", "80"), ("requestid", "1"), ("streamtype", "data")]),
            headers(&[("long", &long)]),
            headers(&[("streamtype", "stdin")]),
        ] {
            let block = writer.write(&pairs).expect("it can be written");
            assert_eq!(reader.read(&block).expect("it can be read"), pairs);
        }
    }

    /// What Go's client opens its error stream with.
    #[test]
    fn names_are_in_lower_case() {
        let (mut writer, mut reader) = (Writer::new().expect("fine"), Reader::new());
        let block = writer
            .write(&headers(&[("StreamType", "error")]))
            .expect("fine");
        assert_eq!(
            reader.read(&block).expect("it can be read"),
            headers(&[("streamtype", "error")])
        );
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let (mut writer, mut reader) = (Writer::new().expect("fine"), Reader::new());
        let bomb = "x".repeat(50_000_000);
        let block = writer.write(&headers(&[("a", &bomb)])).expect("fine");
        let err = reader.read(&block).expect_err("it is too long");
        assert_eq!(err.to_string(), "headers are longer than any are");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            let _ = Reader::new().read(&bytes);
            let _ = parse(&bytes);
        }
    }
}
