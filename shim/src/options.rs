//! The options of a runtime: those of runc's, which engines pass to any, and a file of the same names.

use std::fs;
use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::protobuf::{Message, UnknownValueRef};
use containerd_shim_protos::shim::oci;
use garth::{Error, Result};
use serde::{Deserialize, Serialize};

/// Where the state directories are, one for each namespace of containerd.
const ROOT: &str = "/run/containerd/garth";
/// The name of the file in a bundle, as runc's shim writes it.
const FILE: &str = "options.json";

/// What can be set. The names are those of containerd's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase", deny_unknown_fields)]
pub struct Options {
    /// Where the state directories are.
    pub root: PathBuf,
    /// Have systemd make the cgroups.
    pub systemd_cgroup: bool,
    /// chroot(2) instead of pivot_root(2).
    pub no_pivot_root: bool,
    /// Keep the session keyring.
    pub no_new_keyring: bool,
    /// A cgroup for the shim itself.
    pub shim_cgroup: String,
    /// The owner of the pipes.
    pub io_uid: u32,
    /// The group of the pipes.
    pub io_gid: u32,
    /// Another runtime's program; ignored, as none is executed.
    pub binary_name: String,
    /// Where checkpoints are.
    pub criu_image_path: PathBuf,
    /// Where criu works.
    pub criu_work_path: PathBuf,
}

/// Options of runc's runtime, and those of any other in containerd's configuration (`runtimeoptions/v1/api.proto`),
/// whose package was renamed once.
const RUNC: &str = "containerd.runc.v1.Options";
/// What clients of 1.6 set for a container with a user namespace, unless the runtime is runc (`linux/runctypes`).
const OLD: &str = "containerd.linux.runc.CreateOptions";
const ANY: [&str; 2] = ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"];

fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

fn unknown(any: &Any) -> Error {
    Error::new(format!("options of type {:?}: unknown", any.type_url))
}

fn wrong(any: &Any, error: &dyn std::fmt::Display) -> Error {
    Error::new(format!("options {}", name(&any.type_url))).because(error)
}

/// Reads the options of a checkpoint.
///
/// # Errors
/// An unknown type, or contents that are none of this type.
pub fn checkpoint(any: &Any) -> Result<oci::CheckpointOptions> {
    match name(&any.type_url) {
        "" if any.value.is_empty() => Ok(oci::CheckpointOptions::default()),
        // The second by clients of 1.6, unless the runtime is runc; the fields are the same.
        "containerd.runc.v1.CheckpointOptions" | "containerd.linux.runc.CheckpointOptions" => {
            oci::CheckpointOptions::parse_from_bytes(&any.value).map_err(|error| wrong(any, &error))
        }
        _ => Err(unknown(any).hint("known are those of runc")),
    }
}

impl Options {
    /// Whether options of this type can be read.
    pub fn is_known(url: &str) -> bool {
        [RUNC, OLD].contains(&name(url)) || ANY.contains(&name(url))
    }

    /// Reads them.
    ///
    /// # Errors
    /// An unknown type, or contents that are none of this type.
    pub fn read(any: &Any) -> Result<Options> {
        let wrong = |error: &dyn std::fmt::Display| wrong(any, error);
        if any.type_url.is_empty() && any.value.is_empty() {
            return Ok(Options::default());
        }
        if name(&any.type_url) == RUNC {
            return oci::Options::parse_from_bytes(&any.value)
                .map(Options::from)
                .map_err(|error| wrong(&error));
        }
        if !Options::is_known(&any.type_url) {
            return Err(unknown(any).hint("known are those of runc and runtimeoptions.v1"));
        }
        let fields = Empty::parse_from_bytes(&any.value).map_err(|error| wrong(&error))?;
        let fields = fields.special_fields.unknown_fields();
        let text = |number: u32| match fields.get(number) {
            Some(UnknownValueRef::LengthDelimited(bytes)) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            _ => String::new(),
        };
        let number = |number: u32| match fields.get(number) {
            Some(UnknownValueRef::Varint(value)) => value as u32,
            _ => 0,
        };
        if name(&any.type_url) == OLD {
            return Ok(Options {
                no_pivot_root: number(1) != 0,
                no_new_keyring: number(8) != 0,
                shim_cgroup: text(9),
                io_uid: number(10),
                io_gid: number(11),
                criu_work_path: text(12).into(),
                criu_image_path: text(13).into(),
                ..Options::default()
            });
        }
        // The type of the contents, a path, and the contents.
        let (path, body) = (text(2), text(3));
        match (path.as_str(), body.as_str()) {
            ("", body) => Options::parse(body).map_err(|error| wrong(&error)),
            (path, _) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| Error::io(format!("read {path}"), &error))?;
                Options::parse(&text).map_err(|error| error.within(path))
            }
        }
    }

    fn parse(text: &str) -> Result<Options> {
        toml::from_str(text).map_err(|error| Error::new(error.message().to_owned()))
    }

    /// The state directory of a namespace of containerd.
    pub fn state(&self, namespace: &str) -> PathBuf {
        let root = if self.root.as_os_str().is_empty() { Path::new(ROOT) } else { &self.root };
        root.join(namespace)
    }

    /// Leaves them in a bundle, for who cleans up after a shim that is gone.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, bundle: &Path) -> Result<()> {
        let file = bundle.join(FILE);
        let text =
            serde_json::to_vec(self).map_err(|error| Error::new("write options").because(error))?;
        fs::write(&file, text)
            .map_err(|error| Error::io(format!("write {}", file.display()), &error))
    }

    /// Those in a bundle; without a file, the usual ones.
    ///
    /// # Errors
    /// There is a file, and it cannot be read.
    pub fn of(bundle: &Path) -> Result<Options> {
        let file = bundle.join(FILE);
        let text = match fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Options::default());
            }
            text => text.map_err(|error| Error::io(format!("read {}", file.display()), &error))?,
        };
        serde_json::from_slice(&text)
            .map_err(|error| Error::new(format!("read {}", file.display())).because(error))
    }
}

impl From<oci::Options> for Options {
    fn from(runc: oci::Options) -> Options {
        Options {
            root: runc.root.into(),
            systemd_cgroup: runc.systemd_cgroup,
            no_pivot_root: runc.no_pivot_root,
            no_new_keyring: runc.no_new_keyring,
            shim_cgroup: runc.shim_cgroup,
            io_uid: runc.io_uid,
            io_gid: runc.io_gid,
            binary_name: runc.binary_name,
            criu_image_path: runc.criu_image_path.into(),
            criu_work_path: runc.criu_work_path.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(url: &str, value: Vec<u8>) -> Any {
        Any { type_url: url.into(), value, ..Any::default() }
    }

    #[test]
    fn those_of_runc_are_understood() {
        let runc = oci::Options {
            root: "/r".into(),
            systemd_cgroup: true,
            io_uid: 7,
            ..oci::Options::default()
        };
        let read =
            Options::read(&any("containerd.runc.v1.Options", runc.write_to_bytes().unwrap()))
                .unwrap();
        assert_eq!((read.systemd_cgroup, read.io_uid), (true, 7));
        assert_eq!(read.state("k8s.io"), Path::new("/r/k8s.io"));
        assert_eq!(
            Options::read(&Any::default()).unwrap().state("moby"),
            Path::new("/run/containerd/garth/moby")
        );
    }

    #[test]
    fn those_of_the_configuration_are_understood() {
        // Field 3, a string of 21 bytes.
        let mut body = vec![0x1a, 21];
        body.extend(b"SystemdCgroup = true\n");
        let read = Options::read(&any("runtimeoptions.v1.Options", body)).unwrap();
        assert!(read.systemd_cgroup);
        let mut body = vec![0x1a, 9];
        body.extend(b"Sysd = 1\n");
        let error = Options::read(&any("runtimeoptions.v1.Options", body)).unwrap_err().to_string();
        assert!(error.contains("Sysd"), "{error}");
    }

    #[test]
    fn those_of_a_checkpoint_are_of_a_known_type() {
        let exit = vec![0x08, 1];
        for url in
            ["containerd.runc.v1.CheckpointOptions", "x.io/containerd.linux.runc.CheckpointOptions"]
        {
            assert!(checkpoint(&any(url, exit.clone())).unwrap().exit);
            let error = checkpoint(&any(url, vec![0xff])).unwrap_err().to_string();
            assert!(error.contains("runc") && error.contains("CheckpointOptions"), "{error}");
        }
        assert!(!checkpoint(&Any::default()).unwrap().exit);
        let error = checkpoint(&any("containerd.runc.v1.Options", exit)).unwrap_err().to_string();
        assert!(error.contains("\"containerd.runc.v1.Options\": unknown"), "{error}");
    }

    #[test]
    fn others_are_refused() {
        for (url, value) in [("vmm.Options", vec![]), ("containerd.runc.v1.Options", vec![0xff])] {
            let error = Options::read(&any(url, value)).unwrap_err().to_string();
            assert!(error.contains(url), "{error}");
        }
    }
}
