//! The ids of a sandbox's user namespace, and whether what is asked for is among them.

use super::step::IdMaps;
use crate::config::oci::IdMapping;
use crate::error::{Error, Result};
use crate::plan::facts::Facts;

/// Root gives ids of its own; anyone else can map only the own id, and it becomes the wanted one.
///
/// # Errors
/// The user, or a group, that is not among them.
pub fn of(given: &Facts) -> Result<IdMaps> {
    let (user, (uid, gid)) = (&given.user, given.caller);
    if !given.privileged {
        return Ok(IdMaps::one((user.uid, uid), (user.gid, gid)));
    }
    let Some(maps) = &given.user_ids else {
        return Err(Error::new("--userns: no ids for it are known"));
    };
    let uid = [user.uid].into_iter().find(|id| !has(&maps.uids, *id));
    let mut gids = user.groups.iter().copied().chain([user.gid]);
    match uid.or_else(|| gids.find(|id| !has(&maps.gids, *id))) {
        None => Ok(maps.clone()),
        Some(id) => Err(Error::new(format!("--userns: it has no id {id}"))
            .hint("give it a longer range, or another user: --userns=FIRST:COUNT, -u")),
    }
}

/// Is this id in a namespace with such a map?
pub fn has(maps: &[IdMapping], id: u32) -> bool {
    let within = |map: &IdMapping| id.checked_sub(map.container_id).is_some_and(|n| n < map.size);
    maps.iter().any(within)
}
