//! Messages of the kernel and of services, where no crate has them: what they are made of and how they
//! are read. Nothing here decides anything.

pub mod dbus;
pub mod nft;
