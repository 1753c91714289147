//! The `garth` command.

// Of the program and not of the library: it is what the program's file names as its entry point.
#[path = "sys/entry.rs"]
mod entry;

fn main() {
    std::process::exit(garth::cli::main());
}
