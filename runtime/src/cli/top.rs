//! `garth top`: usage on a terminal, until `q`.

mod board;
mod view;

use std::io::{IsTerminal, stdin, stdout};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event};

use super::Global;
use crate::config::units::Span;
use crate::error::{Error, Result};
use crate::measure::{Layer, Observer};
use crate::sys::process::{self, Signals};
use board::Board;

/// Show what sandboxes and containers use, on the whole terminal
///
/// The keys are shown at the bottom. Figures are those of garth stats, which see.
#[derive(Debug, Args)]
pub struct Top {
    /// Time between two looks
    #[arg(short, long, value_name = "TIME", default_value = "2s")]
    interval: Span,
    /// Which bytes of the network are meant: payload, ip, frame or wire
    #[arg(long, value_name = "LAYER", default_value = "frame")]
    layer: Layer,
}

impl Top {
    pub(super) fn run(self, global: &Global) -> Result<i32> {
        let Span(interval) = self.interval;
        super::stats::check(self.interval)?;
        if !(stdin().is_terminal() && stdout().is_terminal()) {
            return Err(Error::new("top: standard input and output must be a terminal")
                .hint("garth stats --follow prints lines"));
        }
        let mut observer = Observer::new(&global.journal());
        let mut board = Board::new(self.layer);
        board.look(observer.changes(self.layer)?);
        let signals = Signals::block_ends().map_err(|errno| Error::os("block signals", errno))?;
        let failed = |error: std::io::Error| Error::io("draw on the terminal", &error);
        // Whatever happens from here on, the terminal is as before afterwards.
        let mut terminal = ratatui::try_init().map_err(failed)?;
        let result = show(&mut terminal, &mut observer, &mut board, &signals, interval);
        ratatui::try_restore().map_err(failed)?;
        result.map(|()| 0)
    }
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    observer: &mut Observer,
    board: &mut Board,
    signals: &Signals,
    interval: Duration,
) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("use the terminal", &error);
    // The first figures soon: a change needs two looks.
    let mut next = Instant::now() + interval.min(Duration::from_millis(500));
    loop {
        terminal.draw(|frame| view::draw(frame, board)).map_err(failed)?;
        let left = next.saturating_duration_since(Instant::now());
        let [_, signalled] = process::readable([stdin().as_fd(), signals.as_fd()], Some(left))
            .map_err(|errno| Error::os("wait for a key", errno))?;
        // A window of another size is drawn anew.
        if signalled && signals.ask_to_end() {
            return Ok(());
        }
        while event::poll(Duration::ZERO).map_err(failed)? {
            if let Event::Key(key) = event::read().map_err(failed)?
                && board.press(key)
            {
                return Ok(());
            }
        }
        if Instant::now() >= next {
            board.look(observer.changes(board.layer())?);
            next = Instant::now() + interval;
        }
    }
}
