//! `garth spec` and `garth features`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::PrettyFormatter;

use crate::cli::{Global, print};
use crate::config::oci::{self, Config};
use crate::error::{Error, Result};
use crate::sys::process;

/// Write an example config.json
///
/// With --rootless, one for an unprivileged user.
#[derive(Debug, Args)]
pub struct Spec {
    /// Bundle directory [default: current directory]
    #[arg(short, long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

impl Spec {
    /// With --rootless, an example for an unprivileged caller, in a user namespace.
    pub(in crate::cli) fn run(self, global: &Global) -> Result<i32> {
        let rootless = global.rootless.as_deref() == Some("true");
        let config = Config::example(rootless.then(process::effective_ids));
        let text = indented(&config, b"\t")?;
        let path = self.bundle.unwrap_or_default().join("config.json");
        let failed = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Error::new(format!("{} already exists", path.display())).hint("remove it first")
            }
            _ => Error::io(format!("write {}", path.display()), &e),
        };
        let mut file = File::create_new(&path).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        Ok(0)
    }
}

/// Prints the supported features as JSON.
pub fn features() -> Result<i32> {
    let text = indented(&oci::features(), b"    ")?;
    print(&(String::from_utf8_lossy(&text) + "\n"));
    Ok(0)
}

fn indented(value: &impl Serialize, indent: &[u8]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut writer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent));
    value.serialize(&mut writer).map_err(|e| Error::new(format!("write JSON: {e}")))?;
    Ok(text)
}
