//! Running a command in a sandbox, after saying what will be done.

use garth::config::{Limits, Mount};
use garth::{Options, Result, Sandbox};

/// The whole example.
pub fn main() -> Result<()> {
    let mut sandbox = Sandbox {
        command: ["sh", "-c", "echo private >/tmp/file; ls /tmp"].map(Into::into).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        limits: Limits::default(),
        ..Sandbox::default()
    };
    // Like `--tmpfs /tmp:size=1m`: it replaces the existing mount.
    sandbox.add_mount(Mount::tmpfs("/tmp:size=1m")?);

    let options = Options::default();
    println!("{} steps", sandbox.explain(&options)?.plan.steps.len());
    let ended = sandbox.spawn(&options)?.wait()?;
    println!("ended with {}", ended.code());
    Ok(())
}
