//! What this machine has for volumes: drivers of the kernel, loaded or not, and programs.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::tools::PACKAGES;
use crate::config::USUAL_PATH;
use crate::error::{Error, Result};

/// What is called how: the driver of the kernel as users know it, and its module.
const DRIVERS: [(&str, &str); 5] = [
    ("md", "md_mod"),
    ("raid10", "raid10"),
    ("iscsi", "iscsi_tcp"),
    ("nbd", "nbd"),
    ("loop", "loop"),
];

/// What there is, and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeTools {
    /// Drivers and programs.
    pub there: Vec<String>,
    /// Those that are missing; of programs with the package that has them on Debian.
    pub missing: Vec<String>,
}

impl VolumeTools {
    /// Of this machine.
    ///
    /// # Errors
    /// It cannot be determined.
    pub fn look() -> Result<VolumeTools> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let modules = Path::new("/lib/modules").join(release);
        let lists = ["modules.builtin", "modules.dep"].map(|name| read(&modules.join(name)));
        let lists = lists.into_iter().collect::<Result<String>>()?;
        let loaded = |module: &str| Path::new("/sys/module").join(module).is_dir();
        let program =
            |name: &str| USUAL_PATH.split(':').any(|dir| Path::new(dir).join(name).is_file());
        Ok(VolumeTools::of(&lists, &loaded, &program))
    }

    /// By the text of the lists of modules, those that are loaded, and the programs that are there.
    pub fn of(
        lists: &str,
        loaded: &dyn Fn(&str) -> bool,
        program: &dyn Fn(&str) -> bool,
    ) -> VolumeTools {
        let listed = |module: &str| {
            // `kernel/drivers/md/md-mod.ko.xz: ...`; a hyphen is as good as an underscore.
            lists.lines().filter_map(|line| line.split(':').next()?.rsplit('/').next()).any(
                |file| {
                    file.split_once(".ko").is_some_and(|(name, _)| name.replace('-', "_") == module)
                },
            )
        };
        let mut tools = VolumeTools::default();
        for (name, module) in DRIVERS {
            match loaded(module) || listed(module) {
                true => tools.there.push(name.to_owned()),
                false => tools.missing.push(format!("{name} in the kernel")),
            }
        }
        // Where there is no udev, none is in the way.
        for (name, package) in PACKAGES.into_iter().filter(|(name, _)| *name != "udevadm") {
            match program(name) {
                true => tools.there.push(name.to_owned()),
                false if name == package => tools.missing.push(name.to_owned()),
                false => tools.missing.push(format!("{name} ({package})")),
            }
        }
        tools
    }
}

fn read(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| Error::io(format!("read {}", path.display()), &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_there_if_it_is_loaded_built_in_or_a_module() {
        let lists = "kernel/drivers/block/loop.ko\n\
            kernel/drivers/md/md-mod.ko.xz:\n\
            kernel/drivers/md/raid10.ko: kernel/drivers/md/md-mod.ko\n\
            kernel/drivers/block/nbd-other.ko:\n";
        let tools =
            VolumeTools::of(lists, &|module| module == "iscsi_tcp", &|name| name == "mdadm");
        assert_eq!(tools.there, ["md", "raid10", "iscsi", "loop", "mdadm"]);
        let missing = [
            "nbd in the kernel",
            "iscsiadm (open-iscsi)",
            "modprobe (kmod)",
            "wipefs (util-linux)",
            "mkfs.ext4 (e2fsprogs)",
            "mkfs.xfs (xfsprogs)",
            "e2fsck (e2fsprogs)",
            "resize2fs (e2fsprogs)",
            "xfs_growfs (xfsprogs)",
        ];
        assert_eq!(tools.missing, missing);
    }
}
