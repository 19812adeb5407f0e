//! Go templates over JSON values, with the functions that Docker adds.

use std::collections::HashMap;

use gtmpl_ng::{Context, FuncError, Template, Value};

use crate::failure::Failure;

/// A template that has been read.
pub(crate) struct Parsed(Template);

/// Reads a template.
pub(crate) fn parse(text: &str) -> Result<Parsed, Failure> {
    let mut template = Template::default();
    template.add_funcs(&[
        ("json", json as gtmpl_ng::Func),
        ("join", join),
        ("split", split),
        ("lower", lower),
        ("upper", upper),
        ("title", title),
        ("pad", pad),
        ("truncate", truncate),
        ("labelled", labelled),
    ]);
    // Docker's rows answer `.Label "key"`; here a function looks into a field.
    let text = text.replace(".Label \"", "labelled .LabelMap \"");
    template
        .parse(&text)
        .map_err(|err| Failure::Client(format!("template parsing error: {err}")))?;
    Ok(Parsed(template))
}

impl Parsed {
    /// The text it makes of `value`, whose missing fields are an error.
    pub(crate) fn render(&self, value: &serde_json::Value) -> Result<String, Failure> {
        let context = Context::from(of_json(value, true));
        self.0
            .render(&context)
            .map_err(|err| Failure::Client(format!("template: {err}")))
    }
}

/// A struct at the top, maps below: a field that is missing there is nothing.
fn of_json(value: &serde_json::Value, top: bool) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::String(text) => Value::String(text.clone()),
        Json::Number(number) => {
            if let Some(number) = number.as_i64() {
                Value::from(number)
            } else if let Some(number) = number.as_u64() {
                Value::from(number)
            } else {
                Value::from(number.as_f64().unwrap_or_default())
            }
        }
        Json::Array(values) => {
            Value::Array(values.iter().map(|value| of_json(value, false)).collect())
        }
        Json::Object(fields) => {
            let fields: HashMap<String, Value> = fields
                .iter()
                .map(|(key, value)| (key.clone(), of_json(value, false)))
                .collect();
            if top {
                Value::Object(fields)
            } else {
                Value::Map(fields)
            }
        }
    }
}

fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::NoValue | Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::String(text) => Json::String(text.clone()),
        Value::Array(values) => Json::Array(values.iter().map(to_json).collect()),
        Value::Object(fields) | Value::Map(fields) => Json::Object(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), to_json(value)))
                .collect(),
        ),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Json::from(number),
            (None, Some(number)) => Json::from(number),
            (None, None) => Json::from(number.as_f64()),
        },
    }
}

fn text(values: &[Value], at: usize) -> Result<String, FuncError> {
    match values.get(at) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Ok(other.to_string()),
        None => Err(FuncError::ExactlyXArgs("function".to_owned(), at + 1)),
    }
}

fn number(values: &[Value], at: usize) -> Result<usize, FuncError> {
    let text = text(values, at)?;
    text.parse()
        .map_err(|_| FuncError::Generic(format!("expected a number, got {text:?}")))
}

fn json(values: &[Value]) -> Result<Value, FuncError> {
    let value = values.first().unwrap_or(&Value::Nil);
    Ok(Value::String(to_json(value).to_string()))
}

/// A label by its key; of one that is not there nothing.
fn labelled(values: &[Value]) -> Result<Value, FuncError> {
    let key = text(values, 1)?;
    let label = match values.first() {
        Some(Value::Map(labels) | Value::Object(labels)) => labels.get(&key).cloned(),
        _ => None,
    };
    Ok(label.unwrap_or_else(|| Value::String(String::new())))
}

fn join(values: &[Value]) -> Result<Value, FuncError> {
    let separator = text(values, 1)?;
    match values.first() {
        Some(Value::Array(parts)) => {
            let parts: Result<Vec<String>, _> =
                (0..parts.len()).map(|at| text(parts, at)).collect();
            Ok(Value::String(parts?.join(&separator)))
        }
        Some(Value::Nil | Value::NoValue) => Ok(Value::String(String::new())),
        _ => Err(FuncError::Generic("join: expected a list".to_owned())),
    }
}

fn split(values: &[Value]) -> Result<Value, FuncError> {
    let (whole, separator) = (text(values, 0)?, text(values, 1)?);
    Ok(Value::Array(
        whole
            .split(separator.as_str())
            .map(|part| Value::String(part.to_owned()))
            .collect(),
    ))
}

fn lower(values: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::String(text(values, 0)?.to_lowercase()))
}

fn upper(values: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::String(text(values, 0)?.to_uppercase()))
}

fn title(values: &[Value]) -> Result<Value, FuncError> {
    let text = text(values, 0)?;
    let mut chars = text.chars();
    Ok(Value::String(match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }))
}

fn pad(values: &[Value]) -> Result<Value, FuncError> {
    let (before, after) = (number(values, 1)?, number(values, 2)?);
    let text = text(values, 0)?;
    Ok(Value::String(match text.is_empty() {
        true => text,
        false => format!("{}{text}{}", " ".repeat(before), " ".repeat(after)),
    }))
}

fn truncate(values: &[Value]) -> Result<Value, FuncError> {
    let length = number(values, 1)?;
    Ok(Value::String(
        text(values, 0)?.chars().take(length).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &str, want: &str) {
        let value = serde_json::json!({
            "Name": "web",
            "State": { "Running": true, "Pid": 42 },
            "Args": ["a", "b"],
            "Labels": { "x.y": "1" },
            "Nothing": null,
        });
        assert_eq!(parse(template).unwrap().render(&value).unwrap(), want);
    }

    #[test]
    fn templates_are_gos_with_dockers_functions() {
        check("{{.Name}} {{.State.Running}}", "web true");
        check("{{.State.Pid}}", "42");
        check("{{json .Args}} {{join .Args \",\"}}", "[\"a\",\"b\"] a,b");
        check("{{range .Args}}<{{.}}>{{end}}", "<a><b>");
        check("{{index .Labels \"x.y\"}}", "1");
        check(
            "{{upper .Name}} {{title .Name}} {{truncate .Name 2}}",
            "WEB Web we",
        );
        check("{{if .State.Running}}up{{else}}down{{end}}", "up");
        check("{{json .State}}", "{\"Pid\":42,\"Running\":true}");
    }

    #[test]
    fn a_field_that_is_not_there_is_an_error() {
        let template = parse("{{.Bogus}}").unwrap();
        assert!(template.render(&serde_json::json!({"Name": "x"})).is_err());
        assert!(parse("{{.Name").is_err());
    }
}
