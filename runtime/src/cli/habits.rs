//! What users of other tools type, and what to use here instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Flags of `docker run` and others that `wrap` does not have.
const OF_WRAP: [(&[&str], &str); 6] = [
    (&["--rm"], "leave it out: nothing of a sandbox remains when it ends"),
    (&["--init"], "leave it out: there is always an init, except with --as-pid-1"),
    (&["--timeout"], "use timeout(1): garth wrap -- timeout 10 COMMAND"),
    (&["-m"], "use --memory"),
    (&["--net"], "use --network"),
    (&["--mount"], "use -v SOURCE:TARGET or --tmpfs TARGET"),
];

/// Verbs of docker, podman and others that garth does not have.
const VERBS: [(&[&str], &str); 4] = [
    (&["rm", "remove"], "use delete"),
    (&["stop"], "use kill: it sends SIGTERM, as stop does"),
    (&["inspect"], "use check, or state for a container"),
    (
        &["pull", "images", "build", "image"],
        "there are no images: use --rootfs DIR, or podman with garth as its runtime",
    ),
];

/// The verb that an error is about, if there is none of that name.
pub fn unknown_verb(error: &clap::Error) -> Option<&str> {
    match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => Some(word),
        _ => None,
    }
}

/// What to use instead of a verb that there is not, or of a flag that `verb` does not have.
pub fn hint(verb: &str, error: &clap::Error) -> Option<&'static str> {
    if let Some(word) = unknown_verb(error) {
        return VERBS.iter().find(|(words, _)| words.contains(&word)).map(|(_, hint)| *hint);
    }
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = flag.split('=').next()?;
    let habits: &[(&[&str], &str)] = match verb {
        "wrap" | "explain" => &OF_WRAP,
        _ => return None,
    };
    habits.iter().find(|(flags, _)| flags.contains(&flag)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::super::help;
    use super::*;

    fn error(line: &str) -> clap::Error {
        let args: Vec<_> = line.split(' ').map(Into::into).collect();
        help::parse(&args).unwrap_err()
    }

    #[test]
    fn verbs_and_flags_of_other_tools_have_a_hint() {
        for word in VERBS.iter().flat_map(|(words, _)| *words) {
            let error = error(&format!("garth {word} web"));
            assert!(hint(word, &error).is_some(), "there is a verb {word}: {error}");
        }
        assert_eq!(hint("help", &error("garth help rm")), Some("use delete"));
        assert_eq!(hint("wrap", &error("garth wrap --rm true")), Some(OF_WRAP[0].1));
        assert_eq!(hint("wrp", &error("garth wrp")), None);
    }
}
