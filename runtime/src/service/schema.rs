//! The JSON schema of service files, `specs/schema/services.json`: from the types that read them,
//! with their comments as descriptions. `UPDATE=1 cargo test -p garth schema` writes it.
//!
//! It keeps to what draft 4 has, since editors know little more, apart from its name.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::file::NOT_OF_FILES;
use super::rules::{Restart, Rules, StopSignal};
use super::settings::{Settings, keys};
use crate::config::{Size, Span};

/// The schema of a type, given in full.
macro_rules! schema {
    ($($type:ty: $schema:tt),+ $(,)?) => {
        $(impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        })+
    };
}

schema! {
    keys::Text: { "type": ["string", "number"] },
    keys::OptionalText: { "type": ["string", "boolean"] },
    keys::Texts: { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
    keys::Paths: { "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
    keys::OnePath: { "type": "string" },
    Size: { "type": ["string", "integer"] },
    Span: { "type": ["string", "integer"] },
    StopSignal: { "type": "string" },
    Restart: { "anyOf": [
        { "enum": ["no", "on-failure", "always", "unless-stopped"] },
        { "type": "string", "pattern": "^on-failure:[1-9][0-9]*$" },
        { "type": "string", "pattern": "\\$\\{" },
    ] },
}

fn of<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft07().for_deserialize();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    simplify(&mut schema);
    schema
}

/// Without what TOML does not have (null) and what says nothing (formats, defaults that are empty);
/// with one line for each description.
fn simplify(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for noise in ["format", "title", "$schema"] {
        object.remove(noise);
    }
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Null | Value::Bool(false) => true,
        _ => false,
    };
    if object.get("default").is_some_and(is_empty) {
        object.remove("default");
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if let Some(value) = object.remove("const") {
        object.insert("enum".into(), json!([value]));
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|it| it != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            object.insert("type".into(), one);
        }
    }
    for of_many in ["anyOf", "oneOf"] {
        if let Some(Value::Array(kinds)) = object.get_mut(of_many) {
            kinds.retain(|kind| kind["type"] != "null");
            kinds.iter_mut().for_each(simplify);
        }
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(simplify);
    }
}

fn whole() -> Value {
    let (mut settings, mut rules) = (of::<Settings>(), of::<Rules>());
    assert_eq!(settings["additionalProperties"], json!(false));
    assert_eq!(rules["additionalProperties"], json!(false));
    let health = &mut rules["properties"]["health"];
    assert_eq!(health["additionalProperties"], json!(false));
    let one_of = ["command", "tcp", "http"].map(|key| json!({ "required": [key] }));
    health["oneOf"] = json!(one_of);
    let mut keys: Map<String, Value> = Map::new();
    for part in [&mut settings, &mut rules] {
        let Value::Object(properties) = part["properties"].take() else { panic!("{part}") };
        keys.extend(properties);
    }
    keys.retain(|key, _| !NOT_OF_FILES.contains(&key.as_str()));
    keys.insert(
        "extends".into(),
        json!({
            "description": "Keys that are missing here are those of another service: \
                \"FILE#SERVICE\", \"FILE\" or \"#SERVICE\"",
            "type": "string",
        }),
    );
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Services of Garth",
        "description": "A file for garth up: see docs/services.md, and garth.toml(5).",
        "type": "object",
        "additionalProperties": false,
        "properties": { "service": {
            "description": "A table for each service: [service.NAME]",
            "type": "object",
            "additionalProperties": { "$ref": "#/definitions/service" },
        } },
        "definitions": { "service": {
            "type": "object",
            "additionalProperties": false,
            "properties": keys,
            "anyOf": [{ "required": ["command"] }, { "required": ["extends"] }],
        } },
    })
}

fn specs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("specs")
}

#[test]
fn the_schema_of_service_files_is_that_of_the_types() {
    let path = specs().join("schema/services.json");
    let text = serde_json::to_string_pretty(&whole()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == there, "services.json is stale: UPDATE=1 cargo test -p garth schema");
}

#[test]
fn every_key_of_a_service_is_described() {
    let schema = whole();
    let keys = schema["definitions"]["service"]["properties"].as_object().unwrap();
    assert!(keys.len() > 40, "the keys were not found");
    for (key, schema) in keys {
        assert!(schema["description"].as_str().is_some_and(|text| text.len() > 10), "{key}");
    }
}

/// What is wrong with `value`, by the part of JSON Schema that is used here.
fn fault(value: &Value, schema: &Value, root: &Value) -> Option<String> {
    let part = |name: &str| value.get(name);
    schema.as_object().unwrap().iter().find_map(|(keyword, rule)| {
        let list = || rule.as_array().unwrap().iter();
        let fits = |schema: &Value| fault(value, schema, root).is_none();
        let is_a = |kind: &Value| match kind.as_str().unwrap() {
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("unknown type {other}"),
        };
        let wrong = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "definitions" => false,
            "$ref" => {
                let path = rule.as_str().unwrap().trim_start_matches('#');
                return fault(value, root.pointer(path).unwrap(), root);
            }
            "type" if rule.is_array() => !list().any(is_a),
            "type" => !is_a(rule),
            "enum" => !list().any(|one| one == value),
            "pattern" => value.as_str().is_some_and(|text| {
                !regex_lite::Regex::new(rule.as_str().unwrap()).unwrap().is_match(text)
            }),
            "minimum" => value.as_f64().is_some_and(|it| it < rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_some_and(|it| it > rule.as_f64().unwrap()),
            "required" => !list().all(|name| part(name.as_str().unwrap()).is_some()),
            "anyOf" => !list().any(fits),
            "oneOf" => list().filter(|schema| fits(schema)).count() != 1,
            "items" => {
                return value.as_array()?.iter().find_map(|one| fault(one, rule, root));
            }
            "properties" => {
                return rule.as_object().unwrap().iter().find_map(|(name, schema)| {
                    let fault = fault(part(name)?, schema, root)?;
                    Some(format!("{name}: {fault}"))
                });
            }
            "additionalProperties" => {
                let known = |name: &String| schema["properties"].get(name).is_some();
                let mut others = value.as_object()?.iter().filter(|(name, _)| !known(name));
                return others.find_map(|(name, value)| match rule {
                    Value::Bool(false) => Some(format!("unknown key {name}")),
                    rule => Some(format!("{name}: {}", fault(value, rule, root)?)),
                });
            }
            other => panic!("unknown keyword {other}"),
        };
        wrong.then(|| format!("{keyword} {rule}: {value}"))
    })
}

fn fault_of(toml: &str) -> Option<String> {
    let schema = whole();
    fault(&toml::from_str::<Value>(toml).unwrap(), &schema, &schema)
}

#[test]
fn the_service_files_of_specs_and_of_the_docs_are_valid() {
    let mut files = 0;
    for entry in fs::read_dir(specs().join("services")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files += 1;
            assert_eq!(fault_of(&fs::read_to_string(&path).unwrap()), None, "{}", path.display());
        }
    }
    assert!(files >= 9, "the files were not found");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/services.md");
    let docs = fs::read_to_string(docs).unwrap();
    let examples: Vec<&str> = docs.split("```toml\n").skip(1).collect();
    assert!(!examples.is_empty(), "the examples were not found");
    for example in examples {
        let example = example.split("```").next().unwrap();
        assert_eq!(fault_of(example), None, "{example}");
    }
}

#[test]
fn what_a_service_file_may_not_have_is_not_valid() {
    for (keys, says) in [
        ("comand = [\"x\"]", "unknown key comand"),
        ("command = [\"x\"]\nname = \"y\"", "unknown key name"),
        ("command = 1", "command: "),
        ("memory = \"1g\"", "required"),
        ("command = \"x\"\nmemory = [\"1g\"]", "memory: "),
        ("command = \"x\"\nmemory = true", "memory: "),
        ("command = \"x\"\npublish = 8080", "publish: "),
        ("command = \"x\"\ntty = \"yes\"", "tty: "),
        ("command = \"x\"\nuserns = 1", "userns: "),
        ("command = \"x\"\nprofile = \"docker\"", "profile: "),
        ("command = \"x\"\nrestart = \"sometimes\"", "restart: "),
        ("command = \"x\"\nrestart = \"on-failure:0\"", "restart: "),
        ("command = \"x\"\nlog-count = \"5\"", "log-count: "),
        ("command = \"x\"\nhealth = { tcp = 70000 }", "health: "),
        ("command = \"x\"\nhealth = { tcp = 1, http = \":1\" }", "health: "),
        ("command = \"x\"\nhealth = { port = 1 }", "health: "),
        ("extends = [\"#x\"]", "extends: "),
    ] {
        let fault = fault_of(&format!("[service.web]\n{keys}")).unwrap_or_default();
        assert!(fault.contains(says), "{keys}: {fault:?}");
    }
    for keys in [
        "extends = \"#x\"",
        "command = \"x\"\nmemory = 65536\nlog-size = 1000\nuserns = true\nprofile = \"compat\"",
        "command = [\"x\"]\nrestart = \"on-failure:5\"\nhealth = { tcp = 80, interval = 5 }",
        "command = \"x\"\nrestart = \"${POLICY:-no}\"",
    ] {
        assert_eq!(fault_of(&format!("[service.web]\n{keys}")), None, "{keys}");
    }
    assert!(fault_of("[services.web]\ncommand = \"x\"").is_some());
}
