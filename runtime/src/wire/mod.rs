//! Messages of the kernel and of services for which no crate exists: how they are built and read.
//! Nothing here makes decisions.

pub mod dbus;
pub mod nft;
