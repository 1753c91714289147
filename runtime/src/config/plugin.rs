//! `--plugin NAME[:key=value,...]`: which of the operator's executables is asked to create
//! something for the sandbox, and with which configuration. Found and run by `resource/plugin/`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::annotation;
use crate::{Error, Result};

/// The most configuration that is passed on, in bytes; a plugin that needs more can read a file.
const MOST: usize = 16 << 10;

/// A requested plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its file name.
    pub name: String,
    /// Its configuration, in its own terms.
    pub config: BTreeMap<String, String>,
}

impl Plugin {
    /// The plugin called `name`, with a configuration as in `key=value,key=value`.
    ///
    /// # Errors
    /// A name that cannot be a file name, a key without a value, or a repeated key.
    pub fn new(name: &str, config: &str) -> Result<Plugin> {
        check_name(name)?;
        let wrong = |why: String| Error::new(format!("plugin {name}: {why}"));
        if config.len() > MOST {
            return Err(wrong(format!("more than {} KiB of configuration", MOST >> 10)));
        }
        let mut known = BTreeMap::new();
        for pair in config.split(',').filter(|_| !config.is_empty()) {
            let Some((key, value)) = pair.split_once('=').filter(|(key, _)| is_key(key)) else {
                let shown: String = pair.escape_debug().take(40).collect();
                return Err(wrong(format!("{shown:?} is not key=value")).hint(
                    "keys consist of letters, digits and _ . -; a value ends at the next comma",
                ));
            };
            if known.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(wrong(format!("{key} given twice")));
            }
        }
        Ok(Plugin { name: name.to_owned(), config: known })
    }

    /// The plugins that a container's annotations request, in the order of their names.
    ///
    /// # Errors
    /// See [`Plugin::new`].
    pub fn of_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Plugin>> {
        let ours = |(key, value): (&String, &String)| {
            let name = key.strip_prefix(annotation::PLUGIN).filter(|name| !name.is_empty())?;
            let plugin = Plugin::new(name, value);
            Some(plugin.map_err(|error| error.within(format_args!("annotations: {key}"))))
        };
        annotations.iter().filter_map(ours).collect()
    }

    /// # Errors
    /// One is requested twice: what it creates is named after it and the sandbox.
    pub fn check_all(plugins: &[Plugin]) -> Result<()> {
        for (at, plugin) in plugins.iter().enumerate() {
            if plugins[..at].iter().any(|other| other.name == plugin.name) {
                return Err(Error::new(format!("--plugin {}: given twice", plugin.name)));
            }
        }
        Ok(())
    }
}

impl FromStr for Plugin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Plugin> {
        let (name, config) = text.split_once(':').unwrap_or((text, ""));
        Plugin::new(name, config).map_err(|error| error.within("--plugin"))
    }
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (number, (key, value)) in self.config.iter().enumerate() {
            write!(f, "{}{key}={value}", if number == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

/// A name must be that of a file in a plugin directory, and lead nowhere else.
fn check_name(name: &str) -> Result<()> {
    if (1..=64).contains(&name.len())
        && is_key(name)
        && !name.contains('.')
        && !name.starts_with('-')
    {
        return Ok(());
    }
    let shown: String = name.escape_debug().take(80).collect();
    Err(Error::new(format!("{shown:?} is not a valid plugin name"))
        .hint("use 1 to 64 letters, digits, _ and -, not starting with a dash"))
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_a_name_and_pairs() {
        let plugin: Plugin = "hosts:file=/etc/hosts,name=web=1".parse().unwrap();
        assert_eq!(plugin.name, "hosts");
        assert_eq!(plugin.config["name"], "web=1");
        assert_eq!(plugin.to_string(), "hosts:file=/etc/hosts,name=web=1");
        assert_eq!("hosts".parse::<Plugin>().unwrap(), "hosts:".parse().unwrap());
    }

    #[test]
    fn a_name_never_leads_out_of_the_directory() {
        for text in
            ["", "../x", "a/b", ".x", "x.json", "-x", "a b", "a\nb", ":k=v", &"x".repeat(65)]
        {
            let error = text.parse::<Plugin>().unwrap_err().to_string();
            assert!(error.contains("is not a valid plugin name"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_not_a_pair_is_refused() {
        for (text, why) in [
            ("x:y", "\"y\" is not key=value"),
            ("x:=y", "is not key=value"),
            ("x:a=1,", "\"\" is not key=value"),
            ("x:a b=1", "is not key=value"),
            ("x:a=1,a=2", "a given twice"),
            (&format!("x:a={}", "y".repeat(MOST)), "more than 16 KiB"),
        ] {
            let error = text.parse::<Plugin>().unwrap_err().to_string();
            assert!(error.starts_with("--plugin: plugin x: ") && error.contains(why), "{error}");
        }
        let twice = ["a", "b", "a"].map(|name| name.parse().unwrap());
        assert!(Plugin::check_all(&twice).is_err());
    }

    #[test]
    fn annotations_ask_for_plugins_by_name() {
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let asked = Plugin::of_annotations(&map("dev.garth.plugin.hosts", "file=/h")).unwrap();
        assert_eq!(asked, ["hosts:file=/h".parse().unwrap()]);
        assert!(Plugin::of_annotations(&map("org.example.plugin.x", "y")).unwrap().is_empty());
        let error = Plugin::of_annotations(&map("dev.garth.plugin.x", "y")).unwrap_err();
        assert!(error.to_string().starts_with("annotations: dev.garth.plugin.x: "), "{error}");
    }
}
