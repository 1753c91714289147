//! Executes the steps of a volume's program. Decides nothing: what is to be done, and when it is not
//! needed, the steps say.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::array::MdArray;
use super::chap::ChapAccount;
use super::command::{is_done, is_needed, word};
use super::connect::{not_offered, reach_all};
use super::device::{Portal, VolumeDevice};
use super::mdadm::ArrayUuid;
use super::record::{VolumePhase, VolumeRecord};
use super::seen::{LastSeen, remember};
use super::signature::{Signature, signatures_of};
use super::step::{LOGGED_IN, RunWhen, VolumeCommand, VolumeStep, VolumeWord, login, new_node};
use super::tools::{execute, explained, superblock};
use super::{connect, host, iscsiadm, nbd, nodes, quiet};
use crate::error::{Error, Result};
use crate::journal::{Entry, Journal};

/// How often an array is assembled or stopped again if udev is in the way, and how long it is waited
/// for in between.
const REPETITIONS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// A program of a volume, as it is executed. The volume's entry is held.
pub struct Performer<'a> {
    /// The volume.
    pub volume: VolumeRecord,
    /// Its entry; `None`: its record has been removed.
    pub entry: Option<Entry>,
    /// Tells what takes its time, and what will be lost.
    pub tell: &'a dyn Fn(&str),
    /// The least size of the devices that were inspected.
    pub smallest: Option<u64>,
    left_out: Vec<VolumeDevice>,
    /// The members that were identified, and how often their arrays' state had changed.
    found: Vec<(VolumeDevice, u64)>,
    /// The locks that keep udev away.
    locks: Vec<File>,
    /// The servers that were asked, and what they said they have.
    offered: Vec<(String, String)>,
}

impl<'a> Performer<'a> {
    /// Nothing is done yet.
    pub fn new(volume: VolumeRecord, entry: Entry, tell: &'a dyn Fn(&str)) -> Performer<'a> {
        Performer {
            volume,
            entry: Some(entry),
            tell,
            smallest: None,
            left_out: Vec::new(),
            found: Vec::new(),
            locks: Vec::new(),
            offered: Vec::new(),
        }
    }

    /// Executes steps in their order, up to the first that fails.
    ///
    /// # Errors
    /// It failed. The program may be executed again from its beginning.
    pub fn perform(&mut self, steps: &[VolumeStep]) -> Result<()> {
        if steps.iter().any(is_of_iscsiadm) {
            iscsiadm::wait_for_orphans(&self.volume.devices)?;
            for device in &self.volume.devices {
                if let VolumeDevice::Iscsi { portal, target, .. } = device {
                    iscsiadm::remove_unreadable(&nodes::records(portal, target)?)?;
                }
            }
        }
        let at_once = |one: &VolumeStep, next: &VolumeStep| {
            matches!(
                (one, next),
                (VolumeStep::Reach { .. }, VolumeStep::Reach { .. })
                    | (VolumeStep::Inspect { .. }, VolumeStep::Inspect { .. })
                    | (VolumeStep::Await { .. }, VolumeStep::Await { .. })
                    | (VolumeStep::Set { .. }, VolumeStep::Set { .. })
            )
        };
        for steps in steps.chunk_by(at_once) {
            match &steps[0] {
                VolumeStep::Reach { .. } => {
                    self.reach(&steps.iter().filter_map(server).collect::<Vec<_>>())?;
                }
                VolumeStep::Inspect { .. } => self.inspect_all(steps)?,
                VolumeStep::Await { .. } => {
                    connect::wait(&steps.iter().filter_map(awaited).collect::<Vec<_>>())?;
                }
                VolumeStep::Set { .. } => {
                    connect::set(&steps.iter().filter_map(setting).collect::<Vec<_>>())?;
                }
                step => self.step(step)?,
            }
        }
        Ok(())
    }

    /// wipefs(8) looks at all of them in one process, if it names them so that they can be told apart: by
    /// the kernel's names.
    fn inspect_all(&mut self, steps: &[VolumeStep]) -> Result<()> {
        let inspections = || {
            steps.iter().filter_map(|step| match step {
                VolumeStep::Inspect { what, own, .. } => Some((what, *own)),
                _ => None,
            })
        };
        let devices: Option<Vec<&VolumeDevice>> =
            inspections().map(|(what, _)| what.device()).collect();
        let mut found = match devices {
            Some(devices) => host::block_devices(devices)?.into_iter(),
            None => Vec::new().into_iter(),
        };
        let mut paths = Vec::new();
        for (what, own) in inspections() {
            let path = match found.next().flatten() {
                Some(path) => path,
                // What is wrong with it is said.
                None => PathBuf::from(word(what)?),
            };
            self.inspectable(what, &path, own)?;
            paths.push(path);
        }
        let names = paths.iter().map(|path| host::kernel_name(path)).collect::<Result<Vec<_>>>()?;
        let is_plain = |(path, name): (&PathBuf, &String)| *path == Path::new("/dev").join(name);
        let all = match paths.len() > 1 && paths.iter().zip(&names).all(is_plain) {
            true => signatures(&paths).ok(),
            false => None,
        };
        let is_named = |one: &Signature| one.device.as_ref().is_some_and(|it| names.contains(it));
        let all = all.filter(|all| all.iter().all(is_named));
        for ((step, path), name) in steps.iter().zip(&paths).zip(&names) {
            let VolumeStep::Inspect { what, force, own } = step else { continue };
            let is_its = |one: &&Signature| one.device.as_ref() == Some(name);
            let found = match &all {
                Some(all) => all.iter().filter(is_its).cloned().collect(),
                // Which one cannot be read is said.
                None => signatures(std::slice::from_ref(path))?,
            };
            self.inspect(what, found, *force, *own)?;
        }
        Ok(())
    }

    fn reach(&self, servers: &[(&Portal, u32)]) -> Result<()> {
        let shown: Vec<String> = servers.iter().map(|(portal, _)| portal.to_string()).collect();
        // One that accepts connections and says nothing costs half a minute.
        (self.tell)(&format!("connecting to {}", shown.join(", ")));
        reach_all(servers).into_iter().collect()
    }

    fn raid(&self) -> Option<&Journal> {
        self.entry.as_ref().map(Entry::journal)
    }

    fn step(&mut self, step: &VolumeStep) -> Result<()> {
        match step {
            VolumeStep::Record { phase, .. } => {
                self.volume.phase = *phase;
                self.record()
            }
            VolumeStep::Forget { .. } => self.entry.take().map_or(Ok(()), Entry::remove),
            VolumeStep::Reach { portal, seconds } => self.reach(&[(portal, *seconds)]),
            VolumeStep::Node { portal, target, like } => {
                let copied = |like| nodes::copy(like, portal, target);
                match like.as_ref().map_or(Ok(false), copied)? {
                    true => Ok(()),
                    false => self.run(&new_node(portal, target)),
                }
            }
            VolumeStep::Configure { portal, target, settings, chap } => {
                let account = chap.as_deref().map(ChapAccount::read).transpose()?;
                nodes::write(portal, target, settings, account.as_ref())
            }
            VolumeStep::Await { device, seconds } => connect::wait(&[(device, *seconds)]),
            VolumeStep::Connect { device } => connect::connect_nbd(device),
            VolumeStep::Disconnect { device } => {
                nbd::disconnect(Path::new(host::SYS), &device.to_string())
            }
            VolumeStep::Set { device, file, value } => connect::set(&[(device, file, value)]),
            VolumeStep::Run(command) => self.run(command),
            VolumeStep::Attach { device: VolumeDevice::File(path) } => host::attach(path),
            VolumeStep::Detach { device: VolumeDevice::File(path) } => host::detach(path),
            VolumeStep::Attach { device } | VolumeStep::Detach { device } => {
                Err(Error::new(format!("{device} is not a file")))
            }
            VolumeStep::Quiet { devices } => self.quiet(devices),
            VolumeStep::Inspect { .. } => self.inspect_all(std::slice::from_ref(step)),
            VolumeStep::Login { targets } => self.login(targets),
            VolumeStep::Identify { device, array } => self.identify(device, *array),
            VolumeStep::Judge { array, stale } => self.judge(*array, *stale),
            VolumeStep::Remember => self.remember(),
            VolumeStep::Rescan { device } => {
                host::rescan(device)?;
                self.measure(Path::new(&word(&VolumeWord::Device(device.clone()))?))
            }
            VolumeStep::Scrub { array, action } => self.scrub(*array, action),
            VolumeStep::Joined { device } => {
                let place = self.volume.devices.iter().position(|one| one == device);
                let mut leaving = self.volume.leaving.iter_mut();
                if let Some(leaving) = leaving.find(|leaving| Some(leaving.place) == place) {
                    leaving.joined = true;
                }
                self.record()
            }
            VolumeStep::Left { device } => {
                self.volume.leaving.retain(|leaving| leaving.device != *device);
                self.record()
            }
            VolumeStep::Rebuilt { device } => {
                self.volume.superseded.retain(|one| one != device);
                self.record()
            }
        }
    }

    fn entry(&self) -> Result<&Entry> {
        self.entry.as_ref().ok_or_else(|| Error::new("the volume's record has been removed"))
    }

    /// The directory of the volume's entry.
    fn directory(&self) -> Result<PathBuf> {
        Ok(self.entry()?.file(""))
    }

    /// Writes the record, so that it is there after a loss of power too: the file, its name, and
    /// that of its directory.
    fn record(&self) -> Result<()> {
        let entry = self.entry()?;
        let text = serde_json::to_vec_pretty(&self.volume)
            .map_err(|error| Error::new(format!("write the volume's record: {error}")))?;
        entry.write(&text)?;
        let path = entry.file("record.json");
        for dir in path.ancestors().skip(1).take(2) {
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|error| Error::io(format!("sync {}", dir.display()), &error))?;
        }
        Ok(())
    }

    fn run(&mut self, command: &VolumeCommand) -> Result<()> {
        let is_left_out =
            |word: &&VolumeWord| word.device().is_some_and(|device| self.left_out.contains(device));
        let devices = command.words.iter().filter_map(VolumeWord::device);
        let (out, of) = (command.words.iter().filter(is_left_out).count(), devices.count());
        if (out > 0 && out == of) || !is_needed(command, self.raid(), &self.volume.name)? {
            return Ok(());
        }
        let kept: Vec<&VolumeWord> =
            command.words.iter().filter(|word| !is_left_out(word)).collect();
        let assembles = matches!(command.when, RunWhen::Stopped(_) | RunWhen::Running(_));
        let mut again = if assembles { REPETITIONS } else { 0 };
        let (words, finished) = loop {
            if assembles {
                self.clear_away(&kept)?;
                if !is_needed(command, self.raid(), &self.volume.name)? {
                    return Ok(());
                }
            }
            let words = kept.iter().map(|one| word(one)).collect::<Result<Vec<_>>>()?;
            if words[0].starts_with("mkfs") {
                (self.tell)(&format!("making the file system: {}", words.join(" ")));
            }
            let finished = execute(&words)?;
            // Arrays are not left alone for a lock: udev's rules may have taken one as the member of
            // the stripe meanwhile.
            if finished.status.success() || again == 0 || !quiet::is_udev_there()? {
                break (words, finished);
            }
            again -= 1;
            std::thread::sleep(PAUSE);
        };
        if !is_done(command, &finished) {
            return Err(
                not_offered(&words, &self.offered).unwrap_or_else(|| explained(&words, &finished))
            );
        }
        if words.iter().any(|word| word == "discovery") {
            let portal = words.last().cloned().unwrap_or_default();
            self.offered.push((portal, String::from_utf8_lossy(&finished.output).into_owned()));
        }
        Ok(())
    }

    fn quiet(&mut self, devices: &[VolumeDevice]) -> Result<()> {
        // udev would not be done with those that are still locked.
        self.locks.clear();
        let paths: Vec<_> = host::block_devices(devices)?.into_iter().flatten().collect();
        self.locks = quiet::keep_udev_away(&paths)?;
        match self.volume.phase {
            // What is on them may be anybody's.
            VolumePhase::Connecting => Ok(()),
            _ => self.clear_away(&[]),
        }
    }

    /// Stops arrays of ours that have members and do not run: as mdadm leaves one when it is killed, or
    /// udev's rules when they have seen only some of the members. One that is being made, of what is
    /// among `words`, has no identity yet.
    fn clear_away(&self, words: &[&VolumeWord]) -> Result<()> {
        let ours = |uuid: &ArrayUuid| {
            self.volume.arrays.contains(uuid) || self.volume.stripe.as_ref() == Some(uuid)
        };
        let mut named = Vec::new();
        for device in words.iter().filter(|word| !matches!(word, VolumeWord::Text(_))) {
            // An array that is to be made has no device.
            if let Ok(path) = word(device) {
                named.push(host::kernel_name(Path::new(&path))?);
            }
        }
        for array in MdArray::all(Path::new(host::SYS))?.iter().filter(|array| !array.is_started())
        {
            let is_ours = match &array.uuid {
                Some(uuid) => ours(uuid),
                // A member that cannot be read does not tell whose it is; the others do.
                None => array.members.iter().any(|member| {
                    match superblock(&Path::new("/dev").join(&member.device)) {
                        Ok(Some(found)) => ours(&found.array),
                        Ok(None) => named.contains(&member.device),
                        Err(_) => false,
                    }
                }),
            };
            if is_ours {
                let stop = ["mdadm", "--stop", &format!("/dev/{}", array.device)].map(String::from);
                let finished = execute(&stop)?;
                let all = MdArray::all(Path::new(host::SYS))?;
                if all.iter().any(|one| one.device == array.device && !one.is_started()) {
                    return Err(explained(&stop, &finished));
                }
            }
        }
        Ok(())
    }

    fn measure(&mut self, device: &Path) -> Result<()> {
        let size = host::size_of(device)?;
        self.smallest = Some(self.smallest.map_or(size, |smallest| smallest.min(size)));
        Ok(())
    }

    /// iscsiadm(8) makes all sessions in one process, and at the same time: with all servers if it knows no
    /// other target, or with one if it knows no other there.
    fn login(&mut self, targets: &[(Portal, String)]) -> Result<()> {
        if targets.len() > 1 && !nodes::has_others(targets, None)? && log_in_to_all(None)? {
            return Ok(());
        }
        for targets in targets.chunk_by(|(one, _), (next, _)| one == next) {
            let portal = &targets[0].0;
            let at_once = targets.len() > 1 && !nodes::has_others(targets, Some(portal))?;
            if !(at_once && log_in_to_all(Some(portal))?) {
                // Each by itself says what is wrong with it.
                targets.iter().try_for_each(|(portal, target)| self.run(&login(portal, target)))?;
            }
        }
        Ok(())
    }

    /// Notes the size of what is to be inspected, which must not be in use.
    fn inspectable(
        &mut self,
        what: &VolumeWord,
        path: &Path,
        own: Option<ArrayUuid>,
    ) -> Result<()> {
        if what.device().is_some() {
            self.measure(path)?;
            let ours = |uuid| Ok::<_, Error>(host::array(uuid)?.is_some());
            // A member of our own array is busy.
            if !own.map_or(Ok(false), ours)? && host::is_busy(path)? {
                return Err(Error::new(format!("{} is in use", shown(what)))
                    .hint("it is mounted, or a member of an array or of LVM"));
            }
        }
        Ok(())
    }

    fn inspect(
        &self,
        what: &VolumeWord,
        found: Vec<Signature>,
        force: bool,
        own: Option<ArrayUuid>,
    ) -> Result<()> {
        let shown = shown(what);
        let foreign = found.into_iter().filter(|signature| {
            let uuid = signature.uuid.as_deref().and_then(|uuid| uuid.parse().ok());
            !(signature.kind == "linux_raid_member" && uuid.is_some() && uuid == own)
        });
        let foreign: Vec<String> = foreign.map(|signature| signature.words()).collect();
        if foreign.is_empty() {
            return Ok(());
        }
        if force {
            (self.tell)(&format!("{shown} had {}: lost", foreign.join(", ")));
            return Ok(());
        }
        Err(Error::new(format!("{shown} has {}", foreign.join(", ")))
            .hint("--force if that is to be lost"))
    }

    fn judge(&mut self, number: usize, stale: bool) -> Result<()> {
        let uuid = self.volume.arrays[number];
        let seen = LastSeen::read(&self.directory()?)?;
        let Some(known) = seen.of(uuid) else { return Ok(()) };
        let candidates = self.volume.candidates(number);
        let here = self.found.iter().filter(|(device, _)| candidates.contains(&device));
        let here: Vec<_> = here.cloned().collect();
        let latest = here.iter().any(|(device, events)| known.is_latest(device, *events));
        if latest || here.is_empty() || host::array(uuid)?.is_some_and(|array| array.is_started()) {
            return Ok(());
        }
        let away = |device: &&VolumeDevice| !here.iter().any(|(one, _)| one == *device);
        let away: Vec<VolumeDevice> = candidates.into_iter().filter(away).cloned().collect();
        let list = |devices: &mut dyn Iterator<Item = &VolumeDevice>| {
            devices.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let there = list(&mut here.iter().map(|(device, _)| device));
        let newer = list(&mut known.up_to_date.iter());
        let array = self.volume.array_name(number);
        if !stale {
            return Err(Error::new(format!(
                "{array}: the latest data is on {newer}; {there} was lost before, and is older"
            ))
            .hint("bring that server back; --stale gives up what was written since"));
        }
        (self.tell)(&format!("{array}: {there} is older than {newer}, whose data is given up"));
        self.volume.superseded.extend(away);
        Ok(())
    }

    fn scrub(&self, number: usize, action: &str) -> Result<()> {
        let name = self.volume.array_name(number);
        let array = host::array(self.volume.arrays[number])?;
        let array = array.ok_or_else(|| Error::new(format!("{name} is not assembled")))?;
        match array.progress.as_ref().map(|progress| progress.action.as_str()) {
            Some(now) if now == action => return Ok(()),
            Some("check" | "repair") => {}
            Some(now) if action != "idle" => {
                return Err(Error::new(format!("{name} is busy with a {now}"))
                    .hint("garth volume status shows how far it is; scrub it then"));
            }
            None if action != "idle" => {}
            _ => return Ok(()),
        }
        let file = Path::new(host::SYS).join("block").join(array.device).join("md/sync_action");
        fs::write(&file, action)
            .map_err(|error| Error::io(format!("write {action} to {}", file.display()), &error))
    }

    fn remember(&self) -> Result<()> {
        remember(&self.volume, &self.directory()?)
    }

    fn identify(&mut self, device: &VolumeDevice, array: ArrayUuid) -> Result<()> {
        // mdadm exits with 1 both if there is no superblock and if it cannot be read.
        let found = match host::block_device(device)? {
            Some(path) => superblock(&path)?,
            None => None,
        };
        if let Some(found) = found.as_ref().filter(|found| found.array == array) {
            self.found.push((device.clone(), found.events));
            return Ok(());
        }
        let has = found.map_or("it has no superblock".to_owned(), |found| {
            format!("it is a member of {:?}", found.name)
        });
        (self.tell)(&format!("{device} is left out: {has}"));
        self.left_out.push(device.clone());
        Ok(())
    }
}

/// Whether iscsiadm(8) has made sessions with all targets that it knows, or that it knows at this server.
fn log_in_to_all(portal: Option<&Portal>) -> Result<bool> {
    let mut words = ["iscsiadm", "-m", "node"].map(String::from).to_vec();
    if let Some(portal) = portal {
        words.extend(["-p".to_owned(), portal.to_string()]);
    }
    words.push("--login".to_owned());
    let code = execute(&words)?.status.code();
    Ok(code == Some(0) || code.is_some_and(|code| LOGGED_IN.contains(&code)))
}

/// A device as it was given.
fn shown(what: &VolumeWord) -> String {
    what.device().map_or_else(|| what.to_string(), ToString::to_string)
}

/// All signatures on these devices.
fn signatures(paths: &[PathBuf]) -> Result<Vec<Signature>> {
    let words = ["wipefs", "--json"].map(String::from).into_iter();
    let words: Vec<String> =
        words.chain(paths.iter().map(|path| path.display().to_string())).collect();
    let finished = execute(&words)?;
    match finished.status.success() {
        true => signatures_of(&String::from_utf8_lossy(&finished.output)),
        false => Err(explained(&words, &finished)),
    }
}

/// The server that a step tries to reach, and within how many seconds. Those in a row are tried at the same time.
fn server(step: &VolumeStep) -> Option<(&Portal, u32)> {
    match step {
        VolumeStep::Reach { portal, seconds } => Some((portal, *seconds)),
        _ => None,
    }
}

/// What is waited for, and for how many seconds. Those in a row are waited for at the same time.
fn awaited(step: &VolumeStep) -> Option<(&VolumeDevice, u32)> {
    match step {
        VolumeStep::Await { device, seconds } => Some((device, *seconds)),
        _ => None,
    }
}

/// What is written where.
fn setting(step: &VolumeStep) -> Option<(&VolumeDevice, &str, &str)> {
    match step {
        VolumeStep::Set { device, file, value } => Some((device, file, value)),
        _ => None,
    }
}

fn is_of_iscsiadm(step: &VolumeStep) -> bool {
    let is_it = |word: &VolumeWord| matches!(word, VolumeWord::Text(text) if text == "iscsiadm");
    match step {
        VolumeStep::Run(command) => command.words.first().is_some_and(is_it),
        VolumeStep::Node { .. } | VolumeStep::Configure { .. } | VolumeStep::Login { .. } => true,
        _ => false,
    }
}
