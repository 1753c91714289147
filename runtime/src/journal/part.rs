//! The parts of the journal: kinds of entries.

/// The parts, kept apart because their entries end in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Sandboxes, which the process that started them looks after.
    Sandboxes,
    /// OCI containers, which stay until they are deleted, and which no process holds between calls.
    Containers,
    /// Limits on processes, which their limiter holds.
    Limits,
    /// Services, which their keeper holds as long as it keeps them up.
    Services,
    /// RAID volumes, which stay until they are destroyed, and which the verbs hold.
    Raid,
}

impl Part {
    /// What its entries are.
    pub fn kind(self) -> &'static str {
        match self {
            Part::Sandboxes => "sandbox",
            Part::Containers => "container",
            Part::Limits => "limit",
            Part::Services => "service",
            Part::Raid => "volume",
        }
    }

    /// Where they are, below the root.
    pub fn directory(self) -> &'static str {
        match self {
            Part::Sandboxes => "sandboxes",
            Part::Containers => "containers",
            Part::Limits => "limits",
            Part::Services => "services",
            Part::Raid => "raid",
        }
    }
}
