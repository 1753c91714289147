//! The vocabulary of nftables (nft(8), linux/netfilter/nf_tables.h): chains, maps, rules and
//! elements as netlink messages. What `nft` would compile, written down directly.
//!
//! A rule is a list of [`Expr`], a small program for the virtual machine in the kernel: it loads
//! parts of a packet into registers, compares, looks up, and ends in a verdict. An expression that
//! does not match ends the rule.

use crate::sys::netlink::{Batch, Refusal, Socket, attribute, attributes};

/// The table's name, of family `inet`: one ruleset for IPv4 and IPv6.
pub const TABLE: &str = "garth";

// linux/netfilter/nf_tables.h; what libc lacks.
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_OWNER: u16 = 7;
const NFT_TABLE_F_OWNER: u32 = 2;
const NFT_TABLE_F_PERSIST: u32 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_ELEMENTS_TABLE: u16 = 1;
const NFTA_ELEMENTS_SET: u16 = 2;
const NFTA_ELEMENTS: u16 = 3;
const NFTA_ELEM_KEY: u16 = 1;
const NFTA_ELEM_DATA: u16 = 2;
const NFTA_ELEM_USERDATA: u16 = 6;
const NFTA_ELEM_KEY_END: u16 = 10;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_FIELD_LEN: u16 = 1;
const NFT_SET_CONCAT: u32 = 0x80;
// libnftnl/udata.h: what nft(8) shows as the element's comment.
const UDATA_COMMENT: u8 = 0;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// Register 1, 16 bytes; expressions leave their result here unless they say otherwise.
pub const R1: u32 = 1;
/// The second, third and sixth 4 bytes of the register file: where the fields of a concatenated key
/// go that follow a field of 4, 8 and 20 bytes.
pub const AT4: u32 = 9;
/// See [`AT4`].
pub const AT8: u32 = 10;
/// See [`AT4`].
pub const AT20: u32 = 13;
/// Register 2: 16 bytes after register 1.
pub const R2: u32 = 2;

/// One instruction of a rule.
#[derive(Clone, Copy)]
pub enum Expr {
    /// Loads packet metadata (NFT_META_*) into a register.
    Meta(i32, u32),
    /// Loads header bytes: base (network or transport), offset, length, register.
    Payload(i32, u32, u32, u32),
    /// Loads connection tracking data (NFT_CT_*).
    Ct(i32),
    /// Loads the type of the destination address: local, unicast, ...
    FibDestinationType,
    /// Loads whether the source address is routed through the interface the packet came in on.
    FibSourceIsHere,
    /// Keeps the bits of this mask (host order).
    And(u32),
    /// Continues if register 1 begins with these bytes.
    Equal(&'static [u8]),
    /// Continues if register 1 does not begin with these bytes.
    Differs(&'static [u8]),
    /// Continues if the key is in this set.
    In(&'static str),
    /// Continues if the key is in this map, and loads its value.
    Map(&'static str),
    /// Redirects to the address in register 1 and the port in the register given; family.
    Dnat(i32, u32),
    /// Gives the packet the address of the interface it leaves by.
    Masquerade,
    /// Ends: NF_ACCEPT, NF_DROP, NFT_RETURN.
    Verdict(i32),
    /// Ends: drops the packet and says so to its sender (ICMP, "administratively prohibited").
    Reject,
    /// Continues in another chain and does not come back.
    Goto(&'static str),
}

/// The fields of a set's key or a map's value, in nft's numbering of types, so that
/// `nft list table inet garth` prints addresses and not bytes.
#[derive(Clone, Copy)]
pub enum Field {
    /// Network family.
    Family = 2,
    /// IPv4 address.
    Ipv4 = 7,
    /// IPv6 address.
    Ipv6 = 8,
    /// Transport protocol.
    Protocol = 12,
    /// Port.
    Port = 13,
    /// Interface name.
    Interface = 41,
}

impl Field {
    /// Bytes in a register, where every field is padded to 4.
    fn length(self) -> u32 {
        match self {
            Field::Ipv6 | Field::Interface => 16,
            _ => 4,
        }
    }
}

/// Where a chain is called from: type, hook and priority.
#[derive(Clone, Copy)]
pub struct ChainHook(pub &'static str, pub i32, pub i32);

/// The header of an nfnetlink message: nfgenmsg.
pub fn header(family: i32) -> [u8; 4] {
    [family as u8, libc::NFNETLINK_V0 as u8, 0, 0]
}

/// The message type of an nftables verb.
pub fn kind(verb: i32) -> u16 {
    (libc::NFNL_SUBSYS_NFTABLES << 8 | verb) as u16
}

fn begin(batch: &mut Batch, doing: &'static str, verb: i32, flags: i32) {
    batch.message(doing, kind(verb), flags, &header(libc::NFPROTO_INET));
}

/// What the kernel reports about the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NftTable {
    /// The number of the netlink socket that alone may change it.
    pub owner: Option<u32>,
    /// Does it stay when that socket is closed?
    pub persists: bool,
}

/// Adds the table, owned by the socket over which this is sent; EEXIST if it exists. `persist`: it
/// stays when the socket is closed, which kernels before 6.9 refuse.
pub fn table(batch: &mut Batch, persist: bool) {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    begin(batch, "create the table", libc::NFT_MSG_NEWTABLE, flags);
    batch.text(NFTA_TABLE_NAME, TABLE);
    let persist = if persist { NFT_TABLE_F_PERSIST } else { 0 };
    batch.be32(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER | persist);
}

/// Makes the socket the owner of a persistent table that has none.
pub fn own_table(socket: &mut Socket) -> Result<(), Refusal> {
    let mut batch = Batch::transaction();
    begin(&mut batch, "adopt the table", libc::NFT_MSG_NEWTABLE, 0);
    batch.text(NFTA_TABLE_NAME, TABLE);
    batch.be32(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST);
    socket.execute(batch)
}

/// Deletes the table with everything in it, if it exists.
pub fn delete_table(socket: &mut Socket) -> Result<(), Refusal> {
    let mut batch = Batch::transaction();
    begin(&mut batch, "remove the table", libc::NFT_MSG_DELTABLE, 0);
    batch.text(NFTA_TABLE_NAME, TABLE);
    match socket.execute(batch) {
        Err(refusal) if refusal.errno.0 == libc::ENOENT => Ok(()),
        result => result,
    }
}

/// The table, if it exists.
pub fn find_table(socket: &mut Socket) -> Result<Option<NftTable>, Refusal> {
    let mut batch = Batch::new();
    begin(&mut batch, "look for the table", libc::NFT_MSG_GETTABLE, 0);
    batch.text(NFTA_TABLE_NAME, TABLE);
    let mut found = None;
    socket.ask(batch, &[libc::ENOENT], |body| {
        let number = |kind| be32_of(attribute(body.get(4..)?, kind)?);
        let flags = number(NFTA_TABLE_FLAGS).unwrap_or(0);
        let owner = number(NFTA_TABLE_OWNER).filter(|_| flags & NFT_TABLE_F_OWNER != 0);
        found = Some(NftTable { owner, persists: flags & NFT_TABLE_F_PERSIST != 0 });
    })?;
    Ok(found)
}

/// Adds a chain; one without a hook is only reached from other chains.
pub fn chain(batch: &mut Batch, name: &str, hook: Option<ChainHook>) {
    begin(batch, "create a chain", libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE);
    batch.text(NFTA_CHAIN_TABLE, TABLE);
    batch.text(NFTA_CHAIN_NAME, name);
    if let Some(ChainHook(kind, hook, priority)) = hook {
        batch.text(NFTA_CHAIN_TYPE, kind);
        batch.nest(NFTA_CHAIN_HOOK, |batch| {
            batch.be32(NFTA_HOOK_HOOKNUM, hook as u32);
            batch.be32(NFTA_HOOK_PRIORITY, priority as u32);
        });
    }
}

/// Adds a set, or a map if there is a `value`. `id` is any number unique in the transaction.
pub fn set(batch: &mut Batch, name: &str, id: u32, key: &[Field], value: &[Field]) {
    let flags = if value.is_empty() { 0 } else { libc::NFT_SET_MAP as u32 };
    new_set(batch, name, id, key, flags);
    if !value.is_empty() {
        batch.be32(NFTA_SET_DATA_TYPE, kind_of(value));
        batch.be32(NFTA_SET_DATA_LEN, length_of(value));
    }
}

/// Adds a set whose elements are ranges in each field of the key, of at least two (Linux 5.6).
pub fn set_of_ranges(batch: &mut Batch, name: &str, id: u32, key: &[Field]) {
    new_set(batch, name, id, key, libc::NFT_SET_INTERVAL as u32 | NFT_SET_CONCAT);
    batch.nest(NFTA_SET_DESC, |batch| {
        batch.nest(NFTA_SET_DESC_CONCAT, |batch| {
            for field in key {
                batch.nest(NFTA_LIST_ELEM, |batch| batch.be32(NFTA_SET_FIELD_LEN, field.length()));
            }
        });
    });
}

fn new_set(batch: &mut Batch, name: &str, id: u32, key: &[Field], flags: u32) {
    begin(batch, "create a set", libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE);
    batch.text(NFTA_SET_TABLE, TABLE);
    batch.text(NFTA_SET_NAME, name);
    batch.be32(NFTA_SET_FLAGS, flags);
    batch.be32(NFTA_SET_KEY_TYPE, kind_of(key));
    batch.be32(NFTA_SET_KEY_LEN, length_of(key));
    batch.be32(NFTA_SET_ID, id);
}

fn kind_of(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |kind, field| kind << 6 | *field as u32)
}

fn length_of(fields: &[Field]) -> u32 {
    fields.iter().map(|field| field.length()).sum()
}

/// Appends a rule to a chain.
pub fn rule(batch: &mut Batch, chain: &str, exprs: &[Expr]) {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
    begin(batch, "add a rule", libc::NFT_MSG_NEWRULE, flags);
    batch.text(NFTA_RULE_TABLE, TABLE);
    batch.text(NFTA_RULE_CHAIN, chain);
    batch.nest(NFTA_RULE_EXPRESSIONS, |batch| {
        for expr in exprs {
            batch.nest(NFTA_LIST_ELEM, |batch| encode(batch, *expr));
        }
    });
}

/// An element of a set.
#[derive(Clone, Copy, Default)]
pub struct Element<'a> {
    /// Its key, or the first of a range.
    pub key: &'a [u8],
    /// The last key of a range.
    pub last: Option<&'a [u8]>,
    /// Its value, if the set is a map.
    pub value: Option<&'a [u8]>,
    /// What nft(8) shows beside it, of at most 250 bytes.
    pub comment: Option<&'a str>,
}

/// Adds an element. EEXIST if the key exists and `exclusive`.
pub fn add_element(
    batch: &mut Batch,
    doing: &'static str,
    set: &str,
    element: Element,
    exclusive: bool,
) {
    let flags = libc::NLM_F_CREATE | if exclusive { libc::NLM_F_EXCL } else { 0 };
    begin(batch, doing, libc::NFT_MSG_NEWSETELEM, flags);
    write_element(batch, set, element);
}

/// Asks for one element; read the answer with [`comment`]. ENOENT if there is none.
pub fn get_element(batch: &mut Batch, set: &str, key: &[u8]) {
    begin(batch, "look for an element", libc::NFT_MSG_GETSETELEM, 0);
    write_element(batch, set, Element { key, ..Element::default() });
}

/// The comment of the first element in an answer.
pub fn comment(body: &[u8]) -> Option<&[u8]> {
    let list = attribute(body.get(4..)?, NFTA_ELEMENTS)?;
    let (_, element) = attributes(list).next()?;
    match attribute(element, NFTA_ELEM_USERDATA)? {
        [UDATA_COMMENT, length, text @ ..] => text.get(..usize::from(*length).checked_sub(1)?),
        _ => None,
    }
}

/// Removes an element; ENOENT if there is none.
pub fn delete_element(batch: &mut Batch, doing: &'static str, set: &str, element: Element) {
    begin(batch, doing, libc::NFT_MSG_DELSETELEM, 0);
    write_element(batch, set, element);
}

/// Asks for all elements of a set; read the answers with [`elements`].
pub fn list_elements(batch: &mut Batch, set: &str) {
    begin(batch, "list elements", libc::NFT_MSG_GETSETELEM, libc::NLM_F_DUMP);
    batch.text(NFTA_ELEMENTS_TABLE, TABLE);
    batch.text(NFTA_ELEMENTS_SET, set);
}

/// The elements in an answer to [`list_elements`], without their comments.
pub fn elements(body: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let list = attribute(body.get(4..).unwrap_or_default(), NFTA_ELEMENTS).unwrap_or_default();
    attributes(list).filter_map(|(_, element)| {
        let data = |kind| attribute(attribute(element, kind)?, NFTA_DATA_VALUE);
        Some(Element {
            key: data(NFTA_ELEM_KEY)?,
            last: data(NFTA_ELEM_KEY_END),
            value: data(NFTA_ELEM_DATA),
            comment: None,
        })
    })
}

/// A chain of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// NFPROTO_INET, NFPROTO_IPV4, ...
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The hook that calls it, if it is a base chain.
    pub hook: Option<u32>,
    /// Is a packet that reaches its end dropped?
    pub drops: bool,
}

/// A rule of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NftRule {
    /// The chain's name.
    pub chain: String,
    /// What it does, as the kernel reports it.
    pub expressions: Vec<u8>,
}

/// All chains of all tables.
pub fn chains(socket: &mut Socket) -> Result<Vec<Chain>, Refusal> {
    let mut batch = Batch::new();
    let verb = kind(libc::NFT_MSG_GETCHAIN);
    batch.message("list the chains", verb, libc::NLM_F_DUMP, &header(libc::NFPROTO_UNSPEC));
    let mut found = Vec::new();
    socket.ask(batch, &[libc::ENOENT], |body| {
        let (Some(&family), Some(rest)) = (body.first(), body.get(4..)) else { return };
        let hook = attribute(rest, NFTA_CHAIN_HOOK)
            .and_then(|nest| be32_of(attribute(nest, NFTA_HOOK_HOOKNUM)?));
        let policy = attribute(rest, NFTA_CHAIN_POLICY).and_then(be32_of);
        found.push(Chain {
            family,
            table: text_of(rest, NFTA_CHAIN_TABLE),
            name: text_of(rest, NFTA_CHAIN_NAME),
            hook,
            drops: policy == Some(libc::NF_DROP as u32),
        });
    })?;
    Ok(found)
}

/// All rules of a table, ordered within each chain.
pub fn rules(socket: &mut Socket, family: u8, table: &str) -> Result<Vec<NftRule>, Refusal> {
    let mut batch = Batch::new();
    let verb = kind(libc::NFT_MSG_GETRULE);
    batch.message("list the rules", verb, libc::NLM_F_DUMP, &header(i32::from(family)));
    batch.text(NFTA_RULE_TABLE, table);
    let mut found = Vec::new();
    socket.ask(batch, &[libc::ENOENT], |body| {
        let rest = body.get(4..).unwrap_or_default();
        let expressions = attribute(rest, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
        // Kernels that do not know the filter list the rules of all tables.
        if text_of(rest, NFTA_RULE_TABLE) == table {
            let chain = text_of(rest, NFTA_RULE_CHAIN);
            found.push(NftRule { chain, expressions: expressions.to_vec() });
        }
    })?;
    Ok(found)
}

/// Does a rule with these expressions drop or reject every packet that reaches it?
pub fn drops_all(expressions: &[u8]) -> bool {
    let mut drops = false;
    for (_, expression) in attributes(expressions) {
        let data = attribute(expression, NFTA_EXPR_DATA).unwrap_or_default();
        match &*text_of(expression, NFTA_EXPR_NAME) {
            "counter" | "log" => {}
            "reject" => drops = true,
            "target" => drops = ["REJECT", "DROP"].contains(&&*text_of(data, 1)),
            "immediate" => {
                let verdict = attribute(data, 2).and_then(|d| attribute(d, NFTA_DATA_VERDICT));
                let code = verdict.and_then(|v| be32_of(attribute(v, NFTA_VERDICT_CODE)?));
                drops = code == Some(libc::NF_DROP as u32);
            }
            _ => return false,
        }
    }
    drops
}

fn be32_of(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

fn text_of(bytes: &[u8], kind: u16) -> String {
    let text = attribute(bytes, kind).unwrap_or_default();
    String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()
}

fn write_element(batch: &mut Batch, set: &str, element: Element) {
    batch.text(NFTA_ELEMENTS_TABLE, TABLE);
    batch.text(NFTA_ELEMENTS_SET, set);
    batch.nest(NFTA_ELEMENTS, |batch| {
        batch.nest(NFTA_LIST_ELEM, |batch| {
            batch.nest(NFTA_ELEM_KEY, |batch| batch.attr(NFTA_DATA_VALUE, element.key));
            if let Some(last) = element.last {
                batch.nest(NFTA_ELEM_KEY_END, |batch| batch.attr(NFTA_DATA_VALUE, last));
            }
            if let Some(value) = element.value {
                batch.nest(NFTA_ELEM_DATA, |batch| batch.attr(NFTA_DATA_VALUE, value));
            }
            if let Some(comment) = element.comment {
                let head = [UDATA_COMMENT, comment.len() as u8 + 1];
                let data = [&head[..], comment.as_bytes(), &[0]].concat();
                batch.attr(NFTA_ELEM_USERDATA, &data);
            }
        });
    });
}

fn encode(batch: &mut Batch, expr: Expr) {
    let mut write = |name: &str, attributes: &dyn Fn(&mut Batch)| {
        batch.text(NFTA_EXPR_NAME, name);
        batch.nest(NFTA_EXPR_DATA, attributes);
    };
    // The attribute numbers are those of NFTA_META_*, NFTA_PAYLOAD_*, ... in that order.
    match expr {
        Expr::Meta(key, register) => write("meta", &|batch| {
            batch.be32(1, register);
            batch.be32(2, key as u32);
        }),
        Expr::Payload(base, offset, length, register) => write("payload", &|batch| {
            batch.be32(1, register);
            batch.be32(2, base as u32);
            batch.be32(3, offset);
            batch.be32(4, length);
        }),
        Expr::Ct(key) => write("ct", &|batch| {
            batch.be32(1, R1);
            batch.be32(2, key as u32);
        }),
        Expr::FibDestinationType => write("fib", &|batch| {
            batch.be32(1, R1);
            batch.be32(2, 3); // NFT_FIB_RESULT_ADDRTYPE
            batch.be32(3, 1 << 1); // NFTA_FIB_F_DADDR
        }),
        Expr::FibSourceIsHere => write("fib", &|batch| {
            batch.be32(1, R1);
            batch.be32(2, 1); // NFT_FIB_RESULT_OIF
            batch.be32(3, 1 | 1 << 3 | 1 << 5); // NFTA_FIB_F_SADDR, _IIF, _PRESENT
        }),
        Expr::And(mask) => write("bitwise", &|batch| {
            batch.be32(1, R1);
            batch.be32(2, R1);
            batch.be32(3, 4);
            batch.nest(4, |batch| batch.attr(NFTA_DATA_VALUE, &mask.to_ne_bytes()));
            batch.nest(5, |batch| batch.attr(NFTA_DATA_VALUE, &[0; 4]));
        }),
        Expr::Equal(bytes) => write("cmp", &|batch| compare(batch, libc::NFT_CMP_EQ, bytes)),
        Expr::Differs(bytes) => write("cmp", &|batch| compare(batch, libc::NFT_CMP_NEQ, bytes)),
        Expr::In(set) => write("lookup", &|batch| {
            batch.text(1, set);
            batch.be32(2, R1);
        }),
        Expr::Map(map) => write("lookup", &|batch| {
            batch.text(1, map);
            batch.be32(2, R1);
            batch.be32(3, R1);
        }),
        Expr::Dnat(family, port) => write("nat", &|batch| {
            batch.be32(1, libc::NFT_NAT_DNAT as u32);
            batch.be32(2, family as u32);
            batch.be32(3, R1);
            batch.be32(5, port);
        }),
        Expr::Masquerade => write("masq", &|_| {}),
        Expr::Reject => write("reject", &|batch| {
            batch.be32(1, 2); // NFT_REJECT_ICMPX_UNREACH
            batch.attr(2, &[3]); // NFT_REJECT_ICMPX_ADMIN_PROHIBITED
        }),
        Expr::Verdict(code) => write("immediate", &|batch| verdict(batch, code, None)),
        Expr::Goto(chain) => {
            write("immediate", &|batch| verdict(batch, libc::NFT_GOTO, Some(chain)));
        }
    }
}

fn compare(batch: &mut Batch, operator: i32, bytes: &[u8]) {
    batch.be32(1, R1);
    batch.be32(2, operator as u32);
    batch.nest(3, |batch| batch.attr(NFTA_DATA_VALUE, bytes));
}

fn verdict(batch: &mut Batch, code: i32, chain: Option<&str>) {
    batch.be32(1, libc::NFT_REG_VERDICT as u32);
    batch.nest(2, |batch| {
        batch.nest(NFTA_DATA_VERDICT, |batch| {
            batch.be32(NFTA_VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                batch.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    });
}
