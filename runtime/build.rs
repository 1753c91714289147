//! Compiles `garth-init` and `garth-keeper` (src/sys/init/main.rs, src/sys/keeper/main.rs), the
//! programs that stay in and beside a sandbox, for the library to embed; and names the entry point
//! of the `garth` command.
//!
//! They are separate programs rather than binaries of this package because they have nothing in
//! common with it: no std, no libc, a different panic strategy, a different way to link; and because
//! the library must have their bytes before it is itself compiled. The flags are complete here, so
//! that neither RUSTFLAGS nor .cargo/config.toml nor a profile can change them.

use std::env;
use std::path::Path;
use std::process::Command;

/// The programs: name, source, and the number of pages that each may take.
const PROGRAMS: [(&str, &str, u64); 2] =
    [("garth-init", "src/sys/init/main.rs", 1), ("garth-keeper", "src/sys/keeper/main.rs", 2)];
const LAYOUT: &str = "src/sys/init/layout.ld";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/sys/init");
    println!("cargo::rerun-if-changed=src/sys/keeper");
    println!("cargo::rerun-if-changed=src/sys/arch");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));

    // For any other one, a file in src/sys/arch is missing, and the compiler reports that.
    let arch = variable("CARGO_CFG_TARGET_ARCH");
    let known = ["x86_64", "aarch64"].iter().any(|known| arch == *known);
    if !known || variable("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }

    // src/sys/entry.rs.
    println!("cargo::rustc-link-arg-bins=-Wl,--entry=garth_entry");

    for (name, source, pages) in PROGRAMS {
        compile(name, source, pages);
    }
}

fn compile(name: &str, source: &str, pages: u64) {
    let variable = |name: &str| env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"));
    let program = Path::new(&variable("OUT_DIR")).join(name);
    let end = 0x40_0000 + 4096 * pages;
    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        .args(["--edition=2024", "--crate-type=bin", source, "--crate-name"])
        .arg(name.replace('-', "_"))
        .arg("--target")
        .arg(variable("TARGET"))
        .arg("-o")
        .arg(&program)
        .args(["-Dwarnings", "-Dunsafe_op_in_unsafe_fn"])
        .args(["-Copt-level=z", "-Cpanic=abort", "-Ccodegen-units=1", "-Clto=fat"])
        .args(["-Cdebuginfo=0", "-Cstrip=symbols", "-Cforce-unwind-tables=no"])
        // One fixed address: nothing to relocate, hence no data to write.
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(["-Clink-args=-nostartfiles -nostdlib -static", "-Clink-arg=-Wl,--build-id=none"])
        .arg(format!("-Clink-arg=-Wl,--no-eh-frame-hdr,-z,norelro,-T,{LAYOUT}"))
        .arg(format!("-Clink-arg=-Wl,--defsym=GARTH_END={end:#x}"));
    if variable("CARGO_CFG_TARGET_ENV") == "musl" {
        // rustc would add musl's own crt1.o.
        rustc.arg("-Clink-self-contained=no");
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = std::ffi::OsString::from("-Clinker=");
        flag.push(linker);
        rustc.arg(flag);
    }
    let status = rustc.status().unwrap_or_else(|error| panic!("run {rustc:?}: {error}"));
    assert!(status.success(), "compile {source} with {rustc:?}: {status}");
}
