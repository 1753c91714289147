//! The log in which engines look for errors: `--log FILE --log-format text|json`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::container::{Level, Warn, rfc3339};
use crate::error::{Error, Result};
use crate::facts::now;

/// Format of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines with the fields time, level and msg
    #[default]
    Text,
    /// One object per line, with the same keys
    Json,
}

/// The log options of every verb.
#[derive(Debug, Clone, Args)]
pub struct Log {
    /// Also write errors and warnings to this file
    #[arg(long, global = true, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Format of the log
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
    /// Also log each step
    #[arg(long, global = true, hide = true)]
    debug: bool,
}

impl Log {
    /// The log requested by arguments that could not be parsed as a whole.
    pub fn of_arguments(args: &[OsString]) -> Log {
        let value = |name: &str| {
            let mut args = args.iter().map(|arg| arg.to_string_lossy().into_owned());
            let inline = format!("{name}=");
            while let Some(arg) = args.next() {
                match arg.strip_prefix(&inline) {
                    Some(value) => return Some(value.to_owned()),
                    None if arg == name => return args.next(),
                    // The rest belongs to the program.
                    None if arg == "--" => return None,
                    None => {}
                }
            }
            None
        };
        let json = value("--log-format").as_deref() == Some("json");
        Log {
            log: value("--log").map(PathBuf::from),
            log_format: if json { LogFormat::Json } else { LogFormat::Text },
            debug: false,
        }
    }

    /// Writes a warning to the log or, without one, to standard error.
    pub fn warn(&self, message: &str) {
        match self.log {
            Some(_) => self.write("warning", message),
            None => super::caution(message),
        }
    }

    /// Writes a debug message, if requested.
    pub fn debug(&self, message: &str) {
        match &self.log {
            _ if !self.debug => {}
            Some(_) => self.write("debug", message),
            None => super::tell(&format!("debug: {message}")),
        }
    }

    /// A handle for later warnings.
    pub fn warnings(&self) -> Warn {
        let log = self.clone();
        Warn::by(self.debug, move |level, message| match level {
            Level::Warning => log.warn(message),
            Level::Note => log.write("info", message),
            Level::Debug => log.debug(message),
        })
    }

    /// Checks that the log can be written before anything is done: otherwise its reader would never
    /// learn of a failure.
    ///
    /// # Errors
    /// It cannot be opened or created.
    pub fn check(&self) -> Result<()> {
        let Some(path) = &self.log else { return Ok(()) };
        let open = open(path).map(drop);
        open.map_err(|e| Error::io(format!("open --log {}", path.display()), &e))
    }

    /// Writes one line; failure to write the log is ignored.
    pub fn write(&self, level: &str, message: &str) {
        let Some(path) = &self.log else { return };
        let time = rfc3339(now());
        let line = match self.log_format {
            LogFormat::Json => {
                serde_json::json!({"level": level, "msg": message, "time": time}).to_string()
            }
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        let _ = open(path).and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).open(path)
}
