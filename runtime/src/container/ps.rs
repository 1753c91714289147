//! `ps`: the processes of a container, as the host sees them.

use std::process::Stdio;

use super::Container;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::sys::program;

/// Their ids, in ascending order.
///
/// # Errors
/// There is no such container.
pub fn pids(journal: &Journal, id: &str) -> Result<Vec<i32>> {
    let container = Container::open(journal, id)?;
    let mut pids = container.record.resources.cgroup.pids()?;
    // Without a cgroup of its own, only the first process is known.
    if container.record.resources.cgroup.is_empty() {
        pids.extend(container.process()?.map(|(pid, _)| pid));
    }
    Ok(pids)
}

/// The output of ps(1) for these processes, with these options; `-ef` if there are none.
///
/// # Errors
/// ps(1) fails, or prints no process ids.
pub fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let mut command = program::new("ps");
    match options {
        [] => command.arg("-ef"),
        options => command.args(options),
    };
    let output = command.stdin(Stdio::null()).output().map_err(|e| Error::io("run ps", &e))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let first = words.lines().find(|line| !line.trim().is_empty()).unwrap_or("failed");
        return Err(Error::new(format!("ps: {}", first.trim())));
    }
    filter(pids, &String::from_utf8_lossy(&output.stdout))
}

/// The heading, and the lines of these processes.
fn filter(pids: &[i32], text: &str) -> Result<String> {
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| {
        Error::new("ps: no PID column").hint("the options must include that column")
    })?;
    let mut table = format!("{heading}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            table += line;
            table.push('\n');
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart_by_the_column_under_pid() {
        let text = "UID   PID  PPID CMD\nroot   12   345 a 99\nroot  345    12 b\nroot   99  1 c\n";
        let expected = "UID   PID  PPID CMD\nroot   12   345 a 99\nroot   99  1 c\n";
        assert_eq!(filter(&[12, 99], text).unwrap(), expected);
        assert_eq!(filter(&[], text).unwrap(), "UID   PID  PPID CMD\n");
        assert!(filter(&[1], "UID CMD\n").unwrap_err().to_string().contains("no PID column"));
    }
}
