//! What a daemon says to `start`, and in which words it expects the answer.
//!
//! | containerd | it says | it expects |
//! |---|---|---|
//! | 1.6 | options of the runtime on standard input, or nothing | the address |
//! | 1.7, 2.0 to 2.2 | the same, and MAX_SHIM_VERSION | JSON with a version up to that; 1.7 to 2.2 all say 2 |
//! | 2.3 and later | `BootstrapParams` on standard input | `BootstrapResult` |
//!
//! The tasks' service has versions 2 and 3, which differ in name only; both are served.

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use garth::Result;

use crate::flags::Flags;
use crate::message;
use crate::options::Options;

/// The newest version of the tasks' service.
const NEWEST: i32 = 3;

/// How the daemon is to be answered, and what it has said.
#[derive(Debug, PartialEq)]
pub struct Bootstrap {
    /// The form of the answer.
    pub answer: Answer,
    /// The socket of containerd for events.
    pub events: String,
    /// Where the shim's socket goes, if the daemon has a wish.
    pub socket_dir: Option<String>,
    /// The options of the runtime.
    pub options: Options,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The address as text.
    Address,
    /// A JSON object with this version of the tasks' service.
    Json(i32),
    /// A message of the bootstrap protocol.
    Result,
}

impl Bootstrap {
    /// From standard input and the environment, as a function.
    ///
    /// # Errors
    /// The options cannot be read.
    pub fn read(
        input: &[u8],
        flags: &Flags,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Bootstrap> {
        // The options' `Any` can be decoded as parameters by accident; but then their identity is another one.
        let parameters = BootstrapParams::parse_from_bytes(input).ok().filter(|parameters| {
            parameters.instance_id == flags.id && parameters.namespace == flags.namespace
        });
        if let Some(parameters) = parameters {
            let mut options = Options::default();
            for extension in &parameters.extensions {
                // Other extensions are not for us.
                if Options::is_known(&extension.value.type_url) {
                    options = Options::read(&extension.value)?;
                }
            }
            return Ok(Bootstrap {
                answer: Answer::Result,
                events: parameters.containerd_ttrpc_address,
                socket_dir: parameters.socket_dir.filter(|dir| !dir.is_empty()),
                options,
            });
        }
        let options = match message::options(input)? {
            None => Options::default(),
            Some(any) => Options::read(&any)?,
        };
        let newest = variable("MAX_SHIM_VERSION").and_then(|text| text.parse::<i32>().ok());
        Ok(Bootstrap {
            answer: newest.map_or(Answer::Address, |newest| Answer::Json(newest.clamp(2, NEWEST))),
            events: variable("TTRPC_ADDRESS").unwrap_or_default(),
            socket_dir: None,
            options,
        })
    }
}

impl Answer {
    /// The answer: the shim serves at this address.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn bytes(self, address: &str) -> Result<Vec<u8>> {
        match self {
            Answer::Address => Ok(address.as_bytes().to_vec()),
            Answer::Json(version) => {
                let answer = serde_json::json!({
                    "version": version, "address": address, "protocol": "ttrpc",
                });
                Ok(answer.to_string().into_bytes())
            }
            Answer::Result => {
                let mut answer = BootstrapResult::new();
                answer.version = NEWEST;
                answer.address = address.to_owned();
                answer.protocol = "ttrpc".to_owned();
                message::encoded(&answer)
            }
        }
    }
}
