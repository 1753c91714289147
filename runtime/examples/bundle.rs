//! A container configured in types of the crate `oci-spec`: as root, `bundle STATE ROOTFS`.

use std::path::PathBuf;

use garth::container::CreateOptions;
use garth::{Container, Error, Journal, Result};
use oci_spec::runtime::{ProcessBuilder, RootBuilder, Spec};

/// The whole example.
pub fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(state), Some(rootfs)) = (args.next(), args.next()) else {
        return Err(Error::new("write bundle STATE ROOTFS"));
    };
    let refused = |error| Error::new(format!("{error}"));
    let process = ProcessBuilder::default()
        .args(["/bin/echo", "inside"].map(String::from))
        .cwd("/")
        .build()
        .map_err(refused)?;
    let root = RootBuilder::default().path(&rootfs).readonly(true).build().map_err(refused)?;
    let mut spec = Spec::default();
    spec.set_process(Some(process)).set_root(Some(root));

    let containers = Journal::at(state).containers();
    let container = Container::create(&containers, "first", &spec, &CreateOptions::default())?;
    println!("{}", container.oci_state()?.status());
    container.start()?;
    container.wait()?;
    println!("{}", container.oci_state()?.status());
    container.delete(false)
}
