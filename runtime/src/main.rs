//! The `garth` command: [`garth::cli::main`], behind its entry point.
#![no_main]

// Part of the program, not of the library: the entry point named in the program's file.
#[path = "sys/entry.rs"]
mod entry;
