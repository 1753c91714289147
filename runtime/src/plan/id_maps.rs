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

    /// What the host calls a user and a group of the namespace; `None` if one is not mapped.
    pub fn outside(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let of = |maps: &[IdMapping], id: u32| {
            maps.iter().find_map(|map| {
                let offset = id.checked_sub(map.container_id).filter(|n| *n < map.size)?;
                map.host_id.checked_add(offset)
            })
        };
        Some((of(&self.uids, uid)?, of(&self.gids, gid)?))
    }
}

/// Is this id mapped inside a namespace with such a map?
pub fn has(maps: &[IdMapping], id: u32) -> bool {
    let within = |map: &IdMapping| id.checked_sub(map.container_id).is_some_and(|n| n < map.size);
    maps.iter().any(within)
}
