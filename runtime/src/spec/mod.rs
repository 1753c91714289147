//! What was asked: validated, plain data.

pub mod network;
