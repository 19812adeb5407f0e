//! `ctl events`: what happens, one line each, until the user has seen enough.

use proto::engine::v1::EventsRequest;
use serde_json::Value;

use super::{DONE, inspect};
use crate::cli::system::EventsArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::template;
use crate::render::time::rfc3339;

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, args: &EventsArgs) -> Result<u8, Failure> {
    let template = match args.format.as_deref() {
        None | Some("" | "json") => None,
        Some(format) => Some(template::parse(format)?),
    };
    let request = EventsRequest {
        since: args.since.map(|moment| moment.0),
        until: args.until.map(|moment| moment.0),
        filters: args.filter.clone(),
    };
    let mut events = client.events(request).await?.into_inner();
    while let Some(event) = events.message().await? {
        let object = inspect::read(&event.json)?;
        match &template {
            Some(template) => out::line(&template.render(&object)?)?,
            None if args.format.as_deref() == Some("json") => out::line(&event.json)?,
            None => out::line(&line(&object))?,
        }
    }
    Ok(DONE)
}

/// `2024-05-06T07:08:09.000000000Z container start <id> (image=…, name=…)`
fn line(event: &Value) -> String {
    let nanos = event["timeNano"].as_i64().unwrap_or_default();
    let at = prost_types::Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default(),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes: Vec<String> = event["Actor"]["Attributes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    let attributes = match attributes.is_empty() {
        true => String::new(),
        false => format!(" ({})", attributes.join(", ")),
    };
    format!(
        "{} {} {} {}{attributes}",
        rfc3339(&at),
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        let event = serde_json::json!({
            "Type": "container", "Action": "start", "timeNano": 1_000_000_001,
            "Actor": {"ID": "aa", "Attributes": {"image": "busybox", "name": "web"}},
        });
        assert_eq!(
            line(&event),
            "1970-01-01T00:00:01.000000001Z container start aa (image=busybox, name=web)"
        );
    }
}
