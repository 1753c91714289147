//! The network and the capabilities of a unit.

use super::program::UnitOwner;
use crate::config::CapabilitySet;
use crate::service::systemd::reader::UnitReader;

/// PrivateNetwork=, NetworkNamespacePath=, and what RestrictAddressFamilies= leaves of a network.
pub fn network(r: &mut UnitReader<'_>) {
    let private = r.flag("PrivateNetwork") == Some(true);
    let restricted = r.raw("RestrictAddressFamilies");
    if let Some(path) = r.last("NetworkNamespacePath") {
        r.draft.set("network", format!("ns:{path}"), "");
        return;
    }
    if private {
        r.draft.implied.push("PrivateNetwork".into());
        return;
    }
    let mut families = Vec::new();
    let mut only = None;
    for value in restricted {
        match value.as_str() {
            "" => (families, only) = (Vec::new(), None),
            "none" => (families, only) = (Vec::new(), Some(true)),
            _ => {
                let names = value.strip_prefix('~').unwrap_or(&value);
                only.get_or_insert(names == value);
                families.extend(names.split_whitespace().map(str::to_owned));
            }
        }
    }
    let wants = |family: &String| family != "AF_UNIX" && family != "AF_LOCAL";
    if only == Some(true) && !families.iter().any(wants) {
        let text = "RestrictAddressFamilies (without AF_INET and AF_INET6 it uses no network)";
        r.draft.implied.push(text.into());
        return;
    }
    if only.is_some() {
        r.draft.note("RestrictAddressFamilies", "the filter refuses only the unusual families");
    }
    let why =
        "as a unit has it; with publish = [\"HOST:PORT\"] instead it gets a network of its own";
    r.draft.set("network", "host", why);
}

/// CapabilityBoundingSet=, AmbientCapabilities=, NoNewPrivileges=.
pub fn capabilities(r: &mut UnitReader<'_>, owner: &UnitOwner) {
    if r.flag("NoNewPrivileges") == Some(true) {
        r.draft.implied.push("NoNewPrivileges".into());
    } else {
        let text = "no NoNewPrivileges: set-user-ID programs such as sudo and ping have no effect";
        r.draft.stricter.push(text.into());
    }
    let values = r.raw("AmbientCapabilities");
    let (ambient, _) = set(r, "AmbientCapabilities", &values);
    let values = r.raw("CapabilityBoundingSet");
    let (bounding, listed) = set(r, "CapabilityBoundingSet", &values);
    if !owner.is_root {
        if bounding.is_some() {
            r.draft.implied.push("CapabilityBoundingSet".into());
        }
        let ambient = ambient.unwrap_or_default();
        let allowed = bounding.unwrap_or(CapabilitySet::ALL);
        let added = ambient.without(CapabilitySet::ALL.without(allowed));
        push(r, "cap-add", added, "AmbientCapabilities=");
        return;
    }
    let usual = CapabilitySet::ROOT_DEFAULT;
    match bounding {
        None => r.draft.stricter.push(format!(
            "no CapabilityBoundingSet: root has only {}; cap-add gives more",
            usual.names().replace(',', ", ")
        )),
        Some(set) if set == CapabilitySet::default() => {
            r.draft.push("cap-drop", "all", "CapabilityBoundingSet=");
        }
        Some(set) => {
            if listed {
                push(r, "cap-add", set.without(usual), "CapabilityBoundingSet=");
            }
            push(r, "cap-drop", usual.without(set), "not in CapabilityBoundingSet=");
        }
    }
}

fn push(r: &mut UnitReader<'_>, key: &'static str, set: CapabilitySet, why: &str) {
    if set != CapabilitySet::default() {
        let names: Vec<String> = set.names().split(',').map(str::to_owned).collect();
        r.draft.set_list(key, &names, why);
    }
}

/// The set that the assignments make, and whether it is a list of what is allowed; `None` if there
/// are none.
fn set(r: &mut UnitReader<'_>, key: &str, values: &[String]) -> (Option<CapabilitySet>, bool) {
    let mut set: Option<CapabilitySet> = None;
    let mut listed = true;
    for value in values {
        let (without, names) = match value.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, value.as_str()),
        };
        let mut these = CapabilitySet::default();
        for name in names.split_whitespace() {
            match CapabilitySet::parse(name) {
                Ok(one) => these = these.union(one),
                Err(error) => r.draft.note(key, error.to_string()),
            }
        }
        set = Some(match (set, without) {
            _ if names.is_empty() && without => CapabilitySet::ALL,
            _ if names.is_empty() => CapabilitySet::default(),
            (None, true) => {
                listed = false;
                CapabilitySet::ALL.without(these)
            }
            (Some(old), true) => old.without(these),
            (old, false) => old.unwrap_or_default().union(these),
        });
    }
    (set, listed)
}
