//! What reads the bytes of others: no input may make it panic.

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CreateTaskRequest, ExecProcessRequest, UpdateTaskRequest,
};
use containerd_shim_protos::protobuf::Message;
use garth::config::oci::{Process, Resources};

use crate::bootstrap::Bootstrap;
use crate::flags::Flags;
use crate::options::{self, Options};
use crate::stdio::Place;

/// A daemon's words to `start`, and the answer.
pub fn bootstrap(input: &[u8]) {
    let flags = Flags { namespace: "n".into(), id: "i".into(), ..Flags::default() };
    let variable = |name: &str| (name == "MAX_SHIM_VERSION").then(|| input.len().to_string());
    if let Ok(bootstrap) = Bootstrap::read(input, &flags, variable) {
        let answer = bootstrap.answer.bytes("unix:///s");
        assert!(answer.is_ok_and(|bytes| !bytes.is_empty()));
    }
}

/// The parts of requests that are decoded here, not by ttrpc.
pub fn request(input: &[u8]) {
    if let Ok(create) = CreateTaskRequest::parse_from_bytes(input) {
        for name in [&create.stdout, &create.stderr] {
            let _ = Place::of(name);
        }
        if let Some(any) = create.options.as_ref() {
            // A path would be opened.
            if !any.value.contains(&b'/') {
                let _ = Options::read(any);
            }
        }
    }
    if let Ok(exec) = ExecProcessRequest::parse_from_bytes(input) {
        let _ = Process::parse(&exec.spec.value);
    }
    if let Ok(update) = UpdateTaskRequest::parse_from_bytes(input) {
        let _ = Resources::parse(&update.resources.value);
    }
    if let Ok(checkpoint) = CheckpointTaskRequest::parse_from_bytes(input) {
        let _ = options::checkpoint(&checkpoint.options);
    }
}
