//! The same program on another kernel, in User-Mode Linux.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;

/// Runs a script there; `$GARTH` is a copy of the binary, which may itself be in a directory that
/// the guest has of its own, such as /tmp. One boot, a few seconds.
pub fn second_kernel(name: &str, script: &str) -> String {
    second_kernel_with(name, script, &[])
}

/// Adds copies of these programs next to the binary.
pub fn second_kernel_with(name: &str, script: &str, programs: &[(&str, PathBuf)]) -> String {
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("uml/run.sh");
    let dir = std::env::temp_dir().join(format!("garth-second-{name}-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("a directory for the binary");
    let copy = dir.join("garth");
    std::fs::copy(binary(), &copy).expect("a copy of the binary");
    for (name, program) in programs {
        std::fs::copy(program, dir.join(name)).expect("a copy of a program");
    }
    let script = format!("export GARTH={}\n{script}", copy.display());
    let mut command = Command::new(runner);
    let ran = command
        .args(["-m", "512M", "-t", "300", "-w"])
        .arg(&dir)
        .args(["sh", "-c", &script])
        .output();
    let _ = std::fs::remove_dir_all(&dir);
    let ran = ran.expect("tests/uml/run.sh runs");
    let text = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_ne!(ran.status.code(), Some(125), "{}", text[1]);
    text.join("\n")
}
