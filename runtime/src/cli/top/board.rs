//! What `garth top` shows, and what its keys do: plain state, no terminal.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::measure::{Layer, Sample};
use crate::service::Face;

/// How many looks are remembered.
const LOOKS: usize = 120;

/// By what the rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Cpu,
    Memory,
    Up,
    Down,
    Disk,
    Held,
    Name,
}

impl Sort {
    pub const ALL: [Sort; 7] =
        [Sort::Cpu, Sort::Memory, Sort::Up, Sort::Down, Sort::Disk, Sort::Held, Sort::Name];

    pub fn word(self) -> &'static str {
        match self {
            Sort::Cpu => "cpu",
            Sort::Memory => "memory",
            Sort::Up => "up",
            Sort::Down => "down",
            Sort::Disk => "disk",
            Sort::Held => "held",
            Sort::Name => "name",
        }
    }

    /// The largest first; names in their order.
    fn compare(self, a: &Sample, b: &Sample) -> Ordering {
        let now = |one: &Sample| one.now.unwrap_or_default();
        let value = |one: &Sample| match self {
            Sort::Cpu => now(one).cpus,
            Sort::Memory => one.usage.memory.used as f64,
            Sort::Up => now(one).up.unwrap_or(0.0),
            Sort::Down => now(one).down.unwrap_or(0.0),
            Sort::Disk => now(one).read.unwrap_or(0.0) + now(one).written.unwrap_or(0.0),
            Sort::Held => now(one).held().unwrap_or(0.0),
            Sort::Name => 0.0,
        };
        value(b).total_cmp(&value(a)).then_with(|| a.usage.name.cmp(&b.usage.name))
    }
}

/// What has been seen of one, oldest first.
#[derive(Debug, Default)]
pub struct History {
    /// Processors that were busy.
    pub cpus: VecDeque<f64>,
    /// Bits a second in both directions.
    pub network: VecDeque<f64>,
}

/// All that is shown.
#[derive(Debug)]
pub struct Board {
    samples: Vec<Sample>,
    history: HashMap<(Face, String), History>,
    layer: Layer,
    pub sort: Sort,
    pub reversed: bool,
    pub filter: String,
    /// Whether keys are letters of the filter.
    pub typing: bool,
    pub paused: bool,
    pub help: bool,
    selected: Option<(Face, String)>,
    /// How many rows there are on the screen.
    pub page: usize,
}

impl Board {
    pub fn new(layer: Layer) -> Board {
        Board {
            samples: Vec::new(),
            history: HashMap::new(),
            layer,
            sort: Sort::Cpu,
            reversed: false,
            filter: String::new(),
            typing: false,
            paused: false,
            help: false,
            selected: None,
            page: 10,
        }
    }

    pub fn layer(&self) -> Layer {
        self.layer
    }

    /// How many there are, whatever the filter is.
    pub fn count(&self) -> usize {
        self.samples.len()
    }

    /// Takes a new look, unless it is paused.
    pub fn look(&mut self, samples: Vec<Sample>) {
        if self.paused {
            return;
        }
        let key = |one: &Sample| (one.usage.kind, one.usage.name.clone());
        let mut history = HashMap::new();
        for sample in &samples {
            let key = key(sample);
            let mut seen: History = self.history.remove(&key).unwrap_or_default();
            if let Some(now) = sample.now {
                let network = now.up.unwrap_or(0.0) + now.down.unwrap_or(0.0);
                for (values, value) in [(&mut seen.cpus, now.cpus), (&mut seen.network, network)] {
                    if values.len() == LOOKS {
                        values.pop_front();
                    }
                    values.push_back(value);
                }
            }
            history.insert(key, seen);
        }
        (self.samples, self.history) = (samples, history);
    }

    /// Those that the filter lets through, sorted.
    pub fn rows(&self) -> Vec<&Sample> {
        let filter = self.filter.to_lowercase();
        let is_meant = |one: &&Sample| one.usage.name.to_lowercase().contains(&filter);
        let mut rows: Vec<&Sample> = self.samples.iter().filter(is_meant).collect();
        rows.sort_by(|a, b| self.sort.compare(a, b));
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// Which of the rows is selected.
    pub fn place(&self, rows: &[&Sample]) -> Option<usize> {
        let (kind, name) = self.selected.as_ref()?;
        rows.iter().position(|one| one.usage.kind == *kind && one.usage.name == *name)
    }

    pub fn history(&self, sample: &Sample) -> Option<&History> {
        self.history.get(&(sample.usage.kind, sample.usage.name.clone()))
    }

    /// A key; whether it ends the show.
    pub fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if self.typing {
            match key.code {
                KeyCode::Char('c') if control => return true,
                KeyCode::Char('u') if control => self.filter.clear(),
                KeyCode::Char(c) if !control => self.filter.push(c),
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Enter => self.typing = false,
                KeyCode::Esc => {
                    self.typing = false;
                    self.filter.clear();
                }
                _ => {}
            }
            return false;
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char('c') if control => return true,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('h' | '?') => self.help = !self.help,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('s') | KeyCode::Right => self.sort_by(1),
            KeyCode::Left => self.sort_by(Sort::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::PageDown => self.move_by(self.page as isize),
            KeyCode::PageUp => self.move_by(-(self.page as isize)),
            KeyCode::Home => self.move_by(isize::MIN / 2),
            KeyCode::End => self.move_by(isize::MAX / 2),
            _ => {}
        }
        false
    }

    fn sort_by(&mut self, further: usize) {
        let at = Sort::ALL.iter().position(|sort| *sort == self.sort).unwrap_or(0);
        self.sort = Sort::ALL[(at + further) % Sort::ALL.len()];
    }

    fn move_by(&mut self, rows: isize) {
        let all = self.rows();
        let Some(last) = all.len().checked_sub(1) else { return };
        let at = match self.place(&all) {
            Some(at) => at.saturating_add_signed(rows).min(last),
            None if rows > 0 => 0,
            None => last,
        };
        let usage = &all[at].usage;
        self.selected = Some((usage.kind, usage.name.clone()));
    }
}
