//! Chains of other tables that drop what sandboxes send and receive.
//!
//! A packet that one base chain of a hook drops is dropped, whatever ours accepts. Docker and ufw
//! set the policy of FORWARD to drop; firewalld ends its chain with a reject. Container engines put
//! rules of their own into those chains; they are not ours, so we report what would help and leave
//! them alone.

use super::firewall;
use super::refusal::refused;
use crate::error::Result;
use crate::sys::netlink::Socket;
use crate::wire::nft::{self, Chain};

/// The chains that drop forwarded packets and do not know about sandboxes, each described, with the
/// command that lets the packets through.
///
/// # Errors
/// The kernel does not list them.
pub fn obstacles() -> Result<Vec<String>> {
    let mut socket = firewall::socket()?;
    let mut found = Vec::new();
    for chain in nft::chains(&mut socket).map_err(refused)? {
        let ours = chain.table == nft::TABLE && chain.family == libc::NFPROTO_INET as u8;
        if ours || chain.hook != Some(libc::NF_INET_FORWARD as u32) {
            continue;
        }
        let Some(word) = family(&chain) else { continue };
        if let Some(why) = refuses(&mut socket, &chain)? {
            found.push(words(&chain, word, why));
        }
    }
    socket.abandon();
    Ok(found)
}

fn family(chain: &Chain) -> Option<&'static str> {
    match i32::from(chain.family) {
        libc::NFPROTO_INET => Some("inet"),
        libc::NFPROTO_IPV4 => Some("ip"),
        libc::NFPROTO_IPV6 => Some("ip6"),
        _ => None,
    }
}

/// Why the chain drops what none of its rules accepts, if it does; `None` also if the table has a
/// rule that names our links.
fn refuses(socket: &mut Socket, chain: &Chain) -> Result<Option<&'static str>> {
    let rules = nft::rules(socket, chain.family, &chain.table).map_err(refused)?;
    let why = match chain.drops {
        true => "policy drop",
        false => match rules.iter().rfind(|rule| rule.chain == chain.name) {
            Some(last) if nft::drops_all(&last.expressions) => "last rule",
            _ => return Ok(None),
        },
    };
    let prefix = super::LINK_PREFIX.as_bytes();
    let names_us = |expressions: &[u8]| expressions.windows(prefix.len()).any(|w| w == prefix);
    Ok((!rules.iter().any(|rule| names_us(&rule.expressions))).then_some(why))
}

fn words(chain: &Chain, family: &str, why: &str) -> String {
    let Chain { table, name, .. } = chain;
    // Only iptables should write its own tables.
    let tool = match (family, &**table, &**name) {
        ("ip", "filter", "FORWARD") => Some("iptables"),
        ("ip6", "filter", "FORWARD") => Some("ip6tables"),
        _ => None,
    };
    let line = match tool {
        Some(tool) => {
            format!(
                "{tool} -I FORWARD -i garth+ -j ACCEPT && {tool} -I FORWARD -o garth+ -j ACCEPT"
            )
        }
        None => format!(
            "nft 'insert rule {family} {table} {name} iifname \"garth*\" accept; \
             insert rule {family} {table} {name} oifname \"garth*\" accept'"
        ),
    };
    format!(
        "chain {name} of table {family} {table} drops the traffic of sandboxes ({why}): to allow it, \
         run {line}; unpublished ports stay closed"
    )
}
