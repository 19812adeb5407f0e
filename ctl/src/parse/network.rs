//! `--network`: a name, or `name=…,alias=…,ip=…`.

use std::str::FromStr;

use proto::engine::v1::Attachment;

use super::mount::fields;

/// One `--network`, as typed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network(pub(crate) Attachment);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut network = Attachment::default();
        if !text.contains('=') {
            text.clone_into(&mut network.network);
            return Ok(Self(network));
        }
        for field in fields(text) {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| format!("invalid field {field}"))?;
            match key.to_ascii_lowercase().as_str() {
                "name" => value.clone_into(&mut network.network),
                "alias" => network.aliases.push(value.to_owned()),
                "ip" => value.clone_into(&mut network.ip),
                "ip6" => value.clone_into(&mut network.ip6),
                "mac-address" => value.clone_into(&mut network.mac),
                _ => return Err(format!("invalid field key {key}")),
            }
        }
        if network.network.is_empty() {
            return Err("network name/id is not specified".to_owned());
        }
        Ok(Self(network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_fields() {
        assert_eq!("host".parse::<Network>().unwrap().0.network, "host");
        assert_eq!(
            "container:web".parse::<Network>().unwrap().0.network,
            "container:web"
        );
        let network: Network = "name=net,alias=a,alias=b,ip=10.0.0.2".parse().unwrap();
        assert_eq!(
            (network.0.network.as_str(), network.0.ip.as_str()),
            ("net", "10.0.0.2")
        );
        assert_eq!(network.0.aliases, ["a", "b"]);
        assert!("alias=a".parse::<Network>().is_err());
        assert!("name=a,bogus=1".parse::<Network>().is_err());
    }
}
