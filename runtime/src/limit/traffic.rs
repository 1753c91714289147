//! Bytes and directions.

use std::ops::AddAssign;

use serde::Serialize;

/// Bytes in each direction, seen from the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Sent.
    pub up: u64,
    /// Received.
    pub down: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Traffic) {
        self.up += more.up;
        self.down += more.down;
    }
}

/// Which direction counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Sent.
    Up,
    /// Received.
    Down,
    /// The sum of both.
    #[default]
    Both,
}

impl Direction {
    /// The bytes that count.
    pub fn of(self, traffic: Traffic) -> u64 {
        match self {
            Direction::Up => traffic.up,
            Direction::Down => traffic.down,
            Direction::Both => traffic.up + traffic.down,
        }
    }
}

/// What was found at one moment, in bytes since the meter began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// What has moved.
    pub moved: Traffic,
    /// What will move, whatever the target does.
    pub pending: Traffic,
    /// What the target itself has written or read.
    pub handled: Traffic,
}

impl Reading {
    /// Both together.
    pub fn committed(&self) -> Traffic {
        let mut sum = self.moved;
        sum += self.pending;
        sum
    }
}
