//! Conversion between the types here and those of the crate `oci-spec`, through the JSON that both
//! represent.
//!
//! Both directions use our own parser: what that crate can express and the specification does not
//! allow is refused with the messages of [`Config::parse`]; what the specification allows and that
//! crate does not know cannot be expressed in its types, and is refused too (docs/oci-spec.md has
//! the list).

use oci_spec::runtime as theirs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Config, Features, Process, Resources, State};
use crate::error::{Error, Result};

fn json(what: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(format!("{what}: {e}")))
}

fn convert<T: DeserializeOwned>(what: &str, value: &impl Serialize) -> Result<T> {
    let text = json(what, value)?;
    serde_json::from_slice(&text).map_err(|e| {
        Error::new(format!("{what}: cannot be expressed in the types of oci-spec: {e}"))
    })
}

impl TryFrom<&theirs::Spec> for Config {
    type Error = Error;

    fn try_from(spec: &theirs::Spec) -> Result<Config> {
        Config::parse(&json("a configuration", spec)?)
    }
}

impl TryFrom<&theirs::Process> for Process {
    type Error = Error;

    fn try_from(process: &theirs::Process) -> Result<Process> {
        Process::parse(&json("a process", process)?)
    }
}

impl TryFrom<&theirs::LinuxResources> for Resources {
    type Error = Error;

    fn try_from(resources: &theirs::LinuxResources) -> Result<Resources> {
        Resources::parse(&json("resources", resources)?)
    }
}

impl TryFrom<&Config> for theirs::Spec {
    type Error = Error;

    fn try_from(config: &Config) -> Result<theirs::Spec> {
        convert("a configuration", config)
    }
}

impl TryFrom<&State> for theirs::State {
    type Error = Error;

    fn try_from(state: &State) -> Result<theirs::State> {
        convert("a state", state)
    }
}

impl TryFrom<&Features> for theirs::Features {
    type Error = Error;

    fn try_from(features: &Features) -> Result<theirs::Features> {
        convert("features", features)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{NamespaceType, Status, features};
    use super::*;

    fn examples() -> Vec<Vec<u8>> {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/oci");
        ["engine", "minimal", "rootless"]
            .map(|name| std::fs::read(dir.join(format!("{name}.json"))).unwrap())
            .to_vec()
    }

    /// Capabilities are a set there, and rules have no comments.
    fn comparable(config: &Config) -> Value {
        fn visit(value: &mut Value) {
            match value {
                Value::Array(list) => {
                    list.iter_mut().for_each(visit);
                    let is_capability =
                        |one: &Value| one.as_str().is_some_and(|name| name.starts_with("CAP_"));
                    if list.iter().all(is_capability) {
                        list.sort_by_key(|name| name.to_string());
                    }
                }
                Value::Object(object) => {
                    object.remove("comment");
                    object.values_mut().for_each(visit);
                }
                _ => {}
            }
        }
        let mut value = serde_json::to_value(config).unwrap();
        visit(&mut value);
        value
    }

    #[test]
    fn a_configuration_is_the_same_after_both_ways() {
        let mut all: Vec<Config> =
            examples().iter().map(|text| Config::parse(text).unwrap()).collect();
        all.extend([None, Some((1000, 1000))].map(Config::example));
        for config in all {
            let spec = theirs::Spec::try_from(&config).unwrap();
            let back = Config::try_from(&spec).unwrap();
            assert_eq!(comparable(&back), comparable(&config));
        }
        let config = Config::try_from(&theirs::Spec::default()).unwrap();
        assert!(config.linux.unwrap().namespace(NamespaceType::Pid).is_some());
    }

    #[test]
    fn what_the_other_types_allow_is_read_as_strictly() {
        let mut spec = theirs::Spec::default();
        spec.set_version("0.9".into());
        assert!(Config::try_from(&spec).and_then(|config| config.validate()).is_err());
        let mut process = theirs::Process::default();
        process.set_env(Some(vec!["A=b\0c".into()]));
        assert!(Process::try_from(&process).is_err());
    }

    #[test]
    fn a_state_and_the_features_are_given_in_the_other_types() {
        let state = State { id: "a".into(), status: Status::Running, pid: 5, ..State::default() };
        let convert = theirs::State::try_from(&state).unwrap();
        assert_eq!((convert.id().as_str(), *convert.pid()), ("a", Some(5)));
        assert_eq!(*convert.status(), theirs::ContainerState::Running);
        let convert = theirs::Features::try_from(&features()).unwrap();
        assert_eq!(convert.oci_version_max(), super::super::VERSION);
    }

    /// Each of these is a gap in that crate; when this test fails, remove the gap from
    /// docs/oci-spec.md.
    #[test]
    fn what_the_other_types_cannot_say() {
        let scheduler = |flag: &str| json!({"process": {"scheduler": {"policy": "SCHED_OTHER", "flags": [flag]}}});
        for change in [scheduler("SCHED_FLAG_RESET_ON_FORK"), scheduler("SCHED_FLAG_DL_OVERRUN")] {
            let mut config: Value = serde_json::to_value(Config::example(None)).unwrap();
            config["process"]["scheduler"] = change["process"]["scheduler"].clone();
            let config = Config::parse(config.to_string().as_bytes()).unwrap();
            let error = theirs::Spec::try_from(&config).unwrap_err().to_string();
            assert!(error.contains("cannot be expressed"), "{error}");
        }
    }
}
