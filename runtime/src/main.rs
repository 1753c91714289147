//! The `garth` command: [`garth::cli::main`], behind its entry point.
#![no_main]

// Of the program and not of the library: it is what the program's file names as its entry point.
#[path = "sys/entry.rs"]
mod entry;
