//! The `garth` command.

fn main() {
    std::process::exit(garth::cli::main());
}
