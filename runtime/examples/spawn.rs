//! Starting a program from a process with a large heap, as fast as from a small one.

use std::io::Read;

use garth::{Result, Spawn, Stdio};

/// The whole example.
pub fn main() -> Result<()> {
    // fork(2) would copy the page tables of all this.
    let heap = vec![1u8; 256 << 20];

    let mut child = Spawn { stdout: Stdio::Pipe, ..Spawn::new(["echo", "small"]) }.spawn()?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        let _ = stdout.read_to_string(&mut said);
    }
    let ended = child.process.wait()?;
    println!("{} said {} beside {} MiB", ended.code(), said.trim(), heap.len() >> 20);
    Ok(())
}
