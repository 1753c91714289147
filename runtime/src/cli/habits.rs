//! Flags that users of other tools type, and what to use here instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Flags of `docker run` and others that `wrap` does not have.
const OF_WRAP: [(&[&str], &str); 8] = [
    (&["-i", "--interactive"], "leave it out: the command inherits standard input"),
    (&["-t", "--tty"], "leave it out: the command inherits the terminal"),
    (&["--rm"], "leave it out: nothing of a sandbox remains when it ends"),
    (&["--init"], "leave it out: there is always an init, except with --as-pid-1"),
    (&["--timeout"], "use timeout(1): garth wrap -- timeout 10 COMMAND"),
    (&["-m"], "use --memory"),
    (&["--net"], "use --network"),
    (&["--mount"], "use -v SOURCE:TARGET or --tmpfs TARGET"),
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
