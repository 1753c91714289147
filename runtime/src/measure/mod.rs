//! What sandboxes and containers use, and how fast the parts of this machine are.
//!
//! An [`Observer`] looks at all of them at one moment and returns a [`Usage`] for each, of what they have used
//! since they began; two of them are a [`UsageChange`], so much a second. [`open_metrics`] writes them for
//! Prometheus. Every figure of a network names its [`Layer`].

#[cfg(feature = "cli")]
pub mod bench;
mod change;
mod layer;
mod observer;
mod open_metrics;
mod processes;
mod serve;
mod usage;

pub use change::UsageChange;
pub use layer::{Layer, Segment};
pub use observer::{Observer, Sample};
pub use open_metrics::open_metrics;
pub use serve::{ListenAt, serve};
pub use usage::{
    CountedBy, CpuUse, DiskUse, Holds, LimitHold, MemoryUse, PressureUse, QuotaHold, Usage,
};
