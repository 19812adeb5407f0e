//! The names of protocols, and which of those that a client offers is spoken.

/// The header by which a SPDY client offers versions and is told of one.
pub(crate) const VERSION_HEADER: &str = "x-stream-protocol-version";
/// The header that names what would have been accepted.
pub(crate) const ACCEPTED_HEADER: &str = "x-accepted-stream-protocol-versions";

/// What ports are forwarded in.
pub(crate) const PORT_FORWARD: &str = "portforward.k8s.io";
/// The same, as the bytes of a SPDY connection in messages of a `WebSocket`.
pub(crate) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// How standard streams are spoken of. Later versions do what earlier ones do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// Errors as text.
    V1,
    /// Standard input may be closed alone.
    V2,
    /// The terminal's size.
    V3,
    /// How the program ended, as JSON.
    V4,
    /// Over a `WebSocket`, a channel may be closed alone.
    V5,
}

/// A way to speak of standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remote {
    pub version: Version,
    /// Over a `WebSocket`: text messages in base64 rather than bytes.
    pub base64: bool,
}

/// SPDY's names of versions.
const SPDY: &[(&str, Version)] = &[
    ("v4.channel.k8s.io", Version::V4),
    ("v3.channel.k8s.io", Version::V3),
    ("v2.channel.k8s.io", Version::V2),
    ("channel.k8s.io", Version::V1),
];

/// The `WebSocket`'s subprotocols: name, version, whether base64.
const WEBSOCKET: &[(&str, Version, bool)] = &[
    ("v5.channel.k8s.io", Version::V5, false),
    ("v4.channel.k8s.io", Version::V4, false),
    ("v4.base64.channel.k8s.io", Version::V4, true),
    ("channel.k8s.io", Version::V1, false),
    ("base64.channel.k8s.io", Version::V1, true),
];

/// A choice: the name to answer with, if any was offered, and its meaning.
pub(crate) type Chosen<T> = (Option<&'static str>, T);

/// The first version that the client offers and that is known. A client that
/// offers none speaks the oldest.
pub(crate) fn remote_over_spdy<'a>(
    mut offered: impl Iterator<Item = &'a str>,
) -> Result<Chosen<Remote>, Vec<&'static str>> {
    let Some(first) = offered.next() else {
        let version = Version::V1;
        return Ok((
            None,
            Remote {
                version,
                base64: false,
            },
        ));
    };
    std::iter::once(first)
        .chain(offered)
        .find_map(|name| SPDY.iter().find(|(known, _)| *known == name))
        .map(|&(name, version)| {
            (
                Some(name),
                Remote {
                    version,
                    base64: false,
                },
            )
        })
        .ok_or_else(|| SPDY.iter().map(|(name, _)| *name).collect())
}

/// The same for a `WebSocket`.
pub(crate) fn remote_over_websocket<'a>(
    mut offered: impl Iterator<Item = &'a str>,
) -> Result<Chosen<Remote>, Vec<&'static str>> {
    let Some(first) = offered.next() else {
        let version = Version::V1;
        return Ok((
            None,
            Remote {
                version,
                base64: false,
            },
        ));
    };
    std::iter::once(first)
        .chain(offered)
        .find_map(|name| WEBSOCKET.iter().find(|(known, ..)| *known == name))
        .map(|&(name, version, base64)| (Some(name), Remote { version, base64 }))
        .ok_or_else(|| WEBSOCKET.iter().map(|(name, ..)| *name).collect())
}

/// How ports are forwarded over a `WebSocket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    /// SPDY in messages.
    Tunnel,
    /// Two channels for each port.
    Channels {
        /// Text messages in base64 rather than bytes.
        base64: bool,
    },
}

/// The first way that the client offers and that is known.
pub(crate) fn forward_over_websocket<'a>(
    mut offered: impl Iterator<Item = &'a str>,
) -> Result<Chosen<Forward>, Vec<&'static str>> {
    const KNOWN: &[(&str, Forward)] = &[
        (TUNNEL, Forward::Tunnel),
        ("v4.channel.k8s.io", Forward::Channels { base64: false }),
        (
            "v4.base64.channel.k8s.io",
            Forward::Channels { base64: true },
        ),
    ];
    let Some(first) = offered.next() else {
        return Ok((None, Forward::Channels { base64: false }));
    };
    std::iter::once(first)
        .chain(offered)
        .find_map(|name| KNOWN.iter().find(|(known, _)| *known == name))
        .map(|&(name, forward)| (Some(name), forward))
        .ok_or_else(|| KNOWN.iter().map(|(name, _)| *name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn spdy(offered: &[&str], expected: Option<(Option<&str>, Version)>) {
        let chosen = remote_over_spdy(offered.iter().copied());
        assert_eq!(chosen.ok().map(|(name, r)| (name, r.version)), expected);
    }

    #[test]
    fn the_first_that_both_know_is_spoken() {
        spdy(&[], Some((None, Version::V1)));
        spdy(
            &[
                "v9.channel.k8s.io",
                "v3.channel.k8s.io",
                "v4.channel.k8s.io",
            ],
            Some((Some("v3.channel.k8s.io"), Version::V3)),
        );
        spdy(&["v9.channel.k8s.io"], None);
        let (name, remote) =
            remote_over_websocket(["v4.base64.channel.k8s.io"].into_iter()).expect("it is known");
        assert_eq!(name, Some("v4.base64.channel.k8s.io"));
        assert!(remote.base64 && remote.version == Version::V4);
        assert_eq!(
            forward_over_websocket(["SPDY/3.1+portforward.k8s.io"].into_iter()),
            Ok((Some(TUNNEL), Forward::Tunnel))
        );
        assert!(forward_over_websocket(["x"].into_iter()).is_err());
    }
}
