//! open-iscsi's records of targets, as far as they are written here: settings, and the account, which must
//! not be an argument of iscsiadm(8).

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::array::names;
use super::chap::ChapAccount;
use super::device::Portal;
use crate::error::{Error, Result};

/// Where they are: of Debian, and of distributions that follow the later default.
const PLACES: [&str; 2] = ["/etc/iscsi/nodes", "/var/lib/iscsi/nodes"];

/// Writes settings and an account to the record of a target, which iscsiadm(8) has made.
///
/// # Errors
/// There is none, others can read it, or it cannot be written.
pub fn write(
    portal: &Portal,
    target: &str,
    settings: &[(&str, &str)],
    account: Option<&ChapAccount>,
) -> Result<()> {
    let mut settings = settings.to_vec();
    if let Some(ChapAccount { user, password }) = account {
        settings.extend([
            ("node.session.auth.authmethod", "CHAP"),
            ("node.session.auth.username", user),
            ("node.session.auth.password", password),
        ]);
    }
    let records = records(portal, target)?;
    if records.is_empty() {
        return Err(Error::new(format!("open-iscsi has no record of {target} at {portal}"))
            .hint(format!("it is looked for in {}", PLACES.join(" and "))));
    }
    for path in records {
        let failed = |error| Error::io(format!("write the settings to {}", path.display()), &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() || (account.is_some() && meta.mode() & 0o077 != 0) {
            return Err(Error::new(format!("others can read {}", path.display()))
                .hint(format!("chmod go= {}", path.display())));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let text = with_settings(&text, &settings);
        file.rewind().map_err(failed)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.set_len(text.len() as u64))
            .map_err(failed)?;
    }
    Ok(())
}

/// Copies the record of a target for another one that has none. `false`: there is no such record, or not
/// only one, or the other has one.
///
/// # Errors
/// It cannot be determined, or not be written.
pub fn copy(from: &(Portal, String), portal: &Portal, target: &str) -> Result<bool> {
    let plain = format!("{},{}", from.0.host, from.0.port);
    let of_one = match &records(&from.0, &from.1)?[..] {
        // Another form has the group in it, which is the target's own.
        [path] if path.file_name().is_some_and(|name| *name == *plain) => path.clone(),
        _ => return Ok(false),
    };
    let (Some(place), true) = (of_one.ancestors().nth(2), records(portal, target)?.is_empty())
    else {
        return Ok(false);
    };
    let text = fs::read_to_string(&of_one)
        .map_err(|error| Error::io(format!("read {}", of_one.display()), &error))?;
    let port = portal.port.to_string();
    let address = [("node.conn[0].address", portal.host.as_str()), ("node.conn[0].port", &port)];
    let text = with_settings(&text, &[("node.name", target), address[0], address[1]]);
    let dir = place.join(target);
    let path = dir.join(format!("{},{port}", portal.host));
    let failed = |error| Error::io(format!("write {}", path.display()), &error);
    match DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(true)
}

/// Whether open-iscsi has records of other targets than these, or of these at other servers; of those
/// at one of the servers, or of all.
///
/// # Errors
/// It cannot be determined.
pub fn has_others(targets: &[(Portal, String)], at: Option<&Portal>) -> Result<bool> {
    for place in PLACES {
        for name in names(Path::new(place))?.unwrap_or_default() {
            let ours = targets.iter().filter(|(_, target)| *target == name);
            let ours = ours.map(|(portal, _)| records(portal, &name).map(|found| found.len()));
            let ours: usize = ours.sum::<Result<usize>>()?;
            let all = match at {
                Some(portal) => records(portal, &name)?.len(),
                None => records_of(&name, "")?.len(),
            };
            if all > ours {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The records of a target: `TARGET/ADDRESS,PORT`, or, if it was discovered before,
/// `TARGET/ADDRESS,PORT,GROUP/IFACE`.
///
/// # Errors
/// It cannot be determined.
pub fn records(portal: &Portal, target: &str) -> Result<Vec<PathBuf>> {
    records_of(target, &format!("{},{}", portal.host, portal.port))
}

/// Those of a target whose portals' names begin so.
fn records_of(target: &str, begins: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in PLACES {
        let dir = Path::new(place).join(target);
        for name in names(&dir)?.unwrap_or_default() {
            match name.strip_prefix(begins) {
                Some(rest) if begins.is_empty() || rest.is_empty() || rest.starts_with(',') => {}
                _ => continue,
            }
            let entry = dir.join(name);
            match entry.is_dir() {
                true => {
                    let ifaces = names(&entry)?.unwrap_or_default();
                    found.extend(ifaces.into_iter().map(|iface| entry.join(iface)));
                }
                false => found.push(entry),
            }
        }
    }
    Ok(found)
}

/// A record with these settings in the place of others.
fn with_settings(record: &str, settings: &[(&str, &str)]) -> String {
    let lines: String =
        settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    let is_ours = |line: &str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        settings.iter().any(|(ours, _)| *ours == name)
    };
    let (mut text, mut written) = (String::new(), false);
    for line in record.lines().filter(|line| !is_ours(line)) {
        if line.starts_with("# END") && !written {
            text += &lines;
            written = true;
        }
        text += line;
        text.push('\n');
    }
    if !written {
        text += &lines;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_take_the_place_of_others() {
        let settings = [
            ("node.session.auth.authmethod", "CHAP"),
            ("node.session.auth.username", "joe"),
            ("node.session.auth.password", "new"),
        ];
        let record = "# BEGIN RECORD 2.1.8\nnode.name = iqn.x:a\nnode.session.auth.authmethod = None\n\
            node.session.auth.password = old\nnode.session.auth.password_in = other\n\
            node.conn[0].port = 3260\n# END RECORD\n";
        let expected = "# BEGIN RECORD 2.1.8\nnode.name = iqn.x:a\n\
            node.session.auth.password_in = other\nnode.conn[0].port = 3260\n\
            node.session.auth.authmethod = CHAP\nnode.session.auth.username = joe\n\
            node.session.auth.password = new\n# END RECORD\n";
        assert_eq!(with_settings(record, &settings), expected);
        assert_eq!(with_settings(expected, &settings), expected);
    }
}
