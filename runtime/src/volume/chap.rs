//! The account by which a client of iSCSI proves who it is (CHAP, RFC 7143, 12.1). It is in a file, on
//! the client and on the server, and never on a command line, which everyone can read.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// More than that is another file.
const MOST: u64 = 1024;
/// What open-iscsi's records hold (`AUTH_STR_MAX_LEN`), with the byte at their end.
const LONGEST: usize = 255;

/// A name and a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ChapAccount {
    /// The name.
    pub user: String,
    /// The secret.
    pub password: String,
}

impl fmt::Debug for ChapAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapAccount").field("user", &self.user).finish_non_exhaustive()
    }
}

impl ChapAccount {
    /// Reads a file: `USER PASSWORD`, in one line.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or it has no account.
    pub fn read(path: &Path) -> Result<ChapAccount> {
        let failed = |error| Error::io(format!("read {}", path.display()), &error);
        let mut file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & 0o007 != 0 {
            return Err(Error::new(format!("{} can be read by every user", path.display()))
                .hint(format!("chmod o= {}", path.display())));
        }
        let mut text = String::new();
        (&mut file).take(MOST).read_to_string(&mut text).map_err(failed)?;
        ChapAccount::parse(&text).map_err(|error| error.within(path.display()))
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// It has no account.
    pub fn parse(text: &str) -> Result<ChapAccount> {
        // What is wrong with it is not shown.
        let wrong = |why: &str| Error::new(why).hint("write USER PASSWORD, in one line");
        let words: Vec<&str> = text.split_whitespace().collect();
        let [user, password] = words[..] else {
            return Err(wrong("not a name and a password"));
        };
        for word in [user, password] {
            let known = word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
            if !known || word.len() > LONGEST {
                return Err(wrong("not letters, digits and signs of ASCII, or a comma"));
            }
        }
        Ok(ChapAccount { user: user.to_owned(), password: password.to_owned() })
    }

    /// An account that a server may demand: a secret of less than 96 bits is guessed from what passes
    /// over the network (RFC 7143, 9.2.1).
    ///
    /// # Errors
    /// It is shorter.
    pub fn demand_length(&self) -> Result<()> {
        match self.password.len() < 12 {
            true => Err(Error::new("the CHAP password has less than 12 characters")
                .hint("those that watch the network can guess it")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_account_is_a_name_and_a_password_in_a_file_that_not_everyone_reads() {
        let dir = std::env::temp_dir().join(format!("garth-chap-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("chap");
        std::fs::write(&path, "iqn.2015-06.net.example:c correct=horse\n").unwrap();
        for (mode, right) in [(0o644, false), (0o602, false), (0o640, true), (0o600, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(ChapAccount::read(&path).is_ok(), right, "{mode:o}");
        }
        let account = ChapAccount::read(&path).unwrap();
        assert_eq!(
            (&*account.user, &*account.password),
            ("iqn.2015-06.net.example:c", "correct=horse")
        );
        assert!(!format!("{account:?}").contains("horse"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_is_no_account_is_refused_without_showing_it() {
        let long = format!("joe {}", "x".repeat(256));
        for text in
            ["", "joe", "joe hidden1 hidden2", "joe hid,den", "joe hiddé", "j\0 hidden", &long]
        {
            let error = ChapAccount::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hid") && !error.contains("xxx"), "{error}");
        }
    }
}
