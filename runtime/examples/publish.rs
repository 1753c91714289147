//! A detached daemon with a port on the host's loopback: as root.
//!
//! `publish STATE PORT COMMAND...`: the port inside is 80.

use std::path::PathBuf;

use garth::{Error, Result, Settings, service};

/// The whole example.
pub fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    let (Some(state), Some(port)) = (args.next(), args.next()) else {
        return Err(Error::new("write publish STATE PORT COMMAND"));
    };
    // The settings are the flags of `garth wrap`, with the same meaning.
    let settings = Settings {
        publish: vec![format!("{}:80", port.display())],
        name: Some("web".into()),
        command: args.collect(),
        ..Settings::default()
    };
    let resolved = settings.resolve(Some(PathBuf::from(state)))?;
    let background = resolved.sandbox.detach(&resolved.options, None)?;
    println!("{} runs", background.name);

    let journal = resolved.options.journal();
    for entry in service::list(&journal)? {
        println!("{} {} {}", entry.name, entry.state, entry.ports.join(" "));
    }
    // How to end it, and how it ended.
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    service::kill(&journal, "web", 15, garth::container::Targets::First)?;
    println!("{}", service::wait(&journal, "web")?.words());
    Ok(())
}
