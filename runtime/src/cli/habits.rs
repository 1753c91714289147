//! Flags that users of other tools type, and what to use here instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Flags of `docker run` and others that `wrap` does not have.
const OF_WRAP: [(&[&str], &str); 8] = [
    (&["-i", "--interactive"], "leave it out: the command reads what garth is given to read"),
    (&["-t", "--tty"], "leave it out: the command has the terminal that garth has"),
    (&["--rm"], "leave it out: what a sandbox had goes with its end"),
    (&["--init"], "leave it out: there is an init (--as-pid-1 does without)"),
    (&["--timeout"], "write it with the command: garth wrap -- timeout 10 COMMAND"),
    (&["-m"], "write --memory"),
    (&["--net"], "write --network"),
    (&["--mount"], "write -v SOURCE:TARGET, or --tmpfs TARGET"),
];

/// The same for `docker exec`.
const OF_EXEC: [(&[&str], &str); 1] = [OF_WRAP[0]];

/// What to use instead of a flag that `verb` does not have.
pub fn hint(verb: &str, error: &clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = flag.split('=').next()?;
    let habits: &[(&[&str], &str)] = match verb {
        "wrap" | "explain" => &OF_WRAP,
        "exec" => &OF_EXEC,
        _ => return None,
    };
    habits.iter().find(|(flags, _)| flags.contains(&flag)).map(|(_, hint)| *hint)
}
