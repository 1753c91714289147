//! What was asked: validated, plain data. Nothing here touches the machine.

pub mod limits;
pub mod units;

pub mod network;
