//! Network namespaces that tests make for themselves, so that nothing on the machine is touched.

use std::process::{Child, Command};
use std::{env, fs, thread};

/// Runs `test`, named `name`, in a network and a mount namespace of its own: the test runs itself
/// again under unshare(1).
pub fn on_a_private_host(name: &str, test: impl FnOnce()) {
    if env::var_os("GARTH_TEST_HOST").is_some() {
        return test();
    }
    garth_needs::needs!(root, netns);
    let status = Command::new("unshare")
        // What a test leaves behind ends with it.
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env("GARTH_TEST_HOST", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed on its private host");
}

/// A network namespace, held by a sleeping process.
pub struct Space(pub Child);

impl Space {
    pub fn new() -> Space {
        let child = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        let here = fs::read_link("/proc/self/ns/net").unwrap();
        let there = format!("/proc/{}/ns/net", child.id());
        while fs::read_link(&there).unwrap() == here {
            thread::yield_now();
        }
        Space(child)
    }

    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
