//! What reads the bytes of others: no input may make it panic.

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CreateTaskRequest, ExecProcessRequest, UpdateTaskRequest,
};
use containerd_shim_protos::bootstrap_api::BootstrapParams;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use garth::config::oci::{Process, Resources};

use crate::bootstrap::Bootstrap;
use crate::flags::Flags;
use crate::message::encoded;
use crate::options::{self, Options};
use crate::stdio::Place;

const TYPES: [&str; 7] = [
    "containerd.runc.v1.Options",
    "containerd.linux.runc.CreateOptions",
    "runtimeoptions.v1.Options",
    "types.containerd.io/cri.runtimeoptions.v1.Options",
    "containerd.runc.v1.CheckpointOptions",
    "containerd.linux.runc.CheckpointOptions",
    "",
];

/// Of a type that is known: a fuzzer does not guess a name of that many letters.
fn known(any: &Any) -> Any {
    Any { type_url: TYPES[any.type_url.len() % TYPES.len()].to_owned(), ..any.clone() }
}

/// Whether it may name a file, which would be opened.
fn may_be_path(input: &[u8]) -> bool {
    input.contains(&b'/')
}

/// A daemon's words to `start`, and the answer.
pub fn bootstrap(input: &[u8]) {
    if may_be_path(input) {
        return;
    }
    start(input);
    if let Ok(any) = Any::parse_from_bytes(input) {
        start(&encoded(&known(&any)).unwrap_or_default());
    }
    if let Ok(mut parameters) = BootstrapParams::parse_from_bytes(input) {
        (parameters.instance_id, parameters.namespace) = ("i".to_owned(), "n".to_owned());
        for extension in &mut parameters.extensions {
            extension.value = Some(known(&extension.value)).into();
        }
        start(&encoded(&parameters).unwrap_or_default());
    }
}

fn start(input: &[u8]) {
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
        for name in [&create.stdin, &create.stdout, &create.stderr] {
            let _ = Place::of(name);
        }
        if !may_be_path(&create.options.value) {
            let _ = Options::read(&create.options);
            let _ = Options::read(&known(&create.options));
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
        let _ = options::checkpoint(&known(&checkpoint.options));
    }
}
