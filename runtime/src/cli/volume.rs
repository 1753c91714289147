//! `garth volume`.

use std::io::{ErrorKind, IsTerminal, Write, stdout};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::manage::table;
use super::volume_tree::{code, still, tree, word};
use super::volume_upkeep::{Fail, Grow, Repair, Replace, Scrub};
use super::{Format, Global, print, shown, tell, to_json};
use crate::config::Size;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::volume::device::{VolumeDevice, here};
use crate::volume::explain::{VolumeAction, explain};
use crate::volume::layout::{AskedShape, RaidLayout};
use crate::volume::names;
use crate::volume::program::{Assembly, Creation};
use crate::volume::record::{FileSystem, VolumeRecord};
use crate::volume::step::VolumeStep;
use crate::volume::verbs::{self, VolumeRequest};

// A verb without a comment is described by that of its options.
#[derive(Debug, Subcommand)]
pub enum Volume {
    Create(Create),
    Status(Status),
    Repair(Repair),
    Fail(Fail),
    Replace(Replace),
    Scrub(Scrub),
    Grow(Grow),
    Assemble(Assemble),
    Stop(Stop),
    Destroy(Destroy),
    Ls(Ls),
}

#[derive(Debug, Subcommand)]
pub enum ExplainVolume {
    /// Explain `garth volume create`
    Create(ExplainCreate),
    /// Explain `garth volume assemble`
    Assemble(Explained<Assemble>),
    /// Explain `garth volume stop`
    Stop(Explained<Stop>),
    /// Explain `garth volume destroy`
    Destroy(Explained<Destroy>),
    /// Explain `garth volume repair`
    Repair(Explained<Repair>),
    /// Explain `garth volume fail`
    Fail(Explained<Fail>),
    /// Explain `garth volume replace`
    Replace(Explained<Replace>),
    /// Explain `garth volume scrub`
    Scrub(Explained<Scrub>),
}

/// Print what the verb would do, step by step, if all servers answer
#[derive(Debug, Args)]
pub struct Explained<Asked: Args> {
    #[command(flatten)]
    asked: Asked,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

impl<Asked: Args> Explained<Asked> {
    fn with(self, asked: impl FnOnce(Asked) -> (String, VolumeAction)) -> ExplainedAction {
        let (name, action) = asked(self.asked);
        ExplainedAction { name, action, format: self.format }
    }
}

/// What is explained.
struct ExplainedAction {
    name: String,
    action: VolumeAction,
    format: Format,
}

/// What is made on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fs {
    /// ext4
    Ext4,
    /// XFS
    Xfs,
    /// Nothing: it is used as a block device
    None,
}

/// What is asked of a new volume.
#[derive(Debug, Args)]
struct Request {
    /// Size, e.g. 75G [default: all that the devices hold]
    #[arg(long, value_name = "SIZE")]
    size: Option<String>,
    /// How many copies there are of everything
    #[arg(long, value_name = "COPIES")]
    mirrors: Option<u32>,
    /// How the members have the data: mirror, 1e, near, far, raid5 or raid6
    #[arg(long, value_name = "LAYOUT", default_value = "1e")]
    layout: String,
    /// How many arrays the data is striped over [default: as many as there can be]
    #[arg(long, value_name = "NUMBER")]
    stripes: Option<u32>,
    /// File system to make on it
    #[arg(long, value_enum, default_value = "ext4")]
    fs: Fs,
    /// How much is on one member before the next one's turn
    #[arg(long, value_name = "SIZE", default_value = "512k")]
    chunk: String,
    /// Also if there is something on the devices, which is then lost
    #[arg(long)]
    force: bool,
    /// The account that the iSCSI targets demand, in a file: USER PASSWORD, in one line
    #[arg(long, value_name = "FILE")]
    chap: Option<PathBuf>,
    /// The devices have the same content, as new files have: there is no first resync
    #[arg(long)]
    assume_clean: bool,
    /// The volume
    name: String,
    /// A target as iscsi://ADDRESS/TARGET, /dev/NAME or a file; {1..5} and {a,b} as in a shell
    #[arg(required = true, value_name = "DEVICE")]
    devices: Vec<String>,
}

/// Make a RAID volume from devices of servers and of this machine
///
/// Its members are placed so that no data has two copies on one server. What is on the devices is
/// not overwritten without --force. If it is interrupted, the same command continues it.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    request: Request,
}

/// Print what `garth volume create` would do, step by step
#[derive(Debug, Args)]
pub struct ExplainCreate {
    #[command(flatten)]
    request: Request,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Show how a RAID volume is, and what may still fail before data is lost
///
/// The exit status is 0 if it is healthy, 1 if it is degraded, and 2 if it is stopped or has failed.
#[derive(Debug, Args)]
pub struct Status {
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Show it again whenever it changes, until interrupted; as JSON, a line each time
    #[arg(long)]
    watch: bool,
    /// The volume
    name: String,
}

/// Connect the devices of a RAID volume and start it, as after a reboot
///
/// --degraded goes on with what there is. If servers were lost at different times, the one that was
/// lost last must be there, as far as is known from the last assemble, status, repair or stop.
#[derive(Debug, Args)]
pub struct Assemble {
    /// Without the servers that do not answer, as long as all data is there
    #[arg(long)]
    degraded: bool,
    /// Also with members that the others went on without: what was written since is given up
    #[arg(long)]
    stale: bool,
    /// The volume
    name: String,
}

/// Stop a RAID volume and disconnect its devices; its data stays
#[derive(Debug, Args)]
pub struct Stop {
    /// The volume
    name: String,
}

/// Remove a RAID volume from its devices; its data is lost
///
/// It is stopped first; it must not be mounted. Its devices are then members of nothing. All of them
/// have to be there, but for those that are gone for good.
#[derive(Debug, Args)]
pub struct Destroy {
    /// A server, or a device as it was given, that will not be back
    #[arg(long, value_name = "SERVER|DEVICE")]
    without: Vec<String>,
    /// The volume
    name: String,
}

/// List RAID volumes
#[derive(Debug, Args)]
pub struct Ls {
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Print only names
    #[arg(short, long)]
    quiet: bool,
}

impl Request {
    fn read(self) -> Result<(VolumeRequest, Creation)> {
        let here = here()?;
        let size = |name: &str, text: &str| {
            let size: Result<Size> = text.parse();
            size.map_err(|error| error.within(format_args!("--{name}")))
        };
        let layout: RaidLayout = self.layout.parse()?;
        let request = VolumeRequest {
            devices: names::resolved(VolumeDevice::parse_all(&self.devices, &here)?)?,
            shape: AskedShape { layout, mirrors: self.mirrors, stripes: self.stripes },
            size: self.size.as_deref().map(|text| size("size", text)).transpose()?,
            chunk: size("chunk", &self.chunk)?,
            file_system: match self.fs {
                Fs::Ext4 => FileSystem::Ext4,
                Fs::Xfs => FileSystem::Xfs,
                Fs::None => FileSystem::None,
            },
            name: self.name,
            chap: self.chap.map(|file| here.join(file)),
        };
        Ok((request, Creation { force: self.force, assume_clean: self.assume_clean }))
    }
}

impl Assemble {
    fn how(&self) -> Assembly {
        Assembly { degraded: self.degraded || self.stale, stale: self.stale, lost: Vec::new() }
    }
}

impl Volume {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let journal = global.journal();
        let say = |line: &str| tell(line);
        match self {
            Volume::Create(verb) => {
                let (request, how) = verb.request.read()?;
                tell(&format!("{}: {}", request.name, promise(&request)?));
                verbs::create(&journal, &request, how, &say)?;
                let status = verbs::status(&journal, &request.name)?;
                if let Some(now) = status.may_lose.filter(|now| Some(*now) != status.made_for) {
                    tell(&format!("{}: {}", status.name, still(&status, now)));
                }
                print(&format!("{}\n", status.device.unwrap_or_default()));
            }
            Volume::Status(verb) if verb.watch => watch(&journal, &verb.name, verb.format)?,
            Volume::Status(verb) => {
                let status = verbs::status(&journal, &verb.name)?;
                match verb.format {
                    Format::Text => print(&tree(&status)),
                    Format::Json => print(&to_json(&status)?),
                }
                return Ok(code(status.health));
            }
            Volume::Assemble(verb) => {
                verbs::assemble(&journal, &verb.name, verb.how(), &say)?;
                let status = verbs::status(&journal, &verb.name)?;
                print(&format!("{}\n", status.device.unwrap_or_default()));
            }
            Volume::Repair(verb) => return verb.run(&journal),
            Volume::Fail(verb) => return verb.run(&journal),
            Volume::Replace(verb) => return verb.run(&journal),
            Volume::Scrub(verb) => return verb.run(&journal),
            Volume::Grow(verb) => return verb.run(&journal),
            Volume::Stop(verb) => verbs::stop(&journal, &verb.name, &say)?,
            Volume::Destroy(verb) => verbs::destroy(&journal, &verb.name, &verb.without, &say)?,
            Volume::Ls(verb) => {
                let names = verbs::names(&journal)?;
                if verb.quiet {
                    names.iter().for_each(|name| print(&format!("{}\n", shown(name))));
                    return Ok(0);
                }
                let mut all = Vec::new();
                let mut unfinished = Vec::new();
                for name in names {
                    match VolumeRecord::is_written(&journal.raid(), &name)? {
                        true => all.push(verbs::status(&journal, &name)?),
                        false => unfinished.push(name),
                    }
                }
                if verb.format == Format::Json {
                    print(&to_json(&all)?);
                    return Ok(0);
                }
                let titles = ["NAME", "HEALTH", "SIZE", "MAY LOSE", "DEVICE"].map(String::from);
                let rows = all.into_iter().map(|volume| {
                    vec![
                        volume.name,
                        word(volume.health, volume.phase).to_owned(),
                        volume.size.map_or("-".into(), |size| Size(size).to_string()),
                        volume.may_lose.map_or("-".into(), |losses| losses.to_string()),
                        volume.device.unwrap_or("-".into()),
                    ]
                });
                let rows: Vec<_> = std::iter::once(titles.to_vec()).chain(rows).collect();
                print(&table(&rows));
                for name in unfinished {
                    tell(&format!(
                        "volume {name}: its creation ended before it began; repeat it, or garth volume destroy {name}"
                    ));
                }
            }
        }
        Ok(0)
    }
}

/// Prints how a volume is whenever that changes.
fn watch(journal: &Journal, name: &str, format: Format) -> Result<()> {
    let mut last = None;
    loop {
        let status = verbs::status(journal, name)?;
        if last.as_ref() != Some(&status) {
            let text = match format {
                // From the top of the terminal: it has to look as if it stood still.
                Format::Text if stdout().is_terminal() => {
                    format!("\x1b[H\x1b[J{}", tree(&status))
                }
                Format::Text => format!("{}\n", tree(&status)),
                Format::Json => {
                    let line = serde_json::to_string(&status)
                        .map_err(|error| Error::new(format!("print the status: {error}")))?;
                    line + "\n"
                }
            };
            let mut out = stdout().lock();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                written => {
                    written.map_err(|error| Error::io("write to standard output", &error))?
                }
            }
            last = Some(status);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

impl ExplainVolume {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let ExplainedAction { name, action, format } = match self {
            ExplainVolume::Create(verb) => {
                let (request, how) = verb.request.read()?;
                if verb.format == Format::Text {
                    print(&format!("out  {}\n", promise(&request)?));
                }
                return print_steps(&verbs::explain_create(&request, how)?, verb.format);
            }
            ExplainVolume::Assemble(verb) => verb.with(|asked| {
                let how = asked.how();
                (asked.name, VolumeAction::Assemble(how))
            }),
            ExplainVolume::Stop(verb) => verb.with(|asked| (asked.name, VolumeAction::Stop)),
            ExplainVolume::Destroy(verb) => {
                verb.with(|asked| (asked.name, VolumeAction::Destroy { without: asked.without }))
            }
            ExplainVolume::Repair(verb) => verb.with(Repair::asked),
            ExplainVolume::Fail(verb) => verb.with(Fail::asked),
            ExplainVolume::Replace(verb) => verb.with(Replace::asked),
            ExplainVolume::Scrub(verb) => verb.with(Scrub::asked),
        };
        print_steps(&explain(&global.journal(), &name, &action)?, format)
    }
}

fn print_steps(steps: &[VolumeStep], format: Format) -> Result<i32> {
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    if format == Format::Json {
        print(&to_json(&steps)?);
        return Ok(0);
    }
    for (number, step) in steps.iter().enumerate() {
        print(&format!("{number:>3}  {}\n", shown(step)));
    }
    Ok(0)
}

/// What a volume will survive, before anything is written.
fn promise(request: &VolumeRequest) -> Result<String> {
    let volume = request.record()?;
    let shape = volume.places.shape;
    let may_lose = volume.places.losses(&volume.servers(), &|_| false);
    let arrays = match shape.arrays {
        1 => format!("one array of {} devices", shape.members),
        arrays => format!("a stripe over {arrays} arrays of {} devices", shape.members),
    };
    let copies =
        if shape.copies > 1 { format!(", {} copies", shape.copies) } else { String::new() };
    let may_lose = may_lose.map_or("nothing".into(), |losses| losses.to_string());
    Ok(format!("{arrays}, layout {}{copies}; survives the loss of {may_lose}", shape.layout))
}
