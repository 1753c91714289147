//! The id maps of a user namespace (user_namespaces(7)).

use crate::config::oci::IdMapping;

/// The id maps of a user namespace (user_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// Of users.
    pub uids: Vec<IdMapping>,
    /// Of groups.
    pub gids: Vec<IdMapping>,
}

impl IdMaps {
    /// One user and one group, each as (inside, outside).
    pub fn one(uid: (u32, u32), gid: (u32, u32)) -> IdMaps {
        let map =
            |(inside, outside)| vec![IdMapping { container_id: inside, host_id: outside, size: 1 }];
        IdMaps { uids: map(uid), gids: map(gid) }
    }
}

/// Is this id mapped inside a namespace with such a map?
pub fn has(maps: &[IdMapping], id: u32) -> bool {
    let within = |map: &IdMapping| id.checked_sub(map.container_id).is_some_and(|n| n < map.size);
    maps.iter().any(within)
}
