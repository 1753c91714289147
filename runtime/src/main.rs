//! The `garth` command.
fn main() {}
