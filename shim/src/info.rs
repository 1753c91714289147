//! `-info`: what this runtime can do, as containerd 2.0 and later ask.

use std::io::{Read, Write};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use garth::config::oci::features;
use garth::{Error, Result};

use crate::VERSION;
use crate::bootstrap::MOST_INPUT;

/// Prints a RuntimeInfo.
///
/// # Errors
/// The options on standard input are none.
pub fn info() -> Result<()> {
    let mut input = Vec::new();
    let read = std::io::stdin().lock().take(MOST_INPUT).read_to_end(&mut input);
    read.map_err(|error| Error::io("read standard input", &error))?;
    let options = match input.is_empty() {
        true => None,
        false => {
            let any = Any::parse_from_bytes(&input);
            Some(any.map_err(|error| {
                Error::new("standard input: no options of a runtime").because(error)
            })?)
        }
    };
    let failed = |error: &dyn std::fmt::Display| Error::new("encode the answer").because(error);
    let value = serde_json::to_vec(&features()).map_err(|error| failed(&error))?;
    let type_url = "types.containerd.io/opencontainers/runtime-spec/1/features/Features".to_owned();
    let info = RuntimeInfo {
        name: "io.containerd.garth.v1".to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: VERSION.to_owned(),
            ..RuntimeVersion::default()
        }),
        options: MessageField::from_option(options),
        features: MessageField::some(Any { type_url, value, ..Any::default() }),
        ..RuntimeInfo::default()
    };
    let bytes = info.write_to_bytes().map_err(|error| failed(&error))?;
    std::io::stdout().write_all(&bytes).map_err(|error| Error::io("answer containerd", &error))
}
