//! `-info`: what this runtime can do, as containerd 2.0 and later ask.

use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use garth::config::oci::features;
use garth::{Error, Result};

use crate::VERSION;
use crate::message::{self, RUNTIME};

/// Prints a RuntimeInfo.
///
/// # Errors
/// The options on standard input are none.
pub fn info() -> Result<()> {
    let options = message::options(&message::input()?)?;
    let value = serde_json::to_vec(&features())
        .map_err(|error| Error::new("encode the answer").because(error))?;
    let type_url = "types.containerd.io/opencontainers/runtime-spec/1/features/Features".to_owned();
    let info = RuntimeInfo {
        name: RUNTIME.to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: VERSION.to_owned(),
            ..RuntimeVersion::default()
        }),
        options: MessageField::from_option(options),
        features: MessageField::some(Any { type_url, value, ..Any::default() }),
        ..RuntimeInfo::default()
    };
    message::answer(&message::encoded(&info)?)
}
