//! The name of a unit, and the specifiers that depend on it (systemd.unit(5)).

use crate::config::secret::SECRETS;
use crate::error::{Error, Result};

/// The name of a service unit: `STEM.service`, where the stem is `PREFIX` or `PREFIX@INSTANCE`.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitName {
    prefix: String,
    instance: Option<String>,
}

impl UnitName {
    /// Takes a name apart; `.service` may be missing.
    ///
    /// # Errors
    /// It is that of another kind of unit, not one at all, or that of a template.
    pub fn parse(name: &str) -> Result<UnitName> {
        const KINDS: [&str; 10] = [
            "socket",
            "timer",
            "target",
            "mount",
            "automount",
            "path",
            "slice",
            "scope",
            "device",
            "swap",
        ];
        let stem = name.strip_suffix(".service").unwrap_or(name);
        if let Some((_, kind)) = stem.rsplit_once('.')
            && KINDS.contains(&kind)
        {
            return Err(Error::new(format!("{name}: a {kind}; only a .service has a command")));
        }
        let fine = |c: char| c.is_ascii_alphanumeric() || ":_.-\\@".contains(c);
        if stem.is_empty() || stem.len() > 240 || !stem.chars().all(fine) {
            let shown: String = name.chars().take(60).collect();
            return Err(Error::new(format!("{shown:?} is not the name of a unit")));
        }
        let (prefix, instance) = match stem.split_once('@') {
            None => (stem, None),
            Some(("", _)) => return Err(Error::new(format!("{name}: nothing before the @"))),
            Some((prefix, "")) => {
                return Err(Error::new(format!("{name} is a template: which instance?"))
                    .hint(format!("write {prefix}@NAME.service")));
            }
            Some((prefix, instance)) => (prefix, Some(instance.to_owned())),
        };
        Ok(UnitName { prefix: prefix.to_owned(), instance })
    }

    /// `nginx.service`, `postgresql@15-main.service`.
    pub fn file(&self) -> String {
        format!("{}.service", self.stem())
    }

    /// The template that it is an instance of: `postgresql@.service`.
    pub fn template(&self) -> Option<String> {
        self.instance.as_ref().map(|_| format!("{}@.service", self.prefix))
    }

    /// `postgresql`, of `postgresql@15-main`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `postgresql@15-main`.
    pub fn stem(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}@{instance}", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// Its name as a service of Garth: `postgresql-15-main`.
    pub fn of_service(&self) -> String {
        let fine = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
        let name = self.stem().replace(|c| !fine(c), "-");
        let name = name.trim_start_matches(['.', '-', '+']);
        let name: String = name.chars().take(64).collect();
        if name.is_empty() { "service".into() } else { name }
    }

    /// Replaces the specifiers of the system's manager.
    ///
    /// # Errors
    /// One is known to systemd, but not here: it depends on the machine or the moment.
    pub fn expand(&self, text: &str) -> Result<String> {
        let mut done = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                done.push(c);
                continue;
            }
            let Some(which) = rest.next() else {
                done.push('%');
                break;
            };
            let instance = || self.instance.clone().unwrap_or_default();
            let last = || self.prefix.rsplit('-').next().unwrap_or_default().to_owned();
            let value = match which {
                '%' => "%".into(),
                'n' => self.file(),
                'N' => self.stem(),
                'p' => self.prefix.clone(),
                'P' => unescape(&self.prefix)?,
                'i' => instance(),
                'I' => unescape(&instance())?,
                'j' => last(),
                'J' => unescape(&last())?,
                'f' => {
                    let path = unescape(self.instance.as_ref().unwrap_or(&self.prefix))?;
                    format!("/{}", path.trim_start_matches('/'))
                }
                't' => "/run".into(),
                'S' => "/var/lib".into(),
                'C' => "/var/cache".into(),
                'L' => "/var/log".into(),
                'E' => "/etc".into(),
                'T' => "/tmp".into(),
                'V' => "/var/tmp".into(),
                // The manager's user, not that of the unit.
                'u' | 'g' => "root".into(),
                'U' | 'G' => "0".into(),
                'h' => "/root".into(),
                's' => "/bin/sh".into(),
                'd' => SECRETS.into(),
                'a' | 'A' | 'b' | 'B' | 'H' | 'l' | 'm' | 'M' | 'o' | 'q' | 'v' | 'w' | 'W'
                | 'y' | 'Y' => {
                    return Err(Error::new(format!(
                        "%{which} depends on the machine: write its value"
                    )));
                }
                other => format!("%{other}"),
            };
            done.push_str(&value);
        }
        Ok(done)
    }
}

/// `a-b\x2dc` is `a/b-c`.
fn unescape(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'-', _) => bytes.push(b'/'),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digit = |c: &u8| char::from(*c).to_digit(16);
                let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                    return Err(Error::new(format!("{text:?}: not escaped as in unit names")));
                };
                bytes.push((high * 16 + low) as u8);
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    let whole = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    whole.ok_or_else(|| Error::new(format!("{text:?}: not text when it is unescaped")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifiers_of_the_name_are_replaced() {
        let name = UnitName::parse("my-app@a-b\\x2dc").unwrap();
        for (text, expected) in [
            ("%n|%N", "my-app@a-b\\x2dc.service|my-app@a-b\\x2dc"),
            ("%p|%P|%j", "my-app|my/app|app"),
            ("%i|%I|%f", "a-b\\x2dc|a/b-c|/a/b-c"),
            ("%t/x %S %C %L %E %T", "/run/x /var/lib /var/cache /var/log /etc /tmp"),
            ("%u %U %h 100%% %z %", "root 0 /root 100% %z %"),
        ] {
            assert_eq!(name.expand(text).unwrap(), expected);
        }
        assert!(name.expand("%m").unwrap_err().to_string().contains("%m"));
        assert_eq!(UnitName::parse("ssh.service").unwrap().expand("%i%N").unwrap(), "ssh");
    }

    #[test]
    fn a_name_is_that_of_a_service() {
        let name = UnitName::parse("postgresql@15-main.service").unwrap();
        assert_eq!(name.of_service(), "postgresql-15-main");
        assert_eq!(name.template().unwrap(), "postgresql@.service");
        for (text, says) in [
            ("ssh.socket", "a socket"),
            ("postgresql@", "which instance?; write postgresql@NAME.service"),
            ("@x", "nothing before"),
            ("a b", "not the name"),
            ("", "not the name"),
            ("../x", "not the name"),
        ] {
            let error = UnitName::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(UnitName::parse("x@a\\xff").unwrap().expand("%I").is_err());
    }
}
