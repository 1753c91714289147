//! Looking at the links of a network namespace (rtnetlink(7), RTM_GETLINK).

use libc::{
    IFF_UP, IFLA_EXT_MASK, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINK_NETNSID,
    IFLA_LINKINFO, IFLA_MTU, NLM_F_DUMP, RTEXT_FILTER_SKIP_STATS, RTM_GETADDR, RTM_GETLINK,
};

use super::names::HostEnd;
use crate::sys::netlink::{Batch, Refusal, Socket, attribute};

/// A link of the socket's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its interface index.
    pub index: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is loopback.
    pub loopback: bool,
    /// `veth`, `bridge`, ...; empty for hardware.
    pub kind: String,
    /// The index of the link behind it: of a veth, its other end.
    pub peer: Option<u32>,
    /// The id by which this namespace knows that of the peer; `None`: it is the same one.
    pub peer_namespace: Option<u32>,
}

impl Link {
    /// Reads struct ifinfomsg and the attributes.
    fn read(body: &[u8]) -> Option<Link> {
        let attributes = body.get(16..)?;
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
        };
        let number = |kind| attribute(attributes, kind).and_then(u32_of);
        let info = attribute(attributes, IFLA_LINKINFO);
        Some(Link {
            name: attribute(attributes, IFLA_IFNAME).map(text)?,
            index: body.get(4..8).and_then(u32_of)?,
            mtu: number(IFLA_MTU).unwrap_or(1500),
            loopback: body.get(2..4)? == libc::ARPHRD_LOOPBACK.to_ne_bytes(),
            kind: info
                .and_then(|info| attribute(info, IFLA_INFO_KIND))
                .map(text)
                .unwrap_or_default(),
            peer: number(IFLA_LINK),
            peer_namespace: number(IFLA_LINK_NETNSID),
        })
    }

    /// The same, as it is recorded.
    pub fn end(&self) -> HostEnd {
        HostEnd { name: self.name.clone(), index: self.index, mtu: self.mtu }
    }
}

/// All links.
pub fn all(socket: &mut Socket) -> Result<Vec<Link>, Refusal> {
    let mut batch = Batch::new();
    request(&mut batch, "list the links", NLM_F_DUMP, 0);
    ask(socket, batch)
}

/// The links with these indexes; those that are gone are left out.
pub fn of(socket: &mut Socket, indexes: &[u32]) -> Result<Vec<Link>, Refusal> {
    let mut batch = Batch::new();
    for index in indexes {
        request(&mut batch, "look at a link", 0, *index);
    }
    ask(socket, batch)
}

/// The link of this name, if there is one.
pub fn named(socket: &mut Socket, name: &str) -> Result<Option<Link>, Refusal> {
    let mut batch = Batch::new();
    request(&mut batch, "look at the link", 0, 0);
    batch.text(IFLA_IFNAME, name);
    Ok(ask(socket, batch)?.pop())
}

fn request(batch: &mut Batch, doing: &'static str, flags: i32, index: u32) {
    batch.message(doing, RTM_GETLINK, flags, &ifinfomsg(index, false));
    batch.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS as u32);
}

fn ask(socket: &mut Socket, batch: Batch) -> Result<Vec<Link>, Refusal> {
    let mut found = Vec::new();
    socket.ask(batch, &[libc::ENODEV], |body| found.extend(Link::read(body)))?;
    Ok(found)
}

/// All addresses: of each, struct ifaddrmsg (family, length of the prefix, flags, scope, index) and the attributes.
pub fn addresses(
    socket: &mut Socket,
    doing: &'static str,
    mut each: impl FnMut(&[u8; 8], &[u8]),
) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    batch.message(doing, RTM_GETADDR, NLM_F_DUMP, &[0; 8]);
    socket.ask(batch, &[], |body| {
        if let Some((head, attributes)) = body.split_first_chunk() {
            each(head, attributes);
        }
    })
}

/// struct ifinfomsg: family, padding, type (2), index (4), flags (4), change (4).
pub(crate) fn ifinfomsg(index: u32, up: bool) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        fixed[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        fixed[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    fixed
}

/// The value of an attribute that is a number in host order.
pub(super) fn u32_of(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netlink::Family;

    #[test]
    fn a_link_that_is_gone_is_none_and_a_refusal_is_not() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let lo = named(&mut socket, "lo").unwrap().unwrap();
        assert!(lo.loopback && lo.kind.is_empty() && lo.peer.is_none());
        assert_eq!(
            of(&mut socket, &[lo.index, i32::MAX as u32]).unwrap(),
            std::slice::from_ref(&lo)
        );
        assert!(all(&mut socket).unwrap().contains(&lo));
        assert_eq!(named(&mut socket, "garth-nothing").unwrap(), None);
        // Neither an index nor a name.
        assert_eq!(of(&mut socket, &[lo.index, 0]).unwrap_err().errno.0, libc::EINVAL);
    }
}
