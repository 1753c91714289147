//! What tgtd(8) is told, in the words of its control socket, which are those of tgtadm(8): that
//! program takes passwords as arguments, which every process of the host can read.
//!
//! The layout is that of `struct tgtadm_req` (usr/tgtadm.h), as tgtadm 1.0.85 writes it.

use std::fmt;

use crate::volume::chap::ChapAccount;

/// The logical unit of a disk. Unit 0 of a target of tgtd is its controller.
pub const LUN: u32 = 1;

const DRIVER: &[u8] = b"iscsi";
const DRIVER_AT: usize = 8;
const LENGTH_AT: usize = 72;
const TARGET_AT: usize = 76;
const UNIT_AT: usize = 88;
const HEADER: usize = 120;
/// An answer: an error and a length, of four bytes each.
pub const ANSWER: usize = 8;

const NEW: u32 = 0;
const DELETE: u32 = 1;
const BIND: u32 = 3;
const UPDATE: u32 = 5;
const TARGET: u32 = 1;
const DEVICE: u32 = 2;
const PORTAL: u32 = 3;
const ACCOUNT: u32 = 7;

/// One request.
#[derive(Clone, PartialEq, Eq)]
pub struct TgtRequest {
    mode: u32,
    op: u32,
    target: Option<u32>,
    unit: Option<u32>,
    text: String,
    /// What it is for, in errors.
    pub doing: String,
}

impl TgtRequest {
    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &self.mode.to_ne_bytes());
        put(4, &self.op.to_ne_bytes());
        put(DRIVER_AT, DRIVER);
        put(LENGTH_AT, &((HEADER + self.text.len() + 1) as u32).to_ne_bytes());
        put(TARGET_AT, &self.target.map_or(-1, |target| target as i32).to_ne_bytes());
        put(UNIT_AT, &self.unit.map_or(u64::MAX, u64::from).to_ne_bytes());
        bytes.extend(self.text.bytes());
        bytes.push(0);
        bytes
    }
}

// Without the text, which may be a password.
impl fmt::Debug for TgtRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TgtRequest").field("doing", &self.doing).finish_non_exhaustive()
    }
}

/// What an answer says; `None`: it was done.
pub fn refusal(answer: [u8; ANSWER]) -> Option<String> {
    let number = u32::from_ne_bytes([answer[0], answer[1], answer[2], answer[3]]);
    // enum tgtadm_errno.
    let words = match number {
        0 => return None,
        2 => "out of memory",
        4 | 5 => "it is not there",
        8 | 9 => "it exists already",
        17 => "invalid request",
        _ => return Some(format!("tgtd's error {number}")),
    };
    Some(words.to_owned())
}

/// A disk, as tgtd sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TgtDisk {
    /// The target's name.
    pub target: String,
    /// The file or block device.
    pub path: String,
}

/// All that it takes to serve these disks. `first`, which tgtd was started with, is a portal that
/// no client reaches; those of clients come last, so that nobody is served before it is known who may
/// be.
pub fn requests(
    disks: &[TgtDisk],
    initiators: &[String],
    account: Option<&ChapAccount>,
    portals: &[String],
    first: &str,
) -> Vec<TgtRequest> {
    let mut all = Vec::new();
    let mut ask = |mode, op, target, unit, text: String, doing: String| {
        all.push(TgtRequest { mode, op, target, unit, text, doing });
    };
    if let Some(account) = account {
        let text = format!("user={},password={}", account.user, account.password);
        ask(ACCOUNT, NEW, None, None, text, format!("make the account {}", account.user));
    }
    for disk in disks {
        let (target, unit, name) = (Some(identity(&disk.target)), Some(LUN), &disk.target);
        let text = format!("targetname={name}");
        ask(TARGET, NEW, target, None, text, format!("make target {name}"));
        ask(
            DEVICE,
            NEW,
            target,
            unit,
            format!("path={}", disk.path),
            format!("open the disk of {name}"),
        );
        let serial = format!("{:016x}", hash(name));
        let text =
            format!("targetOps vendor_id=garth,product_id=disk,scsi_id={serial},scsi_sn={serial},");
        ask(DEVICE, UPDATE, target, unit, text, format!("number the disk of {name}"));
        if let Some(account) = account {
            let text = format!("user={}", account.user);
            ask(ACCOUNT, BIND, target, None, text, format!("demand the account {}", account.user));
        }
        if initiators.is_empty() {
            let text = "initiator-address=ALL".to_owned();
            ask(TARGET, BIND, target, None, text, format!("admit clients to {name}"));
        }
        for initiator in initiators {
            let text = format!("initiator-name={initiator}");
            ask(TARGET, BIND, target, None, text, format!("admit {initiator} to {name}"));
        }
    }
    for portal in portals {
        let text = format!("portalOps portal={portal},");
        ask(PORTAL, NEW, None, None, text, format!("listen on {portal}"));
    }
    let text = format!("portalOps portal={first},");
    ask(PORTAL, DELETE, None, None, text, format!("leave {first}"));
    all
}

/// The number of a target. tgtd derives the world-wide name of a disk from it: of several servers with
/// targets 1, 2 and 3, a client's multipathd(8) would take the disks for ways to the same one.
pub fn identity(target: &str) -> u32 {
    (hash(target) as u32 & 0x7fff_ffff).max(1)
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> TgtDisk {
        TgtDisk { target: "iqn.2015-06.net.example:s1.vol1".into(), path: "/tmp/v1.img".into() }
    }

    #[test]
    fn a_request_has_the_bytes_of_tgtadm() {
        let account = ChapAccount { user: "joe".into(), password: "secretsecret1".into() };
        let all = requests(&[disk()], &[], Some(&account), &[], "127.0.0.1:1");
        // tgtadm --lld iscsi --op new --mode account --user joe --password secretsecret1
        let mut expected = vec![0; 120];
        expected[0] = 7;
        expected[8..13].copy_from_slice(b"iscsi");
        expected[72] = 0x98;
        expected[76..80].fill(0xff);
        expected[88..96].fill(0xff);
        expected.extend(b"user=joe,password=secretsecret1\0");
        assert_eq!(all[0].bytes(), expected);
        // --op new --mode logicalunit --tid N --lun 1 -b /tmp/v1.img
        let bytes = all[2].bytes();
        assert_eq!((bytes[0], bytes[4], bytes[88]), (2, 0, 1));
        assert_eq!(bytes[76..80], identity(&disk().target).to_ne_bytes());
        assert_eq!(bytes[120..], *b"path=/tmp/v1.img\0");
        assert!(!format!("{all:?}").contains("secretsecret1"));
    }

    #[test]
    fn clients_are_served_last_and_only_those_that_are_named() {
        let named = ["iqn.1993-08.org.debian:01:abc".to_owned()];
        let portals = ["0.0.0.0:3260".to_owned()];
        let all = requests(&[disk()], &named, None, &portals, "127.0.0.1:1");
        let texts: Vec<&str> = all.iter().map(|request| &*request.text).collect();
        assert_eq!(texts[texts.len() - 2], "portalOps portal=0.0.0.0:3260,");
        assert!(texts.contains(&"initiator-name=iqn.1993-08.org.debian:01:abc"));
        assert!(!texts.iter().any(|text| text.contains("ALL")), "{texts:?}");
    }

    #[test]
    fn disks_of_different_servers_have_different_numbers() {
        let names =
            (1..=30).flat_map(|s| (1..=30).map(move |v| format!("iqn.2015-06.x:s{s}.vol{v}")));
        let numbers: std::collections::HashSet<u32> = names.map(|name| identity(&name)).collect();
        assert_eq!(numbers.len(), 900);
        assert!(numbers.iter().all(|number| (1..1 << 31).contains(number)));
    }

    #[test]
    fn an_answer_is_done_or_says_why_not() {
        assert_eq!(refusal([0, 0, 0, 0, 8, 0, 0, 0]), None);
        assert_eq!(refusal([17, 0, 0, 0, 8, 0, 0, 0]).as_deref(), Some("invalid request"));
        assert_eq!(refusal([99, 0, 0, 0, 8, 0, 0, 0]).as_deref(), Some("tgtd's error 99"));
    }
}
